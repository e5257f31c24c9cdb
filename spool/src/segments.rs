//! Files of fixed-size records, each with its own checksum: what the record of deletions and the loss records are
//! kept in.
//!
//! A segment is `<run 16>-<number 8>` in a directory of its sort, with the run that made it. A record whose checksum
//! is wrong does not count; whoever acts upon a record does so only after its fsync.
//!
//! Records must be written on a full disk, too: only a deletion makes room there. So room is set aside when a segment is
//! made, durably, before it gets its name. A start goes on in the last segment, behind all that is in it: what a crash left
//! torn stays there, is never written over and never becomes whole. And a segment in which the next one should begin goes
//! on when there is no room, or no file, for that: room for [`SURPLUS`] more records is set aside for this case.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Context, DiskError};
use crate::fs::{Directory, Fs, Written};
use crate::layout::{parse_segment, segment};
use crate::poison::Poison;
use crate::seen::first_eight;

/// Records beyond its number for which a segment has room set aside: they are written when the next one cannot begin.
/// Further ones take what room they find. Tests are to stay below it.
pub(crate) const SURPLUS: usize = if cfg!(test) { 256 } else { 4096 };

/// The segment that is being made, in its directory.
const BEGINNING: &str = "beginning";

/// Bytes of the checksum at the end of every record.
const CHECKSUM_BYTES: usize = 8;

/// Writes the checksum of a record's other bytes into its last ones.
pub(crate) fn seal<const N: usize>(mut record: [u8; N]) -> [u8; N] {
    let checksum = checksum(&record);
    record[N - CHECKSUM_BYTES..].copy_from_slice(&checksum);
    record
}

fn is_whole<const N: usize>(record: &[u8; N]) -> bool {
    record[N - CHECKSUM_BYTES..] == checksum(record)
}

fn checksum<const N: usize>(record: &[u8; N]) -> [u8; CHECKSUM_BYTES] {
    first_eight(Sha256::new_with_prefix(&record[..N - CHECKSUM_BYTES])).to_be_bytes()
}

/// Run and number of the segments in a directory, oldest first.
pub(crate) fn find(fs: &dyn Fs, directory: &Path) -> Result<Vec<(u64, u32)>, DiskError> {
    let found = fs.list(directory).context("list", directory)?;
    let mut segments: Vec<_> = found.iter().filter_map(|found| parse_segment(&found.name)).collect();
    segments.sort_unstable();
    Ok(segments)
}

/// The whole records of a segment, made durable before anything is done because of them, and read from the disk
/// itself: what an earlier process could not write may still be in the cache (module `failed`).
pub(crate) fn read_durable<const N: usize>(fs: &dyn Fs, path: &Path) -> Result<Vec<[u8; N]>, DiskError> {
    fs.sync_file(path)?;
    records(fs.open_uncached(path), path)
}

/// The whole records of a segment.
pub(crate) fn read<const N: usize>(fs: &dyn Fs, path: &Path) -> Result<Vec<[u8; N]>, DiskError> {
    records(fs.open(path), path)
}

fn records<const N: usize>(file: io::Result<File>, path: &Path) -> Result<Vec<[u8; N]>, DiskError> {
    let mut bytes = Vec::new();
    file.and_then(|mut file| file.read_to_end(&mut bytes)).context("read", path)?;
    Ok(bytes.as_chunks::<N>().0.iter().filter(|record| is_whole(record)).copied().collect())
}

/// The directory of one sort of segments, for the one who writes them.
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    /// Open from start to end.
    directory: Box<dyn Directory>,
    run: u64,
    next_number: u32,
}

impl Place {
    pub(crate) fn open(fs: &dyn Fs, path: &Path, run: u64) -> Result<Self, DiskError> {
        remove_beginning(fs, path);
        let directory = fs.open_dir(path).context("open", path)?;
        Ok(Self { path: path.to_owned(), directory, run, next_number: 0 })
    }

