//! A server process with directories of its own, and sites that are a few lines each.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::thread;

use tempfile::TempDir;

/// How a site behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// As a stock server without TLS does.
    Honest,
    /// It accepts connections and says nothing.
    Silent,
    /// It announces one byte more than it sends, and hangs up.
    Short,
    /// It never lets a file be moved.
    Keeping,
    /// Every listing shows one more file.
    Busy,
}

/// A site on a port of loopback, serving a directory; its thread ends with the test process.
pub(crate) struct Site {
    pub(crate) directory: Arc<TempDir>,
    pub(crate) address: SocketAddr,
}

impl Site {
    pub(crate) fn start(manner: Manner) -> Site {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let served = Arc::clone(&directory);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let served = Arc::clone(&served);
                thread::spawn(move || serve(stream.unwrap(), served.path(), manner));
            }
        });
        Site { directory, address }
    }

    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        fs::write(self.directory.path().join(name), bytes).unwrap();
    }

    pub(crate) fn is_empty(&self) -> bool {
        fs::read_dir(self.directory.path()).unwrap().next().is_none()
    }
}

/// One connection; any surprise ends it, as with the real one.
fn serve(mut stream: TcpStream, directory: &Path, manner: Manner) -> Option<()> {
    let mut chunk = [0; 1024];
    loop {
        let read = stream.read(&mut chunk).ok().filter(|read| *read > 0)?;
        if manner == Manner::Silent {
            continue;
        }
        let line = std::str::from_utf8(&chunk[..read]).ok()?.strip_suffix('\n')?.to_owned();
        let (verb, argument) = line.split_once(' ').unwrap_or((&line, ""));
        let path = directory.join(argument.trim_matches(['<', '>']));
        let body = match verb {
            "LS" => {
                if manner == Manner::Busy {
                    let files = fs::read_dir(directory).ok()?.count();
                    let process = std::process::id();
                    fs::write(directory.join(format!("busy.{files}{process}.data")), "more").ok()?;
                }
                let names = fs::read_dir(directory)
                    .ok()?
                    .map(|entry| entry.unwrap().file_name().into_string().unwrap());
                [".".to_owned(), "..".to_owned()]
                    .into_iter()
                    .chain(names)
                    .collect::<Vec<_>>()
                    .join("\n")
                    .into_bytes()
            }
            "MV" if manner == Manner::Keeping => {
                writeln!(stream, "MV ERR").ok()?;
                continue;
            }
            "RECV" | "MV" => fs::read(&path).ok()?,
            _ => return None,
        };
        let surplus = usize::from(manner == Manner::Short && verb != "LS");
        writeln!(stream, "{verb} SIZE {}", body.len() + surplus).ok()?;
        let read = stream.read(&mut chunk).ok()?;
        if chunk[..read] != *format!("{verb} OK\n").as_bytes() {
            return None;
        }
        // The stock server takes an empty body for the end of the session.
        if body.is_empty() {
            return None;
        }
        stream.write_all(&body).ok()?;
        if surplus > 0 {
            return None;
        }
        if verb == "MV" {
            fs::remove_file(path).ok()?;
        }
    }
}

/// A server's configuration and directories.
pub(crate) struct Server {
    root: TempDir,
}

impl Server {
    /// Sites are given as name and address, without TLS. `settings` is TOML at the top of the file.
    pub(crate) fn new(sites: &[(&str, SocketAddr)], settings: &str) -> Server {
        let root = tempfile::tempdir().unwrap();
        let server = Server { root };
        fs::create_dir(server.incoming()).unwrap();
        server.configure(sites, settings);
        server
    }

    /// The same configuration with other sites and settings.
    pub(crate) fn configure(&self, sites: &[(&str, SocketAddr)], settings: &str) {
        let mut text = format!(
            "incomingdir = {:?}\nstate_directory = {:?}\n{settings}\n",
            self.incoming(),
            self.state()
        );
        for (name, address) in sites {
            text += &format!(
                "[[site]]\nname = {name:?}\naddress = \"127.0.0.1\"\nport = {}\ntls = \"off\"\n",
                address.port()
            );
        }
        fs::write(self.config(), text).unwrap();
    }

    pub(crate) fn ledger(&self) -> PathBuf {
        self.state().join("ledger.sqlite")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.root.path().join("server.toml")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.root.path().join("state")
    }

    pub(crate) fn incoming(&self) -> PathBuf {
        self.root.path().join("incoming")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate-server"));
        command.args(arguments).arg("--config").arg(self.config());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The same, to be killed at a step.
    pub(crate) fn crash(&self, arguments: &[&str], step: &str) {
        let output = self.command(arguments).env("TIDEGATE_CRASH_AT", step).output().unwrap();
        assert!(output.status.code().is_none(), "it was to die at {step}: {}", text(&output.stderr));
    }

    /// Starts the daemon.
    pub(crate) fn run(&self) -> Daemon {
        self.start(&["run"])
    }

    /// Starts any command.
    pub(crate) fn start(&self, arguments: &[&str]) -> Daemon {
        Daemon(self.command(arguments).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// The delivered files by name.
    pub(crate) fn delivered(&self) -> Vec<(String, Vec<u8>)> {
        let mut files: Vec<_> = fs::read_dir(self.incoming())
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.file_type().unwrap().is_file())
            .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
            .collect();
        files.sort();
        files
    }
}

/// A running daemon, killed when dropped.
pub(crate) struct Daemon(Child);

impl Daemon {
    /// SIGTERM; returns the exit code and the log.
    pub(crate) fn stop(mut self) -> (Option<i32>, String) {
        let id = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        let mut log = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (self.0.wait().unwrap().code(), log)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It has ended already, or it must.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits for something that must come, for as long as a slow machine may need.
#[expect(clippy::disallowed_methods, reason = "a test thread waits for other processes")]
pub(crate) fn until(what: &str, mut reached: impl FnMut() -> bool) {
    for _ in 0..600 {
        if reached() {
            return;
        }
        thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("{what} did not happen within 30 s");
}

/// Flips one bit where a file first holds `needle`.
pub(crate) fn flip(file: &Path, needle: &[u8]) {
    let mut bytes = fs::read(file).unwrap();
    let at = bytes.windows(needle.len()).position(|window| window == needle).expect("the file holds it");
    bytes[at] ^= 1;
    fs::write(file, bytes).unwrap();
}
