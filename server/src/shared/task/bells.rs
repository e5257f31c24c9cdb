//! What rings for a sync of a site: the node's sign, a change here, a new claim, an operator's wish.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// How long after a sync the sign that the node had said before it is no reason for another.
const STALE: Duration = Duration::from_secs(60);

/// A bell for each site that shares files.
#[derive(Debug, Default)]
pub(crate) struct Bells(HashMap<String, Bell>);

#[derive(Debug, Default)]
pub(super) struct Bell {
    notify: Notify,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    rung: bool,
    /// The sign that the node said last.
    heard: Option<u64>,
    /// The sign of what is known of the node.
    known: Option<u64>,
    /// The sign that the node had said before the last sync that went well, and when that ended. It is old, or wrong for
    /// good: no reason for a sync at every word of the node.
    tried: Option<(u64, Instant)>,
}

impl Bells {
    pub(crate) fn new<'a>(sites: impl IntoIterator<Item = &'a str>) -> Self {
        Self(sites.into_iter().map(|site| (site.to_owned(), Bell::default())).collect())
    }

    /// A node has told the sign of its shared files.
    pub(crate) fn heard(&self, site: &str, sign: u64) {
        self.heard_at(site, sign, Instant::now());
    }

    fn heard_at(&self, site: &str, sign: u64, now: Instant) {
        let Some(bell) = self.0.get(site) else { return };
        let mut state = bell.lock();
        state.heard = Some(sign);
        if state.known == Some(sign) {
            state.tried = None;
        } else if state.tried.is_none_or(|(tried, ended)| tried != sign || now >= ended + STALE) {
            bell.ring(state);
        }
    }

    /// There is something to do for a site.
    pub(crate) fn ring(&self, site: &str) {
        if let Some(bell) = self.0.get(site) {
            bell.ring(bell.lock());
        }
    }

    /// Whether a site shares files.
    pub(crate) fn has(&self, site: &str) -> bool {
        self.0.contains_key(site)
    }

    /// Whether it has rung since the site's last sync began.
    #[cfg(test)]
    pub(crate) fn is_rung(&self, site: &str) -> bool {
        self.of(site).is_some_and(|bell| bell.lock().rung)
    }

    pub(super) fn of(&self, site: &str) -> Option<&Bell> {
        self.0.get(site)
    }
}

impl Bell {
    fn ring(&self, mut state: MutexGuard<'_, State>) {
        state.rung = true;
        self.notify.notify_one();
    }

    /// Completes when it has rung since the last sync began.
    pub(super) async fn rung(&self) {
        while !self.lock().rung {
            self.notify.notified().await;
        }
    }

    /// A sync begins: what rings from now on is for the next. Returns the sign that the node has said.
    pub(super) fn begin(&self) -> Option<u64> {
        let mut state = self.lock();
        state.rung = false;
        state.heard
    }

    /// A sync went well, which began when the node had said `heard`; what is known of the node has the sign `known`.
    pub(super) fn end(&self, heard: Option<u64>, known: u64) {
        let mut state = self.lock();
        state.known = Some(known);
        state.tried = heard.map(|heard| (heard, Instant::now()));
        // It was said after the beginning.
        if state.heard != heard && state.heard != Some(known) {
            self.ring(state);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Changed in single steps: sound even after a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bells() -> Bells {
        Bells::new(["a", "b"])
    }

    /// A sync of `a` that goes well.
    fn sync(bells: &Bells, known: u64) {
        let bell = bells.of("a").unwrap();
        let heard = bell.begin();
        bell.end(heard, known);
    }

    #[tokio::test]
    async fn a_sign_that_is_not_known_rings_and_one_that_is_does_not() {
        let bells = bells();
        bells.heard("a", 7);
        bells.of("a").unwrap().rung().await;
        assert!(!bells.is_rung("b"), "nothing of one site concerns another");
        sync(&bells, 7);
        bells.heard("a", 7);
        assert!(!bells.is_rung("a"));
        bells.heard("a", 8);
        assert!(bells.is_rung("a"));
        bells.heard("nobody", 8);
        bells.ring("nobody");
    }

    #[test]
    fn a_sign_from_before_a_sync_does_not_ring_at_every_word_after_it() {
        let bells = bells();
        bells.heard("a", 7);
        // What the sync placed there has another sign, and the node has not said it yet; or it lies.
        sync(&bells, 6);
        for _ in 0..3 {
            bells.heard("a", 7);
            assert!(!bells.is_rung("a"));
        }
        bells.heard_at("a", 7, Instant::now() + STALE);
        assert!(bells.is_rung("a"), "it still says so");
        sync(&bells, 6);
        bells.heard("a", 6);
        bells.heard("a", 7);
        assert!(bells.is_rung("a"), "it changed in between");
    }

    #[test]
    fn what_rings_during_a_sync_is_for_the_next() {
        let bells = bells();
        let bell = bells.of("a").unwrap();
        bells.heard("a", 1);
        let heard = bell.begin();
        bells.heard("a", 2);
        bell.end(heard, 1);
        assert!(bells.is_rung("a"));
        sync(&bells, 2);
        let heard = bell.begin();
        bells.ring("a");
        bell.end(heard, 2);
        assert!(bells.is_rung("a"));
        let heard = bell.begin();
        bell.end(heard, 3);
        assert!(!bells.is_rung("a"), "it will say so itself");
    }
}
