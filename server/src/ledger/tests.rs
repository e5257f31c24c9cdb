//! The ledger by itself.

use std::time::Duration;

use tidegate_proto::relay::Number;

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

#[test]
fn a_ledger_of_the_second_version_is_brought_up_to_date_and_its_sums_hold() {
    let directory = tempfile::tempdir().unwrap();
    let db = Connection::open(directory.path().join("ledger.sqlite")).unwrap();
    schema::second_version(&db);
    let row = |name: &str| {
        let values = (&b"a"[..], name.as_bytes(), &[7_u8; 32][..], 5, &b"x.staged"[..], name.as_bytes());
        db.execute(
            "INSERT INTO package (site, name, digest, size, state, staged, target, received, modified, sum)
             VALUES ('a', ?1, ?2, 5, 'committed', 'x.staged', ?1, 1600000000, 1600000000123, ?3)",
            params![name.as_bytes(), [7_u8; 32], package::sum_of(package::row_hash(values))],
        )
        .unwrap();
    };
    row("web01.1700000000.data");
    db.execute("INSERT INTO site (name, packages, bytes) VALUES ('a', 3, 15)", []).unwrap();
    db.execute(
        "INSERT INTO loss (site, class, reason, packages, bytes, first, last) VALUES ('a', 'data', 'purged', 2, 10, 1, 2)",
        [],
    )
    .unwrap();
    drop(db);
    // Asked for what it knows before it is brought up to date.
    let read = Replacement::begin(directory.path()).unwrap().readable();
    assert_eq!(read.packages.len(), 1);
    for _ in 0..2 {
        let ledger = Ledger::open(directory.path()).unwrap();
        let packages = ledger.staged_packages().unwrap();
        assert_eq!((packages.len(), packages[0].number), (1, None));
        assert_eq!(ledger.epoch("a").unwrap(), 1);
    }
    let losses = LossRow::read_all(directory.path()).unwrap();
    assert_eq!((losses.len(), losses[0].place, losses[0].packages), (1, LossPlace::Central, 2));
    let sites = Ledger::read_sites(directory.path()).unwrap();
    assert_eq!((sites[0].packages, sites[0].lost, sites[0].lost_there), (3, 2, 0));
    assert_eq!((&sites[0].mode, &sites[0].status), (&None, &None));
}

fn number(counter: u64) -> Number {
    Number { run: 1 << 63, counter }
}

/// Records a package that came by relay.
fn arrive(ledger: &Ledger, counter: u64, text: &str) -> Package {
    let (name, digest) = (name(text), digest(1));
    let staged = format!("{counter}.staged");
    let modified = SystemTime::UNIX_EPOCH + Duration::from_millis(1_600_000_000_000 + counter);
    let new = NewPackage { site: "a", name: &name, digest: &digest, size: 5, staged: &staged, modified };
    ledger.write(|batch| batch.arrive(&new, number(counter))).unwrap()
}

/// The spans that meet some numbers.
fn spans(ledger: &Ledger, first: u64, last: u64) -> Vec<(u64, u64)> {
    let spans = ledger.spans("a", &[NumberRow { run: 1 << 63, first, last }]).unwrap();
    spans.iter().map(|span| (span.numbers.first, span.numbers.last)).collect()
}

#[test]
fn spans_grow_join_and_are_cut_and_know_nothing_between_them() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(directory.path()).unwrap();
    let receive = |numbers: &[u64]| {
        let numbers = numbers.iter().map(|counter| (number(*counter), 5)).collect::<Vec<_>>();
        ledger.write(|batch| batch.received(SpanKind::Package, "a", numbers)).unwrap();
    };
    let all = || spans(&ledger, 0, u64::MAX);
    receive(&[3, 1, 2, 5]);
    assert_eq!(all(), [(1, 3), (5, 5)]);
    assert_eq!(spans(&ledger, 4, 4), [], "what did not come is not known");
    receive(&[6, 8, u64::MAX]);
    assert_eq!(all(), [(1, 3), (5, 6), (8, 8), (u64::MAX, u64::MAX)]);
    receive(&[4, 7]);
    assert_eq!(all(), [(1, 8), (u64::MAX, u64::MAX)]);
    receive(&[0]);
    ledger.write(|batch| batch.not_received("a", number(3))).unwrap();
    ledger.write(|batch| batch.not_received("a", number(8))).unwrap();
    ledger.write(|batch| batch.not_received("a", number(u64::MAX))).unwrap();
    assert_eq!(all(), [(0, 2), (4, 7)]);
    assert_eq!(ledger.spans("b", &[NumberRow { run: 1 << 63, first: 0, last: 9 }]).unwrap(), []);
    assert_eq!(ledger.spans("a", &[NumberRow { run: 5, first: 0, last: 9 }]).unwrap(), []);
}

