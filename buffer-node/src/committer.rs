//! The one thread that makes packages durable and deletes them.
//!
//! Many senders share one round of fsyncs: the thread takes whatever waits, up to [`BATCH_MAX`], and answers all
//! of it. While one batch is on its way to the disk the next one gathers, so a lone sender never waits for company.
//! Sessions wait for their answer without holding a runtime thread; a full queue makes them wait too.
//!
//! A spool that stores nothing more, and a crash of the thread, end the node ([`Fatal`]).

use std::io;
use std::thread::JoinHandle;

use tidegate_spool::{CommitError, Draft, Lease, Spool, Stored};
use tokio::sync::{mpsc, oneshot};

use crate::fatal::Fatal;
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
    Commit(Box<Package>, oneshot::Sender<Result<Stored, StoreError>>),
    Delete(Lease, oneshot::Sender<Result<(), CommitError>>),
}

/// The way to the committing thread. The thread ends when the last of these is dropped and its queue is empty.
#[derive(Clone)]
pub(crate) struct Committer {
    queue: mpsc::Sender<Job>,
}

impl Committer {
    /// Starts the thread.
    pub(crate) fn start(spool: Spool, fatal: Fatal) -> io::Result<(Self, JoinHandle<()>)> {
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        let thread = std::thread::Builder::new().name("committer".into()).spawn(move || {
            let _watched = Watched(&fatal);
            work(&spool, jobs, &fatal);
        })?;
        Ok((Self { queue }, thread))
    }

    /// Stores a package; it is durable when the answer is here.
    pub(crate) async fn store(&self, package: Package) -> Result<Stored, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.queue.send(Job::Commit(Box::new(package), answer)).await.map_err(|_| StoreError::Gone)?;
        answered.await.unwrap_or(Err(StoreError::Gone))
    }

    /// Deletes a package; that it was there is remembered before it goes.
    pub(crate) async fn delete(&self, lease: Lease) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        self.queue.send(Job::Delete(lease, answer)).await.map_err(|_| StoreError::Gone)?;
        Ok(answered.await.map_err(|_| StoreError::Gone)??)
    }
}

/// Declares the crash of the thread that holds it.
struct Watched<'a>(&'a Fatal);

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.declare("the thread that stores packages has crashed; see the log above");
        }
    }
}

fn work(spool: &Spool, mut jobs: mpsc::Receiver<Job>, fatal: &Fatal) {
    while let Some(first) = jobs.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH_MAX
            && let Ok(job) = jobs.try_recv()
        {
            batch.push(job);
        }
        if run(spool, batch) == Disk::Failed
            && let Some(reason) = spool.usage().poisoned
        {
            fatal.declare(format_args!("the spool stores nothing more since a write failed: {reason}"));
        }
    }
}

/// Whether the disk did as it was told.
#[derive(PartialEq, Eq)]
enum Disk {
    Fine,
    Failed,
}

/// A session that no longer waits for its answer is no error: its answers go nowhere.
fn run(spool: &Spool, batch: Vec<Job>) -> Disk {
    let (mut drafts, mut memory, mut commit_answers) = (Vec::new(), Vec::new(), Vec::new());
    let (mut leases, mut delete_answers) = (Vec::new(), Vec::new());
    for job in batch {
        match job {
            Job::Commit(package, answer) => {
                let Package { draft, memory: claim, name } = *package;
                drafts.push((draft, name));
                memory.push(claim);
                commit_answers.push(answer);
            }
            Job::Delete(lease, answer) => {
                leases.push(lease);
                delete_answers.push(answer);
            }
        }
    }
    let mut disk = Disk::Fine;
    let mut look_at = |error: Option<&CommitError>| {
        if matches!(error, Some(CommitError::Disk(_) | CommitError::Poisoned { .. })) {
            disk = Disk::Failed;
        }
    };
    if !drafts.is_empty() {
        let results = spool.commit(drafts);
        drop(memory);
        for (answer, result) in commit_answers.into_iter().zip(results) {
            look_at(result.as_ref().err());
            drop(answer.send(result.map_err(StoreError::from)));
        }
    }
    if !leases.is_empty() {
        for (answer, result) in delete_answers.into_iter().zip(spool.delete(leases)) {
            look_at(result.as_ref().err());
            drop(answer.send(result));
        }
    }
    disk
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_of_the_thread_ends_the_node_and_its_regular_end_does_not() {
        let fatal = Fatal::default();
        std::thread::scope(|scope| {
            scope.spawn(|| drop(Watched(&fatal))).join().expect("ends");
            assert_eq!(fatal.reason(), None);
            let crash = || {
                let _watched = Watched(&fatal);
                panic!("on purpose");
            };
            assert!(scope.spawn(crash).join().is_err());
        });
        assert!(fatal.reason().is_some_and(|reason| reason.contains("has crashed")));
    }
}
