//! Whose turn it is to be synced: a few sites at a time, and none for long while others wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// How many sites are synced at the same time: each holds the names and digests of its pairs.
const SYNCS_MAX: usize = 4;

/// How long a site's turn is when others wait. What it has not done by then, it does at its next.
const SLICE: Duration = Duration::from_secs(30);

/// The turns of all sites.
#[derive(Debug)]
pub(super) struct Turns {
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Default for Turns {
    fn default() -> Self {
        Self { permits: Arc::new(Semaphore::new(SYNCS_MAX)), waiting: AtomicUsize::new(0) }
    }
}

/// A site's turn.
#[derive(Debug, Clone)]
pub(super) struct Turn {
    turns: Arc<Turns>,
    since: Instant,
    _permit: Arc<OwnedSemaphorePermit>,
}

impl Turns {
    /// Waits for a turn.
    pub(super) async fn next(self: Arc<Self>) -> Turn {
        let permit = {
            let _waiting = Waiting::new(&self.waiting);
            Arc::clone(&self.permits).acquire_owned().await.expect("the semaphore is never closed")
        };
        Turn { turns: self, since: Instant::now(), _permit: Arc::new(permit) }
    }
}

impl Turn {
    /// Whether it is the others' turn.
    pub(super) fn is_over(&self) -> bool {
        self.is_over_at(Instant::now())
    }

    fn is_over_at(&self, now: Instant) -> bool {
        self.turns.waiting.load(Ordering::Relaxed) > 0 && now >= self.since + SLICE
    }
}

/// Somebody who waits.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_turn_ends_only_when_others_wait_and_then_it_is_theirs() {
        let turns = Arc::new(Turns::default());
        let mut held = Vec::new();
        for _ in 0..SYNCS_MAX {
            held.push(Arc::clone(&turns).next().await);
        }
        let late = held[0].since + SLICE;
        assert!(!held[0].is_over_at(late), "nobody waits");
        let waiting = tokio::spawn(Arc::clone(&turns).next());
        while turns.waiting.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        assert!(!held[0].is_over_at(held[0].since), "it has only begun");
        assert!(held[0].is_over_at(late));
        held.remove(0);
        let next = waiting.await.unwrap();
        assert!(!next.is_over_at(next.since + SLICE), "nobody waits any more");
    }
}
