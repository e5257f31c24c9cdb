//! What happens when there is no room: whose files are refused, whose go, and what the loss records say.

mod support;

use std::time::{Duration, SystemTime};

use support::{Node, Root, archive, until};
use tidegate_spool::{Loss, LossReason, Spool};

const FULL: &str = "SEND ERR (storage full)";

/// Waits for a record on the disk: those of refusals follow within a second or so.
fn losses(root: &Root, class: &str, reason: LossReason, packages: u64) -> Vec<Loss> {
    let mut found: Vec<Loss> = Vec::new();
    until(|| {
        let all = Spool::read_losses(&root.path("spool")).expect("reads");
        found = all.into_iter().filter(|loss| (&*loss.class, loss.reason) == (class, reason)).collect();
        found.iter().map(|loss| loss.packages).sum::<u64>() >= packages
    });
    found
}

/// Packages, bytes, and whether all times lie between then and now.
fn sum(losses: &[Loss], since: SystemTime) -> (u64, u64, bool) {
    // Times are kept in milliseconds.
    let since = since - Duration::from_millis(1);
    let times = losses
        .iter()
        .all(|loss| since <= loss.first && loss.first <= loss.last && loss.last <= SystemTime::now());
    let packages = losses.iter().map(|loss| loss.packages).sum();
    (packages, losses.iter().map(|loss| loss.bytes).sum(), times)
}

fn names(root: &Root) -> Vec<String> {
    root.ready().into_iter().map(|(name, _)| name).collect()
}

#[test]
fn a_mad_agent_fills_its_own_room_only() {
    let since = SystemTime::now();
    let mut node = Node::start("[spool]\nagent_max_files = 20\n");
    for round in 0..2 {
        let mut mad = node.connect();
        let answers: Vec<_> = (0..50)
            .map(|number| mad.send(&format!("mad.17000000{round}{number:02}.data"), b"mad!"))
            .collect();
        let taken = answers.iter().filter(|answer| *answer == "SEND OK").count();
        assert_eq!(taken, if round == 0 { 20 } else { 0 });
        assert!(answers[20..].iter().all(|answer| answer == FULL), "{answers:?}");
        let calm = format!("calm.170000000{round}.data");
        assert_eq!(node.connect().send(&calm, b"calm"), "SEND OK", "another agent has its room");
        let line = node.logs("agent `mad` has reached its limit of 20 packages in class `data`");
        assert!(line.contains("raise `agent_max_files`"), "{line}");
        let refused = losses(&node.root, "data", LossReason::AgentQuota, 30 + 50 * round);
        assert_eq!(sum(&refused, since), (30 + 50 * round, (30 + 50 * round) * 4, true));
        node = node.kill_and_restart();
    }
    assert_eq!(names(&node.root).len(), 22);
}

const INVENTORY: &str = "\
max_size = \"500kB\"
[[class]]
name = \"inventory\"
names = '^inv'
overflow = \"drop_oldest\"
max_files = 5
max_bytes = \"500kB\"
";

#[test]
fn a_class_may_keep_the_newest_and_what_went_is_on_record() {
    let since = SystemTime::now();
    let mut node = Node::start(INVENTORY);
    assert_eq!(node.connect().send("web.1700000000.data", b"data stays"), "SEND OK");
    for round in 1..3 {
        let mut client = node.connect();
        for number in 0..8 {
            assert_eq!(client.send(&format!("inv-a.17000000{round}{number}.data"), b"12345"), "SEND OK");
        }
        let newest: Vec<_> = (3..8).map(|number| format!("inv-a.17000000{round}{number}.data")).collect();
        assert_eq!(names(&node.root)[1..], newest);
        assert_eq!(names(&node.root)[0], "web.1700000000.data");
        let dropped = losses(&node.root, "inventory", LossReason::Dropped, 3 + 8 * (round - 1));
        assert_eq!(sum(&dropped, since), (3 + 8 * (round - 1), 5 * (3 + 8 * (round - 1)), true));
        node.logs("the oldest packages went to make room");
        node = node.kill_and_restart();
    }
    assert_eq!(
        node.connect().send("inv-a.1700000010.data", b"12345"),
        "SEND OK",
        "one that was dropped, and is sent again"
    );
    assert_eq!(names(&node.root).last().map(String::as_str), Some("inv-a.1700000010.data"));
}

