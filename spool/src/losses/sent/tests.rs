//! Somebody counts losses by their numbers while the disk forgets and processes die: all are counted, each once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::clock::Clock;
use crate::model::memory::{Fuse, Memory};
use crate::{Duplicates, LossReason, Overflow, Settings, recover};

fn open(disk: &Memory) -> Spool {
    let settings = Settings {
        root: PathBuf::from("/data/spool"),
        max_bytes: u64::MAX,
        max_files: u64::MAX,
        reserve_bytes: 0,
        duplicates: Duplicates::default(),
        sync_threads: 1,
        overflow: Overflow::default(),
    };
    let clock = Clock::new(|| 1_700_000_000_000);
    recover::open_on(Arc::new(disk.clone()), clock, None, &settings).unwrap().0
}

fn new_disk() -> Memory {
    Memory::new(Path::new("/data"))
}

fn lose(spool: &Spool, class: &str) {
    spool.refused(class, LossReason::Full, 1);
    spool.flush_losses().unwrap();
}

fn packages(losses: &[Loss]) -> u64 {
    losses.iter().map(|loss| loss.packages).sum()
}

/// It keeps one mark, as for packages.
#[derive(Default)]
struct Counter {
    counted: BTreeMap<Id, Loss>,
}

impl Counter {
    fn take(&mut self, losses: &[Loss]) {
        assert!(losses.is_sorted_by(|a, b| a.id < b.id));
        for loss in losses {
            let mark = self.counted.last_key_value().map(|(id, _)| *id);
            match self.counted.get(&loss.id) {
                Some(before) => assert_eq!(before, loss, "it has changed"),
                None => {
                    assert!(Some(loss.id) > mark, "{} is below the mark, and new", loss.id);
                    self.counted.insert(loss.id, loss.clone());
                }
            }
        }
    }

    fn packages(&self) -> u64 {
        self.counted.values().map(|loss| loss.packages).sum()
    }
}

#[test]
fn records_come_again_until_they_are_acknowledged_and_are_shown_for_ever() {
    let disk = new_disk();
    let spool = open(&disk);
    assert!(spool.unacknowledged_losses(10).is_empty());
    for _ in 0..HANDED_OUT_MAX + 2 {
        lose(&spool, "data");
    }
    let first = spool.unacknowledged_losses(2);
    assert_eq!(first, spool.losses()[..2]);
    assert_eq!(spool.unacknowledged_losses(2), first);
    spool.acknowledge_losses(first[0].id).unwrap();
    drop(spool);
    disk.power_cut(&mut |_| 0);
    let spool = open(&disk);
    let rest = spool.unacknowledged_losses(usize::MAX);
    assert_eq!(rest, spool.losses()[1..=HANDED_OUT_MAX], "so many wait for an answer at a time");
    spool.acknowledge_losses(rest[HANDED_OUT_MAX - 1].id).unwrap();
    assert_eq!(spool.unacknowledged_losses(usize::MAX), spool.losses()[HANDED_OUT_MAX + 1..]);
    assert_eq!(packages(&spool.losses()), HANDED_OUT_MAX as u64 + 2);
}

#[test]
fn what_was_not_handed_out_cannot_be_acknowledged() {
    let spool = open(&new_disk());
    lose(&spool, "data");
    let everything = Id { run: u64::MAX, counter: u64::MAX };
    spool.acknowledge_losses(everything).unwrap();
    assert_eq!(spool.unacknowledged_losses(1).len(), 1);
    lose(&spool, "data");
    spool.acknowledge_losses(everything).unwrap();
    assert_eq!(spool.unacknowledged_losses(9), spool.losses()[1..]);
}

/// Nothing is written where nothing is new.
#[test]
fn asking_again_costs_no_write() {
    let disk = new_disk();
    let spool = open(&disk);
    lose(&spool, "data");
    let given = spool.unacknowledged_losses(9);
    disk.light(Fuse::Death(0));
    assert_eq!(spool.unacknowledged_losses(9), given);
    spool.refused("data", LossReason::Full, 1);
    spool.flush_losses().unwrap_err();
    assert!(spool.poisoned().is_none(), "it was the first call");
}

