//! `quarantine …`, `losses` and `status` around packages that could not be delivered.

use std::fs;

use serde_json::Value;

use crate::support::{Manner, Server, Site, text, until};

const FILE: &str = "web01.1700000000.data";

/// A server with this file in quarantine, and the site gone empty.
fn quarantined(settings: &str) -> (Site, Server) {
    let site = Site::start(Manner::Honest);
    site.put(FILE, b"content");
    let server = Server::new(&[("plant-7", site.address)], settings);
    server.crash(&["pull", "--once"], "after-held:1");
    fs::remove_file(site.directory.path().join(FILE)).unwrap();
    let db = rusqlite::Connection::open(server.ledger()).unwrap();
    let changed = db
        .execute(
            "UPDATE package SET state = 'quarantined', on_site = 0, reason = 'for the test', delivered = 1700000000",
            [],
        )
        .unwrap();
    assert_eq!(changed, 1);
    (site, server)
}

fn json(server: &Server, arguments: &[&str]) -> Value {
    let output = server.output(&[arguments, &["--json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn fails(server: &Server, arguments: &[&str], code: i32, words: &str) {
    let output = server.output(arguments);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(words), "{said}");
}

#[test]
fn it_is_listed_shown_and_counted() {
    let (_site, server) = quarantined("");
    let list = text(&server.output(&["quarantine", "list"]).stdout);
    assert!(
        list.contains(FILE) && list.contains("for the test") && list.contains("2023-11-14T22:13:20Z"),
        "{list}"
    );
    assert_eq!(json(&server, &["quarantine", "list"])["packages"][0]["sequence"], 1);
    for which in [FILE, "1", "--all"] {
        let shown = json(&server, &["quarantine", "show", which]);
        let package = &shown["packages"][0];
        assert_eq!((&package["name"], &package["content"]), (&FILE.into(), &"whole".into()), "{which}");
        assert!(package["file"].as_str().unwrap().ends_with(".staged"));
    }
    let shown = text(&server.output(&["quarantine", "show", FILE]).stdout);
    assert!(shown.contains("as it was received") && shown.contains("in quarantine"), "{shown}");
    let status = text(&server.output(&["status"]).stdout);
    assert!(status.contains("plant-7: 1 in quarantine: `tidegate-server quarantine list`"), "{status}");
    assert_eq!(json(&server, &["status"])["sites"][0]["quarantined"], 1);
    assert_eq!(json(&server, &["quarantine", "list", "--site", "plant-8"])["packages"], Value::Array(vec![]));
    fails(&server, &["quarantine", "show", "2"], 1, "is not in quarantine");
    fails(&server, &["quarantine", "show"], 64, "NAME|ID");
    fails(&server, &["quarantine", "requeue", FILE, "--site", "plant-8"], 1, "of the site \"plant-8\"");
}

#[test]
fn what_is_requeued_beside_a_running_server_reaches_the_pipeline_once() {
    let (site, server) = quarantined("sync_interval = \"100ms\"");
    let daemon = server.run();
    // It lies still while the server works.
    site.put("web02.1700000000.data", b"other");
    until("a turn", || server.delivered().len() == 1);
    let output = server.output(&["quarantine", "requeue", FILE]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(
        text(&output.stdout).contains("1 web01.1700000000.data (plant-7): requeued"),
        "{}",
        text(&output.stdout)
    );
    until("the delivery", || server.delivered().len() == 2);
    fails(&server, &["quarantine", "requeue", FILE], 1, "is not in quarantine");
    // The pipeline eats it; it must not come back.
    fs::remove_file(server.incoming().join(FILE)).unwrap();
    site.put("web03.1700000000.data", b"third");
    until("another turn", || server.delivered().len() == 2);
    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0), "{log}");
    let names: Vec<_> = server.delivered().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["web02.1700000000.data", "web03.1700000000.data"]);
    assert_eq!(json(&server, &["status"])["sites"][0]["quarantined"], 0);
}

