//! Loss records: what did not get in, or is gone without having been pulled. Loss is data: it must reach whoever looks
//! at the data, so it is kept as durably as a package.
//!
//! A refusal is counted in memory, by class and reason, and becomes durable with the next [`Spool::flush_losses`]: so a
//! mad agent costs one record a flush, and a crash forgets at most what was refused since the last one (its senders
//! have the files). The loss of something that was stored is durable before the thing goes.
//!
//! `losses/` holds one segment (module `segments`). When it is full, a new one begins with what the old one says; only
//! when that is durable the old one goes. On a full disk records go on in the old one, up to a bound; beyond it nothing
//! can be recorded until there is room: refusals are counted in memory, and nothing is dropped. There the number of records is held to a bound: the
//! oldest are merged by class and reason, so that no package is ever forgotten, only its hour. The head of a segment
//! says how many records were carried over: one that lacks some of them was torn by a crash, and its predecessor
//! counts, which is still there.
//!
//! Somebody far away counts each record once, by its number: module `sent` says which records may still be merged then.

mod record;
mod sent;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::error::{Context, DiskError};
use crate::fs::{Disk, Fs};
use crate::id::Id;
use crate::layout::{Layout, parse_segment, segment};
use crate::parallel::lock;
use crate::poison::Poison;
use crate::segments::{self, Place, SURPLUS, Segment};
use crate::store::{Spool, Store};
pub use record::{Loss, LossReason};
use record::{RECORD_BYTES, group, head, head_of, id_of, merge};
use sent::Marks;

/// Records of a segment, give or take a flush. Beyond it the next one begins, if there is room. Tests get there sooner.
const SEGMENT_RECORDS: usize = if cfg!(test) { 24 } else { 4096 };

/// Records carried over as they are. Beyond it the oldest are merged, as far as they may be.
const KEPT_MAX: usize = if cfg!(test) { 4 } else { 1024 };

/// Run and number of a segment.
type Name = (u64, u32);

/// The loss records of one spool.
pub(crate) struct Losses {
    /// Counted, and not yet durable. Held for steps in memory only.
    pending: Mutex<Vec<Loss>>,
    log: Mutex<Log>,
}

/// The record being written.
struct Log {
    fs: Arc<dyn Fs>,
    poison: Arc<Poison>,
    place: Place,
    run: u64,
    next_counter: u64,
    /// What is durable.
    kept: Vec<Loss>,
    marks: Marks,
    /// `None` where none was found whole and there was no room to begin one.
    current: Option<Segment<RECORD_BYTES>>,
    /// Segments that go when the next one has begun.
    older: Vec<Name>,
}

/// What the records say at a start.
pub(crate) struct Replayed {
    said: Said,
    pub(crate) last_run: Option<u64>,
    segments: Vec<Name>,
    /// The one that counts.
    whole: Option<Name>,
}

/// What segments say.
#[derive(Default)]
struct Said {
    losses: Vec<Loss>,
    marks: Marks,
    /// The greatest number of all.
    last: Option<Id>,
}

impl Said {
    fn add(&mut self, record: &[u8; RECORD_BYTES]) {
        self.last = self.last.max(Some(id_of(record)));
        if !self.marks.replay(record) {
            self.losses.extend(Loss::decode(record));
        }
    }
}

/// Reads the records, and makes sure that they are durable.
pub(crate) fn replay(fs: &dyn Fs, layout: &Layout) -> Result<Replayed, DiskError> {
    let found = segments::find(fs, &layout.losses)?;
    let (said, whole) = read_all(&layout.losses, &found, |path| segments::read_durable(fs, path))?;
    fs.sync_dir(&layout.losses)?;
    let last_run = found.last().map(|&(run, _)| run).max(said.last.map(|id| id.run));
    Ok(Replayed { said, last_run, segments: found, whole })
}

