//! Pulling by relay: what comes, what is deleted, and what stays.

mod support;

use std::fs;

use rustix::process::Signal;
use support::Node;
use support::relay::{PLENTY, Sign, Site, hello, stream};
use tidegate_proto::Machine as _;
use tidegate_proto::relay::frame::Frame;
use tidegate_proto::relay::{CloseCode, Hello, Number, Purpose};

/// Packages of many sizes: empty frames, several groups, one that is read as it is sent.
fn store_some(node: &Node) -> Vec<(String, Vec<u8>)> {
    let sizes = [1, 100, 12_000, 65_536, 262_144, 262_145, 700_000, 3];
    let packages: Vec<(String, Vec<u8>)> = (0_u32..)
        .zip(sizes)
        .map(|(number, size)| {
            let bytes = (0..size).map(|at: u32| (at.wrapping_mul(2_654_435_761 + number) >> 13) as u8);
            (format!("web{number}.{}.data", 1_700_000_000 + number), bytes.collect())
        })
        .collect();
    let mut agent = node.connect();
    for (name, bytes) in &packages {
        assert_eq!(agent.send(name, bytes), "SEND OK");
    }
    packages
}

#[tokio::test]
async fn packages_come_in_order_with_their_bytes_and_go_when_acknowledged() {
    let site = Site::new();
    let node = site.node("");
    let sent = store_some(&node);
    let mut puller = site.stream(&node).await;
    puller.dry().await;
    assert_eq!(puller.contents(), sent);
    let numbers: Vec<Number> = puller.packages.iter().map(|package| package.head.number).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    for package in &puller.packages {
        let file = node
            .root
            .path("spool/ready")
            .join(format!("{}-{:016x}-{}", package.head.number, package.head.digest, package.head.name));
        let arrival = fs::metadata(file).and_then(|found| found.modified()).expect("it is there still");
        let arrival = arrival.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis();
        assert_eq!(u128::try_from(package.head.arrival).expect("after 1970"), arrival);
    }

    let third = numbers[2];
    puller.link.machine().ack(third);
    puller.until(|_, sign| *sign == Sign::Deleted(third)).await;
    assert_eq!(node.root.ready(), sent[3..]);
    puller.take_all().await;
    assert!(node.root.ready().is_empty());
    puller.leave().await;
    node.logs("pulled by relay: the stream has ended");
}

#[tokio::test]
async fn what_is_not_acknowledged_comes_again() {
    let site = Site::new();
    let node = site.node("");
    let sent = store_some(&node);
    let mut first = site.stream(&node).await;
    first.packages(5).await;
    let second = first.packages[1].head.number;
    first.link.machine().ack(second);
    first.until(|_, sign| *sign == Sign::Deleted(second)).await;
    // Without a word, as a cut link.
    drop(first);
    let node = node.kill_and_restart();
    let mut again = site.stream(&node).await;
    again.dry().await;
    assert_eq!(again.contents(), sent[2..]);
}

#[tokio::test]
async fn a_lone_package_comes_at_once_on_a_standing_connection() {
    let site = Site::new();
    let node = site.node("");
    let mut puller = site.stream(&node).await;
    puller.dry().await;
    let mut agent = node.connect();
    for number in 0..5 {
        let name = format!("web.{}.data", 1_700_000_000 + number);
        assert_eq!(agent.send(&name, name.as_bytes()), "SEND OK");
        puller.packages(number + 1).await;
        puller.dry().await;
        puller.take_all().await;
    }
    assert!(node.root.ready().is_empty());
}

