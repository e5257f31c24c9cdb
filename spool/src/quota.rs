//! Room: how many packages and bytes the spool may hold, and how much of the file system it leaves free.
//!
//! Room is promised before a byte arrives and counts as taken until it is given back, so uploads that run side by
//! side never overrun a limit together.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::error::Full;
use crate::fs::Fs;
use crate::parallel::lock;

/// The file system is asked for its free space at most this often; between, what was promised is subtracted.
const FREE_SPACE_INTERVAL: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) max_files: u64,
    pub(crate) max_bytes: u64,
    pub(crate) reserve_bytes: u64,
}

/// The room of one spool.
pub(crate) struct Quota {
    pub(crate) limits: Limits,
    fs: Arc<dyn Fs>,
    root: PathBuf,
    taken: Mutex<Taken>,
}

struct Taken {
    /// Packages stored or being written.
    files: u64,
    /// Bytes stored or promised.
    bytes: u64,
    /// Bytes promised and not yet stored.
    promised: u64,
    /// Free bytes above the reserve that are not promised, as of `read` and what happened since.
    available: u64,
    read: Option<Instant>,
}

impl Quota {
    /// `files` and `bytes` are stored already.
    pub(crate) fn new(limits: Limits, fs: Arc<dyn Fs>, root: PathBuf, files: u64, bytes: u64) -> Arc<Self> {
        let taken = Taken { files, bytes, promised: 0, available: 0, read: None };
        Arc::new(Self { limits, fs, root, taken: Mutex::new(taken) })
    }

    /// Promises room for one package.
    pub(crate) fn reserve(self: &Arc<Self>, bytes: u64) -> Result<Room, Full> {
        let mut taken = lock(&self.taken);
        if taken.files >= self.limits.max_files {
            return Err(Full::Files { max: self.limits.max_files });
        }
        self.promise(&mut taken, bytes)?;
        taken.files += 1;
        Ok(Room { quota: Arc::clone(self), bytes })
    }

    fn promise(&self, taken: &mut Taken, bytes: u64) -> Result<(), Full> {
        if bytes > self.limits.max_bytes.saturating_sub(taken.bytes) {
            return Err(Full::Bytes { max: self.limits.max_bytes });
        }
        self.look_at_free_space(taken);
        if bytes > taken.available {
            return Err(Full::FreeSpace { reserve: self.limits.reserve_bytes });
        }
        taken.available -= bytes;
        taken.promised += bytes;
        taken.bytes += bytes;
        Ok(())
    }

    fn look_at_free_space(&self, taken: &mut Taken) {
        let now = Instant::now();
        if taken.read.is_some_and(|read| now - read < FREE_SPACE_INTERVAL) {
            return;
        }
        let free = self.fs.free(&self.root).unwrap_or_else(|error| {
            tracing::warn!(path = %self.root.display(), %error, "cannot read the free space, taking it for none");
            0
        });
        // What was promised may be written in part already: counting it whole errs on the safe side.
        taken.available = free.saturating_sub(self.limits.reserve_bytes).saturating_sub(taken.promised);
        taken.read = Some(now);
    }

    /// A stored package of `bytes` is gone. The free space shows at the next look.
    pub(crate) fn release(&self, bytes: u64) {
        let mut taken = lock(&self.taken);
        taken.files = taken.files.saturating_sub(1);
        taken.bytes = taken.bytes.saturating_sub(bytes);
    }
}

/// Room promised to one package; given back when dropped.
pub(crate) struct Room {
    quota: Arc<Quota>,
    bytes: u64,
}

impl Room {
    /// Makes sure that the room suffices for `bytes` in all.
    pub(crate) fn grow_to(&mut self, bytes: u64) -> Result<(), Full> {
        if let Some(more) = bytes.checked_sub(self.bytes).filter(|&more| more > 0) {
            self.quota.promise(&mut lock(&self.quota.taken), more)?;
            self.bytes = bytes;
        }
        Ok(())
    }

    /// The package is stored with `bytes`, which count until [`Quota::release`].
    pub(crate) fn settle(mut self, bytes: u64) {
        let quota = Arc::clone(&self.quota);
        let mut taken = lock(&quota.taken);
        taken.promised = taken.promised.saturating_sub(self.bytes);
        taken.bytes = taken.bytes.saturating_sub(self.bytes) + bytes;
        taken.available = taken.available.saturating_add(self.bytes.saturating_sub(bytes));
        // The drop that follows gives back an empty room and one file.
        self.bytes = 0;
        taken.files += 1;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut taken = lock(&self.quota.taken);
        taken.files = taken.files.saturating_sub(1);
        taken.bytes = taken.bytes.saturating_sub(self.bytes);
        taken.promised = taken.promised.saturating_sub(self.bytes);
        taken.available = taken.available.saturating_add(self.bytes);
    }
}
