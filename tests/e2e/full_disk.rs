//! Full disks, of bytes and of files, at every step: under the node, under the pipeline's directory with its staging,
//! under the ledger. Senders hear `SEND ERR (storage full)` or nothing, what was acknowledged arrives once, no process
//! ends, and when room returns everybody goes on unaided.
//!
//! Each disk is a small tmpfs, filled to the last page or file or nearly so. The node keeps no reserve: what stops it is the
//! real `ENOSPC`. The lanes live on from run to run. tmpfs needs no fsync, so this says nothing about power cuts.
//!
//! `TIDEGATE_SEED=n` repeats, `TIDEGATE_FROM` and `TIDEGATE_RUNS` choose a slice.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidegate_tests::central::{Central, Mode, Site};
use tidegate_tests::certificates::Authority;
use tidegate_tests::node::Node;
use tidegate_tests::oracle::{Arrival, Oracle};
use tidegate_tests::seed::{Seed, runs};
use tidegate_tests::sender::Sender;
use tidegate_tests::small_disk::{Scarce, SmallDisk, inside_namespace};
use tidegate_tests::tap::{Chunk, From, Tap, Verdict};
use tidegate_tests::until;

/// Lanes beside each other. Odd ones are pulled over relay.
const LANES: u64 = 4;

/// How large a disk is: with room for the segments that a spool sets aside, or for a database and its write-ahead log of
/// 1,000 pages, and for a few packages.
const DISK_BYTES: u64 = 16 << 20;
const DISK_INODES: u64 = 100;

/// How long a full disk stays full when nothing tells that it has been noticed.
const LONGEST_FULL: Duration = Duration::from_millis(300);

/// The least that a body has: the judge knows files by their bytes.
const UNIQUE: u64 = 16;

/// How long a refused sender waits.
const AGAIN: Duration = Duration::from_millis(20);

const NODE: &str = "[spool]\nreserve = 0";
const SERVER: &str = "sync_interval = \"20ms\"\nsync_backoff_max = \"50ms\"\nsync_retries = 1";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Node,
    Incoming,
    Ledger,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// Before the first file is sent.
    BeforeIntake,
    /// Some files are stored, others come.
    BetweenFiles,
    /// All files are stored, none is pulled.
    BeforePull,
    /// At a byte of the pull.
    WhilePulling,
}

#[derive(Debug, Clone, Copy)]
struct Plan {
    place: Place,
    moment: Moment,
    scarce: Scarce,
    /// Pages or files that are not filled.
    left: usize,
}

impl Plan {
    fn new(seed: &mut Seed) -> Plan {
        Plan {
            place: *seed.pick(&[Place::Node, Place::Incoming, Place::Ledger]),
            moment: *seed.pick(&[
                Moment::BeforeIntake,
                Moment::BetweenFiles,
                Moment::BeforePull,
                Moment::WhilePulling,
            ]),
            scarce: *seed.pick(&[Scarce::Bytes, Scarce::Inodes]),
            left: *seed.pick(&[0, 0, 1, 2, 5, 12]),
        }
    }
}

/// Holds the pull up, and does something at a byte of it.
#[derive(Default)]
struct Valve {
    state: Mutex<ValveState>,
    opened: Condvar,
}

#[derive(Default)]
struct ValveState {
    closed: bool,
    /// After so many bytes of the listener.
    then: Option<(u64, Box<dyn FnOnce() + Send>)>,
}

impl Valve {
    fn close(&self) {
        self.lock().closed = true;
    }

    fn open(&self) {
        self.lock().closed = false;
        self.opened.notify_all();
    }

    fn at(&self, byte: u64, then: impl FnOnce() + Send + 'static) {
        self.lock().then = Some((byte, Box::new(then)));
    }

    /// Does it now if it did not happen yet.
    fn now(&self) {
        let then = self.lock().then.take();
        if let Some((_, then)) = then {
            then();
        }
    }

