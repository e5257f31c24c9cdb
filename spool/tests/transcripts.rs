//! The spool on the real disk, as its owner sees it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tidegate_spool::{
    CommitError, Duplicates, Full, OpenError, Overflow, Recovery, SYNC_THREADS, Settings, Spool, Stored,
};

fn settings(root: &Path) -> Settings {
    Settings {
        root: root.join("spool"),
        max_bytes: 1_000_000,
        max_files: 1_000,
        reserve_bytes: 0,
        duplicates: Duplicates::default(),
        sync_threads: SYNC_THREADS,
        overflow: Overflow::default(),
    }
}

fn open(root: &Path) -> Spool {
    Spool::open(settings(root)).unwrap().0
}

fn draft(spool: &Spool, name: &str, bytes: &[u8]) -> tidegate_spool::Draft {
    let mut draft = spool.begin(name.as_bytes(), bytes.len() as u64).unwrap();
    draft.write(bytes).unwrap();
    draft
}

fn commit(spool: &Spool, batch: &[(&str, &[u8])]) -> Vec<Result<Stored, CommitError>> {
    let batch = batch.iter().map(|(name, bytes)| draft(spool, name, bytes));
    spool.commit(batch.collect())
}

/// "new <listed name>" or "repeat".
fn store(spool: &Spool, name: &str, bytes: &[u8]) -> String {
    match commit(spool, &[(name, bytes)]).remove(0).unwrap() {
        Stored::New { package } => format!("new {}", String::from_utf8_lossy(&package.listed_name)),
        Stored::Repeat => "repeat".to_owned(),
    }
}

fn listing(spool: &Spool) -> String {
    let (mut listing, mut text) = (spool.listing(), String::new());
    listing.read_to_string(&mut text).unwrap();
    assert_eq!(listing.total_bytes(), text.len() as u64);
    text
}

