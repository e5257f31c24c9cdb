//! Group commit: a batch of drafts becomes packages with the fsyncs of all shared.
//!
//! The order is the promise: write and fsync every file, only then rename it into `ready/`, fsync that directory
//! once, and only then say so. Nothing of a batch counts when one of its fsyncs fails. A repeat is answered by what
//! is durable already, or together with its first copy in the same batch.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::clock::{Millis, system_time};
use crate::draft::Draft;
use crate::entry::Entry;
use crate::error::CommitError;
use crate::id::{COUNTER_BITS, Id};
use crate::index::Package;
use crate::names;
use crate::parallel::{self, lock};
use crate::sabotage::{self, Switch};
use crate::seen::{self, Key};
use crate::store::{Spool, State, Store};

/// Names that are tried for a package. When all are taken, [`CommitError::NoFreeName`]: since the first one tried is
/// that after the newest copy's, that happens when [`names::COPIES`] equal packages are stored, or when by an
/// unlikely chance the long rows of two packages meet.
const CANDIDATES: usize = 64;

/// What became of a committed package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is durable.
    New {
        /// As it stands in the spool.
        package: Package,
    },
    /// The same name and bytes are durable already, or were deleted a while ago ([`crate::Duplicates`]).
    Repeat,
}

/// A draft that becomes a package.
struct Pending {
    draft: Draft,
    package: Package,
    result: Result<(), CommitError>,
}

/// What is to become of one item of the batch.
enum Fate {
    Refused(CommitError),
    Repeat,
    /// A position in the list of pending ones.
    New(usize),
    /// That one's repeat.
    RepeatOf(usize),
}

impl Spool {
    /// Makes packages of drafts, durably; the results come in the order of the batch. May be called from several threads:
    /// batches take turns.
    pub fn commit(&self, batch: Vec<Draft>) -> Vec<Result<Stored, CommitError>> {
        let store = &*self.store;
        let mut next_number = lock(&store.commits);
        if let Err(error) = store.check_poison() {
            return batch.iter().map(|_| Err(error.clone())).collect();
        }
        let now = store.clock.now();
        let (fates, mut pending) = store.sort_out(batch, &mut next_number, now);
        store.make_durable(&mut pending, now);
        let results = store.enter(pending, now);
        let mut state = lock(&store.state);
        let mut repeat = || {
            state.repeats += 1;
            Stored::Repeat
        };
        let answer = |fate| match fate {
            Fate::Refused(error) => Err(error),
            Fate::Repeat => Ok(repeat()),
            Fate::New(position) => results[position].clone(),
            Fate::RepeatOf(position) => results[position].clone().map(|_| repeat()),
        };
        fates.into_iter().map(answer).collect()
    }
}

impl Store {
    /// Tells new packages from repeats, and gives the new ones their listed names and numbers.
    fn sort_out(&self, batch: Vec<Draft>, next_number: &mut u64, now: Millis) -> (Vec<Fate>, Vec<Pending>) {
        let mut state = lock(&self.state);
        state.seen.prune(now);
        let mut pending: Vec<Pending> = Vec::new();
        // Positions in `pending` by what was sent. Equal ones of a batch arrive at the same moment: repeats.
        let mut firsts: HashMap<Key, usize> = HashMap::new();
        let mut given: HashSet<Arc<[u8]>> = HashSet::new();
        let mut fate = |draft: Draft| {
            let name = draft.name();
            if !names::valid(name) {
                return Fate::Refused(CommitError::InvalidName);
            }
            // What is incomplete may look like a repeat.
            if let Err(error) = draft.check_complete() {
                return Fate::Refused(error.into());
            }
            let (digest, size) = (draft.digest(), draft.written());
            let key = seen::key(name, digest, size);
            if let Some(&position) = firsts.get(&key) {
                return Fate::RepeatOf(position);
            }
            if state.repeats(key, name, digest, size, now) {
                return Fate::Repeat;
            }
            let is_free = |listed: &Vec<u8>| !given.contains(&**listed) && !state.index.holds(listed);
            let free = state.names(key, name, digest).find(is_free);
            let Some(listed_name) = free.map(Arc::<[u8]>::from) else {
                return Fate::Refused(CommitError::NoFreeName);
            };
            let id = Id { run: self.run, counter: *next_number };
            debug_assert!(id.counter >> COUNTER_BITS == 0, "a run's numbers last for decades");
            *next_number += 1;
            firsts.insert(key, pending.len());
            given.insert(Arc::clone(&listed_name));
            let package = Package { id, digest, size, arrival: system_time(now), listed_name };
            pending.push(Pending { draft, package, result: Ok(()) });
            Fate::New(pending.len() - 1)
        };
        let fates = batch.into_iter().map(&mut fate).collect();
        (fates, pending)
    }

