//! Which packages go first when a class drops its oldest.
//!
//! The index knows the order of all packages, but not their classes: expressions tell them, and looking for the oldest
//! of a class among a million packages at every upload would stop everything. So the oldest of each class that may drop
//! some are kept in order here, up to a bound. Mostly that is all of the class; then this follows every arrival and
//! deletion and never looks at the index. A larger class is looked for once for every [`CANDIDATES_MAX`] packages that
//! were dropped, and an agent of it whose oldest are not here once for every [`OF_AGENT_MAX`]. What was looked for in vain
//! is not looked for again before something has changed.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::id::Id;
use crate::overflow::{ClassId, Overflow, Policy};
use crate::quota::{AgentKey, Count, Scope};

/// Packages of a class kept in order, of about 100 bytes each. Beyond it the newer ones are looked for when these are
/// gone. Tests get there sooner.
const CANDIDATES_MAX: usize = if cfg!(test) { 4 } else { 16_384 };

/// The same of one agent that was looked for by itself.
pub(crate) const OF_AGENT_MAX: usize = if cfg!(test) { 4 } else { 1_024 };

/// Agents of a class that were looked for by themselves and are remembered. Beyond it the one looked for first is
/// forgotten, and looked for again when it is at its limit.
const AGENTS_MAX: usize = if cfg!(test) { 2 } else { 32 };

/// Vain looks that are remembered. Beyond it all are forgotten.
const VAIN_MAX: usize = 1_024;

/// The oldest packages of the classes that drop.
pub(crate) struct Oldest(Vec<Option<Candidates>>);

/// Of one class.
#[derive(Default)]
struct Candidates {
    by_age: BTreeMap<Id, (AgentKey, Arc<[u8]>)>,
    /// The same, and when they were looked for the oldest of one agent.
    by_agent: BTreeMap<(AgentKey, Id), Arc<[u8]>>,
    /// Those agents, the one looked for first in front.
    agents: VecDeque<AgentKey>,
    /// Of what a look has found too little (an agent, or all), and all that may have gone then.
    vain: HashMap<Option<AgentKey>, Count>,
    /// There are newer ones that are not in it.
    partial: bool,
    /// The index is being looked through: what arrives meanwhile may not be found there.
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
        candidates.vain.remove(&None);
        candidates.vain.remove(&Some(scope.agent));
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
                let range = candidates.by_agent.range(all_of(agent));
                Box::new(range.map(|((_, id), name)| (*id, name)))
            }
        }
    }

    /// Whether the class has packages that are not among the candidates.
    #[cfg(test)]
    pub(crate) fn is_partial(&self, class: ClassId) -> bool {
        self.0[class.position()].as_ref().is_some_and(|candidates| candidates.partial)
    }

    /// Somebody has given up a claim, so one package more may go.
    pub(crate) fn unclaimed(&mut self) {
        self.0.iter_mut().flatten().for_each(|candidates| candidates.vain.clear());
    }

    /// Whether a look through the index may find so much that may go.
    pub(crate) fn may_find(&self, class: ClassId, agent: Option<AgentKey>, missing: Count) -> bool {
        let Some(candidates) = &self.0[class.position()] else { return false };
        candidates.partial && candidates.vain.get(&agent).is_none_or(|found| found.covers(missing))
    }

    /// No more than this was found.
    pub(crate) fn found_too_little(&mut self, class: ClassId, agent: Option<AgentKey>, found: Count) {
        let Some(candidates) = self.class(class) else { return };
        if candidates.vain.len() >= VAIN_MAX {
            candidates.vain.clear();
        }
        candidates.vain.insert(agent, found);
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
    pub(crate) fn learn_agent(&mut self, class: ClassId, agent: AgentKey, found: Found) {
        let Some(candidates) = self.class(class) else { return };
        candidates.forget(agent);
        if candidates.agents.len() >= AGENTS_MAX
            && let Some(first) = candidates.agents.front().copied()
        {
            candidates.forget(first);
        }
        candidates.agents.push_back(agent);
        candidates.by_agent.extend(found.oldest().map(|(id, (agent, name))| ((agent, id), name)));
    }
}

impl Candidates {
    /// Leaves only those that are among the oldest of all.
    fn forget(&mut self, agent: AgentKey) {
        if let Some(place) = self.agents.iter().position(|it| *it == agent) {
            self.agents.remove(place);
            let Self { by_age, by_agent, .. } = self;
            let ids: Vec<Id> = by_agent.range(all_of(agent)).map(|((_, id), _)| *id).collect();
            for id in ids.into_iter().filter(|id| !by_age.contains_key(id)) {
                by_agent.remove(&(agent, id));
            }
        }
    }

    fn insert(&mut self, agent: AgentKey, id: Id, listed_name: Arc<[u8]>) {
        self.by_agent.insert((agent, id), Arc::clone(&listed_name));
        self.by_age.insert(id, (agent, listed_name));
    }
}

fn all_of(agent: AgentKey) -> RangeInclusive<(AgentKey, Id)> {
    (agent, Id { run: 0, counter: 0 })..=(agent, Id { run: u64::MAX, counter: u64::MAX })
}

/// The oldest of those that a look through the index finds: [`CANDIDATES_MAX`] or [`OF_AGENT_MAX`] that may go, and
/// the claimed ones between them, whose claims may be given up.
pub(crate) struct Found {
    most: usize,
    /// All that may go, of those left out as well.
    sum: Count,
    kept: BTreeMap<Id, (AgentKey, Arc<[u8]>)>,
    claimed: BTreeMap<Id, (AgentKey, Arc<[u8]>)>,
    /// It is all of them.
    all: bool,
}

impl Found {
    pub(crate) fn new(agent: Option<AgentKey>) -> Self {
        let most = if agent.is_some() { OF_AGENT_MAX } else { CANDIDATES_MAX };
        Self { most, sum: Count::default(), kept: BTreeMap::new(), claimed: BTreeMap::new(), all: true }
    }

    pub(crate) fn sum(&self) -> Count {
        self.sum
    }

    /// That there are more is known, and that these will do: where they are offered from the oldest on, none behind them
    /// changes what was found.
    pub(crate) fn is_enough(&self, missing: Count) -> bool {
        !self.all && self.sum.covers(missing)
    }

    /// In any order.
    pub(crate) fn offer(
        &mut self,
        agent: AgentKey,
        id: Id,
        (listed_name, bytes): (&[u8], u64),
        is_claimed: bool,
    ) {
        if is_claimed {
            self.claimed.insert(id, (agent, listed_name.into()));
            return;
        }
        self.sum.add(Count { files: 1, bytes });
        let full = self.kept.len() >= self.most;
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
mod tests;
