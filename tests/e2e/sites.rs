//! Two sites on one server: whatever one of them does, the other's files are not late.
//!
//! The bad site's timeouts are far longer than this test's patience. If the good site waited for the bad one, its files
//! would not come in time: no moment has to be measured.

use std::io::{BufRead as _, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tidegate_tests::central::{Central, Site};
use tidegate_tests::certificates::Authority;
use tidegate_tests::node::Node;
use tidegate_tests::oracle::Oracle;
use tidegate_tests::scenarios::each;
use tidegate_tests::sender::send_until_stored;
use tidegate_tests::stock::Stock;
use tidegate_tests::tap::{Tap, Verdict};
use tidegate_tests::{address, until};

/// Longer than [`until::PATIENCE`]: nobody may wait for the bad site.
const SETTINGS: &str = "sync_interval = \"500ms\"\nsync_timeout = \"10m\"";

/// How many files pass the good site while the bad one is busy with being bad.
const FILES: usize = 5;

/// Runs a good node beside a bad site; `reached` says when the bad one has been met.
fn good_site_is_not_late(what: &str, bad: Site, reached: impl Fn(&mut Central) -> bool) {
    good_site_of(&Authority::new(), what, bad, reached);
}

/// The same where the bad site needs the server's authority too.
fn good_site_of(authority: &Authority, what: &str, bad: Site, reached: impl Fn(&mut Central) -> bool) {
    let node = Node::start(authority, "");
    let sites = [bad, Site::node("good", node.address())];
    let mut central = Central::new(authority, &sites, SETTINGS);
    central.run();
    until::holds(&format!("{what}: the bad site is met"), || reached(&mut central));
    let oracle = Oracle::default();
    for number in 0..FILES {
        let (name, bytes) = (format!("good.{}.data", 1_700_000_000 + number), format!("file {number}"));
        oracle.expect(&name, bytes.as_bytes());
        send_until_stored(node.address(), &name, bytes.as_bytes());
        until::holds(&format!("{what}: the good site's file arrives"), || {
            oracle.is_complete(&central.pipeline.consume())
        });
    }
    let verdict = oracle.judge(&central.pipeline.consume());
    assert!(verdict.is_clean(), "{what}: {verdict}");
}

/// Whether the server's log tells that the bad site cannot be pulled.
fn says_unreachable(central: &mut Central) -> bool {
    let told = |line: &String| line.contains("unreachable") && line.contains("bad");
    central.process().lines().iter().any(told)
}

/// A listener that treats every connection so.
fn listener(
    treat: impl Fn(std::net::TcpStream) + Send + Sync + Copy + 'static,
) -> (SocketAddr, impl Fn(&mut Central) -> bool) {
    let address = address::unused_socket();
    let listener = TcpListener::bind(address).expect("the address is ours");
    let met = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&met);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            seen.store(true, Ordering::SeqCst);
            std::thread::spawn(move || treat(stream));
        }
    });
    (address, move |_| met.load(Ordering::SeqCst))
}

#[test]
fn beside_a_site_that_accepts_and_says_nothing() {
    for site in [Site::plain as fn(&str, SocketAddr) -> Site, Site::node] {
        let (address, met) = listener(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
        good_site_is_not_late("silent", site("bad", address), met);
    }
}

#[test]
fn beside_a_site_that_hangs_up() {
    for site in [Site::plain as fn(&str, SocketAddr) -> Site, Site::node] {
        let (address, met) = listener(drop);
        good_site_is_not_late("hanging up", site("bad", address), met);
    }
}

#[test]
fn beside_a_site_where_nobody_listens() {
    good_site_is_not_late("absent", Site::plain("bad", address::unused_socket()), says_unreachable);
}

#[test]
fn beside_a_site_that_talks_without_end() {
    let (address, met) = listener(|mut stream| {
        let noise = [b'x'; 4096];
        while stream.write_all(&noise).is_ok() {}
    });
    good_site_is_not_late("talking", Site::plain("bad", address), met);
}

#[test]
fn beside_a_site_that_refuses() {
    let authority = Authority::new();
    let stock = Stock::start::<&str>(&[]);
    stock.put("bad.1700000000.data", b"not to be had");
    let asked = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&asked);
    let tap = Tap::new(stock.address(), move |chunk| {
        seen.fetch_or(chunk.asks("LS <"), Ordering::SeqCst);
        Verdict::Pass
    });
    good_site_is_not_late("no -I", Site::plain("bad", tap.address()), |_| asked.load(Ordering::SeqCst));

    // A node of the same authority that wants a password.
    let mut node = Node::start(&authority, "password = \"secret\"");
    good_site_of(&authority, "password", Site::node("bad", node.address()), says_unreachable);
    node.process().wait_for_line(&["the peer gave no password"]);
}

