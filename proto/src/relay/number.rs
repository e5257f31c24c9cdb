//! The number of a package, or of a loss record: never used twice, growing in the order of arrival.

use core::fmt;

/// A number: the run of the spool, and the count in that run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number {
    /// The run of the spool.
    pub run: u64,
    /// The count in that run.
    pub counter: u64,
}

/// As file names and logs show it: `00002a9f31c04be7-0000000012`.
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:010x}", self.run, self.counter)
    }
}
