//! What must hold in the dialogue about shared files whatever the other end says.

use proptest::prelude::*;
use tidegate_proto::relay::frame::Frame;
use tidegate_proto::relay::{
    ContentState, Node, NodeEvent, OutcomeCode, PullerEvent, Purpose, SharedAnswer, SharedItem, SharedRequest,
};
use tidegate_proto::{Close, Machine, Name, Time};

use super::joined::{a_shelf, portions, some_requests};
use super::model::{Shelf, answers};
use crate::pair::pump;
use crate::properties::{Change, changed, changes};
use crate::wire::{frames, hear, node, puller};

const NOW: Time = Time::ZERO;

/// What a node with an obliging owner was asked, and whether it closed. Nothing reads its output but in the end.
struct Asked {
    requests: Vec<SharedRequest>,
    close: Option<Close>,
    output: Vec<u8>,
}

fn ask(node: &mut Node, shelf: &mut Shelf, bytes: &[u8], portions: &[usize]) -> Asked {
    let (mut rest, mut input) = (bytes, Vec::new());
    let mut asked = Asked { requests: Vec::new(), close: None, output: Vec::new() };
    for portion in portions.iter().cycle() {
        let (now, later) = rest.split_at((*portion).min(rest.len()));
        rest = later;
        input.extend(now);
        loop {
            let (events, close) = pump(node, &mut input, usize::MAX, NOW);
            assert!(events.len() <= 1, "one at a time");
            for event in &events {
                let NodeEvent::Shared(request) = event else { panic!("{event:?}") };
                node.answer(shelf.answer(request));
                asked.requests.push(request.clone());
            }
            asked.close = close;
            assert!(node.output().len() < 600_000);
            asked.output.append(node.output());
            if asked.close.is_some() || events.is_empty() {
                break;
            }
        }
        if asked.close.is_some() || rest.is_empty() {
            break;
        }
    }
    asked
}

/// Requests that reach an owner are such as it may act on.
fn assert_fit_for_an_owner(requests: &[SharedRequest]) {
    let mut missing = None::<u64>;
    for request in requests {
        match request {
            SharedRequest::Part(bytes) => {
                let left = missing.expect("a part belongs to a file that is being placed");
                assert!((1..=16_384).contains(&bytes.len()) && bytes.len() as u64 <= left);
                missing = Some(left - bytes.len() as u64);
                continue;
            }
            SharedRequest::LookInto(buckets) => {
                assert!(!buckets.is_empty() && buckets.is_sorted_by(|one, next| one < next));
                assert!(buckets.iter().all(|bucket| *bucket < 1024));
            }
            _ => {}
        }
        missing = match request {
            SharedRequest::Place { size, .. } => Some(*size),
            _ => None,
        };
    }
}

/// Answers that reach an owner are such as its requests can have.
fn assert_fit_for_a_puller(requests: &[SharedRequest], events: &[PullerEvent]) -> usize {
    let (mut due, mut last) = (requests.iter(), None::<&Name>);
    let mut request = due.next();
    for event in events {
        let PullerEvent::Shared(answer) = event else { panic!("{event:?}") };
        match (request.expect("answers have requests"), answer) {
            (SharedRequest::Summary, SharedAnswer::Buckets(_)) => {}
            (SharedRequest::LookInto(_), SharedAnswer::Items { items, last: is_last }) => {
                assert!(*is_last || !items.is_empty());
                for SharedItem { name, .. } in items {
                    assert!(Some(name) > last);
                    last = Some(name);
                }
                if !is_last {
                    continue;
                }
            }
            (SharedRequest::Fetch { .. }, SharedAnswer::Content { state, bytes }) => match state {
                ContentState::More => assert_eq!(bytes.len(), 16_384),
                ContentState::End => assert!(bytes.len() <= 16_384),
                ContentState::Another => assert_eq!(bytes.len(), 0),
            },
            (SharedRequest::Place { size, .. }, SharedAnswer::Outcome(outcome)) => {
                assert_ne!(outcome.code, OutcomeCode::Ignored);
                assert!(outcome.code != OutcomeCode::GoOn || outcome.number < *size);
            }
            (SharedRequest::Part(_), SharedAnswer::Outcome(_)) => {}
            (SharedRequest::Remove { .. }, SharedAnswer::Outcome(outcome)) => {
                use OutcomeCode::{Changed, Done, Refused};
                assert!(matches!(outcome.code, Done | Changed | Refused));
            }
            (request, answer) => panic!("{answer:?} to {request:?}"),
        }
        (request, last) = (due.next(), None);
    }
    due.len() + usize::from(request.is_some())
}

fn requests_as_bytes(requests: &[SharedRequest]) -> Vec<u8> {
    frames(&requests.iter().cloned().map(Frame::Ask).collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_a_puller_says_an_owner_can_act_on_it(
        mut shelf in a_shelf(),
        requests in some_requests(),
        changes in prop::option::of(changes()),
        portions in portions(),
    ) {
        let bytes = requests_as_bytes(&requests);
        let bytes = changes.as_ref().map_or(bytes.clone(), |changes: &Vec<Change>| changed(bytes, changes));
        let (mut node, mut model) = (node(Purpose::Shared), shelf.clone());
        let asked = ask(&mut node, &mut model, &bytes, &portions);
        assert_fit_for_an_owner(&asked.requests);
        if changes.is_none() {
            let expected = answers(&mut shelf, &requests);
            prop_assert_eq!(&asked.close, &None);
            let answers: Vec<_> = expected.into_iter().map(Frame::Answer).collect();
            prop_assert!(asked.output == frames(&answers), "the answers are those of the model");
        }
        // Once it is over it stays so.
        if asked.close.is_some() {
            prop_assert!(node.step(&bytes, NOW).is_err() && node.end_of_input(NOW).is_err());
        }
    }

    #[test]
    fn whatever_a_node_says_it_answers_what_was_asked(
        mut shelf in a_shelf(),
        requests in some_requests(),
        changes in changes(),
        chunk in prop::sample::select(vec![7, 1000, usize::MAX]),
    ) {
        let mut puller = puller(Purpose::Shared);
        let asked: Vec<_> = requests
            .iter()
            .map_while(|request| {
                puller.may_request(request).then(|| puller.request(request.clone()))?;
                Some(request.clone())
            })
            .collect();
        let said: Vec<_> = answers(&mut shelf, &asked).into_iter().map(Frame::Answer).collect();
        let bytes = changed(frames(&said), &changes);
        puller.output().clear();
        let (events, close) = hear(&mut puller, &bytes, chunk);
        let left = assert_fit_for_a_puller(&asked, &events);
        prop_assert_eq!(puller.outstanding(), if close.is_some() { 0 } else { left });
        prop_assert!(puller.output().len() < 300);
    }

    #[test]
    fn any_bytes_to_either_end(bytes in prop::collection::vec(any::<u8>(), 0..600), kind in any::<u8>()) {
        // A kind that exists, more often than chance would have it.
        let mut bytes = bytes;
        if let [first, a, b, ..] = &mut bytes[..] {
            (*first, *a, *b) = (kind % 0x20, 0, 0);
        }
        let mut node = node(Purpose::Shared);
        let asked = ask(&mut node, &mut Shelf::default(), &bytes, &[13]);
        assert_fit_for_an_owner(&asked.requests);
        let mut puller = puller(Purpose::Shared);
        let requests = [SharedRequest::Summary, SharedRequest::Part(vec![1])];
        requests.iter().for_each(|request| puller.request(request.clone()));
        let (events, _) = hear(&mut puller, &bytes, 13);
        assert_fit_for_a_puller(&requests, &events);
    }
}
