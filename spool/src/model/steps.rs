//! What happens to a spool in a random life.

use proptest::prelude::*;

use super::memory::Fuse;
use super::promises::{MINUTE, NAMES, SIZES};
use crate::clock::Millis;

#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Commit a batch of (name, content).
    Commit(Vec<(usize, usize)>),
    /// Delete the packages at these places of the listing.
    Delete(Vec<usize>),
    /// Both at once: one begins before the change after that many of the other, the commit in the middle or not.
    Beside {
        batch: Vec<(usize, usize)>,
        places: Vec<usize>,
        after: u32,
        commit_within: bool,
    },
    Wait(Millis),
    /// The clock is set back.
    Back(Millis),
    Crash(Crash),
    /// A crash, and during the next start another one, or a failed fsync.
    CrashTwice(Crash, Fuse),
    /// Refuse packages, and drop some as if there were no room: what gets recorded.
    Lose(u64),
    /// Somebody fills the disk, or room returns.
    Fill(bool),
    /// Something goes wrong after some more calls; a process that dies of it ends in that way.
    Light(Fuse, Crash),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Crash {
    /// Of the process only.
    Process,
    /// Of the power, with a seed for what is lost.
    Power(u64),
    /// Of the power, and all is lost that was not made durable.
    Blackout,
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let batch = || prop::collection::vec((0..NAMES.len(), 0..SIZES.len()), 1..5);
    let places = || prop::collection::vec(0..9_usize, 1..4);
    let minutes =
        |minutes: &[Millis]| prop::sample::select(minutes.iter().map(|it| it * MINUTE).collect::<Vec<_>>());
    let crash = || {
        prop_oneof![
            2 => Just(Crash::Process),
            4 => any::<u64>().prop_map(Crash::Power),
            1 => Just(Crash::Blackout),
        ]
    };
    let fuse = prop_oneof![
        2 => (0..6_u32).prop_map(Fuse::Death),
        2 => (0..40_u32).prop_map(Fuse::Death),
        2 => (0..12_u32).prop_map(Fuse::FailedFsync),
        2 => (0..12_u32, 0..12_u32).prop_map(|(fsyncs, changes)| Fuse::FailedThenDeath(fsyncs, changes)),
        2 => (0..30_u32).prop_map(Fuse::FailedCall),
        2 => (0..4_u32).prop_map(Fuse::NoDescriptor),
    ];
    let at_start = prop_oneof![
        1 => (0..60_u32).prop_map(Fuse::Death),
        1 => (0..30_u32).prop_map(Fuse::FailedFsync),
    ];
    prop_oneof![
        4 => batch().prop_map(Step::Commit),
        4 => places().prop_map(Step::Delete),
        2 => (batch(), places(), 0..20_u32, any::<bool>()).prop_map(|(batch, places, after, commit_within)| {
            Step::Beside { batch, places, after, commit_within }
        }),
        2 => minutes(&[1, 10, 20, 4 * 24 * 60]).prop_map(Step::Wait),
        1 => minutes(&[1, 30, 90, 10 * 365 * 24 * 60]).prop_map(Step::Back),
        2 => crash().prop_map(Step::Crash),
        2 => (crash(), at_start).prop_map(|(crash, fuse)| Step::CrashTwice(crash, fuse)),
        1 => (1..4_u64).prop_map(Step::Lose),
        2 => any::<bool>().prop_map(Step::Fill),
        2 => (fuse, crash()).prop_map(|(fuse, crash)| Step::Light(fuse, crash)),
    ]
}
