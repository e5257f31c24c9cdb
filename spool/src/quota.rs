//! Room: how many packages and bytes the spool, a class and an agent may hold, and how much of the file system is
//! left free.
//!
//! Room is promised before a byte arrives and counts as taken until it is given back, so uploads that run side by
//! side never overrun a limit together. An agent costs one entry of 24 bytes while it has a package here: it is known
//! by a hash of its name under a key that nobody outside can guess.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::error::{Bound, Full};
use crate::overflow::{ClassId, DATA_CLASS, Overflow, Policy, agent};
use crate::parallel::lock;

/// The file system is asked for its free space at most this often; between, what was promised is subtracted.
const FREE_SPACE_INTERVAL: Duration = Duration::from_millis(100);

/// Where a limit has shrunk with the free space, at most so many times the package's own bytes are dropped for it.
/// Beyond it the package is refused.
const SHRINKAGE_MAX: u64 = 8;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) max_files: u64,
    pub(crate) max_bytes: u64,
    pub(crate) reserve_bytes: u64,
}

/// Whose room a package takes, beside the spool's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    pub(crate) class: ClassId,
    pub(crate) agent: AgentKey,
}

/// Stands for an agent in a class.
pub(crate) type AgentKey = u64;

/// Asks the file system for its free bytes.
type FreeSpace = Box<dyn Fn() -> io::Result<u64> + Send + Sync>;

/// The room of one spool.
pub(crate) struct Quota {
    pub(crate) limits: Limits,
    pub(crate) overflow: Overflow,
    hasher: RandomState,
    free: FreeSpace,
    taken: Mutex<Taken>,
}

/// Packages stored or being written, and bytes stored or promised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

impl Count {
    fn add(&mut self, more: Self) {
        self.files = self.files.saturating_add(more.files);
        self.bytes = self.bytes.saturating_add(more.bytes);
    }

    fn subtract(&mut self, less: Self) {
        self.files = self.files.saturating_sub(less.files);
        self.bytes = self.bytes.saturating_sub(less.bytes);
    }
}

struct Taken {
    all: Count,
    /// By the position of the class.
    classes: Vec<Count>,
    agents: HashMap<AgentKey, Count>,
    /// Bytes promised and not yet stored.
    promised: u64,
    /// Free bytes above the reserve that are not promised, as of `read` and what happened since.
    available: u64,
    read: Option<Instant>,
}

/// Which limit is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Agent,
    Class,
    Spool,
    FreeSpace,
}

/// The limits of one level, where it has its own.
#[derive(Clone, Copy)]
struct Own {
    files: Option<u64>,
    /// As of now.
    bytes: Option<u64>,
    /// What no change in the free space lifts.
    firm_bytes: Option<u64>,
}

/// What is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shortage {
    pub(crate) level: Level,
    pub(crate) bound: Bound,
    /// The package alone is over the limit, so no room that is made helps.
    pub(crate) never: bool,
    /// What would have to go; `None` where nothing may, or all of it would not do.
    pub(crate) to_drop: Option<Count>,
}

impl Quota {
    pub(crate) fn new(
        limits: Limits,
        overflow: Overflow,
        free: impl Fn() -> io::Result<u64> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let taken = Taken {
            all: Count::default(),
            classes: vec![Count::default(); overflow.classes().len()],
            agents: HashMap::new(),
            promised: 0,
            available: 0,
            read: None,
        };
        let hasher = RandomState::new();
        Arc::new(Self { limits, overflow, hasher, free: Box::new(free), taken: Mutex::new(taken) })
    }

    /// Whose room a package sent as `name` takes.
    pub(crate) fn scope(&self, name: &[u8]) -> Scope {
        let class = self.overflow.class_of(name);
        Scope { class, agent: self.hasher.hash_one((class, agent(name))) }
    }

    /// Counts what a start has found.
    pub(crate) fn found(&self, scope: Scope, bytes: u64) {
        lock(&self.taken).add(Some(scope), Count { files: 1, bytes });
    }

    /// Promises room for one package. Without a scope it counts for the spool alone.
    pub(crate) fn reserve(self: &Arc<Self>, scope: Option<Scope>, bytes: u64) -> Result<Room, Shortage> {
        self.promise(scope, Count { files: 1, bytes }, bytes)?;
        Ok(Room { quota: Arc::clone(self), scope, bytes })
    }

