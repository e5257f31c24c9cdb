//! Kill -9 of the node or the server at any moment of 200 seeded runs, then restart: every acknowledged file arrives
//! once, whole, and nothing else arrives.
//!
//! The moment is a byte: taps on both sides of the node count what passes and strike before a chosen byte goes on, so a
//! seed repeats a run as far as threads allow. The lanes have a node, a server and a pipeline each, which live on
//! from run to run: a run also meets what the runs before left behind. Odd lanes are pulled over relay.
//!
//! `TIDEGATE_SEED=n` repeats, `TIDEGATE_FROM=n` and `TIDEGATE_RUNS=n` make other runs than the first 200.

use std::sync::Arc;
use std::time::Duration;

use tidegate_tests::central::{Central, Mode, Site};
use tidegate_tests::certificates::Authority;
use tidegate_tests::node::Node;
use tidegate_tests::oracle::Oracle;
use tidegate_tests::scenarios::each;
use tidegate_tests::seed::{Seed, runs};
use tidegate_tests::sender::Sender;
use tidegate_tests::tap::{From, Fuse, Tap};
use tidegate_tests::{files, until};

/// Lanes beside each other: two for each core of a small CI machine, so that each way of pulling has one.
const LANES: u64 = 4;

/// How long a run's senders and pulls go on before a fuse that no byte reached is put out: then the kill hits idling
/// processes, which is a moment too.
const LONGEST_BURN: Duration = Duration::from_millis(300);

const SETTINGS: &str = "sync_interval = \"100ms\"\nsync_backoff_max = \"200ms\"";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Node,
    Server,
    Both,
}

/// One node and one server, a tap on either side of the node.
struct Lane {
    node: Node,
    central: Central,
    oracle: Arc<Oracle>,
    agents: Tap,
    agents_fuse: Arc<Fuse>,
    pulls: Tap,
    pulls_fuse: Arc<Fuse>,
}

impl Lane {
    fn new(mode: Mode) -> Lane {
        let authority = Authority::new();
        let node = Node::start(&authority, "");
        let [agents_fuse, pulls_fuse] = [Arc::<Fuse>::default(), Arc::<Fuse>::default()];
        let fuse = Arc::clone(&agents_fuse);
        let agents = Tap::new(node.address(), move |chunk| fuse.pass(chunk));
        let fuse = Arc::clone(&pulls_fuse);
        let pulls = Tap::at(node.front(), node.address(), move |chunk| fuse.pass(chunk));
        let site = Site::node("site", node.front()).over(mode);
        let mut central = Central::new(&authority, &[site], SETTINGS);
        central.run();
        let oracle = Arc::default();
        Lane { node, central, oracle, agents, agents_fuse, pulls, pulls_fuse }
    }

    fn run(&mut self, name: &str, seed: &mut Seed) {
        let victim = *seed.pick(&[Victim::Node, Victim::Server, Victim::Both]);
        let files = (0..2 + seed.below(8)).map(|index| {
            let filler = (64 + seed.below(20_000)) as usize;
            // Some senders reuse names for other bytes; and the number is a time, or it is not.
            let number = if seed.once_in(5) { 0 } else { index };
            let time = if number % 2 == 0 { 0 } else { 1_700_000_000 };
            (format!("{name}-{number}.{}.data", time + number), seed.bytes(filler))
        });
        let files: Vec<(String, Vec<u8>)> = files.collect();
        let volume: u64 = files.iter().map(|(_, bytes)| bytes.len() as u64 + 100).sum();

        let strike = self.killer(victim);
        // Where the byte lies that the kill comes before. A little more than each side usually says, so that it may also lie
        // in repeats and in the idling after them.
        let count = files.len() as u64;
        let (at_agents, from, usual) = *seed.pick(&[
            (true, From::Dialler, volume),
            (true, From::Listener, count * 16),
            (false, From::Dialler, 2_000 + count * 100),
            (false, From::Listener, 3_000 + volume),
        ]);
        let reach = seed.below(usual + usual / 8);
        let (fuse, tap) = match at_agents {
            true => (Arc::clone(&self.agents_fuse), &self.agents),
            false => (Arc::clone(&self.pulls_fuse), &self.pulls),
        };
        fuse.light(from, tap.passed(from) + reach, strike);

        std::thread::scope(|scope| {
            for half in files.chunks(files.len().div_ceil(2)) {
                let (oracle, address) = (Arc::clone(&self.oracle), self.agents.address());
                let again = Duration::from_millis(*seed.pick(&[5, 50, 400]));
                scope.spawn(move || {
                    half.iter().for_each(|(name, bytes)| store(&oracle, address, name, bytes, again));
                });
            }
            let start = std::time::Instant::now();
            while fuse.is_lit() && start.elapsed() < LONGEST_BURN {
                until::pause(Duration::from_millis(5));
            }
            if fuse.put_out() {
                self.killer(victim)();
            }
            // The senders go on asking meanwhile.
            if victim != Victim::Server {
                self.node.restart();
            }
            if victim != Victim::Node {
                self.central.run();
            }
        });
        let what = format!("run {name} ({victim:?}): every acknowledged file arrives");
        until::holds(&what, || self.oracle.is_complete(&self.central.pipeline.consume()));
        let verdict = self.oracle.judge(&self.central.pipeline.consume());
        assert!(
            verdict.is_clean(),
            "run {name} ({victim:?} at byte {reach} of {from:?}, agents' side {at_agents}): {verdict}"
        );
    }

