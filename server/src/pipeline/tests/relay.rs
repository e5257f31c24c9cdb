//! Batches that come by relay: what is delivered, what is a repeat, what a node may delete.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;
use tidegate_proto::relay::{LossRecord, Number};

use super::{SITE, accept, files, name, open, quarantine, received, settings, when};
use crate::body::Arriving;
use crate::config::Incoming;
use crate::crash::Crash;
use crate::ledger::{Ledger, LossPlace, LossRow, Retention};
use crate::pipeline::{Pipeline, Relayed, Trouble, What};

const RUN: u64 = 0x1_2345;
const TIMED: &str = "web01.1700000000.data";

/// When the package with this number arrived at its node.
fn arrival(counter: u64) -> SystemTime {
    when(1_600_000_000 + counter)
}

fn number(counter: u64) -> Number {
    Number { run: RUN, counter }
}

fn body(pipeline: &Pipeline, content: &[u8]) -> crate::body::Arrived {
    let mut body = Arriving::new(pipeline.staging());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(body.write(content)).unwrap();
    body.finish()
}

fn one(pipeline: &Pipeline, counter: u64, text: &str, content: &[u8]) -> Relayed {
    let what = What::Body(body(pipeline, content));
    Relayed { number: number(counter), name: name(text), modified: arrival(counter), what }
}

fn skipped(counter: u64, text: &str) -> Relayed {
    let what = What::Skipped { size: 5 };
    Relayed { number: number(counter), name: name(text), modified: arrival(counter), what }
}

fn relay(pipeline: &Pipeline, counter: u64, text: &str, content: &[u8]) -> Option<Number> {
    pipeline.relayed(SITE, vec![one(pipeline, counter, text, content)]).unwrap()
}

/// Everything that was delivered, by name, appended digits included.
fn delivered(root: &TempDir) -> Vec<String> {
    files(&settings(root).directory)
}

fn forget_history(root: &TempDir) -> Pipeline {
    let mut settings = settings(root);
    settings.history = Retention { max: 0, keep: Duration::ZERO };
    let pipeline = Pipeline::open(&settings, Crash::default()).unwrap();
    pipeline.ledger().trim().unwrap();
    pipeline
}

#[test]
fn a_batch_is_delivered_in_order_with_the_time_of_its_arrival_and_may_be_deleted() {
    let root = tempfile::tempdir().unwrap();
    let pipeline = open(&root);
    let batch = (1..=40).map(|n| one(&pipeline, n, &format!("web01.{n}.data"), &[b'x'; 300])).collect();
    assert_eq!(pipeline.relayed(SITE, batch).unwrap(), Some(number(40)));
    let directory = settings(&root).directory;
    assert_eq!(files(&directory).len(), 40);
    let file = fs::metadata(directory.join("web01.7.data")).unwrap();
    assert_eq!(file.modified().unwrap(), arrival(7));
    pipeline.flush().unwrap();
    let rows = pipeline.ledger().same_name(SITE, &name("web01.7.data"), true).unwrap();
    assert_eq!((rows[0].number, rows[0].on_site), (Some(number(7)), true));
    pipeline.relay_deleted(SITE, number(39)).unwrap();
    pipeline.flush().unwrap();
    let sites = Ledger::read_sites(&settings(&root).state).unwrap();
    assert_eq!((sites[0].packages, sites[0].bytes, sites[0].open), (40, 12_000, 1));
    assert_eq!(pipeline.relayed(SITE, Vec::new()).unwrap(), None);
}

