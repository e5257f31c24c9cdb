//! What must hold whatever comes, however it is cut.

use std::collections::BTreeSet;

use proptest::prelude::*;
use tidegate_proto::relay::frame::Frame;
use tidegate_proto::relay::{Head, Node, NodeEvent, Number, Puller, PullerEvent, Purpose};
use tidegate_proto::{Close, Machine, Time};

use crate::pair::{Pair, hello, number, package, pump};
use crate::wire::{CREDIT, frames, hear, node, puller, record, stream, zstd};

const NOW: Time = Time::ZERO;

/// Events with bodies joined: how a body is cut depends on how it came.
fn joined(events: Vec<PullerEvent>) -> Vec<PullerEvent> {
    let mut all: Vec<PullerEvent> = Vec::new();
    for event in events {
        match (all.last_mut(), event) {
            (Some(PullerEvent::Body(body)), PullerEvent::Body(more)) => body.extend(more),
            (_, event) => all.push(event),
        }
    }
    all
}

/// What a node says in a session: packages, a rest, more packages.
fn session(sizes: &[usize]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (part, sizes) in sizes.chunks(4).enumerate() {
        let records: Vec<u8> = sizes
            .iter()
            .enumerate()
            .flat_map(|(at, size)| record((part * 4 + at) as u64 + 1, &vec![at as u8; *size]))
            .collect();
        bytes.extend(stream(&records));
        bytes.extend(frames(&[Frame::Dry, Frame::Ping(part as u64)]));
    }
    bytes
}

/// Feeds in portions of the given sizes, over and over.
fn hear_in_portions(
    puller: &mut Puller,
    bytes: &[u8],
    portions: &[usize],
) -> (Vec<PullerEvent>, Option<Close>) {
    let (mut rest, mut all, mut input) = (bytes, Vec::new(), Vec::new());
    for portion in portions.iter().cycle() {
        let (now, later) = rest.split_at((*portion).min(rest.len()));
        (rest, input) = (later, [input, now.to_vec()].concat());
        loop {
            let (events, close) = pump(puller, &mut input, usize::MAX, NOW);
            let asked = events.last() == Some(&PullerEvent::DecoderNeeded);
            all.extend(events);
            if close.is_some() {
                return (all, close);
            }
            if !asked {
                break;
            }
            puller.decoder_granted(NOW);
        }
        if rest.is_empty() {
            break;
        }
    }
    (all, None)
}

/// A change to a byte sequence.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Flip(prop::sample::Index, u8),
    Insert(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index, usize),
    Repeat(prop::sample::Index, usize),
    Cut(prop::sample::Index),
}

pub(crate) fn changes() -> impl Strategy<Value = Vec<Change>> {
    let at = any::<prop::sample::Index>;
    let change = prop_oneof![
        4 => (at(), 1_u8..).prop_map(|(at, with)| Change::Flip(at, with)),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..20)).prop_map(|(at, with)| Change::Insert(at, with)),
        1 => (at(), 1_usize..40).prop_map(|(at, count)| Change::Remove(at, count)),
        1 => (at(), 1_usize..200).prop_map(|(at, count)| Change::Repeat(at, count)),
        1 => at().prop_map(Change::Cut),
    ];
    prop::collection::vec(change, 1..4)
}

pub(crate) fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        if bytes.is_empty() {
            break;
        }
        match change {
            Change::Flip(at, with) => *at.get_mut(&mut bytes) ^= with,
            Change::Insert(at, with) => {
                drop(bytes.splice(at.index(bytes.len())..at.index(bytes.len()), with.clone()))
            }
            Change::Remove(at, count) => {
                let start = at.index(bytes.len());
                drop(bytes.drain(start..(start + count).min(bytes.len())));
            }
            Change::Repeat(at, count) => {
                let start = at.index(bytes.len());
                let part = bytes[start..(start + count).min(bytes.len())].to_vec();
                drop(bytes.splice(start..start, part));
            }
            Change::Cut(at) => bytes.truncate(at.index(bytes.len())),
        }
    }
    bytes
}

