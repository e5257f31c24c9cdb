//! What a node that shares files does not take from a puller.

use tidegate_proto::relay::frame::Frame;
use tidegate_proto::relay::{
    Node, NodeEvent, OutcomeCode, Purpose, SharedAnswer, SharedOutcome, SharedRequest,
};
use tidegate_proto::{Close, Machine, Time};

use super::name;
use crate::pair::{hello, number, pump};
use crate::wire::{assert_violation, frames, node, raw, said};

const NOW: Time = Time::ZERO;

fn hear(node: &mut Node, bytes: &[u8], chunk: usize) -> (Vec<NodeEvent>, Option<Close>) {
    pump(node, &mut bytes.to_vec(), chunk, NOW)
}

/// However the bytes are cut, the node closes over them without a word to its owner, and says why.
fn refused(bytes: &[u8], text: &str) {
    for chunk in [1, 7, usize::MAX] {
        let mut node = node(Purpose::Shared);
        let (events, close) = hear(&mut node, bytes, chunk);
        assert_eq!(events, [], "{text}");
        assert_violation(&mut node, close, text);
    }
}

fn place(size: u64) -> SharedRequest {
    SharedRequest::Place { name: name("a.conf"), expected: None, digest: [1; 32], size }
}

fn asked(requests: &[SharedRequest]) -> Vec<u8> {
    frames(&requests.iter().cloned().map(Frame::Ask).collect::<Vec<_>>())
}

fn every_request() -> Vec<SharedRequest> {
    vec![
        SharedRequest::Summary,
        SharedRequest::LookInto(vec![1]),
        SharedRequest::Fetch { name: name("a.conf"), digest: [1; 32], offset: 0 },
        place(5),
        SharedRequest::Part(vec![1]),
        SharedRequest::Remove { name: name("a.conf"), expected: [1; 32] },
    ]
}

#[test]
fn requests_where_they_have_no_business() {
    for request in every_request() {
        let frame = Frame::Ask(request);
        let (bytes, text) =
            (frames(std::slice::from_ref(&frame)), format!("{} came out of turn", frame.kind().name));
        for purpose in [Purpose::Stream, Purpose::List, Purpose::Look] {
            let mut node = node(purpose);
            // The header is enough: nothing of the payload is kept.
            let (events, close) = hear(&mut node, &bytes[..4], 1);
            assert_eq!(events, []);
            assert_violation(&mut node, close, &text);
        }
        let mut node = Node::new(Time::from_secs(5), NOW);
        let (events, close) = hear(&mut node, &bytes[..4], 1);
        assert_eq!(events, []);
        assert_violation(&mut node, close, &text);
    }
}

#[test]
fn other_frames_on_a_connection_for_shared_files() {
    for frame in [
        Frame::Hello(hello(Purpose::Shared)),
        Frame::Credit(1),
        Frame::Ack(number(1)),
        Frame::LossAck(number(1)),
        Frame::List,
        Frame::Yield,
        Frame::Dry,
        Frame::Answer(SharedAnswer::Buckets(Box::new([0; 1024]))),
        Frame::Answer(SharedAnswer::Outcome(SharedOutcome::done())),
    ] {
        let text = format!("{} came out of turn", frame.kind().name);
        refused(&frames(&[frame]), &text);
    }
    refused(&frames(&[Frame::Pong(1)]), "PONG answers a PING that was not sent");
    refused(&raw(0x0c, b""), "frame 0x0c is not known");
}

#[test]
fn payloads_of_a_wrong_length() {
    for (code, length, text) in [
        (0x06, 1, "SUMMARY has a payload of 1 bytes, it may have 0 to 0"),
        (0x07, 0, "LOOK_INTO has a payload of 0 bytes"),
        (0x07, 2050, "LOOK_INTO has a payload of 2050 bytes, it may have 2 to 2048"),
        (0x08, 41, "FETCH has a payload of 41 bytes"),
        (0x08, 252, "FETCH has a payload of 252 bytes, it may have 42 to 251"),
        (0x09, 74, "PLACE has a payload of 74 bytes"),
        (0x09, 285, "PLACE has a payload of 285 bytes, it may have 75 to 284"),
        (0x0a, 0, "PART has a payload of 0 bytes"),
        (0x0a, 16_385, "PART has a payload of 16385 bytes, it may have 1 to 16384"),
        (0x0b, 33, "REMOVE has a payload of 33 bytes"),
        (0x0b, 244, "REMOVE has a payload of 244 bytes, it may have 34 to 243"),
    ] {
        refused(&raw(code, &vec![0; length])[..4], text);
    }
    refused(&raw(0x07, &[0, 1, 2]), "LOOK_INTO ends too early");
}

#[test]
fn buckets_that_do_not_exist_or_come_again() {
    for buckets in [&[1024][..], &[0xffff], &[0, 1024], &[5, 5], &[5, 4], &[0, 1, 2, 1]] {
        let payload: Vec<u8> = buckets.iter().flat_map(|bucket: &u16| bucket.to_be_bytes()).collect();
        refused(&raw(0x07, &payload), "LOOK_INTO holds buckets that do not grow, or that do not exist");
    }
    let all = SharedRequest::LookInto((0..1024).collect());
    let mut node = node(Purpose::Shared);
    assert_eq!(hear(&mut node, &asked(std::slice::from_ref(&all)), 1), (vec![NodeEvent::Shared(all)], None));
}

