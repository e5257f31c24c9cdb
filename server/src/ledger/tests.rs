//! The ledger by itself.

use std::time::Duration;

use super::*;

fn name(text: &str) -> Name {
    Name::parse(text.as_bytes()).unwrap()
}

fn digest(byte: u8) -> Digest {
    Digest::from([byte; 32])
}

/// Records a package as held.
fn hold(ledger: &Ledger, site: &str, text: &str, byte: u8) -> Package {
    let (name, digest) = (name(text), digest(byte));
    let staged = format!("{site}-{text}-{byte}");
    let modified = SystemTime::UNIX_EPOCH + Duration::from_millis(1_600_000_000_123);
    let new = NewPackage { site, name: &name, digest: &digest, size: 5, staged: &staged, modified };
    ledger.write(|batch| batch.hold(&new)).unwrap()
}

/// All open packages of the site `a`.
fn open(ledger: &Ledger) -> Vec<Package> {
    ledger.select(&format!("site = ?1 AND {OPEN} ORDER BY id"), ["a"]).unwrap()
}

fn note(state: &'static str, error: Option<&str>) -> SiteNote {
    SiteNote { kind: None, state, contact: error.is_none(), held_back: None, error: error.map(str::to_owned) }
}

#[test]
fn a_package_passes_through_its_states_and_becomes_history() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(directory.path()).unwrap();
    let package = hold(&ledger, "a", "web01.1700000000.data", 1);
    assert_eq!(open(&ledger), std::slice::from_ref(&package));
    assert_eq!(ledger.settle("b", |_| false).unwrap(), [], "another site has nothing");

    ledger.write(|batch| batch.commit(&package)).unwrap();
    assert_eq!(ledger.staged_packages().unwrap()[0].state, State::Committed);
    ledger.write(|batch| batch.deliver(&package)).unwrap();
    assert_eq!(ledger.staged_packages().unwrap(), []);
    assert_eq!(open(&ledger)[0].state, State::Delivered, "the site may still have it");

    assert_eq!(ledger.settle("a", |_| true).unwrap(), []);
    assert_eq!(ledger.settle("a", |_| false).unwrap(), [], "nothing is left to deliver");
    assert_eq!(open(&ledger), []);
    let since = SystemTime::now() - Duration::from_secs(60);
    assert!(ledger.was_delivered("a", &package.name, &package.digest, since).unwrap());
    assert!(!ledger.was_delivered("b", &package.name, &package.digest, since).unwrap(), "another site's");
    assert!(!ledger.was_delivered("a", &package.name, &digest(2), since).unwrap(), "other bytes");
    assert!(
        !ledger
            .was_delivered("a", &package.name, &package.digest, SystemTime::now() + Duration::from_secs(60))
            .unwrap()
    );
}

#[test]
fn a_failed_batch_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(directory.path()).unwrap();
    let package = hold(&ledger, "a", "web01.1.data", 1);
    let failed = ledger.write(|batch| {
        batch.commit(&package)?;
        Err::<(), _>(rusqlite::Error::InvalidQuery)
    });
    failed.unwrap_err();
    assert_eq!(open(&ledger)[0].state, State::Held);
}

#[test]
fn what_was_recorded_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(directory.path()).unwrap();
    let id = ledger.id().unwrap();
    let package = hold(&ledger, "a", "web01.1.data", 1);
    drop(ledger);
    let ledger = Ledger::open(directory.path()).unwrap();
    assert_eq!(ledger.id().unwrap(), id);
    assert_eq!(ledger.staged_packages().unwrap(), [package]);
}

#[test]
fn delivering_twice_counts_once() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(directory.path()).unwrap();
    let package = hold(&ledger, "a", "web01.1.data", 1);
    ledger.write(|batch| batch.commit(&package)).unwrap();
    for _ in 0..2 {
        ledger.write(|batch| batch.deliver(&package)).unwrap();
    }
    let sites = Ledger::read_sites(directory.path()).unwrap();
    assert_eq!((sites[0].packages, sites[0].bytes), (1, 5));
    assert_eq!(sites[0].last_package.as_deref(), Some("web01.1.data"));
}

#[test]
fn one_process_has_a_ledger_and_others_hear_why_not() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(directory.path()).unwrap();
    let refused = Ledger::open(directory.path()).unwrap_err();
    assert!(matches!(refused, LedgerError::Locked(_)));
    assert!(refused.to_string().contains("systemctl stop tidegate-server"));
    ledger.note("a", &note("ok", None)).unwrap();
    assert_eq!(Ledger::read_sites(directory.path()).unwrap().len(), 1, "status reads beside the writer");
    drop(ledger);
    Ledger::open(directory.path()).unwrap();
}

