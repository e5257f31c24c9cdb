//! Keep-alive, rests and rates, with times that are given.

use tidegate_proto::relay::frame::Frame;
use tidegate_proto::relay::{
    CloseCode, Farewell, Hello, LossRecord, Node, NodeEvent, Puller, PullerEvent, Purpose, Status,
};
use tidegate_proto::{Close, Machine, Time};

use crate::pair::{Pair, hello, number, package, pump, welcome};
use crate::wire::{frames, node, puller, record, said, stream};

/// Something, and when.
type At<T> = (Time, T);

fn secs(seconds: u64) -> Time {
    Time::from_secs(seconds)
}

/// A silent time of 9 s, whose third is 3 s.
fn short(purpose: Purpose) -> Hello {
    Hello { keep_alive: secs(9), ..hello(purpose) }
}

/// Drives a machine to which nothing comes through its deadlines, until it gives up or the time is over. What it said,
/// and when.
fn alone(machine: &mut impl Machine, until: Time) -> (Vec<At<Frame>>, Option<At<Close>>) {
    let mut all = Vec::new();
    loop {
        let Some(now) = machine.deadline().filter(|now| *now <= until) else { return (all, None) };
        match machine.step(&[], now) {
            Ok(step) => assert!(step.event.is_none()),
            Err(close) => return (all, Some((now, close))),
        }
        all.extend(said(machine).into_iter().map(|frame| (now, frame)));
    }
}

#[test]
fn a_silent_peer_is_pinged_and_then_given_up() {
    let mut puller = Puller::new(short(Purpose::Stream), Time::ZERO);
    pump(&mut puller, &mut frames(&[Frame::Welcome(welcome())]), 1, secs(0));
    said(&mut puller);
    let (said_alone, end) = alone(&mut puller, secs(100));
    assert_eq!(said_alone, [(secs(3), Frame::Ping(1)), (secs(6), Frame::Ping(2))]);
    assert_eq!(end, Some((secs(9), Close::Silent(secs(9)))));

    let mut node = Node::new(secs(5), Time::ZERO);
    pump(&mut node, &mut frames(&[Frame::Hello(short(Purpose::Stream))]), 1, secs(1));
    node.welcome(welcome(), secs(1));
    said(&mut node);
    let (said_alone, end) = alone(&mut node, secs(100));
    assert_eq!(said_alone, [(secs(4), Frame::Ping(1)), (secs(7), Frame::Ping(2))]);
    assert_eq!(end, Some((secs(10), Close::Silent(secs(9)))));
}

#[test]
fn two_quiet_ends_keep_each_other_alive() {
    let mut pair = Pair::new(short(Purpose::Stream), vec![]);
    pair.run();
    let wire = pair.wire;
    pair.wait(secs(60));
    let said = (pair.wire - wire) / 12;
    assert!((20..=40).contains(&said), "the node's PING or PONG, or both, every 3 s: {said}");
}

#[test]
fn whoever_speaks_needs_no_ping() {
    let mut puller = puller(Purpose::Stream);
    let mut bytes = stream(&record(1, b"x"));
    pump(&mut puller, &mut bytes, usize::MAX, secs(1));
    puller.decoder_granted(secs(1));
    pump(&mut puller, &mut bytes, usize::MAX, secs(1));
    puller.step(&[], secs(2)).unwrap();
    puller.ack(number(1));
    puller.step(&[], secs(3)).unwrap();
    assert_eq!(said(&mut puller), [Frame::Ack(number(1))]);
    // Said at 3 s as far as it knows, of a keep-alive time of 10 s.
    puller.step(&[], secs(6)).unwrap();
    assert_eq!(said(&mut puller), []);
    puller.step(&[], secs(7)).unwrap();
    assert_eq!(said(&mut puller), [Frame::Ping(1)]);
}

#[test]
fn an_owner_that_was_busy_looks_before_it_gives_up() {
    let mut puller = puller(Purpose::Stream);
    // Nothing was read for a minute. The first step without input proves nothing …
    assert!(puller.step(&[], secs(60)).unwrap().event.is_none());
    assert!(puller.deadline().is_some_and(|deadline| deadline > secs(60)));
    // … what had been waiting does.
    let mut bytes = frames(&[Frame::Ping(1)]);
    assert_eq!(pump(&mut puller, &mut bytes, usize::MAX, secs(60)).1, None);
    let (_, end) = alone(&mut puller, secs(200));
    assert_eq!(end, Some((secs(70), Close::Silent(secs(10)))));
}