#[test]
fn names_that_no_file_can_have() {
    let before = [("FETCH", 0x08, 40), ("PLACE", 0x09, 73), ("REMOVE", 0x0b, 32)];
    for (frame, code, fixed) in before {
        for (name, text) in [
            (&b"."[..], "the name stands for a directory"),
            (b"..", "the name stands for a directory"),
            (b"../../etc/passwd", "the name holds the byte '/'"),
            (b"a\\b", "the name holds the byte '\\x5c'"),
            (b"a\nb", "the name holds the byte '\\x0a'"),
            (b"a\0", "the name holds the byte '\\x00'"),
            (b"*.conf", "the name holds the byte '*'"),
            (b"a ", "the name begins or ends with a blank"),
        ] {
            let payload = [&vec![0; fixed][..], &[name.len() as u8], name].concat();
            refused(&raw(code, &payload), &format!("{frame}: {text}"));
        }
        // Its length leaves bytes over, or asks for more than there are; none at all is too short for the frame.
        refused(&raw(code, &[&vec![0; fixed][..], &[1], b"ab"].concat()), &format!("{frame} is too long"));
        refused(&raw(code, &[&vec![0; fixed][..], &[3], b"ab"].concat()), &format!("{frame} ends too early"));
        refused(
            &raw(code, &[&vec![0; fixed][..], &[0], b"ab"].concat()),
            &format!("{frame}: the name is empty"),
        );
    }
    let mut neither = asked(&[place(1)]);
    neither[4] = 2;
    refused(&neither, "PLACE says neither that there is a digest nor that there is none");
}

#[test]
fn more_bytes_than_the_file_has() {
    let begin = |node: &mut Node, have| {
        let (events, _) = hear(node, &asked(&[place(100_000)]), 1);
        assert_eq!(events.len(), 1);
        node.answer(SharedAnswer::Outcome(SharedOutcome::go_on(have)));
        said(node);
    };
    for (have, length) in [(0, None), (99_990, Some(11)), (99_999, Some(2)), (90_000, Some(16_384))] {
        let mut node = node(Purpose::Shared);
        begin(&mut node, have);
        let Some(length) = length else { continue };
        let bytes = asked(&[SharedRequest::Part(vec![0; length])]);
        let (events, close) = hear(&mut node, &bytes, 1);
        assert_eq!(events, []);
        assert_violation(
            &mut node,
            close,
            "more bytes came than the 100000 of the file that is being placed",
        );
    }
    let mut node = node(Purpose::Shared);
    begin(&mut node, 99_990);
    let part = SharedRequest::Part(vec![0; 10]);
    assert_eq!(hear(&mut node, &asked(std::slice::from_ref(&part)), 1).0, [NodeEvent::Shared(part)]);
}

#[test]
fn nothing_is_read_while_a_request_is_unanswered() {
    for request in every_request().into_iter().filter(|request| !matches!(request, SharedRequest::Part(_))) {
        let mut node = node(Purpose::Shared);
        let flood = vec![request.clone(); 10_000];
        let mut input = asked(&flood);
        let one = input.len() / flood.len();
        let (events, close) = pump(&mut node, &mut input, usize::MAX, NOW);
        assert_eq!((events, close), (vec![NodeEvent::Shared(request)], None));
        assert!(node.blocked());
        assert_eq!(input.len(), one * 9999, "the rest waits with the puller");
        for _ in 0..100 {
            assert_eq!(pump(&mut node, &mut input, usize::MAX, NOW), (vec![], None));
        }
        assert!(node.output().is_empty());
        // Nor is it the end while something is still to be said.
        assert!(node.end_of_input(NOW).is_ok_and(|step| step.event.is_none()));
    }
}

#[test]
fn parts_of_nothing_are_answered_within_bounds() {
    let mut node = node(Purpose::Shared);
    let mut input = asked(&vec![SharedRequest::Part(vec![7]); 50_000]);
    let (events, close) = pump(&mut node, &mut input, usize::MAX, NOW);
    assert_eq!((events, close), (vec![], None));
    assert!(node.blocked() && node.output().len() < 600_000, "{}", node.output().len());
    let ignored = SharedOutcome { code: OutcomeCode::Ignored, ..SharedOutcome::done() };
    let first = said(&mut node);
    assert!(first.iter().all(|frame| *frame == Frame::Answer(SharedAnswer::Outcome(ignored.clone()))));
    assert!(!node.blocked(), "what was written is not in the way any more");
    let mut answered = first.len();
    while !input.is_empty() {
        assert_eq!(pump(&mut node, &mut input, usize::MAX, NOW), (vec![], None));
        answered += said(&mut node).len();
    }
    assert_eq!(answered, 50_000);
}

#[test]
fn a_puller_that_reads_nothing_is_not_asked_what_it_wants() {
    // Answers as long as they may be, and nobody takes them.
    let mut node = node(Purpose::Shared);
    let fetch = every_request().swap_remove(2);
    let mut input = asked(&vec![fetch; 10_000]);
    let mut answered = 0;
    while let (events, None) = pump(&mut node, &mut input, usize::MAX, NOW)
        && !events.is_empty()
    {
        node.answer(super::answer(&["content", "more", &"x".repeat(16_384)]));
        answered += 1;
    }
    assert!(node.output().len() < 600_000 && answered < 40, "{answered} answers");
    assert!(node.blocked());
}

#[test]
fn a_hang_up_in_the_middle() {
    let whole = asked(&[place(5)]);
    for cut in 1..whole.len() {
        let mut node = node(Purpose::Shared);
        assert_eq!(hear(&mut node, &whole[..cut], usize::MAX), (vec![], None));
        assert_eq!(node.end_of_input(NOW), Err(Close::FrameCut));
    }
    let mut node = node(Purpose::Shared);
    hear(&mut node, &whole, usize::MAX);
    node.answer(SharedAnswer::Outcome(SharedOutcome::go_on(0)));
    assert_eq!(node.end_of_input(NOW), Err(Close::HungUp));
}
