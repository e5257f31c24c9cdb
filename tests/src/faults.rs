//! System calls that fail in a real process: by strace, which makes the n-th call of a kind fail without making it, and by
//! a preloaded library for writes to files, which can also be short.
//!
//! strace counts by thread, so a test lets one thread do the work. It cannot make a write short: with `retval=` the kernel
//! would claim bytes that nobody wrote. And it cannot tell a write to a file from one to the event counter that wakes the
//! runtime, which never fails in earnest. So `write` and `pwrite64` are left to the library, which really writes half,
//! counts all threads together, and lets everything pass that is no regular file.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{binary, until};

/// What a call answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The disk is broken.
    Eio,
    /// The disk is full.
    Enospc,
    /// A signal came in between. Not for ever: whoever tries again would never end.
    Eintr,
    /// Half of it. Only of [`WRITES`].
    Short,
}

/// Stands for all calls that write to files.
pub const WRITES: &str = "write, pwrite64";

/// Which call fails, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Its name, or [`WRITES`].
    pub call: &'static str,
    /// The n-th one, from 1.
    pub n: u64,
    /// What it answers.
    pub answer: Answer,
    /// That one only, or all from then on.
    pub once: bool,
}

/// How long strace may take to write the end of its process.
const LONGEST_END: Duration = Duration::from_secs(5);

/// The library, and where its and strace's words go. One for each process at a time.
#[derive(Debug)]
pub struct Faults {
    directory: TempDir,
}

impl Faults {
    /// Compiles the library.
    ///
    /// # Panics
    /// When the compiler is missing, or does not like it.
    pub fn new() -> Faults {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let source = directory.path().join("faulty_writes.c");
        fs::write(&source, include_str!("faulty_writes.c")).expect("the directory is ours");
        let mut compile = Command::new(binary::system("cc", "build-essential"));
        compile.args(["-shared", "-fPIC", "-O1", "-o"]).arg(directory.path().join("faulty_writes.so"));
        let output = compile.arg(&source).output().expect("cc starts");
        assert!(output.status.success(), "{compile:?}: {}", String::from_utf8_lossy(&output.stderr));
        Faults { directory }
    }

    /// `inner` with this fault.
    pub fn inject(&self, fault: Fault, inner: &Command) -> Command {
        let Fault { call, n, answer, once } = fault;
        let from_then_on = if once { "" } else { "+" };
        if call == WRITES {
            let what = match answer {
                Answer::Short => "short",
                Answer::Eio => "EIO",
                Answer::Enospc => "ENOSPC",
                Answer::Eintr => "EINTR",
            };
            return self.preloaded(&format!("{what}:{n}{from_then_on}"), inner);
        }
        let error = match answer {
            Answer::Eio => "EIO",
            Answer::Enospc => "ENOSPC",
            Answer::Eintr => "EINTR",
            Answer::Short => panic!("strace cannot make {call} short"),
        };
        let when = match (once, answer) {
            (true, _) => n.to_string(),
            (false, Answer::Eintr) => format!("{n}+2"),
            (false, _) => format!("{n}+"),
        };
        self.traced(call, &["-e", &format!("inject={call}:error={error}:when={when}")], inner)
    }

    /// `inner`, whose calls are counted: by strace those that it can make fail, else the writes.
    pub fn count(&self, calls: Option<&[&str]>, inner: &Command) -> Command {
        match calls {
            Some(calls) => self.traced(&calls.join(","), &[], inner),
            None => self.preloaded("count:0", inner),
        }
    }

    /// How often the busiest thread made each of strace's calls, after the process has ended.
    pub fn counted(&self, process: u32) -> BTreeMap<String, u64> {
        let mut by_thread: BTreeMap<(String, String), u64> = BTreeMap::new();
        for line in self.trace(process).lines() {
            let mut words = line.split_whitespace();
            let (Some(thread), Some(call)) = (words.next(), words.next()) else { continue };
            let Some((call, _)) = call.split_once('(') else { continue };
            *by_thread.entry((thread.to_owned(), call.to_owned())).or_default() += 1;
        }
        let mut most = BTreeMap::new();
        for ((_, call), count) in by_thread {
            let known: &mut u64 = most.entry(call).or_default();
            *known = count.max(*known);
        }
        most
    }

    /// How often the library did something.
    pub fn marks(&self) -> u64 {
        fs::metadata(self.mark()).map_or(0, |found| found.len())
    }

    /// The calls that strace made fail, after the process has ended.
    pub fn injected(&self, process: u32) -> Vec<String> {
        self.trace(process).lines().filter(|line| line.contains("(INJECTED)")).map(str::to_owned).collect()
    }

    /// What strace wrote. It comes to its end a little after its process; one that does not in good time has told
    /// what happened all the same.
    fn trace(&self, process: u32) -> String {
        let start = Instant::now();
        until::some("strace writes", || {
            let text = String::from_utf8_lossy(&fs::read(self.output()).unwrap_or_default()).into_owned();
            if start.elapsed() > LONGEST_END {
                return Some(text);
            }
            let is_end = |line: &str| {
                let thread = line.split_whitespace().next().and_then(|word| word.parse().ok());
                thread == Some(process) && line.contains("+++")
            };
            text.lines().any(is_end).then_some(text)
        })
    }

    fn traced(&self, calls: &str, more: &[&str], inner: &Command) -> Command {
        let _ = fs::remove_file(self.output());
        let mut command = Command::new(binary::system("strace", "strace"));
        // The tracer is a grandchild, so that the process is our child as ever; only the named calls stop it.
        command.args(["-D", "-f", "--seccomp-bpf", "-e", "signal=none"]);
        command.arg("-e").arg(format!("trace={calls}")).args(more).arg("-o").arg(self.output());
        command.arg(inner.get_program()).args(inner.get_args());
        with_environment(command, inner)
    }

    fn preloaded(&self, plan: &str, inner: &Command) -> Command {
        let _ = fs::remove_file(self.mark());
        let mut command = Command::new(inner.get_program());
        command.args(inner.get_args());
        let mut command = with_environment(command, inner);
        command.env("LD_PRELOAD", self.directory.path().join("faulty_writes.so"));
        command.env("FAULTY_WRITES", plan).env("FAULTY_WRITES_MARK", self.mark());
        command
    }

    fn output(&self) -> PathBuf {
        self.directory.path().join("trace")
    }

    fn mark(&self) -> PathBuf {
        self.directory.path().join("mark")
    }
}

impl Default for Faults {
    fn default() -> Faults {
        Faults::new()
    }
}

fn with_environment(mut command: Command, inner: &Command) -> Command {
    command.envs(inner.get_envs().filter_map(|(key, value)| Some((key, value?))));
    // One thread of the runtime: see above.
    command.env("TOKIO_WORKER_THREADS", "1");
    command
}
