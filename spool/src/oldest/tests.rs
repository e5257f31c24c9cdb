//! What is kept in order, what is looked for, and what is forgotten.

use super::*;
use crate::overflow::{Class, DATA_CLASS};

const MAX: u64 = CANDIDATES_MAX as u64;

fn scope(overflow: &Overflow, agent: AgentKey) -> Scope {
    Scope { class: overflow.class_of(b"x"), agent }
}

fn overflow(policy: Policy) -> Overflow {
    Overflow::new(Class { policy, ..Class::new(DATA_CLASS) }, vec![], |_| None)
}

fn name(counter: u64) -> Arc<[u8]> {
    format!("{counter}").into_bytes().into()
}

fn id(counter: u64) -> Id {
    Id { run: 1, counter }
}

fn listed(oldest: &Oldest, scope: Scope, agent: Option<AgentKey>) -> Vec<String> {
    oldest.of(scope.class, agent).map(|(_, name)| String::from_utf8_lossy(name).into_owned()).collect()
}

fn scan(agent: AgentKey, counters: impl IntoIterator<Item = u64>) -> Found {
    let mut found = Found::new(None);
    let mut offer = |counter| found.offer(agent, id(counter), (&name(counter), 10), false);
    counters.into_iter().for_each(&mut offer);
    found
}

#[test]
fn arrivals_and_deletions_are_followed_while_there_are_few() {
    let overflow = overflow(Policy::DropOldest);
    let mut oldest = Oldest::new(&overflow);
    let (a, b) = (scope(&overflow, 1), scope(&overflow, 2));
    oldest.arrived(a, id(1), &name(1));
    oldest.arrived(b, id(2), &name(2));
    oldest.arrived(a, id(3), &name(3));
    oldest.gone(a, id(1));
    assert_eq!(listed(&oldest, a, None), ["2", "3"]);
    assert_eq!(
        (listed(&oldest, a, Some(1)), listed(&oldest, a, Some(2))),
        (vec!["3".into()], vec!["2".into()])
    );
    assert!(!oldest.is_partial(a.class));
}

#[test]
fn of_many_the_oldest_are_kept_and_the_rest_is_looked_for() {
    let overflow = overflow(Policy::DropOldest);
    let mut oldest = Oldest::new(&overflow);
    let a = scope(&overflow, 1);
    (0..MAX + 2).for_each(|counter| oldest.arrived(a, id(counter), &name(counter)));
    assert!(oldest.is_partial(a.class));
    (0..MAX).for_each(|counter| oldest.gone(a, id(counter)));
    assert!(listed(&oldest, a, None).is_empty());

    oldest.begin_scan(a.class);
    oldest.arrived(a, id(MAX + 2), &name(MAX + 2));
    oldest.end_scan(a.class, scan(1, [MAX + 1, MAX]));
    let expected: Vec<_> = (MAX..MAX + 3).map(|counter| counter.to_string()).collect();
    assert_eq!(listed(&oldest, a, None), expected, "what arrived meanwhile is in it");
    assert!(!oldest.is_partial(a.class));
}

#[test]
fn a_start_keeps_the_oldest_in_whatever_order_it_finds_them() {
    let overflow = overflow(Policy::DropOldest);
    let mut oldest = Oldest::new(&overflow);
    let a = scope(&overflow, 1);
    for counter in [7, 1, 9, 3, 8, 2] {
        oldest.found(a, id(counter), &name(counter));
    }
    assert_eq!(listed(&oldest, a, None), ["1", "2", "3", "7"]);
    assert_eq!(listed(&oldest, a, Some(1)).len(), CANDIDATES_MAX);
    assert!(oldest.is_partial(a.class));
}

#[test]
fn what_arrives_during_a_scan_of_many_is_not_older_than_the_rest() {
    let overflow = overflow(Policy::DropOldest);
    let mut oldest = Oldest::new(&overflow);
    let a = scope(&overflow, 1);
    oldest.begin_scan(a.class);
    oldest.arrived(a, id(100), &name(100));
    let mut found = scan(1, (0..2 * MAX).rev());
    found.retain(|it, _| it != id(0));
    oldest.end_scan(a.class, found);
    let expected: Vec<_> = (1..MAX).map(|counter| counter.to_string()).collect();
    assert_eq!(listed(&oldest, a, None), expected);
    assert!(oldest.is_partial(a.class));
}

