//! `ledger reset`: what it takes over, and that it can be run again.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::{Manner, Server, Site, text};

const FILES: [(&str, &[u8]); 4] = [
    ("db01.7.data", b"known"),
    ("web01.1700000000.data", b"delivered"),
    ("web02.1700000000.data", b"damaged"),
    ("web03.1700000000.data", b"unreadable"),
];

/// A server that died with all files held, and their site.
fn died() -> (Site, Server) {
    let site = Site::start(Manner::Honest);
    FILES.iter().for_each(|(name, bytes)| site.put(name, bytes));
    let server = Server::new(&[("plant-7", site.address)], "");
    server.crash(&["pull", "--once"], "after-held:1");
    (site, server)
}

fn staged(server: &Server, name: &str) -> PathBuf {
    let db = rusqlite::Connection::open(server.ledger()).unwrap();
    let query = "SELECT staged FROM package WHERE CAST(name AS TEXT) = ?1";
    let staged: String = db.query_row(query, [name], |row| row.get(0)).unwrap();
    server.incoming().join(".tidegate").join(staged)
}

fn reset(server: &Server) -> String {
    let output = server.output(&["ledger", "reset", "--yes"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn json(server: &Server, arguments: &[&str]) -> Value {
    let output = server.output(&[arguments, &["--json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The packages in quarantine: their sites, names and reasons.
fn listed(server: &Server) -> Vec<(String, String, String)> {
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let document = json(server, &["quarantine", "list"]);
    let packages = document["packages"].as_array().unwrap().iter();
    packages
        .map(|package| (word(&package["site"]), word(&package["name"]), word(&package["reason"])))
        .collect()
}

fn set_aside(server: &Server) -> usize {
    let names = fs::read_dir(server.state()).unwrap().map(|entry| entry.unwrap().file_name());
    let databases =
        names.filter(|name| name.to_str().unwrap().starts_with("ledger-damaged-")).map(PathBuf::from);
    databases.filter(|name| name.extension().is_some_and(|ending| ending == "sqlite")).count()
}

#[test]
fn rows_of_every_kind_are_taken_over_in_order_as_often_as_it_is_run() {
    let (site, server) = died();
    let [_, delivered, damaged, unreadable] = FILES.map(|(name, _)| staged(&server, name));
    fs::remove_file(&delivered).unwrap();
    fs::write(&damaged, "other").unwrap();
    fs::remove_file(&unreadable).unwrap();
    fs::create_dir(&unreadable).unwrap();
    let staging = server.incoming().join(".tidegate");
    fs::write(staging.join("0-0.aside"), "set aside").unwrap();
    fs::write(staging.join("z-0.staged"), "unknown").unwrap();
    let db = rusqlite::Connection::open(server.ledger()).unwrap();
    let name = FILES[1].0;
    let done = "UPDATE package SET state = 'delivered', delivered = 1700000000 WHERE CAST(name AS TEXT) = ?1";
    assert_eq!(db.execute(done, [name]).unwrap(), 1);
    let lost = "INSERT INTO loss (site, class, reason, packages, bytes, first, last) VALUES ('plant-7', 'data', 'purged', 2, 9, 1700000000, 1700000001)";
    db.execute(lost, []).unwrap();
    let order = "SELECT CAST(name AS TEXT) FROM package WHERE state = 'held' ORDER BY id";
    let order: Vec<String> =
        db.prepare(order).unwrap().query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    drop(db);

    let mut first = None;
    for times in 1..=3 {
        let said = reset(&server);
        assert!(
            said.contains("5 staged files are in its quarantine (2 of unknown sites, 1 that cannot be read")
        );
        assert!(said.contains("1 packages are known to be delivered"), "{said}");
        assert_eq!(set_aside(&server), times, "none is overwritten");
        let listed = listed(&server);
        let names: Vec<_> = listed.iter().map(|(_, name, _)| name.clone()).collect();
        assert_eq!(names[..3], order[..], "in the order of arrival");
        assert_eq!(names[3..], ["unknown-0-0.0.data", "unknown-z-0.0.data"]);
        let reason = |name: &str| &listed.iter().find(|row| row.1 == name).unwrap().2;
        assert_eq!(reason(FILES[0].0), "the ledger was reset: it was held before");
        assert!(reason(FILES[2].0).starts_with("damaged"), "{listed:?}");
        assert!(reason(FILES[3].0).contains("cannot be read"), "{listed:?}");
        assert_eq!(*first.get_or_insert_with(|| listed.clone()), listed, "a second time changes nothing");
    }
    let losses = json(&server, &["losses"]);
    assert_eq!(
        (losses["losses"].as_array().unwrap().len(), &losses["losses"][0]["packages"]),
        (1, &2.into())
    );

    let output = server.output(&["pull", "--once"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let expected = FILES[2..].iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec()));
    assert_eq!(server.delivered(), expected.collect::<Vec<_>>(), "what was damaged here came again");
    assert!(site.is_empty());
    let requeued = server.output(&["quarantine", "requeue", FILES[0].0]);
    assert_eq!(requeued.status.code(), Some(0), "{}", text(&requeued.stderr));
    let refused = server.output(&["quarantine", "requeue", FILES[2].0]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stdout).contains("does not have the bytes that came"), "{}", text(&refused.stdout));
    server.output(&["pull", "--once"]);
    assert_eq!(server.delivered()[0], (FILES[0].0.to_owned(), FILES[0].1.to_vec()));
}

#[test]
fn one_that_was_interrupted_keeps_every_server_from_starting_and_goes_on() {
    let (_site, server) = died();
    for ending in ["", "-wal", "-shm"] {
        let old = server.state().join(format!("ledger-damaged-1.sqlite{ending}"));
        // The log is still to be moved.
        if ending != "-wal" {
            fs::rename(server.state().join(format!("ledger.sqlite{ending}")), old).unwrap();
        }
    }
    fs::write(server.state().join("ledger-reset"), "ledger-damaged-1.sqlite").unwrap();
    let refused = server.output(&["pull", "--once"]);
    assert_eq!(refused.status.code(), Some(78), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("run it again"), "{}", text(&refused.stderr));
    assert!(!server.ledger().exists(), "no new one is made");
    reset(&server);
    assert!(listed(&server).iter().all(|(site, _, _)| site == "plant-7"), "{:?}", listed(&server));
    assert_eq!(listed(&server).len(), FILES.len());
    assert_eq!(server.output(&["pull", "--once"]).status.code(), Some(0));
}