#[tokio::test]
async fn a_damaged_package_is_set_aside_and_the_stream_goes_on() {
    let site = Site::new();
    let node = site.node("");
    let mut sent = store_some(&node);
    // One that is read whole, and one that is read as it is sent.
    for damaged in ["web2.", "web6."] {
        let entries = fs::read_dir(node.root.path("spool/ready")).expect("lists");
        let file = entries.map(|entry| entry.expect("an entry").path());
        let file =
            file.into_iter().find(|path| path.to_string_lossy().contains(damaged)).expect("it is there");
        let mut bytes = fs::read(&file).expect("reads");
        bytes[7] ^= 1;
        fs::write(&file, bytes).expect("writes");
    }
    let mut puller = site.stream(&node).await;
    puller.dry().await;
    sent.retain(|(name, _)| !name.starts_with("web2.") && !name.starts_with("web6."));
    assert_eq!(puller.contents(), sent);
    node.logs("a package is damaged");
    while puller.losses.is_empty() {
        puller.until(|_, sign| *sign == Sign::Losses).await;
    }
    let corrupt = tidegate_spool::LossReason::Corrupt.code();
    assert!(puller.losses.iter().all(|record| record.reason == corrupt), "{:?}", puller.losses);
    assert_eq!(fs::read_dir(node.root.path("spool/corrupt")).expect("lists").count(), 2);
}

#[tokio::test]
async fn a_package_that_is_too_large_is_announced_on_every_connection_and_stays() {
    let site = Site::new();
    let node = site.node("");
    let sent = store_some(&node);
    for _ in 0..2 {
        let asked = Hello { max_package: 100_000, ..stream(1) };
        let mut puller = site.dial(&node, Some(&site.central), asked).await;
        puller.grant(PLENTY);
        puller.welcome().await;
        puller.dry().await;
        let skipped: Vec<u64> = puller.skipped.iter().map(|head| head.size).collect();
        assert_eq!(skipped, [262_144, 262_145, 700_000]);
        if !puller.packages.is_empty() {
            puller.take_all().await;
        }
        puller.leave().await;
    }
    assert_eq!(node.root.ready(), sent[4..7]);
}

#[tokio::test]
async fn credit_bounds_what_comes_and_a_body_goes_on_where_it_stopped() {
    let site = Site::new();
    let node = site.node("");
    let sent = store_some(&node);
    let mut puller = site.dial(&node, Some(&site.central), stream(1)).await;
    puller.welcome().await;
    let mut granted = 0;
    while puller.packages.len() < sent.len() {
        // Less than most of the packages.
        granted = puller.link.machine().received() + 30_000;
        puller.grant(granted);
        let before = puller.link.machine().received();
        while puller.link.machine().received() == before && puller.packages.len() < sent.len() {
            puller.event().await.unwrap_or_else(|error| panic!("{error}"));
        }
        assert!(puller.link.machine().received() <= granted, "more than was granted");
    }
    assert!(granted > 0);
    assert_eq!(puller.contents(), sent);
}

#[tokio::test]
async fn the_status_tells_every_number() {
    let site = Site::new();
    let node = site.node("max_size = \"1MB\"\n");
    let sent = store_some(&node);
    assert_eq!(node.connect().send("big.1700000000.data", &vec![0; 1_000_001]), "SEND ERR (file is too big)");
    let mut puller = site.stream(&node).await;
    puller.until(|_, sign| *sign == Sign::Status).await;
    let status = puller.statuses[0].clone();
    let bytes: u64 = sent.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    assert_eq!((status.packages, status.bytes), (Some(sent.len() as u64), Some(bytes)));
    assert_eq!((status.intake_packages, status.intake_bytes), (Some(sent.len() as u64), Some(bytes)));
    assert_eq!((status.drained_packages, status.drained_bytes), (Some(0), Some(0)));
    assert_eq!(status.intake_rate, Some(sent.len() as u64));
    assert_eq!(status.drain_rate, Some(0));
    assert_eq!((status.refused, status.dropped, status.held_back), (Some(1), Some(0), Some(0)));
    assert_eq!(status.max_connections, Some(10_000));
    assert!(status.connections.is_some_and(|open| open >= 1), "{status:?}");
    let too_big = tidegate_spool::LossReason::TooBig.code();
    assert_eq!(status.limits_hit, Some(1 << too_big));
    assert!(status.free_bytes.is_some_and(|free| free > 0) && status.max_bytes > Some(0));
    assert!(status.max_packages > Some(0) && status.reserve_bytes.is_some());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let now = u64::try_from(now.as_millis()).expect("not yet");
    let recent = now - 600_000..=now + 1000;
    for time in [status.oldest_arrival, status.started, status.clock] {
        assert!(time.is_some_and(|time| recent.contains(&time)), "{status:?}");
    }
    assert!(status.cert_expiry.is_some_and(|expiry| expiry > now / 1000), "{status:?}");
}