#[test]
fn who_waits_for_its_owner_does_not_give_up() {
    let mut puller = puller(Purpose::Stream);
    let mut bytes = stream(&record(1, b"x"));
    let (events, _) = pump(&mut puller, &mut bytes, usize::MAX, secs(1));
    assert_eq!(events, [PullerEvent::DecoderNeeded]);
    let (said_alone, end) = alone(&mut puller, secs(60));
    assert_eq!((said_alone.len(), end), (18, None), "it still gives signs of life");
    puller.decoder_granted(secs(60));
    let (events, close) = pump(&mut puller, &mut bytes, usize::MAX, secs(60));
    assert_eq!((events.len(), close), (4, None));
}

#[test]
fn the_keep_alive_time_has_bounds() {
    for (given, bound) in [(0, 1), (86_400, 300)] {
        let hello = Hello { keep_alive: secs(given), ..hello(Purpose::Stream) };
        let mut puller = Puller::new(hello.clone(), Time::ZERO);
        assert!(matches!(&said(&mut puller)[..], [Frame::Hello(said)] if said.keep_alive == secs(bound)));
        let mut node = Node::new(secs(5), Time::ZERO);
        pump(&mut node, &mut frames(&[Frame::Hello(hello)]), 1, Time::ZERO);
        node.welcome(welcome(), Time::ZERO);
        assert_eq!(alone(&mut node, secs(1000)).1, Some((secs(bound), Close::Silent(secs(bound)))));
    }
}

#[test]
fn an_answer_must_come_in_the_keep_alive_time() {
    let mut puller = Puller::new(hello(Purpose::Stream), Time::ZERO);
    said(&mut puller);
    assert_eq!(
        alone(&mut puller, secs(60)),
        (vec![], Some((secs(10), Close::NoAnswer { request: "HELLO" })))
    );
}

#[test]
fn what_the_owner_forgets_to_flush_goes_by_itself() {
    let mut node = node(Purpose::Stream);
    pump(&mut node, &mut frames(&[Frame::Credit(1 << 20)]), 1, Time::ZERO);
    let package = package(1, &[b'x'; 3000]);
    node.begin(&package.head, Time::ZERO);
    node.write(&package.body, Time::ZERO);
    assert!(node.output().is_empty(), "the compressor waits for more");
    let at = node.deadline().unwrap();
    assert!(at <= Time::from_millis(20));
    node.step(&[], at).unwrap();
    assert!(!node.output().is_empty());
    // The zstd frame stays open: it was not said that there is nothing more.
    node.output().clear();
    assert!(node.deadline().unwrap() > secs(1));
}

#[test]
fn whoever_filled_the_output_the_owner_hears_when_there_is_room_again() {
    let mut node = node(Purpose::Stream);
    let mut input = frames(&[Frame::Credit(1 << 20)]);
    assert_eq!(pump(&mut node, &mut input, usize::MAX, Time::ZERO).0, [NodeEvent::Room]);
    let record = |counter| LossRecord {
        number: number(counter),
        class: "a class whose name is a long one".into(),
        reason: 1,
        packages: 2,
        bytes: 3,
        first: 4,
        last: 5,
    };
    let records: Vec<_> = (1..=node.losses_room() as u64).map(record).collect();
    node.losses(&records);
    assert!(!node.may_begin(Time::ZERO), "the output is full");
    node.output().clear();
    assert_eq!(pump(&mut node, &mut input, usize::MAX, Time::ZERO).0, [NodeEvent::Room]);
}

