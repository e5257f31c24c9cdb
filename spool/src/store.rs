//! The spool itself: what its parts share, and what only reads.
//!
//! Two locks order what changes the disk: commits take turns, and so do deletions, but one of each may run side by
//! side. A third, held only for steps in memory, guards the index and the remembered deletions: both kinds of change
//! appear in it at once, after they are durable.
//!
//! Whoever holds one lock takes only later ones: `dropping`, `deletions`, the log of `losses` and what is pending for it;
//! beside these `commits`; then `state`, then that of `quota` or `poison`, which are held for steps in memory (and a look
//! at the free space) and under which nothing else is locked. Nobody takes `state` under the log of `losses`.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use crate::clock::{Clock, system_time};
use crate::corrupt::Corrupt;
use crate::draft::Draft;
use crate::error::{CommitError, Full, OpenError};
use crate::fs::{Directory, Fs};
use crate::id::Id;
use crate::index::{Index, Package};
use crate::layout::Layout;
use crate::lease::Lease;
use crate::listing::Listing;
use crate::losses::Losses;
use crate::oldest::Oldest;
use crate::overflow::Overflow;
use crate::parallel::lock;
use crate::poison::Poison;
use crate::quota::{Quota, Scope};
use crate::recover::{self, Recovery};
use crate::seen::{Duplicates, Seen};
use crate::seen_log::SeenLog;

/// Threads that work for one batch, where nobody asked for another number.
pub const SYNC_THREADS: usize = 16;

/// Where a spool lies and what it may hold.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The spool's directory; made when it does not exist.
    pub root: PathBuf,
    /// Bytes of packages it may hold, those being written included. Beyond it: [`Full::Bytes`].
    pub max_bytes: u64,
    /// Packages it may hold, those being written included. Beyond it: [`Full::Files`].
    pub max_files: u64,
    /// Bytes of the file system it leaves free. Below it: [`Full::FreeSpace`].
    pub reserve_bytes: u64,
    /// How long repeats are recognised.
    pub duplicates: Duplicates,
    /// Threads that write and fsync, or unlink, the files of one batch side by side, and that look at what a start finds.
    /// With 1 (or 0) the caller's thread does it all. [`SYNC_THREADS`] by default.
    pub sync_threads: usize,
    /// What happens when there is no room, and whose room is whose.
    pub overflow: Overflow,
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
    /// Bytes of the file system left free.
    pub reserve_bytes: u64,
    /// Repeats suppressed since the spool was opened.
    pub repeats: u64,
    /// Packages dropped for newer ones since the spool was opened.
    pub dropped: u64,
    /// Deleted packages remembered.
    pub remembered: u64,
    /// Why nothing is stored or deleted until the spool is opened again.
    pub poisoned: Option<Arc<str>>,
}

/// A crash-safe store of packages; clones are handles of the same one.
///
/// The directory is locked until the last handle, draft and lease is gone.
#[derive(Clone)]
pub struct Spool {
    pub(crate) store: Arc<Store>,
}

/// What the parts of one spool share.
pub(crate) struct Store {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) clock: Clock,
    pub(crate) layout: Layout,
    /// `ready/`, open from start to end.
    pub(crate) ready: Box<dyn Directory>,
    pub(crate) corrupt: Corrupt,
    pub(crate) run: u64,
    /// Threads that fsync a batch ([`Settings::sync_threads`]).
    pub(crate) threads: usize,
    pub(crate) quota: Arc<Quota>,
    pub(crate) poison: Arc<Poison>,
    pub(crate) state: Mutex<State>,
    /// Held by the commit whose turn it is: the next package's number.
    pub(crate) commits: Mutex<u64>,
    /// Held by whoever drops packages.
    pub(crate) dropping: Mutex<()>,
    /// Held by the deletion whose turn it is.
    pub(crate) deletions: Mutex<SeenLog>,
    pub(crate) losses: Losses,
    pub(crate) temporaries: AtomicU64,
    /// Locked until closed; a file system in memory has none.
    pub(crate) _lock: Option<File>,
}