    /// What a package of `bytes` would lack.
    pub(crate) fn check(&self, scope: Option<Scope>, bytes: u64) -> Result<(), Shortage> {
        self.shortage(&mut lock(&self.taken), scope, Count { files: 1, bytes }, bytes)
    }

    /// `total` is the package's size, with what was promised before.
    fn promise(&self, scope: Option<Scope>, more: Count, total: u64) -> Result<(), Shortage> {
        let mut taken = lock(&self.taken);
        self.shortage(&mut taken, scope, more, total)?;
        taken.available -= more.bytes;
        taken.promised += more.bytes;
        taken.add(scope, more);
        Ok(())
    }

    /// The narrowest limit that is in the way, first.
    fn shortage(
        &self,
        taken: &mut Taken,
        scope: Option<Scope>,
        more: Count,
        total: u64,
    ) -> Result<(), Shortage> {
        self.look_at_free_space(taken);
        let Limits { max_files, max_bytes, reserve_bytes } = self.limits;
        // A part of the room is a part of what there is: the file system may be smaller than the limit.
        let now = max_bytes.min(taken.all.bytes.saturating_add(taken.available));
        let in_the_way = |level, used: Count, own: Own| {
            let over = |most: Option<u64>, used: u64, more: u64| {
                most.map_or(0, |most| used.saturating_add(more).saturating_sub(most))
            };
            let missing = Count {
                files: over(own.files, used.files, more.files),
                bytes: over(own.bytes, used.bytes, more.bytes),
            };
            let never = own.firm_bytes.filter(|most| total > *most).map(Bound::Bytes);
            let bound = never.or(own.files.filter(|_| missing.files > 0).map(Bound::Files));
            let Some(bound) = bound.or(own.bytes.filter(|_| missing.bytes > 0).map(Bound::Bytes)) else {
                return Ok(());
            };
            // Somebody else fills the disk: that is no reason to drop what was there before.
            let shrunk =
                own.bytes < own.firm_bytes && missing.bytes > more.bytes.saturating_mul(SHRINKAGE_MAX);
            let scope = scope.filter(|_| never.is_none() && !shrunk);
            let to_drop = scope.and_then(|scope| self.droppable(taken, scope, level, missing));
            Err(Shortage { level, bound, never: never.is_some(), to_drop })
        };
        if let Some(scope) = scope {
            let class = self.overflow.class(scope.class);
            let of_class = Own {
                files: class.max_files.of(max_files),
                bytes: class.max_bytes.of(now),
                firm_bytes: class.max_bytes.of(max_bytes),
            };
            let of_agent = Own {
                files: class.agent_max_files.of(of_class.files.unwrap_or(max_files)),
                bytes: class.agent_max_bytes.of(of_class.bytes.unwrap_or(now)),
                firm_bytes: class.agent_max_bytes.of(of_class.firm_bytes.unwrap_or(max_bytes)),
            };
            let used = taken.agents.get(&scope.agent).copied().unwrap_or_default();
            in_the_way(Level::Agent, used, of_agent)?;
            in_the_way(Level::Class, taken.classes[scope.class.position()], of_class)?;
        }
        let of_spool = Own { files: Some(max_files), bytes: Some(max_bytes), firm_bytes: Some(max_bytes) };
        in_the_way(Level::Spool, taken.all, of_spool)?;
        if more.bytes > taken.available {
            let missing = Count { files: 0, bytes: more.bytes - taken.available };
            let to_drop = scope.and_then(|scope| self.droppable(taken, scope, Level::FreeSpace, missing));
            let bound = Bound::Bytes(reserve_bytes);
            return Err(Shortage { level: Level::FreeSpace, bound, never: false, to_drop });
        }
        Ok(())
    }

    /// What is missing, if packages of that scope may make room for it.
    fn droppable(&self, taken: &Taken, scope: Scope, level: Level, missing: Count) -> Option<Count> {
        if self.overflow.class(scope.class).policy == Policy::Refuse {
            return None;
        }
        let there = match level {
            Level::Agent => taken.agents.get(&scope.agent).copied().unwrap_or_default(),
            Level::Class | Level::Spool | Level::FreeSpace => taken.classes[scope.class.position()],
        };
        (missing.files <= there.files && missing.bytes <= there.bytes).then_some(missing)
    }

