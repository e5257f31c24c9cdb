//! Pulling a stock Tentacle server, which deletes a file while it sends it, unasked whether it arrived, and whose
//! files may still be written to. So: only names that two listings at least 2 s apart show; `RECV` and hold; `MV`
//! and compare; then deliver. `pipeline/resolve.rs` has the table of outcomes.

use std::collections::{HashMap, VecDeque};
use std::time::SystemTime;

use tidegate_proto::Name;
use tokio::time::{Instant, sleep};

use super::listing::Listing;
use super::remote::{Fault, Way};
use super::visit::{Ended, Next, Seen, Visit};
use crate::names;

/// After this many packages the site is listed again. Until a listing lacks a name, a new file with the name and
/// the bytes of a delivered one cannot be told from one that was not deleted: a shorter turn, a smaller risk.
const NAMES_PER_LISTING: usize = 1_000;

impl<W: Way> Visit<'_, W> {
    /// Pulls until the site has nothing more that has settled.
    pub(super) async fn pull_stock(&mut self) -> Result<Ended, Fault> {
        let mut waited = false;
        loop {
            if let Next::Break(ended) = self.next_listing().await? {
                return Ok(ended);
            }
            let listing = self.list().await?;
            let (settled, fresh) = self.settled(&listing);
            self.tally.waiting(settled.len() + fresh);
            if settled.is_empty() {
                if fresh == 0 || waited {
                    return Ok(Ended::Done);
                }
                waited = true;
                tokio::select! {
                    () = sleep(self.settling) => continue,
                    () = self.stop.draining() => return Ok(Ended::Stopped),
                }
            }
            let mut names = VecDeque::from(settled);
            while !names.is_empty() && !self.listing_is_old {
                if let Next::Break(ended) = self.next().await? {
                    return Ok(ended);
                }
                self.enlist(names.len()).await;
                let batch = self.receive(&mut names).await?;
                if batch.is_empty() {
                    continue;
                }
                let times: HashMap<Name, SystemTime> =
                    batch.iter().map(|received| (received.name.clone(), received.modified)).collect();
                let site = self.site.name.clone();
                let kept = self.disk(move |pipeline| pipeline.hold(&site, batch)).await?;
                self.desk.learned(&self.site.name, kept.iter().map(|kept| kept.name.as_bytes()));
                self.take_away(kept, &times).await?;
            }
        }
    }

    /// The names that have been listed for long enough, oldest first, and how many have not.
    fn settled(&mut self, listing: &Listing) -> (Vec<(Name, SystemTime)>, usize) {
        let now = Instant::now();
        self.memory.seen.retain(|name, _| listing.contains(name));
        for name in listing.names() {
            let seen = Seen { since: now, time: SystemTime::now() };
            self.memory.seen.entry(name.clone()).or_insert(seen);
        }
        let wanted = self.memory.seen.iter().filter(|(name, _)| self.wants(name));
        let (settled, fresh): (Vec<_>, Vec<_>) =
            wanted.partition(|(_, seen)| now - seen.since >= self.settling);
        let fresh = fresh.len();
        let clock = SystemTime::now();
        let mut settled: Vec<_> = settled
            .into_iter()
            .map(|(name, seen)| (names::time_in(name, clock).unwrap_or(seen.time), name, seen.time))
            .collect();
        settled.sort_unstable();
        // Cloned is only what is taken: a backlog may be long.
        let taken = settled.into_iter().take(NAMES_PER_LISTING);
        (taken.map(|(_, name, first)| (name.clone(), first)).collect(), fresh)
    }
}
