//! The end of trust in a disk.
//!
//! After a failed fsync the kernel drops what it could not write and reports success from then on. So the first
//! failure is remembered here, and nothing is stored or deleted any more until the spool is opened anew and has
//! looked at what the disk really holds.
//!
//! A call that fails *before* its fsync, because no descriptor or memory was left to open something, is not such a
//! failure: nothing was lost, what it was for is refused, and the next one may succeed.

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use crate::error::{Context, DiskError};

/// Why nothing can be stored or deleted any more, if so.
#[derive(Default)]
pub(crate) struct Poison(OnceLock<Arc<str>>);

impl Poison {
    /// Every fsync after the spool has been opened hands in its result here: of something opened before, so that
    /// nothing else can fail in it.
    pub(crate) fn fsynced(&self, result: io::Result<()>, path: &Path) -> Result<(), DiskError> {
        let result = result.context("fsync", path);
        if let Err(error) = &result {
            tracing::error!(%error, "the spool stores and deletes nothing more until it is opened again");
            // Only the first reason is kept: the others follow from it.
            let _ = self.0.set(error.to_string().into());
        }
        result
    }

    pub(crate) fn reason(&self) -> Option<Arc<str>> {
        self.0.get().cloned()
    }
}
