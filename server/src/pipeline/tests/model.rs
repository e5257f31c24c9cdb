//! Nodes in memory against the pipeline: random batches, crashes, lost answers, restored and rolled-back spools, clones,
//! changes of the mode of pulling. What must come out is simple: every package that was not lost with a node's disk
//! reaches the pipeline, and once, except where a copy of it came in a way that tells no copy from a package.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;
use tidegate_proto::relay::Number;

use super::{name, settings, when};
use crate::body::{Arrived, Arriving};
use crate::crash::Crash;
use crate::ledger::Retention;
use crate::pipeline::{Pipeline, Received, Relayed, Trouble, What};

/// Where a session may die.
const POINTS: [&str; 11] = [
    "after-relayed-staged",
    "after-relayed-committed",
    "after-relayed-renamed",
    "after-relayed-delivered",
    "after-recv-staged",
    "after-committed",
    "after-rename",
    "after-dirsync",
    "after-delivered",
    "after-released",
    "before-swept",
];

/// A xorshift: the same seed, the same story.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % end
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

#[derive(Clone)]
struct Package {
    /// Which one of all packages it is, however many copies there are.
    id: u64,
    number: Number,
    name: String,
    content: Vec<u8>,
    arrival: SystemTime,
    large: bool,
}

#[derive(Clone)]
struct Node {
    site: &'static str,
    stored: Vec<Package>,
    run: u64,
    counter: u64,
}

/// What may happen in a story.
#[derive(Clone, Copy)]
struct Rules {
    tentacle: bool,
    copies: bool,
    clones: bool,
    trimmed: bool,
}

struct Story {
    dice: Dice,
    rules: Rules,
    root: TempDir,
    nodes: Vec<Node>,
    backups: Vec<Node>,
    next_run: u64,
    next_id: u64,
    clock: u64,
    /// What went with a disk before it was pulled.
    lost_there: BTreeSet<u64>,
    eaten: BTreeMap<Vec<u8>, u64>,
    contents: BTreeMap<u64, Vec<u8>>,
}

impl Story {
    fn new(seed: u64, rules: Rules) -> Self {
        let node = Node { site: "a", stored: Vec::new(), run: 1, counter: 0 };
        // Nothing here needs a disk.
        let root = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        Self {
            dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            rules,
            root,
            nodes: vec![node],
            backups: Vec::new(),
            next_run: 2,
            next_id: 1,
            clock: 1_600_000_000_000,
            lost_there: BTreeSet::new(),
            eaten: BTreeMap::new(),
            contents: BTreeMap::new(),
        }
    }

    fn open(&mut self, crash: Crash) -> Pipeline {
        let mut settings = settings(&self.root);
        if self.rules.trimmed && self.dice.one_in(2) {
            settings.history = Retention { max: 0, keep: Duration::ZERO };
        }
        Pipeline::open(&settings, crash).unwrap()
    }

    fn arrive(&mut self) {
        for _ in 0..=self.dice.below(6) {
            let at = usize::try_from(self.dice.below(self.nodes.len() as u64)).unwrap();
            let (id, timed, large) = (self.next_id, self.dice.one_in(2), self.dice.one_in(8));
            self.next_id += 1;
            self.clock += 1 + self.dice.below(3);
            let node = &mut self.nodes[at];
            node.counter += 1 + u64::from(self.dice.one_in(5));
            // A node lists no name twice, and over Tentacle it waits for a week before it gives one again.
            let again =
                self.rules.tentacle || node.stored.iter().any(|package| package.name == "host.0.data");
            let name = match (timed, again) {
                (true, _) => format!("web.{}.data", 1_700_000_000 + id),
                (false, true) => format!("host.{id}.data"),
                (false, false) => "host.0.data".to_owned(),
            };
            let content = if timed { format!("package {id}") } else { "always the same".to_owned() };
            let number = Number { run: node.run, counter: node.counter };
            let arrival = SystemTime::UNIX_EPOCH + Duration::from_millis(self.clock);
            self.contents.insert(id, content.clone().into_bytes());
            node.stored.push(Package { id, number, name, content: content.into(), arrival, large });
        }
    }