#[test]
fn the_same_number_with_the_same_content_is_a_repeat_before_and_after_its_deletion_and_a_restart() {
    let root = tempfile::tempdir().unwrap();
    let pipeline = open(&root);
    for text in [TIMED, "host.0.data"] {
        let counter = text.len() as u64;
        for _ in 0..2 {
            assert_eq!(relay(&pipeline, counter, text, b"content"), Some(number(counter)));
        }
    }
    pipeline.relay_deleted(SITE, number(100)).unwrap();
    pipeline.flush().unwrap();
    drop(pipeline);
    let pipeline = open(&root);
    pipeline.relay_welcomed(SITE, None).unwrap();
    for text in [TIMED, "host.0.data"] {
        relay(&pipeline, text.len() as u64, text, b"content");
    }
    assert_eq!(delivered(&root), ["host.0.data", TIMED]);
    pipeline.flush().unwrap();
    let sites = Ledger::read_sites(&settings(&root).state).unwrap();
    assert_eq!((sites[0].packages, sites[0].repeats, sites[0].open), (2, 4, 0));
    assert_eq!(files(&settings(&root).staging), Vec::<String>::new(), "a repeat needs no copy");
}

#[test]
fn a_package_without_a_time_that_comes_under_another_number_is_new() {
    let root = tempfile::tempdir().unwrap();
    let pipeline = open(&root);
    for counter in 1..=3 {
        relay(&pipeline, counter, "host.0.data", b"always the same");
    }
    assert_eq!(delivered(&root).len(), 3);
}

#[test]
fn a_package_with_a_time_is_a_repeat_under_any_number() {
    let root = tempfile::tempdir().unwrap();
    let pipeline = open(&root);
    for counter in [1, 2] {
        assert_eq!(relay(&pipeline, counter, TIMED, b"content"), Some(number(counter)));
    }
    relay(&pipeline, 3, TIMED, b"another content");
    assert_eq!(delivered(&root).len(), 2);
}

#[test]
fn numbers_that_a_rolled_back_spool_uses_again_are_new_packages() {
    for trimmed in [false, true] {
        let root = tempfile::tempdir().unwrap();
        let mut pipeline = open(&root);
        relay(&pipeline, 1, "web01.1.data", b"first");
        relay(&pipeline, 2, "host.0.data", b"the same");
        relay(&pipeline, 9, "web01.9.data", b"last");
        if trimmed {
            pipeline.relay_welcomed(SITE, None).unwrap();
            drop(pipeline);
            pipeline = forget_history(&root);
            assert_eq!(pipeline.ledger().same_name(SITE, &name("web01.1.data"), true).unwrap(), []);
        }
        let later = |counter, text: &str, content: &[u8]| {
            let package = Relayed { modified: arrival(100), ..one(&pipeline, counter, text, content) };
            pipeline.relayed(SITE, vec![package]).unwrap();
        };
        later(1, "web01.101.data", b"other");
        later(2, "host.0.data", b"the same");
        assert_eq!(delivered(&root).len(), 5, "trimmed: {trimmed}");
        later(2, "host.0.data", b"the same");
        relay(&pipeline, 9, "web01.9.data", b"last");
        relay(&pipeline, 1, "web01.1.data", b"first");
        // Both lives are known, as long as their rows are: then a double is better than a loss.
        assert_eq!(delivered(&root).len(), if trimmed { 7 } else { 5 });
    }
}

#[test]
fn a_rolled_back_spool_loses_nothing_when_the_rows_of_its_first_life_are_forgotten() {
    let root = tempfile::tempdir().unwrap();
    let pipeline = open(&root);
    let batch = (1..=9).map(|n| one(&pipeline, n, &format!("web01.{n}.data"), b"x")).collect();
    pipeline.relayed(SITE, batch).unwrap();
    pipeline.relay_welcomed(SITE, None).unwrap();
    drop(pipeline);
    let pipeline = forget_history(&root);
    let second_life = |counter, text: &str, arrival| {
        let package = Relayed { modified: arrival, ..one(&pipeline, counter, text, b"y") };
        pipeline.relayed(SITE, vec![package]).unwrap();
        pipeline.flush().unwrap();
    };
    // Its clock is behind, and the name tells a later time.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    second_life(4, &format!("web01.{now}.data"), arrival(2));
    for counter in 5..=7 {
        // One group commit, one arrival.
        second_life(counter, &format!("web02.{counter}.data"), arrival(100));
    }
    assert_eq!(delivered(&root).len(), 13);
    for counter in [1, 3] {
        relay(&pipeline, counter, &format!("web01.{counter}.data"), b"x");
    }
    assert_eq!(delivered(&root).len(), 13, "what is before the roll-back is known");
}