#[tokio::test]
async fn acknowledging_what_was_never_sent_deletes_nothing() {
    let site = Site::new();
    let node = site.node("");
    let sent = store_some(&node);
    let mut first = site.stream(&node).await;
    first.dry().await;
    let last = first.last();
    drop(first);
    for upto in [
        last,
        Number { run: last.run, counter: last.counter + 1 },
        Number { run: u64::MAX, counter: u64::MAX },
    ] {
        let mut puller = site.dial(&node, Some(&site.central), stream(1)).await;
        puller.welcome().await;
        Frame::Ack(upto).write(puller.link.machine().output());
        assert_eq!(puller.farewell().await.code, CloseCode::Protocol);
    }
    assert_eq!(node.root.ready(), sent);
}

#[tokio::test]
async fn a_stop_ends_a_stream_promptly_and_keeps_what_was_acknowledged() {
    let site = Site::new();
    let mut node = site.node("");
    let sent = store_some(&node);
    let mut puller = site.stream(&node).await;
    puller.dry().await;
    let third = puller.packages[2].head.number;
    puller.link.machine().ack(third);
    puller.until(|_, sign| *sign == Sign::Deleted(third)).await;
    node.signal(Signal::TERM);
    assert_eq!(puller.farewell().await.code, CloseCode::Stopping);
    drop(puller);
    assert!(node.wait().success());
    assert_eq!(node.root.ready(), sent[3..]);
}

#[tokio::test]
async fn a_stop_ends_a_stream_that_nobody_reads() {
    let site = Site::new();
    let mut node = site.node("max_size = \"64MB\"\n");
    // More than the sockets hold, and it does not compress.
    let mut state = 1_u64;
    let noise: Vec<u8> = (0..24 << 20)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .collect();
    assert_eq!(node.connect().send("big.1700000000.data", &noise), "SEND OK");
    let mut puller = site.stream(&node).await;
    while puller.link.machine().received() < 1 << 20 {
        puller.event().await.unwrap_or_else(|error| panic!("{error}"));
    }
    node.signal(Signal::TERM);
    assert!(node.wait().success());
    assert_eq!(node.root.ready().len(), 1);
}

#[tokio::test]
async fn the_newest_stream_wins_and_gets_what_the_older_one_had_claimed() {
    let site = Site::new();
    let node = site.node("");
    let sent = store_some(&node);
    let mut first = site.stream(&node).await;
    first.dry().await;
    let mut second = site.stream(&node).await;
    assert_eq!(first.farewell().await.code, CloseCode::Replaced);
    second.dry().await;
    assert_eq!(second.contents(), sent);
    second.take_all().await;
    assert!(node.root.ready().is_empty());
}

#[tokio::test]
async fn shared_files_are_not_offered() {
    let site = Site::new();
    let node = site.node("");
    let mut asking = site.dial(&node, Some(&site.central), hello(Purpose::Shared, 1)).await;
    assert_eq!(asking.farewell().await.code, CloseCode::NotOffered);
}

#[tokio::test]
async fn listing_and_looking_take_nothing() {
    let site = Site::new();
    let node = site.node("");
    let sent = store_some(&node);
    let mut streaming = site.stream(&node).await;
    streaming.dry().await;

    let mut looking = site.dial(&node, Some(&site.other), hello(Purpose::Look, 0)).await;
    let welcome = looking.welcome().await;
    assert_eq!(welcome.epoch, 1);
    assert_eq!(welcome.oldest, Some(streaming.packages[0].head.number));
    assert_eq!(welcome.name, "test");
    looking.leave().await;

    let mut listing = site.dial(&node, Some(&site.central), hello(Purpose::List, 1)).await;
    listing.welcome().await;
    listing.link.machine().list();
    listing.until(|_, sign| *sign == Sign::ListingEnd).await;
    let names: Vec<&str> = sent.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(String::from_utf8(listing.names.clone()).expect("names"), names.join("\n"));
    listing.leave().await;
    streaming.take_all().await;
    assert!(node.root.ready().is_empty());
}

