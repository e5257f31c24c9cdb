//! Without the server role nobody lists, moves or receives packages, and the node's log says which check failed.

use tidegate_tests::certificates::{Authority, Pair};
use tidegate_tests::node::Node;
use tidegate_tests::sender::{Sender, send_until_stored};

const NAME: &str = "web01.1700000000.data";
const BODY: &[u8] = b"nobody's business";

/// Over plain TCP, or TLS with or without a certificate.
enum Way<'a> {
    Plain,
    Tls(Option<&'a Pair>),
}

fn connect(node: &Node, way: &Way<'_>) -> std::io::Result<Sender> {
    match way {
        Way::Plain => Sender::connect(node.address()),
        Way::Tls(certificate) => Sender::connect_tls(node.address(), *certificate, &[b"tentacle"]),
    }
}

/// What a puller tries, each on a connection of its own; true where it got something.
fn gets_anything(node: &Node, way: &Way<'_>) -> bool {
    let attempts = [("LS", "."), ("LS", ".data"), ("MV", NAME), ("RECV", NAME), ("ZRECV", NAME)];
    let got = attempts.map(|(verb, name)| {
        let fetched = connect(node, way).and_then(|mut sender| sender.fetch(verb, name));
        fetched.is_ok_and(|answer| answer.is_ok())
    });
    got.contains(&true)
}

/// Whoever comes this way gets nothing, loses nothing, and the log says `words`.
fn refused(way: &Way<'_>, authority: &Authority, words: &[&str]) {
    let mut node = Node::start(authority, "");
    send_until_stored(node.address(), NAME, BODY);
    assert!(!gets_anything(&node, way), "something was given out; expected {words:?}");
    node.process().wait_for_line(words);
    let packages = node.packages();
    assert_eq!(packages.len(), 1);
    assert_eq!(std::fs::read(&packages[0]).expect("a package"), BODY);
}

#[test]
fn a_server_certificate_lists_receives_and_moves() {
    let authority = Authority::new();
    let node = Node::start(&authority, "");
    send_until_stored(node.address(), NAME, BODY);
    let central = authority.server("central-1");
    let way = Way::Tls(Some(&central));
    let mut sender = connect(&node, &way).expect("the certificate is good");
    let listing = sender.fetch("LS", ".").expect("an answer").expect("a listing");
    assert_eq!(String::from_utf8_lossy(&listing).trim_end(), NAME);
    assert_eq!(sender.fetch("RECV", NAME).expect("an answer").expect("bytes"), BODY);
    assert_eq!(sender.fetch("MV", NAME).expect("an answer").expect("bytes"), BODY);
    assert_eq!(node.packages().len(), 1, "kept until the next command proves that the bytes were read");
    sender.say("QUIT\n").expect("the session is open");
    assert_eq!(sender.rest().expect("an end"), b"");
    tidegate_tests::until::holds("the package is deleted", || node.packages().is_empty());
}

#[test]
fn a_moved_package_stays_when_the_puller_vanishes() {
    let authority = Authority::new();
    let node = Node::start(&authority, "");
    send_until_stored(node.address(), NAME, BODY);
    let central = authority.server("central-1");
    let way = Way::Tls(Some(&central));
    let mut sender = connect(&node, &way).expect("the certificate is good");
    assert_eq!(sender.fetch("MV", NAME).expect("an answer").expect("bytes"), BODY);
    drop(sender);
    // The next puller gets it again: that also waits until the first one's claim is given up.
    let again = tidegate_tests::until::some("the package can be had again", || {
        let mut sender = connect(&node, &way).ok()?;
        sender.fetch("MV", NAME).ok()?.ok()
    });
    assert_eq!(again, BODY);
}

#[test]
fn a_plain_connection_is_refused() {
    refused(&Way::Plain, &Authority::new(), &["the connection is plain", "a puller comes over TLS"]);
}

#[test]
fn a_connection_without_a_certificate_is_refused() {
    refused(&Way::Tls(None), &Authority::new(), &["no client certificate"]);
}

#[test]
fn other_roles_are_refused() {
    let authority = Authority::new();
    for (pair, identity) in [
        (authority.agent("web01"), "tidegate:agent/web01"),
        (authority.node("plant-8", &[tidegate_tests::address::unused()]), "tidegate:node/plant-8"),
    ] {
        refused(&Way::Tls(Some(&pair)), &authority, &[identity]);
    }
}

#[test]
fn a_certificate_without_a_role_is_refused() {
    let authority = Authority::new();
    let pair = authority.client("no-role", None, false);
    refused(&Way::Tls(Some(&pair)), &authority, &["no Tidegate role"]);
}

#[test]
fn a_server_role_given_by_another_authority_is_refused() {
    let other = Authority::new();
    let stranger = other.server("central-1");
    refused(&Way::Tls(Some(&stranger)), &Authority::new(), &["certificate", "authority"]);
}

#[test]
fn a_server_role_that_has_expired_is_refused() {
    let authority = Authority::new();
    let expired = authority.client("expired", Some("tidegate:server/central-1"), true);
    refused(&Way::Tls(Some(&expired)), &authority, &["certificate", "expired"]);
}

#[test]
fn the_insecure_option_gives_stock_rights_and_warns() {
    let mut node = Node::start_plain("insecure = true");
    node.process().wait_for_line(&["WARN", "insecure"]);
    send_until_stored(node.address(), NAME, BODY);
    assert!(gets_anything(&node, &Way::Plain));
}
