//! What the file system says of a file without its bytes being read.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

/// How long after a file's last change another one may leave no trace: the ticks of the clocks of file systems are
/// no longer.
const TICK: Duration = Duration::from_secs(2);

/// Two equal ones are of one file that nobody has changed, if the first is [settled](Stamp::is_settled).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// Nobody can set this one.
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Of a file that is on no disk.
    #[cfg(test)]
    pub(super) fn of_model(inode: u64, size: u64, modified: u64) -> Self {
        let time = (0, modified as i64);
        Self { device: 0, inode, size, modified: time, changed: time }
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Whether it is the same file, whatever is in it.
    pub(super) fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    /// Whether it is the same file and nobody has written to it. A rename in between does not count.
    pub(super) fn is_unwritten(&self, other: &Self) -> bool {
        self.is_same_file(other) && (self.size, self.modified) == (other.size, other.modified)
    }

    /// Whether a change after `now` shows. One that lies further ahead was made before the clock was set back: the
    /// next one gets a time of the new clock, which is another.
    pub(super) fn is_settled(&self, now: SystemTime) -> bool {
        let (seconds, nanoseconds) = self.changed;
        let since_epoch = Duration::new(seconds.try_into().unwrap_or(0), nanoseconds.try_into().unwrap_or(0));
        let changed = SystemTime::UNIX_EPOCH + since_epoch;
        let apart = now.duration_since(changed).unwrap_or_else(|ahead| ahead.duration());
        apart >= TICK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_settles_two_seconds_after_the_change() {
        let stamp = |changed| Stamp { device: 1, inode: 1, size: 1, modified: (0, 0), changed };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        assert!(stamp((998, 0)).is_settled(now) && stamp((0, 0)).is_settled(now));
        assert!(!stamp((998, 1)).is_settled(now) && !stamp((1000, 0)).is_settled(now));
        assert!(!stamp((1001, 0)).is_settled(now), "the tick of a file system may be ahead");
        assert!(stamp((5000, 0)).is_settled(now), "the clock was set back");
        assert!(stamp((-1, -1)).is_settled(now));
    }
}
