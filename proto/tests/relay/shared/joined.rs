//! The two ends against each other: whatever is asked, however it is cut.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tidegate_proto::relay::limits::{SHARED_AT_ONCE, SHARED_PART};
use tidegate_proto::relay::{
    ContentState, Hello, OutcomeCode, Purpose, SharedAnswer, SharedItem, SharedOutcome, SharedRequest,
};
use tidegate_proto::{Machine, Name, Time};

use super::buckets;
use super::model::{Cut, File, Joined, Shelf, answers, sha256};
use super::name;
use crate::pair::hello;

const NAMES: [&str; 4] = ["a.conf", "b.conf", "c.zip", "d.rcmd"];

fn content(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at as u8).wrapping_mul(seed) ^ (at >> 8) as u8).collect()
}

fn parts(bytes: &[u8]) -> impl Iterator<Item = SharedRequest> + '_ {
    bytes.chunks(SHARED_PART).map(|part| SharedRequest::Part(part.into()))
}

fn a_name() -> impl Strategy<Value = Name> {
    prop::sample::select(&NAMES[..]).prop_map(name)
}

/// Few contents, so that what is expected is often there.
fn a_content() -> impl Strategy<Value = Vec<u8>> {
    (0_u8..3, prop::sample::select(vec![0, 1, 100, 16_384, 16_385, 40_000, 49_152]))
        .prop_map(|(seed, length)| content(seed, length))
}

pub(crate) fn a_shelf() -> impl Strategy<Value = Shelf> {
    prop::collection::btree_map(a_name(), (a_content(), any::<bool>()), 0..4).prop_map(|files| {
        let files = files.into_iter().map(|(name, (bytes, fits))| (name, File { bytes, fits })).collect();
        Shelf::of(files)
    })
}

/// Requests that an honest puller may make in one go.
pub(crate) fn some_requests() -> impl Strategy<Value = Vec<SharedRequest>> {
    let place = (a_name(), prop::option::of(a_content()), a_content(), any::<bool>(), 0_usize..5).prop_map(
        |(name, expected, bytes, right, sent)| {
            let expected = expected.map(|bytes| sha256(&bytes));
            let digest = sha256(&bytes);
            let size = bytes.len() as u64;
            let bytes = if right { bytes } else { vec![b'?'; bytes.len()] };
            let mut all = vec![SharedRequest::Place { name, expected, digest, size }];
            all.extend(parts(&bytes).take(sent));
            all
        },
    );
    let fetch = (a_name(), a_content(), 0_u64..50_000).prop_map(|(name, bytes, offset)| {
        vec![SharedRequest::Fetch { name, digest: sha256(&bytes), offset }]
    });
    let remove = (a_name(), a_content())
        .prop_map(|(name, bytes)| vec![SharedRequest::Remove { name, expected: sha256(&bytes) }]);
    let look = prop::collection::btree_set(0_u16..1024, 1..1024)
        .prop_map(|buckets| vec![SharedRequest::LookInto(buckets.into_iter().collect())]);
    let orphan = (1_usize..20).prop_map(|length| vec![SharedRequest::Part(content(1, length))]);
    let one = prop_oneof![
        1 => Just(vec![SharedRequest::Summary]),
        1 => look,
        3 => fetch,
        6 => place,
        2 => remove,
        1 => orphan,
    ];
    prop::collection::vec(one, 1..20).prop_map(tidy)
}

/// Without parts of nothing behind a placing that is not complete: they might belong to it, and be too much.
fn tidy(requests: Vec<Vec<SharedRequest>>) -> Vec<SharedRequest> {
    let mut all: Vec<SharedRequest> = Vec::new();
    for request in requests {
        let orphan = matches!(request[0], SharedRequest::Part(_));
        let open = matches!(all.last(), Some(SharedRequest::Part(_) | SharedRequest::Place { .. }));
        if !(orphan && open) {
            all.extend(request);
        }
    }
    all
}

