//! Spools that are restored from a copy, cloned, replaced and brought back, at random moments between sends and pulls.
//!
//! - Nothing is lost but what lay only on a disk that is gone.
//!
//! Over relay (odd runs) every package has its number, and that decides:
//!
//! - A number arrives once, whichever copy it comes from, whenever, and from whichever site.
//! - Equal files under other numbers are packages of their own, but for names with a time within 7 days.
//!
//! Over Tentacle (even runs) the server sees of a package its listed name and its bytes. So no more can hold than this:
//!
//! - What no copy contained arrives once.
//! - What a copy contained and the server had delivered before does not arrive again if its name holds a time and the
//!   delivery is at most 7 days ago. Otherwise it arrives at most once more for each copy that still has it.
//! - A name without a time that is sent again later than the node's 15 minutes is a package of its own, with a listed
//!   name of its own while an equal one is there: of those that lie beside each other in a spool each arrives.
//! - Two sites are two sites: what a clone contained may arrive once from each.

mod numbers;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use numbers::{Number, Numbers, held};
use tempfile::TempDir;
use tidegate_tests::central::{Central, Mode, Site};
use tidegate_tests::certificates::Authority;
use tidegate_tests::clock::WallClock;
use tidegate_tests::node::Node;
use tidegate_tests::oracle::{Digest, Oracle, digest};
use tidegate_tests::scenarios::each;
use tidegate_tests::seed::{Seed, runs};
use tidegate_tests::sender::send_until_stored;

const SETTINGS: &str = "sync_retries = 1\nsync_backoff_max = \"200ms\"";

/// Beyond every window of the node and of the server.
const WEEK: i64 = 8 * 86_400;

/// Where a pull dies, if it gets there.
const DEATHS: [&str; 6] = [
    "after-recv:2",
    "after-committed:1",
    "after-rename:2",
    "after-delivered:1",
    "after-mv:2",
    "after-released:1",
];

#[derive(Debug, Clone)]
struct File {
    name: String,
    bytes: Vec<u8>,
    timed: bool,
}

/// One site: the spool in use, others on the shelf, and what is known of all files.
struct Bench {
    node: Node,
    central: Central,
    oracle: Oracle,
    clock: WallClock,
    weeks: i64,
    shelf: TempDir,
    parked: Vec<PathBuf>,
    made: usize,
    files: HashMap<Digest, File>,
    /// In which week each file was first seen in the pipeline, or last after it was allowed to come again.
    delivered: HashMap<Digest, i64>,
    /// Held by the spool in use when the server last dealt with it, without an end: it knows these.
    known: BTreeMap<Number, Digest>,
    /// Over relay: what the server met.
    numbers: Option<Numbers>,
}

impl Bench {
    fn new(authority: &Authority, mode: Mode) -> Bench {
        let clock = WallClock::new();
        let node = Node::start_under(authority, "", &clock.environment());
        let site = Site::node("site", node.address()).over(mode);
        let central = Central::new(authority, &[site], SETTINGS);
        Bench {
            node,
            central,
            oracle: Oracle::default(),
            clock,
            weeks: 0,
            shelf: tempfile::tempdir().expect("a temporary directory"),
            parked: Vec::new(),
            made: 0,
            files: HashMap::new(),
            delivered: HashMap::new(),
            known: BTreeMap::new(),
            numbers: (mode != Mode::Tentacle).then(Numbers::default),
        }
    }

    fn run(&mut self, run: u64, seed: &mut Seed) {
        for _ in 0..8 + seed.below(8) {
            match seed.below(12) {
                0..=3 => self.send(seed),
                4..=5 => _ = self.pull(None),
                6 => _ = self.pull(Some(*seed.pick(&DEATHS))),
                7 => self.copy(seed),
                8 => self.change(seed),
                9 => self.lose(seed),
                10 => self.repeat(seed),
                _ => {
                    self.weeks += i64::from(seed.once_in(2));
                    self.clock.set(self.weeks * WEEK);
                }
            }
        }
        // Every spool that is left gives what it has.
        self.empty();
        for next in std::mem::take(&mut self.parked) {
            self.park();
            self.install(&next);
            self.empty();
        }
        let arrivals = self.central.pipeline.consume();
        let mut verdict = self.oracle.judge(&arrivals);
        if let Some(numbers) = &self.numbers {
            let numbered = numbers.judge(&arrivals);
            verdict.lost.extend(numbered.lost);
            verdict.doubled = numbered.doubled;
        }
        assert!(verdict.is_clean(), "run {run}: {verdict}");
    }