    fn look_at_free_space(&self, taken: &mut Taken) {
        let now = Instant::now();
        if taken.read.is_some_and(|read| now - read < FREE_SPACE_INTERVAL) {
            return;
        }
        let free = (self.free)().unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot read the free space, taking it for none");
            0
        });
        // What was promised may be written in part already: counting it whole errs on the safe side.
        taken.available = free.saturating_sub(self.limits.reserve_bytes).saturating_sub(taken.promised);
        taken.read = Some(now);
    }

    /// A stored package of `bytes` is gone. The free space shows at the next look.
    pub(crate) fn release(&self, scope: Scope, bytes: u64) {
        lock(&self.taken).subtract(Some(scope), Count { files: 1, bytes });
    }

    /// The next promise looks at the free space: some was made.
    pub(crate) fn look_again(&self) {
        lock(&self.taken).read = None;
    }

    /// A shortage in words; `bytes` is the size of the package.
    pub(crate) fn full(&self, shortage: Shortage, scope: Option<Scope>, name: &[u8], bytes: u64) -> Full {
        let class = || scope.map_or(DATA_CLASS, |scope| &self.overflow.class(scope.class).name).into();
        let limit = shortage.bound;
        let full = match (shortage.level, limit) {
            (Level::Agent, _) => {
                let agent = agent(name).escape_ascii().to_string().into();
                Full::Agent { class: class(), agent, limit }
            }
            (Level::Class, _) => Full::Class { class: class(), limit },
            (Level::Spool, Bound::Files(max)) => Full::Files { max },
            (Level::Spool, Bound::Bytes(max)) => Full::Bytes { max },
            (Level::FreeSpace, _) => Full::FreeSpace { reserve: self.limits.reserve_bytes },
        };
        if shortage.never { Full::TooLarge { bytes, limit: Box::new(full) } } else { full }
    }

    /// What a class and an agent hold.
    pub(crate) fn held(&self, scope: Scope) -> (Count, Count) {
        let taken = lock(&self.taken);
        let agent = taken.agents.get(&scope.agent).copied().unwrap_or_default();
        (taken.classes[scope.class.position()], agent)
    }
}

impl Taken {
    fn add(&mut self, scope: Option<Scope>, more: Count) {
        self.all.add(more);
        if let Some(scope) = scope {
            self.classes[scope.class.position()].add(more);
            self.agents.entry(scope.agent).or_default().add(more);
        }
    }

    fn subtract(&mut self, scope: Option<Scope>, less: Count) {
        self.all.subtract(less);
        if let Some(scope) = scope {
            self.classes[scope.class.position()].subtract(less);
            if let Some(agent) = self.agents.get_mut(&scope.agent) {
                agent.subtract(less);
                if agent.files == 0 {
                    self.agents.remove(&scope.agent);
                }
            }
        }
    }
}

/// Room promised to one package; given back when dropped.
pub(crate) struct Room {
    quota: Arc<Quota>,
    scope: Option<Scope>,
    bytes: u64,
}

impl Room {
    pub(crate) fn scope(&self) -> Option<Scope> {
        self.scope
    }

    /// Makes sure that the room suffices for `bytes` in all.
    pub(crate) fn grow_to(&mut self, bytes: u64) -> Result<(), Shortage> {
        if let Some(more) = bytes.checked_sub(self.bytes).filter(|&more| more > 0) {
            self.quota.promise(self.scope, Count { files: 0, bytes: more }, bytes)?;
            self.bytes = bytes;
        }
        Ok(())
    }

    /// The package is stored with `bytes`, which count until [`Quota::release`].
    pub(crate) fn settle(mut self, bytes: u64) {
        let quota = Arc::clone(&self.quota);
        let mut taken = lock(&quota.taken);
        let promised = std::mem::take(&mut self.bytes);
        taken.promised = taken.promised.saturating_sub(promised);
        taken.available = taken.available.saturating_add(promised.saturating_sub(bytes));
        // The drop that follows gives back an empty room and one file.
        taken.add(self.scope, Count { files: 1, bytes });
        taken.subtract(self.scope, Count { files: 0, bytes: promised });
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut taken = lock(&self.quota.taken);
        taken.promised = taken.promised.saturating_sub(self.bytes);
        taken.available = taken.available.saturating_add(self.bytes);
        taken.subtract(self.scope, Count { files: 1, bytes: self.bytes });
    }
}

#[cfg(test)]
mod tests;
