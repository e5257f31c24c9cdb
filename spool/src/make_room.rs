//! Room where there is none: a class may say that its oldest packages go for newer ones.
//!
//! The order of a drop: its loss record is durable, then it is a deletion like any other (module `lease`), but one that
//! is not remembered as a delivery: who sends a dropped file again is taken seriously. A crash between the two leaves a
//! record that counts packages which are still there: it errs on the side of too many.
//!
//! Room is made at the offer, when nobody knows yet whether the package is a repeat or will come whole: at its limit a
//! class then loses an old package for nothing.
//!
//! Nothing is dropped of a class that refuses, nothing that a puller has claimed, and nothing where all of it would
//! not do. A drop costs some fsyncs, so a few packages more go with it ([`AHEAD_FILES`]).

use std::sync::Arc;

use crate::clock::millis;
use crate::draft::Draft;
use crate::entry::{Entry, Order};
use crate::error::{CommitError, Full};
use crate::id::Id;
use crate::index::Package;
use crate::lease::{Ending, Lease};
use crate::losses::{Loss, LossReason};
use crate::names;
use crate::oldest::Found;
use crate::overflow::Policy;
use crate::parallel::lock;
use crate::quota::{AgentKey, Count, Level, Scope, Shortage};
use crate::store::{Spool, Store};

/// Packages dropped beyond what is missing, so that not every upload has to wait for a drop of its own; and at most
/// one in [`AHEAD_PART`] of those there are, so that a small class is not emptied.
const AHEAD_FILES: u64 = 32;

/// Their bytes.
const AHEAD_BYTES: u64 = 1 << 20;

/// See [`AHEAD_FILES`].
const AHEAD_PART: u64 = 16;

/// Drops for one package. Others take the room that is made as well; beyond it the package is refused.
const ROUNDS_MAX: usize = 16;

/// Packages taken from the index at once when it is looked through: nothing else goes on during that. Tests get there
/// sooner.
const LOOK: usize = if cfg!(test) { 2 } else { 4_096 };

/// What was dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Packages.
    pub packages: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Spool {
    /// Whether packages sent as `name` may take the place of older ones.
    pub fn may_drop(&self, name: &[u8]) -> bool {
        let overflow = &self.store.quota.overflow;
        overflow.class(overflow.class_of(name)).policy == Policy::DropOldest
    }

    /// [`Spool::begin`], but where its class allows it the oldest packages go to make room. Blocks on the disk.
    ///
    /// Room is made for `size` bytes, if all the `announced` ones are possible.
    pub fn begin_dropping(&self, name: &[u8], announced: u64, size: u64) -> Result<(Draft, Dropped), Full> {
        let store = &self.store;
        let scope = store.quota.scope(name);
        let room = store.make_room(scope, || {
            match store.quota.check(Some(scope), announced) {
                Err(shortage) if shortage.to_drop.is_none() => return Err(shortage),
                _ => {}
            }
            store.quota.reserve(Some(scope), size)
        });
        let (room, dropped) = room.map_err(|error| error.full(store, scope, name, announced))?;
        Ok((Draft::new(Arc::clone(store), room, name), dropped))
    }
}

/// Whether it is worth dropping some where more are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// There are others, for the next round.
    WillDo,
    /// They may be all there are.
    WillNotDo,
}

/// Why no room was made.
pub(crate) enum NoRoom {
    Short(Shortage),
    Failed(CommitError),
}

impl NoRoom {
    pub(crate) fn full(self, store: &Store, scope: Scope, name: &[u8], bytes: u64) -> Full {
        match self {
            Self::Short(shortage) => store.quota.full(shortage, Some(scope), name, bytes),
            Self::Failed(CommitError::Poisoned { reason }) => Full::Poisoned { reason },
            Self::Failed(error) => Full::NotDropped { reason: error.to_string().into() },
        }
    }
}

impl Store {
    /// Repeats `attempt` and drops what it lacks, until it succeeds or nothing may go.
    pub(crate) fn make_room<T>(
        self: &Arc<Self>,
        scope: Scope,
        mut attempt: impl FnMut() -> Result<T, Shortage>,
    ) -> Result<(T, Dropped), NoRoom> {
        // One after the other: two would drop twice what is missing.
        let _turn = lock(&self.dropping);
        self.check_poison().map_err(NoRoom::Failed)?;
        let mut dropped = Dropped::default();
        for _ in 0..ROUNDS_MAX {
            let shortage = match attempt() {
                Ok(done) => return Ok((done, dropped)),
                Err(shortage) => shortage,
            };
            let Some(missing) = shortage.to_drop else { return Err(NoRoom::Short(shortage)) };
            let agent = (shortage.level == Level::Agent).then_some(scope.agent);
            let victims = self.victims(scope, agent, missing).ok_or(NoRoom::Short(shortage))?;
            let before = self.quota.free_now();
            let gone = self.drop_packages(scope, &victims).map_err(NoRoom::Failed)?;
            dropped.packages += gone.packages;
            dropped.bytes += gone.bytes;
            if !self.quota.dropped(shortage, before) {
                break;
            }
        }
        attempt().map(|done| (done, dropped)).map_err(NoRoom::Short)
    }

