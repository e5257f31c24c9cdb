//! Deletes what a puller has acknowledged, batch by batch, beside everything else the session does.
//!
//! A batch that is on its way goes on when the session ends, and so does what was acknowledged before: the puller has it,
//! and sending it again would be work for nothing.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tidegate_spool::sabotage::{self, Switch};
use tidegate_spool::{Id, Lease};
use tokio::task::JoinHandle;

use super::pullers::Hold;
use crate::committer::StoreError;
use crate::node::Node;

/// Packages deleted as one batch. The rest waits for the next: between two of them the puller hears how far it got.
const BATCH_MAX: usize = 1024;

/// How long [`Switch::DeletedEarly`] waits: a test kills the node meanwhile.
const LATE: Duration = Duration::from_secs(5);

/// The acknowledged packages of one stream.
pub(super) struct Deletions {
    node: Arc<Node>,
    hold: Hold,
    waiting: VecDeque<Lease>,
    /// Up to where all is acknowledged: at least the last that waits.
    acknowledged: Option<Id>,
    running: Option<(Id, JoinHandle<Result<(), StoreError>>)>,
}

impl Deletions {
    pub(super) fn new(node: Arc<Node>, hold: Hold) -> Self {
        Self { node, hold, waiting: VecDeque::new(), acknowledged: None, running: None }
    }

    /// Takes what a puller has acknowledged, and begins with it.
    pub(super) fn add(&mut self, leases: impl Iterator<Item = Lease>, upto: Id) {
        self.waiting.extend(leases);
        self.acknowledged = Some(upto);
        self.go_on();
    }

    /// Acknowledged packages that wait, those on their way left out.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Nothing is on its way, or waits.
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_none()
    }

    /// Waits for the batch that is on its way, begins the next, and says up to where everything is gone. Never
    /// completes when nothing is on its way. May be dropped and called again.
    pub(super) async fn done(&mut self) -> Result<Id, StoreError> {
        let Some((upto, running)) = &mut self.running else { return pending().await };
        let upto = *upto;
        let deleted = running.await.unwrap_or(Err(StoreError::Gone));
        self.running = None;
        if deleted.is_ok() {
            self.go_on();
        } else {
            // Nothing of it may be said to be gone, so nothing behind it may either.
            self.waiting.clear();
            self.acknowledged = None;
        }
        deleted.map(|()| upto)
    }

    fn go_on(&mut self) {
        if self.running.is_some() {
            return;
        }
        let Some(acknowledged) = self.acknowledged else { return };
        let batch: Vec<Lease> = self.waiting.drain(..self.waiting.len().min(BATCH_MAX)).collect();
        let upto = match batch.last() {
            Some(last) if !self.waiting.is_empty() => last.package().id,
            // What was acknowledged behind the last package was only skipped.
            _ => acknowledged,
        };
        if self.waiting.is_empty() {
            self.acknowledged = None;
        }
        let (node, hold) = (self.node.clone(), self.hold.clone());
        self.running = Some((
            upto,
            tokio::spawn(async move {
                if sabotage::breaks(Switch::DeletedEarly) {
                    tokio::spawn(delete_late(node, batch));
                    return Ok(());
                }
                let (packages, bytes) = (batch.len(), batch.iter().map(|lease| lease.package().size).sum());
                if !batch.is_empty() {
                    node.committer.delete_all(batch).await?;
                    node.totals.deleted(packages as u64, bytes);
                }
                drop(hold);
                Ok(())
            }),
        ));
    }
}

/// [`Switch::DeletedEarly`].
async fn delete_late(node: Arc<Node>, batch: Vec<Lease>) {
    tokio::time::sleep(LATE).await;
    if let Err(error) = node.committer.delete_all(batch).await {
        tracing::error!(%error, "packages that were said to be gone could not be deleted");
    }
}
