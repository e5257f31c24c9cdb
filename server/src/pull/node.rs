//! Pulling a Tidegate node: it keeps a package, unchanged, until the command after its `MV`. So a package is
//! delivered first, and deleted there when it is in the pipeline.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, SystemTime};

use tidegate_proto::Name;
use tidegate_spool::sabotage::{self, Switch};

use super::remote::{Fault, Remote, Taken, Way};
use super::visit::{Ended, Next, Visit};
use crate::body::{Arriving, Digest};
use crate::pipeline::Kept;

/// A node's packages do not change: nothing can come after the announced bytes.
const QUIET: Duration = Duration::ZERO;

/// Between the modification times of two packages of one listing.
const TIME_STEP: Duration = Duration::from_micros(1);

impl<W: Way> Visit<'_, W> {
    /// Pulls until the node has nothing more.
    pub(super) async fn pull_node(&mut self) -> Result<Ended, Fault> {
        loop {
            if let Next::Break(ended) = self.next_listing().await? {
                return Ok(ended);
            }
            let listing = self.list().await?;
            let listed = SystemTime::now();
            let names = self.wanted(&listing);
            self.tally.waiting(names.len());
            if names.is_empty() {
                return Ok(Ended::Done);
            }
            // A node lists in the order of arrival, which the modification times keep: each name takes longer to
            // receive than the step between two of them.
            let times = (0..).map(|n| listed + n * TIME_STEP);
            let mut names: VecDeque<_> = names.into_iter().zip(times).collect();
            while !names.is_empty() {
                if let Next::Break(ended) = self.next().await? {
                    return Ok(ended);
                }
                let batch = self.receive(&mut names).await?;
                if !batch.is_empty() {
                    if sabotage::breaks(Switch::DeleteBeforeLedger) {
                        let taken = batch.iter().map(|one| (one.name.clone(), one.body.digest.clone()));
                        self.move_away(taken.collect(), &mut Vec::new()).await?;
                    }
                    let site = self.site.name.clone();
                    let received: Vec<_> = batch.iter().map(|received| received.name.clone()).collect();
                    let kept = self.disk(move |pipeline| pipeline.accept(&site, batch)).await?;
                    self.desk.learned(&self.site.name, kept.iter().map(|kept| kept.name.as_bytes()));
                    // What was damaged here stays there, and is asked for again in the next visit.
                    let here: HashSet<&Name> = kept.iter().map(|kept| &kept.name).collect();
                    self.skipped.extend(received.iter().filter(|name| !here.contains(name)).cloned());
                    let new = kept.iter().filter(|kept| !kept.is_repeat());
                    new.for_each(|kept| self.tally.received(kept.size));
                    self.delete(kept).await?;
                }
            }
        }
    }

    /// Moves a delivered batch away, and records what is proven to be gone. A name that comes again with the same
    /// bytes after that is a new package.
    async fn delete(&mut self, kept: Vec<Kept>) -> Result<(), Fault> {
        let mut gone = Vec::with_capacity(kept.len());
        let kept = kept.into_iter().map(|kept| (kept.name, kept.digest)).collect();
        let moved = self.move_away(kept, &mut gone).await;
        if !gone.is_empty() {
            let site = self.site.name.clone();
            self.disk(move |pipeline| pipeline.gone(&site, &gone)).await?;
        }
        moved
    }

    /// Only our next command makes the node delete: after a body that differs from what was delivered there must be
    /// none. Its answer proves the deletion; that of a batch's last package shows in a later listing.
    async fn move_away(
        &mut self,
        kept: Vec<(Name, Digest)>,
        gone: &mut Vec<(Name, Digest)>,
    ) -> Result<(), Fault> {
        let mut last = None;
        for (name, digest) in kept {
            if self.remote.is_over() {
                return Ok(());
            }
            let mut body = Arriving::to_compare();
            let taken = self.remote.take(&name, QUIET, &mut body).await?;
            gone.extend(last.take());
            match taken {
                Taken::Refused => {
                    self.refused(name);
                }
                Taken::Whole if body.finish().digest == digest => {
                    self.desk.crash_point("after-mv");
                    self.skipped.insert(name.clone());
                    last = Some((name, digest));
                }
                Taken::Whole | Taken::Surplus => {
                    return Err(Fault::Site(format!(
                        "{name} changed between RECV and MV, which a node's packages never do; nothing was deleted"
                    )));
                }
            }
        }
        Ok(())
    }
}
