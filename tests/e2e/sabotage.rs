//! Tests that cannot fail prove nothing: with each promise broken on purpose (`TIDEGATE_SABOTAGE`, debug builds only)
//! the oracle must say so, and with all of them kept the same procedure must be clean.
//!
//! The procedures are those of the campaign: a power cut in the guest, a death at a step of the server, repeats, a
//! takeover. The moments are chosen where the broken promise matters, over Tentacle commands and over relay.

use std::time::Duration;

use tidegate_tests::central::{Central, Mode, Site};
use tidegate_tests::certificates::Authority;
use tidegate_tests::guest::{FileSystem, Orders, words};
use tidegate_tests::node::Node;
use tidegate_tests::oracle::{Oracle, Verdict};
use tidegate_tests::power::{Chain, Found, Moment};
use tidegate_tests::scenarios::each;
use tidegate_tests::sender::send_until_stored;

const VARIABLE: &str = "TIDEGATE_SABOTAGE";

/// A cut or a death may come a little late; not that often.
const TRIES: u64 = 5;

/// How packages are pulled. Relay on a connection for each turn breaks and keeps the same promises.
const MODES: [Mode; 2] = [Mode::Tentacle, Mode::Standing];

/// A boot that is cut at a moment, and the next, which tells what is left.
fn power_cut(number: u64, mode: Mode, orders: Orders, moment: Moment) -> Found {
    let mut chain = Chain::new(FileSystem::Ext4, number, mode);
    let found = chain.boot(orders, moment);
    if !found.complaints.is_empty() {
        return found;
    }
    chain.settle()
}

fn power_cut_catches(switch: &str, orders: &Orders, moment: Moment) {
    each(&MODES, |&mode| {
        let found = power_cut(0, mode, orders.clone(), moment);
        assert!(found.is_clean(), "without {switch} ({mode:?}): {found}");
        let mut sabotaged = orders.clone();
        sabotaged.environment.push(format!("{VARIABLE}={switch}"));
        let mut cuts = (1..=TRIES).map(|number| power_cut(number, mode, sabotaged.clone(), moment));
        // What the guest complains about is no proof: the oracle must see it.
        let caught = cuts.find(|found| found.verdict.as_ref().is_some_and(|verdict| !verdict.is_clean()));
        let caught =
            caught.unwrap_or_else(|| panic!("{switch} ({mode:?}): {TRIES} power cuts, and nothing is wrong"));
        eprintln!("{switch} ({mode:?}): caught by a power cut: {caught}");
    });
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

/// A node with three files, one of them sent twice: names with a time, or without one.
fn node_with_files(authority: &Authority, timed: bool, sabotage: &[(&str, &str)]) -> (Node, Oracle) {
    let node = Node::start_under(authority, "", sabotage);
    let oracle = Oracle::default();
    for number in [0, 1, 2, 2] {
        let time = if timed { 1_700_000_000 } else { 0 };
        let (name, bytes) = (format!("web{number}.{}.data", time + number), format!("file {number}"));
        oracle.expect(&name, bytes.as_bytes());
        send_until_stored(node.address(), &name, bytes.as_bytes());
    }
    (node, oracle)
}

fn environment(switch: Option<&str>) -> Vec<(&str, &str)> {
    switch.iter().map(|switch| (VARIABLE, *switch)).collect()
}

/// A server that dies at a step of the pull and starts again.
fn death_at(mode: Mode, step: &str, timed: bool, switch: Option<&str>) -> Verdict {
    let authority = Authority::new();
    let sabotage = environment(switch);
    let (node, oracle) = node_with_files(&authority, timed, &sabotage);
    let mut central = Central::new(&authority, &[Site::node("site", node.address()).over(mode)], "");
    let dying = [&sabotage[..], &[("TIDEGATE_CRASH_AT", step)]].concat();
    central.run_with(&dying);
    assert!(!central.process().join().success(), "{step}: it died");
    let status = central.pull(&sabotage).join();
    assert!(status.success(), "{step}: the next pull: {status}");
    oracle.judge(&central.pipeline.consume())
}

/// Clean without the switch; with it, within some tries, what `is_caught` looks for.
fn death_catches(switch: &str, mode: Mode, step: &str, timed: bool, is_caught: impl Fn(&Verdict) -> bool) {
    let verdict = death_at(mode, step, timed, None);
    assert!(verdict.is_clean(), "without {switch} ({mode:?}): {verdict}");
    let mut verdicts = (0..TRIES).map(|_| death_at(mode, step, timed, Some(switch)));
    let caught = verdicts.find(is_caught);
    let caught =
        caught.unwrap_or_else(|| panic!("{switch} ({mode:?}): {TRIES} deaths at {step}, not caught"));
    eprintln!("{switch} ({mode:?}): caught by a death of the server at {step}: {caught}");
}

#[test]
fn a_death_of_the_server_catches_a_deletion_before_the_ledger() {
    each(
        &[(Mode::Tentacle, "after-recv-staged:1"), (Mode::Standing, "after-relayed-staged:1")],
        |(mode, step)| {
            death_catches("delete-before-ledger", *mode, step, true, |verdict| !verdict.lost.is_empty());
        },
    );
}

#[test]
fn a_death_of_the_server_catches_a_deletion_without_acknowledgement() {
    death_catches("delete-unacknowledged", Mode::Standing, "after-relayed-staged:1", true, |verdict| {
        !verdict.lost.is_empty()
    });
}

#[test]
fn repeats_catch_forgotten_duplicates() {
    each(
        &[(Mode::Tentacle, "after-delivered:1"), (Mode::Standing, "after-relayed-delivered:1")],
        |(mode, step)| {
            // The node forgot that it had the file that was sent twice, and the server what it had delivered before it died.
            death_catches("forget-duplicates", *mode, step, true, |verdict| {
                ["web0", "web2"]
                    .iter()
                    .all(|name| verdict.doubled.iter().any(|doubled| doubled.starts_with(name)))
            });
        },
    );
}

#[test]
fn repeats_catch_forgotten_numbers() {
    // What a name with a time says would tell as well.
    death_catches("forget-numbers", Mode::Standing, "after-relayed-delivered:1", false, |verdict| {
        !verdict.doubled.is_empty()
    });
}

/// A pull to its end, the node's death just then, and another central that takes over.
fn taken_over(switch: Option<&str>) -> Verdict {
    let authority = Authority::new();
    let (mut node, oracle) = node_with_files(&authority, true, &environment(switch));
    let site = Site::node("site", node.address()).over(Mode::Scheduled);
    let [old, new] = [0, 1].map(|_| Central::new(&authority, std::slice::from_ref(&site), ""));
    let mut pull = old.pull(&[]);
    assert!(pull.join().success(), "{}", pull.log());
    node.kill();
    node.restart();
    assert!(!new.pull(&[]).join().success(), "a central that was not chosen");
    let taken = new.command(&["takeover", "--site", "site"]).output().expect("the server's command starts");
    assert!(taken.status.success(), "takeover: {}", String::from_utf8_lossy(&taken.stderr));
    let mut pull = new.pull(&[]);
    assert!(pull.join().success(), "{}", pull.log());
    oracle.judge(&[old.pipeline.consume(), new.pipeline.consume()].concat())
}

#[test]
fn a_takeover_catches_a_deletion_that_was_told_too_early() {
    let verdict = taken_over(None);
    assert!(verdict.is_clean(), "{verdict}");
    let verdict = taken_over(Some("deleted-early"));
    assert!(!verdict.doubled.is_empty(), "deleted-early is not caught: {verdict}");
    eprintln!("deleted-early: caught by a takeover: {verdict}");
}
