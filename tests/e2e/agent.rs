//! The real `pandora_agent` 4.1 with remote configuration: the main job, on real input. A tap between agent and node keeps
//! what the agent really sent.

use std::path::Path;
use std::sync::Arc;

use tidegate_tests::agent::{Agent, Conversations, md5_hex, module};
use tidegate_tests::central::{Central, Mode, Site};
use tidegate_tests::certificates::Authority;
use tidegate_tests::node::Node;
use tidegate_tests::oracle::Oracle;
use tidegate_tests::tap::{Tap, Verdict};
use tidegate_tests::until;

/// How many intervals in a row nothing but data may be uploaded.
const QUIET_INTERVALS: usize = 3;

#[test]
fn an_unchanged_agent_reaches_the_pipeline_and_is_configured_from_the_node() {
    let authority = Authority::new();
    let node = Node::start(&authority, "");
    let mut central = Central::new(
        &authority,
        &[Site::node("plant-7", node.address()).over(Mode::Auto)],
        "sync_interval = \"500ms\"",
    );
    central.run();
    let said = Arc::new(Conversations::default());
    let heard = Arc::clone(&said);
    let tap = Tap::new(node.address(), move |chunk| {
        heard.note(chunk);
        Verdict::Pass
    });
    let mut agent = Agent::start(tap.address(), "");

    // The first contact: nothing is known of the agent, so it uploads its configuration and that one's digest.
    until::holds("the agent sends data", || said.uploads_ending(".data") > 0 || agent.process.has_ended());
    let own = agent.configuration();
    let shared = |folder: &str| {
        let entries = std::fs::read_dir(node.storage().join(folder)).expect("the node keeps shared files");
        let paths: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
        assert_eq!(paths.len(), 1, "one file in {folder}: {paths:?}");
        paths.into_iter().next().expect("one")
    };
    let (conf, md5) = (shared("conf"), shared("md5"));
    assert_eq!(std::fs::read_to_string(&conf).expect("readable"), own);
    assert_eq!(std::fs::read_to_string(&md5).expect("readable"), md5_hex(own.as_bytes()));

    // Nothing is uploaded again while nothing changes.
    let asked = said.fetches_ending(".md5");
    until::holds("more intervals pass", || said.fetches_ending(".md5") >= asked + QUIET_INTERVALS);
    assert_eq!((said.uploads_ending(".conf"), said.uploads_ending(".md5")), (1, 1), "uploaded once");
    assert_eq!(said.fetches_ending(".conf"), 0, "nothing to fetch yet");

    // An operator changes it on the node: the agent fetches and reloads it.
    let changed = own + &module("from_the_node");
    replace(&conf, changed.as_bytes());
    replace(&md5, md5_hex(changed.as_bytes()).as_bytes());
    until::holds("the agent takes the changed configuration", || agent.configuration() == changed);
    until::holds("the agent has reloaded it", || {
        said.uploads().iter().any(|(_, bytes)| String::from_utf8_lossy(bytes).contains("from_the_node"))
    });
    let asked = said.fetches_ending(".md5");
    until::holds("more intervals pass", || said.fetches_ending(".md5") >= asked + QUIET_INTERVALS);
    assert_eq!((said.uploads_ending(".conf"), said.uploads_ending(".md5")), (1, 1), "still uploaded once");
    assert_eq!(said.fetches_ending(".conf"), 1, "fetched once");

    // Every data file arrives byte for byte; the shared files stay, and none is delivered.
    agent.process.kill();
    let oracle = Oracle::default();
    for (name, bytes) in said.uploads().iter().filter(|(name, _)| name.ends_with(".data")) {
        oracle.expect(name, bytes);
    }
    until::holds("all data is in the pipeline", || oracle.is_complete(&central.pipeline.consume()));
    until::holds("the node is empty", || node.packages().is_empty());
    // The kill may have come between a body and its `OK`: such a file may arrive, or not.
    let arrivals = central.pipeline.consume();
    for (name, bytes) in said.whole_bodies() {
        oracle.offer(&name, &bytes);
    }
    let verdict = oracle.judge(&arrivals);
    assert!(verdict.is_clean(), "{verdict}");
    assert_eq!(std::fs::read_to_string(&conf).expect("still there"), changed);
    assert!(md5.is_file());
}

/// As an operator's tool does: written beside, then renamed.
fn replace(path: &Path, bytes: &[u8]) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, bytes).expect("the storage is ours");
    std::fs::rename(beside, path).expect("the storage is ours");
}