    fn killer(&mut self, victim: Victim) -> impl Fn() + Send + 'static {
        let node = (victim != Victim::Server).then(|| self.node.process().killer());
        let server = (victim != Victim::Node).then(|| self.central.process().killer());
        move || {
            node.iter().for_each(|kill| kill());
            server.iter().for_each(|kill| kill());
        }
    }

    /// Nothing comes late, and nothing is left behind.
    fn settle(&mut self) {
        until::holds("the node is empty", || self.node.packages().is_empty());
        self.central.process().terminate();
        let verdict = self.oracle.judge(&self.central.pipeline.consume());
        assert!(verdict.is_clean(), "in the end: {verdict}");
        let mut left = files::below(self.central.pipeline.directory());
        // The mark that ties the staging directory to its ledger stays, and what a kill in the middle of a transaction
        // made the server set aside.
        left.retain(|path| {
            !path.ends_with(".tidegate/ledger-id") && path.extension().is_none_or(|ending| ending != "aside")
        });
        assert!(left.is_empty(), "left in the pipeline's directory: {left:?}");
        let left = self.node.files();
        assert!(left.is_empty(), "left on the node: {left:?}");
    }
}

/// What a patient agent does: the same file again, after a while, until it is stored. After a long while the first copy,
/// whose `OK` was lost, has been pulled already.
fn store(oracle: &Oracle, address: std::net::SocketAddr, name: &str, bytes: &[u8], again: Duration) {
    oracle.offer(name, bytes);
    until::holds(&format!("{name} is stored"), || {
        match Sender::connect(address).and_then(|mut sender| sender.send(name, bytes)).as_deref() {
            Ok("SEND OK") => true,
            Ok(refusal) => panic!("{name} is refused: {refusal}"),
            Err(_) => {
                until::pause(again);
                false
            }
        }
    });
    oracle.acknowledge(bytes);
}

#[test]
fn acknowledged_files_survive_kills_at_any_moment() {
    let seed = Seed::from_environment();
    let runs = runs(200);
    std::thread::scope(|scope| {
        for lane in 0..LANES {
            let (seed, runs) = (&seed, runs.clone());
            scope.spawn(move || {
                let mut bench = Lane::new(Mode::of(lane));
                for run in runs.filter(|run| run % LANES == lane) {
                    bench.run(&format!("r{run}"), &mut seed.run(run));
                }
                bench.settle();
            });
        }
    });
}

#[test]
fn a_death_between_any_two_steps_of_the_server_repeats_work_and_nothing_else() {
    deaths(
        Mode::Tentacle,
        &[
            "after-recv:1",
            "after-recv:2",
            "after-recv-staged:1",
            "after-committed:1",
            "after-rename:1",
            "after-rename:2",
            "after-dirsync:1",
            "after-delivered:1",
            "after-mv:1",
            "after-mv:2",
            "after-released:1",
        ],
    );
}

#[test]
fn a_death_between_any_two_steps_of_the_server_over_relay_repeats_work_and_nothing_else() {
    for mode in [Mode::Standing, Mode::Scheduled] {
        deaths(
            mode,
            &[
                "after-relayed-staged:1",
                "after-relayed-committed:1",
                "after-rename:1",
                "after-rename:2",
                "after-dirsync:1",
                "after-relayed-delivered:1",
                "after-released:1",
            ],
        );
    }
}

fn deaths(mode: Mode, steps: &[&str]) {
    let authority = Authority::new();
    each(steps, |step| {
        let node = Node::start(&authority, "");
        let oracle = Oracle::default();
        for number in 0..3 {
            let (name, bytes) =
                (format!("web{number}.170000000{number}.data"), format!("{step}, file {number}"));
            store(&oracle, node.address(), &name, bytes.as_bytes(), Duration::ZERO);
        }
        let site = Site::node("site", node.address()).over(mode);
        let mut central = Central::new(&authority, &[site], SETTINGS);
        central.run_with(&[("TIDEGATE_CRASH_AT", step)]);
        assert!(!central.process().join().success(), "{step}: it died");
        // The data server does not wait for the restart.
        central.pipeline.consume();
        central.run();
        until::holds(&format!("{step}: everything arrives"), || {
            oracle.is_complete(&central.pipeline.consume())
        });
        until::holds(&format!("{step}: the node is empty"), || node.packages().is_empty());
        central.process().terminate();
        let verdict = oracle.judge(&central.pipeline.consume());
        assert!(verdict.is_clean(), "{step}: {verdict}");
    });
}
