//! Dead letters on their way, on the disk that forgets: wherever it ends, each becomes one package, or is recorded and
//! goes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::memory::{Fuse, Memory};
use crate::clock::Clock;
use crate::fs::Fs;
use crate::{Duplicates, LossReason, Overflow, Settings, Spool, TakenUp, recover};

/// More than two batches.
const LETTERS: usize = 5;

/// More steps than taking all of them up has.
const STEPS: u32 = 150;

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
    recover::open_on(Arc::new(disk.clone()), clock, None, &settings).expect("it opens").0
}

/// With a time and without.
fn names() -> Vec<String> {
    (0..LETTERS).map(|number| format!("a.{}.data", number % 2 * 1_700_000_000 + number)).collect()
}

fn disk_with_letters() -> Memory {
    let disk = Memory::new(Path::new("/data"));
    drop(open(&disk));
    for directory in ["/data/spool/requeue", "/data/spool/purge"].map(Path::new) {
        for name in names() {
            let mut file = disk.create_new(&directory.join(&name)).unwrap();
            file.write_at(0, name.as_bytes()).unwrap();
            file.sync().unwrap();
        }
        disk.sync_dir(directory).unwrap();
    }
    disk
}

/// Whether the process died.
fn live(fuse: Fuse, power_too: bool) -> bool {
    let disk = disk_with_letters();
    let spool = open(&disk);
    disk.light(fuse);
    let mut taken_up = spool.take_up_dead_letters(|| true);
    if taken_up.as_ref().is_ok_and(|taken_up| taken_up.waiting > 0) {
        taken_up = spool.take_up_dead_letters(|| true);
    }
    let (died, went_well) = (disk.is_dead(), taken_up.is_ok_and(|taken_up| taken_up.waiting == 0));
    drop(spool);
    disk.kill();
    if power_too {
        disk.power_cut(&mut |_| 0);
    }
    let spool = open(&disk);
    let taken_up = spool.take_up_dead_letters(|| true).unwrap();
    assert_eq!((taken_up.waiting, taken_up.returned), (0, 0), "{fuse:?}: {taken_up:?}");
    assert!(!went_well || taken_up == TakenUp::default(), "{fuse:?}: {taken_up:?} was there already");
    let listing = spool.listing();
    let mut listed: Vec<_> = listing.names().map(|name| String::from_utf8(name.to_vec()).unwrap()).collect();
    listed.sort();
    let mut sent = names();
    sent.sort();
    assert_eq!(listed, sent, "{fuse:?}");
    for package in listed.iter().map(|name| spool.find(name.as_bytes()).unwrap()) {
        assert!(spool.open_verified(&package).is_ok(), "{fuse:?}");
    }
    let purged = spool.losses().into_iter().filter(|loss| loss.reason == LossReason::Purged);
    assert!(purged.map(|loss| loss.packages).sum::<u64>() >= LETTERS as u64, "{fuse:?}");
    for directory in ["/data/spool/requeue", "/data/spool/purge", "/data/spool/corrupt"] {
        assert!(disk.list(Path::new(directory)).unwrap().is_empty(), "{fuse:?}: {directory}");
    }
    died
}

#[test]
fn wherever_it_ends_each_is_one_package_or_recorded_and_gone() {
    for power_too in [false, true] {
        let died = (0..STEPS).filter(|&step| live(Fuse::Death(step), power_too)).count();
        assert!((20..STEPS as usize).contains(&died), "{died} steps");
        for step in 0..STEPS {
            live(Fuse::FailedFsync(step), power_too);
            live(Fuse::FailedCall(step), power_too);
            live(Fuse::NoDescriptor(step), power_too);
        }
    }
}
