//! How many shared files there may be, and how many bytes in all.
//!
//! The count is kept, not taken anew for each upload. Operators add and remove files without telling, so before the
//! room is called full the directories are counted again, but not more often than [`RECOUNT`] allows.
//!
//! Where the sync server places files as well, a part of the room is kept for those: else anybody who may upload could
//! keep an operator's edits from every agent.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::PutError;
use crate::config::SharedLimits;

/// The shortest time between two counts.
const RECOUNT: Duration = Duration::from_secs(10);

/// Uploads leave this part of the room to what the sync server places.
const KEPT: u64 = 4;

#[derive(Clone)]
pub(super) struct Room(Arc<Inner>);

struct Inner {
    directories: Vec<PathBuf>,
    limits: SharedLimits,
    /// For what agents upload.
    uploads: SharedLimits,
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
    pub(super) fn count(
        directories: Vec<PathBuf>,
        limits: SharedLimits,
        is_synced: bool,
    ) -> io::Result<Self> {
        let SharedLimits { max_bytes, max_files } = limits;
        let uploads = if is_synced {
            SharedLimits { max_bytes: max_bytes - max_bytes / KEPT, max_files: max_files - max_files / KEPT }
        } else {
            limits
        };
        let (held, counted) = (count(&directories)?, Instant::now());
        let used = Mutex::new(Used { held, reserved: Held::default(), counted });
        Ok(Self(Arc::new(Inner { directories, limits, uploads, used })))
    }

    /// For so much more by an agent.
    pub(super) fn reserve_upload(&self, more: Held) -> Result<Reserved, PutError> {
        self.reserve(more, self.0.uploads)
    }

    /// For so much more by the sync server.
    pub(super) fn reserve_order(&self, more: Held) -> Result<Reserved, PutError> {
        self.reserve(more, self.0.limits)
    }

    fn reserve(&self, more: Held, limits: SharedLimits) -> Result<Reserved, PutError> {
        let mut used = self.used();
        if is_full(&used, more, limits) && used.counted.elapsed() >= RECOUNT {
            (used.held, used.counted) = (count(&self.0.directories)?, Instant::now());
        }
        if is_full(&used, more, limits) {
            let SharedLimits { max_bytes, max_files } = limits;
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

    fn used(&self) -> MutexGuard<'_, Used> {
        self.0.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What takes nothing more has room, however full it is.
fn is_full(used: &Used, more: Held, limits: SharedLimits) -> bool {
    let then = used.held.and(used.reserved).and(more);
    (more.files > 0 && then.files > limits.max_files) || (more.bytes > 0 && then.bytes > limits.max_bytes)
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

    pub(super) fn without(self, other: Self) -> Self {
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
