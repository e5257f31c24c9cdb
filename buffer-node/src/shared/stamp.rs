//! Which version of a file this is.
//!
//! Anybody may edit the files. So one is known by its inode and its change time, which no tool can set: whatever happens
//! to it, it is another file.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

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
}
