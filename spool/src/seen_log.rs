//! The record of deletions, on disk.
//!
//! It serves two ends. A repeat of a deleted package is recognised after a restart as well: if the package
//! went to somebody and was not dropped. And a package whose unlinking was lost in a power cut is not handed out
//! again: by [`Id`], since a later package may rightly have the same name and bytes.
//!
//! `seen/` holds segments of fixed-size records (module `segments`). What a crash left torn was never acted upon,
//! because a package is unlinked only after its record's fsync. Every start of the spool leaves its mark there, durable
//! before the first package arrives: it keeps the run's ordinal in mind when no package does. Whole segments are
//! removed once nothing in them counts.
//!
//! On a full disk only deletions make room, so they never wait for a new segment (module `segments`).

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use crate::clock::Millis;
use crate::error::DiskError;
use crate::fs::Fs;
use crate::id::Id;
use crate::layout::{Layout, segment};
use crate::names;
use crate::poison::Poison;
use crate::seen::{Deletion, Duplicates, Seen};
use crate::segments::{self, Place};

const RECORD_BYTES: usize = 48;
/// Records of a segment, give or take a batch. Beyond it the next segment begins, so that old ones can be removed.
/// Tests get there sooner.
const SEGMENT_RECORDS: usize = if cfg!(test) { 4 } else { 16_384 };

/// One deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) id: Id,
    pub(crate) deletion: Deletion,
}

/// Bits of a record's last field; the step is above them.
const TIMED: u64 = 1;
const NO_REPEATS: u64 = 2;
/// Not a deletion but the start of a run.
const STARTED: u64 = 4;
const STEP_SHIFT: u32 = 32;

impl Record {
    fn encode(&self) -> [u8; RECORD_BYTES] {
        let Deletion { key, time, timed, repeats, next_step } = self.deletion;
        let timed = if timed { TIMED } else { 0 };
        let repeats = if repeats { 0 } else { NO_REPEATS };
        let marks = timed | repeats | u64::from(next_step) << STEP_SHIFT;
        sealed([self.id.run, self.id.counter, key, time, marks])
    }

    /// Of a whole record that tells of a deletion.
    fn decode(bytes: &[u8; RECORD_BYTES]) -> Option<Self> {
        let id = Id { run: run_of(bytes), counter: field(bytes, 1) };
        let marks = field(bytes, 4);
        let deletion = Deletion {
            key: field(bytes, 2),
            time: field(bytes, 3),
            timed: marks & TIMED != 0,
            repeats: marks & NO_REPEATS == 0,
            next_step: (marks >> STEP_SHIFT) as u32 % names::COPIES,
        };
        (marks & STARTED == 0).then_some(Self { id, deletion })
    }
}

fn sealed(fields: [u64; 5]) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    for (place, field) in bytes.chunks_exact_mut(8).zip(fields) {
        place.copy_from_slice(&field.to_be_bytes());
    }
    segments::seal(bytes)
}

fn field(bytes: &[u8; RECORD_BYTES], number: usize) -> u64 {
    u64::from_be_bytes(bytes.as_chunks::<8>().0[number])
}

/// The run that a record speaks of.
fn run_of(bytes: &[u8; RECORD_BYTES]) -> u64 {
    field(bytes, 0)
}

/// What the record says at a start.
pub(crate) struct Replayed {
    pub(crate) seen: Seen,
    /// Every package in it: one that is still in `ready/` came back.
    pub(crate) deleted: HashSet<Id>,
    pub(crate) last_run: Option<u64>,
    pub(crate) segments: Vec<Segment>,
}

/// A segment, and what tells until when it counts.
pub(crate) struct Segment {
    path: PathBuf,
    /// Records of deletions.
    records: usize,
    /// Of the newest of them.
    newest: Option<Millis>,
}

impl Segment {
    fn new(path: PathBuf) -> Self {
        Self { path, records: 0, newest: None }
    }

    fn count(&mut self, record: &Record) {
        self.records += 1;
        self.newest = self.newest.max(Some(record.deletion.time));
    }

    /// Whether a record in it may still be remembered. One from a wrong future may hide others, so it counts too.
    fn counts(&self, duplicates: &Duplicates, now: Millis) -> bool {
        self.newest.is_some_and(|time| now.saturating_sub(time) < duplicates.kept_at_all(false))
    }
}

