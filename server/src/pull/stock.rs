//! Pulling a stock Tentacle server, which deletes a file while it sends it, unasked whether it arrived, and whose
//! files may still be written to. So: only names that two listings at least 2 s apart show; `RECV` and hold; `MV`
//! and compare; then deliver. `pipeline/resolve.rs` has the table of outcomes.

use std::collections::HashMap;
use std::time::SystemTime;

use tidegate_proto::Name;
use tokio::time::{Instant, sleep};

use super::listing::Listing;
use super::remote::{Fault, Remote, Taken};
use super::visit::{Ended, Next, Seen, Visit};
use crate::body::Arriving;
use crate::names;
use crate::pipeline::{Kept, Moved};

/// After this many packages the site is listed again. Until a listing lacks a name, a new file with the name and
/// the bytes of a delivered one cannot be told from one that was not deleted: a shorter turn, a smaller risk.
const NAMES_PER_LISTING: usize = 1_000;

impl<R: Remote> Visit<'_, R> {
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
            let mut names = settled.into_iter().peekable();
            while names.peek().is_some() {
                if let Next::Break(ended) = self.next().await? {
                    return Ok(ended);
                }
                let batch = self.receive(&mut names).await?;
                if batch.is_empty() {
                    continue;
                }
                let times: HashMap<Name, SystemTime> =
                    batch.iter().map(|received| (received.name.clone(), received.modified)).collect();
                let site = self.site.name.clone();
                let kept = self.disk(move |pipeline| pipeline.hold(&site, batch)).await?;
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

    /// Moves a held batch away, and delivers what that leaves no doubt about. A fault ends the moving; what came
    /// before it, and what came of the body that it cut, counts.
    async fn take_away(&mut self, kept: Vec<Kept>, times: &HashMap<Name, SystemTime>) -> Result<(), Fault> {
        let mut done = Vec::with_capacity(kept.len());
        let mut sizes = Vec::with_capacity(kept.len());
        let mut fault = None;
        for kept in kept {
            if self.remote.is_over() || fault.is_some() {
                break;
            }
            let modified = times.get(&kept.name).copied().unwrap_or_else(SystemTime::now);
            let mut body = Arriving::new(self.desk.staging());
            let whole = match self.remote.take(&kept.name, self.site.sync.quiet, &mut body).await {
                Ok(Taken::Refused) => {
                    self.refused(kept.name);
                    continue;
                }
                Ok(Taken::Whole | Taken::Surplus) => {
                    // Whatever shows under this name from now on is another file, which has to settle again.
                    self.memory.seen.remove(&kept.name);
                    self.skipped.insert(kept.name.clone());
                    sizes.extend(Some(body.size()).filter(|_| !kept.is_repeat()));
                    true
                }
                Err(error) => {
                    fault = Some(error);
                    false
                }
            };
            self.desk.crash_point("after-mv");
            let body = body.finish();
            let other = (body.digest != kept.digest).then_some(body);
            done.push(Moved { kept, other, whole, modified });
        }
        let site = self.site.name.clone();
        self.disk(move |pipeline| pipeline.resolve(&site, done)).await?;
        sizes.into_iter().for_each(|size| self.tally.received(size));
        fault.map_or(Ok(()), Err)
    }
}
