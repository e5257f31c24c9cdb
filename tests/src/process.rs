//! A process and what it said. Dropping the guard ends the process group it started, and only that.

use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::until;

/// How many of its last lines a process shows when its test fails.
const SHOWN_ON_FAILURE: usize = 60;

/// A running (or ended) process.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts it in a process group of its own, listening to both its outputs.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(name: &str, command: &mut Command) -> Process {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let said = Arc::default();
        let readers = vec![
            listen(child.stdout.take().expect("stdout is piped"), Arc::clone(&said)),
            listen(child.stderr.take().expect("stderr is piped"), Arc::clone(&said)),
        ];
        Process { name: name.to_owned(), child, said, readers, status: None }
    }

    /// Everything it said so far.
    pub fn log(&self) -> String {
        self.lines().join("\n")
    }

    /// The same, line by line.
    pub fn lines(&self) -> Vec<String> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a line that holds all of `parts`.
    ///
    /// # Panics
    /// When the process ends without it, or patience does.
    pub fn wait_for_line(&mut self, parts: &[&str]) -> String {
        let what = format!("{} says {parts:?}", self.name);
        let find = |process: &Process| {
            process.lines().into_iter().find(|line| parts.iter().all(|part| line.contains(part)))
        };
        until::some(&what, || {
            let found = find(self);
            if found.is_none() && self.has_ended() {
                self.hear_the_rest();
                return Some(find(self).unwrap_or_else(|| {
                    panic!("{what}: it ended with {:?} instead:\n{}", self.status, self.log())
                }));
            }
            found
        })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it is over, by itself or not.
    pub fn has_ended(&mut self) -> bool {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("the child is ours");
        }
        self.status.is_some()
    }

    /// SIGKILL: no chance to finish anything.
    pub fn kill(&mut self) {
        if self.status.is_none() {
            let _ = kill_process_group(self.pid(), Signal::KILL);
            self.wait();
        }
    }

    /// Something that kills it from another thread, at a moment that a tap chooses. It must not be used after this guard
    /// is gone: the id may be another's by then.
    pub fn killer(&self) -> impl Fn() + Send + Sync + use<> {
        let pid = self.pid();
        move || {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }

    /// SIGTERM, then waits for the end.
    pub fn terminate(&mut self) -> ExitStatus {
        if !self.has_ended() {
            let _ = kill_process(self.pid(), Signal::TERM);
        }
        self.join()
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// When patience ends first.
    pub fn join(&mut self) -> ExitStatus {
        let what = format!("{} ends", self.name);
        until::holds(&what, || self.has_ended());
        self.hear_the_rest();
        self.status.expect("it has ended")
    }

    /// The most memory it ever had resident, in KiB.
    pub fn peak_memory_kib(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells VmHWM");
        line.trim().trim_end_matches(" kB").parse().expect("VmHWM is a number")
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn wait(&mut self) {
        if self.status.is_none() {
            self.status = Some(self.child.wait().expect("the child is ours"));
        }
        self.hear_the_rest();
    }

    fn hear_the_rest(&mut self) {
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader ends with its pipe");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        let lines = self.lines();
        let panic = lines.iter().position(|line| line.contains("panicked"));
        let panicked = panic.is_some();
        if std::thread::panicking() || panicked {
            // From a panic on, or else the last ones.
            let skipped = lines.len().saturating_sub(SHOWN_ON_FAILURE).min(panic.unwrap_or(usize::MAX));
            eprintln!("--- last of {} lines of {} ({:?})", lines.len(), self.name, self.status);
            lines[skipped..].iter().for_each(|line| eprintln!("    {line}"));
        }
        assert!(!panicked || std::thread::panicking(), "{} panicked", self.name);
    }
}

fn listen(pipe: impl Read + Send + 'static, said: Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
            said.lock().unwrap_or_else(PoisonError::into_inner).push(text);
            line.clear();
        }
    })
}
