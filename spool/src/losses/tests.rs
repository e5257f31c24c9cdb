//! What was recorded is never forgotten, whatever happens to the disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::clock::Clock;
use crate::model::memory::{Fuse, Memory};
use crate::{Duplicates, Settings, recover};

const ROOT: &str = "/data/spool";

fn open(disk: &Memory) -> Spool {
    let settings = Settings {
        root: PathBuf::from(ROOT),
        max_bytes: u64::MAX,
        max_files: u64::MAX,
        reserve_bytes: 0,
        duplicates: Duplicates::default(),
        sync_threads: 1,
        overflow: crate::Overflow::default(),
    };
    let clock = Clock::new(|| 1_700_000_000_000);
    recover::open_on(Arc::new(disk.clone()), clock, None, &settings).unwrap().0
}

fn new_disk() -> Memory {
    Memory::new(Path::new("/data"))
}

/// "class reason packages bytes", in order.
fn shown(spool: &Spool) -> Vec<String> {
    let show = |loss: &Loss| format!("{} {} {} {}", loss.class, loss.reason, loss.packages, loss.bytes);
    spool.losses().iter().map(show).collect()
}

fn packages(spool: &Spool) -> u64 {
    spool.losses().iter().map(|loss| loss.packages).sum()
}

fn segments(disk: &Memory) -> usize {
    disk.list(&Path::new(ROOT).join("losses")).unwrap().len()
}

#[test]
fn refusals_of_one_sort_are_one_record_a_flush() {
    let disk = new_disk();
    let spool = open(&disk);
    for _ in 0..1000 {
        spool.refused("data", LossReason::Full, 10);
    }
    spool.refused("inventory", LossReason::Full, 7);
    assert!(spool.losses().is_empty(), "not durable yet");
    spool.flush_losses().unwrap();
    spool.refused("data", LossReason::Full, 1);
    spool.flush_losses().unwrap();
    spool.flush_losses().unwrap();
    let expected = ["data full 1000 10000", "inventory full 1 7", "data full 1 1"];
    assert_eq!(shown(&spool), expected);
    drop(spool);
    disk.power_cut(&mut |_| 0);
    assert_eq!(shown(&open(&disk)), expected);
}

#[test]
fn a_drop_is_durable_when_it_is_recorded_and_numbers_only_grow() {
    let disk = new_disk();
    let mut last = None;
    for start in 0..5 {
        let spool = open(&disk);
        spool.store.record_losses(&[Loss::of("data", LossReason::Dropped, 5, 1)]).unwrap();
        let newest = spool.losses().last().map(|loss| loss.id);
        assert!(newest > last, "start {start}");
        last = newest;
        drop(spool);
        disk.power_cut(&mut |_| 0);
    }
    assert_eq!(packages(&open(&disk)), 5);
}

#[test]
fn the_number_of_records_is_bounded_and_no_package_is_forgotten() {
    let disk = new_disk();
    let spool = open(&disk);
    for number in 0..100 {
        spool.refused(["data", "inventory"][number % 2], LossReason::Full, 1);
        spool.flush_losses().unwrap();
        assert!(spool.losses().len() <= SEGMENT_RECORDS && segments(&disk) == 1);
        assert_eq!(packages(&spool), number as u64 + 1);
    }
    let before = spool.losses();
    assert!(before.windows(2).all(|pair| pair[0].id < pair[1].id));
    drop(spool);
    disk.power_cut(&mut |_| 0);
    assert_eq!(packages(&open(&disk)), 100);
}