#[test]
fn what_is_purged_is_lost_and_that_is_recorded() {
    let (_site, server) = quarantined("");
    fails(&server, &["quarantine", "purge", FILE], 64, "--yes");
    assert_eq!(json(&server, &["losses"])["losses"], Value::Array(vec![]));
    let purged = json(&server, &["quarantine", "purge", "--all", "--yes"]);
    assert_eq!(purged["packages"][0]["outcome"], "purged");
    let losses = json(&server, &["losses", "--site", "plant-7"]);
    let loss = &losses["losses"][0];
    assert_eq!(
        (&loss["site"], &loss["reason"], &loss["packages"], &loss["bytes"]),
        (&"plant-7".into(), &"purged".into(), &1.into(), &7.into())
    );
    assert!(text(&server.output(&["losses"]).stdout).contains("purged"));
    let status = text(&server.output(&["status"]).stdout);
    assert!(status.contains("plant-7: 1 lost: `tidegate-server losses`"), "{status}");
    let left: Vec<_> =
        fs::read_dir(server.incoming().join(".tidegate")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["ledger-id"]);
    assert_eq!(server.output(&["verify", "--offline"]).status.code(), Some(0));
}

#[test]
fn without_its_file_nothing_is_requeued() {
    let (_site, server) = quarantined("");
    for entry in fs::read_dir(server.incoming().join(".tidegate")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "staged") {
            fs::remove_file(path).unwrap();
        }
    }
    fails(&server, &["quarantine", "requeue", "--all"], 1, "1 of 1 packages were not requeued");
    assert_eq!(json(&server, &["quarantine", "show", "1"])["packages"][0]["content"], "gone");
    assert_eq!(json(&server, &["quarantine", "list"])["packages"].as_array().unwrap().len(), 1);
}

#[test]
fn before_the_first_start_there_is_nothing() {
    let server = Server::new(&[("plant-7", "127.0.0.1:1".parse().unwrap())], "");
    assert_eq!(json(&server, &["quarantine", "list"])["packages"], Value::Array(vec![]));
    assert_eq!(json(&server, &["losses"])["losses"], Value::Array(vec![]));
    fails(&server, &["quarantine", "show", "1"], 1, "is not in quarantine");
}

#[test]
fn a_package_whose_every_name_is_taken_goes_to_quarantine_until_one_is_free() {
    let site = Site::start(Manner::Honest);
    site.put(FILE, b"content");
    let server = Server::new(&[("plant-7", site.address)], "");
    // Its own name is a directory's, and every one that is tried after it somebody's.
    fs::create_dir(server.incoming().join(FILE)).unwrap();
    for attempt in std::iter::once(String::new()).chain((1..99).map(|n| n.to_string())) {
        fs::write(server.incoming().join(format!("web01.17000000000000000001{attempt}.data")), "theirs")
            .unwrap();
    }
    let output = server.output(&["pull", "--once"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(site.is_empty(), "nothing waits for it");
    let listed = json(&server, &["quarantine", "list"]);
    assert_eq!(listed["packages"][0]["reason"], "100 names for it are taken in incomingdir");
    fs::remove_dir(server.incoming().join(FILE)).unwrap();
    assert_eq!(json(&server, &["quarantine", "requeue", FILE])["packages"][0]["outcome"], "requeued");
    server.output(&["pull", "--once"]);
    assert_eq!(fs::read(server.incoming().join(FILE)).unwrap(), b"content");
    assert_eq!(json(&server, &["quarantine", "list"])["packages"], Value::Array(vec![]));
}

#[test]
fn a_changed_file_is_not_requeued_and_the_site_keeps_its_copy_until_that_came() {
    let (site, server) = quarantined("");
    let db = rusqlite::Connection::open(server.ledger()).unwrap();
    db.execute("UPDATE package SET on_site = 1, reason = 'damaged for the test'", []).unwrap();
    drop(db);
    site.put(FILE, b"content");
    let document = json(&server, &["quarantine", "show", FILE]);
    fs::write(document["packages"][0]["file"].as_str().unwrap(), "no content").unwrap();
    let refused = server.output(&["quarantine", "requeue", FILE]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text(&refused.stdout).contains("pulled again while the site has it"),
        "{}",
        text(&refused.stdout)
    );
    server.output(&["pull", "--once"]);
    assert_eq!(server.delivered(), [(FILE.to_owned(), b"content".to_vec())]);
}