    /// A node's disk is replaced by a copy of an earlier day.
    fn copy(&mut self) {
        let at = usize::try_from(self.dice.below(self.nodes.len() as u64)).unwrap();
        if self.backups.is_empty() || self.dice.one_in(2) {
            return self.backups.push(self.nodes[at].clone());
        }
        let from = usize::try_from(self.dice.below(self.backups.len() as u64)).unwrap();
        let mut copy = self.backups[from].clone();
        let is_clone = self.rules.clones && self.nodes.len() == 1 && self.dice.one_in(2);
        if is_clone {
            copy.site = "b";
        } else if copy.site != self.nodes[at].site {
            return;
        }
        // Else a virtual machine's snapshot goes on in its run.
        if is_clone || self.dice.one_in(2) {
            (copy.run, copy.counter) = (self.next_run, 0);
            self.next_run += 1;
        }
        if is_clone {
            return self.nodes.push(copy);
        }
        let before = std::mem::replace(&mut self.nodes[at], copy);
        self.lost_there.extend(before.stored.iter().map(|package| package.id));
    }

    fn session(&mut self) {
        let at = usize::try_from(self.dice.below(self.nodes.len() as u64)).unwrap();
        let dies = self.dice.one_in(2);
        let crash = if dies {
            let point = POINTS[usize::try_from(self.dice.below(POINTS.len() as u64)).unwrap()];
            Crash::panicking_at(point, 1 + u32::try_from(self.dice.below(4)).unwrap())
        } else {
            Crash::default()
        };
        let tentacle = self.rules.tentacle && self.dice.one_in(2);
        let _ = catch_unwind(AssertUnwindSafe(|| {
            let pipeline = self.open(crash);
            let mut node = self.nodes[at].clone();
            let worked = catch_unwind(AssertUnwindSafe(|| {
                pipeline.resume(node.site)?;
                if tentacle {
                    self.over_tentacle(&pipeline, &mut node)
                } else {
                    self.over_relay(&pipeline, &mut node, false)
                }
            }));
            // What the node deleted is deleted, whatever became of the server.
            self.nodes[at] = node;
            if let Ok(worked) = worked {
                worked.unwrap();
                if self.dice.one_in(2) {
                    pipeline.flush().unwrap();
                }
            }
        }));
        self.eat();
    }

    fn over_relay(&mut self, pipeline: &Pipeline, node: &mut Node, all: bool) -> Result<(), Trouble> {
        node.stored.sort_by_key(|package| package.number);
        pipeline.relay_welcomed(node.site, node.stored.first().map(|package| package.number))?;
        let takes_large = all || self.dice.one_in(3);
        let mut left = node.stored.clone();
        while !left.is_empty() {
            let rest = left.split_off(left.len().min(1 + usize::try_from(self.dice.below(5)).unwrap()));
            let batch = std::mem::replace(&mut left, rest);
            let relayed = batch.iter().map(|package| Relayed {
                number: package.number,
                name: name(&package.name),
                modified: package.arrival,
                what: if package.large && !takes_large {
                    What::Skipped { size: package.content.len() as u64 }
                } else {
                    What::Body(body(pipeline, &package.content))
                },
            });
            let last = batch.last().unwrap().number;
            assert_eq!(pipeline.relayed(node.site, relayed.collect())?, Some(last));
            // The acknowledgement may be lost, and so may the answer to it.
            if !all && self.dice.one_in(4) {
                return Ok(());
            }
            node.stored.retain(|package| package.number > last || package.large && !takes_large);
            if all || !self.dice.one_in(4) {
                pipeline.relay_deleted(node.site, last)?;
            }
        }
        pipeline.relay_drained(node.site)
    }