#[test]
fn what_clones_give_at_the_same_time_arrives_once() {
    // The clone's comes before the ledger knows the first one, and when that is on its way to the pipeline.
    ["after-relayed-staged", "after-relayed-committed"].into_iter().for_each(clones_beside_each_other);
}

fn clones_beside_each_other(step: &str) {
    let root = tempfile::tempdir().unwrap();
    let pipeline = std::sync::Arc::new(std::sync::OnceLock::<Pipeline>::new());
    let inside = std::sync::Arc::clone(&pipeline);
    let clone = move || {
        let pipeline = inside.get().unwrap();
        let batch = vec![one(pipeline, 1, "host.0.data", b"copied")];
        assert_eq!(pipeline.relayed("clone", batch).unwrap(), Some(number(1)));
    };
    let crash = Crash::doing_at(step, 1, clone);
    let pipeline = pipeline.get_or_init(|| Pipeline::open(&settings(&root), crash).unwrap());
    let batch = vec![one(pipeline, 1, "host.0.data", b"copied"), one(pipeline, 2, "host.0.data", b"its own")];
    assert_eq!(pipeline.relayed(SITE, batch).unwrap(), Some(number(2)));
    assert_eq!(delivered(&root).len(), 2);
    assert_eq!(files(&settings(&root).staging), Vec::<String>::new());
    relay(pipeline, 1, "host.0.data", b"copied");
    assert_eq!(delivered(&root).len(), 2, "it was noted");
}

#[test]
fn what_did_not_come_again_is_gone_though_an_older_package_stays() {
    let root = tempfile::tempdir().unwrap();
    let pipeline = open(&root);
    let batch = vec![
        skipped(1, "big.1.data"),
        one(&pipeline, 2, "a.2.data", b"x"),
        one(&pipeline, 3, "a.3.data", b"x"),
    ];
    pipeline.relayed(SITE, batch).unwrap();
    pipeline.flush().unwrap();
    let open_rows = || Ledger::read_sites(&settings(&root).state).unwrap()[0].open;
    assert_eq!(open_rows(), 2);
    // That they were deleted was not heard of the first.
    pipeline.relay_welcomed(SITE, Some(number(1))).unwrap();
    let batch = vec![skipped(1, "big.1.data"), one(&pipeline, 3, "a.3.data", b"x")];
    pipeline.relayed(SITE, batch).unwrap();
    pipeline.relay_drained(SITE).unwrap();
    assert_eq!(open_rows(), 1);
    pipeline.relay_deleted(SITE, number(3)).unwrap();
    pipeline.relay_drained(SITE).unwrap();
    assert_eq!(open_rows(), 0);
}

#[test]
fn a_site_with_too_much_in_quarantine_is_not_pulled_and_others_are() {
    let root = tempfile::tempdir().unwrap();
    let pipeline = open(&root);
    let unwanted = |counter| {
        let what = What::Unwanted(body(&pipeline, &[counter as u8]), "not a name of the pipeline".into());
        Relayed { number: number(counter), name: name("no.conf"), modified: arrival(counter), what }
    };
    pipeline.relayed(SITE, (1..=3).map(unwanted).collect()).unwrap();
    pipeline.room_for(SITE).unwrap();
    pipeline.relayed(SITE, (4..=9).map(unwanted).collect()).unwrap();
    let full = pipeline.room_for(SITE).unwrap_err();
    assert!(matches!(&full, Trouble::Full(why) if why.contains("quarantine")), "{full}");
    pipeline.room_for("another").unwrap();
    for package in quarantine(&root).list(None).unwrap() {
        quarantine(&root).purge(package.id).unwrap();
    }
    pipeline.room_for(SITE).unwrap();
}