    /// The oldest packages that make up for what is missing, claimed; `None` when all together do not.
    fn victims(
        self: &Arc<Self>,
        scope: Scope,
        agent: Option<AgentKey>,
        missing: Count,
    ) -> Option<Vec<Lease>> {
        let (of_class, of_agent) = self.quota.held(scope);
        let held = if agent.is_some() { of_agent } else { of_class };
        let victims = self.oldest_unclaimed(scope, agent, missing, held, Part::WillNotDo);
        if victims.is_some() || !lock(&self.state).oldest.may_find(scope.class, agent, missing) {
            return victims;
        }
        let part = self.look_through_index(scope, agent, missing);
        self.oldest_unclaimed(scope, agent, missing, held, part)
    }

    fn oldest_unclaimed(
        self: &Arc<Self>,
        scope: Scope,
        agent: Option<AgentKey>,
        missing: Count,
        held: Count,
        part: Part,
    ) -> Option<Vec<Lease>> {
        let ahead = Count {
            files: AHEAD_FILES.min(held.files / AHEAD_PART),
            bytes: AHEAD_BYTES.min(held.bytes / AHEAD_PART),
        };
        let mut state = lock(&self.state);
        let (mut picked, mut sum, mut extra) = (Vec::new(), Count::default(), Count::default());
        for (id, name) in state.oldest.of(scope.class, agent) {
            let droppable = |package: &Package| package.id == id && !state.index.is_leased(id);
            let Some(package) = state.index.get(name).filter(droppable) else { continue };
            if sum.files < missing.files || sum.bytes < missing.bytes {
                sum = Count { files: sum.files + 1, bytes: sum.bytes + package.size };
            } else {
                extra = Count { files: extra.files + 1, bytes: extra.bytes + package.size };
                if extra.files > ahead.files || extra.bytes > ahead.bytes {
                    break;
                }
            }
            picked.push(Arc::clone(name));
        }
        if picked.is_empty() || (part == Part::WillNotDo && !sum.covers(missing)) {
            return None;
        }
        let packages: Vec<Package> = picked.iter().filter_map(|name| state.index.lease(name)).collect();
        drop(state);
        Some(packages.into_iter().map(|package| Lease::new(Arc::clone(self), package)).collect())
    }

    /// Finds the oldest packages of the class, or of one agent in it. Commits and deletions go on meanwhile.
    fn look_through_index(&self, scope: Scope, agent: Option<AgentKey>, missing: Count) -> Part {
        if agent.is_none() {
            lock(&self.state).oldest.begin_scan(scope.class);
        }
        let (mut found, mut next) = (Found::new(agent), 0);
        while !found.is_enough(missing) {
            let packages = self.packages_from(next);
            let Some((_, last, _)) = packages.last() else { break };
            next = last.order() + 1;
            for (id, entry, is_claimed) in packages {
                let name = entry.listed_name();
                // Expressions tell the class: nobody is to wait for that.
                let it = self.quota.scope(&names::sent(name, entry.digest()));
                if it.class == scope.class && agent.is_none_or(|agent| it.agent == agent) {
                    found.offer(it.agent, id, (name, entry.size()), is_claimed);
                }
            }
        }
        let mut state = lock(&self.state);
        let state = &mut *state;
        found.retain(|id, name| state.index.get(name).is_some_and(|package| package.id == id));
        let sum = found.sum();
        match agent {
            None => state.oldest.end_scan(scope.class, found),
            Some(agent) => state.oldest.learn_agent(scope.class, agent, found),
        }
        if sum.covers(missing) {
            return Part::WillDo;
        }
        state.oldest.found_too_little(scope.class, agent, sum);
        Part::WillNotDo
    }

    /// The next [`LOOK`] packages from this place on, and which of them are claimed.
    fn packages_from(&self, order: Order) -> Vec<(Id, Entry, bool)> {
        let state = lock(&self.state);
        let packages = state.index.packages_from(order).take(LOOK);
        packages.map(|(id, entry)| (id, entry.clone(), state.index.is_leased(id))).collect()
    }

    fn drop_packages(&self, scope: Scope, victims: &[Lease]) -> Result<Dropped, CommitError> {
        let packages: Vec<&Package> = victims.iter().map(Lease::package).collect();
        let class = &self.quota.overflow.class(scope.class).name;
        let loss =
            |package: &&Package| Loss::of(class, LossReason::Dropped, package.size, millis(package.arrival));
        self.record_losses(&packages.iter().map(loss).collect::<Vec<_>>())?;
        let results = self.delete(&packages, Ending::Dropped)?;
        self.quota.look_again();
        let mut dropped = Dropped::default();
        let mut failure = None;
        for (package, result) in packages.into_iter().zip(results) {
            match result {
                Ok(()) => {
                    dropped.packages += 1;
                    dropped.bytes += package.size;
                }
                Err(error) => failure = Some(error),
            }
        }
        lock(&self.state).dropped += dropped.packages;
        failure.map_or(Ok(dropped), Err)
    }
}
