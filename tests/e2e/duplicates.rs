//! 3 in 10 sends are repeats: at once or late, in any order, from several senders, across pulls, deletions, restarts and
//! kills; beside them other bytes under taken names, equal bytes under other names, and names with and without a time.
//!
//! Of every send it is known beforehand whether it is a repeat or a package: a clock that only jumps makes it so. A run
//! is 500 sends in five phases. Between two phases the clock stays, or jumps beyond the window of names without a time,
//! or beyond that of all names; within a phase it goes on with the few real seconds. So the rules need no clock here:
//!
//! - A name with a time is a repeat while it is stored, and as long as the *week* of its deletion lasts.
//! - Another name is a repeat as long as the *quarter of an hour* of its newest arrival or deletion lasts.
//!
//! `TIDEGATE_RUNS` counts runs of 500 sends: 20 (10,000 sends) by default.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use tidegate_tests::central::{Central, Mode, Site};
use tidegate_tests::certificates::Authority;
use tidegate_tests::clock::WallClock;
use tidegate_tests::counts::Counts;
use tidegate_tests::node::Node;
use tidegate_tests::oracle::Arrival;
use tidegate_tests::scenarios::each;
use tidegate_tests::seed::{Seed, runs};
use tidegate_tests::sender::{Sender, send_until_stored};
use tidegate_tests::stock::{INSTALLED_FILTERS, Stock};
use tidegate_tests::until;

/// Lanes beside each other: two of them have windows of their own, and two are pulled over relay.
const LANES: [(&str, Mode); 4] =
    [("", Mode::Tentacle), ("", Mode::Standing), (SHORT, Mode::Tentacle), (SHORT, Mode::Scheduled)];

const SHORT: &str = "[duplicates]\ntimed = \"2d\"\nother = \"5m\"";

const PHASES: usize = 5;
const SENDS_A_PHASE: usize = 100;
const SENDERS: usize = 4;

/// Longer than the window of names without a time, and than that of all others.
const QUARTER: i64 = 16 * 60;
const WEEK: i64 = 8 * 86_400;

const SETTINGS: &str = "sync_interval = \"50ms\"\nsync_backoff_max = \"200ms\"\nsync_quiet = \"10ms\"";

/// What a sender has: a name, bytes, and whether the name holds a time.
#[derive(Debug, Clone)]
struct File {
    name: String,
    bytes: Vec<u8>,
    timed: bool,
}

/// What became of a file so far.
#[derive(Debug, Clone, Copy, Default)]
struct Fate {
    /// The week or quarter of its newest arrival or deletion.
    last: Option<u64>,
    stored: bool,
}

/// The clock of all processes of a lane, and the weeks and quarters that the rules know.
#[derive(Default)]
struct Time {
    clock: WallClock,
    ahead: i64,
    weeks: u64,
    quarters: u64,
}

impl Time {
    fn jump(&mut self, seed: &mut Seed) {
        let jump = *seed.pick(&[0, 0, QUARTER, QUARTER, WEEK]);
        self.ahead += jump;
        self.clock.set(self.ahead);
        self.quarters += u64::from(jump > 0);
        self.weeks += u64::from(jump == WEEK);
    }

    fn window(&self, file: &File) -> u64 {
        if file.timed { self.weeks } else { self.quarters }
    }
}

/// The files of a run, each with its fate.
#[derive(Default)]
struct Files(Vec<(File, Fate)>);

impl Files {
    /// A new file: of a name of its own, or of a name that another has.
    fn invent(&mut self, tag: &str, seed: &mut Seed) -> usize {
        let index = self.0.len();
        let (name, timed) = match self.0.len() {
            0 => (format!("{tag}-first.0.data"), false),
            taken if seed.once_in(4) => {
                let File { name, timed, .. } = &self.0[seed.below(taken as u64) as usize].0;
                (name.clone(), *timed)
            }
            _ if seed.once_in(2) => (format!("{tag}-{index}.{}.data", 1_700_000_000 + index), true),
            _ => (format!("{tag}-{index}.{}.data", seed.below(2) * 32_767), false),
        };
        let filler = if seed.once_in(20) { 20_000 } else { seed.below(300) as usize };
        let bytes = match seed.once_in(5) {
            // Others say the same.
            true => format!("{tag} says nothing, {} times", index / 4).into_bytes(),
            false => [format!("{tag}, {index} ").into_bytes(), seed.bytes(filler)].concat(),
        };
        self.0.push((File { name, bytes, timed }, Fate::default()));
        index
    }

    /// Sent at least once: whether that makes a package. Equal files under one name share their fate.
    fn sent(&mut self, index: usize, time: &Time, counts: &mut Counts) {
        let (file, _) = self.0[index].clone();
        let window = time.window(&file);
        let same = |other: &File| (&other.name, &other.bytes) == (&file.name, &file.bytes);
        let (_, fate) = self.0.iter_mut().find(|(other, _)| same(other)).expect("at least itself");
        let repeat = fate.last == Some(window) || (file.timed && fate.stored);
        if !repeat {
            counts.expect(&file.name, &file.bytes);
            *fate = Fate { last: Some(window), stored: true };
        }
    }

