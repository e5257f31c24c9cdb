//! The record of deletions, on disk.
//!
//! It serves two ends. A repeat of a deleted package is recognised after a restart as well: by [`Key`]. And a
//! package whose unlinking was lost in a power cut is not handed out again: by [`Id`], since a later package may
//! rightly have the same name and bytes.
//!
//! `seen/` holds segments of fixed-size records, each with its own checksum: what a crash left torn or scrambled
//! does not count, and was never acted upon, because a package is unlinked only after its record's fsync. Every
//! start of the spool begins a segment of its own, durable before the first package arrives; its name is also what
//! keeps the run's ordinal in mind when no package does. Whole segments are removed once nothing in them counts.

use std::collections::HashSet;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::clock::Millis;
use crate::error::{Context, DiskError};
use crate::fs::{Directory, Fs, Written};
use crate::id::Id;
use crate::layout::{Layout, parse_segment};
use crate::poison::Poison;
use crate::seen::{Duplicates, Key, Seen, first_eight};

const RECORD_BYTES: usize = 48;
/// Records of a segment, give or take a batch. Beyond it the next segment begins, so that old ones can be removed.
/// Tests get there sooner.
const SEGMENT_RECORDS: usize = if cfg!(test) { 4 } else { 16_384 };

/// One deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) id: Id,
    pub(crate) key: Key,
    pub(crate) time: Millis,
    /// The name sent carries a time.
    pub(crate) timed: bool,
}

impl Record {
    fn encode(&self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        let fields = [self.id.run, self.id.counter, self.key, self.time, u64::from(self.timed)];
        for (place, field) in bytes.chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_be_bytes());
        }
        let checksum = checksum(&bytes);
        bytes[RECORD_BYTES - 8..].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8; RECORD_BYTES]) -> Option<Self> {
        let (fields, _) = bytes.as_chunks::<8>();
        let [run, counter, key, time, timed, sum] =
            <[[u8; 8]; 6]>::try_from(fields).ok()?.map(u64::from_be_bytes);
        (sum == checksum(bytes)).then_some(Self { id: Id { run, counter }, key, time, timed: timed != 0 })
    }
}

/// Of a record's bytes before the checksum.
fn checksum(bytes: &[u8; RECORD_BYTES]) -> u64 {
    first_eight(Sha256::new_with_prefix(&bytes[..RECORD_BYTES - 8]))
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
    records: usize,
    /// Newest record of each sort.
    newest_timed: Option<Millis>,
    newest_other: Option<Millis>,
}

impl Segment {
    fn new(path: PathBuf) -> Self {
        Self { path, records: 0, newest_timed: None, newest_other: None }
    }

    fn count(&mut self, record: &Record) {
        self.records += 1;
        let newest = if record.timed { &mut self.newest_timed } else { &mut self.newest_other };
        *newest = (*newest).max(Some(record.time));
    }

    /// Whether a record in it may still be remembered. One from a wrong future may hide others, so it counts too.
    fn counts(&self, duplicates: &Duplicates, now: Millis) -> bool {
        let live = |newest: Option<Millis>, timed| {
            newest.is_some_and(|time| now.saturating_sub(time) < duplicates.kept(timed))
        };
        live(self.newest_timed, true) || live(self.newest_other, false)
    }
}

/// Reads all segments, and makes sure that what was read is durable before anything is done because of it.
pub(crate) fn replay(
    fs: &dyn Fs,
    layout: &Layout,
    duplicates: Duplicates,
    now: Millis,
) -> Result<Replayed, DiskError> {
    let found = fs.list(&layout.seen).context("list", &layout.seen)?;
    let mut names: Vec<_> = found.iter().filter_map(|found| parse_segment(&found.name)).collect();
    names.sort_unstable();
    let mut replayed = Replayed {
        seen: Seen::new(duplicates),
        deleted: HashSet::new(),
        last_run: names.last().map(|&(run, _)| run),
        segments: Vec::new(),
    };
    for (run, number) in names {
        let path = layout.segment(run, number);
        fs.sync_file(&path).context("fsync", &path)?;
        let mut bytes = Vec::new();
        fs.open(&path).and_then(|mut file| file.read_to_end(&mut bytes)).context("read", &path)?;
        let mut segment = Segment::new(path);
        for record in bytes.as_chunks().0.iter().filter_map(Record::decode) {
            replayed.deleted.insert(record.id);
            replayed.seen.remember(record.key, record.timed, record.time);
            segment.count(&record);
        }
        replayed.seen.prune(now);
        replayed.segments.push(segment);
    }
    fs.sync_dir(&layout.seen).context("fsync", &layout.seen)?;
    Ok(replayed)
}

/// The record being written.
pub(crate) struct SeenLog {
    fs: Arc<dyn Fs>,
    layout: Layout,
    /// `seen/`, open from start to end.
    directory: Box<dyn Directory>,
    duplicates: Duplicates,
    poison: Arc<Poison>,
    run: u64,
    /// Oldest first; the records of `current` are not in it.
    older: Vec<Segment>,
    current: Segment,
    file: Box<dyn Written>,
    next_number: u32,
}

