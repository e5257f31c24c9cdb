//! How many shared files there may be, and how many bytes in all.
//!
//! The count is kept, not taken anew for each upload. Operators add and remove files without telling, so before the
//! room is called full the directories are counted again, but not more often than [`RECOUNT`] allows.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::PutError;
use crate::config::SharedLimits;

/// The shortest time between two counts.
const RECOUNT: Duration = Duration::from_secs(10);

pub(super) struct Room {
    directories: Vec<PathBuf>,
    limits: SharedLimits,
    used: Mutex<Used>,
}

struct Used {
    files: u64,
    bytes: u64,
    counted: Instant,
}

/// Room for one file; given back when dropped.
pub(super) struct Reserved<'a> {
    room: &'a Room,
    bytes: u64,
    kept: bool,
}

impl Room {
    pub(super) fn count(directories: Vec<PathBuf>, limits: SharedLimits) -> io::Result<Self> {
        let used = Mutex::new(count(&directories)?);
        Ok(Self { directories, limits, used })
    }

    pub(super) fn reserve(&self, bytes: u64) -> Result<Reserved<'_>, PutError> {
        let mut used = self.used();
        if self.is_full(&used, bytes) && used.counted.elapsed() >= RECOUNT {
            *used = count(&self.directories)?;
        }
        if self.is_full(&used, bytes) {
            let SharedLimits { max_bytes, max_files } = self.limits;
            return Err(PutError::Full(format!(
                "{} files and {} bytes of at most {max_files} and {max_bytes}; remove some, or raise \
                 `shared.max_files` and `shared.max_bytes`",
                used.files, used.bytes
            )));
        }
        used.files += 1;
        used.bytes += bytes;
        Ok(Reserved { room: self, bytes, kept: false })
    }

    fn is_full(&self, used: &Used, bytes: u64) -> bool {
        used.files >= self.limits.max_files || used.bytes.saturating_add(bytes) > self.limits.max_bytes
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reserved<'_> {
    /// The file is there, perhaps in the place of one with `replaced` bytes.
    pub(super) fn keep(mut self, replaced: Option<u64>) {
        self.kept = true;
        if let Some(bytes) = replaced {
            self.give_back(bytes);
        }
    }

    fn give_back(&self, bytes: u64) {
        let mut used = self.room.used();
        used.files = used.files.saturating_sub(1);
        used.bytes = used.bytes.saturating_sub(bytes);
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.give_back(self.bytes);
        }
    }
}

fn count(directories: &[PathBuf]) -> io::Result<Used> {
    let mut used = Used { files: 0, bytes: 0, counted: Instant::now() };
    for directory in directories {
        for entry in fs::read_dir(directory)? {
            used.files += 1;
            // A file that an operator removes at this moment counts as empty.
            used.bytes += entry?.metadata().map_or(0, |metadata| metadata.len());
        }
    }
    Ok(used)
}
