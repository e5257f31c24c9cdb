//! What the machines do for their owners, and what they do not let them do.

use tidegate_proto::relay::frame::Frame;
use tidegate_proto::relay::limits::SHARED_PART;
use tidegate_proto::relay::{
    CloseCode, Farewell, Hello, Node, NodeEvent, Puller, Purpose, SharedAnswer, SharedRequest,
};
use tidegate_proto::{Machine, Time};

use super::{answer, item, request};
use crate::pair::{hello, pump, welcome};
use crate::wire::{frames, hear, node, puller, said};

const NOW: Time = Time::ZERO;

/// A node that was asked this.
fn asked(words: &[&str]) -> Node {
    let mut node = node(Purpose::Shared);
    let request = request(words);
    let (events, close) = pump(&mut node, &mut frames(&[Frame::Ask(request.clone())]), 7, NOW);
    assert_eq!((events, close), (vec![NodeEvent::Shared(request)], None));
    node
}

#[test]
fn items_are_cut_into_frames() {
    let all: Vec<_> = (0..1000).map(|at| item(&format!("{at:0210}"), 1)).collect();
    for last in [false, true] {
        let mut node = asked(&["look_into", "1"]);
        node.answer(SharedAnswer::Items { items: all.clone(), last });
        let mut told = Vec::new();
        let frames = said(&mut node);
        for (at, frame) in frames.iter().enumerate() {
            let Frame::Answer(SharedAnswer::Items { items, last: is_last }) = frame else {
                panic!("{frame:?}")
            };
            assert_eq!(*is_last, last && at + 1 == frames.len());
            told.extend(items.clone());
        }
        assert_eq!((told, frames.len()), (all.clone(), 4));
        assert_eq!(node.blocked(), !last, "the next request is read after the last part");
    }
}

#[test]
fn the_owner_hears_when_there_is_room_for_more_items() {
    let mut node = asked(&["look_into", "1"]);
    let mut at = 0;
    while node.answer_room() {
        let items = (at..at + 100).map(|at| item(&format!("{at:010}"), 1)).collect();
        node.answer(SharedAnswer::Items { items, last: false });
        at += 100;
    }
    assert_eq!(pump(&mut node, &mut vec![], 1, NOW), (vec![], None));
    node.output().clear();
    assert_eq!(node.deadline(), Some(NOW), "at once");
    assert_eq!(pump(&mut node, &mut vec![], 1, NOW), (vec![NodeEvent::Room], None));
    assert!(node.answer_room());
    node.answer(answer(&["items", "true"]));
    assert!(!node.answer_room() && !node.blocked());
    assert_eq!(pump(&mut node, &mut vec![], 1, NOW), (vec![], None));
}

#[test]
fn a_rate_does_not_cut_a_pullers_last_words() {
    let mut puller = Puller::new(Hello { rate: 1000, ..hello(Purpose::Shared) }, NOW);
    let ignored = [0x1a, 0, 0, 42, 4].into_iter().chain([0; 41]).collect::<Vec<u8>>();
    let mut input = frames(&[Frame::Welcome(welcome())]);
    for _ in 0..3 {
        assert_eq!(pump(&mut puller, &mut input, usize::MAX, NOW).1, None);
        for _ in 0..3 {
            puller.request(SharedRequest::Part(vec![7; SHARED_PART]));
        }
        input = ignored.repeat(3);
    }
    pump(&mut puller, &mut vec![], 1, NOW);
    assert_eq!(puller.output().len(), 16_384, "the rest is held back");
    let farewell = Farewell::new(CloseCode::Done, "");
    puller.close(farewell.clone());
    let said = said(&mut puller);
    assert_eq!((said.len(), said.last()), (11, Some(&Frame::Close(farewell))));
}

#[test]
fn what_is_said_after_the_end_is_nothing() {
    let mut puller = puller(Purpose::Shared);
    puller.request(request(&["summary"]));
    puller.close(Farewell::new(CloseCode::Done, ""));
    puller.output().clear();
    puller.request(request(&["summary"]));
    assert_eq!((puller.outstanding(), said(&mut puller)), (0, vec![]));

    // An answer that was on its way when the node decided to stop.
    let mut node = asked(&["summary"]);
    node.close(Farewell::new(CloseCode::Stopping, ""));
    node.output().clear();
    node.answer(answer(&["buckets", "1", "2"]));
    assert_eq!(said(&mut node), []);
}

#[cfg(debug_assertions)]
#[test]
fn answers_that_a_request_cannot_have_are_a_mistake() {
    for (asked_words, answer_words) in [
        (&["summary"][..], &["done"][..]),
        (&["summary"], &["items", "a.conf", "true"]),
        (&["look_into", "1"], &["buckets", "1", "1"]),
        (&["look_into", "1"], &["items", "b.conf", "a.conf", "true"]),
        (&["look_into", "1"], &["items", "false"]),
        (&["fetch", "a.conf", "01", "0"], &["content", "more", "short"]),
        (&["place", "a.conf", "-", "01", "5"], &["go_on", "1"]),
        (&["place", "a.conf", "-", "01", "0"], &["go_on", "0"]),
        (&["remove", "a.conf", "01"], &["damaged"]),
    ] {
        let mistake = std::panic::catch_unwind(|| asked(asked_words).answer(answer(answer_words)));
        let mistake = mistake.expect_err("it is told");
        let text = mistake.downcast_ref::<String>().expect("a formatted text");
        assert_eq!(text, "answer was called out of turn", "{answer_words:?} to {asked_words:?}");
    }
    let unasked = std::panic::catch_unwind(|| node(Purpose::Shared).answer(answer(&["done"])));
    assert!(unasked.is_err(), "nothing was asked");
}

#[cfg(debug_assertions)]
#[test]
fn requests_that_may_not_be_made_are_a_mistake() {
    let large = SharedRequest::Part(vec![0; SHARED_PART + 1]);
    for (purpose, wrong) in [
        (Purpose::Shared, large),
        (Purpose::Shared, SharedRequest::Part(vec![])),
        (Purpose::Shared, SharedRequest::LookInto(vec![])),
        (Purpose::Shared, SharedRequest::LookInto(vec![1024])),
        (Purpose::Shared, SharedRequest::LookInto(vec![2, 1])),
        (Purpose::Stream, SharedRequest::Summary),
        (Purpose::List, SharedRequest::Summary),
    ] {
        let mistake = std::panic::catch_unwind(|| puller(purpose).request(wrong.clone()));
        assert!(mistake.is_err(), "{wrong:?}");
    }
    let beyond = std::panic::catch_unwind(|| {
        let mut puller = puller(Purpose::Shared);
        puller.request(request(&["look_into", "1"]));
        puller.request(request(&["summary"]));
    });
    assert!(beyond.is_err(), "it may not be made beside the other");
    let mut puller = puller(Purpose::Shared);
    puller.request(request(&["summary"]));
    let (events, _) = hear(&mut puller, &frames(&[Frame::Answer(answer(&["buckets", "1", "1"]))]), 1);
    assert_eq!((events.len(), puller.outstanding()), (1, 0));
}