    fn over_tentacle(&mut self, pipeline: &Pipeline, node: &mut Node) -> Result<(), Trouble> {
        let names: BTreeSet<_> = node.stored.iter().map(|package| name(&package.name)).collect();
        pipeline.listed(node.site, |shown| names.contains(shown))?;
        while let Some(package) = node.stored.first().cloned() {
            let body = body(pipeline, &package.content);
            let received = Received { name: name(&package.name), body, modified: when(1_600_000_000) };
            let kept = pipeline.accept(node.site, vec![received])?;
            if self.dice.one_in(6) {
                return Ok(());
            }
            node.stored.remove(0);
            if !self.dice.one_in(4) {
                pipeline.gone(node.site, &[(kept[0].name.clone(), kept[0].digest.clone())])?;
            }
        }
        Ok(())
    }

    /// The consumer of `incomingdir`.
    fn eat(&mut self) {
        for entry in fs::read_dir(settings(&self.root).directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                *self.eaten.entry(fs::read(&path).unwrap()).or_default() += 1;
                fs::remove_file(path).unwrap();
            }
        }
    }

    fn tell(mut self, steps: u32) -> Self {
        for _ in 0..steps {
            match self.dice.below(4) {
                0 => self.arrive(),
                1 if self.rules.copies => self.copy(),
                _ => self.session(),
            }
        }
        for at in 0..self.nodes.len() {
            let pipeline = self.open(Crash::default());
            let mut node = self.nodes[at].clone();
            pipeline.resume(node.site).unwrap();
            self.over_relay(&pipeline, &mut node, true).unwrap();
            assert_eq!(node.stored.len(), 0);
            pipeline.flush().unwrap();
        }
        self.eat();
        self
    }

    /// Lost and doubled contents, of packages that were not lost with a disk. Those may have come before that.
    fn verdict(&self) -> (Vec<String>, Vec<String>) {
        let mut wanted: BTreeMap<&[u8], (u64, u64)> = BTreeMap::new();
        for (id, content) in &self.contents {
            let (least, most) = wanted.entry(content).or_default();
            *most += 1;
            *least += u64::from(!self.lost_there.contains(id));
        }
        let (mut lost, mut doubled) = (Vec::new(), Vec::new());
        for (content, (least, most)) in wanted {
            let came = self.eaten.get(content).copied().unwrap_or_default();
            let told = format!("{}: {came}, not {least} to {most}", String::from_utf8_lossy(content));
            if came < least {
                lost.push(told);
            } else if came > most {
                doubled.push(told);
            }
        }
        (lost, doubled)
    }
}

fn body(pipeline: &Pipeline, content: &[u8]) -> Arrived {
    let mut body = Arriving::new(pipeline.staging());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(body.write(content)).unwrap();
    body.finish()
}

fn stories(seeds: std::ops::Range<u64>, rules: Rules, doubles: bool) {
    for seed in seeds {
        let (lost, doubled) = Story::new(seed, rules).tell(40).verdict();
        assert_eq!(lost, Vec::<String>::new(), "seed {seed}");
        assert!(doubles || doubled.is_empty(), "seed {seed}: {doubled:?}");
    }
}

const RELAY: Rules = Rules { tentacle: false, copies: false, clones: false, trimmed: false };

#[test]
fn crashes_and_lost_answers_over_relay_lose_and_double_nothing() {
    stories(0..25, RELAY, false);
    stories(25..40, Rules { trimmed: true, ..RELAY }, false);
}

#[test]
fn restored_and_rolled_back_spools_and_clones_lose_and_double_nothing_over_relay() {
    stories(100..125, Rules { copies: true, ..RELAY }, false);
    stories(125..145, Rules { copies: true, clones: true, ..RELAY }, false);
}

#[test]
fn a_site_between_relay_and_tentacle_loses_and_doubles_nothing() {
    stories(200..225, Rules { tentacle: true, ..RELAY }, false);
    stories(225..235, Rules { tentacle: true, trimmed: true, ..RELAY }, false);
}

#[test]
fn whatever_comes_together_nothing_is_lost() {
    stories(300..340, Rules { tentacle: true, copies: true, clones: true, trimmed: true }, true);
}
