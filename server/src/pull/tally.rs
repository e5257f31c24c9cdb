//! Counters of one site that the progress bar and the summary read while it is being pulled.

use std::sync::atomic::{AtomicU64, Ordering};

/// What happened since it was made.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    listed: AtomicU64,
    packages: AtomicU64,
    bytes: AtomicU64,
    held_back: AtomicU64,
}

impl Tally {
    /// This many packages wait at the site.
    pub(super) fn waiting(&self, packages: usize) {
        self.listed.store(self.packages().saturating_add(packages as u64), Ordering::Relaxed);
    }

    /// A package came.
    pub(super) fn received(&self, bytes: u64) {
        self.delivered(1, bytes);
    }

    /// This many packages were delivered.
    pub(super) fn delivered(&self, packages: u64, bytes: u64) {
        self.packages.fetch_add(packages, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// This many names stay at the site, because they cannot be taken.
    pub(super) fn held_back(&self, names: u64) {
        self.held_back.store(names, Ordering::Relaxed);
    }

    /// One more of them turned up after the listing.
    pub(super) fn one_more_held_back(&self) {
        self.held_back.fetch_add(1, Ordering::Relaxed);
    }

    /// Packages that have come and that are known to wait.
    pub(crate) fn known(&self) -> u64 {
        self.listed.load(Ordering::Relaxed).max(self.packages())
    }

    pub(crate) fn packages(&self) -> u64 {
        self.packages.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn left_behind(&self) -> u64 {
        self.held_back.load(Ordering::Relaxed)
    }
}
