//! What the node has done since its start, in a log line now and then and at the end.
//!
//! Repeats and refusals are answered, and their log lines limited; here is where all of them are counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tracing::info;

use crate::node::Node;

/// The time between two lines, if anything has changed.
pub(crate) const EVERY: Duration = Duration::from_secs(5 * 60);

/// Counts since the start.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    stored: Count,
    stored_bytes: Count,
    deleted: Count,
    deleted_bytes: Count,
    refused: Count,
    set_aside: Count,
    turned_away: Count,
    /// The last line.
    told: Mutex<Figures>,
}

/// One number that only grows.
#[derive(Debug, Default)]
struct Count(AtomicU64);

impl Count {
    fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one line says, but for what waits in the spool.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Figures {
    stored: u64,
    stored_bytes: u64,
    deleted: u64,
    deleted_bytes: u64,
    repeats: u64,
    refused: u64,
    set_aside: u64,
    dropped: u64,
    turned_away: u64,
    unlogged: u64,
}

/// What came and went since the start.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) stored: u64,
    pub(crate) stored_bytes: u64,
    /// Pulled.
    pub(crate) deleted: u64,
    pub(crate) deleted_bytes: u64,
    pub(crate) refused: u64,
}

impl Totals {
    /// A package was stored that was not there before.
    pub(crate) fn stored(&self, bytes: u64) {
        self.stored.add(1);
        self.stored_bytes.add(bytes);
    }

    /// Packages were pulled and deleted.
    pub(crate) fn deleted(&self, packages: u64, bytes: u64) {
        self.deleted.add(packages);
        self.deleted_bytes.add(bytes);
    }

    /// A request was refused.
    pub(crate) fn refused(&self) {
        self.refused.add(1);
    }

    /// A package was found damaged, and set aside.
    pub(crate) fn set_aside(&self) {
        self.set_aside.add(1);
    }

    /// Connections became no session: over a limit, or not admitted.
    pub(crate) fn turned_away(&self, connections: u64) {
        self.turned_away.add(connections);
    }

    /// What the puller is told.
    pub(crate) fn traffic(&self) -> Traffic {
        Traffic {
            stored: self.stored.get(),
            stored_bytes: self.stored_bytes.get(),
            deleted: self.deleted.get(),
            deleted_bytes: self.deleted_bytes.get(),
            refused: self.refused.get(),
        }
    }
}

/// Logs the totals, unless they are those of the last line.
pub(crate) fn tell(node: &Node) {
    let (usage, totals) = (node.spool.usage(), &node.totals);
    let figures = Figures {
        stored: totals.stored.get(),
        stored_bytes: totals.stored_bytes.get(),
        deleted: totals.deleted.get(),
        deleted_bytes: totals.deleted_bytes.get(),
        repeats: usage.repeats,
        refused: totals.refused.get(),
        set_aside: totals.set_aside.get(),
        dropped: usage.dropped,
        turned_away: totals.turned_away.get(),
        unlogged: node.repeats.suppressed(),
    };
    let told = std::mem::replace(&mut *totals.told.lock().unwrap_or_else(PoisonError::into_inner), figures);
    if told != figures {
        let Figures {
            stored,
            stored_bytes,
            deleted,
            deleted_bytes,
            repeats,
            refused,
            dropped,
            set_aside,
            turned_away,
            unlogged,
        } = figures;
        info!(
            stored,
            stored_bytes,
            deleted,
            deleted_bytes,
            repeats,
            refused,
            set_aside,
            dropped,
            turned_away,
            unlogged,
            waiting = usage.files,
            waiting_bytes = usage.bytes,
            "totals since the start"
        );
    }
}
