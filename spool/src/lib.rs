//! Crash-safe package store.
//!
//! Synchronous, `Send + Sync`, built on nothing else of this workspace.

pub mod durable;

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Where a spool lies and what it may hold.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The spool's directory; made when it does not exist.
    pub root: PathBuf,
    /// Bytes of packages it may hold.
    pub max_bytes: u64,
    /// Packages it may hold.
    pub max_files: u64,
    /// Bytes of the file system it leaves free.
    pub reserve_bytes: u64,
    /// How long repeats of deleted packages are recognised.
    pub duplicates: Duplicates,
}

/// How long a repeat of a deleted package is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duplicates {
    /// For names whose number is a time (nine digits or more).
    pub timed: Duration,
    /// For all other names.
    pub other: Duration,
    /// Most deleted packages remembered; beyond it the oldest is forgotten.
    pub max_entries: usize,
}

impl Default for Duplicates {
    fn default() -> Self {
        Self {
            timed: Duration::from_secs(7 * 24 * 3600),
            other: Duration::from_secs(15 * 60),
            max_entries: 1_000_000,
        }
    }
}

/// A package's number, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// The run of the spool it arrived in.
    pub run: u64,
    /// Its number in that run.
    pub counter: u64,
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}-{:010x}", self.run, self.counter)
    }
}

/// One stored package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its number.
    pub id: Id,
    /// The first eight bytes of the SHA-256 of its bytes.
    pub digest: u64,
    /// Its length in bytes.
    pub size: u64,
    /// When it was stored.
    pub arrival: SystemTime,
    /// The name a puller sees.
    pub listed_name: Arc<[u8]>,
}

/// What `Spool::open` found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Packages ready to be pulled.
    pub packages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Unfinished uploads removed.
    pub unfinished: u64,
    /// Packages that came back after their deletion was recorded, and were removed again.
    pub deleted_again: u64,
    /// Names (as they now stand in `corrupt/`) of files that are no packages.
    pub corrupt: Vec<PathBuf>,
}

/// Why a spool cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{} is held by another process{}: stop it, or use another directory", .path.display(),
        .pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The holder, when the lock file says so.
        pid: Option<u32>,
    },
    /// A file-system call failed.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Which limit leaves no room.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// The spool's bytes.
    #[error("the spool holds its {max} bytes")]
    Bytes {
        /// The limit.
        max: u64,
    },
    /// The spool's packages.
    #[error("the spool holds its {max} packages")]
    Files {
        /// The limit.
        max: u64,
    },
    /// The file system's free space.
    #[error("the file system has only its reserve of {reserve} bytes left")]
    FreeSpace {
        /// The limit.
        reserve: u64,
    },
    /// A write to the disk failed earlier; nothing is taken until the spool is opened again.
    #[error("the spool takes nothing more since a write failed: {reason}")]
    Poisoned {
        /// What failed.
        reason: Arc<str>,
    },
}

/// Why a package was not stored.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    /// The name cannot be stored.
    #[error("the name cannot be stored (empty, over 200 bytes, or with `/`, NUL or a line end)")]
    InvalidName,
    /// A file-system call failed for this package, or an fsync for its whole batch.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// A write to the disk failed earlier; nothing is taken until the spool is opened again.
    #[error("the spool takes nothing more since a write failed ({reason}): check the disk and start again")]
    Poisoned {
        /// What failed.
        reason: Arc<str>,
    },
}

/// Why a package was not deleted; it is still there.
pub type DeleteError = CommitError;

/// What became of a committed package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is durable.
    New {
        /// As it stands in the spool.
        package: Package,
    },
    /// The same name and bytes are durable already, or were deleted a short while ago.
    Repeat,
}

/// How full the spool is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Packages.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Arrival of the oldest.
    pub oldest: Option<SystemTime>,
    /// Limit of `files`.
    pub max_files: u64,
    /// Limit of `bytes`.
    pub max_bytes: u64,
    /// Free space left to others.
    pub reserve_bytes: u64,
    /// Repeats suppressed since the spool was opened.
    pub repeats: u64,
    /// Deleted packages remembered.
    pub remembered: u64,
    /// Why nothing more is stored or deleted until the spool is opened again.
    pub poisoned: Option<Arc<str>>,
}

/// The package store.
#[derive(Clone)]
pub struct Spool;

impl Spool {
    /// Opens or makes the spool.
    pub fn open(settings: Settings) -> Result<(Self, Recovery), OpenError> {
        let _ = settings;
        unimplemented!()
    }
    /// Reserves room for a package of `size` bytes.
    pub fn begin(&self, size: u64) -> Result<Draft, Full> {
        let _ = size;
        unimplemented!()
    }
    /// Makes a batch durable; the results come in its order.
    pub fn commit(&self, batch: Vec<(Draft, Vec<u8>)>) -> Vec<Result<Stored, CommitError>> {
        let _ = batch;
        unimplemented!()
    }
    /// The package of that listed name.
    pub fn find(&self, listed_name: &[u8]) -> Option<Package> {
        let _ = listed_name;
        unimplemented!()
    }
    /// Opens a package's bytes.
    pub fn open_package(&self, package: &Package) -> io::Result<File> {
        let _ = package;
        unimplemented!()
    }
    /// The listed names in arrival order.
    pub fn listing(&self) -> Listing {
        unimplemented!()
    }
    /// Claims a package for one puller; `None` when it does not exist or is claimed.
    pub fn lease(&self, listed_name: &[u8]) -> Option<Lease> {
        let _ = listed_name;
        unimplemented!()
    }
    /// Deletes leased packages; the results come in order.
    pub fn delete(&self, leases: Vec<Lease>) -> Vec<Result<(), DeleteError>> {
        let _ = leases;
        unimplemented!()
    }
    /// How full the spool is.
    pub fn usage(&self) -> Usage {
        unimplemented!()
    }
}

/// A package being written.
pub struct Draft;

impl Draft {
    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let _ = bytes;
        unimplemented!()
    }
    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        unimplemented!()
    }
    /// A readable file, at its start, of what was written.
    pub fn contents(&mut self) -> io::Result<File> {
        unimplemented!()
    }
}

/// The listed names at one moment, joined by line ends; read it as a stream.
pub struct Listing;

impl Listing {
    /// Bytes the stream will give.
    pub fn total_bytes(&self) -> u64 {
        unimplemented!()
    }
}

impl io::Read for Listing {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let _ = buf;
        unimplemented!()
    }
}

/// An exclusive claim on one package; dropping it releases the claim.
pub struct Lease;

impl Lease {
    /// The claimed package.
    pub fn package(&self) -> &Package {
        unimplemented!()
    }
}
