//! Lives of a spool that chance finds too seldom. What they must not do is checked by their owner.

use std::path::Path;

use super::memory::Fuse;
use super::promises::{MINUTE, NAMES, Owner, State, bytes};
use super::steps::{Crash, Step};
use crate::fs::Fs;
use crate::names::COPIES;
use crate::{CommitError, Id, LossReason, Stored};

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
            Step::Wait(8 * 24 * 60 * MINUTE),
            Step::Delete(vec![0]),
        ]);
        let segments = owner.disk.list(Path::new("/data/spool/seen")).unwrap();
        assert_eq!(segments.len(), 1, "the first segment is gone");
        owner.take(Step::Crash(Crash::Power(seed)));
        assert_eq!(owner.spool().usage().files, 0);
    }
}

/// An operator copied packages back; they count, so they must survive as if the spool had stored them: few are fsynced
/// one by one, more together.
#[test]
fn what_somebody_put_there_is_made_durable() {
    for count in [1, 3] {
        let mut owner = live([]);
        for (counter, name) in NAMES.into_iter().take(count).enumerate() {
            let id = Id { run: 1, counter: counter as u64 };
            let path = owner.spool().store.layout.package(id, 7, name);
            owner.disk.create_new(&path).unwrap().write_at(0, &bytes(1)).unwrap();
            // The disk in memory gives new files the time 0.
            owner.states.insert(((name, 1), 0), State::Unsure);
        }
        owner.take(Step::Crash(Crash::Process));
        owner.take(Step::Crash(Crash::Blackout));
        assert_eq!(owner.spool().usage().files, count as u64);
    }
}

/// Always the same name and bytes.
fn report() -> Step {
    Step::Commit(vec![(1, 0)])
}

/// Nobody pulls for a day, and a plugin reports the same every five minutes: each quarter of an hour is a package.
/// Then all is pulled, oldest first, with some restarts on the way. The owner checks each answer.
#[test]
fn a_day_of_equal_reports_is_kept() {
    let mut owner = live((0..288).flat_map(|_| [report(), Step::Wait(5 * MINUTE - 2)]));
    assert_eq!(owner.spool().usage().files, 96);
    for left in (0..96).rev() {
        if left % 10 == 0 {
            owner.take(Step::Crash(Crash::Blackout));
        }
        owner.take(Step::Delete(vec![0]));
        owner.take(report());
        assert_eq!(owner.spool().usage().files, left, "a repeat of the one just deleted");
    }
}

/// The reports go on while the oldest are pulled, for longer than the ring of names is.
#[test]
fn pulling_may_lag_behind_for_ever() {
    let step = |_| [report(), Step::Wait(20 * MINUTE), Step::Delete(vec![0]), Step::Wait(20 * MINUTE)];
    let backlog = (0..10).flat_map(|_| [report(), Step::Wait(20 * MINUTE)]);
    let owner = live(backlog.chain((0..2 * COPIES).flat_map(step)));
    assert_eq!(owner.spool().usage().files, 10);
}

/// Beyond the bound the sender is told; it is never taken for a repeat.
#[test]
fn more_equal_reports_than_names_are_refused() {
    let mut owner = live((0..=COPIES).flat_map(|_| [report(), Step::Wait(20 * MINUTE)]));
    let commit = |owner: &Owner| {
        let mut draft = owner.spool().begin(NAMES[1], 1).unwrap();
        draft.write(&bytes(0)).unwrap();
        owner.spool().commit(vec![draft]).remove(0)
    };
    assert_eq!(owner.spool().usage().files, u64::from(COPIES) + 1);
    assert!(matches!(commit(&owner), Err(CommitError::NoFreeName)));
    owner.take(Step::Crash(Crash::Blackout));
    assert!(matches!(commit(&owner), Err(CommitError::NoFreeName)), "after a start, too");
    owner.take(Step::Delete(vec![0, 1]));
    assert!(matches!(commit(&owner), Ok(Stored::Repeat)), "of the one just deleted");
    owner.take(Step::Wait(20 * MINUTE));
    assert!(matches!(commit(&owner), Ok(Stored::New { .. })));
}

/// A puller delivered a package, its deletion was lost on the way back, and the sender reports the same again: under the
/// old name the puller would take that for what it has.
#[test]
fn an_equal_package_without_a_time_never_comes_under_the_name_of_a_deleted_one() {
    let mut owner = live([]);
    let mut listed = std::collections::BTreeSet::new();
    for _ in 0..10 {
        owner.take(report());
        let names: Vec<Vec<u8>> = owner.spool().listing().names().map(<[u8]>::to_vec).collect();
        assert_eq!(names.len(), 1);
        assert!(listed.insert(names.concat()), "a name was given twice");
        owner.take(Step::Delete(vec![0]));
        owner.take(Step::Wait(60 * MINUTE));
        owner.take(Step::Crash(Crash::Blackout));
    }
}