fn read(spool: &Spool, name: &str) -> Vec<u8> {
    let package = spool.find(name.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    spool.open_package(&package).unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(package.size, bytes.len() as u64);
    bytes
}

fn delete(spool: &Spool, name: &str) {
    let lease = spool.lease(name.as_bytes()).unwrap();
    spool.delete(vec![lease]).remove(0).unwrap();
}

fn files_in(directory: &Path) -> usize {
    fs::read_dir(directory).unwrap().count()
}

#[test]
fn a_package_is_stored_found_read_and_deleted() {
    let root = tempfile::tempdir().unwrap();
    let spool = open(root.path());
    assert_eq!(store(&spool, "web.1700000000.data", b"<a/>"), "new web.1700000000.data");
    assert_eq!(store(&spool, "db.1700000000.data", b"<b/>"), "new db.1700000000.data");
    assert_eq!(listing(&spool), "web.1700000000.data\ndb.1700000000.data");
    assert_eq!(read(&spool, "web.1700000000.data"), b"<a/>");
    delete(&spool, "web.1700000000.data");
    assert_eq!(listing(&spool), "db.1700000000.data");
    assert!(spool.find(b"web.1700000000.data").is_none());
    assert!(spool.lease(b"web.1700000000.data").is_none());
    let usage = spool.usage();
    assert_eq!((usage.files, usage.bytes, usage.remembered, usage.repeats), (1, 4, 1, 0));
}

#[test]
fn an_operator_can_read_the_directory() {
    let root = tempfile::tempdir().unwrap();
    let spool = open(root.path());
    store(&spool, "web.1.data", b"hello");
    let entry = fs::read_dir(root.path().join("spool/ready")).unwrap().next().unwrap().unwrap();
    let name = entry.file_name().into_string().unwrap();
    let package = spool.find(b"web.1.data").unwrap();
    assert!(name.starts_with("000001"), "the first run: {name}");
    assert!(name.ends_with("-0000000000-2cf24dba5fb0a30e-web.1.data"), "sha256sum starts so: {name}");
    assert_eq!(fs::read(entry.path()).unwrap(), b"hello");
    assert_eq!(entry.metadata().unwrap().modified().unwrap(), package.arrival);
}

#[test]
fn everything_survives_opening_again_in_order_of_arrival() {
    let root = tempfile::tempdir().unwrap();
    let before = {
        let spool = open(root.path());
        store(&spool, "z.1.data", b"1");
        store(&spool, "a.1.data", b"2");
        spool.find(b"a.1.data")
    };
    let (spool, recovery) = Spool::open(settings(root.path())).unwrap();
    assert_eq!(recovery, Recovery { packages: 2, bytes: 2, ..Recovery::default() });
    assert_eq!(spool.find(b"a.1.data"), before);
    store(&spool, "m.1.data", b"3");
    assert_eq!(listing(&spool), "z.1.data\na.1.data\nm.1.data");
    assert!(spool.find(b"m.1.data").unwrap().id > before.unwrap().id);
    assert_eq!(store(&spool, "z.1.data", b"1"), "repeat");
}

#[test]
fn the_run_goes_on_counting_when_the_spool_is_empty() {
    let root = tempfile::tempdir().unwrap();
    let runs = [(); 3].map(|()| {
        let spool = open(root.path());
        store(&spool, "web.1.data", b"x");
        let run = spool.find(b"web.1.data").map(|package| package.id.run >> 40);
        if run.is_some() {
            delete(&spool, "web.1.data");
        }
        run
    });
    assert_eq!(runs, [Some(1), None, None], "the second and third were repeats");
    let spool = open(root.path());
    store(&spool, "web.2.data", b"x");
    assert_eq!(spool.find(b"web.2.data").unwrap().id.run >> 40, 4);
    assert!(files_in(&root.path().join("spool/seen")) <= 2, "starts without deletions leave nothing behind");
}

#[test]
fn a_repeat_is_recognised_while_stored_after_deletion_and_after_a_restart() {
    let root = tempfile::tempdir().unwrap();
    let spool = open(root.path());
    assert_eq!(store(&spool, "web.1700000000.data", b"x"), "new web.1700000000.data");
    assert_eq!(store(&spool, "web.1700000000.data", b"x"), "repeat");
    delete(&spool, "web.1700000000.data");
    assert_eq!(store(&spool, "web.1700000000.data", b"x"), "repeat");
    assert_eq!(spool.usage().repeats, 2);
    drop(spool);
    let spool = open(root.path());
    assert_eq!(store(&spool, "web.1700000000.data", b"x"), "repeat");
    assert_eq!(store(&spool, "web.1700000001.data", b"x"), "new web.1700000001.data");
}

#[test]
fn other_bytes_under_a_name_are_a_second_package() {
    let root = tempfile::tempdir().unwrap();
    let spool = open(root.path());
    let results = commit(&spool, &[("web.17.data", b"one"), ("web.17.data", b"two")]);
    let Stored::New { package } = results[1].as_ref().unwrap() else { panic!("a repeat") };
    let listed = String::from_utf8(package.listed_name.to_vec()).unwrap();
    let digits = package.digest % 10_000_000_000;
    assert_eq!(listed, format!("web.17{digits:010}.data"));
    drop(spool);
    let spool = open(root.path());
    assert_eq!(store(&spool, "web.17.data", b"two"), "repeat");
    assert_eq!(read(&spool, &listed), b"two");
    delete(&spool, "web.17.data");
    assert_eq!(store(&spool, "web.17.data", b"two"), "repeat", "though its own name is free now");
    delete(&spool, &listed);
    drop(spool);
    let spool = open(root.path());
    assert_eq!(store(&spool, "web.17.data", b"two"), "repeat");
    assert_eq!(store(&spool, "web.17.data", b"three"), "new web.17.data");
}

/// Sets the arrival of all packages in a closed spool: a file's modification time is its arrival.
fn set_arrival(root: &Path, arrival: SystemTime) {
    for entry in fs::read_dir(root.join("spool/ready")).unwrap() {
        fs::File::open(entry.unwrap().path()).unwrap().set_modified(arrival).unwrap();
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_name_without_a_time_is_new_again_while_the_last_is_still_there() {
    let root = tempfile::tempdir().unwrap();
    let names = ["host.0.data", "status", "web.1700000000.data"];
    let store_all = || names.map(|name| store(&open(root.path()), name, b"OK"));
    assert!(store_all().iter().all(|result| result.starts_with("new ")));
    set_arrival(root.path(), SystemTime::now() - 14 * MINUTE);
    assert_eq!(store_all(), ["repeat"; 3]);
    set_arrival(root.path(), SystemTime::now() - 15 * MINUTE);
    // `printf OK | sha256sum` starts with 565339bc4d33d728.
    let digest = 0x5653_39bc_4d33_d728_u64;
    let made = [0, 1].map(|step| (digest + step) % 10_000_000_000);
    assert_eq!(
        store_all(),
        [
            format!("new host.0{:010}.data", made[0]),
            format!("new status.{:09}", digest % 1_000_000_000),
            "repeat".to_owned(),
        ]
    );
    assert_eq!(store_all(), ["repeat"; 3], "the newest counts");
    set_arrival(root.path(), SystemTime::now() - 15 * MINUTE);
    assert_eq!(store_all()[0], format!("new host.0{:010}.data", made[1]));
    let spool = open(root.path());
    assert_eq!(spool.usage().files, 7);
    assert_eq!(read(&spool, &format!("host.0{:010}.data", made[1])), b"OK");
}

#[test]
fn an_arrival_under_a_wrong_clock_does_not_swallow_reports() {
    let root = tempfile::tempdir().unwrap();
    let store = || store(&open(root.path()), "host.0.data", b"OK").split(' ').next().unwrap().to_owned();
    assert_eq!(store(), "new");
    set_arrival(root.path(), SystemTime::now() + 30 * MINUTE);
    assert_eq!(store(), "repeat", "the clock was set back half an hour");
    set_arrival(root.path(), SystemTime::now() + 365 * 24 * 60 * MINUTE);
    assert_eq!([store(), store()], ["new", "repeat"]);
}

#[test]
fn the_deletion_of_any_copy_is_remembered_for_the_name_that_was_sent() {
    let root = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        assert!(store(&open(root.path()), "host.0.data", b"OK").starts_with("new "));
        set_arrival(root.path(), SystemTime::now() - 20 * MINUTE);
    }
    let listed = listing(&open(root.path()));
    let [first, second, third] = listed.lines().collect::<Vec<_>>()[..] else { panic!("{listed}") };
    for deleted in [second, first, third] {
        delete(&open(root.path()), deleted);
        assert_eq!(store(&open(root.path()), "host.0.data", b"OK"), "repeat");
    }
    let spool = open(root.path());
    assert_eq!(spool.usage().files, 0);
    // Rescued from `ready/` and sent again, each is a package of its own.
    assert!(store(&spool, second, b"OK").starts_with("new "));
    assert!(store(&spool, third, b"OK").starts_with("new "));
    assert_eq!(store(&spool, second, b"OK"), "repeat");
}

#[test]
fn a_repeat_in_a_batch_shares_the_fate_of_its_first_copy() {
    let root = tempfile::tempdir().unwrap();
    let spool = open(root.path());
    let results =
        commit(&spool, &[("a.1.data", b"x"), ("a.1.data", b"x"), ("b/c", b"x"), ("b.1.data", b"x")]);
    assert!(matches!(results[0], Ok(Stored::New { .. })));
    assert!(matches!(results[1], Ok(Stored::Repeat)));
    assert!(matches!(results[2], Err(CommitError::InvalidName)));
    assert!(matches!(results[3], Ok(Stored::New { .. })));
    assert_eq!(listing(&spool), "a.1.data\nb.1.data");
}

#[test]
fn large_and_small_drafts_come_out_as_they_went_in() {
    let root = tempfile::tempdir().unwrap();
    let spool = open(root.path());
    let bytes: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
    for (number, piece) in [1_000, 65_536, 65_537, 300_000].into_iter().enumerate() {
        let name = format!("web.{number}.data");
        let mut draft = spool.begin(name.as_bytes(), bytes.len() as u64).unwrap();
        bytes.chunks(piece).for_each(|piece| draft.write(piece).unwrap());
        assert_eq!(draft.written(), 300_000);
        assert!(spool.commit(vec![draft])[0].is_ok());
        assert!(read(&spool, &name) == bytes);
        delete(&spool, &name);
    }
}

#[test]
fn a_small_draft_makes_no_file_before_its_commit() {
    let root = tempfile::tempdir().unwrap();
    let spool = open(root.path());
    let tmp = root.path().join("spool/tmp");
    let small = draft(&spool, "a.1.data", &[1; 60_000]);
    assert_eq!(files_in(&tmp), 0);
    let mut large = draft(&spool, "a.1.data", &[1; 70_000]);
    assert_eq!(files_in(&tmp), 1);
    let mut bytes = Vec::new();
    large.contents().unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, [1; 70_000]);
    drop((small, large));
    assert_eq!(files_in(&tmp), 0);
}

#[test]
fn contents_can_be_read_in_the_middle_of_writing() {
    let root = tempfile::tempdir().unwrap();
    let spool = open(root.path());
    let mut draft = spool.begin(b"a.1.data", 6).unwrap();
    let read = |draft: &mut tidegate_spool::Draft| {
        let mut text = String::new();
        draft.contents().unwrap().read_to_string(&mut text).unwrap();
        text
    };
    assert_eq!(read(&mut draft), "");
    draft.write(b"one").unwrap();
    assert_eq!(read(&mut draft), "one");
    draft.write(b"two").unwrap();
    assert_eq!(read(&mut draft), "onetwo");
    assert!(spool.commit(vec![draft])[0].is_ok());
    assert_eq!(self::read(&spool, "a.1.data"), b"onetwo");
}

#[test]
fn room_is_promised_counted_and_given_back() {
    let root = tempfile::tempdir().unwrap();
    let settings = Settings { max_bytes: 100, max_files: 2, ..settings(root.path()) };
    let (spool, _) = Spool::open(settings).unwrap();
    let promised = spool.begin(b"a.1.data", 60).unwrap();
    assert_eq!(spool.begin(b"a.1.data", 41).err(), Some(Full::Bytes { max: 100 }));
    drop(promised);
    store(&spool, "a.1.data", &[0; 60]);
    assert_eq!(spool.begin(b"a.1.data", 41).err(), Some(Full::Bytes { max: 100 }));
    let mut second = spool.begin(b"b.1.data", 10).unwrap();
    assert_eq!(spool.begin(b"a.1.data", 1).err(), Some(Full::Files { max: 2 }));
    second.write(&[0; 40]).unwrap();
    let error = second.write(&[0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "more than announced, more than there is");
    assert!(matches!(spool.commit(vec![second])[0], Err(CommitError::Disk(_))));
    // A draft that got shorter than announced takes what it is long.
    let mut short = spool.begin(b"b.1.data", 40).unwrap();
    short.write(b"x").unwrap();
    assert!(spool.commit(vec![short])[0].is_ok());
    delete(&spool, "a.1.data");
    assert!(spool.begin(b"a.1.data", 99).is_ok());
}

/// What arrived of it is the same as a stored package, but it was cut short.
#[test]
fn an_incomplete_draft_is_no_repeat() {
    let root = tempfile::tempdir().unwrap();
    let settings = Settings { max_bytes: 10, ..settings(root.path()) };
    let (spool, _) = Spool::open(settings).unwrap();
    store(&spool, "a.1.data", b"abc");
    let mut cut = draft(&spool, "a.1.data", b"abc");
    cut.write(&[b'd'; 10]).unwrap_err();
    assert!(matches!(spool.commit(vec![cut])[0], Err(CommitError::Disk(_))));
    assert_eq!(store(&spool, "a.1.data", b"abc"), "repeat");
}

#[test]
fn the_reserve_of_the_file_system_is_left_free() {
    let root = tempfile::tempdir().unwrap();
    let settings = Settings { reserve_bytes: 1 << 60, ..settings(root.path()) };
    let (spool, _) = Spool::open(settings).unwrap();
    assert_eq!(spool.begin(b"a.1.data", 1).err(), Some(Full::FreeSpace { reserve: 1 << 60 }));
}

#[test]
fn one_process_a_spool() {
    let root = tempfile::tempdir().unwrap();
    let spool = open(root.path());
    let Err(OpenError::Locked { path, pid }) = Spool::open(settings(root.path())) else {
        panic!("opened twice")
    };
    assert_eq!((path, pid), (root.path().join("spool/lock"), Some(std::process::id())));
    drop(spool);
    open(root.path());
}

#[test]
fn a_lease_is_exclusive_until_it_is_dropped() {
    let root = tempfile::tempdir().unwrap();
    let spool = open(root.path());
    store(&spool, "a.1.data", b"x");
    let lease = spool.lease(b"a.1.data").unwrap();
    assert_eq!(lease.package().size, 1);
    assert!(spool.lease(b"a.1.data").is_none());
    drop(lease);
    delete(&spool, "a.1.data");
}

#[test]
fn what_does_not_belong_in_the_spool_is_put_aside() {
    let root = tempfile::tempdir().unwrap();
    {
        let spool = open(root.path());
        store(&spool, "a.1.data", b"x");
    }
    let [ready, corrupt, tmp] = ["ready", "corrupt", "tmp"].map(|name| root.path().join("spool").join(name));
    let package = fs::read_dir(&ready).unwrap().next().unwrap().unwrap();
    let name = package.file_name().into_string().unwrap();
    let copy = name.replacen("-0000000000-", "-0000000001-", 1);
    fs::copy(package.path(), ready.join(&copy)).unwrap();
    fs::write(ready.join("README"), "?").unwrap();
    fs::write(corrupt.join("README"), "an earlier one").unwrap();
    fs::create_dir(ready.join(name.replacen("-0000000000-", "-0000000002-", 1))).unwrap();
    fs::write(tmp.join("half"), "ha").unwrap();
    let (spool, recovery) = Spool::open(settings(root.path())).unwrap();
    assert_eq!((recovery.packages, recovery.unfinished, recovery.corrupt.len()), (1, 1, 3));
    assert_eq!((files_in(&ready), files_in(&tmp), files_in(&corrupt)), (1, 0, 4));
    assert_eq!(listing(&spool), "a.1.data");
    assert_eq!(fs::read(corrupt.join("README")).unwrap(), b"an earlier one");
    assert_eq!(fs::read(corrupt.join("renamed-1-README")).unwrap(), b"?");
    assert_eq!(fs::read(corrupt.join(copy)).unwrap(), b"x", "the copy with the later number");
}

#[test]
fn a_package_that_comes_back_after_its_deletion_is_removed_again() {
    let root = tempfile::tempdir().unwrap();
    let ready = root.path().join("spool/ready");
    let (path, bytes) = {
        let spool = open(root.path());
        store(&spool, "a.1.data", b"x");
        let path = fs::read_dir(&ready).unwrap().next().unwrap().unwrap().path();
        let bytes = fs::read(&path).unwrap();
        delete(&spool, "a.1.data");
        (path, bytes)
    };
    fs::write(path, bytes).unwrap();
    let (spool, recovery) = Spool::open(settings(root.path())).unwrap();
    assert_eq!((recovery.packages, recovery.deleted_again), (0, 1));
    assert_eq!((listing(&spool).as_str(), files_in(&ready)), ("", 0));
}

#[test]
fn nothing_is_remembered_that_shall_not_be() {
    let root = tempfile::tempdir().unwrap();
    let none = Duplicates { timed: Duration::ZERO, other: Duration::ZERO, max_entries: 0 };
    let (spool, _) = Spool::open(Settings { duplicates: none, ..settings(root.path()) }).unwrap();
    for _ in 0..2 {
        assert_eq!(store(&spool, "web.1700000000.data", b"x"), "new web.1700000000.data");
        delete(&spool, "web.1700000000.data");
    }
    assert_eq!(spool.usage().remembered, 0);
}

#[test]
fn senders_and_pullers_work_side_by_side() {
    let root = tempfile::tempdir().unwrap();
    let spool = open(root.path());
    let (senders, each) = (4, 100);
    std::thread::scope(|scope| {
        for sender in 0..senders {
            let spool = spool.clone();
            scope.spawn(move || {
                for batch in 0..each / 10 {
                    let names: Vec<_> =
                        (0..10).map(|i| format!("web{sender}.{}.data", batch * 10 + i)).collect();
                    let items: Vec<_> = names.iter().map(|name| (name.as_str(), name.as_bytes())).collect();
                    assert!(
                        commit(&spool, &items).iter().all(|result| matches!(result, Ok(Stored::New { .. })))
                    );
                }
            });
        }
        let mut taken = 0;
        while taken < senders * each {
            let names: Vec<_> = spool.listing().names().map(<[u8]>::to_vec).collect();
            let leases: Vec<_> = names.iter().filter_map(|name| spool.lease(name)).collect();
            for lease in &leases {
                let name = String::from_utf8(lease.package().listed_name.to_vec()).unwrap();
                assert_eq!(read(&spool, &name), name.as_bytes());
            }
            taken += leases.len();
            assert!(spool.delete(leases).iter().all(Result::is_ok));
        }
    });
    let usage = spool.usage();
    assert_eq!((usage.files, usage.bytes, usage.remembered), (0, 0, 400));
}
