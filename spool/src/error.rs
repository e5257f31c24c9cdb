//! What can go wrong, in words for the operator: each names the thing, the reason and, where there is one, the
//! next step.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file-system call that failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", .path.display())]
pub struct DiskError {
    /// What was tried.
    pub action: &'static str,
    /// On what.
    pub path: PathBuf,
    /// What the system said.
    pub source: Arc<io::Error>,
}

impl DiskError {
    /// Whether it failed for want of bytes or files.
    pub(crate) fn is_no_room(&self) -> bool {
        is_no_room(&self.source)
    }
}

/// Whether a call failed for want of bytes or files.
pub(crate) fn is_no_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Names the call that an `io::Result` came from.
pub(crate) trait Context<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, DiskError>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, DiskError> {
        self.map_err(|source| DiskError { action, path: path.to_owned(), source: Arc::new(source) })
    }
}

/// Why a spool cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{} is held by {}: stop it, or use another directory", .path.display(),
        .pid.map_or("another process".to_owned(), |pid| format!("process {pid}")))]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The holder, when the lock file says so.
        pid: Option<u32>,
    },
    /// A file-system call failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// The most of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// So many bytes.
    Bytes(u64),
    /// So many packages.
    Files(u64),
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(most) => write!(f, "{most} bytes"),
            Self::Files(most) => write!(f, "{most} packages"),
        }
    }
}

/// Which limit leaves no room.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Full {
    /// The spool's bytes.
    #[error("the spool has no room left in its limit of {max} bytes")]
    Bytes {
        /// The limit.
        max: u64,
    },
    /// The spool's packages.
    #[error("the spool has reached its limit of {max} packages")]
    Files {
        /// The limit.
        max: u64,
    },
    /// The limit of a class.
    #[error("class `{class}` has reached its limit of {limit}")]
    Class {
        /// The class.
        class: Box<str>,
        /// Its limit.
        limit: Bound,
    },
    /// The limit of an agent.
    #[error("agent `{agent}` has reached its limit of {limit} in class `{class}`")]
    Agent {
        /// The class.
        class: Box<str>,
        /// The agent, with escapes where it does not print.
        agent: Box<str>,
        /// The limit of each agent.
        limit: Bound,
    },
    /// The package alone is over a limit: it can never be taken.
    #[error("{bytes} bytes never fit: {limit}")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// That limit.
        limit: Box<Full>,
    },
    /// Older packages should have made room, and could not.
    #[error("older packages cannot be dropped to make room: {reason}")]
    NotDropped {
        /// What failed.
        reason: Arc<str>,
    },
    /// The file system's free space.
    #[error("the file system has no room left but the reserve of {reserve} bytes")]
    FreeSpace {
        /// The reserve.
        reserve: u64,
    },
    /// The file system's free inodes.
    #[error("the file system has no inodes left but the reserve of {reserve} of them")]
    Inodes {
        /// The reserve.
        reserve: u64,
    },
    /// A write to the disk failed earlier; nothing is taken until the spool is opened again.
    #[error("the spool takes nothing since a write failed ({reason}): check the disk, then start again")]
    Poisoned {
        /// What failed.
        reason: Arc<str>,
    },
}

/// Why a package was not stored, or not deleted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    /// The name cannot be stored.
    #[error("the name is empty, longer than 200 bytes, or contains `/`, NUL or a line end")]
    InvalidName,
    /// Other packages have its name and every unique name made from it.
    #[error(
        "its name and those made from it are taken by other packages: it can be stored when they are pulled"
    )]
    NoFreeName,
    /// A file-system call failed: for this package, or an fsync and with it the whole batch.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A write to the disk failed earlier; nothing is stored or deleted until the spool is opened again.
    #[error("the spool changes nothing since a write failed ({reason}): check the disk, then start again")]
    Poisoned {
        /// What failed.
        reason: Arc<str>,
    },
}
