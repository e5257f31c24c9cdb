//! The two ends against each other.

use tidegate_proto::Time;
use tidegate_proto::relay::Purpose;

use crate::pair::{Pair, hello, number, package};

#[test]
fn what_is_sent_arrives_in_order_and_is_deleted() {
    for chunk in [1, 2, 3, 7, 1000, usize::MAX] {
        let store: Vec<_> =
            (1..40).map(|counter| package(counter, &vec![counter as u8; counter as usize * 97])).collect();
        let mut pair = Pair::new(hello(Purpose::Stream), store.clone());
        pair.chunk = chunk;
        pair.run();
        assert_eq!(pair.got, store);
        assert_eq!(pair.deleted, Some(number(39)));
        assert_eq!(pair.seen, ["needed", "dry"]);
        assert_eq!(pair.node.in_flight(), 0);
        pair.wait(Time::from_millis(250));
        assert_eq!(pair.seen, ["needed", "dry", "freed"]);
    }
}

#[test]
fn a_context_that_was_freed_is_made_again() {
    let mut pair = Pair::new(hello(Purpose::Stream), vec![package(1, b"one")]);
    pair.run();
    assert_eq!(pair.seen, ["needed", "freed", "dry"], "a lone package keeps nothing");
    pair.wait(Time::from_millis(300));
    pair.store.push_back(package(2, b"two"));
    pair.run();
    assert_eq!(pair.seen[3..], ["needed", "freed", "dry"]);
    pair.store.push_back(package(3, b"three"));
    pair.run();
    assert_eq!(pair.seen[6..], ["needed", "dry"], "what follows soon may be followed soon");
    pair.wait(Time::from_millis(300));
    assert_eq!(pair.seen[8..], ["freed"]);
    assert_eq!(pair.got, [package(1, b"one"), package(2, b"two"), package(3, b"three")]);
}

#[test]
fn a_decoder_is_given_back_when_asked_wherever_the_stream_stands() {
    let body: Vec<u8> = (0..100_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let store = vec![package(1, &body), package(2, &body)];
    let mut pair = Pair::new(hello(Purpose::Stream), store.clone());
    pair.granting = false;
    for total in 1..=9 {
        pair.puller.grant(total * 100_000);
        pair.run();
        pair.puller.yield_decoder();
        pair.run();
    }
    assert_eq!(pair.got, store);
    assert_eq!(pair.seen.iter().filter(|seen| **seen == "freed").count(), 9, "{:?}", pair.seen);
}

#[test]
fn credit_cuts_bodies_and_even_frames_inside_them() {
    let body: Vec<u8> = (0..50_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let store = vec![package(1, &body), package(2, b""), package(3, b"small")];
    let mut pair = Pair::new(hello(Purpose::Stream), store.clone());
    pair.granting = false;
    for total in 1..=41 {
        pair.puller.grant(total * 5_000);
        pair.run();
        assert_eq!(pair.puller.received(), (total * 5_000).min(203_077), "all the credit is used");
        pair.wait(Time::from_millis(300));
    }
    assert_eq!(pair.got, store);
    assert_eq!(pair.seen.iter().filter(|seen| **seen == "freed").count(), 41);
}
