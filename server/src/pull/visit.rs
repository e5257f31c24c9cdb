//! What the pulling strategies share: listing and settling, receiving a batch, and working on the disk without
//! letting the site wait for too long.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tidegate_net::shutdown::Shutdown;
use tidegate_proto::Name;
use tokio::time::timeout_at;

use super::Kind;
use super::crew::{self, PAUSE_MAX};
use super::listing::Listing;
use super::remote::{Fault, Remote, Way};
use super::tally::Tally;
use crate::config::{PullMode, Site};
use crate::desk::Desk;
use crate::ledger::SiteNote;
use crate::pipeline::{Pipeline, Trouble};

/// The most files of a batch.
const BATCH_FILES: usize = 64;

/// After this many packages the site is listed again: what it deleted meanwhile becomes history.
pub(super) const NAMES_PER_LISTING: usize = 50_000;

/// After this many listings a visit of a busy site ends, and the next begins: with certificates read anew, and with
/// the ledger trimmed in between.
const LISTINGS_MAX: u32 = 16;

/// Files left at the site that are remembered; beyond it they are asked about every time.
const LEFT_MAX: usize = 10_000;

/// What this process remembers of a site from one connection to the next. All of it may be lost.
#[derive(Debug)]
pub(crate) struct Memory {
    /// When each name was first listed (stock sites).
    pub(super) seen: HashMap<Name, Seen>,
    /// Files that cannot be taken, and until when they are not asked about.
    left: HashMap<Name, Instant>,
    /// How many files make a batch: halved by every cut and by every lack of room, so that even a bad link or a
    /// nearly full disk gets something through.
    batch: usize,
    /// Nothing has gone wrong since the last batch was received: the next may be larger.
    batch_may_grow: bool,
}

/// When a name was first listed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) since: tokio::time::Instant,
    pub(super) time: SystemTime,
}

impl Default for Memory {
    fn default() -> Self {
        Self { seen: HashMap::new(), left: HashMap::new(), batch: BATCH_FILES, batch_may_grow: false }
    }
}

impl Memory {
    /// A batch was too much for the connection or for the disk: smaller steps.
    pub(crate) fn shrink_batch(&mut self) {
        self.batch = (self.batch / 2).max(1);
        self.batch_may_grow = false;
    }

    /// How many files the next batch may have.
    pub(super) fn next_batch(&mut self) -> usize {
        if std::mem::take(&mut self.batch_may_grow) {
            self.batch = (self.batch * 2).min(BATCH_FILES);
        }
        self.batch
    }

    /// Whether a batch was received without anything going wrong.
    pub(super) fn may_grow(&mut self, went_well: bool) {
        self.batch_may_grow = went_well;
    }
}

/// How a connection ended without a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The site has nothing more for us.
    Done,
    /// The connection had to be given up, and there is more.
    Again,
    /// The same, and others wait for what it held: it comes again after a pause.
    Later,
    /// This server is stopping.
    Stopped,
}

/// Whether to go on with the next batch.
pub(super) type Next = std::ops::ControlFlow<Ended>;

/// One connection, being used, and those that help it.
pub(crate) struct Visit<'a, W: Way> {
    pub(super) remote: W::Remote,
    pub(super) helpers: Vec<W::Remote>,
    pub(super) way: W,
    /// No further helper is asked for.
    pub(super) alone: bool,
    pub(super) site: &'a Site,
    pub(super) desk: &'a Desk,
    pub(super) memory: &'a mut Memory,
    pub(super) tally: &'a Tally,
    pub(super) stop: &'a Shutdown,
    /// How long a stock site's name must have been listed before it is taken: most senders have written it by then.
    pub(super) settling: Duration,
    /// Names that this visit has done with, one way or the other. One that is listed again waits for the next visit,
    /// so that a site that cannot delete keeps nobody busy.
    pub(super) skipped: HashSet<Name>,
    pub(super) kind: Kind,
    pub(super) listings: u32,
    /// Names listed whose `MV` was refused.
    pub(super) refusals: u64,
    /// What a fault left undone shows in a new listing: nothing more of this one is asked for.
    pub(super) listing_is_old: bool,
    /// What ended the connection while there was a batch in hand, until it is told.
    pub(super) fault: Option<Fault>,
}

