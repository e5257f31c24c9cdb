//! Every byte of a relay connection that stays, after its handshake: packages that waited, silence, a package that comes
//! while it is idle, and what follows. What comes before is in `pull`.

use std::sync::mpsc::Receiver;

use tidegate_tests::central::{Central, Mode, Site};
use tidegate_tests::certificates::Authority;
use tidegate_tests::cutter::{Cut, Cutter, Passed};
use tidegate_tests::node::Node;
use tidegate_tests::oracle::{Arrival, Oracle};
use tidegate_tests::seed::Seed;
use tidegate_tests::sender::Sender;
use tidegate_tests::until;

use super::{EAGER, Session, sweep};

const LANES: usize = 4;

/// Packages that wait when the connection comes, and those that come later, one at a time.
const WAITING: usize = 2;
const LATER: usize = 2;

/// What a handshake takes at least.
const HANDSHAKE: [u64; 2] = [900, 900];

struct Lane {
    node: Node,
    central: Central,
    line: Cutter,
    all: Oracle,
}

/// What one run sends.
struct Load {
    run: u64,
    seed: Seed,
    oracle: Oracle,
    arrived: Vec<Arrival>,
    sent: usize,
}

impl Lane {
    fn new() -> Lane {
        let authority = Authority::new();
        let node = Node::start(&authority, "");
        let line = Cutter::at(node.front(), node.address());
        line.hold();
        let site = Site::node("site", node.front()).over(Mode::Standing);
        let mut central = Central::new(&authority, &[site], EAGER);
        central.run();
        Lane { node, central, line, all: Oracle::default() }
    }

    fn send(&self, load: &mut Load) {
        let (name, bytes) =
            (format!("r{:05}.170000000{}.data", load.run, load.sent), load.seed.bytes(30 + load.sent));
        let mut sender = Sender::connect(self.node.address()).expect("the node listens");
        assert_eq!(sender.send(&name, &bytes).expect("nobody cuts this"), "SEND OK");
        load.oracle.expect(&name, &bytes);
        self.all.expect(&name, &bytes);
        load.sent += 1;
    }

    /// Until everything sent so far has arrived and is deleted, or the connection is over.
    fn until_through(&mut self, what: &str, load: &mut Load, told: &Receiver<Passed>) -> Option<Passed> {
        until::some(&format!("{what}: the connection is through, or over"), || {
            assert!(!self.central.process().has_ended(), "{what}: {}", self.central.process().log());
            if let Ok(passed) = told.try_recv() {
                return Some(Some(passed));
            }
            load.arrived.extend(self.central.pipeline.consume_new());
            let through = load.oracle.is_complete(&load.arrived) && self.node.packages().is_empty();
            through.then_some(None)
        })
    }

    /// Ends a connection that stays, or that is still to come.
    fn end(&self, told: &Receiver<Passed>) -> Passed {
        until::some("the connection ends", || {
            self.line.end_under_way();
            told.try_recv().ok()
        })
    }

    fn run(&mut self, run: u64, seed: Seed, cut: Option<Cut>) -> Passed {
        let what = format!("run {run} ({cut:?})");
        let mut load = Load { run, seed, oracle: Oracle::default(), arrived: Vec::new(), sent: 0 };
        (0..WAITING).for_each(|_| self.send(&mut load));
        let told = self.line.next(cut);
        let mut over = self.until_through(&what, &mut load, &told);
        while over.is_none() && load.sent < WAITING + LATER {
            self.send(&mut load);
            over = self.until_through(&what, &mut load, &told);
        }
        let passed = over.unwrap_or_else(|| self.end(&told));
        let told = self.line.next(None);
        let over = self.until_through(&format!("{what}, afterwards"), &mut load, &told);
        assert!(over.is_none(), "{what}: a connection that nobody cut ended: {over:?}");
        self.end(&told);
        load.arrived.extend(self.central.pipeline.consume_new());
        let verdict = load.oracle.judge(&load.arrived);
        assert!(verdict.is_clean(), "{what} ({passed:?}): {verdict}");
        passed
    }

    /// Nothing comes late.
    fn settle(mut self) {
        self.line.open();
        until::holds("the node is empty", || self.node.packages().is_empty());
        self.central.process().terminate();
        let verdict = self.all.judge(&self.central.pipeline.consume());
        assert!(verdict.is_clean(), "in the end: {verdict}");
    }
}

#[test]
fn a_connection_that_stays_and_is_cut_at_any_byte_loses_and_doubles_nothing() {
    let seed = Seed::from_environment();
    let lanes: Vec<Lane> = (0..LANES).map(|_| Lane::new()).collect();
    let mut first = Lane::new();
    let whole = first.run(99_999, seed.run(99_999), None).bytes;
    first.settle();
    let run = |lane: &mut Lane, run, cut| lane.run(run, seed.run(run), Some(cut)).cut;
    sweep(&Session::after(HANDSHAKE, whole), lanes, run, Lane::settle);
}
