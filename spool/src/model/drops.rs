//! Random life of a spool in which one class drops its oldest packages, on the disk that forgets.
//!
//! - A package is gone without a deletion if and only if a loss record counts it, and only from the class that drops.
//! - The oldest go first, no more than needed, and nothing that is claimed.
//! - One that was dropped stays away, and is no repeat when it is sent again.
//! - What classes and agents are taken to hold is what the index holds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;

use super::memory::{Fuse, Memory};
use super::steps::Crash;
use crate::clock::Clock;
use crate::error::Bound;
use crate::overflow::{Allowance, Class, DATA_CLASS, Overflow, Policy};
use crate::quota::Count;
use crate::{Duplicates, Full, Lease, LossReason, Settings, Spool, Stored, recover};

/// Who sends: the first class drops, the second refuses.
const AGENTS: [&str; 3] = ["inv-a", "inv-b", "web"];
const CLASS_MAX: usize = 6;
const AGENT_MAX: usize = 4;
const DATA_MAX: usize = 3;
const SIZE: u64 = 7;

#[derive(Clone, Debug)]
enum Step {
    /// The next file of an agent.
    Send(usize),
    /// The file that was dropped last.
    SendAgain,
    /// Claim the package at this place of the listing.
    Claim(usize),
    Unclaim,
    /// Pull what was claimed first.
    Delete,
    Crash(Crash),
    Light(Fuse, Crash),
}