#[test]
fn what_a_restored_spool_offers_again_is_known_when_its_rows_are_long_forgotten() {
    let root = tempfile::tempdir().unwrap();
    let pipeline = open(&root);
    let batch = |pipeline: &Pipeline| {
        let all = (1..=9).filter(|n| *n != 5);
        all.map(|n| one(pipeline, n, &format!("web01.{n}.data"), b"x")).collect::<Vec<_>>()
    };
    pipeline.relayed(SITE, batch(&pipeline)).unwrap();
    pipeline.relay_welcomed(SITE, None).unwrap();
    drop(pipeline);
    let pipeline = forget_history(&root);
    assert_eq!(pipeline.ledger().same_name(SITE, &name("web01.1.data"), true).unwrap(), []);
    assert_eq!(pipeline.relayed(SITE, batch(&pipeline)).unwrap(), Some(number(9)));
    assert_eq!(delivered(&root).len(), 8, "each is known");
    relay(&pipeline, 5, "web01.5.data", b"x");
    assert_eq!(delivered(&root).len(), 9, "what never came is new, however low its number");
}

#[test]
fn what_was_skipped_is_taken_when_it_comes_after_all() {
    let root = tempfile::tempdir().unwrap();
    let pipeline = open(&root);
    let batch = |pipeline: &Pipeline| {
        vec![one(pipeline, 1, "a.1.data", b"x"), skipped(2, "big.1.data"), one(pipeline, 3, "a.3.data", b"x")]
    };
    for _ in 0..2 {
        assert_eq!(pipeline.relayed(SITE, batch(&pipeline)).unwrap(), Some(number(3)));
        assert_eq!(pipeline.relayed(SITE, vec![skipped(4, "big.2.data")]).unwrap(), Some(number(4)));
    }
    pipeline.relay_welcomed(SITE, Some(number(2))).unwrap();
    relay(&pipeline, 2, "big.1.data", b"large");
    assert_eq!(delivered(&root), ["a.1.data", "a.3.data", "big.1.data"]);
    relay(&pipeline, 2, "big.1.data", b"large");
    assert_eq!(delivered(&root).len(), 3);
}

#[test]
fn a_clone_of_a_site_gives_nothing_twice_and_what_is_its_own_once() {
    let root = tempfile::tempdir().unwrap();
    let pipeline = open(&root);
    relay(&pipeline, 1, "host.0.data", b"copied");
    relay(&pipeline, 2, "host.0.data", b"of the first alone");
    let of_clone = |counter, arrival, content: &[u8]| {
        let package = Relayed { modified: arrival, ..one(&pipeline, counter, "host.0.data", content) };
        pipeline.relayed("clone", vec![package]).unwrap()
    };
    assert_eq!(of_clone(1, arrival(1), b"copied"), Some(number(1)), "it may be deleted there");
    assert_eq!(delivered(&root).len(), 2);
    of_clone(2, arrival(2), b"of the clone alone");
    of_clone(3, arrival(3), b"of the clone alone");
    assert_eq!(delivered(&root).len(), 4);
    pipeline.relay_welcomed(SITE, None).unwrap();
    pipeline.relay_welcomed("clone", None).unwrap();
    let pipeline = {
        drop(pipeline);
        forget_history(&root)
    };
    let again = one(&pipeline, 1, "host.0.data", b"copied");
    pipeline.relayed("clone", vec![again]).unwrap();
    assert_eq!(delivered(&root).len(), 4, "it was noted for the clone");
}

#[test]
fn what_came_over_tentacle_gets_its_number_and_is_no_second_package() {
    for text in [TIMED, "host.0.data"] {
        let root = tempfile::tempdir().unwrap();
        let pipeline = open(&root);
        accept(&pipeline, text, b"content").unwrap();
        pipeline.relay_welcomed(SITE, Some(number(7))).unwrap();
        assert_eq!(relay(&pipeline, 7, text, b"content"), Some(number(7)));
        pipeline.relay_drained(SITE).unwrap();
        assert_eq!(delivered(&root), [text]);
        let rows = pipeline.ledger().open_packages(SITE, &name(text)).unwrap();
        assert_eq!(
            (rows.len(), rows[0].number, rows[0].modified),
            (1, Some(number(7)), Some(1_600_000_007_000))
        );
        relay(&pipeline, 7, text, b"content");
        assert_eq!(delivered(&root), [text], "its number is known");
    }
}

