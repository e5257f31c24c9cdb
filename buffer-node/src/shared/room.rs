//! How many shared files there may be, and how many bytes in all.
//!
//! The count is kept, not taken anew for each upload. Operators add and remove files without telling, so before the
//! room is called full the directories are counted again, but not more often than [`RECOUNT`] allows.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::PutError;
use crate::config::SharedLimits;

/// The shortest time between two counts.
const RECOUNT: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(super) struct Room(Arc<Inner>);

struct Inner {
    directories: Vec<PathBuf>,
    limits: SharedLimits,
    used: Mutex<Used>,
}

struct Used {
    /// By what lies there.
    held: Held,
    /// For what is on its way; no count finds it.
    reserved: Held,
    counted: Instant,
}

/// What some files take.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

/// Room for files that are on their way; given back when dropped.
pub(super) struct Reserved {
    room: Room,
    held: Held,
}

impl Room {
    pub(super) fn count(directories: Vec<PathBuf>, limits: SharedLimits) -> io::Result<Self> {
        let (held, counted) = (count(&directories)?, Instant::now());
        let used = Mutex::new(Used { held, reserved: Held::default(), counted });
        Ok(Self(Arc::new(Inner { directories, limits, used })))
    }

    /// For so much more.
    pub(super) fn reserve(&self, more: Held) -> Result<Reserved, PutError> {
        let mut used = self.used();
        if self.is_full(&used, more) && used.counted.elapsed() >= RECOUNT {
            (used.held, used.counted) = (count(&self.0.directories)?, Instant::now());
        }
        if self.is_full(&used, more) {
            let SharedLimits { max_bytes, max_files } = self.0.limits;
            let Held { files, bytes } = used.held.and(used.reserved);
            return Err(PutError::Full(format!(
                "{files} files and {bytes} bytes of at most {max_files} and {max_bytes}; remove some, or raise \
                 `shared.max_files` and `shared.max_bytes`"
            )));
        }
        used.reserved = used.reserved.and(more);
        drop(used);
        Ok(Reserved { room: self.clone(), held: more })
    }

    /// Files that took `before` take `after` now.
    pub(super) fn changed(&self, before: Held, after: Held) {
        let held = &mut self.used().held;
        *held = held.and(after).without(before);
    }

    fn is_full(&self, used: &Used, more: Held) -> bool {
        let SharedLimits { max_bytes, max_files } = self.0.limits;
        let then = used.held.and(used.reserved).and(more);
        (more.files > 0 && then.files > max_files) || then.bytes > max_bytes
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.0.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// By the files at these paths now. One that cannot be looked at takes nothing.
    pub(super) fn by(paths: &[&Path]) -> Self {
        let found = paths.iter().filter_map(|path| fs::symlink_metadata(path).ok());
        found.fold(Self::default(), |held, file| held.and(Self { files: 1, bytes: file.len() }))
    }

    fn and(self, other: Self) -> Self {
        let Self { files, bytes } = other;
        Self { files: self.files.saturating_add(files), bytes: self.bytes.saturating_add(bytes) }
    }

    fn without(self, other: Self) -> Self {
        let Self { files, bytes } = other;
        Self { files: self.files.saturating_sub(files), bytes: self.bytes.saturating_sub(bytes) }
    }
}

impl Reserved {
    /// The files are there now: those that took `before` take `after`.
    pub(super) fn keep(self, before: Held, after: Held) {
        // First what they take: nobody may find room in between. What was reserved is given back by the drop.
        self.room.changed(before, after);
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let reserved = &mut self.room.used().reserved;
        *reserved = reserved.without(self.held);
    }
}

fn count(directories: &[PathBuf]) -> io::Result<Held> {
    let mut held = Held::default();
    for directory in directories {
        for entry in fs::read_dir(directory)? {
            // A file that an operator removes at this moment counts as empty.
            let bytes = entry?.metadata().map_or(0, |metadata| metadata.len());
            held = held.and(Held { files: 1, bytes });
        }
    }
    Ok(held)
}
