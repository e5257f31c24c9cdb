//! Shared files over relay: what the sync server sees, places and removes, and what it may not.

mod support;

use std::fs;
use std::os::unix::fs::symlink;

use rustix::process::Signal;
use support::Node;
use support::relay::{Sign, Site, hello};
use support::shared::{ON, digest, fetch, md5, name, noise, place};
use tidegate_proto::Machine as _;
use tidegate_proto::relay::limits::SHARED_PART;
use tidegate_proto::relay::{
    CloseCode, ContentState, OutcomeCode, Purpose, SharedAnswer, SharedOutcome, SharedRequest,
};
use tidegate_spool::shared::{Buckets, Seen};

fn changed(there: Option<&[u8]>) -> SharedOutcome {
    SharedOutcome::changed(there.map(digest))
}

/// Why it was refused.
fn refusal(outcome: &SharedOutcome) -> &str {
    assert_eq!(outcome.code, OutcomeCode::Refused, "{outcome:?}");
    &outcome.text
}

#[tokio::test]
async fn it_is_off_until_it_is_asked_for() {
    let site = Site::new();
    let node = site.node("");
    assert_eq!(node.connect().send("a.conf", b"one"), "SEND OK");
    let refused = site.try_sync(&node, &site.central, 1).await.err().expect("a refusal");
    assert_eq!(refused.code, CloseCode::NotOffered);
    let mut stream = site.stream(&node).await;
    stream.until(|_, sign| *sign == Sign::Status).await;
    assert_eq!(stream.statuses[0].shared_sign, None);
}

#[tokio::test]
async fn what_is_placed_lies_there_with_its_digest_and_comes_back() {
    let site = Site::new();
    let node = site.node(ON);
    let mut sync = site.sync(&node).await;
    let (large, empty) = (noise(1, 500_000), Vec::new());
    let files: [(&str, &[u8]); 4] =
        [("a.conf", b"module_begin"), ("fc_1.zip", &large), ("7.rcmd", b"reboot"), ("e.conf", &empty)];
    for (file, bytes) in files {
        assert_eq!(sync.place(file, None, bytes).await, SharedOutcome::done(), "{file}");
        assert!(node.root.holds(file, bytes), "{file}");
    }
    let mut sums = Buckets::new();
    for (file, bytes) in files {
        let seen = Seen { digest: digest(bytes), size: bytes.len() as u64, fits: true };
        sums.add(file.as_bytes(), &seen);
        assert_eq!(sync.fetch(file, seen.digest).await.as_deref(), Some(bytes), "{file}");
    }
    assert_eq!(sync.summary().await.as_ref(), sums.values());
    let items = sync.look_into((0..1024).collect()).await;
    let names: Vec<_> = items.iter().map(|item| item.name.to_string()).collect();
    assert_eq!(names, ["7.rcmd", "a.conf", "e.conf", "fc_1.zip"]);
    assert!(items.iter().all(|item| item.fits));
    assert_eq!(sync.look_into(vec![Buckets::of(b"a.conf")]).await, items[1..2]);

    for (file, bytes) in files {
        assert_eq!(sync.remove(file, digest(bytes)).await, SharedOutcome::done(), "{file}");
        assert_eq!(node.root.seen(file), None);
        assert!(!node.root.pair(file).md5.exists(), "{file}");
        assert_eq!(sync.remove(file, digest(bytes)).await, SharedOutcome::done(), "nothing is left to do");
    }
    assert_eq!(
        sync.summary().await.as_ref(),
        Buckets::new().values(),
        "what was changed here is known at once"
    );
    assert_eq!(fs::read_dir(node.root.path("workshop")).expect("lists").count(), 0);
    sync.0.leave().await;
    let line = node.logs("shared files were synced");
    assert!(line.contains("placed=4 removed=8 given=4 refused=0"), "{line}");
}

