//! Every byte of a pull over TLS, by Tentacle commands and over relay: handshake, three packages, their deletion.

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

/// In a session.
const FILES: usize = 3;

/// What a session without packages says after its handshake, and a little more: bytes so far before its end belong to the
/// handshake.
const AFTER_HANDSHAKE: [(Mode, u64); 2] = [(Mode::Tentacle, 160), (Mode::Scheduled, 700)];

/// A node, a server, and the cut line between them.
struct Lane {
    node: Node,
    central: Central,
    line: Cutter,
    /// All that was ever sent here.
    all: Oracle,
    /// What the next session finds at the node.
    load: Option<Load>,
}

struct Load {
    oracle: Oracle,
    arrived: Vec<Arrival>,
}

impl Lane {
    fn new(mode: Mode) -> Lane {
        let authority = Authority::new();
        let node = Node::start(&authority, "");
        let line = Cutter::at(node.front(), node.address());
        line.hold();
        let mut central = Central::new(&authority, &[Site::node("site", node.front()).over(mode)], EAGER);
        central.run();
        Lane { node, central, line, all: Oracle::default(), load: None }
    }

    fn fill(&mut self, run: u64, seed: &mut Seed) -> Load {
        let oracle = Oracle::default();
        let mut sender = Sender::connect(self.node.address()).expect("the node listens");
        for index in 0..FILES {
            let (name, bytes) = (format!("r{run:05}.170000000{index}.data"), seed.bytes(30 + index));
            assert_eq!(sender.send(&name, &bytes).expect("nobody cuts this"), "SEND OK");
            oracle.expect(&name, &bytes);
            self.all.expect(&name, &bytes);
        }
        Load { oracle, arrived: Vec::new() }
    }

    /// One session, cut, and as many after it as it takes; except that a load nobody has touched stays for the next one.
    fn run(&mut self, run: u64, seed: &mut Seed, cut: Option<Cut>, handshake: [u64; 2]) -> Passed {
        let mut load = match self.load.take() {
            Some(load) => load,
            None => self.fill(run, seed),
        };
        let passed = self.line.serve(cut);
        load.arrived.extend(self.central.pipeline.consume_new());
        let in_handshake = (0..2).all(|side| passed.bytes[side] < handshake[side]);
        if in_handshake && load.arrived.is_empty() && self.node.packages().len() == FILES {
            self.load = Some(load);
            return passed;
        }
        until::holds(&format!("run {run} ({cut:?}): the node is empty"), || {
            assert!(
                !self.central.process().has_ended(),
                "the server ended: {}",
                self.central.process().log()
            );
            self.node.packages().is_empty() || {
                self.line.serve(None);
                false
            }
        });
        load.arrived.extend(self.central.pipeline.consume_new());
        let verdict = load.oracle.judge(&load.arrived);
        assert!(verdict.is_clean(), "run {run} ({cut:?}, {passed:?}): {verdict}");
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
fn a_pull_that_is_cut_at_any_byte_loses_and_doubles_nothing() {
    all_bytes(AFTER_HANDSHAKE[0]);
}

#[test]
fn a_pull_over_relay_that_is_cut_at_any_byte_loses_and_doubles_nothing() {
    all_bytes(AFTER_HANDSHAKE[1]);
}

fn all_bytes((mode, after_handshake): (Mode, u64)) {
    let seed = Seed::from_environment();
    let lanes: Vec<Lane> = (0..LANES).map(|_| Lane::new(mode)).collect();
    let mut first = Lane::new(mode);
    let idle = first.line.serve(None).bytes;
    let handshake = idle.map(|bytes| bytes.saturating_sub(after_handshake));
    let session = Session::new(first.run(99_999, &mut seed.run(99_999), None, handshake).bytes);
    first.settle();
    let run = |lane: &mut Lane, run, cut| lane.run(run, &mut seed.run(run), Some(cut), handshake).cut;
    sweep(&session, lanes, run, Lane::settle);
}
