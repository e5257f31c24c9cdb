//! What a node does not take from a puller.

use tidegate_proto::relay::frame::Frame;
use tidegate_proto::relay::{Hello, LossRecord, Node, NodeEvent, Purpose};
use tidegate_proto::{Close, Machine, Time};

use crate::pair::{hello, number, package, pump};
use crate::wire::{assert_violation, frames, node, raw, said};

const NOW: Time = Time::ZERO;

fn hear(node: &mut Node, bytes: &[u8], chunk: usize) -> (Vec<NodeEvent>, Option<Close>) {
    pump(node, &mut bytes.to_vec(), chunk, NOW)
}

/// A node that has sent the packages 2 and 4, and of 6 only a part.
fn sender() -> Node {
    let mut node = node(Purpose::Stream);
    assert_eq!(hear(&mut node, &frames(&[Frame::Credit(3 * 1024 + 13)]), 1).0, [NodeEvent::Room]);
    for counter in [2, 4, 6] {
        let package = package(counter, b"12345");
        node.begin(&package.head, NOW);
        let room = node.room(NOW).min(5);
        node.write(&package.body[..room], NOW);
    }
    assert_eq!((node.in_flight(), node.room(NOW)), (2, 0));
    node.output().clear();
    node
}

fn refused(bytes: &[u8], text: &str) {
    for chunk in [1, usize::MAX] {
        let mut node = sender();
        let (events, close) = hear(&mut node, bytes, chunk);
        assert!(!events.iter().any(|event| matches!(event, NodeEvent::Acked(_))), "nothing is deleted");
        assert_violation(&mut node, close, text);
    }
}

#[test]
fn only_a_hello_opens() {
    let mut unknown = frames(&[Frame::Hello(hello(Purpose::Stream))]);
    unknown[6] = 9;
    let mut old = frames(&[Frame::Hello(hello(Purpose::Stream))]);
    old[5] = 0;
    let mut label = frames(&[Frame::Hello(hello(Purpose::Stream))]);
    label[4 + 40] = 65;
    let mut unreadable = frames(&[Frame::Hello(hello(Purpose::Stream))]);
    unreadable[4 + 41] = b'\n';
    for (bytes, text) in [
        (frames(&[Frame::Credit(1)]), "CREDIT came out of turn"),
        (frames(&[Frame::Ping(1)]), "PING came out of turn"),
        (frames(&[Frame::List]), "LIST came out of turn"),
        (frames(&[Frame::Dry]), "DRY came out of turn"),
        (b"LS\n".to_vec(), "frame 0x4c is not known"),
        (b"SEND <a> SIZE 3\n".to_vec(), "frame 0x53 is not known"),
        (raw(0x01, &[0; 513]), "HELLO has a payload of 513 bytes"),
        (raw(0x01, &[0; 41]), "HELLO has a payload of 41 bytes"),
        (unknown, "HELLO has a purpose that is not known"),
        (old, "version 0 is not spoken"),
        (label, "HELLO holds a text that is too long"),
        (unreadable, "HELLO holds a text that cannot be read"),
    ] {
        let mut node = Node::new(Time::from_secs(5), NOW);
        let mut input = bytes;
        let (events, close) = pump(&mut node, &mut input, 1, NOW);
        if close.is_some() {
            assert_eq!(events, []);
            assert_violation(&mut node, close, text);
        } else {
            assert_eq!(input.len(), 0, "{text} waits for more");
            assert_eq!(text, "frame 0x4c is not known");
        }
    }
}

#[test]
fn a_newer_puller_may_say_more() {
    let mut bytes = frames(&[Frame::Hello(hello(Purpose::Look))]);
    bytes[5] = 2;
    bytes.extend(b"and more");
    bytes[3] += 8;
    let mut node = Node::new(Time::from_secs(5), NOW);
    assert_eq!(hear(&mut node, &bytes, 1), (vec![NodeEvent::Hello(hello(Purpose::Look))], None));
}

#[test]
fn nothing_is_read_before_the_owner_has_answered() {
    let mut node = Node::new(Time::from_secs(5), NOW);
    let mut input = frames(&[Frame::Hello(hello(Purpose::Stream)), Frame::Ack(number(1))]);
    pump(&mut node, &mut input, usize::MAX, NOW);
    assert!(node.blocked());
    assert_eq!((input.len(), node.deadline()), (20, None));
    node.refuse(tidegate_proto::relay::Farewell::new(tidegate_proto::relay::CloseCode::NoRights, "no"));
    assert!(matches!(&said(&mut node)[..], [Frame::Close(_)]));
    assert!(matches!(node.step(&input, NOW), Err(Close::Closed(_))));
}

#[test]
fn acknowledgements_of_what_was_not_sent() {
    for counter in [0, 1, 3, 5, 6, 7, u64::MAX] {
        refused(&frames(&[Frame::Ack(number(counter))]), "is acknowledged, which was not sent whole");
    }
    let mut other_run = number(4);
    other_run.run = 8;
    refused(&frames(&[Frame::Ack(other_run)]), "is acknowledged");
}

