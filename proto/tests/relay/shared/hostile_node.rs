//! What a puller that asks about shared files does not take from a node.

use tidegate_proto::Machine;
use tidegate_proto::relay::frame::Frame;
use tidegate_proto::relay::limits::{SHARED_ITEMS_MAX, SHARED_PART};
use tidegate_proto::relay::{
    ContentState, Puller, PullerEvent, Purpose, SharedAnswer, SharedItem, SharedOutcome, SharedRequest,
    Status,
};

use super::{item, name};
use crate::pair::{hello, number, welcome};
use crate::wire::{assert_violation, frames, hear, puller, raw, said};

fn fetch() -> SharedRequest {
    SharedRequest::Fetch { name: name("a.conf"), digest: [1; 32], offset: 0 }
}

fn remove() -> SharedRequest {
    SharedRequest::Remove { name: name("a.conf"), expected: [1; 32] }
}

fn asking(requests: &[SharedRequest]) -> Puller {
    let mut puller = puller(Purpose::Shared);
    requests.iter().for_each(|request| puller.request(request.clone()));
    puller.output().clear();
    puller
}

/// However the bytes are cut, the puller closes over them, and says why. What it told before that.
fn refused(requests: &[SharedRequest], bytes: &[u8], text: &str) -> Vec<PullerEvent> {
    let mut all = Vec::new();
    for chunk in [1, 7, usize::MAX] {
        if chunk <= 7 && bytes.len() > 100_000 {
            continue;
        }
        let mut puller = asking(requests);
        let (events, close) = hear(&mut puller, bytes, chunk);
        assert_violation(&mut puller, close, text);
        all = events;
    }
    all
}

fn answer(answer: SharedAnswer) -> Vec<u8> {
    frames(&[Frame::Answer(answer)])
}

fn answers() -> [SharedAnswer; 4] {
    [
        SharedAnswer::Buckets(Box::new([0; 1024])),
        SharedAnswer::Items { items: vec![item("a.conf", 1)], last: true },
        SharedAnswer::Content { state: ContentState::End, bytes: b"abc".into() },
        SharedAnswer::Outcome(SharedOutcome::done()),
    ]
}

fn requests() -> [SharedRequest; 4] {
    [SharedRequest::Summary, SharedRequest::LookInto(vec![1]), fetch(), remove()]
}

fn items(names: &[&str], last: bool) -> Vec<u8> {
    let items = names.iter().map(|name| item(name, 1)).collect();
    answer(SharedAnswer::Items { items, last })
}

#[test]
fn answers_that_were_not_asked_for() {
    for (at, given) in answers().into_iter().enumerate() {
        let bytes = answer(given);
        // The header is enough: nothing of the payload is kept.
        for (other, request) in requests().iter().enumerate().filter(|(other, _)| *other != at) {
            let text = format!("{} came out of turn", ["BUCKETS", "ITEMS", "CONTENT", "OUTCOME"][at]);
            assert_eq!(refused(std::slice::from_ref(request), &bytes[..4], &text), [], "to request {other}");
        }
        refused(&[], &bytes[..4], "came out of turn");
        // The right one, and once more.
        let twice = [bytes.clone(), bytes].concat();
        assert_eq!(refused(&requests()[at..=at], &twice, "came out of turn").len(), 1);
    }
    // In the order of the requests, not in another.
    let [buckets, _, content, _] = answers();
    let turned = [answer(content), answer(buckets)].concat();
    assert_eq!(refused(&[SharedRequest::Summary, fetch()], &turned, "CONTENT came out of turn"), []);
}

#[test]
fn answers_where_they_have_no_business() {
    for purpose in [Purpose::Stream, Purpose::List, Purpose::Look] {
        for given in answers() {
            let mut puller = puller(purpose);
            let (_, close) = hear(&mut puller, &answer(given), usize::MAX);
            assert_violation(&mut puller, close, "came out of turn");
        }
    }
    let mut puller = Puller::new(hello(Purpose::Shared), tidegate_proto::Time::ZERO);
    puller.request(SharedRequest::Summary);
    puller.output().clear();
    let (_, close) = hear(&mut puller, &answer(answers()[0].clone()), 1);
    assert_violation(&mut puller, close, "BUCKETS came out of turn");
}

