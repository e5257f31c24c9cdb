//! Pulling a Tidegate node: it keeps a package, unchanged, until the command after its `MV`. So a package is
//! delivered first, and deleted there when it is in the pipeline.

use std::time::{Duration, SystemTime};

use super::remote::{Fault, Remote, Taken};
use super::visit::{Ended, Next, Visit};
use crate::body::Arriving;
use crate::pipeline::Kept;

/// A node's packages do not change: nothing can come after the announced bytes.
const QUIET: Duration = Duration::ZERO;

/// Between the modification times of two packages of one listing.
const TIME_STEP: Duration = Duration::from_micros(1);

impl<R: Remote> Visit<'_, R> {
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
            let mut names = names.into_iter().zip(times).peekable();
            while names.peek().is_some() {
                if let Next::Break(ended) = self.next().await? {
                    return Ok(ended);
                }
                let batch = self.receive(&mut names).await?;
                if !batch.is_empty() {
                    let site = self.site.name.clone();
                    let kept = self.disk(move |pipeline| pipeline.accept(&site, batch)).await?;
                    let new = kept.iter().filter(|kept| !kept.is_repeat());
                    new.for_each(|kept| self.tally.received(kept.size));
                    self.delete(kept).await?;
                }
            }
        }
    }

    /// Moves a delivered batch away. Only our next command makes the node delete: after a body that differs from
    /// what was delivered there must be none.
    async fn delete(&mut self, kept: Vec<Kept>) -> Result<(), Fault> {
        for Kept { name, digest, .. } in kept {
            if self.remote.is_over() {
                return Ok(());
            }
            let mut body = Arriving::to_compare();
            match self.remote.take(&name, QUIET, &mut body).await? {
                Taken::Refused => {
                    self.refused(name);
                }
                Taken::Whole if body.finish().digest == digest => {
                    self.desk.crash_point("after-mv");
                    self.skipped.insert(name);
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
