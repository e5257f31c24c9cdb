//! Dead letters on the real disk: their ways back in and out, and what keeps them waiting.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::Path;

use tidegate_spool::{
    Condition, Damage, DeadLetters, Duplicates, LossReason, Overflow, SYNC_THREADS, SetAside, Settings,
    Spool, Stage, Stored, TakenUp, Unfit,
};

fn settings(root: &Path) -> Settings {
    Settings {
        root: root.join("spool"),
        max_bytes: 1_000_000,
        max_files: 1,
        reserve_bytes: 0,
        duplicates: Duplicates::default(),
        overflow: Overflow::default(),
        sync_threads: SYNC_THREADS,
    }
}

fn open(root: &Path) -> Spool {
    Spool::open(settings(root)).unwrap().0
}

fn store(spool: &Spool, name: &[u8], bytes: &[u8]) {
    let mut draft = spool.begin(name, bytes.len() as u64).unwrap();
    draft.write(bytes).unwrap();
    let stored = spool.commit(vec![draft]).remove(0).unwrap();
    assert!(matches!(stored, Stored::New { .. }));
}

fn delete(spool: &Spool, name: &[u8]) {
    let lease = spool.lease(name).unwrap();
    spool.delete(vec![lease]).remove(0).unwrap();
}

/// Changes the bytes of the only package, and has it set aside.
fn damage(spool: &Spool, root: &Path, name: &[u8]) {
    let file = fs::read_dir(root.join("spool/ready")).unwrap().next().unwrap().unwrap().path();
    fs::write(&file, "other").unwrap();
    let package = spool.find(name).unwrap();
    let Err(Unfit::Damaged(damage @ Damage::Changed { .. })) = spool.open_verified(&package) else {
        panic!("the damage is not seen");
    };
    let outcome = spool.set_aside(spool.lease(name).unwrap(), &damage).unwrap();
    assert_eq!(outcome, SetAside::Moved(root.join("spool/corrupt").join(file.file_name().unwrap())));
}

#[test]
fn a_requeued_one_waits_for_room() {
    let root = tempfile::tempdir().unwrap();
    let spool = open(root.path());
    store(&spool, b"a.5.data", b"whole");
    damage(&spool, root.path(), b"a.5.data");
    assert_eq!((spool.usage().files, spool.usage().bytes), (0, 0));
    store(&spool, b"b.5.data", b"b");
    let letters = DeadLetters::of(&root.path().join("spool"));
    letters.requeue(&letters.list().unwrap()[..1]).unwrap();
    for _ in 0..2 {
        let TakenUp { waiting, first_waiting, requeued, .. } = spool.take_up_dead_letters(|| true).unwrap();
        assert_eq!((waiting, requeued), (1, 0));
        assert!(first_waiting.unwrap().ends_with("a.5.data: the spool has reached its limit of 1 packages"));
    }
    assert_eq!(letters.list().unwrap()[0].stage, Stage::Requeued, "it is not out of sight");
    delete(&spool, b"b.5.data");
    assert_eq!(spool.take_up_dead_letters(|| true).unwrap(), TakenUp { requeued: 1, ..TakenUp::default() });
    assert_eq!(spool.take_up_dead_letters(|| true).unwrap(), TakenUp::default());
    let package = spool.find(b"a.5.data").unwrap();
    assert!(spool.open_verified(&package).is_ok(), "its bytes are what they are now");
}

#[test]
fn one_that_cannot_be_a_package_comes_back() {
    let root = tempfile::tempdir().unwrap();
    let spool = open(root.path());
    let long = "x".repeat(201);
    fs::write(root.path().join("spool/corrupt").join(&long), "foreign").unwrap();
    let letters = DeadLetters::of(&root.path().join("spool"));
    let found = letters.list().unwrap();
    assert!(found[0].sent_name.is_none() && matches!(found[0].condition, Condition::Foreign { .. }));
    letters.requeue(&found[..1]).unwrap();
    assert_eq!(spool.take_up_dead_letters(|| true).unwrap(), TakenUp { returned: 1, ..TakenUp::default() });
    assert_eq!(letters.list().unwrap().len(), 1);
    letters.purge(&letters.list().unwrap()[..1]).unwrap();
    assert_eq!(spool.take_up_dead_letters(|| true).unwrap(), TakenUp { purged: 1, ..TakenUp::default() });
    let losses = spool.losses();
    assert_eq!((losses.len(), losses[0].reason, losses[0].bytes), (1, LossReason::Purged, 7));
}

