//! The staging directory: files that have been received and are not in the pipeline yet.
//!
//! Constraints:
//! - It is on the file system of `incomingdir`, so that delivering is one rename.
//! - No name in it matches what a consumer of `incomingdir` reads; by default it is hidden there as `.tidegate`.
//! - It belongs to one ledger, whose id it carries, beside a mark of its own that the ledger knows. A missing staged file
//!   means "already delivered" only in the right directory: with an unmounted or replaced one, the same absence would
//!   be a loss, so the server refuses. The mark tells the directory below a mount point from the one mounted over it.
//! - A file in it may be the only copy of a package that the site has deleted. The ledger knows it, unless that is an
//!   older one than was here before (restored from a backup, or its log lost). So both count the starts: the ledger
//!   first, and a directory that has seen more of them is swept of nothing.

mod file;
mod opening;
mod owner;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use tidegate_spool::durable;

use crate::config::Ownership;
pub(crate) use file::StagedFile;
pub(crate) use opening::StagingError;
use owner::Owner;
pub(crate) use owner::{OWNER, Tie, owner_of};

/// The end of a staged file's name.
const ENDING: &str = ".staged";

/// The end of the name of one that was set aside.
pub(crate) const ASIDE_ENDING: &str = ".aside";

/// How many files of a batch are fsynced side by side.
const SYNC_THREADS: usize = 8;

/// An open staging directory.
#[derive(Debug)]
pub(crate) struct Staging {
    directory: PathBuf,
    ownership: Ownership,
    owner: Owner,
    start: String,
    counter: AtomicU64,
}

impl Staging {
    /// The names of the staged files in `directory`, which must be a staging directory.
    pub(crate) fn files(directory: &Path) -> io::Result<HashSet<String>> {
        fs::metadata(directory.join(OWNER))?;
        let mut files = HashSet::new();
        for entry in fs::read_dir(directory)? {
            let name = entry?.file_name();
            files.extend(name.to_str().filter(|name| name.ends_with(ENDING)).map(str::to_owned));
        }
        Ok(files)
    }

    /// Where it is.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where a staged file lies.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// A new, empty file.
    pub(crate) fn create(self: &Arc<Self>) -> io::Result<StagedFile> {
        let n = self.counter.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{n:08x}{ENDING}", self.start);
        let file = durable::create_new(&self.path(&name))?;
        Ok(StagedFile { file: Some(file), name, staging: Arc::clone(self), kept: AtomicBool::new(false) })
    }

    /// Makes the contents of `files` durable, and their names. On ext4, fsyncs side by side share the journal's
    /// commits: 64 files took 7 ms instead of 32.
    pub(crate) fn sync_files(&self, files: &[&StagedFile]) -> io::Result<()> {
        let sync = |files: &[&StagedFile]| files.iter().try_for_each(|file| file.sync());
        let share = files.len().div_ceil(SYNC_THREADS).max(1);
        thread::scope(|threads| {
            let syncing: Vec<_> =
                files.chunks(share).map(|files| threads.spawn(move || sync(files))).collect();
            // All are waited for, whatever the first says.
            let synced: Vec<_> =
                syncing.into_iter().map(|thread| thread.join().expect("fsync does not panic")).collect();
            synced.into_iter().collect::<io::Result<()>>()
        })?;
        if files.is_empty() { Ok(()) } else { self.sync() }
    }

    /// Makes the names of staged files durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        durable::sync_dir(&self.directory)
    }

    /// Removes every staged file that is not in `keep`. Returns how many.
    pub(crate) fn sweep(&self, keep: &HashSet<&str>) -> io::Result<usize> {
        let mut swept = 0;
        for entry in fs::read_dir(&self.directory)? {
            let name = entry?.file_name();
            let Some(name) = name.to_str() else { continue };
            let ours = name.ends_with(ENDING) || name.starts_with(durable::TEMPORARY_PREFIX);
            if ours && !keep.contains(name) {
                self.remove(name);
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// Gives every staged file that is not in `known` a name that no start removes. Returns where they are.
    pub(crate) fn set_aside(&self, known: &HashSet<&str>) -> io::Result<Vec<PathBuf>> {
        let mut aside = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let name = entry?.file_name();
            let Some(name) = name.to_str().filter(|name| !known.contains(name)) else { continue };
            let Some(stem) = name.strip_suffix(ENDING) else { continue };
            let path = self.path(&format!("{stem}{ASIDE_ENDING}"));
            fs::rename(self.path(name), &path)?;
            aside.push(path);
        }
        self.sync()?;
        Ok(aside)
    }

    /// Removes a staged file that the ledger does not know (any more). A file that stays is swept at the next start.
    pub(crate) fn remove(&self, name: &str) {
        if let Err(error) = fs::remove_file(self.path(name)) {
            tracing::warn!(file = name, %error, "a staged file that is not needed could not be removed");
        }
    }
}
