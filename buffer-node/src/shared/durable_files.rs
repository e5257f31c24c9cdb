//! Which shared files this process has made durable, so that an agent that repeats itself costs no fsync.
//!
//! Anybody may edit the files in the meantime. So a file is known by its inode and its change time, which no tool can
//! set: whatever happens to it, it is another file.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Beyond this many files all are forgotten, and fsynced once more when they come again.
const REMEMBERED: usize = 10_000;

/// The files as they were when they were made durable.
#[derive(Default)]
pub(super) struct DurableFiles(Mutex<HashMap<PathBuf, Stamp>>);

#[derive(PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(file: &Metadata) -> Self {
        let changed = (file.ctime(), file.ctime_nsec());
        Self { device: file.dev(), inode: file.ino(), size: file.size(), changed }
    }
}

impl DurableFiles {
    /// `file` is what was looked at before its fsync began, or what nobody else could change.
    pub(super) fn remember(&self, path: &Path, file: &Metadata) {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if files.len() >= REMEMBERED {
            files.clear();
        }
        files.insert(path.to_owned(), Stamp::of(file));
    }

    pub(super) fn holds(&self, path: &Path, file: &Metadata) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(path) == Some(&Stamp::of(file))
    }
}
