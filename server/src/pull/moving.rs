//! `pull_mode = "move"`: `MV` alone, as stock sync servers pull. One transfer a file instead of two, and what a
//! stock site deletes while the connection breaks is lost; that is what the operator asked for.

use std::time::SystemTime;

use super::remote::{Fault, Remote, Taken, Way};
use super::visit::{Ended, Next, Visit};
use crate::body::Arriving;
use crate::names;
use crate::pipeline::Received;

impl<W: Way> Visit<'_, W> {
    /// Moves until the site has nothing more. Each file is in the pipeline before the next is asked for.
    pub(super) async fn pull_moving(&mut self) -> Result<Ended, Fault> {
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
            for name in names {
                if let Next::Break(ended) = self.next().await? {
                    return Ok(ended);
                }
                let mut body = Arriving::new(self.desk.staging());
                let taken = self.remote.take(&name, self.site.sync.quiet, &mut body).await;
                if let Err(Fault::Site(_)) = taken
                    && body.size() > 0
                {
                    tracing::warn!(site = self.site.name, package = %name, "cut while it was moved: perhaps lost");
                }
                if taken? == Taken::Refused {
                    self.refused(name);
                    continue;
                }
                self.skipped.insert(name.clone());
                if body.size() == 0 {
                    continue;
                }
                self.desk.crash_point("after-mv");
                let modified = names::time_in(&name, SystemTime::now()).unwrap_or(listed);
                let site = self.site.name.clone();
                let received = vec![Received { name, body: body.finish(), modified }];
                let kept = self.disk(move |pipeline| pipeline.accept(&site, received)).await?;
                self.desk.learned(&self.site.name, kept.iter().map(|kept| kept.name.as_bytes()));
                if kept.is_empty() {
                    // It was damaged on this disk: after another word from us a node would delete it.
                    self.remote.hang_up();
                }
                let new = kept.iter().filter(|kept| !kept.is_repeat());
                new.for_each(|kept| self.tally.received(kept.size));
            }
        }
    }
}