#[test]
fn a_ledger_of_a_later_version_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    drop(Ledger::open(directory.path()).unwrap());
    let db = Connection::open(directory.path().join("ledger.sqlite")).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    drop(db);
    let refused = Ledger::open(directory.path()).unwrap_err();
    assert!(matches!(refused, LedgerError::Newer { found: 99, .. }), "{refused}");
}

#[test]
fn a_site_keeps_its_last_error_and_when_its_state_changed() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(directory.path()).unwrap();
    ledger.note("a", &note("unreachable", Some("cannot connect"))).unwrap();
    let row = Ledger::read_sites(directory.path()).unwrap().remove(0);
    assert_eq!((row.state.as_str(), row.last_contact), ("unreachable", None));
    ledger.note("a", &SiteNote { kind: Some("stock"), held_back: Some(2), ..note("ok", None) }).unwrap();
    let row = Ledger::read_sites(directory.path()).unwrap().remove(0);
    assert_eq!((row.state.as_str(), row.kind.as_deref(), row.held_back), ("ok", Some("stock"), 2));
    assert_eq!(row.last_error.as_deref(), Some("cannot connect"));
    assert!(row.last_contact.is_some() && row.since.is_some());
}

#[test]
fn there_is_no_status_without_a_ledger() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(Ledger::read_sites(directory.path()).unwrap(), []);
}

#[test]
fn a_listing_settles_what_it_does_not_show() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(directory.path()).unwrap();
    let shown = hold(&ledger, "a", "shown.1.data", 1);
    let first = hold(&ledger, "a", "gone.1.data", 2);
    let second = hold(&ledger, "a", "gone.1.data", 3);
    let settled = ledger.settle("a", |name| *name == shown.name).unwrap();
    let gone = |package| Package { on_site: false, ..package };
    assert_eq!(settled, [gone(first), gone(second)], "every version, in order");
    let states: Vec<_> = ledger.staged_packages().unwrap().into_iter().map(|package| package.state).collect();
    assert_eq!(states, [State::Held, State::Committed, State::Committed]);
    assert_eq!(ledger.committed_packages("a").unwrap().len(), 2);
}

/// What the first version of the ledger held: a row in every state, and more ids given than there are rows.
fn ledger_of_the_first_version(directory: &Path) {
    let db = Connection::open(directory.join("ledger.sqlite")).unwrap();
    schema::first_version(&db);
    let states = [("held", 1), ("committed", 1), ("committed", 0), ("delivered", 1), ("delivered", 0)];
    for (n, (state, on_site)) in states.into_iter().enumerate() {
        db.execute(
            "INSERT INTO package (site, name, digest, size, state, on_site, staged, target, received, delivered)
             VALUES ('a', ?1, ?2, 5, ?3, ?4, ?5, ?6, 1600000000, ?7)",
            params![
                format!("web01.170000000{n}.data").as_bytes(),
                [7_u8; 32],
                state,
                on_site,
                format!("{n}.staged"),
                format!("web01.170000000{n}0042.data").as_bytes(),
                (state == "delivered").then(|| seconds(SystemTime::now())),
            ],
        )
        .unwrap();
    }
    db.execute("UPDATE sqlite_sequence SET seq = 41 WHERE name = 'package'", []).unwrap();
    db.execute("UPDATE fact SET value = 'the old id' WHERE name = 'id'", []).unwrap();
}

#[test]
fn a_ledger_of_the_first_version_is_brought_up_to_date_with_rows_in_every_state() {
    let directory = tempfile::tempdir().unwrap();
    ledger_of_the_first_version(directory.path());
    for _ in 0..2 {
        let ledger = Ledger::open(directory.path()).unwrap();
        assert_eq!(ledger.id().unwrap(), "the old id");
        let rows = ledger.select("true ORDER BY id", []).unwrap();
        let seen: Vec<_> = rows.iter().map(|row| (row.id, row.state, row.on_site)).collect();
        assert_eq!(
            seen,
            [
                (1, State::Held, true),
                (2, State::Committed, true),
                (3, State::Committed, false),
                (4, State::Delivered, true),
                (5, State::Delivered, false)
            ]
        );
        assert_eq!(
            (rows[1].name.as_bytes(), rows[1].target.as_slice(), rows[1].staged.as_str()),
            (&b"web01.1700000001.data"[..], &b"web01.17000000010042.data"[..], "1.staged")
        );
        assert_eq!((rows[1].received, rows[1].modified, &rows[1].reason), (1_600_000_000, None, &None));
        assert_eq!(ledger.staged_packages().unwrap().len(), 3);
        assert!(
            ledger
                .was_delivered("a", &rows[4].name, &digest(7), SystemTime::now() - Duration::from_secs(9))
                .unwrap()
        );
    }
    let ledger = Ledger::open(directory.path()).unwrap();
    assert_eq!(hold(&ledger, "a", "new.1.data", 1).id, 42, "no id is given twice");
}