#[test]
fn room_is_made_as_the_bytes_of_a_large_file_arrive() {
    let node = Node::start(INVENTORY);
    let mut client = node.connect();
    let large = vec![b'x'; 200_000];
    for number in 0..4 {
        assert_eq!(client.send(&format!("inv-a.170000000{number}.data"), &large), "SEND OK");
    }
    assert_eq!(names(&node.root), ["inv-a.1700000002.data", "inv-a.1700000003.data"]);
    // One that never comes whole takes what it has announced no sooner than it comes.
    let mut slow = node.connect();
    assert_eq!(slow.ask("SEND <inv-slow.1.data> SIZE 450000"), "SEND OK");
    assert_eq!(names(&node.root).len(), 2);
    drop(slow);
    assert_eq!(client.send("inv-b.1.data", &vec![b'x'; 600_000]), "SEND ERR (file is too big)");
    assert_eq!(names(&node.root).len(), 2, "nothing goes for what could never fit");
    let refused = losses(&node.root, "inventory", LossReason::TooBig, 1);
    assert_eq!(refused[0].bytes, 600_000);
}

/// An archive and its content are one package: where there is room for one, the newest is in it.
#[test]
fn an_archive_takes_the_room_of_its_content_only() {
    let one = INVENTORY.replace("max_files = 5", "max_files = 1");
    let node = Node::start(&format!("{one}[spool]\nagent_max_bytes = \"500kB\"\n"));
    let mut client = node.connect();
    for number in 0..3_u8 {
        let zip = archive(&[("x", &[number; 1_000])]);
        let name = format!("inv.170000000{number}.data");
        assert_eq!(client.offer("ZSEND", &name, &zip), "ZSEND OK");
        assert_eq!(node.root.ready(), [(name, vec![number; 1_000])]);
    }
    let dropped = losses(&node.root, "inventory", LossReason::Dropped, 2);
    assert_eq!(dropped.iter().map(|loss| loss.packages).sum::<u64>(), 2);

    // All that an agent may have.
    let whole = vec![b'x'; 500_000];
    let zip = archive(&[("x", &whole)]);
    assert_eq!(client.offer("ZSEND", "web.1700000000.data", &zip), "ZSEND OK");
    assert_eq!(client.send("web.1700000001.data", b"x"), FULL);
}

#[test]
fn every_refusal_is_on_record() {
    let node = Node::start("max_size = 100\n[spool]\nmax_files = 1\n");
    let mut client = node.connect();
    assert_eq!(client.send("a.5.data", &[0; 101]), "SEND ERR (file is too big)");
    assert_eq!(client.send("a?.5.data", &[0; 7]), "SEND ERR (invalid file name)");
    assert_eq!(client.offer("ZSEND", "a.5.data", b"no archive"), "ZSEND ERR");
    assert_eq!(client.send("a.5.data", &[0; 100]), "SEND OK");
    assert_eq!(client.send("b.5.data", &[0; 50]), FULL);
    assert_eq!(client.send("x.conf", &[0; 60]), FULL);
    for (class, reason, bytes) in [
        ("data", LossReason::TooBig, 101),
        ("data", LossReason::BadName, 7),
        ("data", LossReason::BadArchive, 10),
        ("data", LossReason::Full, 50),
        ("shared", LossReason::Full, 60),
    ] {
        let found = losses(&node.root, class, reason, 1);
        assert_eq!((found.len(), found[0].bytes), (1, bytes), "{reason}");
    }
    node.logs("raise `spool.max_files`");
}
