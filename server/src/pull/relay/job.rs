//! What a connection has to do in the pipeline, as one piece of work: a batch, and what the node has said beside it.

use tidegate_proto::relay::{LossRecord, Number};

use super::incoming::Batch;
use crate::pipeline::{Pipeline, Trouble};

/// What is to be done, in this order. Of what fails nothing is acknowledged, and it comes again.
#[derive(Debug, Default)]
pub(super) struct Job {
    pub(super) site: String,
    /// The node's first words: what it holds that is oldest.
    pub(super) welcomed: Option<Option<Number>>,
    pub(super) losses: Vec<LossRecord>,
    pub(super) batch: Batch,
    /// Everything that the node had has come.
    pub(super) drained: bool,
    pub(super) deleted: Option<Number>,
    /// Whether to look for room, even without a batch.
    pub(super) room: bool,
    /// Whether what was noted of the site is news, and to be written now.
    pub(super) news: bool,
    /// Whether to deliver what an operator took out of quarantine, and what could not be before.
    pub(super) resume: bool,
}

/// What became of it.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// The loss records up to this one are durable.
    pub(super) losses: Option<Number>,
    /// The packages up to this one are delivered.
    pub(super) upto: Option<Number>,
    /// Whether that is the whole batch.
    pub(super) whole: bool,
    /// [`Job::drained`] is recorded.
    pub(super) drained: bool,
    /// [`Job::deleted`] is noted, and still to be written.
    pub(super) deleted: bool,
    /// The batch, without its packages.
    pub(super) batch: Batch,
    /// Whether there is room in the pipeline, if that was looked for; else why not.
    pub(super) full: Option<Option<String>>,
    /// What was not handed over for want of it.
    pub(super) refused: Option<Batch>,
}

impl Job {
    pub(super) fn is_empty(&self) -> bool {
        let said = self.welcomed.is_some() || self.deleted.is_some() || self.drained;
        !said && !self.room && !self.news && !self.resume && self.losses.is_empty() && self.batch.is_empty()
    }

    /// Does it. Blocks.
    pub(super) fn work(self, pipeline: &Pipeline) -> Result<Done, Trouble> {
        let Self { site, mut batch, .. } = self;
        let mut done = Done { whole: true, ..Done::default() };
        if let Some(oldest) = self.welcomed {
            pipeline.relay_welcomed(&site, oldest)?;
        }
        if self.resume {
            pipeline.resume(&site)?;
        }
        if self.news {
            pipeline.flush()?;
        }
        if let Some(last) = self.losses.last() {
            pipeline.relay_losses(&site, &self.losses)?;
            done.losses = Some(last.number);
        }
        if let Some(upto) = self.deleted {
            pipeline.relay_deleted(&site, upto)?;
            done.deleted = true;
        }
        if self.room || !batch.is_empty() {
            done.full = Some(room(pipeline, &site)?);
        }
        if let Some(Some(_)) = &done.full {
            done.refused = Some(batch);
            return Ok(done);
        }
        if let Some(last) = batch.last() {
            done.upto = pipeline.relayed(&site, batch.packages())?;
            done.whole = done.upto == Some(last);
        }
        if self.drained && done.whole {
            pipeline.relay_drained(&site)?;
            done.drained = true;
        }
        done.batch = batch;
        Ok(done)
    }
}

/// Whether the pipeline takes more of this site: why not, if it does not.
pub(super) fn room(pipeline: &Pipeline, site: &str) -> Result<Option<String>, Trouble> {
    match pipeline.room_for(site) {
        Ok(()) => Ok(None),
        Err(Trouble::Full(why)) => Ok(Some(why)),
        Err(trouble) => Err(trouble),
    }
}
