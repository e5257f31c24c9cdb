//! The n-th system call of the commit path fails, for every n, once and for ever, on the node and on the server: the process
//! refuses, ends with a clear error or carries on; then it is started again without the fault, and everything that was
//! acknowledged arrives once.
//!
//! A scripted session (start, three packages in, three packages through the pipeline, end) is counted first; each of its
//! calls is then made to fail in a session of its own. Besides:
//! - an interrupted call (`EINTR`) and a short write are invisible to a process that has started: every file is stored at
//!   once, and nothing ends. (SQLite takes an interrupted fsync for a failed one, and the server ends; local file systems do not
//!   interrupt it.)
//! - after a failed fsync of a commit the node refuses the batch, and ends with the words of its poison and exit code 1;
//! - a process that ends by itself says why, with an exit code other than 0.
//!
//! A run is one fault. `TIDEGATE_FROM` and `TIDEGATE_RUNS` choose a slice.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tidegate_tests::central::{Central, Mode, Site};
use tidegate_tests::certificates::Authority;
use tidegate_tests::faults::{Answer, Fault, Faults, WRITES};
use tidegate_tests::node::Node;
use tidegate_tests::oracle::{Arrival, Oracle};
use tidegate_tests::seed::{Seed, runs};
use tidegate_tests::sender::{Sender, send_until_stored};
use tidegate_tests::until;

/// Lanes beside each other.
const LANES: usize = 6;

/// Packages of a session.
const FILES: usize = 3;

/// How long a session with a fault may go on when nothing tells its end.
const LONGEST: Duration = Duration::from_millis(400);

/// One thread for each kind of work: strace counts by thread.
const NODE: &str = "[spool]\nsync_threads = 1";
const SERVER: &str =
    "sync_interval = \"5ms\"\nsync_backoff_max = \"10ms\"\nsync_retries = 1\nmax_concurrent_sites = 1";

/// What the node says when a commit's fsync failed.
const POISON: &str = "the spool stores nothing more";

use Answer::{Eintr, Eio, Enospc, Short};

/// The calls, and what each may answer on a local file system.
const CALLS: [(&str, &[Answer]); 17] = [
    (WRITES, &[Eio, Enospc, Eintr, Short]),
    ("openat", &[Eio, Enospc, Eintr]),
    ("fsync", &[Eio, Enospc, Eintr]),
    ("fdatasync", &[Eio, Enospc, Eintr]),
    ("fallocate", &[Eio, Enospc, Eintr]),
    ("ftruncate", &[Eio, Eintr]),
    ("renameat2", &[Eio, Enospc]),
    ("rename", &[Eio, Enospc]),
    ("linkat", &[Eio, Enospc]),
    ("unlink", &[Eio]),
    ("mkdir", &[Eio, Enospc]),
    ("utimensat", &[Eio]),
    ("fchmod", &[Eio]),
    ("getdents64", &[Eio]),
    ("pread64", &[Eio, Eintr]),
    ("flock", &[Eintr]),
    ("statfs", &[Eio]),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Node,
    Server,
}

struct Lane {
    victim: Victim,
    node: Node,
    central: Central,
    faults: Faults,
    all: Oracle,
    oracle: Oracle,
    arrived: Vec<Arrival>,
    /// What the sender has not heard `OK` for.
    unstored: Vec<(String, Vec<u8>)>,
    /// There are dead letters.
    set_aside: bool,
}

impl Lane {
    fn new(victim: Victim, mode: Mode, authority: &Authority) -> Lane {
        let mut node = Node::start(authority, NODE);
        let mut central = Central::new(authority, &[Site::node("site", node.address()).over(mode)], SERVER);
        match victim {
            Victim::Node => {
                node.kill();
                central.run();
            }
            Victim::Server => {}
        }
        Lane {
            victim,
            node,
            central,
            faults: Faults::new(),
            all: Oracle::default(),
            oracle: Oracle::default(),
            arrived: Vec::new(),
            unstored: Vec::new(),
            set_aside: false,
        }
    }

