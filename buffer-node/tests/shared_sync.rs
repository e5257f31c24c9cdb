//! Shared files over relay: what the sync server sees, gets, places and removes.

mod support;

use std::fs;

use rustix::process::Signal;
use support::relay::{Sign, Site};
use support::shared::{ON, Syncing, changed, digest, fetch, md5, name, noise, place, refusal};
use tidegate_proto::relay::limits::SHARED_PART;
use tidegate_proto::relay::{
    CloseCode, ContentState, OutcomeCode, SharedAnswer, SharedOutcome, SharedRequest,
};
use tidegate_spool::shared::{Buckets, Seen};

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
    assert_eq!(fs::read_dir(node.root.path(".workshop")).expect("lists").count(), 0);
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

async fn sync_codes(sync: &mut Syncing, count: usize) -> Vec<OutcomeCode> {
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
    assert_eq!(fs::read_dir(node.root.path(".workshop")).expect("lists").count(), 0);
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
    assert_eq!(sync.remove("c.conf", digest(b"c")).await, SharedOutcome::done());
    sync.request(place("e.zip", None, &noise(4, 99_000)));
    assert_eq!(sync.outcome().await, SharedOutcome::go_on(0));
    assert_eq!(node.connect().send("f.rcmd", b"f"), "SEND OK", "the third of three for agents");
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
