//! Agents and the sync server work on the same shared files.

mod support;

use std::fs;
use std::net::TcpStream;

use support::relay::{Sign, Site};
use support::shared::{ON, digest, md5};
use support::{Client, Node, PATIENCE};
use tidegate_proto::relay::{OutcomeCode, SharedOutcome};
use tokio::time::timeout;

/// An agent and the sync server work on the same files.
#[tokio::test]
async fn an_agent_registers_and_the_server_hears_of_it_soon() {
    let site = Site::new();
    let node: Node = site.node(ON);
    let mut stream = site.stream(&node).await;
    let has_sign = |stream: &support::relay::Puller| stream.statuses.last().and_then(|it| it.shared_sign);
    stream.until(|stream, sign| *sign == Sign::Status && has_sign(stream).is_some()).await;
    let mut told = has_sign(&stream).expect("is on");
    // Eight regular reports would take longer than anybody waits.
    let reports = async {
        for number in 0..8 {
            let (stem, conf) = (format!("{number:032x}"), format!("configuration {number}"));
            let mut agent = node.connect();
            assert_eq!(
                agent.get(&format!("RECV <{stem}.md5>")),
                Err("RECV ERR (file does not exist)".into())
            );
            assert_eq!(agent.send(&format!("{stem}.conf"), conf.as_bytes()), "SEND OK");
            assert_eq!(agent.send(&format!("{stem}.md5"), &md5(conf.as_bytes())), "SEND OK");
            stream
                .until(|stream, sign| {
                    *sign == Sign::Status
                        && stream.statuses.last().is_some_and(|it| it.shared_sign != Some(told))
                })
                .await;
            told = stream.statuses.last().and_then(|it| it.shared_sign).expect("is on");
        }
    };
    timeout(PATIENCE, reports).await.expect("a report after each upload");
    let mut sync = site.sync(&node).await;
    let conf = b"configuration 3";
    let file = format!("{:032x}.conf", 3);
    assert_eq!(sync.fetch(&file, digest(conf)).await.as_deref(), Some(&conf[..]));
    assert_eq!(sync.place(&file, Some(digest(conf)), b"edited").await, SharedOutcome::done());
    let mut agent = node.connect();
    let remote = agent.get(&format!("RECV <{:032x}.md5>", 3)).expect("is there");
    assert_eq!(remote, md5(b"edited"));
    assert_eq!(agent.get(&format!("RECV <{file}>")).expect("is there"), b"edited");
}

#[tokio::test]
async fn an_agent_that_could_not_read_its_digest_puts_nothing_old_over_what_was_placed() {
    let site = Site::new();
    let node = site.node(&format!("{ON}overwrite = true\n"));
    let mut sync = site.sync(&node).await;
    assert_eq!(node.connect().send("a.conf", b"the agent's"), "SEND OK");
    assert_eq!(node.connect().send("a.md5", &md5(b"the agent's")), "SEND OK");
    let there = Some(digest(b"the agent's"));
    assert_eq!(sync.place("a.conf", there, b"the operator's").await, SharedOutcome::done());
    let upload = || {
        let mut agent = node.connect();
        [agent.send("a.conf", b"the agent's"), agent.send("a.md5", &md5(b"the agent's"))]
    };
    let exists = "SEND ERR (file already exists)";
    assert_eq!(upload(), [exists, exists]);
    let line = node.logs("no agent has uploaded or read it");
    assert!(line.contains("a.conf") && line.contains("refused"), "{line}");
    node.logs("it is not the digest of the file that lies there");
    assert!(node.root.holds("a.conf", b"the operator's"));

    // Cut before it could be known to have been read.
    let mut agent = node.connect();
    assert_eq!(agent.get("RECV <a.conf>").expect("is there"), b"the operator's");
    agent.hang_up();
    assert!(agent.is_closed());
    assert_eq!(upload(), [exists, exists]);
    let mut agent = node.connect();
    assert_eq!(agent.get("RECV <a.conf>").expect("is there"), b"the operator's");
    assert!(agent.say("QUIT\n").is_closed());
    assert_eq!(upload(), ["SEND OK", "SEND OK"], "it had what lay there");
    assert!(node.root.holds("a.conf", b"the agent's"));
    assert_eq!(upload(), ["SEND OK", "SEND OK"], "the same again");
}

/// Agents of one name, and the server, change one pair at the same time. Whoever comes last, its halves are of one file.
#[tokio::test(flavor = "multi_thread")]
async fn uploads_and_orders_at_the_same_time_leave_a_whole_pair() {
    let site = Site::new();
    let node = site.node(&format!("{ON}overwrite = true\n"));
    let address = node.address;
    let agents: Vec<_> = (0..3)
        .map(|agent| {
            std::thread::spawn(move || {
                let mut client = Client::new(TcpStream::connect(address).expect("connects"));
                let mut taken = [0, 0];
                for round in 0..40 {
                    let conf = format!("agent {agent} round {round}").into_bytes();
                    // So that what is there counts as known, now and then.
                    let _ = client.get("RECV <a.conf>");
                    taken[0] += u32::from(client.send("a.conf", &conf) == "SEND OK");
                    taken[1] += u32::from(client.send("a.md5", &md5(&conf)) == "SEND OK");
                }
                taken
            })
        })
        .collect();
    let mut sync = site.sync(&node).await;
    let mut outcomes = [0, 0];
    while !agents.iter().all(std::thread::JoinHandle::is_finished) {
        let seen = node.root.seen("a.conf");
        let there = seen.map(|seen| seen.digest);
        let ours = outcomes[0] > 0 && there == Some(digest(format!("server {}", outcomes[0] - 1).as_bytes()));
        // By turns between the two halves of an upload, and after both.
        let is_half = seen.is_none_or(|seen| !seen.fits);
        if ours || is_half == (outcomes[0] % 2 == 0) {
            tokio::task::yield_now().await;
            continue;
        }
        let new = format!("server {}", outcomes[0]).into_bytes();
        match sync.place("a.conf", there, &new).await.code {
            OutcomeCode::Done => outcomes[0] += 1,
            OutcomeCode::Changed => outcomes[1] += 1,
            other => panic!("{other:?}"),
        }
    }
    let taken = agents.into_iter().map(|agent| agent.join().expect("ends"));
    let taken = taken.fold([0, 0], |sum, taken| [sum[0] + taken[0], sum[1] + taken[1]]);
    assert!(taken[0] > 0 && taken[1] > 0 && outcomes[0] > 0, "{taken:?} {outcomes:?}");
    assert!(node.root.seen("a.conf").expect("is there").fits, "{taken:?} {outcomes:?}");
    assert_eq!(fs::read_dir(node.root.path(".workshop")).expect("lists").count(), 0);
}
