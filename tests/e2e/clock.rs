//! Wall clocks that jump by ten years, by days, by seconds, while files are sent and pulled: at the node, at the server,
//! at both by different amounts.
//!
//! What must hold, whatever the clocks say:
//! - Every acknowledged file arrives. Every file arrives once, as long as one end's clock can tell that it is a repeat:
//!   a name with a time is recognised by the node's record of deletions, or else by the server's ledger, each within
//!   7 days of its own clock. Only a jump at both ends, or at the node for a name without a time, lets one come again.
//! - No connection is given up: waits are measured by a clock that does not jump.
//! - A file's time in the pipeline is the time in its name, or one that the server's clock showed; over relay it is one that
//!   the node's clock showed when the file arrived there.
//! - A clock that was wrong swallows nothing once it is right again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tidegate_tests::central::{Central, Mode, Site};
use tidegate_tests::certificates::Authority;
use tidegate_tests::clock::{TEN_YEARS, WallClock};
use tidegate_tests::node::Node;
use tidegate_tests::oracle::{Arrival, Oracle};
use tidegate_tests::scenarios::each;
use tidegate_tests::seed::{Seed, runs};
use tidegate_tests::sender::Sender;
use tidegate_tests::tap::{From, Tap, Verdict};
use tidegate_tests::{files, until};

/// Lanes beside each other. Odd ones are pulled over relay.
const LANES: u64 = 4;

const SETTINGS: &str = "sync_interval = \"100ms\"\nsync_backoff_max = \"200ms\"";

/// Where a clock jumps to, in seconds ahead of the right time.
const JUMPS: [i64; 12] = [
    TEN_YEARS,
    TEN_YEARS,
    -TEN_YEARS,
    -TEN_YEARS,
    8 * 86_400,
    -8 * 86_400,
    -3 * 3_600,
    1_200,
    -1_200,
    -5,
    -1,
    0,
];

/// How far the times of a file may lie off a clock that was read meanwhile.
const GRACE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Node,
    Server,
    Both,
}

/// A clock, and all that it was set to since the last look.
struct Hand {
    clock: WallClock,
    shown: Mutex<Vec<i64>>,
}

impl Hand {
    fn new() -> Hand {
        Hand { clock: WallClock::new(), shown: Mutex::new(vec![0]) }
    }

    fn set(&self, ahead: i64) {
        self.clock.set(ahead);
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).push(ahead);
    }

    /// What it showed; from now on only the last counts.
    fn shown(&self) -> Vec<i64> {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let last = *shown.last().expect("it always shows something");
        std::mem::replace(&mut *shown, vec![last])
    }
}

/// Jumps that wait for their byte of what the server receives.
type Plan = Arc<Mutex<Vec<(u64, Arc<Hand>, i64)>>>;

/// A node and a server under clocks of their own.
struct Lane {
    mode: Mode,
    node: Node,
    central: Central,
    oracle: Oracle,
    hands: [Arc<Hand>; 2],
    pulls: Tap,
    plan: Plan,
    /// How many arrivals were looked at.
    seen: usize,
}

impl Lane {
    fn new(mode: Mode) -> Lane {
        let authority = Authority::of_a_century();
        let hands = [Arc::new(Hand::new()), Arc::new(Hand::new())];
        let [at_node, at_server] = hands.each_ref().map(|hand| hand.clock.environment());
        let node = Node::start_under(&authority, "", &at_node);
        let plan = Plan::default();
        let due = Arc::clone(&plan);
        let pulls = Tap::at(node.front(), node.address(), move |chunk| {
            let end = chunk.before + chunk.bytes.len() as u64;
            if chunk.from == From::Listener {
                let mut plan = due.lock().unwrap_or_else(PoisonError::into_inner);
                plan.extract_if(.., |(at, ..)| *at < end).for_each(|(_, hand, ahead)| hand.set(ahead));
            }
            Verdict::Pass
        });
        let mut central = Central::new(&authority, &[Site::node("site", node.front()).over(mode)], SETTINGS);
        central.run_with(&at_server);
        Lane { mode, node, central, oracle: Oracle::default(), hands, pulls, plan, seen: 0 }
    }