#[tokio::test]
async fn a_puller_that_never_acknowledges_holds_nobody_up() {
    let site = Site::new();
    let node = site.node("");
    let sent = store_some(&node);
    let mut idle = site.dial(&node, Some(&site.central), stream(1)).await;
    idle.grant(1024 + 1);
    idle.welcome().await;
    idle.packages(1).await;
    // Intake goes on, and so does who comes next.
    assert_eq!(node.connect().send("new.1700000100.data", b"new"), "SEND OK");
    let mut next = site.stream(&node).await;
    next.packages(sent.len() + 1).await;
    next.take_all().await;
    assert!(node.root.ready().is_empty());
}

#[tokio::test]
async fn a_backlog_flows_while_agents_send() {
    let site = Site::new();
    let node = site.node("");
    let name = |number: usize| format!("web{}.{}.data", number % 7, 1_700_000_000 + number);
    let body = |number: usize| format!("package {number} ").repeat(200).into_bytes();
    let mut agent = node.connect();
    (0..60).for_each(|number| assert_eq!(agent.send(&name(number), &body(number)), "SEND OK"));
    let mut puller = site.stream(&node).await;
    let sending = tokio::task::spawn_blocking(move || {
        (60..120).for_each(|number| assert_eq!(agent.send(&name(number), &body(number)), "SEND OK"));
    });
    while puller.packages.len() < 120 {
        puller.until(|_, sign| *sign == Sign::Package).await;
        if puller.packages.len() % 20 == 0 {
            let last = puller.last();
            puller.link.machine().ack(last);
        }
    }
    sending.await.expect("sends");
    let expected: Vec<_> = (0..120).map(|number| (name(number), body(number))).collect();
    assert!(puller.contents() == expected, "other packages, or another order");
    let last = puller.last();
    if puller.deleted != Some(last) {
        puller.until(|_, sign| *sign == Sign::Deleted(last)).await;
    }
    assert!(node.root.ready().is_empty());
}

#[tokio::test]
async fn a_puller_that_breaks_the_protocol_hears_so() {
    let site = Site::new();
    let node = site.node("");
    let mut puller = site.stream(&node).await;
    Frame::LossAck(Number { run: 1, counter: 1 }).write(puller.link.machine().output());
    assert_eq!(puller.farewell().await.code, CloseCode::Protocol);
    node.logs("the stream has broken off");
}

#[tokio::test]
async fn losses_are_told_until_they_are_acknowledged() {
    let site = Site::new();
    let node = site.node("max_size = 1000\n");
    assert_eq!(node.connect().send("a.1700000000.data", &[0; 1001]), "SEND ERR (file is too big)");
    let told = async || {
        let mut puller = site.stream(&node).await;
        puller.until(|_, sign| *sign == Sign::Losses).await;
        puller
    };
    let unacknowledged = told().await;
    assert_eq!(unacknowledged.losses.len(), 1);
    drop(unacknowledged);
    let mut puller = told().await;
    let record = puller.losses[0].clone();
    assert_eq!((record.packages, record.bytes, record.class.as_str()), (1, 1001, "data"));
    puller.link.machine().ack_losses(record.number);
    // What is new comes alone, on the same connection and on the next.
    assert_eq!(node.connect().send("b.1700000001.data", &[0; 1002]), "SEND ERR (file is too big)");
    puller.until(|_, sign| *sign == Sign::Losses).await;
    assert_eq!(puller.losses[1..].iter().map(|record| record.bytes).collect::<Vec<_>>(), [1002]);
    puller.leave().await;
    node.logs("pulled by relay: the stream has ended");
    let again = told().await;
    assert_eq!(again.losses.iter().map(|record| record.bytes).collect::<Vec<_>>(), [1002]);
}
