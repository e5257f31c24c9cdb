//! Whatever is promised, stored and given back: the sums are right, and no limit is overrun.

use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;
use crate::overflow::{Allowance, Class};

const LIMITS: Limits = Limits { max_files: 12, max_bytes: 1_000, reserve_bytes: 0 };
const CLASS: Count = Count { files: 6, bytes: 400 };
const AGENT: Count = Count { files: 4, bytes: 200 };
const NAMES: [&[u8]; 4] = [b"inv-a.1.data", b"inv-b.1.data", b"web.1.data", b"db.1.data"];

fn quota(policy: Policy) -> Arc<Quota> {
    let agents = Class {
        agent_max_files: Allowance::Exactly(AGENT.files),
        agent_max_bytes: Allowance::Exactly(AGENT.bytes),
        ..Class::new(DATA_CLASS)
    };
    let inventory = Class {
        name: "inventory".into(),
        policy,
        max_files: Allowance::Exactly(CLASS.files),
        max_bytes: Allowance::Exactly(CLASS.bytes),
        ..agents
    };
    let overflow = Overflow::new(agents, vec![inventory], |name| name.starts_with(b"inv").then_some(0));
    Quota::new(LIMITS, overflow, || Ok(space(u64::MAX)))
}

fn space(bytes: u64) -> Free {
    Free { bytes, inodes: None }
}

fn within(count: Count, most: Count) -> bool {
    count.files <= most.files && count.bytes <= most.bytes
}

/// What must hold at any moment.
fn check_limits(quota: &Quota) {
    for name in NAMES {
        let (class, agent) = quota.held(quota.scope(name));
        assert!(within(agent, AGENT), "{agent:?}");
        assert!(!name.starts_with(b"inv") || within(class, CLASS), "{class:?}");
    }
    let all = lock(&quota.taken).counts.all;
    assert!(within(all, Count { files: LIMITS.max_files, bytes: LIMITS.max_bytes }), "{all:?}");
}

#[derive(Clone, Debug)]
enum Step {
    Reserve(usize, u64),
    Scratch(u64),
    Grow(usize, u64),
    Settle(usize, u64),
    GiveBack(usize),
    Release(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..NAMES.len(), 0..150_u64).prop_map(|(name, bytes)| Step::Reserve(name, bytes)),
        1 => (0..150_u64).prop_map(Step::Scratch),
        2 => (0..20_usize, 0..250_u64).prop_map(|(which, bytes)| Step::Grow(which, bytes)),
        3 => (0..20_usize, 0..100_u64).prop_map(|(which, percent)| Step::Settle(which, percent)),
        1 => (0..20_usize).prop_map(Step::GiveBack),
        3 => (0..20_usize).prop_map(Step::Release),
    ]
}

proptest! {
    #[test]
    fn the_sums_are_those_of_what_is_there(steps in prop::collection::vec(step(), 1..80)) {
        let quota = quota(Policy::Refuse);
        let mut promised: Vec<(Option<usize>, Room)> = Vec::new();
        let mut stored: Vec<(usize, u64)> = Vec::new();
        for step in steps {
            match step {
                Step::Reserve(name, bytes) => {
                    let room = quota.reserve(Some(quota.scope(NAMES[name])), bytes);
                    promised.extend(room.ok().map(|room| (Some(name), room)));
                }
                Step::Scratch(bytes) => promised.extend(quota.reserve(None, bytes).ok().map(|room| (None, room))),
                Step::Grow(which, bytes) => {
                    if let Some((_, room)) = promised.get_mut(which) {
                        let before = room.bytes;
                        let grown = room.grow_to(bytes);
                        prop_assert_eq!(room.bytes, if grown.is_ok() { before.max(bytes) } else { before });
                    }
                }
                Step::Settle(which, percent) if promised.get(which).is_some_and(|(name, _)| name.is_some()) => {
                    let (name, room) = promised.remove(which);
                    let bytes = room.bytes * percent / 100;
                    room.settle(bytes);
                    stored.extend(name.map(|name| (name, bytes)));
                }
                Step::GiveBack(which) if which < promised.len() => drop(promised.remove(which)),
                Step::Release(which) if which < stored.len() => {
                    let (name, bytes) = stored.remove(which);
                    quota.release(quota.scope(NAMES[name]), bytes);
                }
                Step::Settle(..) | Step::GiveBack(_) | Step::Release(_) => {}
            }
            check_limits(&quota);
            let there = || {
                let promised = promised.iter().map(|(name, room)| (*name, room.bytes));
                promised.chain(stored.iter().map(|(name, bytes)| (Some(*name), *bytes)))
            };
            let sum = |which: &dyn Fn(Option<usize>) -> bool| {
                let mut sum = Count::default();
                there().filter(|(name, _)| which(*name)).for_each(|(_, bytes)| sum.add(Count { files: 1, bytes }));
                sum
            };
            for (position, name) in NAMES.into_iter().enumerate() {
                let of_class = |it: Option<usize>| it.is_some_and(|it| (it < 2) == (position < 2));
                let expected = (sum(&of_class), sum(&|it| it == Some(position)));
                prop_assert_eq!(quota.held(quota.scope(name)), expected);
            }
            let taken = lock(&quota.taken);
            prop_assert_eq!(taken.counts.all, sum(&|_| true));
            prop_assert_eq!(taken.pending.all.bytes, promised.iter().map(|(_, room)| room.bytes).sum::<u64>());
        }
        promised.clear();
        for (name, bytes) in stored {
            quota.release(quota.scope(NAMES[name]), bytes);
        }
        let taken = lock(&quota.taken);
        prop_assert!(taken.counts.agents.is_empty() && taken.pending.agents.is_empty() && taken.counts.all == Count::default() && taken.pending.all == Count::default());
    }
}