#[test]
fn other_frames_on_a_connection_for_shared_files() {
    for frame in [
        Frame::Welcome(welcome()),
        Frame::Data(vec![1]),
        Frame::Dry,
        Frame::Deleted(number(1)),
        Frame::Losses(vec![]),
        Frame::Listing { names: b"a".into(), last: true },
        Frame::Status(Box::new(Status { shared_sign: Some(1), ..Status::default() })),
        Frame::Ask(SharedRequest::Summary),
        Frame::Ask(SharedRequest::Part(vec![1])),
    ] {
        let text = format!("{} came out of turn", frame.kind().name);
        refused(&[SharedRequest::Summary], &frames(&[frame]), &text);
    }
}

#[test]
fn payloads_of_a_wrong_length() {
    let [summary, look_into, fetch, remove] = requests();
    for (request, code, length, text) in [
        (&summary, 0x17, 8191, "BUCKETS has a payload of 8191 bytes, it may have 8192 to 8192"),
        (&summary, 0x17, 8193, "BUCKETS has a payload of 8193 bytes"),
        (&look_into, 0x18, 0, "ITEMS has a payload of 0 bytes"),
        (&look_into, 0x18, 65_537, "ITEMS has a payload of 65537 bytes"),
        (&fetch, 0x19, 0, "CONTENT has a payload of 0 bytes"),
        (&fetch, 0x19, 16_386, "CONTENT has a payload of 16386 bytes, it may have 1 to 16385"),
        (&remove, 0x1a, 41, "OUTCOME has a payload of 41 bytes"),
        (&remove, 0x1a, 243, "OUTCOME has a payload of 243 bytes, it may have 42 to 242"),
    ] {
        // The header is enough.
        refused(std::slice::from_ref(request), &raw(code, &vec![0; length])[..4], text);
    }
}

#[test]
fn content_that_does_not_fit_its_state() {
    for (state, length, right) in [
        (0, SHARED_PART, true),
        (0, SHARED_PART - 1, false),
        (0, 0, false),
        (1, SHARED_PART, true),
        (1, 0, true),
        (2, 0, true),
        (2, 1, false),
    ] {
        let bytes = raw(0x19, &[vec![state], vec![7; length]].concat());
        if right {
            let mut puller = asking(&[fetch()]);
            let (events, close) = hear(&mut puller, &bytes, 1000);
            assert_eq!((events.len(), close), (1, None), "{state} {length}");
        } else {
            refused(&[fetch()], &bytes, "CONTENT holds more or fewer bytes than its state allows");
        }
    }
    refused(&[fetch()], &raw(0x19, &[3]), "CONTENT has a state that is not known");
}

#[test]
fn outcomes_that_cannot_be_read() {
    let with = |code: u8, there: u8| {
        let mut payload = vec![0; 42];
        (payload[0], payload[9]) = (code, there);
        raw(0x1a, &payload)
    };
    refused(&[remove()], &with(6, 0), "OUTCOME has a code that is not known");
    refused(&[remove()], &with(1, 2), "OUTCOME says neither that there is a digest nor that there is none");
    let mut unreadable = with(3, 0);
    unreadable.extend(b"no\xff\x1b[31m");
    unreadable[3] += 8;
    let mut puller = asking(&[remove()]);
    let (events, close) = hear(&mut puller, &unreadable, 1);
    assert_eq!(close, None);
    let told = SharedOutcome::refused("no\u{fffd}\u{fffd}[31m");
    assert_eq!(events, [PullerEvent::Shared(SharedAnswer::Outcome(told))]);
}

#[test]
fn items_that_are_not_listed_as_they_should() {
    let look = [SharedRequest::LookInto(vec![1, 2])];
    let order = "shared files came out of order";
    refused(&look, &items(&["b.conf", "a.conf"], true), order);
    refused(&look, &items(&["a.conf", "a.conf"], true), order);
    let parts = |second: &[&str]| [items(&["a.conf", "b.conf"], false), items(second, true)].concat();
    for second in [&["b.conf"][..], &["a.conf"], &["c.conf", "b.conf"]] {
        assert_eq!(refused(&look, &parts(second), order).len(), 1);
    }
    // Each answer has an order of its own.
    let mut puller = asking(&look);
    assert_eq!(hear(&mut puller, &parts(&["c.conf"]), 1).1, None);
    puller.request(look[0].clone());
    assert_eq!(hear(&mut puller, &parts(&[]), 1).1, None);
    refused(&look, &items(&[], false), "ITEMS is a part of nothing");
    refused(&look, &raw(0x18, &[2]), "ITEMS is neither the last part nor another");
    let mut cut = items(&["a.conf"], true);
    cut.pop();
    cut[3] -= 1;
    refused(&look, &cut, "ITEMS ends too early");
}