#[test]
fn a_rogue_site_writes_nothing_but_good_names_into_the_pipeline() {
    let names: [&[u8]; 10] = [
        b"../evil.1.data",
        b"/tmp/evil.2.data",
        b"a/evil.3.data",
        b"..",
        b"",
        b"evil\x1b[2J.4.data",
        b"evil.conf",
        b"evil.5.data ",
        &[b'n'; 300],
        b"good.1700000000.data",
    ];
    let (address, _) = listener(move |stream| serve_rogue(stream, &names.join(&b'\n')));
    let authority = Authority::new();
    let mut central = Central::new(&authority, &[Site::plain("rogue", address)], SETTINGS);
    central.run();
    until::holds("the good name arrives", || central.pipeline.holds("good.1700000000.data"));
    central.process().terminate();
    let there: Vec<String> = central.pipeline.consume().into_iter().map(|arrival| arrival.name).collect();
    assert_eq!(there, ["good.1700000000.data"]);
    let beside = central.pipeline.directory().parent().expect("a temporary directory has a parent");
    assert!(!beside.join("evil.1.data").exists() && !beside.join("evil.2.data").exists());
}

/// Lists what it likes, and has a body for every name.
fn serve_rogue(stream: std::net::TcpStream, listing: &[u8]) {
    let mut lines = std::io::BufReader::new(stream.try_clone().expect("a socket"));
    let mut stream = stream;
    let mut line = String::new();
    while lines.read_line(&mut line).is_ok_and(|read| read > 0) {
        let verb = line.split(' ').next().unwrap_or_default();
        if line == "QUIT\n" {
            return;
        }
        let body = if verb == "LS" { listing } else { b"rogue" };
        let answer = match line.trim_end().strip_suffix(" OK") {
            Some(_) => body.to_vec(),
            None => format!("{verb} SIZE {}\n", body.len()).into_bytes(),
        };
        if stream.write_all(&answer).is_err() {
            return;
        }
        line.clear();
    }
}

#[test]
fn beside_a_site_that_lies_about_sizes() {
    // What the stock server announces, and what the wire makes of it.
    let lies = [
        ("LS SIZE", "LS SIZE 99999999999999999999\n"),
        ("LS SIZE", "LS SIZE 4000000000\n"),
        ("LS SIZE", "LS SIZE -1\n"),
        ("LS SIZE", "LS SIZE 3\n"),
        // Within what a number can hold, beyond what a listing may have.
        ("LS SIZE", "LS SIZE 18446744073709551615\n"),
        ("RECV SIZE", "RECV SIZE 99999999999999999999\n"),
        ("RECV SIZE", "RECV SIZE 4000000000\n"),
        ("RECV SIZE", "RECV SIZE 0\n"),
        ("RECV SIZE", "RECV SIZE 100\n"),
        ("RECV SIZE", "RECV OK\n"),
    ];
    each(&lies, |&(start, lie)| {
        let stock = Stock::start(&["-I", "-r", "60"]);
        stock.put("bad.1700000000.data", b"never whole");
        let lied = Arc::new(AtomicBool::new(false));
        let noted = Arc::clone(&lied);
        let tap = Tap::new(stock.address(), move |chunk| {
            if chunk.answers(start) {
                *chunk.bytes = lie.as_bytes().to_vec();
                noted.store(true, Ordering::SeqCst);
            }
            Verdict::Pass
        });
        let site = Site::plain("bad", tap.address());
        good_site_is_not_late(&format!("{lie:?} for {start}"), site, |_| lied.load(Ordering::SeqCst));
        assert_eq!(stock.files().len(), 1, "{lie:?}: nothing is deleted that did not come whole");
    });
}