#[test]
fn a_rest_ends_the_compressed_frame() {
    let mut pair = Pair::new(hello(Purpose::Stream), vec![package(1, &[b'x'; 65_536])]);
    pair.run();
    for _ in 0..9 {
        pair.wait(Time::from_millis(20));
        assert!(!pair.seen.contains(&"freed"));
    }
    pair.wait(Time::from_millis(30));
    assert!(pair.seen.contains(&"freed"));
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64 ^ seed;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn a_rate_is_kept_to_the_byte() {
    for (rate, burst) in [(20_000, 65_536), (1_000_000, 250_000)] {
        let limited = Hello { rate, ..hello(Purpose::Stream) };
        let store: Vec<_> = (1..12).map(|counter| package(counter, &noise(counter, 90_000))).collect();
        let mut pair = Pair::new(limited, store.clone());
        pair.window = 16 << 20;
        let mut steps = 0;
        while pair.got.last().is_none_or(|last| *last != store[10]) {
            pair.run();
            let allowed = burst + rate * pair.now.as_millis() as u64 / 1000;
            assert!(pair.wire <= allowed, "{} bytes after {:?}", pair.wire, pair.now);
            // And never more than what a twentieth of a second gives behind.
            assert!(
                pair.wire + rate / 10 >= allowed.min(990_000),
                "{} bytes after {:?}",
                pair.wire,
                pair.now
            );
            pair.now += Time::from_millis(10);
            steps += 1;
            assert!(steps < 10_000);
        }
        assert_eq!(pair.got, store);
    }
}

/// A node whose output is held to so many bytes a second.
fn held_to(rate: u64) -> Node {
    let limited = Hello { rate, ..hello(Purpose::Stream) };
    let mut node = Node::new(secs(5), Time::ZERO);
    pump(&mut node, &mut frames(&[Frame::Hello(limited)]), usize::MAX, Time::ZERO);
    node.welcome(welcome(), Time::ZERO);
    node
}

#[test]
fn what_comes_by_itself_does_not_queue_up_behind_a_rate() {
    let mut node = held_to(1);
    let status = Status { packages: Some(1), bytes: Some(2), ..Status::default() };
    // A month of reports, and of time for signs of life.
    for ten in 0..30 * 8640 {
        let now = secs(10 * ten);
        node.status(&status);
        pump(&mut node, &mut frames(&[Frame::Ping(ten)]), usize::MAX, now);
        node.output().clear();
    }
    node.close(Farewell::new(CloseCode::Stopping, ""));
    assert!(node.output().len() < 600_000, "{} bytes wait", node.output().len());
}

/// Hours of backlog: the owner fills the output whenever there is room, and leaves none for what comes by itself.
#[test]
fn a_line_that_is_always_behind_carries_the_newest_status_all_the_same() {
    let rate = 100_000;
    let mut node = held_to(rate);
    pump(&mut node, &mut frames(&[Frame::Credit(1 << 20)]), usize::MAX, Time::ZERO);
    let package = package(1, &noise(0, 900_000));
    node.begin(&package.head, Time::ZERO);
    let (mut at, mut wire) = (0, Vec::new());
    let status = |packages| Status { packages: Some(packages), ..Status::default() };
    for tick in 0..6 * 20 {
        let now = Time::from_millis(50 * tick);
        // As a driver does that has just written all there was.
        wire.append(node.output());
        while node.room(now) > 0 {
            let room = node.room(now).min(1000);
            node.write(&package.body[at..at + room], now);
            at += room;
        }
        if tick % 20 == 19 {
            node.status(&status(2 * tick));
            node.status(&status(2 * tick + 1));
        }
        pump(&mut node, &mut Vec::new(), usize::MAX, now);
    }
    assert!(at < package.body.len(), "the line was always full");
    // What is cut in the middle comes whole with the last words.
    node.close(Farewell::new(CloseCode::Stopping, ""));
    node.output().splice(..0, wire);
    let told = said(&mut node).into_iter().filter_map(|frame| match frame {
        Frame::Status(status) => status.packages,
        _ => None,
    });
    let told: Vec<_> = told.collect();
    assert!(
        told.len() >= 4 && told.iter().all(|packages| packages % 2 == 1),
        "the newest of each two: {told:?}"
    );
}

#[test]
fn a_rate_does_not_cut_the_last_words() {
    let mut node = held_to(1000);
    let mut input = frames(&[Frame::Credit(1 << 20)]);
    assert_eq!(pump(&mut node, &mut input, usize::MAX, Time::ZERO).0, [NodeEvent::Room]);
    let package = package(1, &noise(0, 200_000));
    node.begin(&package.head, Time::ZERO);
    let mut at = 0;
    while node.room(Time::ZERO) > 0 {
        let room = node.room(Time::ZERO);
        node.write(&package.body[at..at + room], Time::ZERO);
        at += room;
    }
    assert!(node.output().len() <= 65_536);
    let farewell = Farewell::new(CloseCode::Stopping, "");
    node.close(farewell.clone());
    assert_eq!(said(&mut node).pop(), Some(Frame::Close(farewell)));
}
