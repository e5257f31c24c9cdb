//! Which version of a file this is.
//!
//! Anybody may edit the files. So one is known by its inode and its change time, which no tool can set: whatever happens
//! to it, it is another file.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// One version of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(file: &Metadata) -> Self {
        let changed = (file.ctime(), file.ctime_nsec());
        Self { device: file.dev(), inode: file.ino(), size: file.size(), changed }
    }

    /// Whether it was changed longer ago than that. What says it was changed in the future was not.
    pub(super) fn is_older(self, age: Duration) -> bool {
        let (seconds, nanoseconds) = self.changed;
        let since_1970 = u64::try_from(seconds).unwrap_or_default();
        let changed = Duration::new(since_1970, u32::try_from(nanoseconds).unwrap_or_default());
        SystemTime::now().duration_since(UNIX_EPOCH + changed).is_ok_and(|passed| passed > age)
    }
}