    fn pulled(&mut self, time: &Time) {
        for (file, fate) in self.0.iter_mut().filter(|(_, fate)| fate.stored) {
            *fate = Fate { last: Some(time.window(file)), stored: false };
        }
    }
}

struct Lane {
    node: Node,
    central: Central,
    time: Time,
    counts: Counts,
}

impl Lane {
    fn new(settings: &str, mode: Mode) -> Lane {
        let authority = Authority::of_a_century();
        let time = Time::default();
        let node = Node::start_under(&authority, settings, &time.clock.environment());
        let site = Site::node("site", node.address()).over(mode);
        let central = Central::new(&authority, &[site], SETTINGS);
        Lane { node, central, time, counts: Counts::default() }
    }

    fn run(&mut self, tag: &str, seed: &mut Seed) {
        let mut files = Files::default();
        for _ in 0..PHASES {
            self.time.jump(seed);
            // With a server that pulls meanwhile, no deletion may fall into another window than the arrival.
            let pulling = seed.once_in(2);
            if pulling || seed.once_in(2) {
                self.pull();
                files.pulled(&self.time);
            }
            if pulling {
                self.central.run_with(&self.time.clock.environment());
            }
            let mut sends: Vec<usize> = (0..SENDS_A_PHASE)
                .map(|send| match files.0.len() {
                    taken if send % 10 < 3 && taken > 0 => seed.below(taken as u64) as usize,
                    _ => files.invent(tag, seed),
                })
                .collect();
            (1..sends.len()).for_each(|last| sends.swap(last, seed.below(last as u64 + 1) as usize));
            self.send(&files, &sends, seed);
            sends.iter().for_each(|send| files.sent(*send, &self.time, &mut self.counts));
            if pulling {
                // It may die or end in the middle of anything.
                if seed.once_in(2) {
                    self.central.kill();
                } else {
                    self.central.process().terminate();
                }
                self.pull();
                files.pulled(&self.time);
            }
            if seed.once_in(3) {
                self.node.restart();
            }
        }
        self.pull();
        let verdict = self.counts.judge(&self.central.pipeline.consume());
        assert!(verdict.is_clean(), "run {tag}: {verdict}");
    }

    /// From several senders at once; the node may be killed and started again meanwhile.
    fn send(&mut self, files: &Files, sends: &[usize], seed: &mut Seed) {
        let stored = AtomicUsize::new(0);
        let kill_after = seed.once_in(3).then(|| seed.below(sends.len() as u64) as usize);
        let address = self.node.address();
        std::thread::scope(|scope| {
            for part in sends.chunks(sends.len().div_ceil(SENDERS)) {
                let (stored, mut seed) = (&stored, seed.clone());
                scope.spawn(move || {
                    let mut rest = part;
                    while !rest.is_empty() {
                        let (now, later) = rest.split_at(rest.len().min(1 + seed.below(20) as usize));
                        one_connection(address, now.iter().map(|send| &files.0[*send].0), stored);
                        rest = later;
                    }
                });
            }
            if let Some(after) = kill_after {
                until::holds("some files are stored", || stored.load(Ordering::SeqCst) >= after);
                self.node.restart();
            }
        });
    }

    /// Everything, to the proof that the node has deleted it.
    fn pull(&mut self) {
        let mut pull = self.central.pull(&self.time.clock.environment());
        assert!(pull.join().success(), "{}", pull.log());
        assert_eq!(self.node.packages().len(), 0, "the site is empty");
    }
}