#[test]
fn claimed_ones_do_not_hide_those_that_may_go() {
    let overflow = overflow(Policy::DropOldest);
    let mut oldest = Oldest::new(&overflow);
    let a = scope(&overflow, 1);
    oldest.begin_scan(a.class);
    let mut found = Found::new(None);
    for counter in 0..3 * MAX {
        found.offer(1, id(counter), (&name(counter), 10), counter < MAX || counter == 2 * MAX + 1);
    }
    assert_eq!(found.sum(), Count { files: 2 * MAX - 1, bytes: 10 * (2 * MAX - 1) });
    oldest.end_scan(a.class, found);
    let expected: Vec<_> = (0..2 * MAX).map(|counter| counter.to_string()).collect();
    assert_eq!(listed(&oldest, a, None), expected);
    assert!(oldest.is_partial(a.class));
}

#[test]
fn one_agent_of_many_is_looked_for_by_itself() {
    let overflow = overflow(Policy::DropOldest);
    let mut oldest = Oldest::new(&overflow);
    let (a, b) = (scope(&overflow, 1), scope(&overflow, 2));
    (0..MAX).for_each(|counter| oldest.arrived(a, id(counter), &name(counter)));
    oldest.arrived(b, id(MAX), &name(MAX));
    assert!(listed(&oldest, b, Some(2)).is_empty() && oldest.is_partial(b.class));
    oldest.learn_agent(b.class, 2, scan(2, [MAX]));
    assert_eq!(listed(&oldest, b, Some(2)), [MAX.to_string()]);
    assert_eq!(listed(&oldest, b, None).len(), CANDIDATES_MAX, "it is not among the oldest of all");
    oldest.gone(b, id(MAX));
    assert!(listed(&oldest, b, Some(2)).is_empty());
}

#[test]
fn some_agents_are_known_at_a_time() {
    let overflow = overflow(Policy::DropOldest);
    let mut oldest = Oldest::new(&overflow);
    let a = scope(&overflow, 1);
    (0..MAX + 1).for_each(|counter| oldest.arrived(a, id(counter), &name(counter)));
    let agents = AGENTS_MAX as u64;
    let learn = |oldest: &mut Oldest, agent| {
        oldest.learn_agent(a.class, agent, scan(agent, [100 * agent]));
    };
    (2..2 + agents).for_each(|agent| learn(&mut oldest, agent));
    learn(&mut oldest, 2);
    let known = |oldest: &Oldest, agent| listed(oldest, a, Some(agent)).len();
    assert!((2..2 + agents).all(|agent| known(&oldest, agent) == 1));
    learn(&mut oldest, 50);
    assert_eq!((known(&oldest, 50), known(&oldest, 3), known(&oldest, 2)), (1, 0, 1), "first in, first out");
    assert_eq!(known(&oldest, 1), CANDIDATES_MAX, "among the oldest of all");
}

#[test]
fn a_look_in_vain_is_not_repeated_before_something_changes() {
    let overflow = overflow(Policy::DropOldest);
    let mut oldest = Oldest::new(&overflow);
    let (a, b) = (scope(&overflow, 1), scope(&overflow, 2));
    let count = |files| Count { files, bytes: 10 };
    let may_find = |oldest: &Oldest, files| oldest.may_find(a.class, Some(1), count(files));
    (0..MAX).for_each(|counter| oldest.arrived(a, id(counter), &name(counter)));
    assert!(!may_find(&oldest, 1), "all of them are here");
    oldest.arrived(a, id(MAX), &name(MAX));
    assert!(may_find(&oldest, 3));
    let too_little = |oldest: &mut Oldest| oldest.found_too_little(a.class, Some(1), count(2));
    too_little(&mut oldest);
    oldest.arrived(b, id(MAX + 1), &name(MAX + 1));
    assert!(!may_find(&oldest, 3) && may_find(&oldest, 2) && oldest.may_find(a.class, None, count(3)));
    oldest.arrived(a, id(MAX + 2), &name(MAX + 2));
    assert!(may_find(&oldest, 3));
    too_little(&mut oldest);
    oldest.unclaimed();
    assert!(may_find(&oldest, 3));
}

#[test]
fn of_a_class_that_refuses_nothing_is_a_candidate() {
    let overflow = overflow(Policy::Refuse);
    let mut oldest = Oldest::new(&overflow);
    let a = scope(&overflow, 1);
    oldest.arrived(a, id(1), &name(1));
    oldest.found(a, id(2), &name(2));
    assert!(listed(&oldest, a, None).is_empty() && !oldest.is_partial(a.class));
}
