//! Every byte of a send: plain and over TLS, as it is and packed.

use std::io::{Cursor, Write as _};

use tidegate_tests::central::{Central, Mode, Site};
use tidegate_tests::certificates::Authority;
use tidegate_tests::cutter::Cutter;
use tidegate_tests::node::Node;
use tidegate_tests::oracle::Oracle;
use tidegate_tests::seed::Seed;
use tidegate_tests::until;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::{Offer, Session, sweep};

/// Agents beside each other.
const LANES: usize = 4;

/// The central takes what there is while the agents repeat: a repeat comes before its first copy was pulled, and after.
const SETTINGS: &str = "sync_interval = \"20ms\"";

#[test]
fn a_plain_send_that_is_cut_at_any_byte_loses_and_doubles_nothing() {
    all_bytes(false, "SEND", Mode::Tentacle);
}

#[test]
fn a_packed_send_that_is_cut_at_any_byte_loses_and_doubles_nothing() {
    all_bytes(false, "ZSEND", Mode::Standing);
}

#[test]
fn a_send_over_tls_that_is_cut_at_any_byte_loses_and_doubles_nothing() {
    all_bytes(true, "SEND", Mode::Scheduled);
}

#[test]
fn a_packed_send_over_tls_that_is_cut_at_any_byte_loses_and_doubles_nothing() {
    all_bytes(true, "ZSEND", Mode::Tentacle);
}

fn all_bytes(tls: bool, verb: &str, mode: Mode) {
    let seed = Seed::from_environment();
    let authority = Authority::new();
    let node = Node::start(&authority, "");
    let mut central = Central::new(&authority, &[Site::node("site", node.address()).over(mode)], SETTINGS);
    central.run();
    let oracle = Oracle::default();
    let file = |run: u64| {
        let (name, bytes) = (format!("r{run:05}.1700000000.data"), seed.run(run).bytes(40));
        let body = if verb == "ZSEND" { packed(&name, &bytes) } else { bytes.clone() };
        (name, bytes, body)
    };
    let line = Cutter::new(node.address());
    let (name, bytes, body) = file(99_999);
    let told = line.next(None);
    Offer { tls, verb, name: &name, body: &body }.until_stored(&line);
    let session = Session::new(told.recv().expect("it was let pass").bytes);
    oracle.expect(&name, &bytes);

    let run = |line: &mut Cutter, run, cut| {
        let (name, bytes, body) = file(run);
        let offer = Offer { tls, verb, name: &name, body: &body };
        oracle.offer(&name, &bytes);
        let told = line.next(Some(cut));
        offer.until_stored(line);
        oracle.acknowledge(&bytes);
        told.recv().expect("the first attempt took the plan").cut
    };
    let lines = (0..LANES).map(|_| Cutter::new(node.address())).collect();
    sweep(&session, lines, run, drop);

    until::holds("the node is empty", || node.packages().is_empty());
    central.process().terminate();
    let verdict = oracle.judge(&central.pipeline.consume());
    assert!(verdict.is_clean(), "{verb}, TLS {tls}, {mode:?}: {verdict}");
    let left = node.files();
    assert!(left.is_empty(), "left on the node: {left:?}");
}

fn packed(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    writer.start_file(name, SimpleFileOptions::default()).expect("an archive in memory");
    writer.write_all(bytes).expect("an archive in memory");
    writer.finish().expect("an archive in memory").into_inner()
}
