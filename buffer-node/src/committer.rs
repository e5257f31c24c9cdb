//! The one thread that makes packages durable and deletes them.
//!
//! Many senders share one round of fsyncs: the thread takes whatever waits, up to [`BATCH_MAX`], and answers all
//! of it. While one batch is on its way to the disk the next one gathers, so a lone sender never waits for company.
//! Sessions wait for their answer without holding a runtime thread; a full queue makes them wait too.

use std::io;
use std::thread::JoinHandle;

use tidegate_spool::{CommitError, Draft, Lease, Spool, Stored};
use tokio::sync::{mpsc, oneshot};

use crate::memory::Claim;

/// The most packages in one batch. The rest waits for the next one.
const BATCH_MAX: usize = 512;

/// The most jobs that wait. Beyond it sessions wait before they may queue.
const QUEUE_MAX: usize = 2 * BATCH_MAX;

/// An upload that is whole.
pub(crate) struct Package {
    pub(crate) draft: Draft,
    /// The memory that the draft takes until it is stored.
    pub(crate) memory: Claim,
    pub(crate) name: Vec<u8>,
}

/// Why a package is not stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error("the thread that stores packages is gone; restart the node")]
    Gone,
}

enum Job {
    Commit(Package, oneshot::Sender<Result<Stored, StoreError>>),
    Delete(Lease, oneshot::Sender<Result<(), CommitError>>),
}

/// The way to the committing thread. The thread ends when the last of these is dropped and its queue is empty.
#[derive(Clone)]
pub(crate) struct Committer {
    queue: mpsc::Sender<Job>,
}

impl Committer {
    /// Starts the thread.
    pub(crate) fn start(spool: Spool) -> io::Result<(Self, JoinHandle<()>)> {
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        let thread =
            std::thread::Builder::new().name("committer".into()).spawn(move || work(&spool, jobs))?;
        Ok((Self { queue }, thread))
    }

    /// Stores a package; it is durable when the answer is here.
    pub(crate) async fn store(&self, package: Package) -> Result<Stored, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.queue.send(Job::Commit(package, answer)).await.map_err(|_| StoreError::Gone)?;
        answered.await.unwrap_or(Err(StoreError::Gone))
    }

    /// Deletes a package; that it was there is remembered before it goes.
    pub(crate) async fn delete(&self, lease: Lease) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        self.queue.send(Job::Delete(lease, answer)).await.map_err(|_| StoreError::Gone)?;
        Ok(answered.await.map_err(|_| StoreError::Gone)??)
    }
}

fn work(spool: &Spool, mut jobs: mpsc::Receiver<Job>) {
    while let Some(first) = jobs.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH_MAX
            && let Ok(job) = jobs.try_recv()
        {
            batch.push(job);
        }
        run(spool, batch);
    }
}

/// A session that no longer waits for its answer is no error: its answers go nowhere.
fn run(spool: &Spool, batch: Vec<Job>) {
    let (mut drafts, mut memory, mut commit_answers) = (Vec::new(), Vec::new(), Vec::new());
    let (mut leases, mut delete_answers) = (Vec::new(), Vec::new());
    for job in batch {
        match job {
            Job::Commit(package, answer) => {
                drafts.push((package.draft, package.name));
                memory.push(package.memory);
                commit_answers.push(answer);
            }
            Job::Delete(lease, answer) => {
                leases.push(lease);
                delete_answers.push(answer);
            }
        }
    }
    if !drafts.is_empty() {
        let results = spool.commit(drafts);
        drop(memory);
        for (answer, result) in commit_answers.into_iter().zip(results) {
            drop(answer.send(result.map_err(StoreError::from)));
        }
    }
    if !leases.is_empty() {
        for (answer, result) in delete_answers.into_iter().zip(spool.delete(leases)) {
            drop(answer.send(result));
        }
    }
}
