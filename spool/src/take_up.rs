//! Takes up the dead letters that an operator sent on their way: what waits in `purge/` goes, what waits in `requeue/`
//! becomes a package of the bytes as they are now, under the name it was sent with.
//!
//! There may be a hundred thousand of them, and the one who does this has other duties. So it goes by batches: each is
//! one commit (or one loss record), then the removal of its files, then one fsync of their directory. A crash repeats
//! a batch at most; the spool recognises the repeats as it does a sender's, those without a time in their names for
//! as long as [`crate::Duplicates`] says. For that reason a requeued package arrives when it is requeued: by the time of
//! its first arrival the repeat would be too old to be one.
//!
//! What is wrong with one letter is that letter's affair: it waits, and the next call tries again. Only a letter that
//! can never be a package goes back to `corrupt/`: its name is none, or the disk does not give its bytes.

use std::collections::HashSet;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::clock::Millis;
use crate::commit::Stored;
use crate::corrupt::reject;
use crate::dead_letters::sent_name;
use crate::draft::Draft;
use crate::error::{CommitError, Context, Full};
use crate::fs::Found;
use crate::layout::parse_dead_letter;
use crate::losses::{Loss, LossReason};
use crate::parallel::lock;
use crate::store::{Spool, Store};
use crate::verify::{digest, is_damage};

/// Letters of a batch. Beyond it the next one begins. Tests get there sooner.
const BATCH_LETTERS: usize = if cfg!(test) { 2 } else { 256 };

/// Their bytes, unless one alone has more. Beyond it the next batch begins.
const BATCH_BYTES: u64 = 64 << 20;

/// Bytes copied at once.
const CHUNK: usize = 64 * 1024;

/// What became of dead letters that an operator sent on their way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TakenUp {
    /// Packages again.
    pub requeued: u64,
    /// The same name and bytes were there already, or had been pulled a while ago: nothing to do.
    pub repeats: u64,
    /// Removed.
    pub purged: u64,
    /// Moved back to `corrupt/`: they cannot be packages.
    pub returned: u64,
    /// Still where they were: there is no room for them, or a call failed.
    pub waiting: u64,
    /// The first of those, and why it waits.
    pub first_waiting: Option<String>,
}

/// What became of one.
enum Step {
    Requeued,
    Repeat,
    Purged,
    Returned,
    Waiting(String),
    /// Somebody else has moved it.
    Gone,
}

/// A letter that is dealt with and could not be removed, so that it is not dealt with again: another one of that name
/// has another size or time.
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Settled(PathBuf, u64, Millis);

impl Settled {
    fn of(directory: &Path, found: &Found) -> Self {
        Self(directory.join(&found.name), found.size, found.modified)
    }
}

impl TakenUp {
    fn count(&mut self, path: &Path, step: Step) {
        match step {
            Step::Requeued => self.requeued += 1,
            Step::Repeat => self.repeats += 1,
            Step::Purged => self.purged += 1,
            Step::Returned => self.returned += 1,
            Step::Waiting(reason) => {
                self.waiting += 1;
                self.first_waiting.get_or_insert_with(|| format!("{}: {reason}", path.display()));
            }
            Step::Gone => {}
        }
    }
}

type Work = fn(&Spool, &Path, &[Found]) -> Result<Vec<Step>, CommitError>;

impl Spool {
    /// Removes what waits in `purge/` and makes packages of what waits in `requeue/`, batch by batch for as long as
    /// `go_on` says before each. To be called every now and then; costs two looks into empty directories when there is
    /// nothing.
    pub fn take_up_dead_letters(&self, mut go_on: impl FnMut() -> bool) -> Result<TakenUp, CommitError> {
        let (layout, mut taken_up) = (&self.store.layout, TakenUp::default());
        // What goes makes room on the disk for what stays.
        let ways: [(&Path, Work); 2] = [(&layout.purge, Self::purge), (&layout.requeue, Self::requeue)];
        for (directory, work) in ways {
            self.in_batches(directory, work, &mut go_on, &mut taken_up)?;
        }
        Ok(taken_up)
    }