impl SeenLog {
    /// Begins the run's first segment, after those found.
    pub(crate) fn start(
        fs: Arc<dyn Fs>,
        layout: Layout,
        duplicates: Duplicates,
        poison: Arc<Poison>,
        run: u64,
        older: Vec<Segment>,
    ) -> Result<Self, DiskError> {
        let directory = fs.open_dir(&layout.seen).context("open", &layout.seen)?;
        let (current, file) = begin_segment(&*fs, &*directory, &poison, &layout, run, 0)?;
        Ok(Self { fs, layout, directory, duplicates, poison, run, older, current, file, next_number: 1 })
    }

    /// Writes deletions durably. After an error nothing is known about them, and the next ones take their place.
    pub(crate) fn append(&mut self, records: &[Record]) -> Result<(), DiskError> {
        if self.current.records >= SEGMENT_RECORDS {
            let (segment, file) = begin_segment(
                &*self.fs,
                &*self.directory,
                &self.poison,
                &self.layout,
                self.run,
                self.next_number,
            )?;
            self.older.push(std::mem::replace(&mut self.current, segment));
            self.file = file;
            self.next_number += 1;
        }
        let bytes: Vec<u8> = records.iter().flat_map(Record::encode).collect();
        let end = (self.current.records * RECORD_BYTES) as u64;
        self.file.write_at(end, &bytes).context("write", &self.current.path)?;
        self.poison.fsynced(self.file.sync(), &self.current.path)?;
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

/// Makes a segment, its name durable, with room for all its records: deletions must work on a full disk, too.
fn begin_segment(
    fs: &dyn Fs,
    directory: &dyn Directory,
    poison: &Poison,
    layout: &Layout,
    run: u64,
    number: u32,
) -> Result<(Segment, Box<dyn Written>), DiskError> {
    let path = layout.segment(run, number);
    let mut file = fs.create_new(&path).context("create", &path)?;
    if let Err(error) = file.allocate((SEGMENT_RECORDS * RECORD_BYTES) as u64) {
        tracing::debug!(path = %path.display(), %error, "no room set aside for the record of deletions");
    }
    poison.fsynced(directory.sync(), &layout.seen)?;
    Ok((Segment::new(path), file))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: Record =
        Record { id: Id { run: 7, counter: 8 }, key: 9, time: 1_700_000_000_000, timed: true };

    #[test]
    fn a_record_reads_back_and_a_damaged_one_does_not() {
        let bytes = RECORD.encode();
        assert_eq!(Record::decode(&bytes), Some(RECORD));
        assert_eq!(Record::decode(&[0; RECORD_BYTES]), None);
        for bit in 0..RECORD_BYTES * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Record::decode(&damaged), None, "bit {bit}");
        }
    }

    fn log_in(root: &std::path::Path, max_entries: usize) -> (SeenLog, Replayed) {
        let (fs, layout) = (Arc::new(crate::fs::Disk), Layout::new(root));
        crate::fs::create_dir_all(&*fs, &layout.seen).unwrap();
        let duplicates = Duplicates { max_entries, ..Duplicates::default() };
        let mut replayed = replay(&*fs, &layout, duplicates, RECORD.time).unwrap();
        let run = replayed.last_run.unwrap_or(0) + 1;
        let found = std::mem::take(&mut replayed.segments);
        (SeenLog::start(fs, layout, duplicates, Arc::default(), run, found).unwrap(), replayed)
    }

    fn segments(log: &SeenLog) -> usize {
        log.fs.list(&log.layout.seen).unwrap().len()
    }

    #[test]
    fn a_torn_tail_does_not_count() {
        let root = tempfile::tempdir().unwrap();
        let (mut log, _) = log_in(root.path(), 100);
        log.append(&[RECORD]).unwrap();
        log.file.write_at(RECORD_BYTES as u64, &Record { key: 10, ..RECORD }.encode()[..40]).unwrap();
        let (_, replayed) = log_in(root.path(), 100);
        assert_eq!((replayed.deleted.len(), replayed.seen.len()), (1, 1));
        assert!(replayed.seen.repeats(9, b"web.1700000000.data", RECORD.time));
    }

    #[test]
    fn segments_go_when_nothing_in_them_counts() {
        let root = tempfile::tempdir().unwrap();
        let (mut log, _) = log_in(root.path(), 2 * SEGMENT_RECORDS);
        for timed in [false, true] {
            log.append(&[Record { timed, ..RECORD }; SEGMENT_RECORDS]).unwrap();
        }
        log.append(&[RECORD]).unwrap();
        assert_eq!(segments(&log), 3);
        log.drop_old_segments(RECORD.time + 60 * 60 * 1000);
        assert_eq!(segments(&log), 2, "the names without a time");
        log.append(&[RECORD; SEGMENT_RECORDS - 1]).unwrap();
        log.append(&[RECORD; SEGMENT_RECORDS]).unwrap();
        log.drop_old_segments(RECORD.time);
        assert_eq!(segments(&log), 2, "more than are remembered");
        log.drop_old_segments(Millis::MAX);
        assert_eq!(segments(&log), 1, "never the one being written");
    }
}
