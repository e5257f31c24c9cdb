//! A real node process on a free port of the loopback, and a raw client that reads like a transcript.

#![allow(dead_code, reason = "each test file uses its own part of this")]
#![allow(clippy::allow_attributes, reason = "an expectation would fail where a test file uses everything")]

pub(crate) mod pki;
pub(crate) mod relay;
pub(crate) mod shared;

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Far longer than anything takes; a test that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_tidegate-buffer-node");

pub(crate) fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in entries {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        writer.start_file(*name, options).expect("starts");
        writer.write_all(content).expect("writes");
    }
    writer.finish().expect("finishes").into_inner()
}

/// Waits until something is so.
pub(crate) fn until(mut is_so: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "it never came to be so");
        std::thread::yield_now();
    }
}

/// A running node and its storage. Dropping kills the process.
pub(crate) struct Node {
    pub(crate) root: Root,
    child: Child,
    log: Arc<Log>,
    pub(crate) address: SocketAddr,
}

/// A storage root with a configuration beside it.
pub(crate) struct Root {
    directory: tempfile::TempDir,
    pub(crate) config: PathBuf,
}

#[derive(Default)]
struct Log {
    lines: Mutex<(Vec<String>, bool)>,
    changed: Condvar,
}

impl Root {
    /// `extra` is added to the configuration.
    pub(crate) fn new(extra: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let config = directory.path().join("node.toml");
        let root = Self { directory, config };
        root.configure(extra);
        root
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.directory.path().join("storage").join(below)
    }

    /// The contents of the stored packages, in arrival order.
    pub(crate) fn ready(&self) -> Vec<(String, Vec<u8>)> {
        let mut found: Vec<_> = files(&self.path("spool/ready"));
        found.sort();
        let listed = |name: &str| name.splitn(4, '-').nth(3).expect("a package's name").to_owned();
        found.into_iter().map(|(name, bytes)| (listed(&name), bytes)).collect()
    }

    /// Files that wait to be complete.
    pub(crate) fn unfinished(&self) -> usize {
        files(&self.path("spool/tmp")).len() + files(&self.path("tmp")).len()
    }

    /// Writes another configuration, as [`Root::new`] does.
    pub(crate) fn configure(&self, extra: &str) {
        let storage = self.path("");
        let text = format!("addresses = [\"127.0.0.1\"]\nport = 0\ndirectory = {storage:?}\n{extra}");
        fs::write(&self.config, text).expect("writes the configuration");
    }

    pub(crate) fn start(self) -> Node {
        self.start_by(Command::new(BINARY))
    }

    /// Starts the node with a command that hands its arguments to it.
    pub(crate) fn start_by(self, mut command: Command) -> Node {
        let mut child = command
            .args(["run", "--config"])
            .arg(&self.config)
            .env_remove("JOURNAL_STREAM")
            .env("RUST_LOG", "debug")
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let stderr = child.stderr.take().expect("is piped");
        let log = Arc::new(Log::default());
        let collecting = log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                collecting.lines.lock().expect("no panic").0.push(line);
                collecting.changed.notify_all();
            }
            collecting.lines.lock().expect("no panic").1 = true;
            collecting.changed.notify_all();
        });
        let listening = log.wait_for("listening address=");
        let address = listening.split("address=").nth(1).and_then(|rest| rest.split(' ').next());
        let address = address.expect("an address").parse().expect("an address");
        Node { root: self, child, log, address }
    }
}

impl Log {
    fn wait_for(&self, words: &str) -> String {
        let mut lines = self.lines.lock().expect("no panic");
        loop {
            if let Some(line) = lines.0.iter().find(|line| line.contains(words)) {
                return line.clone();
            }
            assert!(!lines.1, "the node ended without saying {words:?}: {:#?}", lines.0);
            let (next, waited) = self.changed.wait_timeout(lines, PATIENCE).expect("no panic");
            lines = next;
            assert!(!waited.timed_out(), "the node never said {words:?}: {:#?}", lines.0);
        }
    }
}

impl Node {
    pub(crate) fn start(extra: &str) -> Self {
        Root::new(extra).start()
    }

    pub(crate) fn connect(&self) -> Client {
        Client::new(TcpStream::connect(self.address).expect("connects"))
    }

    /// Waits for a log line with these words.
    pub(crate) fn logs(&self, words: &str) -> String {
        self.log.wait_for(words)
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("signals");
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("ends")
    }

    /// Kills the process as a power cut would and starts it again on the same storage.
    pub(crate) fn kill_and_restart(self) -> Self {
        self.kill().start()
    }

    /// Kills the process as a power cut would, and leaves its storage.
    pub(crate) fn kill(mut self) -> Root {
        self.child.kill().expect("kills");
        self.wait();
        let root = Root { directory: tempfile::tempdir().expect("a directory"), config: PathBuf::new() };
        std::mem::replace(&mut self.root, root)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Speaks Tentacle by hand.
pub(crate) struct Client {
    reader: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("sets");
        stream.set_write_timeout(Some(PATIENCE)).expect("sets");
        Self { reader: BufReader::new(stream) }
    }

    pub(crate) fn say(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        match self.reader.get_mut().write_all(bytes.as_ref()) {
            // The node has closed; the next read shows it.
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
            written => written.expect("writes"),
        }
        self
    }

    /// The next line, without its end; empty when the node closed.
    pub(crate) fn line(&mut self) -> String {
        let mut line = Vec::new();
        match self.reader.read_until(b'\n', &mut line) {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => line.clear(),
            read => drop(read.expect("reads")),
        }
        String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned()
    }

    pub(crate) fn ask(&mut self, line: impl AsRef<[u8]>) -> String {
        self.say(line.as_ref()).say("\n").line()
    }

    pub(crate) fn body(&mut self, size: usize) -> Vec<u8> {
        let mut body = vec![0; size];
        self.reader.read_exact(&mut body).expect("a whole body");
        body
    }

    /// Sends a file and returns the last reply.
    pub(crate) fn send(&mut self, name: &str, bytes: &[u8]) -> String {
        self.offer("SEND", name, bytes)
    }

    pub(crate) fn offer(&mut self, verb: &str, name: &str, bytes: &[u8]) -> String {
        match self.ask(format!("{verb} <{name}> SIZE {}", bytes.len())) {
            ok if ok == format!("{verb} OK") => self.say(bytes).line(),
            refused => refused,
        }
    }

    /// `RECV`, `LS` and the like: the body, or the refusal.
    pub(crate) fn get(&mut self, command: &str) -> Result<Vec<u8>, String> {
        let verb = command.split(' ').next().expect("a verb");
        let answer = self.ask(command);
        let Some(size) = answer.strip_prefix(&format!("{verb} SIZE ")) else { return Err(answer) };
        self.say(format!("{verb} OK\n"));
        Ok(self.body(size.parse().expect("a size")))
    }

    /// Whether the node closes without another word.
    pub(crate) fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        // A reset says the same as an end.
        let _ = self.reader.read_to_end(&mut rest);
        rest.is_empty()
    }

    /// Ends the sending side, as a killed client does.
    pub(crate) fn hang_up(&mut self) {
        self.reader.get_ref().shutdown(Shutdown::Write).expect("shuts down");
    }
}

fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(directory).expect("lists").map(|entry| entry.expect("an entry"));
    entries
        .map(|entry| {
            let name = entry.file_name().into_string().expect("printable");
            (name, fs::read(entry.path()).unwrap_or_default())
        })
        .collect()
}
