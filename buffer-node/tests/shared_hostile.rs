//! What a sync server, or who takes itself for one, cannot do with shared files.

mod support;

use std::fs;
use std::os::unix::fs::symlink;

use support::relay::{Site, hello};
use support::shared::{ON, changed, digest, md5, noise, place, refusal};
use tidegate_proto::relay::limits::SHARED_PART;
use tidegate_proto::relay::{CloseCode, Purpose, SharedOutcome, SharedRequest};

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

/// Any agent may leave a file of any name, and with it of the stem of another's configuration.
#[tokio::test]
async fn what_an_agent_leaves_under_another_extension_keeps_no_order_out() {
    let site = Site::new();
    let node = site.node(ON);
    let mut sync = site.sync(&node).await;
    assert_eq!(node.connect().send("a.zip", b"x"), "SEND OK");
    assert_eq!(sync.place("a.conf", None, b"one").await, SharedOutcome::done());
    assert_eq!(sync.place("a.conf", Some(digest(b"one")), b"two").await, SharedOutcome::done());
    assert!(node.root.holds("a.conf", b"two"));
    // The digest has an owner now: an order for the other file as it lies there must not take it either.
    let refused = sync.place("a.zip", Some(digest(b"x")), b"x").await;
    assert!(refusal(&refused).contains("a.conf lies there"));
    assert!(node.root.holds("a.conf", b"two"));
    assert_eq!(sync.remove("a.conf", digest(b"two")).await, SharedOutcome::done());
    assert!(!node.root.pair("a.conf").md5.exists(), "its agent may register again");
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
        sync.say(0x08, &payload);
        assert_eq!(sync.farewell().await, CloseCode::Protocol, "{bad}");
    }
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

    // Reset in the middle of a connection: whoever is connected has it again, and that is told.
    let mut old = site.try_sync(&node, &site.other, 2).await.unwrap_or_else(|refused| panic!("{refused}"));
    fs::remove_file(node.root.path("epoch")).expect("removes");
    assert_eq!(old.remove("b.conf", [0; 32]).await, SharedOutcome::done());
    node.logs("the epoch was reset while this puller was connected");

    // Without anybody else's coming, as after a restored backup of its directory.
    let mut old = site.try_sync(&node, &site.other, 2).await.unwrap_or_else(|refused| panic!("{refused}"));
    fs::write(node.root.path("epoch"), "3 tidegate:server/central-1 2026-01-01T00:00:00Z\n").expect("writes");
    old.request(place("a.conf", Some(digest(b"one")), b"two"));
    assert_eq!(old.farewell().await, CloseCode::EpochTooLow);
    assert!(node.root.holds("a.conf", b"one"));
}

#[tokio::test]
async fn who_breaks_the_rules_is_out_and_nothing_is_changed() {
    let site = Site::new();
    let node = site.node(ON);
    assert_eq!(node.connect().send("a.conf", b"one"), "SEND OK");
    let buckets =
        |buckets: &[u16]| buckets.iter().flat_map(|bucket| bucket.to_be_bytes()).collect::<Vec<u8>>();
    let order =
        |flag: u8| [&[flag][..], &[0; 32], &digest(b"one"), &3u64.to_be_bytes(), b"\x06b.conf"].concat();
    for (kind, payload) in [
        (0x02, vec![0; 8]),
        (0x03, vec![0; 16]),
        (0x05, Vec::new()),
        (0x07, Vec::new()),
        (0x07, buckets(&[2, 1])),
        (0x07, buckets(&[1, 1])),
        (0x07, buckets(&[1024])),
        (0x09, order(2)),
        (0x09, order(0)[..70].to_vec()),
        (0x0a, Vec::new()),
        (0x0a, vec![0; SHARED_PART + 1]),
        (0x0c, Vec::new()),
        (0x1a, vec![0; 42]),
    ] {
        let mut sync = site.sync(&node).await;
        sync.say(kind, &payload);
        assert_eq!(sync.farewell().await, CloseCode::Protocol, "{kind:#x} {payload:?}");
    }
    // More bytes than were announced, all at once or one too many.
    for parts in [&[4][..], &[2, 2]] {
        let mut sync = site.sync(&node).await;
        sync.request(place("b.conf", None, b"one"));
        assert_eq!(sync.outcome().await, SharedOutcome::go_on(0));
        for part in parts {
            sync.say(0x0a, &vec![b'x'; *part]);
        }
        let code = loop {
            // The machine at this end did not ask for what comes.
            match sync.0.link.next().await {
                Ok(_) => {}
                Err(tidegate_net::LinkError::Closed(close)) => break close,
                Err(error) => panic!("{error}"),
            }
        };
        assert!(!code.is_clean(), "{code}");
    }
    let mut sync = site.sync(&node).await;
    assert_eq!(sync.fetch("a.conf", digest(b"one")).await.as_deref(), Some(&b"one"[..]));
    assert_eq!(node.root.seen("b.conf"), None);
}

#[tokio::test]
async fn what_is_begun_and_never_ended_stays_within_bounds() {
    let site = Site::new();
    let node = site.node(&format!("{ON}[shared]\nmax_files = 2\nmax_bytes = 300000\n"));
    let mut sync = site.sync(&node).await;
    for number in 0..20 {
        let large = noise(number, 100_000);
        sync.request(place(&format!("{number}.zip"), None, &large));
        assert_eq!(sync.outcome().await, SharedOutcome::go_on(0), "the one before gave its room back");
        sync.request(SharedRequest::Part(large[..SHARED_PART].into()));
        sync.outcome().await;
    }
    let kept = fs::read_dir(node.root.path(".workshop")).expect("lists").count();
    assert!(kept <= 4, "{kept} unfinished files");
    assert!(fs::read_dir(node.root.path("collections")).expect("lists").next().is_none());
    assert_eq!(sync.remove("19.zip", [0; 32]).await, SharedOutcome::done(), "another request ends it");
    assert_eq!(node.connect().send("a.conf", b"one"), "SEND OK", "there is room");
}

#[tokio::test]
async fn agents_leave_room_for_orders_and_an_edit_takes_only_what_it_adds() {
    let site = Site::new();
    let limits = "[shared]\nmax_files = 12\nmax_bytes = 4000\nmax_size = 4000\n";
    let node = site.node(&format!("{ON}{limits}"));
    let mut sync = site.sync(&node).await;
    let mut agent = node.connect();
    for number in 0..9 {
        assert_eq!(agent.send(&format!("{number}.lock"), b"x"), "SEND OK");
    }
    assert_eq!(agent.send("9.lock", b"x"), "SEND ERR (storage full)");
    let (first, second) = (noise(1, 2500), noise(2, 3500));
    assert_eq!(sync.place("a.conf", None, &first).await, SharedOutcome::done());
    assert!(refusal(&sync.place("b.conf", None, b"x").await).contains("no room"), "over the files");
    let there = Some(digest(&first));
    assert!(refusal(&sync.place("a.conf", there, &noise(3, 3999)).await).contains("no room"));
    assert_eq!(sync.place("a.conf", there, &second).await, SharedOutcome::done());
    assert_eq!(sync.place("a.conf", Some(digest(&second)), &first).await, SharedOutcome::done());
    assert!(node.root.holds("a.conf", &first));
}