/// Sends on one connection as long as it lives, then what is left as a patient agent does.
fn one_connection<'a>(address: SocketAddr, files: impl Iterator<Item = &'a File>, stored: &AtomicUsize) {
    let mut sender = Sender::connect(address).ok();
    for File { name, bytes, .. } in files {
        let reply = sender.as_mut().and_then(|sender| sender.send(name, bytes).ok());
        match reply.as_deref() {
            Some("SEND OK") => {}
            Some(refusal) => panic!("{name} is refused: {refusal}"),
            None => {
                sender = None;
                send_until_stored(address, name, bytes);
            }
        }
        stored.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn three_in_ten_sends_are_repeats_and_every_package_arrives_once() {
    let seed = Seed::from_environment();
    let runs = runs(20);
    std::thread::scope(|scope| {
        for (lane, (settings, mode)) in (0_u64..).zip(LANES) {
            let (seed, runs) = (&seed, runs.clone());
            scope.spawn(move || {
                let mut bench = Lane::new(settings, mode);
                for run in runs.filter(|run| run % LANES.len() as u64 == lane) {
                    bench.run(&format!("r{run}"), &mut seed.run(run));
                }
            });
        }
    });
}

/// A stock server knows no repeats: it refuses a taken name, or (`-o`) takes the last bytes. So the server alone tells.
#[test]
fn a_stock_site_s_repeats_are_told_by_the_server() {
    let seed = Seed::from_environment();
    let scenarios: Vec<u64> = (0..6).collect();
    each(&scenarios, |&scenario| {
        let mut seed = seed.run(scenario);
        let overwrites = scenario % 2 == 1;
        let mut options = vec!["-I", "-i", INSTALLED_FILTERS];
        options.extend(overwrites.then_some("-o"));
        let stock = Stock::start(&options);
        let central = Central::new(&Authority::new(), &[Site::plain("stock", stock.address())], SETTINGS);
        let (mut time, mut counts, mut files) = (Time::default(), Counts::default(), Files::default());
        let mut delivered: BTreeMap<(String, Vec<u8>), u64> = BTreeMap::new();
        for _ in 0..PHASES {
            time.jump(&mut seed);
            let mut there: BTreeMap<String, File> = BTreeMap::new();
            for send in 0..40 {
                let index = match files.0.len() {
                    taken if send % 10 < 3 && taken > 0 => seed.below(taken as u64) as usize,
                    _ => files.invent("s", &mut seed),
                };
                let file = &files.0[index].0;
                let mut sender = Sender::connect(stock.address()).expect("the stock server listens");
                let reply = sender.send(&file.name, &file.bytes).expect("the stock server answers");
                let taken = there.contains_key(&file.name) && !overwrites;
                assert_eq!(reply, if taken { "SEND ERR (file already exists)" } else { "SEND OK" });
                if !taken {
                    there.insert(file.name.clone(), file.clone());
                }
            }
            let mut pull = central.pull(&time.clock.environment());
            assert!(pull.join().success(), "{}", pull.log());
            assert_eq!(stock.files().len(), 0, "the site is empty");
            for file in there.into_values() {
                let before = delivered.insert((file.name.clone(), file.bytes.clone()), time.weeks);
                if !(file.timed && before == Some(time.weeks)) {
                    counts.expect(&file.name, &file.bytes);
                }
            }
        }
        let verdict = counts.judge(&central.pipeline.consume());
        assert!(verdict.is_clean(), "scenario {scenario}: {verdict}");
    });
}

/// Shared files are not packages: the last one put is the one served, whatever was there before.
#[test]
fn a_shared_file_that_changes_back_is_served_so() {
    let seed = Seed::from_environment();
    let mut node = Node::start_plain("overwrite = true");
    let contents = ["A", "B", "another configuration, and a longer one"];
    for run in 0..30 {
        let mut seed = seed.run(run);
        let name = *seed.pick(&["0123.conf", "0123.md5", "tools.zip"]);
        for bytes in ["A", "B", "A", *seed.pick(&contents), *seed.pick(&contents), "A"] {
            send_until_stored(node.address(), name, bytes.as_bytes());
            if seed.once_in(4) {
                node.restart();
            }
            let served = Sender::connect(node.address()).and_then(|mut sender| sender.fetch("RECV", name));
            let served = served.expect("the node answers").expect("it is there");
            assert_eq!(served, bytes.as_bytes(), "run {run}, {name}");
        }
    }
}

/// And a package that changes back is a package again, behind the others, as soon as the window allows to tell.
#[test]
fn a_package_that_changes_back_is_delivered_again_in_order() {
    let authority = Authority::of_a_century();
    each(
        &[(false, Mode::Tentacle), (true, Mode::Tentacle), (false, Mode::Standing), (true, Mode::Standing)],
        |&(pulled, mode)| {
            let clock = WallClock::new();
            let node = Node::start_under(&authority, "", &clock.environment());
            let central = Central::new(&authority, &[Site::node("site", node.address()).over(mode)], "");
            let pull = || {
                let mut pull = central.pull(&clock.environment());
                assert!(pull.join().success(), "{}", pull.log());
                central.pipeline.consume()
            };
            for (times, bytes) in (0..).zip(["A", "B", "A", "C", "B"]) {
                clock.set(times * QUARTER);
                send_until_stored(node.address(), "host.0.data", bytes.as_bytes());
                if pulled {
                    pull();
                }
            }
            let arrivals: Vec<Arrival> = pull();
            let order: Vec<_> =
                arrivals.iter().map(|arrival| String::from_utf8_lossy(&arrival.bytes)).collect();
            assert_eq!(order, ["A", "B", "A", "C", "B"], "{mode:?}, pulled between: {pulled}");
            let times: Vec<SystemTime> = arrivals.iter().map(|arrival| arrival.modified).collect();
            assert!(times.is_sorted(), "{times:?}");
        },
    );
}
