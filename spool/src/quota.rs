//! Room: how many packages and bytes the spool, a class and an agent may hold, and how much of the file system is
//! left free.
//!
//! Room is promised before a byte arrives and counts as taken until it is given back, so uploads that run side by
//! side never overrun a limit together. An agent costs one entry of 24 bytes while it has a package here: it is known
//! by a hash of its name under a key that nobody outside can guess.

mod counts;
mod space;

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::error::{Bound, Full};
use crate::fs::Free;
use crate::overflow::{ClassId, DATA_CLASS, Overflow, Policy, agent};
use crate::parallel::lock;
pub(crate) use counts::Count;
use counts::Counts;
use space::{Lack, SHRINKAGE_MAX, Space, inodes_reserve};

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

/// Asks the file system what is free.
type FreeSpace = Box<dyn Fn() -> io::Result<Free> + Send + Sync>;

/// The room of one spool.
pub(crate) struct Quota {
    pub(crate) limits: Limits,
    pub(crate) overflow: Overflow,
    hasher: RandomState,
    free: FreeSpace,
    taken: Mutex<Taken>,
}

struct Taken {
    /// Stored and promised.
    counts: Counts,
    /// Promised alone.
    pending: Counts,
    /// Of the promised bytes, those that are on the disk.
    on_disk: u64,
    space: Space,
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
        free: impl Fn() -> io::Result<Free> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let counts = || Counts::new(overflow.classes().len());
        let taken = Taken { counts: counts(), pending: counts(), on_disk: 0, space: Space::default() };
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
        lock(&self.taken).counts.add(Some(scope), Count { files: 1, bytes });
    }

    /// Promises room for one package. Without a scope it counts for the spool alone.
    pub(crate) fn reserve(self: &Arc<Self>, scope: Option<Scope>, bytes: u64) -> Result<Room, Shortage> {
        self.promise(scope, Count { files: 1, bytes }, bytes)?;
        Ok(Room { quota: Arc::clone(self), scope, bytes, on_disk: 0, settled: false })
    }

    /// What a package of `bytes` would lack.
    pub(crate) fn check(&self, scope: Option<Scope>, bytes: u64) -> Result<(), Shortage> {
        self.shortage(&mut lock(&self.taken), scope, Count { files: 1, bytes }, bytes)
    }

    /// `total` is the package's size, with what was promised before.
    fn promise(&self, scope: Option<Scope>, more: Count, total: u64) -> Result<(), Shortage> {
        let mut taken = lock(&self.taken);
        self.shortage(&mut taken, scope, more, total)?;
        taken.space.take(more.files, more.bytes);
        taken.counts.add(scope, more);
        taken.pending.add(scope, more);
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
        let moment = Instant::now();
        self.look_at_free_space(taken, moment);
        let Limits { max_files, max_bytes, .. } = self.limits;
        let lack = taken.space.lack(more.files, more.bytes);
        // Where it would be refused for that in the end, nothing goes for another limit either.
        let drops_help = lack.is_none_or(|lack| taken.space.drops_help(lack, more.bytes, moment));
        // A part of the room is a part of what there is: the file system may be smaller than the limit.
        let now = max_bytes.min(taken.counts.all.bytes.saturating_add(taken.space.bytes()));
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
            let scope = scope.filter(|_| never.is_none() && !shrunk && drops_help);
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
            in_the_way(Level::Agent, taken.counts.agent(scope), of_agent)?;
            in_the_way(Level::Class, taken.counts.class(scope), of_class)?;
        }
        let of_spool = Own { files: Some(max_files), bytes: Some(max_bytes), firm_bytes: Some(max_bytes) };
        in_the_way(Level::Spool, taken.counts.all, of_spool)?;
        let Some(lack) = lack else { return Ok(()) };
        let (bound, missing) = match lack {
            Lack::Bytes(bytes) => (Bound::Bytes(self.limits.reserve_bytes), Count { files: 0, bytes }),
            Lack::Files(files) => {
                (Bound::Files(inodes_reserve(self.limits.reserve_bytes)), Count { files, bytes: 0 })
            }
        };
        let to_drop = scope
            .filter(|_| drops_help)
            .and_then(|scope| self.droppable(taken, scope, Level::FreeSpace, missing))
            // A deficit goes step by step: a drop may give back more than the bytes of its packages.
            .map(|missing| Count {
                bytes: missing.bytes.min(more.bytes.saturating_mul(SHRINKAGE_MAX)),
                ..missing
            });
        Err(Shortage { level: Level::FreeSpace, bound, never: false, to_drop })
    }

    /// What is missing, if packages of that scope may make room for it.
    fn droppable(&self, taken: &Taken, scope: Scope, level: Level, missing: Count) -> Option<Count> {
        if self.overflow.class(scope.class).policy == Policy::Refuse {
            return None;
        }
        // What is being written cannot go.
        let there = match level {
            Level::Agent => taken.counts.agent(scope).without(taken.pending.agent(scope)),
            Level::Class | Level::Spool | Level::FreeSpace => {
                taken.counts.class(scope).without(taken.pending.class(scope))
            }
        };
        there.covers(missing).then_some(missing)
    }

    fn look_at_free_space(&self, taken: &mut Taken, now: Instant) {
        if !taken.space.is_due(now) {
            return;
        }
        let free = (self.free)().unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot read the free space, taking it for none");
            Free::default()
        });
        let Count { files, bytes } = taken.pending.all;
        // Every promised file is counted, though some exist already: that errs on the safe side.
        let promised = (bytes.saturating_sub(taken.on_disk), files);
        taken.space.look(now, free, self.limits.reserve_bytes, promised);
    }

    /// What is free at this moment.
    pub(crate) fn free_now(&self) -> Free {
        let mut taken = lock(&self.taken);
        taken.space.look_again();
        self.look_at_free_space(&mut taken, Instant::now());
        taken.space.seen()
    }

    /// Packages were dropped for a shortage, before which so much was free: whether that has made room.
    pub(crate) fn dropped(&self, shortage: Shortage, before: Free) -> bool {
        let lack = match shortage {
            Shortage { level: Level::FreeSpace, bound: Bound::Bytes(_), .. } => Lack::Bytes(0),
            Shortage { level: Level::FreeSpace, bound: Bound::Files(_), .. } => Lack::Files(0),
            _ => return true,
        };
        self.free_now();
        lock(&self.taken).space.dropped(lack, before, Instant::now())
    }

    /// A stored package of `bytes` is gone. The free space shows at the next look.
    pub(crate) fn release(&self, scope: Scope, bytes: u64) {
        lock(&self.taken).counts.subtract(Some(scope), Count { files: 1, bytes });
    }

    /// The next promise looks at the free space: some was made.
    pub(crate) fn look_again(&self) {
        lock(&self.taken).space.look_again();
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
            (Level::FreeSpace, Bound::Bytes(reserve)) => Full::FreeSpace { reserve },
            (Level::FreeSpace, Bound::Files(reserve)) => Full::Inodes { reserve },
        };
        if shortage.never { Full::TooLarge { bytes, limit: Box::new(full) } } else { full }
    }

    /// What a class and an agent hold.
    pub(crate) fn held(&self, scope: Scope) -> (Count, Count) {
        let taken = lock(&self.taken);
        (taken.counts.class(scope), taken.counts.agent(scope))
    }
}

