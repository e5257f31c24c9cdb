//! Waiting longer after every failure, with jitter so that many clients do not return at the same moment.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// The waits between attempts: about `base`, doubled each time, never above `cap`.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    failures: u32,
}

impl Backoff {
    /// Starts at `base` and never waits longer than `cap`.
    pub fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap, failures: 0 }
    }

    /// How long to wait now: between half of the current step and the whole of it.
    #[expect(clippy::should_implement_trait, reason = "an endless sequence; an Option would only be noise")]
    pub fn next(&mut self) -> Duration {
        let step = self.base.saturating_mul(2u32.saturating_pow(self.failures)).min(self.cap);
        self.failures = self.failures.saturating_add(1);
        let half = step / 2;
        half + half.mul_f64(random_fraction())
    }

    /// Something worked: the next failure waits `base` again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A number in `0.0..1.0`. The keys of the standard hasher are random and differ at every call: enough to
/// spread clients, and no dependency.
fn random_fraction() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 12;
    bits as f64 / (1u64 << 52) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_start_again_after_success() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        for step in [1, 2, 4, 5, 5] {
            let step = Duration::from_secs(step);
            let wait = backoff.next();
            assert!(step / 2 <= wait && wait <= step, "{wait:?} for a step of {step:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_secs(1));
    }

    #[test]
    fn a_thousand_failures_do_not_overflow() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        let longest = (0..1000).map(|_| backoff.next()).max();
        assert!(longest <= Some(Duration::from_secs(60)));
    }

    #[test]
    fn two_clients_do_not_wait_alike() {
        let waits = || {
            let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
            (0..4).map(|_| backoff.next()).collect::<Vec<_>>()
        };
        assert_ne!(waits(), waits());
    }
}