    fn invent(&mut self, seed: &mut Seed) -> File {
        self.made += 1;
        let timed = seed.once_in(2);
        let number = if timed { 1_700_000_000 + self.made } else { self.made % 3 };
        let agent = if timed { self.made } else { self.made % 5 };
        let bytes = format!("file {}, {}", self.made, seed.number()).into_bytes();
        let file = File { name: format!("host-{agent}-{timed}.{number}.data"), bytes, timed };
        self.oracle.offer(&file.name, &file.bytes);
        self.files.insert(digest(&file.bytes), file.clone());
        file
    }

    fn store(&self, file: &File) {
        send_until_stored(self.node.address(), &file.name, &file.bytes);
        self.oracle.acknowledge(&file.bytes);
    }

    fn send(&mut self, seed: &mut Seed) {
        for _ in 0..1 + seed.below(8) {
            let file = self.invent(seed);
            self.store(&file);
        }
    }

    /// Somebody sends again what was sent before, to whatever spool is there now.
    fn repeat(&mut self, seed: &mut Seed) {
        let mut all: Vec<&File> = self.files.values().collect();
        all.sort_by(|a, b| a.bytes.cmp(&b.bytes));
        if let Some(file) = (!all.is_empty()).then(|| (*seed.pick(&all)).clone()) {
            self.store(&file);
        }
    }

    /// One pull, to its end or to its death. Before it, what may come again of what the spool holds is made known.
    fn pull(&mut self, death: Option<&str>) -> bool {
        self.look();
        let numbered = held(&self.node.storage());
        let (files, delivered, week) = (&self.files, &mut self.delivered, self.weeks);
        if let Some(numbers) = &mut self.numbers {
            let is_repeat = |file: &Digest| {
                let last = delivered.get_mut(file).map(|last| std::mem::replace(last, week));
                files[file].timed && last == Some(week)
            };
            numbers.met(&numbered, |file| files[file].timed, is_repeat);
        }
        for (number, file) in &numbered {
            if self.known.contains_key(number) {
                continue;
            }
            let timed = files[file].timed;
            // The node stored an equal one as a package of its own, and the server may not have delivered either yet.
            let is_beside = !timed && self.known.values().any(|known| known == file);
            let last = delivered.get_mut(file);
            let comes_again = last.as_ref().map_or(is_beside, |last| !timed || **last != week);
            if self.numbers.is_none() && comes_again {
                self.oracle.may_come_again(&files[file].bytes);
                last.into_iter().for_each(|last| *last = week);
            }
            self.known.insert(number.clone(), *file);
        }
        let mut environment = self.clock.environment().to_vec();
        environment.extend(death.map(|step| ("TIDEGATE_CRASH_AT", step)));
        let mut pull = self.central.pull(&environment);
        let whole = pull.join().success();
        assert!(whole || death.is_some(), "{}", pull.log());
        if whole {
            assert_eq!(self.node.packages().len(), 0, "the site is empty");
            self.known.clear();
            self.numbers.iter_mut().for_each(|numbers| numbers.through(&numbered));
        }
        let arrived = self.look();
        // Beside each other in one spool equal packages have listed names of their own: none stands for another.
        for file in numbered.values().filter(|_| whole) {
            let held = numbered.values().filter(|held| *held == file).count();
            let came = arrived.get(file).copied().unwrap_or_default();
            assert!(came >= held, "{}: {came} came of {held} in one spool", self.files[file].name);
        }
        whole
    }

    /// Until nothing is left in the spool in use.
    fn empty(&mut self) {
        assert!(self.pull(None), "it ends");
    }

    /// What has come so far, and how often.
    fn look(&mut self) -> HashMap<Digest, usize> {
        let mut arrived = HashMap::new();
        for arrival in self.central.pipeline.consume() {
            let file = digest(&arrival.bytes);
            self.delivered.entry(file).or_insert(self.weeks);
            *arrived.entry(file).or_default() += 1;
        }
        arrived
    }

    /// `cp -a` of the spool: while the node is stopped, or while it stores and the server pulls.
    fn copy(&mut self, seed: &mut Seed) {
        let copy = self.place();
        if seed.once_in(2) {
            self.node.kill();
            copied(&self.node.storage(), &copy);
            self.node.restart();
        } else {
            let files: Vec<File> = (0..20).map(|_| self.invent(seed)).collect();
            let storage = self.node.storage();
            std::thread::scope(|scope| {
                scope.spawn(|| copied(&storage, &copy));
                files.iter().for_each(|file| self.store(file));
            });
        }
        self.parked.push(copy);
    }

    /// Another spool at the old address: a parked one or a new one. The one in use is kept.
    fn change(&mut self, seed: &mut Seed) {
        let new = self.parked.is_empty() || seed.once_in(3);
        let next = (!new).then(|| self.parked.remove(0));
        self.park();
        match next {
            Some(next) => self.install(&next),
            None => self.install_new(),
        }
    }