pub(crate) fn portions() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1_usize..40, 1_usize..5000, Just(100_000)], 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_asked_at_once_is_answered_in_order(
        shelf in a_shelf(),
        requests in some_requests(),
        portions in portions(),
        part in 1_usize..4,
    ) {
        let expected = answers(&mut shelf.clone(), &requests);
        let mut joined = Joined::new(hello(Purpose::Shared), shelf.clone(), portions);
        joined.part = part;
        let got = joined.ask(&requests).expect("nothing is cut");
        prop_assert_eq!(&got, &expected);
        // One by one it is the same.
        let mut joined = Joined::new(hello(Purpose::Shared), shelf, vec![usize::MAX]);
        for (request, expected) in requests.iter().zip(&expected) {
            let got = joined.ask(std::slice::from_ref(request)).expect("nothing is cut");
            prop_assert_eq!(&got[..], std::slice::from_ref(expected));
        }
    }

    #[test]
    fn after_any_cuts_both_have_the_same(
        here in a_shelf(),
        there in a_shelf(),
        large in prop::option::of((a_name(), 60_000_usize..200_000)),
        budgets in prop::collection::vec(3_000_u64..100_000, 0..12),
        portions in portions(),
    ) {
        let mut wanted: BTreeMap<Name, Vec<u8>> =
            here.files.into_iter().map(|(name, file)| (name, file.bytes)).collect();
        wanted.extend(large.map(|(name, length)| (name, content(7, length))));
        let mut shelf = there;
        for budget in budgets.into_iter().chain([u64::MAX]) {
            let mut joined = Joined::new(hello(Purpose::Shared), shelf, portions.clone());
            joined.budget = budget;
            let synced = sync(&mut joined, &wanted);
            prop_assert!(synced.is_ok() || budget != u64::MAX);
            shelf = joined.shelf;
        }
        let is: BTreeMap<_, _> = shelf.files.iter().map(|(name, file)| (name.clone(), file.clone())).collect();
        let should: BTreeMap<_, _> = wanted.iter().map(|(name, bytes)| (name.clone(), File::of(bytes))).collect();
        prop_assert_eq!(is, should);
    }
}

/// What a central does that is to have its own files everywhere: it looks, and changes what differs.
fn sync(joined: &mut Joined, wanted: &BTreeMap<Name, Vec<u8>>) -> Result<(), Cut> {
    let own: Vec<SharedItem> = wanted
        .iter()
        .map(|(name, bytes)| SharedItem {
            name: name.clone(),
            digest: sha256(bytes),
            size: bytes.len() as u64,
            fits: true,
        })
        .collect();
    let Some(SharedAnswer::Buckets(theirs)) = joined.ask(&[SharedRequest::Summary])?.pop() else {
        panic!("SUMMARY is answered with BUCKETS")
    };
    let ours = buckets::values(&own);
    let differing: Vec<u16> =
        (0..1024).filter(|at| ours[usize::from(*at)] != theirs[usize::from(*at)]).collect();
    if differing.is_empty() {
        return Ok(());
    }
    let Some(SharedAnswer::Items { items, .. }) = joined.ask(&[SharedRequest::LookInto(differing)])?.pop()
    else {
        panic!("LOOK_INTO is answered with ITEMS")
    };
    for item in &items {
        if wanted.contains_key(&item.name) {
            continue;
        }
        let fetched = fetch(joined, item)?;
        assert_eq!(sha256(&fetched), item.digest);
        let remove = SharedRequest::Remove { name: item.name.clone(), expected: item.digest };
        assert_eq!(joined.ask(&[remove])?, [SharedAnswer::Outcome(SharedOutcome::done())]);
    }
    for own in own {
        let there = items.iter().find(|item| item.name == own.name);
        if there != Some(&own) {
            let bytes = &wanted[&own.name];
            place(joined, &own, there.map(|item| item.digest), bytes)?;
        }
    }
    Ok(())
}

fn fetch(joined: &mut Joined, item: &SharedItem) -> Result<Vec<u8>, Cut> {
    let offsets = (0..item.size.div_ceil(SHARED_PART as u64).max(1)).map(|part| part * SHARED_PART as u64);
    let requests: Vec<_> = offsets
        .map(|offset| SharedRequest::Fetch { name: item.name.clone(), digest: item.digest, offset })
        .collect();
    let mut all = Vec::new();
    let answers = joined.ask(&requests)?;
    for (at, answer) in answers.iter().enumerate() {
        let SharedAnswer::Content { state, bytes } = answer else { panic!("FETCH is answered with CONTENT") };
        let last = at + 1 == answers.len();
        assert_eq!(*state, if last { ContentState::End } else { ContentState::More });
        all.extend(bytes);
    }
    Ok(all)
}