#[test]
fn uploads_side_by_side_never_overrun_a_limit() {
    let quota = quota(Policy::Refuse);
    let refused = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8_usize {
            let (quota, refused) = (&quota, &refused);
            scope.spawn(move || {
                for round in 0..2_000_usize {
                    let name = NAMES[(thread + round) % NAMES.len()];
                    let bytes = (round % 90) as u64;
                    let Ok(mut room) = quota.reserve(Some(quota.scope(name)), bytes) else {
                        refused.fetch_add(1, Ordering::Relaxed);
                        continue;
                    };
                    check_limits(quota);
                    let grown = if room.grow_to(bytes + 60).is_ok() { bytes + 60 } else { bytes };
                    check_limits(quota);
                    if round % 3 != 0 {
                        room.settle(grown);
                        check_limits(quota);
                        quota.release(quota.scope(name), grown);
                    }
                }
            });
        }
    });
    assert!(lock(&quota.taken).counts.agents.is_empty());
    assert_eq!(lock(&quota.taken).counts.all, Count::default());
}

/// A quarter of what there is, and that shrinks when somebody else fills the disk: it is no reason to drop packages.
#[test]
fn a_part_follows_the_free_space() {
    let part = Allowance::Share { percent: 25, at_least: 0 };
    let class = Class { policy: Policy::DropOldest, agent_max_bytes: part, ..Class::new(DATA_CLASS) };
    let left = Arc::new(AtomicU64::new(400));
    let free = Arc::clone(&left);
    let overflow = Overflow::new(class, vec![], |_| None);
    let quota = Quota::new(LIMITS, overflow, move || Ok(space(free.load(Ordering::Relaxed))));
    let scope = quota.scope(NAMES[0]);
    quota.reserve(Some(scope), 80).map(|room| room.settle(80)).expect("80 of 100");
    left.store(320, Ordering::Relaxed);
    quota.look_again();
    let shortage = quota.check(Some(scope), 21).expect_err("over a quarter of 80 + 320");
    assert_eq!((shortage.level, shortage.bound), (Level::Agent, Bound::Bytes(100)));
    assert_eq!(shortage.to_drop, Some(Count { files: 0, bytes: 1 }));
    left.store(100, Ordering::Relaxed);
    quota.look_again();
    let shortage = quota.check(Some(scope), 4).expect_err("over a quarter of 80 + 100");
    assert_eq!((shortage.bound, shortage.to_drop), (Bound::Bytes(45), None));
    quota.check(Some(quota.scope(NAMES[2])), 45).expect("another agent has its quarter");
}

#[test]
fn what_could_never_fit_is_told_from_what_does_not_fit_now() {
    let quota = quota(Policy::DropOldest);
    let scope = Some(quota.scope(NAMES[0]));
    let never =
        |bytes| quota.check(scope, bytes).err().map(|short| (short.level, short.never, short.to_drop));
    assert_eq!(never(200), None);
    assert_eq!(never(201), Some((Level::Agent, true, None)));
    quota.reserve(scope, 150).map(|room| room.settle(150)).expect("there is room");
    assert_eq!(never(200), Some((Level::Agent, false, Some(Count { files: 0, bytes: 150 }))));
    let data = Some(quota.scope(NAMES[2]));
    quota.reserve(data, 150).map(|room| room.settle(150)).expect("there is room");
    assert_eq!(quota.check(data, 51).err().and_then(|short| short.to_drop), None, "it refuses");
}

/// One control byte each, and a table at least 7/16 full.
#[test]
fn an_agent_costs_at_most_64_bytes() {
    assert!((size_of::<(AgentKey, Count)>() + 1) * 16 / 7 <= 64);
}
