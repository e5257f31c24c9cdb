//! Which packages go first when a class drops its oldest.
//!
//! The index knows no order, and looking for the oldest of a million packages at every upload would stop everything.
//! So the oldest of each class that may drop some are kept in order here, up to a bound. Mostly that is all of the
//! class; then this follows every arrival and deletion and never looks at the index. A larger class is looked through
//! once for every [`CANDIDATES_MAX`] packages that were dropped, and so is one agent of it whose oldest are not here.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::id::Id;
use crate::overflow::{ClassId, Overflow, Policy};
use crate::quota::{AgentKey, Scope};

/// Packages of a class kept in order, of about 100 bytes each. Beyond it the newer ones are looked for when these are
/// gone. Tests get there sooner.
const CANDIDATES_MAX: usize = if cfg!(test) { 4 } else { 16_384 };

/// The oldest packages of the classes that drop.
pub(crate) struct Oldest(Vec<Option<Candidates>>);

/// Of one class.
#[derive(Default)]
struct Candidates {
    by_age: BTreeMap<Id, (AgentKey, Arc<[u8]>)>,
    /// The same, and when they were looked for the oldest of one agent.
    by_agent: BTreeMap<(AgentKey, Id), Arc<[u8]>>,
    /// There are newer ones that are not in it.
    partial: bool,
    /// The index is being looked through: what arrives meanwhile is not found there.
    scanning: bool,
}

impl Oldest {
    pub(crate) fn new(overflow: &Overflow) -> Self {
        let candidates = |policy| (policy == Policy::DropOldest).then(Candidates::default);
        Self(overflow.classes().map(|class| candidates(class.policy)).collect())
    }

    fn class(&mut self, class: ClassId) -> Option<&mut Candidates> {
        self.0[class.position()].as_mut()
    }

    /// A package was stored: the newest of all.
    pub(crate) fn arrived(&mut self, scope: Scope, id: Id, listed_name: &Arc<[u8]>) {
        let Some(candidates) = self.class(scope.class) else { return };
        if !candidates.scanning {
            candidates.partial |= candidates.by_age.len() >= CANDIDATES_MAX;
        }
        if candidates.scanning || !candidates.partial {
            candidates.insert(scope.agent, id, Arc::clone(listed_name));
        }
    }

    /// A start has found one; in any order.
    pub(crate) fn found(&mut self, scope: Scope, id: Id, listed_name: &[u8]) {
        let Some(candidates) = self.class(scope.class) else { return };
        candidates.insert(scope.agent, id, listed_name.into());
        if candidates.by_age.len() > CANDIDATES_MAX
            && let Some((id, (agent, _))) = candidates.by_age.pop_last()
        {
            candidates.by_agent.remove(&(agent, id));
            candidates.partial = true;
        }
    }

    pub(crate) fn gone(&mut self, scope: Scope, id: Id) {
        if let Some(candidates) = self.class(scope.class) {
            candidates.by_age.remove(&id);
            candidates.by_agent.remove(&(scope.agent, id));
        }
    }