/// What the newest whole segment says, and which it is; where none is whole, what is left of all.
fn read_all(
    directory: &Path,
    found: &[Name],
    read: impl Fn(&Path) -> Result<Vec<[u8; RECORD_BYTES]>, DiskError>,
) -> Result<(Said, Option<Name>), DiskError> {
    let mut left = Said::default();
    for &(run, number) in found.iter().rev() {
        let path = segment(directory, run, number);
        let mut records = read(&path)?;
        let carried = records.first().and_then(head_of);
        // One that was not acknowledged, under one written over it: numbers only grow.
        let mut last = None;
        records.retain(|record| {
            let is_next = head_of(record).is_none() && last < Some(id_of(record));
            last = if is_next { Some(id_of(record)) } else { last };
            is_next
        });
        if carried.is_some_and(|carried| records.len() >= carried) {
            let mut said = Said::default();
            records.iter().for_each(|record| said.add(record));
            return Ok((said, Some((run, number))));
        }
        tracing::debug!(path = %path.display(), "an unfinished segment of loss records");
        records.iter().for_each(|record| left.add(record));
    }
    if !left.losses.is_empty() {
        tracing::warn!(path = %directory.display(), "the loss records are damaged: what can be read counts");
    }
    left.losses.sort_unstable_by_key(|loss| loss.id);
    left.losses.dedup_by_key(|loss| loss.id);
    Ok((left, None))
}

impl Losses {
    /// Goes on in the segment found. `renew`: rather in a new one, because the disk has failed where that lies.
    pub(crate) fn start(
        fs: Arc<dyn Fs>,
        layout: &Layout,
        poison: Arc<Poison>,
        run: u64,
        found: Replayed,
        renew: bool,
    ) -> Result<Self, DiskError> {
        let place = Place::open(&*fs, &layout.losses, run)?;
        let resume =
            |(run, number)| Place::resume(&*fs, segment(&layout.losses, run, number), SEGMENT_RECORDS);
        let current = found.whole.map(resume).transpose()?;
        let mut older = found.segments;
        older.retain(|&segment| Some(segment) != found.whole);
        let Said { losses: kept, marks, .. } = found.said;
        let mut log = Log { fs, poison, place, run, next_counter: 0, kept, marks, current, older };
        if renew || log.is_full() {
            match log.begin() {
                // The packages are worth more: they can be pulled, and that makes room.
                Err(error) if error.is_no_room() && log.poison.reason().is_none() => {
                    tracing::warn!(%error, "losses cannot be recorded for long until there is room");
                }
                begun => begun?,
            }
        } else {
            log.remove_older();
        }
        Ok(Self { pending: Mutex::default(), log: Mutex::new(log) })
    }

    fn count(&self, loss: Loss) {
        let mut pending = lock(&self.pending);
        match pending.iter_mut().find(|sum| (&sum.class, sum.reason) == (&loss.class, loss.reason)) {
            Some(sum) => sum.add(&loss),
            None => {
                pending.push(loss);
                // Nobody has so many classes, but nothing here may grow without a bound.
                if pending.len() > record::GROUPS_MAX {
                    merge(&mut pending);
                }
            }
        }
    }
}

impl Log {
    fn is_full(&self) -> bool {
        self.current.as_ref().is_none_or(|segment| segment.records() >= SEGMENT_RECORDS)
    }

    /// Begins a segment with what is kept. The old one goes when that is durable.
    fn begin(&mut self) -> Result<(), DiskError> {
        let mut carried = self.kept.clone();
        if carried.len() > KEPT_MAX {
            sent::merge_apart(&mut carried, &self.marks);
        }
        let mut segment: Segment<RECORD_BYTES> =
            self.place.begin(&*self.fs, &self.poison, SEGMENT_RECORDS)?;
        let mut following: Vec<_> = carried.iter().map(Loss::encode).collect();
        let marks = self.marks;
        following.extend(marks.records(|| self.number()));
        let mut records = vec![head(following.len())];
        records.append(&mut following);
        if let Err(error) = segment.append(&records, &self.poison) {
            // It lacks a record, and so it never counts; or an fsync has failed, and nothing is recorded any more.
            self.older.extend(segment.path.file_name().and_then(parse_segment));
            return Err(error);
        }
        self.kept = carried;
        let old = self.current.replace(segment);
        self.older.extend(old.and_then(|old| old.path.file_name().and_then(parse_segment)));
        self.remove_older();
        Ok(())
    }

