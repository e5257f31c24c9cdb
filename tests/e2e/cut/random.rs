//! Random cuts, several connections at once: ends, resets, half-open connections, silence and pauses, of agents and of
//! the puller, plain and TLS, in bodies small and large.

use std::time::Duration;

use tidegate_tests::central::{Central, Mode, Site};
use tidegate_tests::certificates::Authority;
use tidegate_tests::cutter::{Cut, Cutter, How};
use tidegate_tests::node::Node;
use tidegate_tests::oracle::Oracle;
use tidegate_tests::seed::{Seed, runs};
use tidegate_tests::tap::From;
use tidegate_tests::until;

use super::Offer;

/// Lanes beside each other, each with a node and a server. Odd ones are pulled over relay.
const LANES: u64 = 4;

/// Cuts that hit one lane at the same time.
const TOGETHER: u64 = 10;

/// Those of them that hit the puller.
const OF_THE_PULLER: u64 = 4;

/// The least that a body has: the judge knows files by their bytes.
const UNIQUE: u64 = 16;

/// How long a connection that stays may take to the byte at which it is to be cut.
const SOON: Duration = Duration::from_millis(400);

/// How long a party bears silence.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

const NODE: &str = "[limits]\nidle = \"2s\"\nhandshake = \"2s\"";

const SERVER: &str =
    "sync_interval = \"5ms\"\nsync_backoff_max = \"20ms\"\nsync_retries = 1\nsync_timeout = \"2s\"";

struct Lane {
    mode: Mode,
    node: Node,
    central: Central,
    line: Cutter,
    oracle: Oracle,
}

impl Lane {
    fn new(mode: Mode) -> Lane {
        let authority = Authority::new();
        let node = Node::start(&authority, NODE);
        let line = Cutter::at(node.front(), node.address());
        let mut central = Central::new(&authority, &[Site::node("site", node.front()).over(mode)], SERVER);
        central.run();
        Lane { mode, node, central, line, oracle: Oracle::default() }
    }

    /// All cuts of one round.
    fn run(&mut self, round: u64, seed: &mut Seed) {
        let oracle = Oracle::default();
        let cuts: Vec<Cut> = (0..OF_THE_PULLER).map(|_| cut(seed)).collect();
        let senders: Vec<Seed> = (OF_THE_PULLER..TOGETHER).map(|index| seed.run(index)).collect();
        std::thread::scope(|scope| {
            for (index, mut seed) in senders.into_iter().enumerate() {
                let (oracle, all, address) = (&oracle, &self.oracle, self.node.address());
                scope.spawn(move || agent(&[oracle, all], address, &format!("r{round}-{index}"), &mut seed));
            }
            for &cut in &cuts {
                until_cut(cut, |cut| match self.mode {
                    Mode::Standing => self.line.serve_standing(Some(cut), SOON).cut,
                    _ => self.line.serve(Some(cut)).cut,
                });
            }
        });
        let mut arrived = Vec::new();
        until::holds(&format!("round {round}: everything arrives"), || {
            assert!(
                !self.central.process().has_ended(),
                "the server ended: {}",
                self.central.process().log()
            );
            arrived.extend(self.central.pipeline.consume_new());
            oracle.is_complete(&arrived)
        });
        until::holds(&format!("round {round}: the node is empty"), || self.node.packages().is_empty());
        arrived.extend(self.central.pipeline.consume_new());
        let verdict = oracle.judge(&arrived);
        assert!(verdict.is_clean(), "round {round} ({cuts:?}): {verdict}");
    }

    fn settle(mut self) {
        self.central.process().terminate();
        let verdict = self.oracle.judge(&self.central.pipeline.consume());
        assert!(verdict.is_clean(), "in the end: {verdict}");
    }
}

fn cut(seed: &mut Seed) -> Cut {
    let how = match seed.below(20) {
        0..7 => How::End,
        7..14 => How::Reset,
        14..16 => How::HalfEnd,
        16 => How::Silence,
        // Longer than anybody waits, or not.
        17 => How::Stall(PATIENCE + Duration::from_millis(500)),
        _ => How::Stall(Duration::from_millis(seed.below(200))),
    };
    let from = *seed.pick(&[From::Dialler, From::Listener]);
    // Handshakes, commands, bodies.
    let reach = *seed.pick(&[200, 3_000, 5_000, 50_000]);
    Cut { from, at: seed.below(reach), how }
}

/// Tries until a connection is long enough for the cut, which comes earlier each time.
fn until_cut(mut cut: Cut, mut attempt: impl FnMut(Cut) -> bool) {
    while !attempt(cut) {
        cut.at /= 2;
    }
}

/// Sends files over one line of its own, until the line was cut once and every file was stored.
fn agent(oracles: &[&Oracle], node: std::net::SocketAddr, label: &str, seed: &mut Seed) {
    let line = Cutter::new(node);
    let mut number = 0;
    until_cut(cut(seed), |cut| {
        number += 1;
        let name = format!("{label}-{number}.{}.data", if seed.once_in(4) { number } else { 1_700_000_000 });
        let size = (UNIQUE + seed.below(*seed.clone().pick(&[100, 4_000, 150_000]))) as usize;
        let bytes = seed.bytes(size);
        let offer = Offer { tls: seed.once_in(2), verb: "SEND", name: &name, body: &bytes };
        oracles.iter().for_each(|oracle| oracle.offer(&name, &bytes));
        let told = line.next(Some(cut));
        offer.until_stored(&line);
        oracles.iter().for_each(|oracle| oracle.acknowledge(&bytes));
        told.recv().expect("a connection took the plan").cut
    });
}

#[test]
fn random_cuts_of_several_connections_at_once_lose_and_double_nothing() {
    let seed = Seed::from_environment();
    let runs = runs(1_000);
    let rounds = runs.start / TOGETHER..runs.end.div_ceil(TOGETHER);
    std::thread::scope(|scope| {
        for number in 0..LANES {
            let (seed, rounds) = (&seed, rounds.clone());
            scope.spawn(move || {
                let mut lane = Lane::new(Mode::of(number));
                for round in rounds.filter(|round| round % LANES == number) {
                    lane.run(round, &mut seed.run(round));
                }
                lane.settle();
            });
        }
    });
}