/// Reads all segments, and makes sure that what was read is durable before anything is done because of it.
pub(crate) fn replay(
    fs: &dyn Fs,
    layout: &Layout,
    duplicates: Duplicates,
    now: Millis,
) -> Result<Replayed, DiskError> {
    let names = segments::find(fs, &layout.seen)?;
    let mut replayed = Replayed {
        seen: Seen::new(duplicates),
        deleted: HashSet::new(),
        last_run: names.last().map(|&(run, _)| run),
        segments: Vec::new(),
    };
    for (run, number) in names {
        let path = segment(&layout.seen, run, number);
        let records = segments::read_durable(fs, &path)?;
        let mut segment = Segment::new(path);
        replayed.last_run = records.iter().map(run_of).max().max(replayed.last_run);
        for record in records.iter().filter_map(Record::decode) {
            replayed.deleted.insert(record.id);
            replayed.seen.remember(&record.deletion);
            segment.count(&record);
        }
        replayed.seen.prune(now);
        replayed.segments.push(segment);
    }
    fs.sync_dir(&layout.seen)?;
    Ok(replayed)
}

/// The record being written.
pub(crate) struct SeenLog {
    fs: Arc<dyn Fs>,
    place: Place,
    duplicates: Duplicates,
    poison: Arc<Poison>,
    /// Oldest first; the records of `current` are not in it.
    older: Vec<Segment>,
    current: Segment,
    file: segments::Segment<RECORD_BYTES>,
}

impl SeenLog {
    /// Goes on in the last segment found, and marks the start of the run in it. `renew`: rather in a new one, because
    /// the disk has failed where the last one lies.
    pub(crate) fn start(
        fs: Arc<dyn Fs>,
        layout: &Layout,
        duplicates: Duplicates,
        poison: Arc<Poison>,
        run: u64,
        mut older: Vec<Segment>,
        renew: bool,
    ) -> Result<Self, DiskError> {
        let mut place = Place::open(&*fs, &layout.seen, run)?;
        let (current, file, is_new) = match older.pop() {
            Some(last) => {
                let file = Place::resume(&*fs, last.path.clone(), SEGMENT_RECORDS)?;
                (last, file, false)
            }
            None => {
                let file = place.begin(&*fs, &poison, SEGMENT_RECORDS)?;
                (Segment::new(file.path.clone()), file, true)
            }
        };
        let mut log = Self { fs, place, duplicates, poison, older, current, file };
        if !is_new && (renew || log.file.records() >= SEGMENT_RECORDS) {
            log.begin()?;
        }
        match log.file.append(&[sealed([run, 0, 0, 0, STARTED])], &log.poison) {
            // The packages are worth more than the order of runs: they can be pulled, and that may make room.
            Err(error) if error.is_no_room() => {
                tracing::warn!(%error, "deletions cannot be recorded until there is room");
            }
            marked => marked?,
        }
        Ok(log)
    }