    fn in_batches(
        &self,
        directory: &Path,
        work: Work,
        go_on: &mut dyn FnMut() -> bool,
        taken_up: &mut TakenUp,
    ) -> Result<(), CommitError> {
        let store = &*self.store;
        let mut found = store.fs.list(directory).context("list", directory)?;
        let settled: HashSet<_> = found.iter().map(|found| Settled::of(directory, found)).collect();
        lock(&store.corrupt.settled).retain(|it| !it.0.starts_with(directory) || settled.contains(it));
        if found.is_empty() {
            return Ok(());
        }
        // Packages by their numbers: the oldest first.
        found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let opened = store.fs.open_dir(directory).context("open", directory)?;
        let mut rest = found.as_slice();
        while !rest.is_empty() && go_on() {
            let batch = rest.split_off(..batch_length(rest)).expect("a batch is not longer than the rest");
            store.check_poison()?;
            let steps = work(self, directory, batch)?;
            if steps.iter().any(|step| !matches!(step, Step::Waiting(_))) {
                store.poison.fsynced(opened.sync(), directory)?;
            }
            for (found, step) in batch.iter().zip(steps) {
                taken_up.count(&directory.join(&found.name), step);
            }
        }
        Ok(())
    }

    /// One commit for all of them.
    fn requeue(&self, directory: &Path, letters: &[Found]) -> Result<Vec<Step>, CommitError> {
        let store = &*self.store;
        let (mut drafts, mut steps) = (Vec::new(), Vec::new());
        for found in letters {
            match self.copy(directory, found)? {
                Ok(draft) => {
                    drafts.push(draft);
                    steps.push(None);
                }
                Err(step) => steps.push(Some(step)),
            }
        }
        let mut results = self.commit(drafts).into_iter();
        let mut finish = |(step, found): (Option<Step>, &Found)| {
            if let Some(step) = step {
                return Ok(step);
            }
            Ok(match results.next().expect("one result for each draft") {
                Ok(Stored::New { .. }) => store.settle(directory, found, Step::Requeued),
                Ok(Stored::Repeat) => store.settle(directory, found, Step::Repeat),
                Err(error @ CommitError::Poisoned { .. }) => return Err(error),
                Err(error @ CommitError::InvalidName) => store.give_back(directory, found, &error),
                Err(error) => Step::Waiting(error.to_string()),
            })
        };
        let steps = steps.into_iter().zip(letters).map(&mut finish).collect::<Result<Vec<_>, _>>()?;
        if steps.iter().any(|step| matches!(step, Step::Returned)) {
            store.poison.fsynced(store.corrupt.directory.sync(), &store.layout.corrupt)?;
        }
        Ok(steps)
    }

    /// A draft of a letter's bytes; or what becomes of it instead.
    fn copy(&self, directory: &Path, found: &Found) -> Result<Result<Draft, Step>, CommitError> {
        let (store, path) = (&*self.store, directory.join(&found.name));
        if store.is_settled(directory, found) {
            return Ok(Err(store.settle(directory, found, Step::Repeat)));
        }
        let Some(name) = sent_name(&found.name).filter(|_| found.is_file) else {
            return Ok(Err(store.give_back(directory, found, &"it cannot be a package")));
        };
        let mut draft = match self.begin(&name, found.size) {
            Ok(draft) => draft,
            Err(Full::Poisoned { reason }) => return Err(CommitError::Poisoned { reason }),
            Err(full) => return Ok(Err(Step::Waiting(full.to_string()))),
        };
        let mut file = match store.fs.open(&path) {
            Ok(file) => file,
            Err(error) => return Ok(Err(store.unread(directory, found, &error))),
        };
        let mut buffer = vec![0; CHUNK];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(Ok(draft)),
                Ok(read) => {
                    if let Err(error) = draft.write(&buffer[..read]) {
                        return Ok(Err(Step::Waiting(format!("it cannot be copied: {error}"))));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Ok(Err(store.unread(directory, found, &error))),
            }
        }
    }