    /// The disk in use is gone; the newest copy replaces it, or nothing does.
    fn lose(&mut self, seed: &mut Seed) {
        let gone = held(&self.node.storage());
        let elsewhere: HashMap<String, Digest> = self.parked.iter().flat_map(|spool| held(spool)).collect();
        self.leave();
        std::fs::remove_dir_all(self.node.storage()).expect("the storage is ours");
        if let Some(numbers) = &mut self.numbers {
            numbers.gone(gone.keys().filter(|number| !elsewhere.contains_key(*number)));
        }
        let [gone, elsewhere]: [HashSet<Digest>; 2] =
            [gone.into_values().collect(), elsewhere.into_values().collect()];
        for file in gone.difference(&elsewhere).filter(|file| !self.delivered.contains_key(*file)) {
            self.oracle.forgive(&self.files[file].bytes);
        }
        match self.parked.pop_if(|_| !seed.once_in(4)) {
            Some(copy) => self.install(&copy),
            None => self.install_new(),
        }
    }

    fn park(&mut self) {
        self.leave();
        let place = self.place();
        std::fs::rename(self.node.storage(), &place).expect("both are ours");
        self.parked.insert(0, place);
    }

    /// Stops the node. The server then delivers what it had decided to, and may forget what it knew of this spool.
    fn leave(&mut self) {
        self.node.kill();
        let mut pull = self.central.pull(&self.clock.environment());
        assert!(!pull.join().success(), "there is nobody");
        self.look();
        self.known.clear();
    }

    fn install(&mut self, spool: &Path) {
        std::fs::rename(spool, self.node.storage()).expect("both are ours");
        self.node.restart();
    }

    fn install_new(&mut self) {
        std::fs::create_dir(self.node.storage()).expect("the directory is ours");
        self.node.restart();
    }

    fn place(&mut self) -> PathBuf {
        self.made += 1;
        self.shelf.path().join(self.made.to_string())
    }
}

/// A file that vanishes meanwhile is not in the copy.
fn copied(from: &Path, to: &Path) {
    let output = Command::new("cp").arg("-a").args([from, to]).output().expect("cp starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.lines().all(|line| line.contains("No such file")), "{said}");
}

/// The clone gets an address, a certificate and a site of its own.
fn as_two_sites(run: u64, authority: &Authority, mode: Mode, seed: &mut Seed) {
    let mut nodes = [Node::start(authority, ""), Node::start(authority, "")];
    let addresses = nodes.each_ref().map(Node::address);
    let sites = [Site::node("one", addresses[0]).over(mode), Site::node("two", addresses[1]).over(mode)];
    let central = Central::new(authority, &sites, SETTINGS);
    let oracle = Oracle::default();
    let send = |node: usize, name: String| {
        oracle.expect(&name, name.as_bytes());
        send_until_stored(addresses[node], &name, name.as_bytes());
    };
    let pull = |death: Option<&str>| {
        let environment: Vec<_> = death.map(|step| ("TIDEGATE_CRASH_AT", step)).into_iter().collect();
        let mut pull = central.pull(&environment);
        assert!(pull.join().success() || death.is_some(), "{}", pull.log());
        central.pipeline.consume();
    };
    (0..4 + seed.below(8)).for_each(|index| send(0, format!("host.{}.data", index * 300_000_000)));
    if seed.once_in(2) {
        pull(Some(*seed.pick(&DEATHS)));
    }
    nodes.iter_mut().for_each(Node::kill);
    std::fs::remove_dir_all(nodes[1].storage()).expect("the storage is ours");
    copied(&nodes[0].storage(), &nodes[1].storage());
    // Over relay a clone's packages have their originals' numbers.
    for file in nodes[0].packages().into_iter().filter(|_| mode == Mode::Tentacle) {
        oracle.may_come_again(&std::fs::read(file).expect("readable"));
    }
    nodes.iter_mut().for_each(Node::restart);
    for index in 0..10 {
        let node = seed.below(2) as usize;
        send(node, format!("new-{index}.{}.data", 1_700_000_000 * seed.below(2)));
        if seed.once_in(3) {
            pull(seed.once_in(2).then(|| *seed.pick(&DEATHS)));
        }
    }
    pull(None);
    assert!(nodes.iter().all(|node| node.packages().is_empty()), "run {run}: both sites are empty");
    let verdict = oracle.judge(&central.pipeline.consume());
    assert!(verdict.is_clean(), "run {run}: {verdict}");
}

#[test]
fn copies_of_spools_lose_nothing_and_double_only_what_nobody_can_tell() {
    let seed = Seed::from_environment();
    let authority = Authority::of_a_century();
    let runs: Vec<u64> = runs(20).collect();
    each(&runs, |&run| {
        let mut seed = seed.run(run);
        let mode = Mode::of(run);
        match run % 8 {
            6 | 7 => as_two_sites(run, &authority, mode, &mut seed),
            _ => Bench::new(&authority, mode).run(run, &mut seed),
        }
    });
}