#[tokio::test]
async fn only_what_was_expected_gives_way() {
    let site = Site::new();
    let node = site.node(ON);
    let mut sync = site.sync(&node).await;
    let (one, two, three) = (&b"one"[..], &b"two"[..], &b"three"[..]);
    let missing = sync.place("a.conf", Some(digest(one)), two).await;
    assert_eq!(missing, changed(None), "nothing lies there");
    assert_eq!(sync.place("a.conf", None, one).await, SharedOutcome::done());
    assert_eq!(sync.place("a.conf", None, two).await, changed(Some(one)));
    assert_eq!(sync.place("a.conf", Some(digest(three)), two).await, changed(Some(one)));
    assert_eq!(sync.remove("a.conf", digest(two)).await, changed(Some(one)));
    assert!(node.root.holds("a.conf", one));
    assert_eq!(sync.place("a.conf", Some(digest(one)), two).await, SharedOutcome::done());
    assert!(node.root.holds("a.conf", two));
    assert_eq!(sync.place("a.conf", Some(digest(three)), two).await, SharedOutcome::done(), "it is so");
    assert_eq!(sync.fetch("a.conf", digest(one)).await, None);
    assert_eq!(sync.fetch("b.conf", digest(one)).await, None);

    // The file changes while its bytes are coming.
    let large = noise(2, 100_000);
    sync.request(place("a.conf", Some(digest(two)), &large));
    assert_eq!(sync.outcome().await, SharedOutcome::go_on(0));
    fs::write(node.root.pair("a.conf").file, three).expect("an operator's edit");
    let mut last = None;
    for part in large.chunks(SHARED_PART) {
        sync.request(SharedRequest::Part(part.into()));
        last = Some(sync.outcome().await);
    }
    assert_eq!(last, Some(changed(Some(three))));
    assert_eq!(fs::read(node.root.pair("a.conf").file).expect("is there"), three);
}

#[tokio::test]
async fn a_missing_digest_is_written_when_its_file_is_placed_again() {
    let site = Site::new();
    let node = site.node(ON);
    let mut sync = site.sync(&node).await;
    let pair = node.root.pair("a.conf");
    fs::write(&pair.file, "by hand").expect("writes");
    // What is changed by hand is looked for once a second.
    while sync.summary().await.as_ref() == Buckets::new().values() {}
    let items = sync.look_into((0..1024).collect()).await;
    assert!(items.len() == 1 && !items[0].fits, "{items:?}");
    let there = Some(digest(b"by hand"));
    assert_eq!(sync.place("a.conf", there, b"by hand").await, SharedOutcome::done());
    assert!(node.root.holds("a.conf", b"by hand"));
    fs::write(&pair.md5, md5(b"another")).expect("writes");
    assert_eq!(sync.place("a.conf", there, b"by hand").await, SharedOutcome::done());
    assert!(node.root.holds("a.conf", b"by hand"));
}

#[tokio::test]
async fn small_files_come_in_one_go_and_what_is_not_wanted_is_ignored() {
    let site = Site::new();
    let node = site.node(ON);
    let mut sync = site.sync(&node).await;
    sync.place("a.conf", None, b"one").await;
    sync.request(place("a.conf", None, b"two"));
    sync.request(SharedRequest::Part(b"two".into()));
    sync.request(place("b.conf", None, b"three"));
    sync.request(SharedRequest::Part(b"th".into()));
    sync.request(SharedRequest::Part(b"ree".into()));
    sync.request(SharedRequest::Remove { name: name("a.conf"), expected: digest(b"one") });
    let ignored = sync_codes(&mut sync, 6).await;
    use OutcomeCode::{Changed, Done, GoOn, Ignored};
    assert_eq!(ignored, [Changed, Ignored, GoOn, GoOn, Done, Done]);
    assert!(node.root.holds("b.conf", b"three") && node.root.seen("a.conf").is_none());

    // Broken off in the middle, and begun with its first byte all the same.
    let middling = noise(3, 40_000);
    sync.request(place("c.conf", None, &middling));
    sync.request(SharedRequest::Part(middling[..SHARED_PART].into()));
    assert_eq!(sync_codes(&mut sync, 2).await, [GoOn, GoOn]);
    sync.0.leave().await;
    let mut sync = site.sync(&node).await;
    sync.request(place("c.conf", None, &middling));
    assert_eq!(sync.outcome().await, SharedOutcome::go_on(0));
    for (number, part) in middling.chunks(SHARED_PART).enumerate() {
        sync.request(SharedRequest::Part(part.into()));
        let so_far = number * SHARED_PART + part.len();
        let go_on = SharedOutcome::go_on(so_far as u64);
        let expected = if so_far < middling.len() { go_on } else { SharedOutcome::done() };
        assert_eq!(sync.outcome().await, expected);
    }
    assert!(node.root.holds("c.conf", &middling));
}