#[test]
fn names_that_no_file_can_have() {
    for (name, text) in [
        (&b""[..], "ITEMS: the name is empty"),
        (b"..", "ITEMS: the name stands for a directory"),
        (b"../conf/a.conf", "ITEMS: the name holds the byte '/'"),
        (b"a\0.conf", "ITEMS: the name holds the byte '\\x00'"),
        (b" a.conf", "ITEMS: the name begins or ends with a blank"),
        (&[b'a'; 211], "ITEMS: the name has 211 bytes, at most 210"),
        (&[b'a'; 255], "ITEMS: the name has 255 bytes"),
    ] {
        let entry = [&[1, 1][..], &[0; 8], &[7; 32], &[name.len() as u8], name].concat();
        assert_eq!(refused(&[SharedRequest::LookInto(vec![1])], &raw(0x18, &entry), text), []);
    }
}

#[test]
fn flags_of_items_that_are_not_known_are_passed_over() {
    let mut bytes = items(&["a.conf"], true);
    for (flags, fits) in [(0xff, true), (0xfe, false)] {
        bytes[5] = flags;
        let mut puller = asking(&[SharedRequest::LookInto(vec![1])]);
        let expected = SharedItem { fits, ..item("a.conf", 1) };
        assert_eq!(
            hear(&mut puller, &bytes, 1).0,
            [PullerEvent::Shared(SharedAnswer::Items { items: vec![expected], last: true })]
        );
    }
}

#[test]
fn more_items_than_anybody_has() {
    let all: Vec<_> = (0..=SHARED_ITEMS_MAX).map(|at| item(&format!("{at:08}"), 1)).collect();
    let bytes = |items: &[SharedItem]| -> Vec<u8> {
        items
            .chunks(1000)
            .flat_map(|items| answer(SharedAnswer::Items { items: items.into(), last: false }))
            .collect()
    };
    let look = [SharedRequest::LookInto(vec![1])];
    let events = refused(&look, &bytes(&all), "more than 200000 shared files came on this connection");
    assert_eq!(events.len(), SHARED_ITEMS_MAX / 1000);
    // Over several answers, too; and as many as are allowed are taken.
    let mut puller = asking(&look);
    let (first, rest) = all[..SHARED_ITEMS_MAX].split_at(150_000);
    let end = answer(SharedAnswer::Items { items: Vec::new(), last: true });
    assert_eq!(hear(&mut puller, &[bytes(first), end.clone()].concat(), usize::MAX).1, None);
    puller.request(look[0].clone());
    assert_eq!(hear(&mut puller, &[bytes(rest), end].concat(), usize::MAX).1, None);
    puller.request(look[0].clone());
    let (_, close) = hear(&mut puller, &bytes(&all[..1]), usize::MAX);
    puller.output().clear();
    assert!(close.is_some_and(|close| close.to_string().contains("more than 200000 shared files")));
}

#[test]
fn a_ping_flood_beside_requests_is_answered_within_bounds() {
    let mut puller = puller(Purpose::Shared);
    while puller.may_request(&SharedRequest::Part(vec![0; SHARED_PART])) {
        puller.request(SharedRequest::Part(vec![0; SHARED_PART]));
    }
    assert_eq!(puller.outstanding(), 3);
    let (_, close) = hear(&mut puller, &frames(&vec![Frame::Ping(1); 100_000]), usize::MAX);
    assert_eq!(close, None);
    assert!(puller.blocked() && puller.output().len() < 300_000, "{}", puller.output().len());
}

#[test]
fn no_more_is_asked_than_may_be_under_way() {
    let small = remove();
    let mut puller = puller(Purpose::Shared);
    while puller.may_request(&small) {
        puller.request(small.clone());
    }
    assert_eq!(puller.outstanding(), 65_536 / (243 + 4));
    assert!(puller.output().len() <= 65_536);
    // One answer makes room for one request.
    assert_eq!(hear(&mut puller, &answer(SharedAnswer::Outcome(SharedOutcome::done())), 1).1, None);
    assert!(puller.may_request(&small));
    puller.request(small.clone());
    assert!(!puller.may_request(&small));
    // One that may be answered with much goes alone.
    let mut puller = asking(&[SharedRequest::LookInto(vec![1])]);
    assert!(!puller.may_request(&small));
    hear(&mut puller, &items(&[], true), 1);
    puller.request(small);
    assert!(!puller.may_request(&SharedRequest::LookInto(vec![1])));
    assert_eq!(said(&mut puller).len(), 1);
}
