//! What a puller gets, when a package goes, and who is no puller.

mod support;

use support::Node;
use tidegate_proto::limits::{LISTED_NAME_MAX, NAME_MAX};

const INSECURE: &str = "insecure = true\n";

fn node_with(packages: &[&str]) -> Node {
    let node = Node::start(INSECURE);
    for name in packages {
        assert_eq!(node.connect().send(name, name.as_bytes()), "SEND OK");
    }
    node
}

#[test]
fn the_listing_is_in_order_of_arrival() {
    let node = node_with(&["z.5.data", "a.5.data", "m.5.data"]);
    let mut puller = node.connect();
    assert_eq!(puller.get("LS <.>"), Ok(b"z.5.data\na.5.data\nm.5.data".to_vec()));
    assert_eq!(puller.get("LS <.data>"), Ok(b"z.5.data\na.5.data\nm.5.data".to_vec()));
    assert_eq!(puller.get("LS <*>"), Err("LS ERR".into()));
    assert_eq!(puller.get("LS <a/b>"), Err("LS ERR".into()));
    node.logs("`insecure = true`");
}

#[test]
fn a_received_package_stays_and_a_moved_one_goes_with_the_next_command() {
    let node = node_with(&["a.5.data", "b.5.data"]);
    let mut puller = node.connect();
    assert_eq!(puller.get("RECV <a.5.data>"), Ok(b"a.5.data".to_vec()));
    assert_eq!(puller.get("MV <a.5.data>"), Ok(b"a.5.data".to_vec()));
    assert_eq!(node.root.ready().len(), 2, "nobody has proved yet that the body was read");
    assert_eq!(puller.get("LS <.>"), Ok(b"b.5.data".to_vec()));
    assert_eq!(node.root.ready().len(), 1);
    assert_eq!(puller.get("MV <b.5.data>"), Ok(b"b.5.data".to_vec()));
    puller.say("QUIT\n");
    assert!(puller.is_closed());
    assert!(node.root.ready().is_empty());
    assert_eq!(node.connect().get("MV <a.5.data>"), Err("MV ERR".into()));
}

#[test]
fn a_moved_package_stays_when_the_connection_ends_without_a_next_command() {
    let node = node_with(&["a.5.data"]);
    for cut in 0..3 {
        let mut puller = node.connect();
        assert_eq!(puller.ask("MV <a.5.data>"), "MV SIZE 8");
        match cut {
            0 => {}
            1 => drop(puller.say("MV OK\n")),
            _ => {
                puller.say("MV OK\n");
                assert_eq!(puller.body(8), b"a.5.data");
            }
        }
        puller.hang_up();
        puller.is_closed();
        assert_eq!(node.root.ready().len(), 1, "cut {cut}");
    }
    for words in ["without taking the body", "without a next command"] {
        let line = node.logs(words);
        assert!(line.contains("a moved package stays") && line.contains("name=a.5.data"), "{line}");
    }
    assert_eq!(node.connect().get("MV <a.5.data>"), Ok(b"a.5.data".to_vec()), "no claim is left behind");
}

#[test]
fn a_package_is_moved_by_one_puller_at_a_time() {
    let node = node_with(&["a.5.data"]);
    let (mut first, mut second) = (node.connect(), node.connect());
    assert_eq!(first.ask("MV <a.5.data>"), "MV SIZE 8");
    assert_eq!(second.ask("MV <a.5.data>"), "MV ERR");
    node.logs("another connection is moving it");
    first.say("MV NO\n");
    assert_eq!(first.get("LS <.>"), Ok(b"a.5.data".to_vec()));
    assert_eq!(second.get("MV <a.5.data>"), Ok(b"a.5.data".to_vec()));
}

#[test]
fn a_repeat_is_recognised_after_its_first_copy_was_pulled() {
    let node = node_with(&["web01.1700000000.data", "host.0.data"]);
    let mut puller = node.connect();
    for name in ["web01.1700000000.data", "host.0.data"] {
        assert_eq!(puller.get(&format!("MV <{name}>")), Ok(name.as_bytes().to_vec()));
    }
    assert_eq!(puller.get("LS <.>"), Ok(Vec::new()));
    assert_eq!(node.connect().send("web01.1700000000.data", b"web01.1700000000.data"), "SEND OK");
    assert!(node.root.ready().is_empty());
    let node = node.kill_and_restart();
    assert_eq!(node.connect().send("web01.1700000000.data", b"web01.1700000000.data"), "SEND OK");
    assert!(node.root.ready().is_empty(), "also after a restart");
}

#[test]
fn a_moved_package_stays_when_its_reader_falls_silent() {
    let node = Node::start("insecure = true\n[limits]\nidle = \"300ms\"\n");
    let mut puller = node.connect();
    assert_eq!(puller.send("a.5.data", b"x"), "SEND OK");
    assert_eq!(puller.get("MV <a.5.data>"), Ok(b"x".to_vec()));
    assert!(puller.is_closed());
    let line = node.logs("within the idle limit");
    assert!(line.contains("a moved package stays") && line.contains("name=a.5.data"), "{line}");
    assert_eq!(node.root.ready().len(), 1);
}

#[test]
fn packages_stay_packages_when_the_filters_change() {
    let node = Node::start("insecure = true\nfilters = ''\n");
    assert_eq!(node.connect().send("a.conf", b"taken as data"), "SEND OK");
    let root = node.kill();
    root.configure(INSECURE);
    let node = root.start();
    std::fs::write(node.root.path("conf/a.conf"), "shared").expect("writes");
    let mut puller = node.connect();
    assert_eq!(puller.get("LS <.>"), Ok(b"a.conf".to_vec()));
    assert_eq!(puller.get("RECV <a.conf>"), Ok(b"taken as data".to_vec()));
    assert_eq!(puller.get("MV <a.conf>"), Ok(b"taken as data".to_vec()));
    assert_eq!(puller.get("LS <.>"), Ok(Vec::new()));
    assert_eq!(puller.get("RECV <a.conf>"), Ok(b"shared".to_vec()));
}

#[test]
fn the_longest_names_are_stored_listed_and_pulled() {
    let node = Node::start(INSECURE);
    let name = format!("{}.1.data", "x".repeat(NAME_MAX - ".1.data".len()));
    let mut client = node.connect();
    assert_eq!(client.send(&name, b"one"), "SEND OK");
    assert_eq!(client.send(&name, b"two"), "SEND OK", "other bytes, so under a longer name");
    let listing = String::from_utf8(client.get("LS <.>").expect("a listing")).expect("text");
    let longest = listing.lines().last().expect("two names");
    assert_eq!((listing.lines().count(), longest.len()), (2, LISTED_NAME_MAX));
    assert_eq!(client.get(&format!("MV <{longest}>")), Ok(b"two".to_vec()));
    assert_eq!(client.get(&format!("MV <{name}>")), Ok(b"one".to_vec()));
}

#[test]
fn a_plain_connection_is_no_puller() {
    let node = Node::start("");
    let mut client = node.connect();
    assert_eq!(client.send("a.5.data", b"x"), "SEND OK");
    assert_eq!(client.ask("LS <.>"), "LS ERR");
    assert_eq!(client.ask("LS <x.conf>"), "LS ERR");
    assert_eq!(client.ask("MV <a.5.data>"), "MV ERR");
    assert_eq!(client.ask("RECV <a.5.data>"), "RECV ERR (file does not exist)");
    assert_eq!(client.ask("ZRECV <a.5.data>"), "ZRECV ERR (file does not exist)");
    node.logs("the connection is plain");
    assert_eq!(node.root.ready().len(), 1);
}
