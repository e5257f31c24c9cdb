//! Hostile pullers: a real node is dialled by pullers that hold the rights and misbehave, and by some that do not hold
//! them, each told by name in `cases.rs`.
//!
//! After each of them the node lives, an agent's next file is stored, and every package that was not sent to somebody
//! who acknowledged it is still there. In the end a real server, with the certificate that the pullers misused, gets
//! everything, once; and the node's memory has a bound that has nothing to do with what was asked of it.

mod cases;
mod puller;

use std::cell::Cell;

use tidegate_tests::central::{Central, Mode, Site};
use tidegate_tests::certificates::{Authority, Pair};
use tidegate_tests::node::Node;
use tidegate_tests::oracle::Oracle;
use tidegate_tests::seed::Seed;
use tidegate_tests::sender::send_until_stored;
use tidegate_tests::{address, until};

use cases::Ending;
use puller::Misuser;

/// The most memory that a node may ever have, after all this.
const MEMORY_KIB: u64 = 128 * 1024;

/// What waits at the node all the time: some small packages, and some that no credit covers at once.
const SMALL: u64 = 40;
const LARGE: u64 = 4;
const LARGE_BYTES: usize = 1_900_000;

const NODE: &str = "[limits]\nhandshake = \"2s\"\nidle = \"5s\"";

/// A node with packages, and what is known of them.
struct Scene {
    node: Node,
    oracle: Oracle,
    sent: Cell<u64>,
    seed: Seed,
}

impl Scene {
    fn store(&mut self, size: usize) {
        let number = self.sent.get();
        self.sent.set(number + 1);
        let (name, bytes) =
            (format!("web{number}.{}.data", 1_700_000_000 + number), self.seed.bytes(16 + size));
        self.oracle.expect(&name, &bytes);
        send_until_stored(self.node.address(), &name, &bytes);
    }
}

#[test]
fn whatever_a_puller_does_nothing_is_deleted_that_was_not_delivered_and_agents_go_on() {
    let authority = Authority::new();
    let node = Node::start(&authority, NODE);
    let site = Site::node("site", node.address()).over(Mode::Scheduled);
    let central = Central::new(&authority, &[site], "");
    let mut scene =
        Scene { node, oracle: Oracle::default(), sent: Cell::new(0), seed: Seed::from_environment() };
    (0..SMALL).for_each(|_| scene.store(1_000));
    (0..LARGE).for_each(|_| scene.store(LARGE_BYTES));

    let other = Authority::new();
    let strangers: Vec<(&str, Pair)> = vec![
        ("an agent's certificate", authority.agent("web01")),
        ("another node's certificate", authority.node("plant-8", &[address::unused()])),
        ("a certificate without a role", authority.client("no-role", None, false)),
        ("an expired server's certificate", authority.client("old", Some("tidegate:server/old"), true)),
        ("another authority's server", other.server("central-1")),
    ];
    for (who, pair) in &strangers {
        let mut misuser = Misuser::new(scene.node.address(), pair);
        let refused =
            misuser.connect().and_then(|()| misuser.greet()).and_then(|()| misuser.gets_something());
        assert!(!refused.unwrap_or(false), "{who} got something");
        goes_on(&mut scene, who);
    }

    let chosen = std::env::var("TIDEGATE_CASE").ok();
    let mut all = cases::all();
    all.retain(|case| chosen.as_ref().is_none_or(|chosen| case.what.contains(chosen.as_str())));
    let mut wrong = Vec::new();
    for case in &all {
        let began = std::time::Instant::now();
        let mut misuser = Misuser::new(scene.node.address(), &central.certificate);
        let played = misuser.connect().and_then(|()| (case.act)(&mut misuser));
        let verdict = match (case.ending, played) {
            (Ending::Ends, _) => misuser.is_ended(),
            (Ending::Lives, Ok(())) => misuser.ponged(),
            (Ending::Lives, Err(error)) => Err(error),
            (Ending::Any, _) => Ok(()),
        };
        // Taken by somebody who had the right to: it is his.
        misuser.acknowledged().iter().for_each(|bytes| scene.oracle.forgive(bytes));
        let taken = misuser.acknowledged().len();
        drop(misuser);
        if let Err(error) = verdict {
            wrong.push(format!("{}: {error}", case.what));
        }
        goes_on(&mut scene, &case.what);
        (0..taken).for_each(|_| scene.store(1_000));
        eprintln!("{:6} ms  {}", began.elapsed().as_millis(), case.what);
    }

    let peak = scene.node.process().peak_memory_kib();
    eprintln!("{} cases; the node had {peak} KiB of memory at most", all.len());
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), all.len(), wrong.join("\n"));
    assert!(chosen.is_some() || all.len() >= 60, "only {} cases", all.len());
    assert!(peak < MEMORY_KIB, "the node had {peak} KiB of memory");
    let mut pull = central.pull(&[]);
    assert!(pull.join().success(), "{}", pull.log());
    let verdict = scene.oracle.judge(&central.pipeline.consume());
    assert!(verdict.is_clean(), "{verdict}");
    until::holds("the node is empty", || scene.node.packages().is_empty());
}

/// The node lives, an agent's file is stored, and nothing is gone.
fn goes_on(scene: &mut Scene, what: &str) {
    assert!(!scene.node.process().has_ended(), "{what}: the node ended:\n{}", scene.node.process().log());
    scene.store(100);
    let there: Vec<Vec<u8>> =
        scene.node.packages().iter().filter_map(|package| std::fs::read(package).ok()).collect();
    let missing = scene.oracle.missing(there.iter().map(Vec::as_slice));
    assert!(missing.is_empty(), "{what}: gone from the node: {missing:?}");
}