async fn sync_codes(sync: &mut support::shared::Syncing, count: usize) -> Vec<OutcomeCode> {
    let mut codes = Vec::new();
    while codes.len() < count {
        codes.push(sync.outcome().await.code);
    }
    codes
}

#[tokio::test]
async fn bytes_that_were_not_announced_are_thrown_away() {
    let site = Site::new();
    let node = site.node(ON);
    let mut sync = site.sync(&node).await;
    for (announced, sent) in [(b"one".to_vec(), b"two".to_vec()), (noise(4, 60_000), noise(5, 60_000))] {
        for _ in 0..2 {
            sync.request(place("a.conf", None, &announced));
            assert_eq!(sync.outcome().await, SharedOutcome::go_on(0));
            let mut last = None;
            for part in sent.chunks(SHARED_PART) {
                sync.request(SharedRequest::Part(part.into()));
                last = Some(sync.outcome().await);
            }
            assert_eq!(last, Some(SharedOutcome::damaged()));
            assert_eq!(node.root.seen("a.conf"), None);
        }
    }
    sync.request(SharedRequest::Place { name: name("a.conf"), expected: None, digest: [7; 32], size: 0 });
    assert_eq!(sync.outcome().await, SharedOutcome::damaged(), "no digest of nothing");
    assert_eq!(fs::read_dir(node.root.path("workshop")).expect("lists").count(), 0);
}

#[tokio::test]
async fn names_that_are_not_shared_this_way_are_refused_with_words() {
    let site = Site::new();
    let node = site.node(ON);
    let mut sync = site.sync(&node).await;
    let long = format!("{}.conf", "a".repeat(200));
    for (file, words) in [
        ("a.md5", "none of .conf, .zip and .rcmd"),
        ("a.lock", "none of .conf, .zip and .rcmd"),
        ("web01.1700000000.data", "none of .conf, .zip and .rcmd"),
        ("passwd", "none of .conf, .zip and .rcmd"),
        (".conf", "none of .conf, .zip and .rcmd"),
        ("host.conf.zip", "`filters`"),
        (&long, "at most 200 are allowed"),
    ] {
        assert!(refusal(&sync.place(file, None, b"x").await).contains(words), "{file}");
        assert!(refusal(&sync.remove(file, [0; 32]).await).contains(words), "{file}");
        assert_eq!(sync.fetch(file, [0; 32]).await, None, "{file}");
    }
    node.logs("a shared file of the sync server was refused");
    fs::write(node.root.path("md5/a.md5"), md5(b"x")).expect("writes");
    assert_eq!(sync.fetch("a.md5", digest(&md5(b"x"))).await, None, "only main files are named");

    assert_eq!(sync.place("same.rcmd", None, b"x").await, SharedOutcome::done());
    assert!(refusal(&sync.place("same.zip", None, b"y").await).contains("same.rcmd lies there"));
    assert!(node.root.holds("same.rcmd", b"x"));

    let secret = node.root.path("epoch");
    symlink(&secret, node.root.pair("link.conf").file).expect("links");
    assert_eq!(sync.fetch("link.conf", digest(&fs::read(&secret).expect("reads"))).await, None);
    assert_eq!(sync.place("link.conf", None, b"x").await, changed(None), "it is in the way");
    assert_ne!(fs::read(&secret).expect("reads"), b"x");
}

