//! How fast packages come and go, over the last minutes.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::totals::Traffic;

/// The time between two samples.
pub(crate) const EVERY: Duration = Duration::from_secs(10);

/// The time that a rate looks back. A node that runs for less looks back to its start.
const LOOK_BACK: Duration = Duration::from_secs(5 * 60);

/// What a shorter time is taken for, so that the first package is no storm.
const AT_LEAST: Duration = Duration::from_secs(60);

/// The samples of one node.
#[derive(Debug)]
pub(crate) struct Rates(Mutex<VecDeque<(Instant, Traffic)>>);

/// Packages per minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PerMinute {
    pub(crate) intake: u64,
    pub(crate) drain: u64,
}

impl Default for Rates {
    fn default() -> Self {
        Self(Mutex::new(VecDeque::from([(Instant::now(), Traffic::default())])))
    }
}

impl Rates {
    /// Remembers how far it has come; to be called [`EVERY`] so often.
    pub(crate) fn sample(&self, traffic: Traffic) {
        self.sample_at(traffic, Instant::now());
    }

    /// The rates until now.
    pub(crate) fn until(&self, traffic: Traffic) -> PerMinute {
        self.until_at(traffic, Instant::now())
    }

    fn sample_at(&self, traffic: Traffic, now: Instant) {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        samples.push_back((now, traffic));
        // The oldest is the last one that is old enough.
        while samples.get(1).is_some_and(|(time, _)| now.duration_since(*time) >= LOOK_BACK) {
            samples.pop_front();
        }
    }

    fn until_at(&self, traffic: Traffic, now: Instant) -> PerMinute {
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (time, before) = samples.front().copied().unwrap_or((now, traffic));
        let span = now.saturating_duration_since(time).max(AT_LEAST);
        let rate = |now: u64, before: u64| {
            let packages = u128::from(now.saturating_sub(before));
            u64::try_from(packages * 60_000 / span.as_millis()).unwrap_or(u64::MAX)
        };
        PerMinute {
            intake: rate(traffic.stored, before.stored),
            drain: rate(traffic.deleted, before.deleted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic(stored: u64, deleted: u64) -> Traffic {
        Traffic { stored, deleted, ..Traffic::default() }
    }

    #[test]
    fn rates_look_back_five_minutes_and_no_further() {
        let rates = Rates::default();
        let start = rates.0.lock().expect("no panic")[0].0;
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(rates.until_at(traffic(30, 6), at(1)), PerMinute { intake: 30, drain: 6 });
        for step in 1..=60 {
            rates.sample_at(traffic(step * 20, step * 10), at(step * 10));
        }
        assert_eq!(rates.until_at(traffic(1200, 600), at(600)), PerMinute { intake: 120, drain: 60 });
        assert_eq!(rates.until_at(traffic(1200, 600), at(900)), PerMinute { intake: 60, drain: 30 });
        assert!(rates.0.lock().expect("no panic").len() <= 31, "samples are bounded");
    }
}