fn place(
    joined: &mut Joined,
    item: &SharedItem,
    expected: Option<[u8; 32]>,
    bytes: &[u8],
) -> Result<(), Cut> {
    let order =
        SharedRequest::Place { name: item.name.clone(), expected, digest: item.digest, size: item.size };
    let answers = if item.size <= SHARED_AT_ONCE {
        joined.ask(&[order].into_iter().chain(parts(bytes)).collect::<Vec<_>>())?
    } else {
        let first = joined.ask(&[order])?;
        match &first[..] {
            [SharedAnswer::Outcome(SharedOutcome { code: OutcomeCode::GoOn, number, .. })] => {
                let rest = &bytes[usize::try_from(*number).expect("it is less than the size")..];
                joined.ask(&parts(rest).collect::<Vec<_>>())?
            }
            _ => first,
        }
    };
    let code = |answer: &SharedAnswer| match answer {
        SharedAnswer::Outcome(outcome) => outcome.code,
        answer => panic!("{answer:?}"),
    };
    let codes: Vec<_> = answers.iter().map(code).filter(|code| *code != OutcomeCode::Ignored).collect();
    assert_eq!(codes.last(), Some(&OutcomeCode::Done), "{codes:?}");
    Ok(())
}

#[test]
fn a_large_file_arrives_though_every_connection_is_cut() {
    let wanted = BTreeMap::from([(name("large.zip"), content(3, 400_000))]);
    let mut shelf = Shelf::default();
    for connection in 1.. {
        let mut joined = Joined::new(hello(Purpose::Shared), shelf, vec![4096]);
        joined.budget = 60_000;
        let synced = sync(&mut joined, &wanted);
        shelf = joined.shelf;
        if synced.is_ok() {
            break;
        }
        assert!(connection < 20, "nothing is gone on with");
    }
    assert_eq!(shelf.files[&name("large.zip")], File::of(&wanted[&name("large.zip")]));
}

#[test]
fn a_listing_of_many_waits_for_room() {
    let files = (0..20_000).map(|at| (name(&format!("{at:032x}.conf")), File::of(b"x"))).collect();
    let shelf = Shelf::of(files);
    let items = shelf.items();
    let mut joined = Joined::new(hello(Purpose::Shared), shelf, vec![10_000]);
    joined.part = 100;
    let got = joined.ask(&[SharedRequest::LookInto((0..1024).collect())]).expect("nothing is cut");
    assert_eq!(got, [SharedAnswer::Items { items, last: true }]);
}

#[test]
fn a_rate_holds_in_both_directions() {
    let (rate, burst) = (50_000, 16_384);
    let limited = Hello { rate, ..hello(Purpose::Shared) };
    let bytes = content(5, 300_000);
    let shelf = Shelf::of(BTreeMap::from([(name("up.conf"), File::of(&bytes))]));
    let mut joined = Joined::new(limited, shelf, vec![usize::MAX]);
    let order = |name| SharedRequest::Place { name, expected: None, digest: sha256(&bytes), size: 300_000 };
    let mut requests: Vec<_> = (0..19)
        .map(|part| SharedRequest::Fetch {
            name: name("up.conf"),
            digest: sha256(&bytes),
            offset: part * SHARED_PART as u64,
        })
        .collect();
    requests.push(order(name("down.conf")));
    requests.extend(parts(&bytes));
    let (mut rest, mut got) = (requests.iter().peekable(), 0);
    while got < requests.len() {
        while let Some(request) = rest.peek()
            && joined.puller.may_request(request)
        {
            joined.puller.request(rest.next().expect("it was peeked").clone());
        }
        while joined.turn().expect("nothing is cut") {}
        let heard = joined.got.drain(..).count();
        got += heard;
        for (direction, wire) in joined.wire.iter().enumerate() {
            let allowed = burst + rate * joined.now.as_micros() as u64 / 1_000_000;
            assert!(*wire <= allowed, "{wire} bytes in direction {direction} after {:?}", joined.now);
        }
        if heard > 0 {
            continue;
        }
        // Each end says itself when it has something to release.
        let next = joined.puller.deadline().into_iter().chain(joined.node.deadline()).min();
        joined.now = next.expect("both have deadlines").max(joined.now + Time::from_millis(1));
        assert!(joined.now < Time::from_secs(20), "{got} answers");
    }
    assert_eq!(joined.shelf.files[&name("down.conf")], File::of(&bytes));
    assert!(joined.now < Time::from_secs(12), "300 KB each way, and nothing wasted: {:?}", joined.now);
}
