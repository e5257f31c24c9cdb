//! `find` and `verify` as operators use them: the real process, small sites, and everything that can be wrong once.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Manner, Server, Site, text, until};
use serde_json::Value;

const FILE: &str = "web01.1700000000.data";
const SHA256_OF_CONTENT: &str = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73";

fn site_with(files: &[(&str, &[u8])]) -> Site {
    let site = Site::start(Manner::Honest);
    files.iter().for_each(|(name, bytes)| site.put(name, bytes));
    site
}

fn server_of(site: &Site) -> Server {
    Server::new(&[("plant-7", site.address)], "")
}

/// What `verify` says, and with which exit code.
fn verify(server: &Server, more: &[&str]) -> (i32, Value) {
    let output = server.output(&[&["verify", "--json"], more].concat());
    let document = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", text(&output.stdout), text(&output.stderr)));
    (output.status.code().unwrap(), document)
}

/// The kinds of findings, each with its site and name.
fn findings(document: &Value) -> Vec<(&str, &str, &str)> {
    let shown = |value: &'_ Value| value.as_str().unwrap_or("-").to_owned().leak() as &str;
    let findings = document["findings"].as_array().unwrap();
    findings
        .iter()
        .map(|finding| (shown(&finding["what"]), shown(&finding["site"]), shown(&finding["name"])))
        .collect()
}

fn assert_adds_up(server: &Server, more: &[&str]) {
    let (code, document) = verify(server, more);
    assert_eq!((code, findings(&document)), (0, vec![]));
}

fn change(server: &Server, sql: &str) -> usize {
    rusqlite::Connection::open(server.ledger()).unwrap().execute(sql, []).unwrap()
}

/// A server that died with a package in this state, and its staged file.
fn died(server: &Server, step: &str) -> PathBuf {
    server.crash(&["pull", "--once"], step);
    staged(server).pop().expect("a staged file")
}

fn staged(server: &Server) -> Vec<PathBuf> {
    let files = fs::read_dir(server.incoming().join(".tidegate")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|ending| ending == "staged")).collect()
}

