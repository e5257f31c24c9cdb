//! Package numbers: the run of the spool a package arrived in, and its count in that run.
//!
//! A run is an ordinal (24 bits, one more than any found on disk) followed by 40 random bits. So numbers sort in
//! arrival order across restarts, and two copies of one spool that go on separately never give the same number.

use std::fmt;
use std::hash::{BuildHasher, RandomState};

/// Bits of a counter: a run can number 2^40 packages (35 years at 1,000 a second).
pub(crate) const COUNTER_BITS: u32 = 40;
const RANDOM_BITS: u32 = 40;
/// Starts that can be told apart in order; later ones share the last ordinal and differ in the random part only.
const MAX_ORDINAL: u64 = (1 << 24) - 1;

/// A package's number, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// The run of the spool it arrived in.
    pub run: u64,
    /// Its number in that run.
    pub counter: u64,
}

/// As file names and logs show it: `00002a9f31c04be7-0000000012`.
impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:010x}", self.run, self.counter)
    }
}

/// A run that comes after `last`, the greatest run found on disk.
pub(crate) fn next_run(last: Option<u64>) -> u64 {
    let ordinal = last.map_or(0, |run| run >> RANDOM_BITS).saturating_add(1).min(MAX_ORDINAL);
    // The standard library seeds this hasher from the system's random source.
    let random = RandomState::new().hash_one(std::process::id()) >> (u64::BITS - RANDOM_BITS);
    ordinal << RANDOM_BITS | random
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_comes_after_the_last_one_and_is_never_the_same() {
        let first = next_run(None);
        assert_eq!(first >> 40, 1);
        assert_eq!(next_run(Some(first)) >> 40, 2);
        assert_ne!(next_run(Some(first)), next_run(Some(first)));
        assert_eq!(next_run(Some(u64::MAX)) >> 40, MAX_ORDINAL, "the last ordinal is shared, not wrapped");
    }

    #[test]
    fn it_shows_run_and_counter_in_fixed_width() {
        let id = Id { run: 0x2a_9f31_c04b, counter: 18 };
        assert_eq!(id.to_string(), "0000002a9f31c04b-0000000012");
    }
}
