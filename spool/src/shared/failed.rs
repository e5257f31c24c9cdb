//! How a change of a pair fails.

use std::io;

use super::look::io_error;
use crate::error::DiskError;

/// Why a pair was not changed as it should be.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The pair is sound: as it was, or removed but for its `.md5`, which is no pair. It can be tried again.
    #[error(transparent)]
    Refused(io::Error),
    /// Something that is visible could not be made durable, or could not be put back: nobody knows any more what the disk holds
    /// of this pair. Whoever goes on as if nothing had happened is told lies by the page cache.
    #[error("{0}; nobody knows now what the disk holds: check it, then start again")]
    Unsure(io::Error),
}

impl Failed {
    pub(super) fn into_unsure(self) -> Self {
        let (Self::Refused(error) | Self::Unsure(error)) = self;
        Self::Unsure(error)
    }
}

impl From<Failed> for io::Error {
    fn from(failed: Failed) -> Self {
        let (Failed::Refused(error) | Failed::Unsure(error)) = &failed;
        Self::new(error.kind(), failed)
    }
}

/// Before anything is visible.
impl From<DiskError> for Failed {
    fn from(error: DiskError) -> Self {
        Self::Refused(io_error(error))
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Refused(error)
    }
}

/// Of something visible.
pub(super) fn unsure(error: DiskError) -> Failed {
    Failed::Unsure(io_error(error))
}