fn step() -> impl Strategy<Value = Step> {
    let crash = || {
        prop_oneof![
            2 => Just(Crash::Process),
            4 => any::<u64>().prop_map(Crash::Power),
            1 => Just(Crash::Blackout),
        ]
    };
    let fuse = prop_oneof![
        3 => (0..30_u32).prop_map(Fuse::Death),
        2 => (0..12_u32).prop_map(Fuse::FailedFsync),
        2 => (0..4_u32).prop_map(Fuse::NoDescriptor),
    ];
    prop_oneof![
        12 => (0..AGENTS.len()).prop_map(Step::Send),
        1 => Just(Step::SendAgain),
        2 => (0..9_usize).prop_map(Step::Claim),
        1 => Just(Step::Unclaim),
        2 => Just(Step::Delete),
        1 => crash().prop_map(Step::Crash),
        1 => (fuse, crash()).prop_map(|(fuse, crash)| Step::Light(fuse, crash)),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Stored,
    /// A commit, a drop or a deletion of it was not answered, or failed.
    Unsure,
}

struct Owner {
    disk: Memory,
    spool: Option<Spool>,
    packages: BTreeMap<String, State>,
    claims: Vec<Lease>,
    next_number: u64,
    /// Dropped, and not sent and pulled since.
    dropped: Vec<String>,
    sure_drops: u64,
    /// More that may be on record: the drop failed afterwards.
    unsure_drops: u64,
    fuse: Option<Crash>,
}

impl Owner {
    fn new() -> Self {
        let mut owner = Self {
            disk: Memory::new(Path::new("/data")),
            spool: None,
            packages: BTreeMap::new(),
            claims: Vec::new(),
            next_number: 0,
            dropped: Vec::new(),
            sure_drops: 0,
            unsure_drops: 0,
            fuse: None,
        };
        owner.crash(Crash::Process);
        owner
    }

    fn spool(&self) -> &Spool {
        self.spool.as_ref().expect("the spool is open between steps")
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Send(agent) => {
                self.next_number += 1;
                self.send(format!("{}.{}.data", AGENTS[agent], 1_700_000_000 + self.next_number));
            }
            Step::SendAgain => {
                if let Some(name) = self.dropped.pop() {
                    self.send(name);
                }
            }
            Step::Claim(place) => {
                let name = self.listed().get(place).cloned();
                self.claims.extend(name.and_then(|name| self.spool().lease(name.as_bytes())));
            }
            Step::Unclaim => _ = self.claims.pop(),
            Step::Delete => self.delete(),
            Step::Crash(crash) => self.crash(crash),
            Step::Light(fuse, crash) => {
                self.disk.light(fuse);
                self.fuse = Some(crash);
            }
        }
        match self.fuse {
            Some(crash) if self.disk.is_dead() || self.spool().usage().poisoned.is_some() => {
                self.crash(crash)
            }
            fuse => {
                self.fuse = fuse.filter(|_| self.disk.is_lit());
                self.check();
            }
        }
    }

    /// In order of arrival.
    fn listed(&self) -> Vec<String> {
        let text = |name: &[u8]| String::from_utf8(name.to_vec()).expect("our names are text");
        self.spool().listing().names().map(text).collect()
    }

    /// What must go for a package of `agent`; `None` when that cannot be.
    fn victims(&self, agent: &str, listed: &[String]) -> Option<Vec<String>> {
        let claimed =
            |name: &String| self.claims.iter().any(|it| *it.package().listed_name == *name.as_bytes());
        let mut left: Vec<&String> = listed.iter().filter(|name| name.starts_with("inv")).collect();
        let mut gone = Vec::new();
        for (prefix, most) in [(agent, AGENT_MAX), ("inv", CLASS_MAX)] {
            let in_scope = |name: &&String| name.starts_with(prefix);
            let too_many = (left.iter().filter(|name| in_scope(name)).count() + 1).saturating_sub(most);
            let oldest: Vec<String> = left
                .iter()
                .filter(|name| in_scope(name) && !claimed(name))
                .take(too_many)
                .map(ToString::to_string)
                .collect();
            if oldest.len() < too_many {
                return None;
            }
            left.retain(|name| !oldest.contains(name));
            gone.extend(oldest);
        }
        Some(gone)
    }

    fn send(&mut self, name: String) {
        let before = self.listed();
        let agent = name.split('.').next().expect("the agent stands first");
        let drops = agent != "web";
        let expected = if drops {
            self.victims(agent, &before)
        } else {
            let there = before.iter().filter(|name| name.starts_with("web")).count();
            (there < DATA_MAX).then(Vec::new)
        };
        let begun = self.spool().begin_dropping(name.as_bytes(), SIZE, SIZE);
        let after = self.listed();
        let gone: Vec<String> = before.iter().filter(|name| !after.contains(name)).cloned().collect();
        for name in &gone {
            self.packages.remove(name).expect("what was listed is known");
            self.dropped.push(name.clone());
            self.sure_drops += 1;
        }
        let mut draft = match begun {
            Ok((draft, dropped)) => {
                let mut expected = expected.expect("there is nothing that may go, but room was made");
                expected.sort_by_key(|name| before.iter().position(|listed| listed == name));
                assert_eq!((&gone, dropped.packages), (&expected, expected.len() as u64));
                draft
            }
            Err(full) => {
                if self.fuse.is_none() {
                    let of_class = matches!(full, Full::Class { .. });
                    assert!(of_class || matches!(full, Full::Agent { limit: Bound::Files(_), .. }), "{full}");
                    // What was dropped for the agent's limit is gone, though the class then had nothing to give.
                    assert!(expected.is_none() && (gone.is_empty() || of_class), "{full}: {gone:?}");
                } else {
                    assert!(drops || gone.is_empty());
                    // Any of them may have been on its way out.
                    let doubtful = self.packages.iter_mut().filter(|(name, _)| name.starts_with("inv"));
                    doubtful.for_each(|(_, state)| *state = State::Unsure);
                    self.unsure_drops += before.len() as u64;
                }
                return;
            }
        };
        // On a dead disk this fails, and then the commit must.
        let _ = draft.write(&[b'x'; SIZE as usize]);
        match self.spool().commit(vec![draft]).remove(0) {
            Ok(Stored::New { .. }) => _ = self.packages.insert(name, State::Stored),
            Ok(Stored::Repeat) => assert!(
                self.packages.contains_key(&name),
                "nobody has it, but it is taken for a repeat: {name}"
            ),
            Err(error) => {
                assert!(self.fuse.is_some(), "{error}");
                self.packages.entry(name).or_insert(State::Unsure);
            }
        }
    }

    fn delete(&mut self) {
        if self.claims.is_empty() {
            return;
        }
        let lease = self.claims.remove(0);
        let name = String::from_utf8(lease.package().listed_name.to_vec()).expect("our names are text");
        match self.spool().delete(vec![lease]).remove(0) {
            Ok(()) => {
                self.packages.remove(&name);
                // A repeat of this one is rightly recognised from now on.
                self.dropped.retain(|it| *it != name);
            }
            Err(error) => {
                assert!(self.fuse.is_some(), "{error}");
                self.packages.insert(name.clone(), State::Unsure);
                self.dropped.retain(|it| *it != name);
            }
        }
    }

    fn crash(&mut self, crash: Crash) {
        self.claims.clear();
        self.spool = None;
        self.disk.kill();
        self.fuse = None;
        match crash {
            Crash::Process => {}
            Crash::Blackout => self.disk.power_cut(&mut |_| 0),
            Crash::Power(seed) => {
                let mut state = seed;
                self.disk.power_cut(&mut |choices| {
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (state >> 33) as usize % choices
                });
            }
        }
        let class = |name: &str, policy, most| Class {
            policy,
            max_files: Allowance::Exactly(most as u64),
            agent_max_files: Allowance::Exactly(AGENT_MAX as u64),
            ..Class::new(name)
        };
        let overflow = Overflow::new(
            class(DATA_CLASS, Policy::Refuse, DATA_MAX),
            vec![class("inventory", Policy::DropOldest, CLASS_MAX)],
            |name| name.starts_with(b"inv").then_some(0),
        );
        let settings = Settings {
            root: PathBuf::from("/data/spool"),
            max_bytes: u64::MAX,
            max_files: u64::MAX,
            reserve_bytes: 0,
            duplicates: Duplicates::default(),
            sync_threads: 1,
            overflow,
        };
        let clock = Clock::new(|| 1_700_000_000_000);
        let opened = recover::open_on(Arc::new(self.disk.clone()), clock, None, &settings);
        self.spool = Some(opened.expect("it opens").0);
        let listed = self.listed();
        for (name, state) in std::mem::take(&mut self.packages) {
            if listed.contains(&name) {
                self.packages.insert(name, State::Stored);
            } else {
                assert_eq!(state, State::Unsure, "a stored package is lost: {name}");
                // A deletion or a commit may be the reason as well as a drop, so neither is asked of the records.
            }
        }
        self.check();
    }

    fn check(&self) {
        let listed = self.listed();
        let known = |name: &String| self.packages.contains_key(name);
        assert!(listed.iter().all(known), "one that is gone is back: {listed:?}");
        let missing: Vec<_> = self
            .packages
            .iter()
            .filter(|(name, state)| **state == State::Stored && !listed.contains(name))
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
        self.check_records();
        self.check_counters(&listed);
    }

    fn check_records(&self) {
        let losses = self.spool().losses();
        let dropped: Vec<_> = losses.iter().filter(|loss| loss.reason == LossReason::Dropped).collect();
        assert!(dropped.iter().all(|loss| &*loss.class == "inventory"), "{dropped:?}");
        let packages: u64 = dropped.iter().map(|loss| loss.packages).sum();
        let bytes: u64 = dropped.iter().map(|loss| loss.bytes).sum();
        assert_eq!(bytes, packages * SIZE);
        let sure = self.sure_drops;
        assert!((sure..=sure + self.unsure_drops).contains(&packages), "{packages}, not {sure}: {losses:?}");
    }

    fn check_counters(&self, listed: &[String]) {
        let quota = &self.spool().store.quota;
        for agent in AGENTS {
            let scope = quota.scope(format!("{agent}.1.data").as_bytes());
            let class = if agent == "web" { agent } else { "inv" };
            let count = |prefix: &str| {
                let files = listed.iter().filter(|name| name.starts_with(prefix)).count() as u64;
                Count { files, bytes: files * SIZE }
            };
            assert_eq!(quota.held(scope), (count(class), count(agent)), "{agent}");
        }
    }
}

/// As many cases as `PROPTEST_CASES` says, else enough for some seconds.
fn config() -> ProptestConfig {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => config,
        None => ProptestConfig { cases: 1_000, ..config },
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_is_dropped_is_old_and_on_record(steps in prop::collection::vec(step(), 1..60)) {
        let mut owner = Owner::new();
        steps.into_iter().for_each(|step| owner.take(step));
        owner.crash(Crash::Blackout);
    }
}
