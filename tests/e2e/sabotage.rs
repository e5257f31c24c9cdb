//! Tests that cannot fail prove nothing: with each promise broken on purpose (`TIDEGATE_SABOTAGE`, debug builds only)
//! the oracle must say so, and with all of them kept the same procedure must be clean.
//!
//! The procedures are those of the campaign: a power cut in the guest, a death at a step of the server, repeats. The
//! moments are chosen where the broken promise matters.

use std::time::Duration;

use tidegate_tests::central::{Central, Mode, Site};
use tidegate_tests::certificates::Authority;
use tidegate_tests::guest::{FileSystem, Orders, words};
use tidegate_tests::node::Node;
use tidegate_tests::oracle::{Oracle, Verdict};
use tidegate_tests::power::{Chain, Found, Moment};
use tidegate_tests::sender::send_until_stored;

const VARIABLE: &str = "TIDEGATE_SABOTAGE";

/// A cut may come a little late; not that often.
const TRIES: u64 = 5;

/// A boot that is cut at a moment, and the next, which tells what is left.
fn power_cut(number: u64, orders: Orders, moment: Moment) -> Found {
    let mut chain = Chain::new(FileSystem::Ext4, number, Mode::Tentacle);
    let found = chain.boot(orders, moment);
    if !found.complaints.is_empty() {
        return found;
    }
    chain.settle()
}

fn power_cut_catches(switch: &str, orders: &Orders, moment: Moment) {
    let found = power_cut(0, orders.clone(), moment);
    assert!(found.is_clean(), "without {switch}: {found}");
    let mut sabotaged = orders.clone();
    sabotaged.environment.push(format!("{VARIABLE}={switch}"));
    let caught = (1..=TRIES).map(|number| power_cut(number, sabotaged.clone(), moment)).find(|found| {
        // What the guest complains about is no proof: the oracle must see it.
        found.verdict.as_ref().is_some_and(|verdict| !verdict.is_clean())
    });
    let caught = caught.unwrap_or_else(|| panic!("{switch}: {TRIES} power cuts, and nothing is wrong"));
    eprintln!("{switch}: caught by a power cut: {caught}");
}

#[test]
fn a_power_cut_catches_a_file_that_is_not_fsynced() {
    let orders = Orders { files: 8, senders: 2, ..Orders::default() };
    power_cut_catches("skip-file-fsync", &orders, Moment::Stored(8, Duration::ZERO));
}

#[test]
fn a_power_cut_catches_a_directory_that_is_not_fsynced() {
    let orders = Orders { files: 1, ..Orders::default() };
    power_cut_catches("skip-dir-fsync", &orders, Moment::Stored(1, Duration::ZERO));
}

#[test]
fn a_power_cut_catches_an_answer_before_the_commit() {
    let orders = Orders { files: 200, senders: 16, ..Orders::default() };
    power_cut_catches("ack-early", &orders, Moment::Stored(1, Duration::ZERO));
}

#[test]
fn a_power_cut_catches_a_ledger_that_forgets() {
    let orders = Orders {
        settle: true,
        files: 3,
        pull_after: true,
        environment: vec!["TIDEGATE_CRASH_AT=after-dirsync:1".into()],
        ..Orders::default()
    };
    power_cut_catches("ledger-normal", &orders, Moment::Word(words::CENTRAL_ENDED, Duration::ZERO));
}

/// Three files, one of them sent twice, and a server that dies at a step of the pull and starts again.
fn death_at(step: &str, switch: Option<&str>) -> Verdict {
    let authority = Authority::new();
    let sabotage: Vec<(&str, &str)> = switch.iter().map(|switch| (VARIABLE, *switch)).collect();
    let node = Node::start_under(&authority, "", &sabotage);
    let oracle = Oracle::default();
    for number in [0, 1, 2, 2] {
        let (name, bytes) = (format!("web{number}.170000000{number}.data"), format!("file {number}"));
        oracle.expect(&name, bytes.as_bytes());
        send_until_stored(node.address(), &name, bytes.as_bytes());
    }
    let mut central = Central::new(&authority, &[Site::node("site", node.address())], "");
    let dying = [&sabotage[..], &[("TIDEGATE_CRASH_AT", step)]].concat();
    central.run_with(&dying);
    assert!(!central.process().join().success(), "{step}: it died");
    let status = central.pull(&sabotage).join();
    assert!(status.success(), "{step}: the next pull: {status}");
    oracle.judge(&central.pipeline.consume())
}

#[test]
fn a_death_of_the_server_catches_a_deletion_before_the_ledger() {
    let verdict = death_at("after-recv-staged:1", None);
    assert!(verdict.is_clean(), "{verdict}");
    let verdict = death_at("after-recv-staged:1", Some("delete-before-ledger"));
    assert!(!verdict.lost.is_empty(), "delete-before-ledger is not caught: {verdict}");
    eprintln!("delete-before-ledger: caught by a death of the server: {verdict}");
}

#[test]
fn repeats_catch_forgotten_duplicates() {
    let verdict = death_at("after-delivered:1", None);
    assert!(verdict.is_clean(), "{verdict}");
    let verdict = death_at("after-delivered:1", Some("forget-duplicates"));
    // The node forgot that it had the file that was sent twice, and the server what it had delivered before it died.
    for name in ["web0", "web2"] {
        let doubled = verdict.doubled.iter().any(|doubled| doubled.starts_with(name));
        assert!(doubled, "forget-duplicates is not caught for {name}: {verdict}");
    }
    eprintln!("forget-duplicates: caught by repeats and a death of the server: {verdict}");
}
