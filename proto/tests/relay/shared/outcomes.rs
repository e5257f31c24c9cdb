//! Which outcome is taken where: every code after every beginning, from the puller's side. (The node holds its owner to the
//! same rule.)

use tidegate_proto::relay::frame::Frame;
use tidegate_proto::relay::limits::SHARED_AT_ONCE;
use tidegate_proto::relay::{OutcomeCode, PullerEvent, Purpose, SharedAnswer, SharedOutcome, SharedRequest};
use tidegate_proto::{Machine, Time};

use super::name;
use crate::wire::{assert_violation, frames, hear, puller};
use OutcomeCode::{Changed, Damaged, Done, GoOn, Ignored, Refused};

fn place(size: u64) -> SharedRequest {
    SharedRequest::Place { name: name("a.conf"), expected: None, digest: [1; 32], size }
}

fn part(length: usize) -> SharedRequest {
    SharedRequest::Part(vec![b'x'; length])
}

fn remove() -> SharedRequest {
    SharedRequest::Remove { name: name("a.conf"), expected: [1; 32] }
}

fn outcome(code: OutcomeCode, number: u64) -> SharedOutcome {
    SharedOutcome { code, number, digest: None, text: String::new() }
}

/// Whether the last of these requests may have this outcome, after those before had theirs.
fn is_taken(requests: &[SharedRequest], before: &[SharedOutcome], last: &SharedOutcome) -> bool {
    let mut puller = puller(Purpose::Shared);
    requests.iter().for_each(|request| puller.request(request.clone()));
    puller.output().clear();
    let bytes: Vec<_> = before.iter().cloned().map(SharedAnswer::Outcome).map(Frame::Answer).collect();
    let (events, close) = hear(&mut puller, &frames(&bytes), usize::MAX);
    assert_eq!((events.len(), close), (before.len(), None), "the beginning is taken");
    let answer = SharedAnswer::Outcome(last.clone());
    let (events, close) = hear(&mut puller, &frames(&[Frame::Answer(answer.clone())]), 1);
    if close.is_none() {
        assert_eq!(events, [PullerEvent::Shared(answer)]);
        assert_eq!(puller.outstanding(), 0);
        return true;
    }
    assert_eq!(events, []);
    let text = if last.code == GoOn { "" } else { "cannot be answered with" };
    assert_violation(&mut puller, close, text);
    assert_eq!(puller.outstanding(), 0, "nobody waits on a connection that is over");
    assert_eq!(puller.deadline(), Some(Time::ZERO));
    false
}

/// Of every code, with the number that would be right if bytes were wanted, exactly these are taken.
fn taken(requests: &[SharedRequest], before: &[SharedOutcome], number: u64, codes: &[OutcomeCode]) {
    for (code, _, text) in OutcomeCode::ALL {
        let number = if code == GoOn { number } else { 0 };
        assert_eq!(
            is_taken(requests, before, &outcome(code, number)),
            codes.contains(&code),
            "{text} after {before:?} to {requests:?}"
        );
    }
}

#[test]
fn of_a_request_alone() {
    taken(&[place(5)], &[], 0, &[GoOn, Done, Changed, Refused, Damaged]);
    taken(&[place(0)], &[], 0, &[Done, Changed, Refused, Damaged]);
    taken(&[remove()], &[], 0, &[Done, Changed, Refused]);
    taken(&[part(1)], &[], 1, &[Ignored]);
}

#[test]
fn of_parts() {
    let begun = outcome(GoOn, 0);
    taken(&[place(5), part(3)], std::slice::from_ref(&begun), 3, &[GoOn, Changed, Refused]);
    taken(&[place(5), part(5)], std::slice::from_ref(&begun), 5, &[Done, Changed, Refused, Damaged]);
    let on = [begun, outcome(GoOn, 3)];
    taken(&[place(5), part(3), part(1)], &on, 4, &[GoOn, Changed, Refused]);
    taken(&[place(5), part(3), part(2)], &on, 5, &[Done, Changed, Refused, Damaged]);
}

#[test]
fn of_parts_when_nothing_is_placed_any_more() {
    for code in [Done, Changed, Refused, Damaged] {
        taken(&[place(5), part(3)], &[outcome(code, 0)], 3, &[Ignored]);
    }
    for code in [Changed, Refused] {
        taken(&[place(5), part(3), part(2)], &[outcome(GoOn, 0), outcome(code, 0)], 5, &[Ignored]);
    }
    for code in [Done, Damaged] {
        taken(&[place(5), part(5), part(2)], &[outcome(GoOn, 0), outcome(code, 0)], 2, &[Ignored]);
    }
    taken(&[place(5), remove(), part(3)], &[outcome(GoOn, 0), outcome(Done, 0)], 3, &[Ignored]);
    taken(&[place(5), place(5), part(3)], &[outcome(GoOn, 0), outcome(Changed, 0)], 3, &[Ignored]);
    taken(
        &[place(5), part(3), place(5), part(3)],
        &[outcome(GoOn, 0), outcome(GoOn, 3), outcome(GoOn, 0)],
        3,
        &[GoOn, Changed, Refused],
    );
}

#[test]
fn counts_of_bytes_that_are_there() {
    for (size, number, right) in [
        (5, 0, true),
        (5, 1, false),
        (5, 5, false),
        (SHARED_AT_ONCE, 0, true),
        (SHARED_AT_ONCE, 1, false),
        (SHARED_AT_ONCE + 1, 0, true),
        (SHARED_AT_ONCE + 1, SHARED_AT_ONCE, true),
        (SHARED_AT_ONCE + 1, SHARED_AT_ONCE + 1, false),
        (u64::MAX, u64::MAX - 1, true),
        (u64::MAX, u64::MAX, false),
    ] {
        assert_eq!(is_taken(&[place(size)], &[], &outcome(GoOn, number)), right, "{number} of {size}");
    }
    for number in [0, 2, 4, 5, u64::MAX] {
        assert!(!is_taken(&[place(5), part(3)], &[outcome(GoOn, 0)], &outcome(GoOn, number)), "{number}");
    }
    let far = [place(u64::MAX), part(100)];
    assert!(is_taken(&far, &[outcome(GoOn, u64::MAX - 200)], &outcome(GoOn, u64::MAX - 100)));
    // More bytes than it has: an owner's mistake, which the node ends.
    assert!(is_taken(&far, &[outcome(GoOn, u64::MAX - 50)], &outcome(Done, 0)));
}