#[test]
fn an_empty_ledger_of_the_first_version_keeps_its_next_id_too() {
    let directory = tempfile::tempdir().unwrap();
    ledger_of_the_first_version(directory.path());
    let db = Connection::open(directory.path().join("ledger.sqlite")).unwrap();
    db.execute("DELETE FROM package", []).unwrap();
    drop(db);
    let ledger = Ledger::open(directory.path()).unwrap();
    assert_eq!(hold(&ledger, "a", "new.1.data", 1).id, 42);
}

/// Changes a ledger behind its back.
fn tamper(directory: &Path, sql: &str) {
    let db = Connection::open(directory.join("ledger.sqlite")).unwrap();
    assert_eq!(db.execute(sql, []).unwrap(), 1, "{sql}");
}

#[test]
fn every_value_that_matters_is_in_the_sum_of_its_row() {
    for change in [
        "site = 'b'",
        "name = CAST('web02.1.data' AS BLOB)",
        "digest = zeroblob(32)",
        "digest = zeroblob(31)",
        "size = 6",
        "size = -1",
        "staged = 'other'",
        "target = CAST('web02.1.data' AS BLOB)",
        "sum = sum + 1",
        "received = 'yesterday'",
    ] {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(directory.path()).unwrap();
        let package = hold(&ledger, "a", "web01.1.data", 1);
        ledger.write(|batch| batch.commit(&package)).unwrap();
        ledger.write(|batch| batch.retarget(&package, b"web01.10042.data")).unwrap();
        ledger.staged_packages().expect("a retarget makes a new sum");
        tamper(directory.path(), &format!("UPDATE package SET {change}"));
        let error = ledger.staged_packages().expect_err(change);
        assert!(matches!(error, LedgerError::Damaged(_)), "{change}: {error}");
    }
}

#[test]
fn a_damaged_digest_is_no_silent_no_to_the_question_for_a_repeat() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(directory.path()).unwrap();
    let package = hold(&ledger, "a", "web01.1700000000.data", 1);
    ledger.write(|batch| batch.commit(&package).and_then(|()| batch.deliver(&package))).unwrap();
    ledger.settle("a", |_| false).unwrap();
    tamper(directory.path(), "UPDATE package SET digest = zeroblob(32)");
    let error = ledger
        .was_delivered("a", &package.name, &package.digest, SystemTime::UNIX_EPOCH)
        .expect_err("a damaged row was believed");
    assert!(matches!(error, LedgerError::Damaged(_)), "{error}");
}

#[test]
fn the_frequent_questions_are_answered_by_indexes() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(directory.path()).unwrap();
    let plan = |rest: &str| -> String {
        let db = ledger.db();
        let mut query =
            db.prepare(&format!("EXPLAIN QUERY PLAN SELECT {COLUMNS} FROM package WHERE {rest}")).unwrap();
        let nothing = vec![rusqlite::types::Null; query.parameter_count()];
        let lines =
            query.query_map(rusqlite::params_from_iter(nothing), |row| row.get::<_, String>(3)).unwrap();
        lines.map(Result::unwrap).collect::<Vec<_>>().join("; ")
    };
    for (rest, index) in [
        (format!("site = 'a' AND {OPEN} AND name = x'00' ORDER BY id"), "(name=? AND site=?)"),
        (format!("site = 'a' AND {OPEN} AND state = 'committed' ORDER BY id"), "package_open (site=?)"),
        (format!("{OPEN} AND state IN ('held', 'committed') {OF_FEW}"), "USING INDEX package_open"),
        (format!("state = 'quarantined' {OF_FEW}"), "USING INDEX package_quarantined"),
        (
            format!("state = 'quarantined' AND (?1 IS NULL OR site = ?1) {OF_FEW}"),
            "USING INDEX package_quarantined",
        ),
        ("name = x'00' AND site = 'a' AND delivered >= 5".to_owned(), "package_name (name=? AND site=?)"),
    ] {
        assert!(plan(&rest).contains(index), "{rest}: {}", plan(&rest));
    }
}

