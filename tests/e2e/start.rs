//! A start with a backlog: everything is there, in order, and a package costs little memory, also while several pullers
//! list it at once.

use tidegate_tests::backlog;
use tidegate_tests::node::Node;
use tidegate_tests::sender::Sender;

const PACKAGES: usize = 50_000;
const PULLERS: usize = 3;

/// With its index entry, its share of a table at its emptiest, and what the start needs besides.
const BYTES_PER_PACKAGE: u64 = 200;
/// The same with three listings, each a pointer a package, and the freed memory that the allocator keeps.
const BYTES_PER_LISTED_PACKAGE: u64 = 300;

#[test]
fn a_backlog_is_listed_whole_and_costs_little_memory() {
    let mut node = Node::start_plain("insecure = true");
    drop(hold_listing(&node));
    let empty = node.process().peak_memory_kib();
    node.kill();
    backlog::lay(&node.storage(), PACKAGES, 100);
    node.restart();
    let mut pullers = vec![hold_listing(&node)];
    let per_package = |node: &mut Node| (node.process().peak_memory_kib() - empty) * 1024 / PACKAGES as u64;
    let started = per_package(&mut node);
    assert!(started <= BYTES_PER_PACKAGE, "a package costs {started} bytes");
    pullers.extend((1..PULLERS).map(|_| hold_listing(&node)));
    let expected = (0..PACKAGES).map(backlog::name).collect::<Vec<_>>().join("\n");
    for (puller, bytes) in &mut pullers {
        puller.say("LS OK\n").expect("the node listens");
        assert!(puller.body(*bytes).expect("all of it comes") == expected.as_bytes(), "all names, in order");
    }
    let listed = per_package(&mut node);
    assert!(listed <= BYTES_PER_LISTED_PACKAGE, "a package costs {listed} bytes with {PULLERS} listings");
}

/// A puller that asked for a listing, which the node holds until it is taken, and its length.
fn hold_listing(node: &Node) -> (Sender, usize) {
    let mut puller = Sender::connect(node.address()).expect("the node listens");
    let reply = puller.ask("LS <.>").expect("the node answers");
    let bytes = reply.strip_prefix("LS SIZE ").and_then(|bytes| bytes.parse().ok());
    (puller, bytes.unwrap_or_else(|| panic!("a listing is refused: {reply}")))
}