/// What a puller tells stays within what it asked for, whoever speaks to it.
fn assert_in_bounds(puller: &Puller, events: &[PullerEvent], max_package: u64) {
    assert!(puller.received() <= CREDIT);
    let (mut last, mut current, mut charged) = (None::<Number>, None::<(Head, u64)>, 0);
    for event in events {
        match event {
            PullerEvent::Package(head) | PullerEvent::Skipped(head) => {
                assert!(current.is_none() && Some(head.number) > last);
                last = Some(head.number);
                charged += 1024;
                let fits = head.size <= max_package;
                assert_eq!(fits, matches!(event, PullerEvent::Package(_)));
                current = fits.then(|| (head.clone(), 0));
            }
            PullerEvent::Body(bytes) => {
                let (head, have) = current.as_mut().expect("a body has a head");
                *have += bytes.len() as u64;
                charged += bytes.len() as u64;
                assert!(!bytes.is_empty() && bytes.len() <= 65_536 && *have <= head.size);
            }
            PullerEvent::PackageEnd => {
                let (head, have) = current.take().expect("an end has a beginning");
                assert_eq!(head.size, have);
            }
            PullerEvent::Deleted(_) => panic!("nothing was acknowledged"),
            _ => {}
        }
    }
    assert!(charged <= puller.received());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn portions_change_nothing(
        sizes in prop::collection::vec(0_usize..30_000, 1..12),
        portions in prop::collection::vec(1_usize..5_000, 1..20),
    ) {
        let bytes = session(&sizes);
        let mut whole = puller(Purpose::Stream);
        let (expected, close) = hear(&mut whole, &bytes, usize::MAX);
        prop_assert_eq!(&close, &None);
        let mut cut = puller(Purpose::Stream);
        let (events, close) = hear_in_portions(&mut cut, &bytes, &portions);
        prop_assert_eq!(close, None);
        prop_assert_eq!(joined(events), joined(expected));
        prop_assert_eq!(cut.received(), whole.received());
        prop_assert_eq!(cut.output(), whole.output());
    }

    #[test]
    fn whatever_a_node_says_stays_in_bounds(
        sizes in prop::collection::vec(0_usize..3_000, 1..8),
        changes in changes(),
        portions in prop::collection::vec(1_usize..500, 1..5),
    ) {
        let bytes = changed(session(&sizes), &changes);
        let mut puller = puller(Purpose::Stream);
        let (events, _) = hear_in_portions(&mut puller, &bytes, &portions);
        assert_in_bounds(&puller, &events, 1_000_000);
    }

    #[test]
    fn whatever_a_stream_holds_stays_in_bounds(
        sizes in prop::collection::vec(0_usize..300, 1..8),
        changes in changes(),
    ) {
        // The change is inside the compression: every record is looked at.
        let records: Vec<u8> =
            sizes.iter().zip(1..).flat_map(|(size, counter)| record(counter, &vec![7; *size])).collect();
        let bytes = crate::wire::data(&zstd(&changed(records, &changes)));
        let mut puller = puller(Purpose::Stream);
        let (events, _) = hear(&mut puller, &bytes, usize::MAX);
        assert_in_bounds(&puller, &events, 1_000_000);
    }

    #[test]
    fn a_node_forgets_only_what_it_sent(
        sent in prop::collection::btree_set(0_u64..40, 1..20),
        acks in prop::collection::vec(0_u64..40, 1..10),
        changes in changes(),
        spoilt in any::<bool>(),
    ) {
        let mut node = node(Purpose::Stream);
        pump(&mut node, &mut frames(&[Frame::Credit(1 << 30)]), 1, NOW);
        for counter in &sent {
            let package = package(*counter, b"body");
            node.begin(&package.head, NOW);
            node.write(&package.body, NOW);
        }
        let acks: Vec<_> = acks.into_iter().map(|counter| Frame::Ack(number(counter))).collect();
        let mut bytes = if spoilt { changed(frames(&acks), &changes) } else { frames(&acks) };
        let (events, close) = pump(&mut node, &mut bytes, 3, NOW);
        let mut left: BTreeSet<_> = sent.iter().map(|counter| number(*counter)).collect();
        for event in events {
            if let NodeEvent::Acked(upto) = event {
                prop_assert!(left.contains(&upto), "{} was never sent, or acknowledged before", upto);
                left.retain(|number| *number > upto);
            }
        }
        prop_assert!(close.is_some() || node.in_flight() == left.len());
    }

    #[test]
    fn any_bytes_to_a_node(mut bytes in prop::collection::vec(any::<u8>(), 0..600), greeted in any::<bool>()) {
        let mut node = if greeted { node(Purpose::Stream) } else { Node::new(Time::from_secs(5), NOW) };
        let (events, _) = pump(&mut node, &mut bytes, 5, NOW);
        prop_assert!(!events.iter().any(|event| matches!(event, NodeEvent::Acked(_) | NodeEvent::LossesAcked(_))));
    }

    #[test]
    fn credit_is_never_exceeded_and_always_used(
        sizes in prop::collection::vec(0_usize..20_000, 1..12),
        grants in prop::collection::vec(1_u64..30_000, 1..20),
    ) {
        let store: Vec<_> = sizes.iter().zip(1..).map(|(size, counter)| package(counter, &vec![3; *size])).collect();
        let all: u64 = sizes.iter().map(|size| *size as u64 + 1024).sum();
        let mut pair = Pair::new(hello(Purpose::Stream), store.clone());
        pair.granting = false;
        let mut total = 0;
        for grant in grants {
            total += grant;
            pair.puller.grant(total);
            pair.run();
            let received = pair.puller.received();
            prop_assert!(received <= total);
            // What is left would not pay for another record.
            prop_assert!(received == all || total - received < 1024, "{} of {}", received, total);
        }
        pair.puller.grant(u64::MAX);
        pair.run();
        prop_assert_eq!(pair.got, store);
    }
}
