//! Slow, silent and too many peers.

mod support;

use std::time::Instant;

use support::{Node, PATIENCE};

/// `hex(md5(md5("geheim")))`, the inner one raw.
const GEHEIM: &str = "af013b2c373b08671cbf348748e96b84";

#[test]
fn connections_over_the_limit_are_closed_and_an_ended_one_makes_room() {
    for (key, count) in [("max_connections", 3), ("max_connections_per_address", 2)] {
        let node = Node::start(&format!("{key} = {count}\n"));
        let mut held: Vec<_> = (0..count).map(|_| node.connect()).collect();
        for client in &mut held {
            assert_eq!(client.ask("RECV <a.conf>"), "RECV ERR (file does not exist)");
        }
        assert!(node.connect().is_closed());
        node.logs(&format!("limit=\"{key}\""));
        let mut first = held.remove(0);
        first.say("QUIT\n");
        assert!(first.is_closed());
        drop(first);
        // The place is free when the node has seen the end too, a moment later.
        let start = Instant::now();
        let served = std::iter::from_fn(|| (start.elapsed() < PATIENCE).then(|| node.connect()))
            .any(|mut next| next.say("RECV <a.conf>\n").line() == "RECV ERR (file does not exist)");
        assert!(served, "{key}");
    }
}

#[test]
fn a_peer_that_says_nothing_is_closed() {
    let node = Node::start("[limits]\nhandshake = \"100ms\"\n");
    assert!(node.connect().is_closed());
    node.logs("no handshake within its limit");
}

#[test]
fn a_session_without_a_command_is_closed() {
    let node = Node::start("[limits]\nidle = \"300ms\"\n");
    let mut client = node.connect();
    assert_eq!(client.send("a.5.data", b"x"), "SEND OK");
    assert!(client.is_closed());
    node.logs("within the idle limit");
}

#[test]
fn a_body_that_hardly_moves_ends_the_connection_and_leaves_nothing() {
    let node = Node::start("[limits]\nbody_rate = 1000\nbody_window = \"300ms\"\n");
    let mut client = node.connect();
    assert_eq!(client.ask("SEND <a.5.data> SIZE 100000"), "SEND OK");
    client.say("a few bytes");
    assert!(client.is_closed());
    node.logs("slower than the minimum rate");
    assert!(node.root.ready().is_empty());
}

#[test]
fn an_endless_line_is_cut_off() {
    for (settings, most) in [("", 1024), ("[limits]\nline = 300\n", 300)] {
        let node = Node::start(settings);
        let mut client = node.connect();
        let name = "x".repeat(most - "RECV <>\n".len());
        assert_eq!(client.ask(format!("RECV <{name}>")), "RECV ERR (file has an invalid file name)");
        client.say(vec![b'x'; most]);
        assert!(client.is_closed());
        node.logs("a line is longer than the limit");
    }
}

#[test]
fn the_password_comes_first() {
    let node = Node::start("password = \"geheim\"\n");
    let mut client = node.connect();
    assert_eq!(client.ask(format!("PASS {GEHEIM}")), "PASS OK");
    assert_eq!(client.send("a.5.data", b"x"), "SEND OK");
    assert!(node.connect().say(format!("PASS {}\n", "0".repeat(32))).is_closed());
    node.logs("wrong password");
    assert!(node.connect().say("SEND <a.5.data> SIZE 1\n").is_closed());
    node.logs("gave no password");
}
