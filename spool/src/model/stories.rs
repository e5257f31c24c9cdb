//! Lives of a spool that chance finds too seldom. What they must not do is checked by their owner.

use std::path::Path;

use super::memory::Fuse;
use super::promises::{Crash, MINUTE, NAMES, Owner, State, Step, bytes};
use crate::Id;
use crate::fs::Fs;

fn live(steps: impl IntoIterator<Item = Step>) -> Owner {
    let mut owner = Owner::new(1, u32::MAX);
    steps.into_iter().for_each(|step| owner.take(step));
    owner
}

/// The record was written, not fsynced, and the process died: the next start acts upon it, so it must make it
/// durable. The owner checks that the last commit is a repeat.
#[test]
fn a_record_found_is_made_durable_before_it_counts() {
    let package = vec![(2, 0)];
    live([
        Step::Commit(package.clone()),
        Step::Light(Fuse::Death(1), Crash::Process),
        Step::Delete(vec![0]),
        Step::Crash(Crash::Blackout),
        Step::Commit(package),
    ]);
}

/// The record of a deletion goes when it is old, so the unlinking must be durable by itself. Some of the power
/// cuts keep the removal of the record, and all else that was left to chance is lost.
#[test]
fn a_deletion_outlives_its_record() {
    for seed in 0..50 {
        let mut owner = live([
            Step::Commit(vec![(0, 0), (0, 1), (0, 2), (1, 0), (2, 0)]),
            Step::Delete(vec![0, 1, 2, 3]),
            Step::Wait(20 * MINUTE),
            Step::Delete(vec![0]),
        ]);
        let segments = owner.disk.list(Path::new("/data/spool/seen")).unwrap();
        assert_eq!(segments.len(), 1, "the first segment is gone");
        owner.take(Step::Crash(Crash::Power(seed)));
        assert_eq!(owner.spool().usage().files, 0);
    }
}

/// An operator copied a package back; it counts, so it must survive as if the spool had stored it.
#[test]
fn what_somebody_put_there_is_made_durable() {
    let mut owner = live([]);
    let path = owner.spool().store.layout.package(Id { run: 1, counter: 0 }, 7, NAMES[0]);
    owner.disk.create_new(&path).unwrap().write_at(0, &bytes(1)).unwrap();
    owner.states.insert((NAMES[0], 1), State::Unsure);
    owner.take(Step::Crash(Crash::Process));
    owner.take(Step::Crash(Crash::Blackout));
    assert_eq!(owner.spool().usage().files, 1);
}
