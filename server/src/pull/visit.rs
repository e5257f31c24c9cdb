//! What the pulling strategies share: listing and settling, receiving a batch, and working on the disk without
//! letting the site wait for too long.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tidegate_net::shutdown::Shutdown;
use tidegate_proto::Name;
use tokio::time::timeout;

use super::Kind;
use super::listing::Listing;
use super::remote::{Fault, Fetched, Remote};
use super::tally::Tally;
use crate::body::Arriving;
use crate::config::{PullMode, Site};
use crate::desk::Desk;
use crate::ledger::SiteNote;
use crate::names;
use crate::pipeline::{Pipeline, Received, Trouble};

/// A batch ends with the first of these. They bound what one site makes this server hold in memory, and what is
/// repeated after a cut.
const BATCH_FILES: usize = 64;
const BATCH_BYTES: u64 = 4 * 1024 * 1024;
const BATCH_TIME: Duration = Duration::from_secs(2);

/// After this many packages the site is listed again: what it deleted meanwhile becomes history.
pub(super) const NAMES_PER_LISTING: usize = 50_000;

/// After this many listings a visit of a busy site ends, and the next begins: with certificates read anew, and with
/// the ledger trimmed in between.
const LISTINGS_MAX: u32 = 16;

/// The longest pause between two commands: a stock server hangs up after 4 s of silence. Beyond it we say `QUIT`.
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// For how long a file that is too big is not asked about again.
const TOO_BIG_MEMORY: Duration = Duration::from_secs(3_600);

/// The same for an empty file, which its sender may still fill. Each question costs a stock site's connection.
const EMPTY_MEMORY: Duration = Duration::from_secs(300);

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
    fn next_batch(&mut self) -> usize {
        if std::mem::take(&mut self.batch_may_grow) {
            self.batch = (self.batch * 2).min(BATCH_FILES);
        }
        self.batch
    }
}

/// How a connection ended without a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The site has nothing more for us.
    Done,
    /// The connection had to be given up, and there is more.
    Again,
    /// This server is stopping.
    Stopped,
}

/// Whether to go on with the next batch.
pub(super) type Next = std::ops::ControlFlow<Ended>;

/// One connection, being used.
pub(crate) struct Visit<'a, R> {
    pub(super) remote: R,
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
    /// What ended the connection while there was a batch in hand, until it is told.
    pub(super) fault: Option<Fault>,
}

impl<R: Remote> Visit<'_, R> {
    /// Lists the site, and lets the ledger draw its conclusions.
    pub(super) async fn list(&mut self) -> Result<Arc<Listing>, Fault> {
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

    /// Receives the next batch of `names`, each with the modification time it is to have. A fault ends the batch;
    /// what came whole before it counts, and [`Self::next`] tells.
    pub(super) async fn receive(
        &mut self,
        names: &mut impl Iterator<Item = (Name, SystemTime)>,
    ) -> Result<Vec<Received>, Fault> {
        let begun = Instant::now();
        let mut batch = Vec::new();
        let mut bytes = 0;
        let files = self.memory.next_batch();
        while batch.len() < files && bytes < BATCH_BYTES && begun.elapsed() < BATCH_TIME {
            let Some((name, listed)) = names.next() else { break };
            let mut body = Arriving::new(self.desk.staging());
            let fetched = match self.remote.fetch(&name, &mut body).await {
                Ok(fetched) => fetched,
                Err(fault) => {
                    self.fault = Some(fault);
                    break;
                }
            };
            self.desk.crash_point("after-recv");
            match fetched {
                Fetched::Whole if body.size() > 0 => {
                    bytes += body.size();
                    let modified = names::time_in(&name, SystemTime::now()).unwrap_or(listed);
                    batch.push(Received { name, body: body.finish(), modified });
                }
                // Gone: a later listing tells.
                Fetched::Refused => {
                    self.skipped.insert(name);
                }
                Fetched::Whole | Fetched::Empty => {
                    tracing::debug!(site = self.site.name, package = %name, "empty: it stays at the site");
                    self.leave(name, EMPTY_MEMORY);
                }
                Fetched::TooBig(size) => {
                    let (site, max) = (&self.site.name, self.site.sync.max_size);
                    tracing::warn!(site, package = %name, size, max, "larger than max_size: it stays at the site");
                    self.leave(name, TOO_BIG_MEMORY);
                }
            }
            if self.remote.is_over() || self.stop.is_draining() {
                break;
            }
        }
        self.memory.batch_may_grow = self.fault.is_none();
        // With nothing in hand it need not wait.
        match self.fault.take_if(|_| batch.is_empty()) {
            Some(fault) => Err(fault),
            None => Ok(batch),
        }
    }

    /// The site lists a package and does not let it be moved: it is gone, or somebody else's by right.
    pub(super) fn refused(&mut self, name: Name) {
        tracing::debug!(site = self.site.name, package = %name, "the site refused MV; its next listing decides");
        self.refusals += 1;
        self.skipped.insert(name);
    }

    /// Leaves a file that cannot be taken at the site, across connections too.
    fn leave(&mut self, name: Name, memory: Duration) {
        if self.memory.left.len() < LEFT_MAX
            && self.memory.left.insert(name.clone(), Instant::now() + memory).is_none()
        {
            self.tally.one_more_held_back();
        }
        self.skipped.insert(name);
    }

    /// Works on the disk. If that takes longer than a site bears silence, the site hears `QUIT` meanwhile.
    pub(super) async fn disk<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&Pipeline) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, Fault> {
        let mut work = pin!(self.desk.run(work));
        let result = match timeout(PAUSE_MAX, &mut work).await {
            Ok(result) => result,
            Err(_) => {
                tracing::warn!(site = self.site.name, "the disk is slow; the site must not wait for it");
                // With MV alone, QUIT would tell a node that the file is safe here, which it is not yet.
                if self.site.sync.mode == PullMode::Move {
                    self.remote.hang_up();
                } else {
                    self.remote.quit().await;
                }
                work.await
            }
        };
        Ok(result?)
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
