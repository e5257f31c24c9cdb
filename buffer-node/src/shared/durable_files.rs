//! Which shared files this process has made durable, so that an agent that repeats itself costs no fsync.

use std::collections::HashMap;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::stamp::Stamp;

/// Beyond this many files all are forgotten, and fsynced once more when they come again.
const REMEMBERED: usize = 10_000;

/// The files as they were when they were made durable.
#[derive(Default)]
pub(super) struct DurableFiles(Mutex<HashMap<PathBuf, Stamp>>);

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
