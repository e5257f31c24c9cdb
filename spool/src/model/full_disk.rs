//! A class that drops its oldest, on a disk that somebody fills: packages go where that makes room, and only there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::memory::Memory;
use crate::clock::Clock;
use crate::overflow::{Class, DATA_CLASS, Overflow, Policy};
use crate::{Draft, Dropped, Duplicates, Full, Settings, Spool, Stored, recover};

const RESERVE: u64 = 100_000_000;
const SIZE: usize = 10_000;
const FULL: Full = Full::FreeSpace { reserve: RESERVE };

/// One with that many packages, on a disk without limits.
fn spool(packages: usize) -> (Memory, Spool) {
    let disk = Memory::new(Path::new("/data"));
    let settings = Settings {
        root: PathBuf::from("/data/spool"),
        max_bytes: u64::MAX,
        max_files: u64::MAX,
        reserve_bytes: RESERVE,
        duplicates: Duplicates::default(),
        sync_threads: 1,
        overflow: Overflow::new(
            Class { policy: Policy::DropOldest, ..Class::new(DATA_CLASS) },
            vec![],
            |_| None,
        ),
    };
    let clock = Clock::new(|| 1_700_000_000_000);
    let (spool, _) = recover::open_on(Arc::new(disk.clone()), clock, None, &settings).expect("it opens");
    (0..packages).for_each(|number| {
        send(&spool, number).expect("there is no end of room");
    });
    (disk, spool)
}

fn send(spool: &Spool, number: usize) -> Result<Dropped, Full> {
    let size = SIZE as u64;
    let (mut draft, dropped) = spool.begin_dropping(&name(number), size, size)?;
    draft.write(&[b'x'; SIZE]).expect("there is room");
    commit(spool, draft);
    Ok(dropped)
}

fn commit(spool: &Spool, draft: Draft) {
    let stored = spool.commit(vec![draft]).remove(0).expect("it is stored");
    assert!(matches!(stored, Stored::New { .. }));
}

fn name(number: usize) -> Vec<u8> {
    format!("web.{number}.data").into_bytes()
}

fn packages(spool: &Spool) -> usize {
    spool.listing().names().count()
}

fn free(disk: &Memory, spool: &Spool, bytes: u64, inodes: Option<u64>) {
    disk.set_free(bytes, inodes);
    spool.store.quota.look_again();
}

#[test]
fn a_disk_that_others_fill_costs_no_package() {
    let (disk, spool) = spool(40);
    for left in [0, RESERVE / 2, RESERVE - 2_000_000] {
        free(&disk, &spool, left, None);
        for number in 40..50 {
            assert_eq!(send(&spool, number), Err(FULL));
        }
    }
    assert_eq!((packages(&spool), spool.usage().dropped), (40, 0));
    free(&disk, &spool, RESERVE + 100_000, None);
    assert_eq!(send(&spool, 50), Ok(Dropped::default()));
}

#[test]
fn a_disk_that_the_class_fills_keeps_the_newest() {
    let (disk, spool) = spool(10);
    // Some more is gone than was counted, as that of whole blocks.
    free(&disk, &spool, RESERVE - 15_000, None);
    for number in 10..100 {
        send(&spool, number).expect("older ones go");
        assert!(packages(&spool) >= 6, "no more than needed");
        assert!(spool.find(&name(number)).is_some() && spool.find(&name(number - 5)).is_some());
    }
}

#[test]
fn where_space_does_not_return_at_once_nothing_more_goes() {
    let (disk, spool) = spool(40);
    free(&disk, &spool, RESERVE, None);
    disk.hold_space_back(true);
    for number in 40..60 {
        assert_eq!(send(&spool, number), Err(FULL));
    }
    let left = packages(&spool);
    assert!((36..40).contains(&left), "one drop for all of them: {left}");
    disk.hold_space_back(false);
    spool.store.quota.look_again();
    for number in 60..80 {
        send(&spool, number).expect("the space is back");
    }
    assert!(packages(&spool) >= left - 1);
}

#[test]
fn bytes_on_the_disk_are_counted_once() {
    let (disk, spool) = spool(0);
    let piece = vec![b'x'; 1 << 20];
    free(&disk, &spool, RESERVE + (9 << 20), None);
    let mut draft = spool.begin(&name(0), 0).expect("there is room");
    for _ in 0..8 {
        spool.store.quota.look_again();
        draft.reserve(1 << 20).expect("only what is missing on the disk counts");
        draft.write(&piece).expect("there is room");
    }
    spool.store.quota.look_again();
    assert_eq!(draft.reserve(2 << 20), Err(FULL));
    drop(draft);
    spool.store.quota.look_again();
    assert!(spool.begin(&name(1), 8 << 20).is_ok(), "it is free again");
}

#[test]
fn some_inodes_are_left_to_others() {
    let (disk, spool) = spool(20);
    free(&disk, &spool, u64::MAX / 2, Some(1_024 + 2));
    for number in 20..22 {
        assert_eq!(send(&spool, number), Ok(Dropped::default()));
    }
    let full = Full::Inodes { reserve: 1_024 };
    assert_eq!(spool.begin(&name(22), 1).err(), Some(full.clone()));
    assert!(full.to_string().contains("inodes"));
    assert_eq!(send(&spool, 22).map(|dropped| dropped.packages > 0), Ok(true), "an older one's inode");
    free(&disk, &spool, u64::MAX / 2, Some(0));
    let before = packages(&spool);
    assert_eq!((send(&spool, 23), packages(&spool)), (Err(full), before), "others have taken them");
}
