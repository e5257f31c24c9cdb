//! A bound on the bytes of unfinished uploads that all connections together hold in memory.
//!
//! A draft keeps small files in memory until they are committed; that is fast, but 10,000 senders could fill the
//! memory with half-sent files. So every such byte is claimed from one [`Budget`]. An upload that gets no more does
//! not wait, or slow senders could starve quick ones: its owner writes it out and goes on.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most that one upload holds in memory, safely below what a draft buffers itself. Beyond it the upload goes to
/// disk in pieces of this size.
const UPLOAD_MAX: usize = 48 * 1024;

/// The bytes that all uploads share.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Semaphore>);

impl Budget {
    pub(crate) fn new(bytes: u64) -> Self {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        Self(Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))))
    }
}

/// What one upload holds of the budget; given back when dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    budget: Budget,
    held: Option<OwnedSemaphorePermit>,
}

impl Claim {
    pub(crate) fn nothing(budget: &Budget) -> Self {
        Self { budget: budget.clone(), held: None }
    }

    /// Claims more bytes. `false`: nothing was claimed, and what is in memory must go to disk.
    #[must_use]
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let held = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if bytes > UPLOAD_MAX - held {
            return false;
        }
        let permits = u32::try_from(bytes).expect("an upload's claim is small");
        match (self.budget.0.clone().try_acquire_many_owned(permits), &mut self.held) {
            (Ok(more), Some(held)) => held.merge(more),
            (Ok(more), None) => self.held = Some(more),
            (Err(_), _) => return false,
        }
        true
    }

    /// Nothing is in memory any more.
    pub(crate) fn release(&mut self) {
        self.held = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_upload_has_its_own_limit() {
        let mut claim = Claim::nothing(&Budget::new(1 << 30));
        assert!(claim.grow(UPLOAD_MAX - 1));
        assert!(!claim.grow(2));
        assert!(claim.grow(1));
        claim.release();
        assert!(claim.grow(UPLOAD_MAX));
    }

    #[test]
    fn all_uploads_share_the_budget_and_give_it_back() {
        let budget = Budget::new(100);
        let (mut first, mut second) = (Claim::nothing(&budget), Claim::nothing(&budget));
        assert!(first.grow(80));
        assert!(!second.grow(30), "20 are left");
        assert!(second.grow(20));
        drop(first);
        assert!(second.grow(80));
    }
}