    /// Makes the next segment, durably, with room for that many records and [`SURPLUS`].
    pub(crate) fn begin<const N: usize>(
        &mut self,
        fs: &dyn Fs,
        poison: &Poison,
        records: usize,
    ) -> Result<Segment<N>, DiskError> {
        let path = segment(&self.path, self.run, self.next_number);
        // The number is used up, whatever happens: a file that was made and not made durable is in the way.
        self.next_number += 1;
        remove_beginning(fs, &self.path);
        let begun = self.begin_as(fs, poison, path, records);
        if begun.is_err() {
            // It may have got a part of its room.
            remove_beginning(fs, &self.path);
        }
        begun
    }

    fn begin_as<const N: usize>(
        &self,
        fs: &dyn Fs,
        poison: &Poison,
        path: PathBuf,
        records: usize,
    ) -> Result<Segment<N>, DiskError> {
        let beginning = self.path.join(BEGINNING);
        let mut file = fs.create_new(&beginning).context("create", &beginning)?;
        match set_aside::<N>(&mut *file, records, &path) {
            Err(error) if error.is_no_room() => return Err(error),
            // Not every file system can do that.
            Err(error) => tracing::debug!(%error, "no room set aside for records"),
            Ok(()) => {}
        }
        poison.fsynced(file.sync(), &beginning)?;
        fs.rename_noreplace(&beginning, &path).context("rename", &beginning)?;
        poison.fsynced(self.directory.sync(), &self.path)?;
        Ok(Segment { path, file, records: 0 })
    }

    /// Goes on in a segment found.
    pub(crate) fn resume<const N: usize>(
        fs: &dyn Fs,
        path: PathBuf,
        records: usize,
    ) -> Result<Segment<N>, DiskError> {
        let (mut file, length) = fs.open_to_append(&path).context("open", &path)?;
        // It has its room, unless somebody copied it here.
        if let Err(error) = set_aside::<N>(&mut *file, records, &path) {
            tracing::debug!(%error, "no room set aside for records");
        }
        let records = usize::try_from(length).expect("it has been read").div_ceil(N);
        Ok(Segment { path, file, records })
    }
}

fn set_aside<const N: usize>(file: &mut dyn Written, records: usize, path: &Path) -> Result<(), DiskError> {
    file.allocate(((records + SURPLUS) * N) as u64).context("set room aside for", path)
}

fn remove_beginning(fs: &dyn Fs, directory: &Path) {
    let path = directory.join(BEGINNING);
    match fs.remove(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::debug!(path = %path.display(), %error, "cannot remove an unfinished segment");
        }
        _ => {}
    }
}

/// A segment being written.
pub(crate) struct Segment<const N: usize> {
    pub(crate) path: PathBuf,
    file: Box<dyn Written>,
    /// Those torn included.
    records: usize,
}

impl<const N: usize> Segment<N> {
    pub(crate) fn records(&self) -> usize {
        self.records
    }

    /// Writes sealed records durably. After an error nothing is known about them, and the next ones take their place.
    pub(crate) fn append(&mut self, records: &[[u8; N]], poison: &Poison) -> Result<(), DiskError> {
        self.file.write_at((self.records * N) as u64, records.as_flattened()).context("write", &self.path)?;
        poison.fsynced(self.file.sync(), &self.path)?;
        self.records += records.len();
        Ok(())
    }

    /// Writes as [`Self::append`] does, and loses the fsync.
    #[cfg(test)]
    pub(crate) fn tear(&mut self, bytes: &[u8]) {
        self.file.write_at((self.records * N) as u64, bytes).unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_record_is_not_whole() {
        let record = seal([7; 24]);
        assert!(is_whole(&record) && !is_whole(&[0; 24]));
        for bit in 0..24 * 8 {
            let mut damaged = record;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_whole(&damaged), "bit {bit}");
        }
    }
}