/// The files of a ledger that is open, as a power cut would leave them.
fn copy(of: &Path) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for file in ["ledger.sqlite", "ledger.sqlite-wal"] {
        std::fs::copy(of.join(file), directory.path().join(file)).unwrap();
    }
    directory
}

fn flip(file: &Path, at: usize) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[at] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn a_flipped_bit_in_the_log_is_found_before_sqlite_drops_what_is_behind_it() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(directory.path()).unwrap();
    (0..5).for_each(|n| drop(hold(&ledger, "a", &format!("web01.{n}.data"), 1)));
    let open_copy = |at_from_end: usize| {
        let copy = copy(directory.path());
        let log = copy.path().join("ledger.sqlite-wal");
        let length = usize::try_from(std::fs::metadata(&log).unwrap().len()).unwrap();
        flip(&log, length - at_from_end);
        let opened = Ledger::open(copy.path());
        (copy, opened)
    };
    let whole = Ledger::open(copy(directory.path()).path()).unwrap();
    assert_eq!((whole.staged_packages().unwrap().len(), whole.fact(fact::TORN).unwrap()), (5, None));
    let (_copy, damaged) = open_copy(40 * 1024);
    let error = damaged.unwrap_err();
    assert!(matches!(error, LedgerError::Damaged(_)), "{error}");
    assert!(error.to_string().contains("ledger reset"), "{error}");
    let (copy, torn) = open_copy(100);
    let torn = torn.unwrap();
    assert_eq!(torn.staged_packages().unwrap().len(), 4, "as after a power cut in the last transaction");
    assert!(torn.fact(fact::TORN).unwrap().is_some(), "the start knows");
    drop(torn);
    assert!(Ledger::open(copy.path()).unwrap().fact(fact::TORN).unwrap().is_some(), "and so does the next");
}

#[test]
fn a_start_merges_the_log_before_it_believes_it() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(directory.path()).unwrap();
    (0..5).for_each(|n| drop(hold(&ledger, "a", &format!("web01.{n}.data"), 1)));
    let copied = copy(directory.path());
    let _started = Ledger::open(copied.path()).unwrap();
    let database = tempfile::tempdir().unwrap();
    std::fs::copy(copied.path().join("ledger.sqlite"), database.path().join("ledger.sqlite")).unwrap();
    assert_eq!(std::fs::metadata(copied.path().join("ledger.sqlite-wal")).unwrap().len(), 0);
    assert_eq!(Ledger::open(database.path()).unwrap().staged_packages().unwrap().len(), 5);
}

#[test]
fn a_command_leaves_a_log_that_is_out_of_order_to_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(directory.path()).unwrap();
    (0..5).for_each(|n| drop(hold(&ledger, "a", &format!("web01.{n}.data"), 1)));
    let copy = copy(directory.path());
    let log = copy.path().join("ledger.sqlite-wal");
    let length = usize::try_from(std::fs::metadata(&log).unwrap().len()).unwrap();
    flip(&log, length - 100);
    let bytes = std::fs::read(&log).unwrap();
    assert!(matches!(Beside::open(copy.path()), Err(LedgerError::Unfinished)));
    Ledger::read_sites(copy.path()).unwrap();
    assert_eq!(std::fs::read(&log).unwrap(), bytes, "reading merges nothing");
}

#[test]
fn damage_in_the_database_is_found_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(directory.path()).unwrap();
    let package = hold(&ledger, "a", "needle.1700000000.data", 1);
    ledger.write(|batch| batch.commit(&package).and_then(|()| batch.deliver(&package))).unwrap();
    ledger.settle("a", |_| false).unwrap();
    drop(ledger);
    let file = directory.path().join("ledger.sqlite");
    let bytes = std::fs::read(&file).unwrap();
    let needle = b"needle.1700000000.data";
    let places: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(needle)).collect();
    assert!(places.len() > 3, "in the table, as name and target, in an index, for `status`: {places:?}");
    let mut found = 0;
    for place in &places {
        flip(&file, *place);
        let noticed = Ledger::open(directory.path()).and_then(|ledger| {
            // No index holds a target; the row's sum shows it when the row is read.
            let asked = ledger.was_delivered("a", &package.name, &package.digest, SystemTime::UNIX_EPOCH);
            if asked.is_err() {
                let error = ledger.id().expect_err("nothing goes on");
                assert!(matches!(error, LedgerError::Damaged(_)), "{error}");
            }
            asked
        });
        match noticed {
            Err(error) => {
                assert!(matches!(error, LedgerError::Damaged(_)), "{error}");
                found += 1;
            }
            // What `status` shows as the last package, or what an update left behind.
            Ok(delivered) => assert!(delivered, "a damaged row was believed"),
        }
        flip(&file, *place);
    }
    assert!(found >= 3, "{found} of {places:?}");
    Ledger::open(directory.path()).expect("every bit is back");
    std::fs::write(&file, "no database at all, whatever its name").unwrap();
    assert!(matches!(Ledger::open(directory.path()), Err(LedgerError::Damaged(_))));
}