impl<W: Way> Visit<'_, W> {
    /// Lists the site, and lets the ledger draw its conclusions.
    pub(super) async fn list(&mut self) -> Result<Arc<Listing>, Fault> {
        self.dismiss().await;
        self.listing_is_old = false;
        let mut listing = Listing::new(self.site.sync.names.clone());
        self.remote.list(&mut listing).await?;
        let listing = Arc::new(listing.finish());
        let now = Instant::now();
        self.memory.left.retain(|name, until| listing.contains(name) && now < *until);
        self.tally.held_back(listing.held_back() + self.memory.left.len() as u64);
        self.skipped.retain(|name| listing.contains(name));
        let (site, shown) = (self.site.name.clone(), Arc::clone(&listing));
        let note = SiteNote {
            kind: Some(self.kind.as_str()),
            state: "ok",
            contact: true,
            held_back: Some(self.tally.left_behind()),
            error: None,
        };
        self.disk(move |pipeline| {
            pipeline.ledger().note(&site, &note)?;
            pipeline.resume(&site)?;
            // Absence from a listing that was cut off proves nothing.
            if shown.is_complete() { pipeline.listed(&site, |name| shown.contains(name)) } else { Ok(()) }
        })
        .await?;
        Ok(listing)
    }

    /// The packages of a listing that this visit wants, as the site lists them, at most [`NAMES_PER_LISTING`].
    pub(super) fn wanted(&self, listing: &Listing) -> Vec<Name> {
        listing.names().iter().filter(|name| self.wants(name)).take(NAMES_PER_LISTING).cloned().collect()
    }

    /// Whether this visit wants a name.
    pub(super) fn wants(&self, name: &Name) -> bool {
        !self.skipped.contains(name) && !self.memory.left.contains_key(name)
    }

    /// Whether another listing or batch may begin.
    pub(super) async fn next(&mut self) -> Result<Next, Fault> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        if self.remote.is_over() {
            return Ok(Next::Break(Ended::Again));
        }
        if self.stop.is_draining() {
            return Ok(Next::Break(Ended::Stopped));
        }
        self.disk(|pipeline| pipeline.room()).await?;
        Ok(Next::Continue(()))
    }

    /// Whether another listing may begin.
    pub(super) async fn next_listing(&mut self) -> Result<Next, Fault> {
        let next = self.next().await?;
        if next.is_continue() && self.listings == LISTINGS_MAX {
            return Ok(Next::Break(Ended::Again));
        }
        self.listings += 1;
        Ok(next)
    }

    /// The site lists a package and does not let it be moved: it is gone, or somebody else's by right.
    pub(super) fn refused(&mut self, name: Name) {
        tracing::debug!(site = self.site.name, package = %name, "the site refused MV; its next listing decides");
        self.refusals += 1;
        self.skipped.insert(name);
    }

    /// Leaves a file that cannot be taken at the site, across connections too.
    pub(super) fn leave(&mut self, name: Name, memory: Duration) {
        if self.memory.left.len() < LEFT_MAX
            && self.memory.left.insert(name.clone(), Instant::now() + memory).is_none()
        {
            self.tally.one_more_held_back();
        }
        self.skipped.insert(name);
    }

    /// Works on the disk. If that takes longer than a site bears silence, it hears `QUIT` meanwhile.
    pub(super) async fn disk<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&Pipeline) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, Fault> {
        let desk = self.desk;
        let mut work = pin!(desk.run(work));
        loop {
            let waiting = self.remotes().filter(|remote| !remote.is_over());
            let Some(silent) = waiting.map(|remote| remote.silent_since()).min() else {
                return Ok(work.await?);
            };
            if let Ok(result) = timeout_at(silent + PAUSE_MAX, &mut work).await {
                return Ok(result?);
            }
            tracing::warn!(site = self.site.name, "the disk is slow; the site must not wait for it");
            // With MV alone, QUIT would tell a node that the file is safe here, which it is not yet.
            if self.site.sync.mode == PullMode::Move {
                self.remote.hang_up();
            } else {
                let silent = self.remotes().filter(|remote| remote.silent_since() <= silent);
                crew::all(silent.map(Remote::quit)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_that_is_too_much_is_halved_until_one_file_is_left_and_grows_again_after_it() {
        let mut memory = Memory::default();
        for expected in [32, 16, 8, 4, 2, 1, 1] {
            // It was received, and then it did not fit.
            memory.batch_may_grow = true;
            memory.shrink_batch();
            assert_eq!(memory.next_batch(), expected);
        }
        for expected in [2, 4, 8, 16, 32, 64, 64] {
            memory.batch_may_grow = true;
            assert_eq!(memory.next_batch(), expected);
        }
    }
}