#[test]
fn spans_are_bounded_and_those_of_another_site_stay() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(directory.path()).unwrap();
    let receive = |site: &str, counter: u64| {
        ledger.write(|batch| batch.received(SpanKind::Package, site, [(number(counter), 5)])).unwrap();
    };
    receive("b", 1);
    (0..20).for_each(|n| receive("a", 10 * n));
    let kept: Vec<_> = (12..20).map(|n| (10 * n, 10 * n)).collect();
    assert_eq!(spans(&ledger, 0, 1_000), kept, "the newest");
    receive("a", 121);
    (20..27).for_each(|n| receive("a", 10 * n));
    assert!(spans(&ledger, 0, 1_000).contains(&(120, 121)), "what was extended last is among them");
    assert_eq!(ledger.spans("b", &[NumberRow { run: 1 << 63, first: 0, last: 9 }]).unwrap().len(), 1);
}

#[test]
fn what_decides_about_repeats_is_in_the_sums() {
    for change in [
        "package SET number = zeroblob(16)",
        "package SET number = NULL",
        "package SET modified = modified + 1",
        "span SET site = 'b'",
        "span SET run = zeroblob(8)",
        "span SET first = zeroblob(8)",
        "span SET last = x'ffffffffffffffff'",
        "span SET newest = newest + 1",
    ] {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(directory.path()).unwrap();
        let package = arrive(&ledger, 7, "web01.7.data");
        ledger.write(|batch| batch.deliver(&package)).unwrap();
        tamper(directory.path(), &format!("UPDATE {change}"));
        let site = if change.contains("site") { "b" } else { "a" };
        let run = if change.contains("run") { 0 } else { 1 << 63 };
        let read = ledger.spans(site, &[NumberRow { run, first: 0, last: u64::MAX }]).map(drop);
        let error = read.and_then(|()| ledger.select("true", []).map(drop)).expect_err(change);
        assert!(matches!(error, LedgerError::Damaged(_)), "{change}: {error}");
    }
}

#[test]
fn questions_about_numbers_are_answered_by_indexes() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(directory.path()).unwrap();
    let db = ledger.db();
    let older = format!("site = ?1 AND {OPEN} AND on_site = 1 AND number < ?2");
    let packages = |rest: &str| format!("SELECT {COLUMNS} FROM package WHERE {rest}");
    let mut questions: Vec<_> =
        numbered::QUESTIONS.iter().map(|(question, index)| (packages(question), *index)).collect();
    questions.push((packages(&older), "package_open (site=?)"));
    questions
        .push((span::MEETING.to_owned(), "span_run (site=? AND kind=? AND run=? AND first>? AND first<?)"));
    questions.push((deliver::HAS_DAMAGED.to_owned(), "package_damaged (site=?)"));
    for (question, index) in questions {
        let mut query = db.prepare(&format!("EXPLAIN QUERY PLAN {question}")).unwrap();
        let nothing = vec![rusqlite::types::Null; query.parameter_count()];
        let lines =
            query.query_map(rusqlite::params_from_iter(nothing), |row| row.get::<_, String>(3)).unwrap();
        let plan = lines.map(Result::unwrap).collect::<Vec<_>>().join("; ");
        assert!(plan.contains(index), "{question}: {plan}");
        assert!(!plan.contains("SCAN"), "{question}: {plan}");
    }
}

#[test]
fn a_reset_keeps_the_epoch_and_forgets_spans() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(directory.path()).unwrap();
    let package = arrive(&ledger, 7, "web01.7.data");
    ledger.write(|batch| batch.deliver(&package)).unwrap();
    ledger.write(|batch| batch.set_epoch("a", 5)).unwrap();
    drop(ledger);
    let replacement = Replacement::begin(directory.path()).unwrap();
    let mut readable = replacement.readable();
    let packages = std::mem::take(&mut readable.packages);
    assert_eq!(packages[0].number, Some(number(7)), "what the site may still have is known by its number");
    let adopt = |batch: &Batch<'_>| packages.iter().try_for_each(|package| batch.adopt(package));
    replacement.put(&readable, adopt, |_| Ok::<_, LedgerError>(())).unwrap();
    let ledger = Ledger::open(directory.path()).unwrap();
    assert_eq!(ledger.epoch("a").unwrap(), 5);
    assert_eq!(spans(&ledger, 0, 9), []);
    assert_eq!(ledger.numbered(&[NumberRow { run: 1 << 63, first: 0, last: 9 }]).unwrap(), packages);
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