fn found(server: &Server, arguments: &[&str]) -> Vec<Value> {
    let output = server.output(&[&["find", "--json"], arguments].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    document["packages"].as_array().unwrap().clone()
}

#[test]
fn a_file_is_found_before_and_after_its_delivery_beside_a_running_server() {
    let site = site_with(&[(FILE, b"content")]);
    let server = Server::new(&[("plant-7", site.address)], "sync_interval = \"200ms\"");
    let output = server.output(&["find", FILE]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("never pulled") && said.contains("plant-7: never reached"), "{said}");
    assert!(said.contains("tidegate-server verify"), "it says where to look next: {said}");

    server.crash(&["pull", "--once"], "after-held:1");
    let held = found(&server, &[FILE]).remove(0);
    assert_eq!(
        (&held["state"], &held["on_site"], &held["delivered"]),
        (&"held".into(), &true.into(), &Value::Null)
    );

    let daemon = server.run();
    until("the delivery", || found(&server, &[FILE])[0]["on_site"] == false);
    let delivered = found(&server, &["web01"]).remove(0);
    for (key, value) in [
        ("site", "plant-7"),
        ("name", FILE),
        ("state", "delivered"),
        ("target", FILE),
        ("sha256", SHA256_OF_CONTENT),
    ] {
        assert_eq!(delivered[key], value, "{delivered}");
    }
    assert_eq!((&delivered["sequence"], &delivered["bytes"]), (&1.into(), &7.into()));
    let modified = fs::metadata(server.incoming().join(FILE)).unwrap().modified().unwrap();
    let modified = modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    assert_eq!(delivered["arrived_ms"], u64::try_from(modified).unwrap(), "as the pipeline sees it");
    let output = server.output(&["find", FILE]);
    let card = text(&output.stdout);
    assert!(card.contains("delivered; gone from the site") && card.contains(SHA256_OF_CONTENT), "{card}");
    daemon.stop();
}

#[test]
fn an_agents_files_come_newest_first_and_bounded_and_what_is_printed_can_be_asked_for() {
    let site = site_with(&[("web01.1.data", b"1"), ("web01_2.data", b"2"), ("web01.3.data", b"3")]);
    fs::write(site.directory.path().join("web02.1.data"), "x").unwrap();
    let server = server_of(&site);
    fs::write(server.incoming().join("web02.1.data"), "in the way").unwrap();
    assert_eq!(server.output(&["pull", "--once"]).status.code(), Some(0));
    let sequences: Vec<i64> =
        found(&server, &["web01"]).iter().map(|package| package["sequence"].as_i64().unwrap()).collect();
    assert_eq!(sequences.len(), 3);
    assert!(sequences.is_sorted_by(|a, b| a > b), "{sequences:?}");
    let output = server.output(&["find", "web01", "--limit", "2"]);
    assert!(text(&output.stdout).contains("the newest 2 of 3"), "{}", text(&output.stdout));
    let renamed = found(&server, &["web02"]).remove(0);
    let target = renamed["target"].as_str().unwrap();
    assert_ne!(target, "web02.1.data");
    assert_eq!(found(&server, &[target]), std::slice::from_ref(&renamed), "as it was delivered");
    let output = server.output(&["find", "web01", "--site", "plant-8"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("no site of the configuration is called that"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(server.output(&["find", "web01", "--limit", "0"]).status.code(), Some(64));
}

#[test]
fn a_server_at_work_and_one_that_never_ran_add_up() {
    let site = site_with(&[(FILE, b"content")]);
    let server = Server::new(&[("plant-7", site.address)], "sync_interval = \"200ms\"");
    let (code, document) = verify(&server, &[]);
    assert_eq!((code, findings(&document)), (0, vec![]));
    let summary = &document["sites"][0];
    assert_eq!(
        (&summary["listed"], &summary["waiting"], &summary["asked"]),
        (&1.into(), &1.into(), &"stock".into())
    );
    let daemon = server.run();
    until("the delivery", || !server.delivered().is_empty());
    assert_adds_up(&server, &[]);
    assert_adds_up(&server, &["--offline"]);
    assert_eq!(text(&server.output(&["verify"]).stdout).lines().last(), Some("All adds up."));
    daemon.stop();
}

#[test]
fn nothing_is_changed_at_the_site_or_here() {
    let site = site_with(&[(FILE, b"content")]);
    let server = server_of(&site);
    died(&server, "after-held:1");
    let before = (server.delivered(), staged(&server), found(&server, &["web01"]));
    verify(&server, &[]);
    assert_eq!((server.delivered(), staged(&server), found(&server, &["web01"])), before);
    assert!(site.directory.path().join(FILE).exists());
}

#[test]
fn a_missing_or_changed_staged_file_is_found() {
    let site = site_with(&[(FILE, b"content")]);
    let server = server_of(&site);
    let staged = died(&server, "after-held:1");
    assert_adds_up(&server, &[]);
    fs::write(&staged, "CONTENT").unwrap();
    let (code, document) = verify(&server, &[]);
    assert_eq!((code, findings(&document)), (1, vec![("staged-changed", "plant-7", FILE)]));
    assert!(document["findings"][0]["means"].as_str().unwrap().contains(SHA256_OF_CONTENT), "{document}");
    fs::remove_file(&staged).unwrap();
    for state in ["held", "committed", "quarantined"] {
        assert_eq!(change(&server, &format!("UPDATE package SET state = '{state}'")), 1);
        let (code, document) = verify(&server, &["--offline"]);
        let mut expected = vec![("staged-missing", "plant-7", FILE)];
        expected.extend((state == "quarantined").then_some(("quarantine", "plant-7", "-")));
        assert_eq!((code, findings(&document)), (1, expected), "{state}");
    }
}

#[test]
fn a_staging_directory_that_is_another_one_is_found() {
    let site = site_with(&[(FILE, b"content")]);
    let server = server_of(&site);
    died(&server, "after-held:1");
    let staging = server.incoming().join(".tidegate");
    let elsewhere = server.incoming().join("elsewhere");
    fs::rename(&staging, &elsewhere).unwrap();
    let is_marked = |expected: &str| {
        let (code, document) = verify(&server, &["--offline"]);
        assert_eq!((code, findings(&document)), (1, vec![("staging-mark", "-", "-")]));
        let means = document["findings"][0]["means"].as_str().unwrap();
        assert!(means.contains(expected), "{means}");
    };
    is_marked("is gone");
    fs::create_dir(&staging).unwrap();
    let owner = fs::read_to_string(elsewhere.join("ledger-id")).unwrap();
    fs::write(staging.join("ledger-id"), owner.clone() + "0").unwrap();
    is_marked("used before");
    fs::write(staging.join("ledger-id"), format!("0{owner}")).unwrap();
    is_marked("belongs to another ledger");
    fs::remove_file(server.ledger()).unwrap();
    is_marked("belongs to a ledger that is not in");
}

#[test]
fn a_damaged_ledger_is_found_by_row_and_by_file() {
    let site = site_with(&[(FILE, b"content")]);
    let server = server_of(&site);
    assert_eq!(server.output(&["pull", "--once"]).status.code(), Some(0));
    change(&server, "UPDATE package SET size = size + 1");
    let (code, document) = verify(&server, &[]);
    assert_eq!(code, 1);
    assert!(
        matches!(findings(&document)[..], [("ledger-damaged", "-", row)] if row.contains("row 1")),
        "{document}"
    );
    overwrite_pages(&server.ledger());
    let (code, document) = verify(&server, &["--offline"]);
    assert_eq!(code, 1);
    assert!(findings(&document).iter().all(|(what, ..)| *what == "ledger-damaged"), "{document}");
}

/// All pages but the first, which says what is where.
fn overwrite_pages(database: &Path) {
    let mut bytes = fs::read(database).unwrap();
    bytes[4096..].fill(0x5a);
    fs::write(database, bytes).unwrap();
}

#[test]
fn what_a_site_lists_again_or_lists_no_more_or_does_not_delete_is_found() {
    let site = site_with(&[(FILE, b"content")]);
    let server = server_of(&site);
    assert_eq!(server.output(&["pull", "--once"]).status.code(), Some(0));
    site.put(FILE, b"content");
    let (code, document) = verify(&server, &[]);
    assert_eq!((code, findings(&document)), (1, vec![("deleted-but-listed", "plant-7", FILE)]));
    assert_eq!(change(&server, "UPDATE package SET on_site = 1"), 1);
    assert_adds_up(&server, &[]);
    assert_eq!(change(&server, "UPDATE package SET delivered = delivered - 700"), 1);
    let (code, document) = verify(&server, &[]);
    assert_eq!((code, findings(&document)), (1, vec![("listed-for-long", "plant-7", FILE)]));
    assert_eq!(document["sites"][0]["awaiting_deletion"], 1);
    fs::remove_file(site.directory.path().join(FILE)).unwrap();
    let (code, document) = verify(&server, &[]);
    assert_eq!((code, findings(&document)), (1, vec![("not-listed", "plant-7", FILE)]));
    assert_adds_up(&server, &["--offline"]);
    // What it advises is what helps.
    assert_eq!(server.output(&["pull", "--once"]).status.code(), Some(0));
    assert_adds_up(&server, &[]);
}

#[test]
fn what_nobody_takes_is_found() {
    let site = site_with(&[("web01.data", b"no number"), ("big.1.data", &[b'x'; 2000])]);
    let server = Server::new(&[("plant-7", site.address)], "max_size = 1000");
    assert_eq!(server.output(&["pull", "--once"]).status.code(), Some(0));
    let (code, document) = verify(&server, &[]);
    let expected = vec![("never-taken", "plant-7", "-"), ("held-back", "plant-7", "-")];
    assert_eq!((code, findings(&document)), (1, expected));
    assert!(document["findings"][0]["means"].as_str().unwrap().contains("web01.data"), "{document}");
}

#[test]
fn unfinished_packages_of_a_site_that_nobody_pulls_are_found() {
    let site = site_with(&[(FILE, b"content")]);
    let server = server_of(&site);
    died(&server, "after-held:1");
    server.configure(&[("renamed", site.address)], "");
    let (code, document) = verify(&server, &[]);
    assert_eq!((code, findings(&document)), (1, vec![("not-configured", "plant-7", "-")]));
    let output = server.output(&["verify", "--site", "plant-7"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output.stderr).contains("there are: renamed"), "{}", text(&output.stderr));
}

#[test]
fn a_site_that_does_not_answer_is_told_after_the_others_were_asked() {
    let site = site_with(&[(FILE, b"content")]);
    let silent = Site::start(Manner::Silent);
    let server =
        Server::new(&[("plant-7", site.address), ("silent", silent.address)], "sync_timeout = \"300ms\"");
    let (code, document) = verify(&server, &[]);
    assert_eq!((code, findings(&document)), (69, vec![("unreachable", "silent", "-")]));
    assert_eq!((&document["sites"][0]["listed"], &document["sites"][1]["listed"]), (&1.into(), &Value::Null));
    assert_adds_up(&server, &["--site", "plant-7"]);
    assert_adds_up(&server, &["--offline"]);
}