#[tokio::test]
async fn a_name_that_leaves_its_directory_ends_the_connection() {
    let site = Site::new();
    let node = site.node(ON);
    for bad in ["../epoch.conf", "..", "a/b.conf", "a\0.conf", "/etc/a.conf"] {
        let mut sync = site.sync(&node).await;
        let mut payload = vec![0; 40];
        payload.push(bad.len() as u8);
        payload.extend(bad.as_bytes());
        let output = sync.0.link.machine().output();
        output.push(0x08);
        output.extend(&(payload.len() as u32).to_be_bytes()[1..]);
        output.extend(payload);
        assert_eq!(sync.farewell().await, CloseCode::Protocol, "{bad}");
    }
}

#[tokio::test]
async fn room_and_size_have_their_limits() {
    let site = Site::new();
    let node = site.node(&format!("{ON}[shared]\nmax_files = 4\nmax_bytes = 200000\nmax_size = 100000\n"));
    let mut sync = site.sync(&node).await;
    assert!(refusal(&sync.place("a.zip", None, &noise(1, 100_001)).await).contains("`shared.max_size`"));
    assert_eq!(sync.place("a.zip", None, &noise(1, 100_000)).await, SharedOutcome::done());
    assert!(refusal(&sync.place("b.zip", None, &noise(2, 100_000)).await).contains("`shared.max_bytes`"));
    assert_eq!(sync.place("b.zip", None, &noise(2, 90_000)).await, SharedOutcome::done());
    assert!(refusal(&sync.place("c.conf", None, b"c").await).contains("`shared.max_files`"));
    let agent = || node.connect().send("c.conf", b"c");
    assert_eq!(agent(), "SEND ERR (storage full)");
    // A full count is no reason not to change what is there, and what goes gives its room back.
    let (old, new) = (digest(&noise(2, 90_000)), noise(3, 1000));
    assert_eq!(sync.place("b.zip", Some(old), &new).await, SharedOutcome::done());
    assert_eq!(agent(), "SEND ERR (storage full)");
    assert_eq!(sync.remove("b.zip", digest(&new)).await, SharedOutcome::done());
    assert_eq!(agent(), "SEND OK");
    assert!(
        refusal(&sync.place("d.conf", None, b"d").await).contains("`shared.max_files`"),
        "one of two fits"
    );
    assert!(node.root.seen("d.conf").is_none());

    // What is on its way has its room.
    assert_eq!(sync.remove("a.zip", digest(&noise(1, 100_000))).await, SharedOutcome::done());
    sync.request(place("e.zip", None, &noise(4, 99_000)));
    assert_eq!(sync.outcome().await, SharedOutcome::go_on(0));
    assert_eq!(node.connect().send("f.rcmd", b"f"), "SEND OK", "the fourth");
    assert_eq!(node.connect().send("g.rcmd", b"g"), "SEND ERR (storage full)");
    sync.0.leave().await;
    let _next = site.sync(&node).await;
    assert_eq!(node.connect().send("g.rcmd", b"g"), "SEND OK", "given back with the connection");
}

#[tokio::test]
async fn a_free_space_that_is_too_small_refuses() {
    let site = Site::new();
    let node = site.node(&format!("{ON}[spool]\nreserve = \"1000TB\"\n"));
    let mut sync = site.sync(&node).await;
    assert!(refusal(&sync.place("a.conf", None, b"x").await).starts_with("no room"));
}

#[tokio::test]
async fn a_large_file_goes_on_after_a_cut_and_after_a_restart() {
    let site = Site::new();
    let node = site.node(ON);
    let large = noise(6, 400_000);
    let mut sync = site.sync(&node).await;
    sync.request(place("fc_1.zip", None, &large));
    assert_eq!(sync.outcome().await, SharedOutcome::go_on(0));
    for part in large.chunks(SHARED_PART).take(5) {
        sync.request(SharedRequest::Part(part.into()));
        sync.outcome().await;
    }
    // Without a word, as a cut link.
    drop(sync);
    let mut sync = site.sync(&node).await;
    sync.request(place("fc_1.zip", None, &large));
    let five = 5 * SHARED_PART;
    assert_eq!(sync.outcome().await, SharedOutcome::go_on(five as u64));
    for part in large[five..].chunks(SHARED_PART).take(5) {
        sync.request(SharedRequest::Part(part.into()));
        sync.outcome().await;
    }
    drop(sync);
    let node = node.kill_and_restart();
    let mut sync = site.sync(&node).await;
    sync.request(place("fc_1.zip", None, &large));
    assert_eq!(sync.outcome().await, SharedOutcome::go_on(2 * five as u64));
    for part in large[2 * five..].chunks(SHARED_PART) {
        sync.request(SharedRequest::Part(part.into()));
        sync.outcome().await;
    }
    assert!(node.root.holds("fc_1.zip", &large));
}