    fn pass(&self, chunk: &Chunk<'_>) -> Verdict {
        let mut state = self.lock();
        while state.closed {
            state = self.opened.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let reached = |(at, _): &mut (u64, Box<dyn FnOnce() + Send>)| {
            chunk.from == From::Listener && chunk.before + chunk.bytes.len() as u64 > *at
        };
        if let Some((_, then)) = state.then.take_if(reached) {
            then();
        }
        Verdict::Pass
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ValveState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A node and a server on small disks. The disks go first.
struct Lane {
    disks: [Arc<SmallDisk>; 3],
    pulls: Tap,
    valve: Arc<Valve>,
    node: Node,
    central: Central,
    all: Oracle,
    refused: AtomicU64,
}

/// One file that an agent has.
struct Data {
    name: String,
    bytes: Vec<u8>,
}

impl Lane {
    fn new(mode: Mode) -> Lane {
        let authority = Authority::new();
        let mut node = Node::start(&authority, NODE);
        node.kill();
        let valve = Arc::<Valve>::default();
        let rule = Arc::clone(&valve);
        let pulls = Tap::at(node.front(), node.address(), move |chunk| rule.pass(chunk));
        let site = Site::node("site", node.front()).over(mode);
        let mut central = Central::new(&authority, &[site], SERVER);
        let places = [node.storage(), central.pipeline.directory().to_owned(), central.state()];
        let disks = places.map(|path| Arc::new(SmallDisk::mount(&path, DISK_BYTES, DISK_INODES)));
        node.restart();
        central.run();
        // One that starts on a full disk ends with an error; only a running one is to bear it.
        until::holds("the server pulls", || pulls.connections() > 0);
        Lane { disks, pulls, valve, node, central, all: Oracle::default(), refused: AtomicU64::new(0) }
    }

    fn run(&mut self, run: u64, seed: &mut Seed) {
        let plan = Plan::new(seed);
        let what = format!("run {run} ({plan:?})");
        let files: Vec<Data> = (0..2 + seed.below(6))
            .map(|index| {
                let filler = UNIQUE + seed.below(*seed.clone().pick(&[100, 5_000, 20_000]));
                let time = if index % 2 == 0 { 0 } else { 1_700_000_000 };
                Data {
                    name: format!("r{run}-{index}.{}.data", time + index),
                    bytes: seed.bytes(filler as usize),
                }
            })
            .collect();
        let oracle = Oracle::default();
        let oracles = [&oracle, &self.all];
        let disk = Arc::clone(&self.disks[plan.place as usize]);
        let (filled, scarce, left) = (Arc::clone(&disk), plan.scarce, plan.left);
        let fill = move || filled.fill(scarce, left);
        let early = match plan.moment {
            Moment::BeforeIntake => 0,
            Moment::BetweenFiles => files.len() / 2,
            Moment::BeforePull | Moment::WhilePulling => files.len(),
        };
        let (early, late) = files.split_at(early);
        let held = plan.moment != Moment::BetweenFiles || seed.once_in(2);
        if held {
            self.valve.close();
        }
        early.iter().for_each(|data| self.store(&oracles, data));
        if plan.moment == Moment::WhilePulling {
            let volume: u64 = files.iter().map(|data| 2 * data.bytes.len() as u64 + 150).sum();
            self.valve.at(self.pulls.passed(From::Listener) + seed.below(1_500 + volume), fill);
        } else {
            fill();
        }

        let mut arrived = Vec::new();
        std::thread::scope(|scope| {
            let refused = self.refused.load(Ordering::Relaxed);
            for half in late.chunks(late.len().div_ceil(2).max(1)) {
                let (lane, oracles) = (&*self, &oracles);
                scope.spawn(move || half.iter().for_each(|data| lane.store(oracles, data)));
            }
            if held && plan.place == Place::Node && plan.left == 0 && !late.is_empty() {
                // Not a page, or not a file, is left, and no pull makes room: the node hears of it from its disk, and must
                // not say that it stored.
                until::holds(&format!("{what}: a sender is refused"), || {
                    self.refused.load(Ordering::Relaxed) > refused
                });
                assert_eq!(oracle.acknowledged(), early.len(), "{what}: stored on a full disk");
            }
            self.valve.open();
            let start = Instant::now();
            let is_drained =
                |arrived: &[Arrival]| arrived.len() == files.len() && self.node.packages().is_empty();
            while start.elapsed() < LONGEST_FULL && !is_drained(&arrived) {
                arrived.extend(self.central.pipeline.consume_new());
                until::pause(Duration::from_millis(5));
            }
            self.valve.now();
            if plan.place == Place::Node && late.is_empty() {
                // A full node can still be emptied.
                until::holds(&format!("{what}: the full node is pulled"), || {
                    arrived.extend(self.central.pipeline.consume_new());
                    is_drained(&arrived)
                });
            }
            disk.clear();
        });
        until::holds(&format!("{what}: everything arrives when room has returned"), || {
            self.all_alive(&what);
            arrived.extend(self.central.pipeline.consume_new());
            oracle.is_complete(&arrived) && self.node.packages().is_empty()
        });
        arrived.extend(self.central.pipeline.consume_new());
        let verdict = oracle.judge(&arrived);
        assert!(verdict.is_clean(), "{what}: {verdict}");
    }

    fn all_alive(&mut self, what: &str) {
        for process in [self.node.process(), self.central.process()] {
            assert!(!process.has_ended(), "{what}: a process has ended:\n{}", process.log());
        }
    }

    /// What a patient agent does.
    fn store(&self, oracles: &[&Oracle], data: &Data) {
        let Data { name, bytes } = data;
        oracles.iter().for_each(|oracle| oracle.offer(name, bytes));
        until::holds(&format!("{name} is stored"), || match attempt(self.node.address(), data).as_deref() {
            Some("SEND OK") => true,
            Some("SEND ERR (storage full)") | None => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                until::pause(AGAIN);
                false
            }
            Some(refusal) => panic!("{name} is refused: {refusal}"),
        });
        oracles.iter().for_each(|oracle| oracle.acknowledge(bytes));
    }

    /// Nothing comes late. Gives how many attempts were refused, and how often the server lacked room, for packages and
    /// for the ledger.
    fn settle(mut self) -> [u64; 3] {
        self.central.process().terminate();
        let verdict = self.all.judge(&self.central.pipeline.consume());
        assert!(verdict.is_clean(), "in the end: {verdict}");
        let lines = self.central.process().lines();
        let said = |ledger| {
            let lacks =
                |line: &&String| line.contains("cannot take more") && line.contains("ledger") == ledger;
            lines.iter().filter(lacks).count() as u64
        };
        [self.refused.into_inner(), said(false), said(true)]
    }
}

fn attempt(address: SocketAddr, Data { name, bytes }: &Data) -> Option<String> {
    Sender::connect(address).and_then(|mut sender| sender.send(name, bytes)).ok()
}

#[test]
fn full_disks_lose_and_double_nothing_and_everybody_resumes_when_room_returns() {
    if !inside_namespace("full_disks_lose_and_double_nothing_and_everybody_resumes_when_room_returns") {
        return;
    }
    let seed = Seed::from_environment();
    let runs = runs(50);
    let noticed = Mutex::new([0; 3]);
    std::thread::scope(|scope| {
        for lane in 0..LANES {
            let (seed, noticed, runs) = (&seed, &noticed, runs.clone());
            scope.spawn(move || {
                let mut bench = Lane::new(Mode::of(lane));
                for run in runs.filter(|run| run % LANES == lane) {
                    bench.run(run, &mut seed.run(run));
                }
                let settled = bench.settle();
                let mut noticed = noticed.lock().unwrap_or_else(PoisonError::into_inner);
                (0..3).for_each(|which| noticed[which] += settled[which]);
            });
        }
    });
    let noticed = noticed.into_inner().unwrap_or_else(PoisonError::into_inner);
    let [refused, pipeline, ledger] = noticed;
    eprintln!(
        "noticed: {refused} attempts refused, {pipeline} times no room for packages, {ledger} for the ledger"
    );
    assert!(runs.end - runs.start < 50 || !noticed.contains(&0), "some disk was never full: {noticed:?}");
}

/// The node is killed on a disk without a page, or a file, left, and starts there. It must be possible to pull it empty:
/// nothing else makes room.
#[test]
fn a_node_that_starts_on_a_full_disk_is_pulled_empty_unaided() {
    if !inside_namespace("a_node_that_starts_on_a_full_disk_is_pulled_empty_unaided") {
        return;
    }
    let seed = &mut Seed::from_environment();
    for (scarce, mode) in
        [Scarce::Bytes, Scarce::Inodes].map(|scarce| Mode::ALL.map(|mode| (scarce, mode))).concat()
    {
        let mut lane = Lane::new(mode);
        for round in 0..2 {
            lane.valve.close();
            let oracle = Oracle::default();
            for index in 0..5 {
                let name = format!("full-{round}-{index}.1700000000.data");
                lane.store(&[&oracle, &lane.all], &Data { name, bytes: seed.bytes(9_000) });
            }
            lane.disks[Place::Node as usize].fill(scarce, 0);
            // The second start finds what the first one has left.
            for _ in 0..=round {
                lane.node.kill();
                lane.node.restart();
            }
            lane.valve.open();
            let mut arrived = Vec::new();
            until::holds(
                &format!("the node that lacks {scarce:?} is pulled empty in round {round} ({mode:?})"),
                || {
                    arrived.extend(lane.central.pipeline.consume_new());
                    oracle.is_complete(&arrived) && lane.node.packages().is_empty()
                },
            );
            let verdict = oracle.judge(&arrived);
            assert!(verdict.is_clean(), "{scarce:?}, {mode:?}, round {round}: {verdict}");
            lane.disks[Place::Node as usize].clear();
        }
        lane.settle();
    }
}