/// Room promised to one package; given back when dropped.
pub(crate) struct Room {
    quota: Arc<Quota>,
    scope: Option<Scope>,
    bytes: u64,
    /// Of these, written to the disk.
    on_disk: u64,
    settled: bool,
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

    /// So many more bytes are on the disk: a look at the free space sees them.
    pub(crate) fn wrote(&mut self, bytes: u64) {
        self.on_disk += bytes;
        lock(&self.quota.taken).on_disk += bytes;
    }

    /// What was written is somebody else's from now on.
    pub(crate) fn start_over(&mut self) {
        let mut taken = lock(&self.quota.taken);
        taken.on_disk = taken.on_disk.saturating_sub(std::mem::take(&mut self.on_disk));
    }

    /// The package is stored with `bytes`, which count until [`Quota::release`].
    pub(crate) fn settle(mut self, bytes: u64) {
        // All under one lock: nobody may see a package count twice.
        let mut taken = lock(&self.quota.taken);
        taken.on_disk = taken.on_disk.saturating_sub(self.on_disk);
        taken.space.give_back(0, self.bytes.saturating_sub(bytes));
        taken.pending.subtract(self.scope, Count { files: 1, bytes: self.bytes });
        taken.counts.subtract(self.scope, Count { files: 0, bytes: self.bytes });
        taken.counts.add(self.scope, Count { files: 0, bytes });
        drop(taken);
        self.settled = true;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let mut taken = lock(&self.quota.taken);
        let less = Count { files: 1, bytes: self.bytes };
        taken.on_disk = taken.on_disk.saturating_sub(self.on_disk);
        taken.space.give_back(less.files, less.bytes);
        taken.pending.subtract(self.scope, less);
        taken.counts.subtract(self.scope, less);
    }
}

#[cfg(test)]
mod tests;
