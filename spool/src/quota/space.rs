//! What the file system has left above the reserve.
//!
//! The disk is not the spool's alone: a log file that grows takes the reserve, and then no package that is dropped
//! makes room for another. So a deficit is kept as one, and packages are dropped for it only where it is about as large
//! as what the spool itself may have caused, and as long as that helps.

use std::time::{Duration, Instant};

use crate::fs::Free;

/// The file system is asked at most this often; between, what was promised is subtracted.
const INTERVAL: Duration = Duration::from_millis(100);

/// Files that can still be made and are left to others, the spool's own records among them. Below it no package is
/// taken. A file system that makes inodes as it needs them has no such number, and who keeps no reserve of bytes keeps none
/// of these.
const INODES_RESERVE: u64 = 1_024;

/// Packages are dropped for at most so many times what the new one needs. Beyond it somebody else fills the disk, or
/// has shrunk a limit that follows the free space, and the package is refused.
pub(super) const SHRINKAGE_MAX: u64 = 8;

/// A package counts as at least so many bytes for that: files take whole blocks, which shows at the next look only.
const NEED_LEAST: u64 = 128 << 10;

/// After a drop that made no room, none follows for so long unless space has come back: some file systems (btrfs) give
/// it back with their next transaction only, half a minute later. Until then packages are refused.
const VAIN_PAUSE: Duration = Duration::from_secs(30);

/// Inodes that are left free beside a reserve of so many bytes.
pub(super) fn inodes_reserve(reserve_bytes: u64) -> u64 {
    if reserve_bytes == 0 { 0 } else { INODES_RESERVE }
}

/// As of the last look, and what happened since.
#[derive(Default)]
pub(super) struct Space {
    /// Above the reserve and not promised; negative where that is in part taken by others.
    bytes: i128,
    /// The same of files.
    files: i128,
    read: Option<Instant>,
    seen: Free,
    /// What was free when a drop had made no room, and when that was.
    vain: Option<(Free, Instant)>,
}

/// What of it a package lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lack {
    Bytes(u64),
    Files(u64),
}

impl Space {
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.read.is_none_or(|read| now.saturating_duration_since(read) >= INTERVAL)
    }

    /// `promised` are bytes and files that are still to be written.
    pub(super) fn look(&mut self, now: Instant, seen: Free, reserve_bytes: u64, promised: (u64, u64)) {
        self.bytes = i128::from(seen.bytes) - i128::from(reserve_bytes) - i128::from(promised.0);
        let inodes = seen.inodes.map_or(i128::from(u64::MAX), i128::from);
        self.files = inodes - i128::from(inodes_reserve(reserve_bytes)) - i128::from(promised.1);
        (self.read, self.seen) = (Some(now), seen);
    }

    pub(super) fn look_again(&mut self) {
        self.read = None;
    }

    pub(super) fn seen(&self) -> Free {
        self.seen
    }

    pub(super) fn take(&mut self, files: u64, bytes: u64) {
        self.bytes -= i128::from(bytes);
        self.files -= i128::from(files);
    }

    pub(super) fn give_back(&mut self, files: u64, bytes: u64) {
        self.bytes += i128::from(bytes);
        self.files += i128::from(files);
    }

    /// Bytes that may be promised.
    pub(super) fn bytes(&self) -> u64 {
        u64::try_from(self.bytes.max(0)).unwrap_or(u64::MAX)
    }

    pub(super) fn lack(&self, files: u64, bytes: u64) -> Option<Lack> {
        let missing = |need: u64, left: i128| {
            u64::try_from(i128::from(need) - left).ok().filter(|&missing| need > 0 && missing > 0)
        };
        let files = || missing(files, self.files).map(Lack::Files);
        missing(bytes, self.bytes).map(Lack::Bytes).or_else(files)
    }

    /// Whether packages that go may make up for it.
    pub(super) fn drops_help(&self, lack: Lack, bytes: u64, now: Instant) -> bool {
        let small = match lack {
            Lack::Bytes(missing) => missing <= bytes.max(NEED_LEAST).saturating_mul(SHRINKAGE_MAX),
            Lack::Files(missing) => missing <= SHRINKAGE_MAX,
        };
        let in_vain = self.vain.is_some_and(|(then, at)| {
            !self.has_risen(lack, then) && now.saturating_duration_since(at) < VAIN_PAUSE
        });
        small && !in_vain
    }

    /// Packages were dropped for a lack when so much was free: whether that has made room.
    pub(super) fn dropped(&mut self, lack: Lack, before: Free, now: Instant) -> bool {
        self.vain = (!self.has_risen(lack, before)).then_some((self.seen, now));
        self.vain.is_none()
    }

    fn has_risen(&self, lack: Lack, since: Free) -> bool {
        match lack {
            Lack::Bytes(_) => self.seen.bytes > since.bytes,
            Lack::Files(_) => self.seen.inodes > since.inodes,
        }
    }
}