#[test]
fn a_command_writes_beside_the_server_and_neither_disturbs_the_other() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(directory.path()).unwrap();
    let package = hold(&ledger, "a", "web01.1.data", 1);
    ledger
        .write(|batch| {
            batch.commit(&package)?;
            batch.quarantine(&package, "a reason")
        })
        .unwrap();
    let mut beside = Beside::open(directory.path()).unwrap().unwrap();
    let listed = beside.quarantined(None).unwrap();
    assert_eq!((listed.len(), listed[0].state), (1, State::Quarantined));
    assert_eq!(beside.quarantined(Some("b")).unwrap(), []);
    std::thread::scope(|threads| {
        threads.spawn(|| (0..50).for_each(|n| drop(hold(&ledger, "b", &format!("b.{n}.data"), 2))));
        for _ in 0..25 {
            assert!(beside.write(|batch| batch.requeue(&listed[0])).unwrap());
            assert!(beside.write(|batch| batch.quarantine(&listed[0], "again")).unwrap());
        }
    });
    assert!(beside.write(|batch| batch.requeue(&listed[0])).unwrap());
    assert_eq!(ledger.committed_packages("a").unwrap().len(), 1);
    assert!(Beside::open(tempfile::tempdir().unwrap().path()).unwrap().is_none());
}

#[test]
fn losses_are_bounded_and_none_is_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(directory.path()).unwrap();
    let (a, b) = (hold(&ledger, "a", "web01.1.data", 1), hold(&ledger, "b", "web01.1.data", 1));
    for package in [&a, &a, &a, &a, &b, &b] {
        ledger.write(|batch| batch.lost_within(package, LossReason::Purged, 3)).unwrap();
    }
    let rows = LossRow::read_all(directory.path()).unwrap();
    let counts: Vec<_> = rows.iter().map(|row| (row.site.as_str(), row.packages, row.bytes)).collect();
    assert_eq!(counts, [("a", 1, 5), ("a", 1, 5), ("a", 2, 10), ("b", 2, 10)]);
}

#[test]
fn a_replaced_ledger_tells_what_is_sound_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(directory.path()).unwrap();
    let sound = hold(&ledger, "a", "sound.1.data", 1);
    hold(&ledger, "a", "damaged.1.data", 2);
    let id = ledger.id().unwrap();
    drop(ledger);
    tamper(directory.path(), "UPDATE package SET size = 6 WHERE id = 2");
    Ledger::open(directory.path()).unwrap_err();
    // The first is ended before the staging directory is tied to it, the second goes on.
    for ended in [false, true] {
        let replacement = Replacement::begin(directory.path()).unwrap();
        let mut readable = replacement.readable();
        let packages = std::mem::take(&mut readable.packages);
        assert_eq!(packages, std::slice::from_ref(&sound));
        let moved = replacement.put(
            &readable,
            |batch| packages.iter().try_for_each(|package| batch.adopt(package)),
            |_| if ended { Ok(()) } else { Err(LedgerError::Unfinished) },
        );
        assert_eq!(moved.is_ok(), ended);
        if ended {
            assert!(moved.unwrap()[0].exists());
        } else {
            let refused = Ledger::open(directory.path()).unwrap_err();
            assert!(matches!(refused, LedgerError::ResetUnfinished), "{refused}");
        }
    }
    let ledger = Ledger::open(directory.path()).unwrap();
    assert_ne!(ledger.id().unwrap(), id);
    assert_eq!(ledger.staged_packages().unwrap(), [sound]);
    let names = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let aside = names.filter(|name| name.to_str().unwrap().ends_with(".sqlite")).count();
    assert_eq!(aside, 3, "each that was replaced has a name of its own");
}