    fn run(&mut self, name: &str, seed: &mut Seed) {
        let who = *seed.pick(&[Who::Node, Who::Server, Who::Both]);
        let [node, server] = &self.hands;
        let jumping = &match who {
            Who::Node => vec![Arc::clone(node)],
            Who::Server => vec![Arc::clone(server)],
            Who::Both => vec![Arc::clone(node), Arc::clone(server)],
        };
        let start = SystemTime::now();
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).clear();
        // Of what the server receives; it also lists when there is nothing to pull, so that most of these bytes come.
        for _ in 0..1 + seed.below(3) {
            let at = self.pulls.passed(From::Listener) + seed.below(20_000);
            let jump = (at, Arc::clone(seed.pick(jumping)), *seed.pick(&JUMPS));
            self.plan.lock().unwrap_or_else(PoisonError::into_inner).push(jump);
        }

        for index in 0..3 + seed.below(6) {
            let timed = seed.once_in(2);
            let number = if timed { epoch(start) - 60 + index } else { index };
            let (file, bytes) = (format!("{name}-{index}.{number}.data"), format!("{name}, {index}"));
            let jump = |seed: &mut Seed| seed.once_in(2).then(|| (&**seed.pick(jumping), *seed.pick(&JUMPS)));
            self.send(&file, bytes.as_bytes(), jump(seed));
            for _ in 0..seed.below(3) {
                // The node's clock lets go of a name without a time, both together of any.
                if who == Who::Both || (who == Who::Node && !timed) {
                    self.oracle.may_come_again(bytes.as_bytes());
                }
                until::pause(Duration::from_millis(*seed.pick(&[0, 0, 20, 150])));
                self.send(&file, bytes.as_bytes(), jump(seed));
            }
        }
        let what = format!("run {name} ({who:?}): every acknowledged file arrives");
        until::holds(&what, || self.oracle.is_complete(&self.central.pipeline.consume()));
        until::holds(&format!("{what}, and is deleted at the node"), || self.node.packages().is_empty());
        let arrivals = self.central.pipeline.consume();
        let verdict = self.oracle.judge(&arrivals);
        assert!(verdict.is_clean(), "run {name} ({who:?}): {verdict}");

        let mut shown = server.shown();
        if self.mode != Mode::Tentacle {
            shown.extend(node.shown());
        }
        let times = (start - GRACE, SystemTime::now() + GRACE);
        for arrival in &arrivals[self.seen..] {
            assert!(is_sane(arrival, &shown, times), "run {name} ({who:?}), {shown:?}: {arrival:?}");
        }
        self.seen = arrivals.len();
        let at_server = server.clock.environment();
        let status = self.central.command(&["status"]).envs(at_server).output().expect("it starts");
        assert!(status.status.success(), "run {name}: {}", String::from_utf8_lossy(&status.stderr));
    }

    /// On one connection, with a jump in the middle of the body, or not. It succeeds at the first try.
    fn send(&self, name: &str, bytes: &[u8], jump: Option<(&Hand, i64)>) {
        self.oracle.offer(name, bytes);
        let mut sender = Sender::connect(self.node.address()).expect("the node listens");
        let offered = sender.ask(&format!("SEND <{name}> SIZE {}", bytes.len()));
        assert_eq!(offered.ok().as_deref(), Some("SEND OK"), "{name}");
        let (half, rest) = bytes.split_at(bytes.len() / 2);
        sender.say(half).expect("the node takes it");
        if let Some((hand, ahead)) = jump {
            hand.set(ahead);
        }
        sender.say(rest).expect("the node takes it");
        assert_eq!(sender.line().expect("an answer").as_deref(), Some("SEND OK"), "{name}");
        self.oracle.acknowledge(bytes);
    }

    /// The clocks are right again; nothing comes late, and nothing is left behind.
    fn settle(&mut self) {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.hands.iter().for_each(|hand| hand.set(0));
        self.send("right.0.data", b"at the right time", None);
        until::holds("it goes on", || self.oracle.is_complete(&self.central.pipeline.consume()));
        until::holds("the node is empty", || self.node.packages().is_empty());
        self.central.process().terminate();
        let verdict = self.oracle.judge(&self.central.pipeline.consume());
        assert!(verdict.is_clean(), "in the end: {verdict}");
        let mut left = files::below(self.central.pipeline.directory());
        left.retain(|path| !path.ends_with(".tidegate/ledger-id"));
        assert!(left.is_empty(), "left in the pipeline's directory: {left:?}");
        assert!(self.node.packages().is_empty());
    }
}

