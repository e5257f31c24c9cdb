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
use crate::fs::{Fs, Written};
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
    /// The listed name carries a time.
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
    duplicates: Duplicates,
    poison: Arc<Poison>,
    run: u64,
    next_number: u32,
    /// The segment that the next records go to; `None` after a write failed in the middle of one.
    file: Option<Box<dyn Written>>,
    /// Oldest first; the last one is the one being written.
    segments: Vec<Segment>,
}

impl SeenLog {
    /// Begins the run's first segment, after those found.
    pub(crate) fn start(
        fs: Arc<dyn Fs>,
        layout: Layout,
        duplicates: Duplicates,
        poison: Arc<Poison>,
        run: u64,
        found: Vec<Segment>,
    ) -> Result<Self, DiskError> {
        let mut log =
            Self { fs, layout, duplicates, poison, run, next_number: 0, file: None, segments: found };
        log.begin_segment()?;
        Ok(log)
    }

    fn begin_segment(&mut self) -> Result<Box<dyn Written>, DiskError> {
        let path = self.layout.segment(self.run, self.next_number);
        let file = self.fs.create_new(&path).context("create", &path)?;
        self.next_number += 1;
        self.segments.push(Segment::new(path));
        self.poison.fsynced(self.fs.sync_dir(&self.layout.seen), &self.layout.seen)?;
        Ok(file)
    }

    /// Writes deletions durably. After an error nothing is known about them.
    pub(crate) fn append(&mut self, records: &[Record]) -> Result<(), DiskError> {
        let mut file = match self.file.take() {
            Some(file) if self.current().records < SEGMENT_RECORDS => file,
            _ => self.begin_segment()?,
        };
        // Counted first: even one that fails may be on the disk.
        records.iter().for_each(|record| self.current().count(record));
        let path = self.current().path.clone();
        let bytes: Vec<u8> = records.iter().flat_map(Record::encode).collect();
        file.append(&bytes).context("write", &path)?;
        self.poison.fsynced(file.sync(), &path)?;
        self.file = Some(file);
        Ok(())
    }

    fn current(&mut self) -> &mut Segment {
        self.segments.last_mut().expect("a log has begun its first segment")
    }

    /// Removes segments in which nothing counts any more, but not the one being written. To be called only while
    /// every unlinking in the record is durable.
    pub(crate) fn drop_old_segments(&mut self, now: Millis) {
        let mut left: usize = self.segments.iter().map(|segment| segment.records).sum();
        let last = self.current().path.clone();
        self.segments.retain(|segment| {
            // What newer segments hold: at the limit, nothing of this one is remembered.
            left -= segment.records;
            if segment.path == last || (segment.counts(&self.duplicates, now) && left < self.duplicates.max_entries) {
                return true;
            }
            if let Err(error) = self.fs.remove(&segment.path) {
                tracing::warn!(path = %segment.path.display(), %error, "cannot remove an old record of deletions");
            }
            false
        });
    }
}