pub(crate) struct State {
    pub(crate) index: Index,
    pub(crate) oldest: Oldest,
    pub(crate) seen: Seen,
    pub(crate) repeats: u64,
    pub(crate) dropped: u64,
}

impl Spool {
    /// Opens the spool, making it when there is none. Makes everything found durable before it counts, removes
    /// unfinished uploads, and moves what is no package to `corrupt/`.
    pub fn open(settings: Settings) -> Result<(Self, Recovery), OpenError> {
        recover::open(&settings)
    }

    /// Promises room for a package of `size` bytes that is sent as `name`. No system call, but for a look at the free
    /// space now and then.
    pub fn begin(&self, name: &[u8], size: u64) -> Result<Draft, Full> {
        self.begin_in(Some(self.store.quota.scope(name)), name, size)
    }

    /// Promises room for bytes that will not become a package: they count for the spool alone.
    pub fn begin_scratch(&self, size: u64) -> Result<Draft, Full> {
        self.begin_in(None, b"", size)
    }

    fn begin_in(&self, scope: Option<Scope>, name: &[u8], size: u64) -> Result<Draft, Full> {
        if let Some(reason) = self.store.poison.reason() {
            return Err(Full::Poisoned { reason });
        }
        let quota = &self.store.quota;
        let room = quota.reserve(scope, size).map_err(|shortage| quota.full(shortage, scope, name, size))?;
        Ok(Draft::new(Arc::clone(&self.store), room, name))
    }

    /// The class of packages sent as `name`.
    pub fn class_of(&self, name: &[u8]) -> &str {
        let overflow = &self.store.quota.overflow;
        &overflow.class(overflow.class_of(name)).name
    }

    /// The package of that listed name.
    pub fn find(&self, listed_name: &[u8]) -> Option<Package> {
        lock(&self.store.state).index.get(listed_name)
    }

    /// Opens a package's bytes. `NotFound` when it was deleted meanwhile: a [`Lease`] prevents that.
    pub fn open_package(&self, package: &Package) -> io::Result<File> {
        let path = self.store.layout.package(package.id, package.digest, &package.listed_name);
        self.store.fs.open(&path)
    }

    /// The names of all packages.
    pub fn listing(&self) -> Listing {
        let entries = lock(&self.store.state).index.entries();
        Listing::new(entries)
    }

    /// Claims a package for one puller; `None` when there is none of that name or it is claimed already.
    pub fn lease(&self, listed_name: &[u8]) -> Option<Lease> {
        let package = lock(&self.store.state).index.lease(listed_name)?;
        Some(Lease::new(Arc::clone(&self.store), package))
    }

    /// Why nothing is stored or deleted until the spool is opened again, if so.
    pub fn poisoned(&self) -> Option<Arc<str>> {
        self.store.poison.reason()
    }

    /// The number of the oldest package, claimed or not: whatever has a smaller one is gone.
    pub fn oldest_number(&self) -> Option<Id> {
        lock(&self.store.state).index.oldest().map(|(id, _)| id)
    }

    /// How full the spool is.
    pub fn usage(&self) -> Usage {
        let limits = self.store.quota.limits;
        let state = lock(&self.store.state);
        Usage {
            files: state.index.len(),
            bytes: state.index.bytes(),
            oldest: state.index.oldest().map(|(_, arrival)| system_time(arrival)),
            max_files: limits.max_files,
            max_bytes: limits.max_bytes,
            reserve_bytes: limits.reserve_bytes,
            repeats: state.repeats,
            dropped: state.dropped,
            remembered: state.seen.len(),
            poisoned: self.store.poison.reason(),
        }
    }
}

impl Store {
    pub(crate) fn next_temporary(&self) -> PathBuf {
        self.layout.temporary(self.run, self.temporaries.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn check_poison(&self) -> Result<(), CommitError> {
        self.poison.check()
    }
}