    /// The oldest first; of one agent, or of all.
    pub(crate) fn of(
        &self,
        class: ClassId,
        agent: Option<AgentKey>,
    ) -> Box<dyn Iterator<Item = (Id, &Arc<[u8]>)> + '_> {
        let Some(candidates) = &self.0[class.position()] else { return Box::new(std::iter::empty()) };
        match agent {
            None => Box::new(candidates.by_age.iter().map(|(id, (_, name))| (*id, name))),
            Some(agent) => {
                let (first, last) = (Id { run: 0, counter: 0 }, Id { run: u64::MAX, counter: u64::MAX });
                let range = candidates.by_agent.range((agent, first)..=(agent, last));
                Box::new(range.map(|((_, id), name)| (*id, name)))
            }
        }
    }

    /// Whether the class has packages that are not among the candidates.
    pub(crate) fn is_partial(&self, class: ClassId) -> bool {
        self.0[class.position()].as_ref().is_some_and(|candidates| candidates.partial)
    }

    /// The index will be looked through for the class.
    pub(crate) fn begin_scan(&mut self, class: ClassId) {
        if let Some(candidates) = self.class(class) {
            *candidates = Candidates { scanning: true, ..Candidates::default() };
        }
    }

    /// What was found, and what has arrived since, are the candidates now.
    pub(crate) fn end_scan(&mut self, class: ClassId, found: Found) {
        let Some(candidates) = self.class(class) else { return };
        if !found.all {
            // Others are older than what has arrived.
            candidates.by_age.clear();
            candidates.by_agent.clear();
            candidates.partial = true;
        }
        for (id, (agent, name)) in found.oldest() {
            candidates.insert(agent, id, name);
        }
        candidates.scanning = false;
    }

    /// The oldest of one agent were looked for.
    pub(crate) fn learn_agent(&mut self, class: ClassId, found: Found) {
        let Some(candidates) = self.class(class) else { return };
        let Candidates { by_age, by_agent, .. } = candidates;
        // Those of the agents before.
        by_agent.retain(|(_, id), _| by_age.contains_key(id));
        by_agent.extend(found.oldest().map(|(id, (agent, name))| ((agent, id), name)));
    }
}

impl Candidates {
    fn insert(&mut self, agent: AgentKey, id: Id, listed_name: Arc<[u8]>) {
        self.by_agent.insert((agent, id), Arc::clone(&listed_name));
        self.by_age.insert(id, (agent, listed_name));
    }
}

/// The oldest of those that a look through the index finds: [`CANDIDATES_MAX`] that may go, and the claimed ones
/// between them, whose claims may be given up.
pub(crate) struct Found {
    kept: BTreeMap<Id, (AgentKey, Arc<[u8]>)>,
    claimed: BTreeMap<Id, (AgentKey, Arc<[u8]>)>,
    /// It is all of them.
    all: bool,
}

impl Found {
    pub(crate) fn new() -> Self {
        Self { kept: BTreeMap::new(), claimed: BTreeMap::new(), all: true }
    }

    pub(crate) fn offer(&mut self, agent: AgentKey, id: Id, listed_name: &[u8], is_claimed: bool) {
        if is_claimed {
            self.claimed.insert(id, (agent, listed_name.into()));
            return;
        }
        let full = self.kept.len() >= CANDIDATES_MAX;
        if full && self.kept.last_key_value().is_some_and(|(newest, _)| *newest < id) {
            self.all = false;
            return;
        }
        self.kept.insert(id, (agent, listed_name.into()));
        if full {
            self.kept.pop_last();
            self.all = false;
        }
    }

    /// None of them is newer than one that was left out.
    fn oldest(mut self) -> impl Iterator<Item = (Id, (AgentKey, Arc<[u8]>))> {
        if !self.all {
            let newest = self.kept.last_key_value().map(|(id, _)| *id);
            self.claimed.retain(|id, _| Some(*id) < newest);
        }
        self.kept.into_iter().chain(self.claimed)
    }

    /// Leaves out what is gone by now.
    pub(crate) fn retain(&mut self, is_there: impl Fn(Id, &[u8]) -> bool) {
        self.kept.retain(|id, (_, name)| is_there(*id, name));
        self.claimed.retain(|id, (_, name)| is_there(*id, name));
    }
}

#[cfg(test)]
mod tests {
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
        let mut found = Found::new();
        counters.into_iter().for_each(|counter| found.offer(agent, id(counter), &name(counter), false));
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
        let mut found = Found::new();
        for counter in 0..3 * MAX {
            found.offer(1, id(counter), &name(counter), counter < MAX || counter == 2 * MAX + 1);
        }
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
        oldest.learn_agent(b.class, scan(2, [MAX]));
        assert_eq!(listed(&oldest, b, Some(2)), [MAX.to_string()]);
        assert_eq!(listed(&oldest, b, None).len(), CANDIDATES_MAX, "it is not among the oldest of all");
        oldest.gone(b, id(MAX));
        assert!(listed(&oldest, b, Some(2)).is_empty());
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
}