#[test]
fn what_came_over_tentacle_and_is_too_large_for_relay_is_not_taken_for_gone() {
    let root = tempfile::tempdir().unwrap();
    let pipeline = open(&root);
    accept(&pipeline, "host.0.data", b"12345").unwrap();
    pipeline.relayed(SITE, vec![skipped(3, "host.0.data"), one(&pipeline, 4, "a.4.data", b"x")]).unwrap();
    pipeline.relay_deleted(SITE, number(4)).unwrap();
    pipeline.relay_drained(SITE).unwrap();
    assert!(accept(&pipeline, "host.0.data", b"12345").unwrap()[0].is_repeat());
    relay(&pipeline, 3, "host.0.data", b"12345");
    assert_eq!(delivered(&root), ["a.4.data", "host.0.data"]);
    let again = Relayed { number: number(5), ..skipped(5, "host.1.data") };
    accept(&pipeline, "host.1.data", b"12345").unwrap();
    pipeline.relayed(SITE, vec![again]).unwrap();
    relay(&pipeline, 5, "host.1.data", b"54321");
    assert_eq!(delivered(&root).len(), 4, "another one of that size");
}

#[test]
fn what_did_not_come_again_by_relay_is_gone_and_a_later_equal_one_is_new() {
    let root = tempfile::tempdir().unwrap();
    let pipeline = open(&root);
    accept(&pipeline, "host.0.data", b"the same").unwrap();
    pipeline.relay_drained(SITE).unwrap();
    assert_eq!(pipeline.ledger().open_packages(SITE, &name("host.0.data")).unwrap(), []);
    relay(&pipeline, 1, "host.0.data", b"the same");
    assert_eq!(delivered(&root).len(), 2);
    // And before the site was drained: what arrived there after the other had come here is another one.
    let later = SystemTime::now() + Duration::from_secs(3 * 3_600);
    accept(&pipeline, "host.1.data", b"the same").unwrap();
    let package = Relayed { modified: later, ..one(&pipeline, 2, "host.1.data", b"the same") };
    pipeline.relayed(SITE, vec![package]).unwrap();
    assert_eq!(delivered(&root).len(), 4);
}

#[test]
fn what_a_stock_server_gave_is_delivered_when_a_node_in_its_place_does_not_give_it_again() {
    let root = tempfile::tempdir().unwrap();
    let pipeline = open(&root);
    let hold = |text, content: &[u8]| {
        pipeline.hold(SITE, vec![received(&pipeline, text, content)]).unwrap();
    };
    hold("gone.1.data", b"the only copy");
    hold("again.1.data", b"came again");
    hold("torn.1.data", b"was being writ");
    assert_eq!(delivered(&root), Vec::<String>::new());
    relay(&pipeline, 1, "again.1.data", b"came again");
    relay(&pipeline, 2, "torn.1.data", b"was being written");
    assert_eq!(delivered(&root), ["again.1.data", "torn.1.data"]);
    pipeline.relay_drained(SITE).unwrap();
    assert_eq!(delivered(&root), ["again.1.data", "gone.1.data", "torn.1.data"]);
    let torn = fs::read(settings(&root).directory.join("torn.1.data")).unwrap();
    assert_eq!(torn, b"was being written");
    assert_eq!(files(&settings(&root).staging), Vec::<String>::new());
}