    /// Begins the next segment, if there is room for it.
    fn begin(&mut self) -> Result<(), DiskError> {
        match self.place.begin(&*self.fs, &self.poison, SEGMENT_RECORDS) {
            Ok(file) => {
                self.file = file;
                let segment = Segment::new(self.file.path.clone());
                self.older.push(std::mem::replace(&mut self.current, segment));
                Ok(())
            }
            Err(error) if error.is_no_room() => {
                tracing::debug!(%error, "deletions are recorded where they were");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Writes deletions durably. After an error nothing is known about them, and the next ones take their place.
    pub(crate) fn append(&mut self, records: &[Record]) -> Result<(), DiskError> {
        if self.file.records() >= SEGMENT_RECORDS {
            self.begin()?;
        }
        let bytes: Vec<_> = records.iter().map(Record::encode).collect();
        self.file.append(&bytes, &self.poison)?;
        records.iter().for_each(|record| self.current.count(record));
        Ok(())
    }

    /// Removes segments in which nothing counts any more, but not the one being written. To be called only while
    /// every unlinking in the record is durable.
    pub(crate) fn drop_old_segments(&mut self, now: Millis) {
        let mut newer =
            self.current.records + self.older.iter().map(|segment| segment.records).sum::<usize>();
        self.older.retain(|segment| {
            newer -= segment.records;
            // With that many newer ones, nothing in it is remembered.
            if newer < self.duplicates.max_entries && segment.counts(&self.duplicates, now) {
                return true;
            }
            if let Err(error) = self.fs.remove(&segment.path) {
                tracing::warn!(path = %segment.path.display(), %error, "cannot remove an old record of deletions");
            }
            false
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: Record = Record {
        id: Id { run: 7, counter: 8 },
        deletion: Deletion { key: 9, time: 1_700_000_000_000, timed: true, repeats: true, next_step: 5 },
    };

    fn changed(change: impl FnOnce(&mut Deletion)) -> Record {
        let mut record = RECORD;
        change(&mut record.deletion);
        record
    }

    #[test]
    fn a_record_reads_back() {
        for (timed, repeats) in [(true, true), (true, false), (false, true), (false, false)] {
            let record = changed(|deletion| (deletion.timed, deletion.repeats) = (timed, repeats));
            assert_eq!(Record::decode(&record.encode()), Some(record));
        }
    }

    fn log_in(root: &std::path::Path, max_entries: usize) -> (SeenLog, Replayed) {
        let (fs, layout) = (Arc::new(crate::fs::Disk), Layout::new(root));
        crate::fs::create_dir_all(&*fs, &layout.seen).unwrap();
        let duplicates = Duplicates { max_entries, ..Duplicates::default() };
        let mut replayed = replay(&*fs, &layout, duplicates, RECORD.deletion.time).unwrap();
        let run = replayed.last_run.unwrap_or(0) + 1;
        let found = std::mem::take(&mut replayed.segments);
        let poison = Arc::new(Poison::new(fs.clone(), layout.clone()));
        (SeenLog::start(fs, &layout, duplicates, poison, run, found, false).unwrap(), replayed)
    }

    fn segments(log: &SeenLog) -> usize {
        log.fs.list(&log.place.path).unwrap().len()
    }

    #[test]
    fn a_torn_tail_does_not_count() {
        let root = tempfile::tempdir().unwrap();
        let (mut log, _) = log_in(root.path(), 100);
        log.append(&[RECORD]).unwrap();
        log.file.tear(&changed(|deletion| deletion.key = 10).encode()[..40]);
        let (log, replayed) = log_in(root.path(), 100);
        assert_eq!((replayed.deleted.len(), replayed.seen.len()), (1, 1));
        assert!(replayed.seen.repeats(9, b"web.1700000000.data", RECORD.deletion.time));
        // The mark of that start is written behind it, and counts.
        assert_eq!(segments(&log), 1);
        let (_, replayed) = log_in(root.path(), 100);
        assert_eq!((replayed.deleted.len(), replayed.last_run), (1, Some(RECORD.id.run + 1)));
    }

    #[test]
    fn a_start_is_kept_in_mind_by_its_mark() {
        let root = tempfile::tempdir().unwrap();
        for start in 0..3 * SEGMENT_RECORDS as u64 {
            let (_, replayed) = log_in(root.path(), 100);
            assert_eq!(replayed.last_run.unwrap_or(0), start);
            assert!(replayed.deleted.is_empty());
        }
    }

    #[test]
    fn segments_go_when_nothing_in_them_counts() {
        let root = tempfile::tempdir().unwrap();
        let (mut log, _) = log_in(root.path(), 2 * SEGMENT_RECORDS);
        const DAY: Millis = 24 * 60 * 60 * 1000;
        for days in [0, 1] {
            let record = changed(|deletion| deletion.time += days * DAY);
            log.append(&[record; SEGMENT_RECORDS]).unwrap();
        }
        log.append(&[changed(|deletion| deletion.time += DAY)]).unwrap();
        assert_eq!(segments(&log), 3);
        log.drop_old_segments(RECORD.deletion.time + 7 * DAY);
        assert_eq!(segments(&log), 2, "the first day's");
        log.append(&[RECORD; SEGMENT_RECORDS - 1]).unwrap();
        log.append(&[RECORD; SEGMENT_RECORDS]).unwrap();
        log.drop_old_segments(RECORD.deletion.time);
        assert_eq!(segments(&log), 2, "more than are remembered");
        log.drop_old_segments(Millis::MAX);
        assert_eq!(segments(&log), 1, "never the one being written");
    }
}
