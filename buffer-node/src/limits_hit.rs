//! Which limits have lately cost somebody something, as a set of bits for the puller's status.
//!
//! Bit 0 stands for the connections; every other bit for the loss reason of that number. A bit stays for a while, so that
//! a puller that comes now and then sees it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The bit of the connections.
pub(crate) const CONNECTIONS: u8 = 0;

/// How long a bit stays.
const LATELY: Duration = Duration::from_secs(10 * 60);

/// When each limit was hit last, in seconds since the start and one; 0: never.
#[derive(Debug)]
pub(crate) struct LimitsHit {
    start: Instant,
    last: [AtomicU64; u64::BITS as usize],
}

impl Default for LimitsHit {
    fn default() -> Self {
        Self { start: Instant::now(), last: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl LimitsHit {
    /// That limit was hit now.
    pub(crate) fn hit(&self, bit: u8) {
        if let Some(last) = self.last.get(usize::from(bit)) {
            last.store(self.start.elapsed().as_secs() + 1, Ordering::Relaxed);
        }
    }

    /// Those that were hit lately.
    pub(crate) fn lately(&self) -> u64 {
        self.at(self.start.elapsed())
    }

    fn at(&self, now: Duration) -> u64 {
        let recent = |last: &AtomicU64| match last.load(Ordering::Relaxed) {
            0 => 0,
            last => u64::from(now.as_secs() + 1 - last.min(now.as_secs() + 1) <= LATELY.as_secs()),
        };
        self.last.iter().zip(0_u32..).fold(0, |bits, (last, bit)| bits | recent(last) << bit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bit_comes_with_a_hit_and_goes_after_a_while() {
        let limits = LimitsHit::default();
        assert_eq!(limits.lately(), 0);
        limits.hit(CONNECTIONS);
        limits.hit(7);
        limits.hit(200);
        assert_eq!(limits.lately(), 1 | 1 << 7);
        assert_eq!(limits.at(LATELY), 1 | 1 << 7);
        assert_eq!(limits.at(LATELY + Duration::from_secs(2)), 0);
    }
}