#[test]
fn a_site_that_goes_back_to_tentacle_gives_nothing_twice() {
    for flushed in [false, true] {
        let root = tempfile::tempdir().unwrap();
        let pipeline = open(&root);
        relay(&pipeline, 1, "host.0.data", b"content");
        relay(&pipeline, 2, "host.1.data", b"content");
        pipeline.relay_deleted(SITE, number(1)).unwrap();
        if flushed {
            pipeline.flush().unwrap();
        }
        pipeline.listed(SITE, |shown| *shown == name("host.1.data")).unwrap();
        assert!(accept(&pipeline, "host.1.data", b"content").unwrap()[0].is_repeat());
        assert_eq!(delivered(&root).len(), 2);
        pipeline.listed(SITE, |_| false).unwrap();
        accept(&pipeline, "host.1.data", b"content").unwrap();
        assert_eq!(delivered(&root).len(), 3, "after its deletion it is new");
    }
}

#[test]
fn what_is_not_wanted_goes_to_quarantine_may_be_deleted_and_stays_known() {
    let root = tempfile::tempdir().unwrap();
    let pipeline = open(&root);
    for _ in 0..2 {
        let what = What::Unwanted(body(&pipeline, b"content"), "damaged? not a name of the pipeline".into());
        let unwanted = Relayed { number: number(1), name: name("no.conf"), modified: arrival(1), what };
        assert_eq!(pipeline.relayed(SITE, vec![unwanted]).unwrap(), Some(number(1)));
    }
    let quarantined = quarantine(&root).list(None).unwrap();
    assert_eq!(quarantined.len(), 1);
    assert!(!quarantined[0].is_damaged());
    assert_eq!(delivered(&root), Vec::<String>::new());
    quarantine(&root).purge(quarantined[0].id).unwrap();
    relay(&pipeline, 1, "no.conf", b"content");
    assert_eq!(delivered(&root), Vec::<String>::new(), "what an operator threw away stays away");
}