fn epoch(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs()
}

/// Whether a file's time is the one in its name, or one that the server's clock may have shown meanwhile.
fn is_sane(arrival: &Arrival, shown: &[i64], (start, end): (SystemTime, SystemTime)) -> bool {
    let modified = epoch(arrival.modified) as i64;
    let number = arrival.name.rsplit('.').nth(1).and_then(|number| number.parse::<i64>().ok());
    let possible = epoch(start) as i64..=epoch(end) as i64;
    number == Some(modified) || shown.iter().any(|ahead| possible.contains(&(modified - ahead)))
}

#[test]
fn files_survive_clocks_that_jump() {
    let seed = Seed::from_environment();
    let runs = runs(20);
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

/// The same name without a time, and the same bytes: sent while the clock is wrong, and again when it is right.
#[test]
fn a_clock_that_was_wrong_swallows_nothing_once_it_is_right() {
    let authority = Authority::of_a_century();
    let scenarios = [
        (TEN_YEARS, 0, true),
        (TEN_YEARS, 0, false),
        (-TEN_YEARS, 0, true),
        (-TEN_YEARS, 0, false),
        (0, TEN_YEARS, true),
        (TEN_YEARS, -TEN_YEARS, true),
        (TEN_YEARS, -TEN_YEARS, false),
        (2 * 3_600, 0, true),
    ];
    each(&scenarios, |&(before, after, pulled)| {
        let clock = WallClock::new();
        let environment = clock.environment();
        let mut node = Node::start_under(&authority, "", &environment);
        let central = Central::new(&authority, &[Site::node("site", node.address())], "");
        let pull = || {
            let mut pull = central.pull(&environment);
            assert!(pull.join().success(), "{}", pull.log());
        };
        let send = || {
            let reply =
                Sender::connect(node.address()).and_then(|mut sender| sender.send("host.0.data", b"same"));
            assert_eq!(reply.expect("the node answers"), "SEND OK");
        };
        let oracle = Oracle::default();
        oracle.expect_times("host.0.data", b"same", 2);
        clock.set(before);
        send();
        send();
        if pulled {
            pull();
        }
        clock.set(after);
        send();
        send();
        node.restart();
        pull();
        let verdict = oracle.judge(&central.pipeline.consume());
        assert!(verdict.is_clean(), "{before} then {after}, pulled between: {pulled}: {verdict}");
    });
}

/// Certificates are valid for a while, by the clock of the end that looks. Beyond that nothing is pulled, the log says
/// why, and nobody has to do anything but to set the clock.
#[test]
fn a_clock_beyond_the_certificates_stops_the_pull_with_words_and_only_until_it_is_right() {
    let authority = Authority::new();
    let scenarios = [
        (Who::Server, TEN_YEARS, "expired on"),
        (Who::Server, -TEN_YEARS, "is not valid before"),
        (Who::Node, TEN_YEARS, "expired, or not valid yet by its clock"),
        (Who::Node, -TEN_YEARS, "expired, or not valid yet by its clock"),
    ];
    each(&scenarios, |&(who, ahead, words)| {
        let clock = WallClock::new();
        let environment = clock.environment();
        let (at_node, at_server) = match who {
            Who::Node => (&environment[..], &[][..]),
            _ => (&[][..], &environment[..]),
        };
        let node = Node::start_under(&authority, "", at_node);
        let mut central = Central::new(&authority, &[Site::node("site", node.address())], SETTINGS);
        central.run_with(at_server);
        let oracle = Oracle::default();
        let send = |name: &str| {
            let reply =
                Sender::connect(node.address()).and_then(|mut sender| sender.send(name, name.as_bytes()));
            assert_eq!(reply.expect("the node answers"), "SEND OK");
            oracle.expect(name, name.as_bytes());
        };
        send("before.1.data");
        until::holds("the first file arrives", || oracle.is_complete(&central.pipeline.consume()));
        clock.set(ahead);
        central.process().wait_for_line(&[words]);
        send("meanwhile.2.data");
        clock.set(0);
        until::holds("the second file arrives", || oracle.is_complete(&central.pipeline.consume()));
        until::holds("the node is empty", || node.packages().is_empty());
        let verdict = oracle.judge(&central.pipeline.consume());
        assert!(verdict.is_clean(), "{who:?} by {ahead}: {verdict}");
    });
}