/// The first is handed out: it stays as it was, whatever is merged around it.
#[test]
fn each_kind_is_merged_by_itself() {
    let disk = new_disk();
    let spool = open(&disk);
    lose(&spool, "data");
    lose(&spool, "data");
    let [counted, seen] = spool.unacknowledged_losses(2).try_into().unwrap();
    spool.acknowledge_losses(counted.id).unwrap();
    for _ in 0..3 * SEGMENT_RECORDS {
        lose(&spool, "data");
    }
    let kept = spool.losses();
    assert!(kept.len() <= SEGMENT_RECORDS);
    assert_eq!(kept[..2], [counted, seen.clone()]);
    assert!(kept[2].packages > 1, "these are merged");
    assert_eq!(spool.unacknowledged_losses(2), [seen, kept[2].clone()]);
}

#[derive(Clone, Debug)]
enum Step {
    Lose(usize),
    /// So many are asked for and counted.
    Count(usize),
    /// The last of those counted is acknowledged; or an earlier one.
    Acknowledge(usize),
    Crash(Option<u64>),
    Light(Fuse, Option<u64>),
    Fill(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let fuse = prop_oneof![
        3 => (0..20_u32).prop_map(Fuse::Death),
        1 => (0..6_u32).prop_map(Fuse::FailedFsync),
        1 => (0..12_u32).prop_map(Fuse::FailedCall),
        1 => (0..3_u32).prop_map(Fuse::NoDescriptor),
    ];
    prop_oneof![
        12 => (0..3_usize).prop_map(Step::Lose),
        4 => (1..6_usize).prop_map(Step::Count),
        3 => (0..3_usize).prop_map(Step::Acknowledge),
        1 => any::<Option<u64>>().prop_map(Step::Crash),
        1 => (fuse, any::<Option<u64>>()).prop_map(|(fuse, crash)| Step::Light(fuse, crash)),
        1 => any::<bool>().prop_map(Step::Fill),
    ]
}

struct Life {
    disk: Memory,
    spool: Option<Spool>,
    counter: Counter,
    /// How the process ends when the fuse burns down.
    fuse: Option<Option<u64>>,
}

impl Life {
    fn spool(&self) -> &Spool {
        self.spool.as_ref().expect("it is open between steps")
    }

    /// On a full disk where no room could be set aside.
    fn may_fail(&self) -> bool {
        self.fuse.is_some() || self.disk.is_full()
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Lose(class) => {
                self.spool().refused(["data", "inventory", "logs"][class], LossReason::Full, 1);
                let flushed = self.spool().flush_losses();
                assert!(flushed.is_ok() || self.may_fail(), "{flushed:?}");
            }
            Step::Count(max) => {
                let losses = self.spool().unacknowledged_losses(max);
                self.counter.take(&losses);
            }
            Step::Acknowledge(back) => {
                if let Some((&id, _)) = self.counter.counted.iter().nth_back(back) {
                    let done = self.spool().acknowledge_losses(id);
                    assert!(done.is_ok() || self.may_fail(), "{done:?}");
                }
            }
            Step::Crash(power) => self.crash(power),
            Step::Light(fuse, power) => {
                self.disk.fill(false);
                self.disk.light(fuse);
                self.fuse = Some(power);
            }
            Step::Fill(full) => self.disk.fill(full && self.fuse.is_none()),
        }
        match self.fuse {
            Some(power) if self.disk.is_dead() || self.spool().poisoned().is_some() => self.crash(power),
            fuse => self.fuse = fuse.filter(|_| self.disk.is_lit()),
        }
    }

    fn crash(&mut self, power: Option<u64>) {
        self.spool = None;
        self.disk.kill();
        self.fuse = None;
        if let Some(mut state) = power {
            self.disk.power_cut(&mut |choices| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) as usize % choices
            });
        }
        self.spool = Some(open(&self.disk));
    }
}

/// As many cases as `PROPTEST_CASES` says, else enough for some seconds.
fn config() -> ProptestConfig {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => config,
        None => ProptestConfig { cases: 2_000, ..config },
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_loss_is_counted_once(steps in prop::collection::vec(step(), 1..120)) {
        let mut life = Life { disk: new_disk(), spool: None, counter: Counter::default(), fuse: None };
        life.crash(None);
        steps.into_iter().for_each(|step| life.take(step));
        life.disk.fill(false);
        life.crash(Some(0));
        loop {
            let losses = life.spool().unacknowledged_losses(2);
            let Some(last) = losses.last().map(|loss| loss.id) else { break };
            life.counter.take(&losses);
            life.spool().acknowledge_losses(last).unwrap();
        }
        prop_assert_eq!(life.counter.packages(), packages(&life.spool().losses()));
    }
}
