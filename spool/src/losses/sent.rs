//! Loss records on their way to somebody who counts each of them once, by its number.
//!
//! Numbers are handed out in order, and acknowledged up to one of them. Both marks are records of their own in the segment:
//! the acknowledged one is durable before [`Spool::acknowledge_losses`] returns, and how far records were handed out is
//! durable *before* they are. So after any crash there are three kinds:
//!
//! - *acknowledged*: they are counted and are not handed out again. They are kept for operators.
//! - *handed out* and not acknowledged: they may be counted or not, so they come again, each as it was.
//! - *new*: nobody has seen their numbers.
//!
//! When the oldest records are merged for room, each kind is merged by itself. Of the acknowledged ones the result keeps
//! a number that is acknowledged; of the new ones it gets the greatest of its parts, which nobody has seen, as nobody has
//! seen those of the others. What is handed out is never merged. There are at most [`HANDED_OUT_MAX`] of these: no further
//! ones are handed out before some are acknowledged.
//!
//! A damaged mark (a flipped bit) counts for less than it said: records are handed out again, or merged too early, and
//! then some may be counted twice. None is lost.

use super::record::{GROUPS_MAX, RECORD_BYTES, field, fields, merge};
use super::{KEPT_MAX, Log, Loss, SEGMENT_RECORDS};
use crate::error::DiskError;
use crate::id::Id;
use crate::parallel::lock;
use crate::segments;
use crate::store::Spool;

/// Records that are handed out and not acknowledged. Further ones wait. Tests get there sooner.
const HANDED_OUT_MAX: usize = if cfg!(test) { 3 } else { 1024 };

// What is carried over, two marks and the head leave room in a segment.
const _: () = assert!(2 * GROUPS_MAX + HANDED_OUT_MAX + KEPT_MAX + 3 < SEGMENT_RECORDS);

/// In the place of a reason: what the mark says.
const ACKNOWLEDGED: u64 = u64::MAX - 1;
const HANDED_OUT: u64 = u64::MAX - 2;

/// How far records have come. Never less than before.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Marks {
    acknowledged: Option<Id>,
    /// At least as far.
    handed_out: Option<Id>,
}

impl Marks {
    /// Heeds a record, if it is a mark.
    pub(super) fn replay(&mut self, record: &[u8; RECORD_BYTES]) -> bool {
        let upto = Some(Id { run: field(record, 3), counter: field(record, 4) });
        match field(record, 2) {
            ACKNOWLEDGED => self.acknowledged = self.acknowledged.max(upto),
            HANDED_OUT => {}
            _ => return false,
        }
        self.handed_out = self.handed_out.max(upto);
        true
    }

    /// The records that say so.
    pub(super) fn records(&self, mut number: impl FnMut() -> Id) -> Vec<[u8; RECORD_BYTES]> {
        let marks = [(ACKNOWLEDGED, self.acknowledged), (HANDED_OUT, self.handed_out)];
        marks.into_iter().filter_map(|(kind, upto)| Some(record(number(), kind, upto?))).collect()
    }
}

fn record(id: Id, kind: u64, upto: Id) -> [u8; RECORD_BYTES] {
    segments::seal(fields([id.run, id.counter, kind, upto.run, upto.counter, 0, 0]))
}

/// Merges all but the newest [`KEPT_MAX`] records, as far as they may be merged.
pub(super) fn merge_apart(records: &mut Vec<Loss>, marks: &Marks) {
    let newest = records.split_off(records.len().saturating_sub(KEPT_MAX));
    let behind = |mark: Option<Id>, records: &[Loss]| records.partition_point(|loss| Some(loss.id) <= mark);
    let mut new = records.split_off(behind(marks.handed_out, records));
    let handed_out = records.split_off(behind(marks.acknowledged, records));
    merge(records);
    merge(&mut new);
    records.extend(handed_out.into_iter().chain(new).chain(newest));
}

impl Log {
    /// There must be room.
    fn mark(&mut self, kind: u64, upto: Id) -> Result<(), DiskError> {
        let record = record(self.number(), kind, upto);
        self.write(&[record])?;
        self.marks.replay(&record);
        Ok(())
    }

    /// The oldest that are not acknowledged.
    fn due(&self, max: usize) -> &[Loss] {
        let from = self.kept.partition_point(|loss| Some(loss.id) <= self.marks.acknowledged);
        let due = &self.kept[from..];
        &due[..due.len().min(max).min(HANDED_OUT_MAX)]
    }

    fn hand_out(&mut self, max: usize) -> Result<Vec<Loss>, DiskError> {
        let last = |log: &Self| log.due(max).last().map(|loss| loss.id);
        if last(self) > self.marks.handed_out {
            // It may merge the new ones: only then it shows which come next.
            self.make_room()?;
            if let Some(last) = last(self) {
                self.mark(HANDED_OUT, last)?;
            }
        }
        Ok(self.due(max).to_vec())
    }
}

impl Spool {
    /// The oldest durable loss records that are not acknowledged, in order: at most `max`. Whoever takes them counts each
    /// number once: they come again, unchanged, until they are acknowledged. Blocks on the disk where some have not been
    /// given before, and gives none when it fails.
    pub fn unacknowledged_losses(&self, max: usize) -> Vec<Loss> {
        let handed_out = lock(&self.store.losses.log).hand_out(max);
        handed_out.unwrap_or_else(|error| {
            tracing::debug!(%error, "loss records cannot be handed out now");
            Vec::new()
        })
    }

    /// All records up to this number are counted, durably when it returns; as far as they were handed out.
    pub fn acknowledge_losses(&self, upto: Id) -> Result<(), DiskError> {
        let mut log = lock(&self.store.losses.log);
        // Nobody can have counted what was not handed out.
        let upto = log.marks.handed_out.min(Some(upto));
        match upto.filter(|_| upto > log.marks.acknowledged) {
            Some(upto) => log.make_room().and_then(|()| log.mark(ACKNOWLEDGED, upto)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