/// A flood of connections takes all descriptors. A commit needs one for each of its files and nothing more; without
/// it the file is refused, no other one is, and nothing has to be started again.
#[test]
fn a_lack_of_descriptors_refuses_what_needs_one_and_no_more() {
    let files = |owner: &Owner| owner.spool().usage().files;
    let lack = |after| Step::Light(Fuse::NoDescriptor(after), Crash::Process);
    let mut owner = live([lack(1), Step::Commit(vec![(2, 0)])]);
    assert_eq!(files(&owner), 1, "there was one left");
    owner.take(Step::Delete(vec![0]));
    assert_eq!(files(&owner), 0, "none is needed");
    owner.take(Step::Commit(vec![(2, 1), (2, 2)]));
    assert_eq!(files(&owner), 1, "not the one that was too large for memory");
    owner.take(Step::Commit(vec![(2, 2)]));
    owner.take(Step::Crash(Crash::Blackout));
    assert_eq!(files(&owner), 2);
}

/// The record of deletions goes on in a new file every now and then.
#[test]
fn a_deletion_that_lacks_a_descriptor_is_made_up_for() {
    let mut owner = live([
        Step::Commit(vec![(2, 0), (2, 1), (1, 0), (1, 1), (0, 0)]),
        Step::Delete(vec![0, 1, 2, 3]),
        Step::Light(Fuse::NoDescriptor(0), Crash::Process),
        Step::Delete(vec![0]),
    ]);
    assert_eq!(owner.spool().usage().files, 1, "refused");
    owner.take(Step::Delete(vec![0]));
    owner.take(Step::Crash(Crash::Blackout));
    assert_eq!(owner.spool().usage().files, 0);
}

/// The files of a batch are in `ready/` when the fsync of that directory fails, and the process is killed before it can
/// remove them. Its senders heard nothing, or a refusal; the next start must not count them for packages.
#[test]
fn a_batch_that_failed_is_not_there_after_a_start() {
    let ready = Path::new("/data/spool/ready");
    let mut owner = live([Step::Commit(vec![(2, 0)])]);
    // The fsync of the file works, that of the directory does not; two changes leave the marker.
    owner.disk.light(Fuse::FailedThenDeath(1, 2));
    let mut draft = owner.spool().begin(NAMES[2], 1).unwrap();
    draft.write(b"x").unwrap();
    owner.spool().commit(vec![draft]).remove(0).unwrap_err();
    assert!(owner.disk.is_dead());
    owner.disk.kill();
    assert_eq!(owner.disk.list(ready).unwrap().len(), 2, "it was killed before it could tidy up");
    owner.take(Step::Crash(Crash::Process));
    assert_eq!(owner.disk.list(ready).unwrap().len(), 1);
    assert!(owner.disk.open(Path::new("/data/spool/failed")).is_err(), "the marker is gone");
    owner.take(Step::Crash(Crash::Blackout));
}

/// The cache shows a package whose bytes the disk has lost, and an fsync has failed: the start looks at the disk.
#[test]
fn after_a_failed_write_the_cache_is_not_believed() {
    let mut owner = live([Step::Commit(vec![(2, 0), (2, 1)])]);
    let package = owner.spool().find(NAMES[2]).unwrap();
    let path = owner.spool().store.layout.package(package.id, package.digest, &package.listed_name);
    owner.disk.lose_behind_the_cache(&path);
    let place = owner.states.keys().find(|((_, content), _)| bytes(*content).len() as u64 == package.size);
    let copy = *place.unwrap();
    owner.take(Step::Crash(Crash::Process));
    assert_eq!(owner.spool().usage().files, 2, "nothing has failed, as far as anybody knows");
    owner.take(Step::Light(Fuse::FailedFsync(0), Crash::Process));
    owner.states.remove(&copy);
    owner.perhaps_lost += 1;
    owner.take(Step::Lose(2));
    assert_eq!(owner.spool().usage().files, 1);
    let losses = owner.spool().losses();
    assert_eq!((losses[0].reason, losses[0].bytes), (LossReason::Corrupt, package.size));
    assert_eq!(owner.disk.list(Path::new("/data/spool/corrupt")).unwrap().len(), 1);
}
