//! Packages in the order of their arrival, for a puller that may remember nothing but how far it has come.
//!
//! Numbers only grow on a stream, and a puller may remember no more of it than the greatest: one that came after a
//! greater number could be taken for a repeat and deleted unread. So a stream never passes over a package: where another
//! has claimed the next one, it waits. Deleted, dropped and set-aside packages are not there, and a dead letter that
//! becomes a package again gets a number of its own. For the same reason whoever gives up the claim of one package of a
//! stream has to end the stream: that package comes again in the next one, before those that follow it.
//!
//! A stream is a place in the order that the index keeps anyway: it costs no memory and no time while nobody asks it, and
//! many may be open. What one has claimed the others wait for.

use std::sync::Arc;

use crate::entry::Order;
use crate::lease::Lease;
use crate::parallel::lock;
use crate::store::{Spool, Store};

/// What a stream gives.
pub enum Next {
    /// The next packages, at least one.
    Packages(Vec<Lease>),
    /// There are no more at the moment.
    Dry,
    /// Another has claimed the next one: it goes, or it is free again, and then it is its turn.
    Claimed,
}

/// The packages of a spool in arrival order: from the oldest on, then those that come.
pub struct Stream {
    store: Arc<Store>,
    /// The place behind the last one given.
    next: Order,
}

impl Spool {
    /// Begins with the oldest package, whatever other streams have given.
    pub fn stream(&self) -> Stream {
        Stream { store: Arc::clone(&self.store), next: 0 }
    }
}

impl Stream {
    /// Claims the next packages, at most `max` of them; their numbers are greater than all before.
    pub fn next(&mut self, max: usize) -> Next {
        let mut state = lock(&self.store.state);
        let (packages, next) = state.index.lease_from(self.next, max);
        if packages.is_empty() {
            return if state.index.has_from(self.next) { Next::Claimed } else { Next::Dry };
        }
        drop(state);
        self.next = next;
        let lease = |package| Lease::new(Arc::clone(&self.store), package);
        Next::Packages(packages.into_iter().map(lease).collect())
    }
}

#[cfg(test)]
mod tests;