    /// Write and fsync all, rename all, fsync the directory.
    fn make_durable(&self, pending: &mut [Pending], now: Millis) {
        if pending.is_empty() {
            return;
        }
        let batch = (pending[0].package.id, pending[pending.len() - 1].package.id);
        if let Err(poisoned) = self.poison.begin_batch(batch) {
            return pending.iter_mut().for_each(|item| item.result = Err(poisoned.clone()));
        }
        parallel::for_each(pending, self.threads, |item| {
            item.result = item.draft.seal(now).map_err(CommitError::from);
        });
        if self.poison.reason().is_none() {
            for item in pending.iter_mut().filter(|item| item.result.is_ok()) {
                let package = &item.package;
                let path = self.layout.package(package.id, package.digest, &package.listed_name);
                item.result = item.draft.rename(path).map_err(CommitError::from);
            }
            // A failure poisons, which is looked at next.
            let _ = self.poison.fsynced(self.ready.sync(), &self.layout.ready);
        }
        if let Err(poisoned) = self.poison.end_batch() {
            pending.iter_mut().for_each(|item| item.result = Err(poisoned.clone()));
        }
    }

    /// Enters what is durable into the index. The drafts of the rest remove their files.
    fn enter(&self, pending: Vec<Pending>, now: Millis) -> Vec<Result<Stored, CommitError>> {
        let mut state = lock(&self.state);
        let mut enter = |Pending { draft, package, result }: Pending| {
            result?;
            if let Some(scope) = draft.scope() {
                state.oldest.arrived(scope, package.id, &package.listed_name);
            }
            draft.keep();
            let entry = Entry::new(package.digest, package.size, now, &package.listed_name);
            state.index.insert(package.id, entry);
            Ok(Stored::New { package })
        };
        pending.into_iter().map(&mut enter).collect()
    }
}

impl State {
    /// The listed names to try for a new package: after those of equal ones that are stored, and of equal ones without
    /// a time that were deleted not long ago. A puller that delivered one of those may not know yet that it is
    /// deleted: under the same name it would take the new one for it, and have it deleted undelivered. (One with a time
    /// *is* the same.) Where all that is taken, a name of long ago is free sooner than one after the last.
    fn names<'a>(&self, key: Key, name: &'a [u8], digest: u64) -> impl Iterator<Item = Vec<u8>> + use<'a> {
        let stored = self.index.copies(key).map(|copies| copies.next_step);
        let deleted = self.seen.next_step(key).filter(|_| !names::timed(name));
        let next = match (stored, deleted) {
            (Some(stored), Some(deleted)) => Some(names::later_step(stored, deleted)),
            (stored, deleted) => stored.or(deleted),
        };
        let from = move |next| names::candidates(name, digest, next).take(CANDIDATES);
        from(next).chain(from(stored))
    }

    /// Whether the same name and bytes are stored, or were, as far as that counts.
    fn repeats(&self, key: Key, name: &[u8], digest: u64, size: u64, now: Millis) -> bool {
        if sabotage::breaks(Switch::ForgetDuplicates) {
            return false;
        }
        let original = self.index.original(name, digest, size);
        let newest_copy = self.index.copies(key).map(|copies| copies.newest);
        let stored = |arrival| self.seen.repeats_stored(arrival, name, now);
        self.seen.repeats(key, name, now) || original.is_some_and(stored) || newest_copy.is_some_and(stored)
    }
}