    /// One loss record for all of them, before they go. What was recorded when it was set aside is not recorded again.
    fn purge(&self, directory: &Path, letters: &[Found]) -> Result<Vec<Step>, CommitError> {
        let (store, mut losses) = (&*self.store, Vec::new());
        let look = |found: &Found| {
            if !found.is_file {
                return Some(Step::Waiting("it is no file: remove it by hand".into()));
            }
            if store.is_settled(directory, found) {
                return None;
            }
            let now = store.fs.open(&directory.join(&found.name)).and_then(|mut file| digest(&mut file));
            let is_recorded = match (parse_dead_letter(&found.name), now) {
                (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => return Some(Step::Gone),
                (Some(_), Err(error)) if is_damage(&error) => true,
                // Whoever purges it need not be able to read it.
                (_, Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => false,
                (_, Err(error)) if !is_damage(&error) => return Some(Step::Waiting(error.to_string())),
                (Some((_, expected, _)), Ok(now)) => now != expected,
                (None, _) | (_, Err(_)) => false,
            };
            if !is_recorded {
                let name = sent_name(&found.name).unwrap_or_default();
                let class = &store.quota.overflow.class(store.quota.scope(&name).class).name;
                losses.push(Loss::of(class, LossReason::Purged, found.size, found.modified));
            }
            None
        };
        let steps: Vec<_> = letters.iter().map(look).collect();
        let recorded = store.record_losses(&losses);
        store.check_poison()?;
        let finish = |(step, found): (Option<Step>, &Found)| match (step, &recorded) {
            (Some(step), _) => step,
            (None, Err(error)) => Step::Waiting(error.to_string()),
            (None, Ok(())) => store.settle(directory, found, Step::Purged),
        };
        Ok(steps.into_iter().zip(letters).map(finish).collect())
    }
}

impl Store {
    fn is_settled(&self, directory: &Path, found: &Found) -> bool {
        lock(&self.corrupt.settled).contains(&Settled::of(directory, found))
    }

    /// Removes a letter that is dealt with.
    fn settle(&self, directory: &Path, found: &Found, step: Step) -> Step {
        match self.fs.remove(&directory.join(&found.name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                lock(&self.corrupt.settled).insert(Settled::of(directory, found));
                Step::Waiting(format!("it is dealt with, and cannot be removed: {error}"))
            }
            _ => {
                lock(&self.corrupt.settled).remove(&Settled::of(directory, found));
                step
            }
        }
    }

    /// A letter whose bytes did not come.
    fn unread(&self, directory: &Path, found: &Found, error: &io::Error) -> Step {
        match error.kind() {
            io::ErrorKind::NotFound => Step::Gone,
            _ if is_damage(error) => self.give_back(directory, found, error),
            _ => Step::Waiting(error.to_string()),
        }
    }

    /// Back to `corrupt/`; durable after an fsync of both directories.
    fn give_back(&self, directory: &Path, found: &Found, reason: &dyn std::fmt::Display) -> Step {
        match reject(&*self.fs, &self.layout, &directory.join(&found.name)) {
            Ok(to) => {
                tracing::error!(path = %to.display(), %reason, "a dead letter is back: it cannot be requeued");
                Step::Returned
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Step::Gone,
            Err(error) => Step::Waiting(format!("{reason}, and it cannot be moved back: {error}")),
        }
    }
}

/// How many of these are a batch: at least one.
fn batch_length(found: &[Found]) -> usize {
    let mut bytes = 0_u64;
    let fits = |found: &&Found| {
        bytes = bytes.saturating_add(found.size);
        bytes <= BATCH_BYTES
    };
    found.iter().take(BATCH_LETTERS).take_while(fits).count().max(1)
}