#[tokio::test]
async fn many_files_are_told_in_parts_and_cost_little_when_nothing_has_changed() {
    let site = Site::new();
    let node = site.root(ON);
    for directory in ["conf", "md5"] {
        fs::create_dir_all(node.path(directory)).expect("makes");
    }
    let md5 = md5(b"the same in each");
    for number in 0..2000 {
        let pair = node.pair(&format!("{number:032x}.conf"));
        fs::write(pair.file, b"the same in each").expect("writes");
        fs::write(pair.md5, &md5).expect("writes");
    }
    let node = node.start();
    let mut sync = site.sync(&node).await;
    sync.summary().await;
    let items = sync.look_into((0..1024).collect()).await;
    assert_eq!(items.len(), 2000);
    assert!(items.is_sorted_by(|one, next| one.name < next.name) && items.iter().all(|item| item.fits));
}

#[tokio::test]
async fn the_newest_connection_wins_and_goes_on_with_what_has_come() {
    let site = Site::new();
    let node = site.node(ON);
    let large = noise(7, 100_000);
    let mut first = site.sync(&node).await;
    first.request(place("fc_1.zip", None, &large));
    first.outcome().await;
    first.request(SharedRequest::Part(large[..SHARED_PART].into()));
    first.outcome().await;
    let mut second = site.sync(&node).await;
    assert_eq!(first.farewell().await, CloseCode::Replaced);
    second.request(place("fc_1.zip", None, &large));
    assert_eq!(second.outcome().await, SharedOutcome::go_on(SHARED_PART as u64));
    // A stream is another matter.
    let mut stream = site.stream(&node).await;
    stream.dry().await;
    assert_eq!(second.place("a.conf", None, b"x").await, SharedOutcome::done());
}

#[tokio::test]
async fn a_connection_ends_with_its_epoch() {
    let site = Site::new();
    let node = site.node(ON);
    let mut old = site.sync(&node).await;
    assert_eq!(old.place("a.conf", None, b"one").await, SharedOutcome::done());
    let mut looking = site.dial(&node, Some(&site.other), hello(Purpose::List, 2)).await;
    looking.welcome().await;
    assert_eq!(old.farewell().await, CloseCode::Replaced);
    let refused = site.try_sync(&node, &site.central, 1).await.err().expect("a refusal");
    assert_eq!(refused.code, CloseCode::EpochTooLow);

    // Without anybody else's coming, as after a restored backup of its directory.
    let mut old = site.try_sync(&node, &site.other, 2).await.unwrap_or_else(|refused| panic!("{refused}"));
    fs::write(node.root.path("epoch"), "3 tidegate:server/central-1 2026-01-01T00:00:00Z\n").expect("writes");
    old.request(place("a.conf", Some(digest(b"one")), b"two"));
    assert_eq!(old.farewell().await, CloseCode::EpochTooLow);
    assert!(node.root.holds("a.conf", b"one"));
}

#[tokio::test]
async fn nobody_without_the_servers_role_gets_in() {
    let site = Site::new();
    let node = site.node(ON);
    let agent = site.authority.client("agent", "agent/web01", false);
    let refused = site.try_sync(&node, &agent, 1).await.err().expect("a refusal");
    assert_eq!(refused.code, CloseCode::NoRights);
}