    /// How often each call can be made to fail.
    fn count(&mut self, seed: &Seed) -> BTreeMap<&'static str, u64> {
        let traced: Vec<&str> = CALLS.iter().map(|(call, _)| *call).filter(|call| *call != WRITES).collect();
        let mut counted = BTreeMap::new();
        for (index, calls) in [Some(traced.as_slice()), None].into_iter().enumerate() {
            self.load(&format!("count{index}"), &mut seed.run(u64::MAX - index as u64));
            let id = self.session(until::PATIENCE, |faults, command| faults.count(calls, command));
            assert!(self.is_through(), "a session without a fault comes to its end");
            self.stop();
            let found = if calls.is_some() { self.faults.counted(id) } else { BTreeMap::new() };
            for (call, _) in CALLS {
                match (call == WRITES, calls.is_some()) {
                    (true, false) => drop(counted.insert(call, self.faults.marks())),
                    (false, true) => drop(counted.insert(call, found.get(call).copied().unwrap_or_default())),
                    _ => {}
                }
            }
            self.recover("counting");
        }
        counted
    }

    fn load(&mut self, label: &str, seed: &mut Seed) {
        self.oracle = Oracle::default();
        self.arrived.clear();
        for index in 0..FILES {
            let (name, bytes) = (format!("{label}-{index}.170000000{index}.data"), seed.bytes(2_000));
            self.oracle.offer(&name, &bytes);
            self.all.offer(&name, &bytes);
            self.unstored.push((name, bytes));
        }
        if self.victim == Victim::Server {
            self.send_the_rest();
        }
    }

    /// Everything up to the end of the process under test, or to where it gets no further. Gives its id.
    fn session(
        &mut self,
        longest: Duration,
        inject: impl Fn(&Faults, &std::process::Command) -> std::process::Command,
    ) -> u32 {
        match self.victim {
            Victim::Node => {
                let command = inject(&self.faults, &self.node.command());
                if self.node.start_as(command) {
                    self.try_to_send();
                }
            }
            Victim::Server => {
                let command = inject(&self.faults, &self.central.command(&["run"]));
                self.central.start_as(command);
                let process = self.central.process();
                // Its time begins when it works, however busy the machine is; before that it would die of SIGTERM.
                until::holds("the server starts or ends", || {
                    process.has_ended() || process.log().contains("pulls sites=")
                });
            }
        }
        let start = Instant::now();
        while !self.has_ended() && !self.is_through() && start.elapsed() < longest {
            self.arrived.extend(self.central.pipeline.consume_new());
            until::pause(Duration::from_millis(5));
        }
        match self.victim {
            Victim::Node => self.node.process().id(),
            Victim::Server => self.central.process().id(),
        }
    }

    fn has_ended(&mut self) -> bool {
        match self.victim {
            Victim::Node => self.node.process().has_ended(),
            Victim::Server => self.central.process().has_ended(),
        }
    }

    /// Whether all has been sent, stored, pulled and moved away.
    fn is_through(&self) -> bool {
        self.unstored.is_empty() && self.oracle.is_complete(&self.arrived) && self.node.packages().is_empty()
    }

    /// One attempt for each file.
    fn try_to_send(&mut self) {
        let address = self.node.address();
        let (oracles, mut unstored) = ([&self.oracle, &self.all], std::mem::take(&mut self.unstored));
        unstored.retain(|(name, bytes)| {
            let reply = Sender::connect(address).and_then(|mut sender| sender.send(name, bytes));
            let stored = reply.as_deref().is_ok_and(|reply| reply == "SEND OK");
            if stored {
                oracles.iter().for_each(|oracle| oracle.acknowledge(bytes));
            }
            !stored
        });
        self.unstored = unstored;
    }

    fn send_the_rest(&mut self) {
        for (name, bytes) in self.unstored.drain(..) {
            send_until_stored(self.node.address(), &name, &bytes);
            [&self.oracle, &self.all].iter().for_each(|oracle| oracle.acknowledge(&bytes));
        }
    }

    /// The end of the process under test; whether it ended by itself, its exit code, and what it said.
    fn stop(&mut self) -> (bool, Option<i32>, String) {
        let by_itself = self.has_ended();
        let process = match self.victim {
            Victim::Node => self.node.process(),
            Victim::Server => self.central.process(),
        };
        let status = process.terminate();
        (by_itself, status.code(), process.log())
    }

    /// The same process without a fault: everything comes to its end, once.
    fn recover(&mut self, what: &str) {
        match self.victim {
            Victim::Node => self.node.restart(),
            Victim::Server => self.central.run(),
        }
        if std::mem::take(&mut self.set_aside) {
            self.node.requeue_dead_letters();
        }
        self.send_the_rest();
        let start = Instant::now();
        until::holds(&format!("{what}: everything arrives after a new start"), || {
            self.arrived.extend(self.central.pipeline.consume_new());
            let in_time = start.elapsed() < until::PATIENCE / 2;
            assert!(in_time, "{what}: not everything arrives after a new start.\n{}", self.scene());
            self.is_through()
        });
        if self.victim == Victim::Server {
            self.central.process().terminate();
        } else {
            self.node.process().terminate();
        }
        self.arrived.extend(self.central.pipeline.consume_new());
        let verdict = self.oracle.judge(&self.arrived);
        assert!(verdict.is_clean(), "{what}: {verdict}");
    }

    /// Where everything is.
    fn scene(&mut self) -> String {
        let verdict = self.oracle.judge(&self.arrived);
        let (files, node) = (self.node.files(), self.node.process().log());
        format!("{verdict}\non the node: {files:?}\n{node}\nserver:\n{}", self.central.process().log())
    }

    fn run(&mut self, run: u64, fault: Fault, seed: &mut Seed) {
        let what = format!("run {run}: {:?}, {fault:?}", self.victim);
        self.load(&format!("r{run}"), seed);
        // What must be invisible takes the time that it takes.
        let longest = if matches!(fault.answer, Eintr | Short) { until::PATIENCE / 2 } else { LONGEST };
        let id = self.session(longest, |faults, command| faults.inject(fault, command));
        let stored_at_once = self.unstored.is_empty();
        let through = self.is_through();
        let (by_itself, code, log) = self.stop();
        let struck = match fault.call {
            WRITES => self.faults.marks() > 0,
            _ => !self.faults.injected(id).is_empty(),
        };
        assert!(code.is_some(), "{what}: killed by a signal:\n{log}");
        assert!(!by_itself || (code != Some(0) && !log.is_empty()), "{what}: ended with {code:?}:\n{log}");
        let is_sqlite = self.victim == Victim::Server && log.contains("ledger: disk I/O error");
        let had_started = log.contains("listening address") || log.contains("pulls sites=");
        if matches!(fault.answer, Eintr | Short) && had_started && !is_sqlite {
            assert!(stored_at_once && through && !by_itself, "{what}: was not invisible ({code:?}):\n{log}");
        }
        let is_fsync = matches!(fault.call, "fsync" | "fdatasync") && fault.answer != Eintr;
        if self.victim == Victim::Node && is_fsync && struck && log.contains("spool opened") {
            assert!(log.contains(POISON), "{what}: no word of the failed fsync:\n{log}");
            assert_eq!(code, Some(1), "{what}:\n{log}");
        }
        // A disk that does not give a package back at all makes a dead letter of it, which is told and kept.
        self.set_aside = log.contains("was set aside");
        assert!(!self.set_aside || !fault.once, "{what}: set aside for one failure:\n{log}");
        self.recover(&format!("{what}\n{log}\n"));
    }

    /// Nothing comes late.
    fn settle(mut self) {
        if self.victim == Victim::Node {
            self.central.process().terminate();
        }
        let verdict = self.all.judge(&self.central.pipeline.consume());
        assert!(verdict.is_clean(), "in the end: {verdict}");
    }
}

