//! The node is killed, or its disk fails, while the sync server changes shared files: every pair is whole after the next
//! start, and nothing is believed that may not be on the disk. `strace` makes the faults, and the disk slow.

mod support;

use std::fs;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use support::relay::Site;
use support::shared::{ON, Syncing, digest, name, noise, place};
use support::{BINARY, Node, Root, until};
use tidegate_proto::relay::{CloseCode, OutcomeCode, SharedOutcome, SharedRequest};

/// A node with something done to its fsyncs. Not the tracer but the node is the child.
fn traced(inject: &str, path: Option<&std::path::Path>) -> Command {
    let mut strace = Command::new("strace");
    strace
        .args(["-D", "-f", "-q", "-o", "/dev/null", "-e", "trace=fsync", "-e"])
        .arg(format!("inject=fsync:{inject}"));
    if let Some(path) = path {
        strace.arg("-P").arg(path);
    }
    strace.arg(BINARY);
    strace
}

/// Slow enough that whoever looks sees every state.
fn slow() -> Command {
    traced("delay_enter=30000", None)
}

/// Waits for something that shows on the disk, and kills the node at once.
fn kill_when(pid: Pid, mut is_so: impl FnMut() -> bool + Send + 'static) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        until(&mut is_so);
        kill_process(pid, Signal::KILL).expect("kills");
    })
}

/// Orders all of it, and hears what there is to hear.
async fn order(sync: &mut Syncing, requests: Vec<SharedRequest>) {
    for request in requests {
        while !sync.0.link.machine().may_request(&request) {
            if sync.0.event().await.is_err() {
                return;
            }
        }
        sync.0.link.machine().request(request);
    }
    while sync.0.link.machine().outstanding() > 0 && sync.0.event().await.is_ok() {}
}

#[tokio::test]
async fn a_node_that_dies_between_the_two_halves_makes_the_pair_whole_at_its_next_start() {
    let site = Site::new();
    let mut root = site.root(ON);
    let version = |number: u32| format!("version {number}").into_bytes();
    for number in 0..6 {
        let mut node = root.start_by(slow());
        let mut sync = site.sync(&node).await;
        let (file, md5, new) = (node.root.pair("a.conf").file, node.root.pair("a.conf").md5, version(number));
        let old_md5 = fs::read(&md5).ok();
        let killing = {
            let (md5, new, old_md5) = (md5.clone(), new.clone(), old_md5.clone());
            kill_when(node.pid(), move || {
                fs::read(&file).is_ok_and(|found| found == new) && {
                    // Or it was too late for this.
                    assert_eq!(fs::read(&md5).ok(), old_md5);
                    true
                }
            })
        };
        let expected = (number > 0).then(|| digest(&version(number - 1)));
        order(&mut sync, vec![place("a.conf", expected, &new), SharedRequest::Part(new.clone())]).await;
        killing.join().expect("was in time");
        assert!(!node.wait().success());
        let node = node.kill().start();
        assert!(node.root.holds("a.conf", &new), "only half of it is there");
        let mut sync = site.sync(&node).await;
        assert_eq!(
            sync.place("a.conf", expected, &new).await,
            SharedOutcome::done(),
            "nothing is left to do"
        );
        root = node.kill();
    }
}

#[tokio::test]
async fn a_node_that_dies_while_it_removes_leaves_no_lone_digest() {
    let site = Site::new();
    let node = site.node(ON);
    let mut sync = site.sync(&node).await;
    assert_eq!(sync.place("a.conf", None, b"one").await, SharedOutcome::done());
    let mut node = node.kill().start_by(slow());
    let mut sync = site.sync(&node).await;
    let pair = node.root.pair("a.conf");
    let killing = kill_when(node.pid(), move || {
        !pair.file.exists() && {
            assert!(pair.md5.exists(), "it was too late");
            true
        }
    });
    order(&mut sync, vec![SharedRequest::Remove { name: name("a.conf"), expected: digest(b"one") }]).await;
    killing.join().expect("was in time");
    assert!(!node.wait().success());
    let node = node.kill().start();
    assert!(!node.root.pair("a.conf").file.exists() && !node.root.pair("a.conf").md5.exists());
}

/// At no chosen moment.
#[tokio::test]
async fn whenever_a_node_dies_every_pair_is_whole_and_a_new_order_makes_it_so() {
    let site = Site::new();
    let mut node = site.node(ON);
    let file = |number: u32| format!("{number:032x}.conf");
    let version = |number: u32, round: u32| noise(number * 100 + round, 300 + number as usize * 400);
    for round in 0..6 {
        let mut sync = site.sync(&node).await;
        let requests = (0..30).flat_map(|number| {
            let new = version(number, round);
            let there = node.root.seen(&file(number)).map(|seen| seen.digest);
            [place(&file(number), there, &new), SharedRequest::Part(new)]
        });
        let requests: Vec<_> = requests.collect();
        // Somewhere in the middle of it, a little later in each round.
        let last = file(4 + 4 * round);
        let (at, new) = (node.root.pair(&last).file, version(4 + 4 * round, round));
        let killing = kill_when(node.pid(), move || fs::read(&at).is_ok_and(|found| found == new));
        order(&mut sync, requests).await;
        killing.join().expect("kills");
        node.wait();
        node = node.kill().start();
        for number in 0..30 {
            let seen = node.root.seen(&file(number));
            assert!(seen.is_none_or(|seen| seen.fits), "{number} in round {round}");
            let is = seen.map(|seen| seen.digest);
            let (old, new) = (
                round.checked_sub(1).map(|old| digest(&version(number, old))),
                digest(&version(number, round)),
            );
            assert!(is == Some(new) || is == old, "{number} in round {round} is neither old nor new");
        }
        let mut sync = site.sync(&node).await;
        for number in 0..30 {
            let there = node.root.seen(&file(number)).map(|seen| seen.digest);
            let placed = sync.place(&file(number), there, &version(number, round)).await;
            assert_eq!(placed, SharedOutcome::done());
        }
    }
}

#[tokio::test]
async fn a_failed_fsync_of_what_is_visible_ends_the_node() {
    let site = Site::new();
    let root: Root = site.node(ON).kill();
    let strace = traced("error=EIO", Some(&root.path("conf")));
    let mut node: Node = root.start_by(strace);
    let mut sync = site.sync(&node).await;
    sync.request(place("a.conf", None, b"one"));
    sync.request(SharedRequest::Part(b"one".to_vec()));
    assert_eq!(sync.outcome().await.code, OutcomeCode::GoOn);
    // Whichever of the two is noticed first: it cannot say what became of it, and it ends.
    let code = sync.farewell().await;
    assert!(matches!(code, CloseCode::Trouble | CloseCode::Stopping), "{code:?}");
    assert_eq!(node.wait().code(), Some(1));
    node.logs("cannot make a shared file durable");
    let node = node.kill().start();
    assert!(node.root.seen("a.conf").is_none_or(|seen| seen.fits));
    let mut sync = site.sync(&node).await;
    let there = node.root.seen("a.conf").map(|seen| seen.digest);
    assert_eq!(sync.place("a.conf", there, b"two").await, SharedOutcome::done());
    assert!(node.root.holds("a.conf", b"two"));
}