    fn remove_older(&mut self) {
        for (run, number) in std::mem::take(&mut self.older) {
            let path = segment(&self.place.path, run, number);
            if let Err(error) = self.fs.remove(&path) {
                tracing::warn!(path = %path.display(), %error, "cannot remove old loss records");
            }
        }
    }

    /// Durable when it returns.
    fn append(&mut self, losses: Vec<Loss>) -> Result<(), DiskError> {
        self.make_room()?;
        let losses: Vec<Loss> = losses.into_iter().map(|loss| Loss { id: self.number(), ..loss }).collect();
        let records: Vec<_> = losses.iter().map(Loss::encode).collect();
        self.write(&records)?;
        self.kept.extend(losses);
        Ok(())
    }

    /// Begins the next segment where this one is full. To be called before anything is numbered: what is carried over
    /// may change, and comes first.
    fn make_room(&mut self) -> Result<(), DiskError> {
        if let Err(poisoned) = self.poison.check() {
            return Err(io::Error::other(poisoned)).context("record losses in", &self.place.path);
        }
        if self.is_full()
            && let Err(error) = self.begin()
        {
            let goes_on = |segment: &Segment<_>| segment.records() < SEGMENT_RECORDS + SURPLUS;
            if !error.is_no_room() || !self.current.as_ref().is_some_and(goes_on) {
                return Err(error);
            }
            tracing::debug!(%error, "losses are recorded where they were");
        }
        Ok(())
    }

    /// A number is used up also when its record cannot be written: it may turn up all the same.
    fn number(&mut self) -> Id {
        self.next_counter += 1;
        Id { run: self.run, counter: self.next_counter - 1 }
    }

    /// Durable when it returns. There must be room.
    fn write(&mut self, records: &[[u8; RECORD_BYTES]]) -> Result<(), DiskError> {
        self.current.as_mut().expect("a segment was begun").append(records, &self.poison)
    }
}

impl Spool {
    /// Counts a package that is refused. In memory; durable with the next [`Spool::flush_losses`].
    pub fn refused(&self, class: &str, reason: LossReason, bytes: u64) {
        self.store.losses.count(Loss::of(class, reason, bytes, self.store.clock.now()));
    }

    /// Makes the refusals counted so far durable. To be called at least once a second, and at the end: costs nothing
    /// when there are none. After an error they are counted on, and the next call tries again.
    pub fn flush_losses(&self) -> Result<(), DiskError> {
        let losses = &self.store.losses;
        let mut log = lock(&losses.log);
        let pending = std::mem::take(&mut *lock(&losses.pending));
        if pending.is_empty() {
            return Ok(());
        }
        let written = log.append(pending.clone());
        if written.is_err() {
            pending.into_iter().for_each(|loss| losses.count(loss));
        }
        written
    }

    /// The loss records that are durable, oldest first.
    pub fn losses(&self) -> Vec<Loss> {
        lock(&self.store.losses.log).kept.clone()
    }

    /// The durable loss records of the spool in `root`, oldest first, whether or not a process has it open.
    pub fn read_losses(root: &Path) -> Result<Vec<Loss>, DiskError> {
        let directory = Layout::new(root).losses;
        loop {
            let found = match segments::find(&Disk, &directory) {
                Err(error) if error.source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                found => found?,
            };
            match read_all(&directory, &found, |path| segments::read(&Disk, path)) {
                // A process has just begun a new segment.
                Err(error) if error.source.kind() == io::ErrorKind::NotFound => {}
                read => return read.map(|(said, _)| said.losses),
            }
        }
    }
}

impl Store {
    /// Records what is about to be dropped; durable when it returns, so to be called before the unlink. Records of one
    /// class and reason become one.
    pub(crate) fn record_losses(&self, losses: &[Loss]) -> Result<(), DiskError> {
        match losses {
            [] => Ok(()),
            losses => lock(&self.losses.log).append(group(losses.iter().cloned())),
        }
    }
}