fn faults(counted: &BTreeMap<&'static str, u64>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (call, answers) in CALLS {
        for n in 1..=counted[call] {
            for &answer in answers {
                faults.extend([true, false].map(|once| Fault { call, n, answer, once }));
            }
        }
    }
    faults
}

fn sweep(victim: Victim, mode: Mode) {
    let seed = Seed::from_environment();
    let authority = Authority::new();
    let mut first = Lane::new(victim, mode, &authority);
    let counted = first.count(&seed);
    first.settle();
    let faults = faults(&counted);
    let runs = runs(faults.len() as u64);
    let runs = runs.start..runs.end.min(faults.len() as u64);
    eprintln!("{victim:?}, {mode:?}: {counted:?}: {} faults, of which {runs:?}", faults.len());
    let next = Mutex::new(runs);
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                let mut lane = Lane::new(victim, mode, &authority);
                loop {
                    let run = next.lock().expect("no holder panics").next();
                    let Some(run) = run else { return lane.settle() };
                    let one = || lane.run(run, faults[run as usize], &mut seed.run(run));
                    if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(one)) {
                        let words = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                        failed.lock().expect("no holder panics").push(words);
                        // What it left is nobody else's.
                        lane = Lane::new(victim, mode, &authority);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("no holder panics");
    assert!(failed.is_empty(), "{} of {} failed:\n{}", failed.len(), faults.len(), failed.join("\n"));
}

#[test]
fn the_node_keeps_its_promise_whichever_system_call_fails() {
    sweep(Victim::Node, Mode::Tentacle);
}

#[test]
fn the_node_keeps_its_promise_over_relay_whichever_system_call_fails() {
    sweep(Victim::Node, Mode::Standing);
}

#[test]
fn the_server_keeps_its_promise_whichever_system_call_fails() {
    sweep(Victim::Server, Mode::Tentacle);
}

#[test]
fn the_server_keeps_its_promise_over_relay_whichever_system_call_fails() {
    sweep(Victim::Server, Mode::Scheduled);
}
