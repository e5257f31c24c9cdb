//! How much a node may send: a window over what has come and is not in the pipeline yet. It bounds what one site, and
//! all of them together, can make this server hold in memory.
//!
//! - The base is a site's own. It suffices for fresh packages, and on short ways for a backlog too.
//! - What a backlog needs beyond it comes from the [`Pool`] and goes back as soon as it is used up: a site that has
//!   none gets none, and where the pool is empty each still has its base.
//! - What was granted cannot be taken back. So a window is no larger than what the node says it holds, and one that has
//!   said nothing gets more only when it has used up what it had.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What every site may have under way. A site that sends more than it was granted breaks the protocol.
pub(super) const BASE: u64 = 1024 * 1024;

/// The most that one site may have under way. Over a longer way a backlog comes slower than the link could bear.
const WINDOW_MAX: u64 = 16 * 1024 * 1024;

/// What all sites may have under way beyond their bases. Beyond it they make do with those.
const POOL: u64 = 256 * 1024 * 1024;

/// What is granted at a time is at least this part of the window: a frame for every package would be waste.
const STEP_PART: u64 = 4;

/// What all sites share.
#[derive(Debug)]
pub(super) struct Pool {
    free: AtomicU64,
}

impl Default for Pool {
    fn default() -> Self {
        Self { free: AtomicU64::new(POOL) }
    }
}

impl Pool {
    /// Takes what there is, up to `most`.
    fn take(&self, most: u64) -> u64 {
        let take = |free: u64| Some(free - most.min(free));
        let free = self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        most.min(free.unwrap_or_else(|free| free))
    }

    fn give_back(&self, amount: u64) {
        self.free.fetch_add(amount, Ordering::Relaxed);
    }
}

/// One connection's credit. Amounts are those of the protocol: a record costs
/// [`RECORD_COST`](tidegate_proto::relay::limits::RECORD_COST), a byte of a body one.
#[derive(Debug)]
pub(super) struct Credit {
    pool: Arc<Pool>,
    /// What is taken from the pool.
    extra: u64,
    window: u64,
    /// Since the connection's start: what the node may send, what it has sent, and what of that is done with.
    granted: u64,
    received: u64,
    done: u64,
    /// What the node has still to send, as far as it has said.
    backlog: u64,
    /// What it has announced and keeps.
    stays: u64,
    /// It has sent everything, and nothing came since.
    dry: bool,
}

impl Credit {
    pub(super) fn new(pool: Arc<Pool>) -> Self {
        Self {
            pool,
            extra: 0,
            window: BASE,
            granted: 0,
            received: 0,
            done: 0,
            backlog: 0,
            stays: 0,
            dry: false,
        }
    }

    /// The node says how much it holds. What it has sent already it only holds until it hears that it is delivered, and
    /// what is too large it never sends.
    pub(super) fn backlog(&mut self, amount: u64) {
        if !self.dry {
            let here = self.received - self.done;
            self.backlog = amount.saturating_sub(self.stays).saturating_sub(here);
        }
    }

    /// The node keeps so much of what it says that it holds.
    pub(super) fn stays(&mut self, amount: u64) {
        self.stays = self.stays.saturating_add(amount);
    }

    /// The node has sent everything.
    pub(super) fn dry(&mut self) {
        self.backlog = 0;
        self.window = BASE;
        self.dry = true;
    }

    /// So much has come since the connection's start.
    pub(super) fn received(&mut self, total: u64) {
        let more = total.saturating_sub(self.received);
        self.backlog = self.backlog.saturating_sub(more);
        self.dry &= more == 0;
        self.received = total;
    }

    /// So much of what has come is held no more.
    pub(super) fn done(&mut self, amount: u64) {
        self.done += amount;
        debug_assert!(self.done <= self.received, "what is done with has come before");
        let needed = self.granted.saturating_sub(self.done).saturating_sub(BASE);
        let spare = self.extra.saturating_sub(needed);
        self.extra -= spare;
        self.pool.give_back(spare);
    }