#[test]
fn acknowledgements_are_cumulative_and_grow() {
    for (first, second, left) in [(2, Some(4), 0), (4, None, 0), (2, None, 1)] {
        let mut node = sender();
        let acks: Vec<_> = [Some(first), second].into_iter().flatten().map(number).collect();
        let bytes: Vec<_> = acks.iter().map(|ack| Frame::Ack(*ack)).collect();
        let (events, close) = hear(&mut node, &frames(&bytes), 1);
        assert_eq!((events, close), (acks.into_iter().map(NodeEvent::Acked).collect(), None));
        assert_eq!(node.in_flight(), left);
        let (_, close) = hear(&mut node, &frames(&[Frame::Ack(number(first))]), 1);
        assert_violation(&mut node, close, "is acknowledged");
    }
}

#[test]
fn loss_acknowledgements_of_what_was_not_sent() {
    refused(&frames(&[Frame::LossAck(number(1))]), "loss record");
    let mut node = sender();
    let loss = |counter| LossRecord {
        number: number(counter),
        class: "data".into(),
        reason: 1,
        packages: 1,
        bytes: 1,
        first: 1,
        last: 1,
    };
    node.losses(&[loss(1), loss(3)]);
    assert_eq!(said(&mut node), [Frame::Losses(vec![loss(1), loss(3)])]);
    assert_eq!(node.losses_room(), 4094);
    let (events, _) = hear(&mut node, &frames(&[Frame::LossAck(number(3))]), 1);
    assert_eq!((events, node.losses_room()), (vec![NodeEvent::LossesAcked(number(3))], 4096));
    let (_, close) = hear(&mut node, &frames(&[Frame::LossAck(number(1))]), 1);
    assert_violation(&mut node, close, "loss record");
}

#[test]
fn credit_only_grows() {
    for credit in [0, 1, 3 * 1024 + 13] {
        refused(&frames(&[Frame::Credit(credit)]), "is no more than was granted before");
    }
    let mut node = sender();
    let (events, close) = hear(&mut node, &frames(&[Frame::Credit(u64::MAX)]), 1);
    assert_eq!((events, close), (vec![NodeEvent::Room], None));
    assert_eq!(node.room(NOW), 2, "the rest of the body");
}

#[test]
fn frames_out_of_turn() {
    refused(&frames(&[Frame::Hello(hello(Purpose::Stream))]), "HELLO came out of turn");
    refused(&frames(&[Frame::List]), "LIST came out of turn");
    refused(&frames(&[Frame::Dry]), "DRY came out of turn");
    refused(&frames(&[Frame::Pong(1)]), "PONG answers a PING that was not sent");
    refused(&raw(0x03, &[0; 17]), "ACK has a payload of 17 bytes");
    refused(&raw(0x7f, b""), "frame 0x7f is not known");
    for purpose in [Purpose::List, Purpose::Look] {
        for frame in [Frame::Credit(1), Frame::Ack(number(1)), Frame::LossAck(number(1))] {
            let mut node = node(purpose);
            let (_, close) = hear(&mut node, &frames(&[frame]), 1);
            assert_violation(&mut node, close, "came out of turn");
        }
    }
    let mut node = node(Purpose::List);
    let (events, close) = hear(&mut node, &frames(&[Frame::List, Frame::List]), 1);
    assert!(events.contains(&NodeEvent::List));
    assert_violation(&mut node, close, "LIST came out of turn");
}

#[test]
fn a_slow_hello_is_not_waited_for() {
    let bytes = frames(&[Frame::Hello(hello(Purpose::Stream))]);
    let mut node = Node::new(Time::from_secs(5), NOW);
    for (at, byte) in bytes[..40].iter().enumerate() {
        let now = Time::from_millis(at as u64 * 100);
        assert_eq!(pump(&mut node, &mut vec![*byte], 1, now), (vec![], None));
    }
    assert_eq!(node.deadline(), Some(Time::from_secs(5)));
    assert_eq!(node.step(&[], Time::from_secs(5)), Err(Close::NoHello));
}

#[test]
fn in_flight_is_bounded_whatever_the_credit() {
    let greedy = Hello { max_package: 0, ..hello(Purpose::Stream) };
    let mut node = Node::new(Time::from_secs(5), NOW);
    pump(&mut node, &mut frames(&[Frame::Hello(greedy)]), usize::MAX, NOW);
    node.welcome(crate::pair::welcome(), NOW);
    hear(&mut node, &frames(&[Frame::Credit(u64::MAX)]), 1);
    let (mut counter, mut wire) = (0, 0);
    while node.may_begin(NOW) || !node.output().is_empty() {
        wire += node.output().len();
        node.output().clear();
        while node.may_begin(NOW) {
            counter += 1;
            node.begin(&package(counter, b"").head, NOW);
        }
        assert!(node.output().len() < 300_000);
    }
    assert_eq!((counter, node.in_flight()), (65_536, 65_536));
    assert!(wire > 65_536, "{wire}");
    let (events, _) = hear(&mut node, &frames(&[Frame::Ack(number(1000))]), 1);
    assert_eq!(events, [NodeEvent::Acked(number(1000)), NodeEvent::Room]);
}

#[test]
fn a_ping_flood_is_answered_within_bounds() {
    let mut node = sender();
    let (_, close) = hear(&mut node, &frames(&vec![Frame::Ping(1); 100_000]), usize::MAX);
    assert_eq!(close, None);
    assert!(node.blocked() && node.output().len() < 600_000, "{}", node.output().len());
}