/// What is wrong with one is not the others' affair, and a stop is heeded.
#[test]
fn one_that_cannot_be_dealt_with_stops_neither_the_others_nor_the_purge() {
    let root = tempfile::tempdir().unwrap();
    let spool = open(root.path());
    let at = |path: &str| root.path().join("spool").join(path);
    fs::create_dir(at("purge/a")).unwrap();
    fs::write(at("purge/b"), "b").unwrap();
    fs::create_dir(at("requeue/a")).unwrap();
    fs::write(at("requeue/b.5.data"), "b").unwrap();
    assert_eq!(spool.take_up_dead_letters(|| false).unwrap(), TakenUp::default());
    let taken_up = spool.take_up_dead_letters(|| true).unwrap();
    let first_waiting = format!("{}: it is no file: remove it by hand", at("purge/a").display());
    let expected = TakenUp {
        requeued: 1,
        repeats: 0,
        purged: 1,
        returned: 1,
        waiting: 1,
        first_waiting: Some(first_waiting),
    };
    assert_eq!(taken_up, expected);
    assert!(at("corrupt/a").is_dir() && at("purge/a").is_dir());
    assert_eq!(spool.losses().len(), 1);
}

#[test]
fn more_than_a_batch_is_taken_up_in_one_call_and_in_order() {
    const LETTERS: usize = 700;
    let root = tempfile::tempdir().unwrap();
    let spool = Spool::open(Settings { max_files: 10_000, ..settings(root.path()) }).unwrap().0;
    for number in 0..LETTERS {
        fs::write(root.path().join(format!("spool/requeue/a.{number:03}.data")), number.to_string()).unwrap();
        fs::write(root.path().join(format!("spool/purge/b.{number:03}.data")), "x").unwrap();
    }
    let mut asked = 0;
    let taken_up = spool.take_up_dead_letters(|| {
        asked += 1;
        asked < 6
    });
    // Three batches of each: one asks before each, and the last is for another time.
    let expected = TakenUp { requeued: 512, purged: LETTERS as u64, ..TakenUp::default() };
    assert_eq!((taken_up.unwrap(), asked), (expected, 6));
    assert_eq!(spool.losses().iter().map(|loss| loss.packages).sum::<u64>(), LETTERS as u64);
    let left = TakenUp { requeued: LETTERS as u64 - 512, ..TakenUp::default() };
    assert_eq!(spool.take_up_dead_letters(|| true).unwrap(), left);
    assert_eq!(spool.listing().names().next(), Some(b"a.000.data".as_slice()));
}

/// One that was found damaged a moment before its deletion, or before a later package took its name.
#[test]
fn a_package_that_is_gone_is_not_set_aside_and_a_later_one_of_its_name_neither() {
    let root = tempfile::tempdir().unwrap();
    let spool = open(root.path());
    store(&spool, b"a.5.data", b"whole");
    let package = spool.find(b"a.5.data").unwrap();
    delete(&spool, b"a.5.data");
    assert!(matches!(spool.open_verified(&package), Err(Unfit::Damaged(Damage::Missing))));
    store(&spool, b"a.5.data", b"later");
    assert!(matches!(spool.open_verified(&package), Err(Unfit::Damaged(Damage::Missing))));
    assert!(spool.open_verified(&spool.find(b"a.5.data").unwrap()).is_ok());
    assert!(spool.losses().is_empty());
    assert_eq!(spool.usage().files, 1);
}