fn damage(staging: &Path) {
    for file in files(staging) {
        let path = staging.join(file);
        let mut bytes = fs::read(&path).unwrap();
        bytes[0] ^= 1;
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn what_is_damaged_before_its_delivery_must_not_be_deleted_at_its_node_nor_what_is_behind_it() {
    let root = tempfile::tempdir().unwrap();
    let staging = settings(&root).staging;
    let damaged = staging;
    let first_file = move || {
        let first = files(&damaged).remove(0);
        fs::write(damaged.join(first), "changed").unwrap();
    };
    let crash = Crash::doing_at("after-relayed-committed", 2, first_file);
    let pipeline = Pipeline::open(&settings(&root), crash).unwrap();
    relay(&pipeline, 1, "a.1.data", b"x");
    let batch = |pipeline: &Pipeline| {
        vec![skipped(2, "big.1.data"), one(pipeline, 3, "a.3.data", b"x"), one(pipeline, 4, "a.4.data", b"x")]
    };
    assert_eq!(pipeline.relayed(SITE, batch(&pipeline)).unwrap(), Some(number(2)));
    assert_eq!(delivered(&root), ["a.1.data", "a.4.data"]);
    let id = quarantine(&root).list(None).unwrap()[0].id;
    quarantine(&root).purge(id).unwrap();
    assert_eq!(pipeline.relayed(SITE, batch(&pipeline)).unwrap(), Some(number(4)));
    assert_eq!(delivered(&root), ["a.1.data", "a.3.data", "a.4.data"], "the good copy, and nothing twice");
}

#[test]
fn a_damaged_copy_under_a_number_of_an_earlier_life_is_not_taken_for_received() {
    let root = tempfile::tempdir().unwrap();
    let staging = settings(&root).staging;
    let crash = Crash::doing_at("after-relayed-committed", 2, move || damage(&staging));
    let pipeline = Pipeline::open(&settings(&root), crash).unwrap();
    let batch = (1..=3).map(|n| one(&pipeline, n, &format!("a.{n}.data"), b"x")).collect();
    pipeline.relayed(SITE, batch).unwrap();
    let later = |pipeline: &Pipeline, n| {
        let package =
            Relayed { modified: arrival(100 + n), ..one(pipeline, n, &format!("a.{n}0.data"), b"y") };
        pipeline.relayed(SITE, vec![package]).unwrap()
    };
    assert_eq!(later(&pipeline, 2), None, "damaged");
    assert_eq!(later(&pipeline, 3), Some(number(3)));
    let id = quarantine(&root).list(None).unwrap()[0].id;
    quarantine(&root).purge(id).unwrap();
    pipeline.relay_welcomed(SITE, None).unwrap();
    drop(pipeline);
    let pipeline = forget_history(&root);
    assert_eq!(later(&pipeline, 2), Some(number(2)));
    assert_eq!(delivered(&root), ["a.1.data", "a.2.data", "a.20.data", "a.3.data", "a.30.data"]);
}

#[test]
fn a_damaged_copy_counts_as_lost_once_its_node_has_it_no_more() {
    let root = tempfile::tempdir().unwrap();
    let staging = settings(&root).staging;
    let crash = Crash::doing_at("after-relayed-committed", 1, move || damage(&staging));
    let pipeline = Pipeline::open(&settings(&root), crash).unwrap();
    assert_eq!(relay(&pipeline, 1, "a.1.data", b"x"), None);
    pipeline.relay_welcomed(SITE, Some(number(1))).unwrap();
    assert_eq!(super::losses(&root), []);
    for _ in 0..2 {
        pipeline.relay_welcomed(SITE, Some(number(2))).unwrap();
    }
    assert_eq!(super::losses(&root), [("damaged".to_owned(), 1)]);
}

#[test]
fn a_crash_at_any_point_loses_nothing_and_what_comes_again_arrives_once() {
    let points = [
        ("after-relayed-staged", 1),
        ("after-relayed-staged", 2),
        ("after-relayed-committed", 1),
        ("after-relayed-committed", 2),
        ("after-committed", 1),
        ("after-rename", 1),
        ("after-rename", 2),
        ("after-rename", 4),
        ("after-relayed-renamed", 1),
        ("after-relayed-renamed", 2),
        ("after-dirsync", 1),
        ("after-relayed-delivered", 1),
        ("after-relayed-delivered", 2),
    ];
    for (again_over_tentacle, (point, n)) in
        [false, true].into_iter().flat_map(|way| points.map(|at| (way, at)))
    {
        let root = tempfile::tempdir().unwrap();
        let expected = ["host.0.data", "host.1.data", "host.2.data", "host.3.data"];
        let pipeline = Pipeline::open(&settings(&root), Crash::panicking_at(point, n)).unwrap();
        let give = |pipeline: &Pipeline| -> Result<(), Trouble> {
            for half in [0..2_u8, 2..4] {
                let package = |n: u8| one(pipeline, n.into(), expected[usize::from(n)], b"content");
                pipeline.relayed(SITE, half.map(package).collect())?;
            }
            Ok(())
        };
        catch_unwind(AssertUnwindSafe(|| give(&pipeline))).expect_err("it was to die");
        drop(pipeline);
        let pipeline = open(&root);
        pipeline.resume(SITE).unwrap();
        if again_over_tentacle {
            pipeline.listed(SITE, |_| true).unwrap();
            expected.iter().for_each(|text| drop(accept(&pipeline, text, b"content").unwrap()));
        } else {
            pipeline.relay_welcomed(SITE, Some(number(0))).unwrap();
            give(&pipeline).unwrap();
            pipeline.relay_drained(SITE).unwrap();
        }
        pipeline.flush().unwrap();
        let context = format!("{point}:{n}, over Tentacle: {again_over_tentacle}");
        assert_eq!(delivered(&root), expected, "{context}");
        assert_eq!(files(&settings(&root).staging), Vec::<String>::new(), "{context}");
        let sites = Ledger::read_sites(&settings(&root).state).unwrap();
        assert_eq!((sites[0].packages, sites[0].quarantined, sites[0].lost), (4, 0, 0), "{context}");
    }
}

#[test]
fn a_batch_that_could_not_be_delivered_is_delivered_when_it_comes_again() {
    let root = tempfile::tempdir().unwrap();
    let Incoming { directory, .. } = settings(&root);
    let (gone, from) = (root.path().join("gone"), directory.clone());
    let to = gone.clone();
    // The staging directory goes with it.
    let crash = Crash::doing_at("after-relayed-committed", 1, move || fs::rename(&from, &to).unwrap());
    let pipeline = Pipeline::open(&settings(&root), crash).unwrap();
    let failed = pipeline.relayed(SITE, vec![one(&pipeline, 1, "host.0.data", b"content")]).unwrap_err();
    assert!(!failed.is_final(), "{failed}");
    fs::rename(&gone, &directory).unwrap();
    assert_eq!(relay(&pipeline, 1, "host.0.data", b"content"), Some(number(1)));
    assert_eq!(delivered(&root), ["host.0.data"], "it was acknowledged");
}

#[test]
fn losses_of_a_site_are_counted_once_whatever_is_told_again_or_merged() {
    let root = tempfile::tempdir().unwrap();
    let pipeline = open(&root);
    let record = |counter, class: &str, packages, last| LossRecord {
        number: number(counter),
        class: class.into(),
        reason: 1,
        packages,
        bytes: packages,
        first: 1_600_000_000_000,
        last,
    };
    let tell = |records: &[LossRecord]| pipeline.relay_losses(SITE, records).unwrap();
    tell(&[record(1, "data", 2, 5_000), record(3, "data", 1, 6_000)]);
    tell(&[record(1, "data", 2, 5_000), record(3, "data", 1, 6_000), record(4, "data", 1, 7_000)]);
    tell(&[record(2, "data", 2, 5_500), record(4, "data", 4, 7_000)]);
    let sum = || {
        let rows = LossRow::read_all(&settings(&root).state).unwrap();
        assert!(rows.iter().all(|row| row.place == LossPlace::Site && row.reason == "full"), "{rows:?}");
        (rows.len(), rows.iter().map(|row| row.packages).sum::<u64>())
    };
    assert_eq!(sum(), (3, 4));
    tell(&[record(4, "data", 1, 8_000)]);
    assert_eq!(sum(), (3, 5), "a rolled-back site counts again from where it was; rows are bounded");
    let classes = (10..30).map(|n| record(n, &format!("class {n}"), 1, 9_000)).collect::<Vec<_>>();
    tell(&classes);
    assert_eq!(sum(), (3, 25));
    tell(&classes);
    assert_eq!(sum(), (3, 25));
    pipeline.relay_losses("other", &classes[..1]).unwrap();
    assert_eq!(sum(), (4, 26), "each site for itself");
    tell(&[record(40, "data", u64::MAX, 9_000), record(41, "data", u64::MAX, 9_000)]);
    Ledger::read_sites(&settings(&root).state).expect("no sum overflows");
}

#[test]
fn an_epoch_is_one_until_it_is_set() {
    let root = tempfile::tempdir().unwrap();
    let pipeline = open(&root);
    assert_eq!(pipeline.epoch(SITE).unwrap(), 1);
    pipeline.ledger().write(|batch| batch.set_epoch(SITE, 7)).unwrap();
    drop(pipeline);
    let pipeline = open(&root);
    assert_eq!((pipeline.epoch(SITE).unwrap(), pipeline.epoch("other").unwrap()), (7, 1));
}

#[test]
fn an_idle_flush_writes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let pipeline = open(&root);
    relay(&pipeline, 1, "host.0.data", b"content");
    pipeline.flush().unwrap();
    let log = || fs::read(settings(&root).state.join("ledger.sqlite-wal")).unwrap();
    let before = log();
    pipeline.flush().unwrap();
    pipeline.relay_welcomed(SITE, Some(number(1))).unwrap();
    relay(&pipeline, 1, "host.0.data", b"content");
    assert!(log() == before, "neither does a repeat, nor a welcome that tells nothing");
}
