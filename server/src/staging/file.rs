//! One staged file, from its first byte to the pipeline.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, fchown};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use tidegate_spool::durable;

use super::Staging;
use crate::config::Ownership;

/// A file in the staging directory; it goes with this value unless it is [kept](StagedFile::keep).
#[derive(Debug)]
pub(crate) struct StagedFile {
    /// `None` while it is closed.
    pub(super) file: Option<File>,
    pub(super) name: String,
    pub(super) staging: Arc<Staging>,
    pub(super) kept: AtomicBool,
}

impl StagedFile {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.staging.path(&self.name)
    }

    /// The open file.
    ///
    /// # Panics
    /// When it was closed: nothing is written behind that.
    pub(crate) fn file(&mut self) -> &mut File {
        self.file.as_mut().expect("a file is closed after its last write")
    }

    /// Closes the file for a while. Nothing of it is durable.
    pub(crate) fn rest(&mut self) {
        self.file = None;
    }

    /// Opens it again, at its end. Blocks.
    pub(crate) fn wake(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            self.file = Some(File::options().append(true).open(self.path())?);
        }
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn is_open(&self) -> bool {
        self.file.is_some()
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), durable::sync_open)
    }

    /// Makes the content durable, and closes the file: of a big batch not all can be open at once.
    pub(crate) fn sync_and_close(&mut self) -> io::Result<()> {
        self.sync()?;
        self.file = None;
        Ok(())
    }

    /// Gives the file what the pipeline is to see: modification time, owner, group, mode.
    pub(crate) fn dress(&self, modified: SystemTime) -> io::Result<()> {
        let Ownership { user, group, mode } = self.staging.ownership;
        let file = self.file.as_ref().expect("a file is dressed before it is closed");
        if user.is_some() || group.is_some() {
            fchown(file, user, group)?;
        }
        file.set_permissions(Permissions::from_mode(mode))?;
        durable::set_times(file, modified)
    }

    /// Whether the file outlives this value: from before the ledger may know it on.
    pub(crate) fn keep(&self, keep: bool) {
        self.kept.store(keep, Ordering::Relaxed);
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if !self.kept.load(Ordering::Relaxed) {
            self.staging.remove(&self.name);
        }
    }
}