/// The process dies after every number of calls, in flushes that also begin new segments.
#[test]
fn a_death_at_any_call_loses_nothing_that_was_acknowledged_and_doubles_nothing() {
    for calls in 0..40 {
        for cut in [false, true] {
            let disk = new_disk();
            let spool = open(&disk);
            // Up to the last record that fits.
            for _ in 0..SEGMENT_RECORDS - 1 {
                spool.refused("data", LossReason::Full, 1);
                spool.flush_losses().unwrap();
            }
            let mut acknowledged = packages(&spool);
            disk.light(Fuse::Death(calls));
            while !disk.is_dead() {
                spool.refused("data", LossReason::Full, 1);
                acknowledged += u64::from(spool.flush_losses().is_ok());
            }
            drop(spool);
            disk.kill();
            if cut {
                disk.power_cut(&mut |_| 0);
            }
            let found = packages(&open(&disk));
            assert!((acknowledged..=acknowledged + 1).contains(&found), "{acknowledged} {found} at {calls}");
            assert_eq!(packages(&open(&disk)), found);
        }
    }
}

#[test]
fn a_failed_write_is_made_up_for() {
    let disk = new_disk();
    let spool = open(&disk);
    for _ in 0..SEGMENT_RECORDS - 1 {
        spool.refused("data", LossReason::Full, 1);
        spool.flush_losses().unwrap();
    }
    disk.light(Fuse::NoDescriptor(0));
    spool.refused("data", LossReason::Full, 1);
    spool.flush_losses().unwrap_err();
    spool.refused("data", LossReason::Full, 1);
    spool.flush_losses().unwrap();
    assert_eq!(packages(&spool), SEGMENT_RECORDS as u64 + 1);
    assert_eq!(spool.usage().poisoned, None);
    assert_eq!(packages(&open(&disk)), SEGMENT_RECORDS as u64 + 1);
}

#[test]
fn a_failed_fsync_poisons() {
    let disk = new_disk();
    let spool = open(&disk);
    disk.light(Fuse::FailedFsync(0));
    spool.refused("data", LossReason::Full, 1);
    spool.flush_losses().unwrap_err();
    assert!(spool.usage().poisoned.is_some());
}

#[test]
fn a_full_disk_takes_records_up_to_a_bound_and_none_is_forgotten() {
    let disk = new_disk();
    let spool = open(&disk);
    disk.fill(true);
    let flush = |spool: &Spool| {
        spool.refused("data", LossReason::Full, 1);
        spool.flush_losses().is_ok()
    };
    let mut recorded = 0;
    while flush(&spool) {
        recorded += 1;
    }
    assert_eq!(packages(&spool), recorded);
    assert_eq!(recorded, (SEGMENT_RECORDS + SURPLUS) as u64 - 1, "but for the head");
    drop(spool);
    disk.power_cut(&mut |_| 0);
    let spool = open(&disk);
    assert_eq!((packages(&spool), segments(&disk)), (recorded, 1));
    assert!(!flush(&spool));
    disk.fill(false);
    spool.flush_losses().unwrap();
    assert_eq!((packages(&spool), segments(&disk)), (recorded + 1, 1));
    assert!(spool.losses().len() <= SEGMENT_RECORDS);
}

#[test]
fn a_flipped_bit_costs_one_record() {
    // As they were written, and as they were carried over.
    flip_a_bit_of_the_second(3);
    flip_a_bit_of_the_second(SEGMENT_RECORDS);
}

fn flip_a_bit_of_the_second(records: usize) {
    let root = tempfile::tempdir().unwrap();
    let settings = Settings {
        root: root.path().to_owned(),
        max_bytes: 1_000,
        max_files: 10,
        reserve_bytes: 0,
        duplicates: Duplicates::default(),
        sync_threads: 1,
        overflow: crate::Overflow::default(),
    };
    let spool = Spool::open(settings.clone()).unwrap().0;
    for _ in 0..records {
        spool.refused("data", LossReason::Full, 1);
        spool.flush_losses().unwrap();
    }
    let mut left = spool.losses();
    left.remove(1);
    drop(spool);
    let path = std::fs::read_dir(root.path().join("losses")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[2 * RECORD_BYTES + 5] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(Spool::read_losses(root.path()).unwrap(), left);
    assert_eq!(Spool::open(settings).unwrap().0.losses(), left);
    assert_eq!(Spool::read_losses(root.path()).unwrap(), left);
}