#[tokio::test]
async fn a_stop_ends_it_cleanly_and_keeps_what_has_come() {
    let site = Site::new();
    let mut node = site.node(ON);
    let large = noise(8, 100_000);
    let mut sync = site.sync(&node).await;
    sync.request(place("fc_1.zip", None, &large));
    sync.outcome().await;
    sync.request(SharedRequest::Part(large[..SHARED_PART].into()));
    sync.outcome().await;
    node.signal(Signal::TERM);
    assert_eq!(sync.farewell().await, CloseCode::Stopping);
    assert!(node.wait().success());
    let node = node.kill().start();
    let mut sync = site.sync(&node).await;
    sync.request(place("fc_1.zip", None, &large));
    assert_eq!(sync.outcome().await, SharedOutcome::go_on(SHARED_PART as u64));
}

#[tokio::test]
async fn content_is_asked_for_several_parts_at_once_and_ends_where_it_ends() {
    let site = Site::new();
    let node = site.node(ON);
    let mut sync = site.sync(&node).await;
    let bytes = noise(9, 3 * SHARED_PART);
    assert_eq!(sync.place("a.zip", None, &bytes).await, SharedOutcome::done());
    let digest = digest(&bytes);
    for part in 0..3 {
        sync.request(fetch("a.zip", digest, (part * SHARED_PART) as u64));
    }
    for part in 0..3 {
        let state = if part < 2 { ContentState::More } else { ContentState::End };
        let bytes = bytes[part * SHARED_PART..][..SHARED_PART].to_vec();
        assert_eq!(sync.answer().await, SharedAnswer::Content { state, bytes });
    }
    for offset in [bytes.len() as u64, u64::MAX] {
        let end = SharedAnswer::Content { state: ContentState::End, bytes: Vec::new() };
        assert_eq!(sync.ask(fetch("a.zip", digest, offset)).await, end);
    }
    // Replaced while it is being read: what was begun is read to its end, nothing is mixed.
    let first = sync.ask(fetch("a.zip", digest, 0)).await;
    assert_eq!(sync.0.link.machine().outstanding(), 0);
    fs::write(node.root.path("collections/new"), b"another").expect("writes");
    fs::rename(node.root.path("collections/new"), node.root.pair("a.zip").file).expect("replaces");
    let SharedAnswer::Content { state: ContentState::More, bytes: first } = first else {
        panic!("{first:?}")
    };
    assert_eq!(first, bytes[..SHARED_PART]);
    match sync.ask(fetch("a.zip", digest, SHARED_PART as u64)).await {
        SharedAnswer::Content { state: ContentState::More, bytes: second } => {
            assert_eq!(second, bytes[SHARED_PART..][..SHARED_PART]);
        }
        SharedAnswer::Content { state: ContentState::Another, .. } => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(sync.fetch("a.zip", [1; 32]).await, None);
    assert_eq!(sync.fetch("a.zip", digest).await, None);
}

/// An agent and the sync server work on the same files.
#[tokio::test]
async fn an_agent_registers_and_the_server_hears_of_it_soon() {
    let site = Site::new();
    let node: Node = site.node(ON);
    let mut stream = site.stream(&node).await;
    stream.until(|_, sign| *sign == Sign::Status).await;
    let mut told = stream.statuses[0].shared_sign.expect("is on");
    // More often than the regular report comes while anybody waits.
    for number in 0..8 {
        let (stem, conf) = (format!("{number:032x}"), format!("configuration {number}"));
        let mut agent = node.connect();
        assert_eq!(agent.get(&format!("RECV <{stem}.md5>")), Err("RECV ERR (file does not exist)".into()));
        assert_eq!(agent.send(&format!("{stem}.conf"), conf.as_bytes()), "SEND OK");
        assert_eq!(agent.send(&format!("{stem}.md5"), &md5(conf.as_bytes())), "SEND OK");
        stream
            .until(|stream, sign| {
                *sign == Sign::Status && stream.statuses.last().is_some_and(|it| it.shared_sign != Some(told))
            })
            .await;
        told = stream.statuses.last().and_then(|it| it.shared_sign).expect("is on");
    }
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
                let mut client =
                    support::Client::new(std::net::TcpStream::connect(address).expect("connects"));
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
    assert_eq!(fs::read_dir(node.root.path("workshop")).expect("lists").count(), 0);
}
