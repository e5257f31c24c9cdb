//! Group commit: a batch of drafts becomes packages with the fsyncs of all shared.
//!
//! The order is the promise: write and fsync every file, only then rename it into `ready/`, fsync that directory
//! once, and only then say so. Nothing of a batch counts when one of its fsyncs fails. A repeat is answered by what
//! is durable already, or together with its first copy in the same batch.

use std::collections::HashMap;
use std::sync::Arc;

use crate::clock::{Millis, system_time};
use crate::draft::Draft;
use crate::error::CommitError;
use crate::id::{COUNTER_BITS, Id};
use crate::index::Package;
use crate::names;
use crate::parallel::{self, lock};
use crate::seen;
use crate::store::{Spool, State, Store};

/// Names a package may get. All are looked at for a repeat, even behind a free one, whose holder may be gone since.
/// When other packages have them all, [`CommitError::NoFreeName`]: by chance that does not happen.
const CANDIDATES: usize = 8;

/// What became of a committed package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is durable.
    New {
        /// As it stands in the spool.
        package: Package,
    },
    /// The same name and bytes are durable already, or were deleted a short while ago.
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
    /// Makes packages of drafts, durably; the results come in the order of the batch. Each draft comes with the name
    /// its sender gave. May be called from several threads: batches take turns.
    pub fn commit(&self, batch: Vec<(Draft, Vec<u8>)>) -> Vec<Result<Stored, CommitError>> {
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
    fn sort_out(
        &self,
        batch: Vec<(Draft, Vec<u8>)>,
        next_number: &mut u64,
        now: Millis,
    ) -> (Vec<Fate>, Vec<Pending>) {
        let mut state = lock(&self.state);
        state.seen.prune(now);
        let mut pending: Vec<Pending> = Vec::new();
        // Listed names given to packages of this batch, and their positions in `pending`.
        let mut given: HashMap<Arc<[u8]>, usize> = HashMap::new();
        let mut fate = |draft: Draft, name: Vec<u8>| {
            if !names::valid(&name) {
                return Fate::Refused(CommitError::InvalidName);
            }
            // What is incomplete may look like a repeat.
            if let Err(error) = draft.check_complete() {
                return Fate::Refused(error.into());
            }
            let holder = |listed: &[u8]| match given.get(listed) {
                Some(&position) => {
                    let package: &Package = &pending[position].package;
                    Some((package.digest, package.size, Fate::RepeatOf(position)))
                }
                None => state.index.holder(listed).map(|(digest, size)| (digest, size, Fate::Repeat)),
            };
            let (digest, size) = (draft.digest(), draft.written());
            let listed_name = match listed_name(&name, digest, size, &state, holder, now) {
                Ok(listed_name) => Arc::<[u8]>::from(listed_name),
                Err(fate) => return fate,
            };
            let id = Id { run: self.run, counter: *next_number };
            debug_assert!(id.counter >> COUNTER_BITS == 0, "a run's numbers last for decades");
            *next_number += 1;
            given.insert(Arc::clone(&listed_name), pending.len());
            let package = Package { id, digest, size, arrival: system_time(now), listed_name };
            pending.push(Pending { draft, package, result: Ok(()) });
            Fate::New(pending.len() - 1)
        };
        let fates = batch.into_iter().map(|(draft, name)| fate(draft, name)).collect();
        (fates, pending)
    }

    /// Write and fsync all, rename all, fsync the directory.
    fn make_durable(&self, pending: &mut [Pending], now: Millis) {
        if pending.is_empty() {
            return;
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
            let _ = self.poison.fsynced(self.fs.sync_dir(&self.layout.ready), &self.layout.ready);
        }
        if let Err(poisoned) = self.check_poison() {
            pending.iter_mut().for_each(|item| item.result = Err(poisoned.clone()));
        }
    }

    /// Enters what is durable into the index. The drafts of the rest remove their files.
    fn enter(&self, pending: Vec<Pending>, now: Millis) -> Vec<Result<Stored, CommitError>> {
        let mut state = lock(&self.state);
        let mut enter = |Pending { draft, package, result }: Pending| {
            result?;
            draft.keep();
            let name = Arc::clone(&package.listed_name);
            state.index.insert(package.id, package.digest, package.size, now, name);
            Ok(Stored::New { package })
        };
        pending.into_iter().map(&mut enter).collect()
    }
}

/// The name a new package gets, or else its fate. `holder` gives digest and size of a name's present holder, and
/// the fate of its repeats.
fn listed_name(
    name: &[u8],
    digest: u64,
    size: u64,
    state: &State,
    holder: impl Fn(&[u8]) -> Option<(u64, u64, Fate)>,
    now: Millis,
) -> Result<Vec<u8>, Fate> {
    let mut free = None;
    for candidate in names::candidates(name, digest).take(CANDIDATES) {
        if state.seen.repeats(seen::key(&candidate, digest, size), name, now) {
            return Err(Fate::Repeat);
        }
        match holder(&candidate) {
            Some((held_digest, held_size, repeat)) if (held_digest, held_size) == (digest, size) => {
                return Err(repeat);
            }
            Some(_) => {}
            None => free = free.or(Some(candidate)),
        }
    }
    free.ok_or(Fate::Refused(CommitError::NoFreeName))
}