    /// Grants what the window allows. Returns the new total, if it is worth a word.
    pub(super) fn grow(&mut self) -> Option<u64> {
        let starved = self.granted > 0 && self.granted - self.received < BASE / STEP_PART / STEP_PART;
        if self.backlog > 0 {
            // Not what is granted and unsent: the backlog will use that up.
            let here = self.received - self.done;
            self.window = self.backlog.saturating_add(here).clamp(BASE, WINDOW_MAX);
        } else if starved {
            self.window = (2 * self.window).min(WINDOW_MAX);
        }
        let under_way = self.granted.saturating_sub(self.done);
        let beyond = self.window.max(under_way) - BASE;
        self.extra += self.pool.take(beyond.saturating_sub(self.extra));
        let window = self.window.min(BASE + self.extra);
        let total = self.granted.max(self.done + window);
        if total - self.granted < window / STEP_PART {
            return None;
        }
        self.granted = total;
        Some(total)
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        self.pool.give_back(self.extra);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credit() -> (Arc<Pool>, Credit) {
        let pool = Arc::new(Pool::default());
        (Arc::clone(&pool), Credit::new(pool))
    }

    fn free(pool: &Pool) -> u64 {
        pool.free.load(Ordering::Relaxed)
    }

    #[test]
    fn credit_grows_only_with_what_is_done() {
        let (pool, mut credit) = credit();
        assert_eq!(credit.grow(), Some(BASE));
        assert_eq!(credit.grow(), None);
        credit.received(BASE / 2);
        assert_eq!(credit.grow(), None, "it has come, and is still here");
        credit.done(BASE / 2);
        assert_eq!(credit.grow(), Some(BASE + BASE / 2));
        credit.received(BASE / 2 + 3_000);
        credit.done(3_000);
        assert_eq!(credit.grow(), None, "too little for a word");
        assert_eq!(free(&pool), POOL, "fresh packages need nothing of the pool");
    }

    #[test]
    fn a_known_backlog_opens_the_window_no_further_than_it_needs() {
        let (pool, mut credit) = credit();
        credit.backlog(3 * BASE);
        assert_eq!(credit.grow(), Some(3 * BASE));
        assert_eq!(free(&pool), POOL - 2 * BASE);
        credit.received(3 * BASE);
        credit.done(3 * BASE);
        assert_eq!(free(&pool), POOL, "what is used up goes back at once");
        let (_, mut large) = self::credit();
        large.backlog(u64::MAX);
        assert_eq!(large.grow(), Some(WINDOW_MAX));
        large.received(WINDOW_MAX);
        assert_eq!(large.grow(), None);
    }

    #[test]
    fn a_backlog_that_is_drained_leaves_nothing_out_of_the_pool() {
        let (pool, mut credit) = credit();
        let (backlog, kept) = (40 * BASE, 30 * BASE);
        credit.stays(kept);
        let (mut granted, mut came) = (0, 0);
        while came < backlog {
            // The node tells what it holds again and again, also what is on its way to the pipeline here.
            credit.backlog(backlog - credit.done + kept);
            granted = credit.grow().unwrap_or(granted);
            assert!(granted > came, "it goes on");
            came = granted.min(backlog).min(came + 3 * BASE / 2);
            credit.received(came);
            credit.done(came.saturating_sub(BASE).saturating_sub(credit.done));
        }
        credit.dry();
        credit.done(came - credit.done);
        assert!(granted <= backlog + BASE, "no more was granted than the node had: {granted}");
        assert_eq!(free(&pool), POOL);
    }

    #[test]
    fn a_node_that_says_nothing_gets_more_when_it_has_used_up_what_it_had() {
        let (pool, mut credit) = credit();
        credit.grow();
        let mut total = BASE;
        for window in [2, 4, 8, 16, 16] {
            credit.received(total);
            credit.done(total - credit.done);
            let granted = credit.grow().expect("there is room");
            assert_eq!(granted - total, window * BASE);
            total = granted;
        }
        credit.dry();
        credit.received(total);
        credit.done(total - credit.done);
        assert_eq!(free(&pool), POOL);
    }

    #[test]
    fn with_an_empty_pool_each_still_has_its_base_and_an_end_gives_everything_back() {
        let pool = Arc::new(Pool::default());
        let mut drainers: Vec<_> = (0..18).map(|_| Credit::new(Arc::clone(&pool))).collect();
        let granted: u64 = drainers
            .iter_mut()
            .map(|credit| {
                credit.backlog(u64::MAX);
                credit.grow().expect("at least its base")
            })
            .sum();
        assert_eq!(granted, POOL + 18 * BASE);
        let mut late = Credit::new(Arc::clone(&pool));
        late.backlog(u64::MAX);
        assert_eq!(late.grow(), Some(BASE));
        drop(drainers);
        assert_eq!(free(&pool), POOL);
        drop(late);
        assert_eq!(free(&pool), POOL);
    }
}
