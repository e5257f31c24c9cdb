//! The threads that make packages durable and that delete them: one each, since the spool does both at a time.
//!
//! Many senders share one round of fsyncs: the committing thread takes whatever waits, up to [`BATCH_MAX`], and answers
//! all of it. While one batch is on its way to the disk the next one gathers, so a lone sender never waits for company.
//! Deletions are joined likewise, by the other thread: a puller that drains a backlog keeps no sender waiting for its
//! answer. Sessions wait for their answer without holding a runtime thread; a full queue makes them wait too.
//!
//! A spool that stores nothing more, and a crash of a thread, end the node ([`Fatal`]).

use std::io;
use std::thread::JoinHandle;

use tidegate_spool::{CommitError, Draft, Lease, Spool, Stored};
use tokio::sync::{mpsc, oneshot, watch};

use crate::fatal::Fatal;
use crate::memory::Claim;

/// The most packages in one batch. The rest waits for the next one. Only a single [`Committer::delete_all`] of more is
/// one batch all the same.
const BATCH_MAX: usize = 512;

/// The most jobs of each kind that wait. Beyond it sessions wait before they may queue.
const QUEUE_MAX: usize = 2 * BATCH_MAX;

/// An upload that is whole.
pub(crate) struct Package {
    pub(crate) draft: Draft,
    /// The memory that the draft takes until it is stored.
    pub(crate) memory: Claim,
    /// The one that the draft began with, unless it goes to the shared files.
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

struct Commit(Package, oneshot::Sender<Result<Stored, StoreError>>);

struct Delete(Vec<Lease>, oneshot::Sender<Result<(), CommitError>>);

/// Tells that there are new packages: a number that grows.
#[derive(Clone)]
pub(crate) struct News(watch::Sender<u64>);

impl News {
    fn new() -> Self {
        Self(watch::Sender::new(0))
    }

    /// There is at least one more than before.
    pub(crate) fn tell(&self) {
        self.0.send_modify(|number| *number += 1);
    }
}

/// The way to the threads. They end when the last of these is dropped and their queues are empty.
#[derive(Clone)]
pub(crate) struct Committer {
    commits: mpsc::Sender<Commit>,
    deletions: mpsc::Sender<Delete>,
    news: News,
}

impl Committer {
    /// Starts the threads. The one to join ends last.
    pub(crate) fn start(spool: Spool, fatal: Fatal) -> io::Result<(Self, JoinHandle<()>)> {
        let news = News::new();
        let (commits, to_commit) = mpsc::channel(QUEUE_MAX);
        let (deletions, to_delete) = mpsc::channel(QUEUE_MAX);
        let remover = {
            let (spool, fatal) = (spool.clone(), fatal.clone());
            std::thread::Builder::new().name("remover".into()).spawn(move || {
                let _watched = Watched(&fatal);
                delete_all(&spool, to_delete, &fatal);
            })?
        };
        let teller = news.clone();
        let thread = std::thread::Builder::new().name("committer".into()).spawn(move || {
            let watched = Watched(&fatal);
            commit_all(&spool, to_commit, &teller, &fatal);
            drop(watched);
            // A crash has been declared by the thread itself.
            let _ = remover.join();
        })?;
        Ok((Self { commits, deletions, news }, thread))
    }

    /// Stores a package; it is durable when the answer is here.
    pub(crate) async fn store(&self, package: Package) -> Result<Stored, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.commits.send(Commit(package, answer)).await.map_err(|_| StoreError::Gone)?;
        answered.await.unwrap_or(Err(StoreError::Gone))
    }

    /// Deletes a package; that it was there is remembered before it goes.
    pub(crate) async fn delete(&self, lease: Lease) -> Result<(), StoreError> {
        self.delete_all(vec![lease]).await
    }

    /// Deletes packages, all in one batch; they are gone durably when the answer is here. After an error some of them may
    /// be gone: the others are stored as before, and no longer claimed.
    pub(crate) async fn delete_all(&self, leases: Vec<Lease>) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        self.deletions.send(Delete(leases, answer)).await.map_err(|_| StoreError::Gone)?;
        Ok(answered.await.map_err(|_| StoreError::Gone)??)
    }

    /// Changes whenever packages were stored: by senders, or from dead letters.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.news.0.subscribe()
    }

    /// For whoever stores packages without this.
    pub(crate) fn teller(&self) -> News {
        self.news.clone()
    }
}

/// Declares the crash of the thread that holds it.
struct Watched<'a>(&'a Fatal);

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.declare("a thread that stores or deletes packages has crashed; see the log above");
        }
    }
}

/// What waits, at least one; `None` at the end. `weight` of all but the last is below [`BATCH_MAX`].
fn gather<T>(jobs: &mut mpsc::Receiver<T>, weight: impl Fn(&T) -> usize) -> Option<Vec<T>> {
    let mut batch = vec![jobs.blocking_recv()?];
    let mut gathered = weight(&batch[0]);
    while gathered < BATCH_MAX
        && let Ok(job) = jobs.try_recv()
    {
        gathered += weight(&job);
        batch.push(job);
    }
    Some(batch)
}

/// A session that no longer waits for its answer is no error: its answers go nowhere.
fn commit_all(spool: &Spool, mut jobs: mpsc::Receiver<Commit>, news: &News, fatal: &Fatal) {
    while let Some(batch) = gather(&mut jobs, |_| 1) {
        let (mut drafts, mut memory, mut answers) = (Vec::new(), Vec::new(), Vec::new());
        for Commit(Package { draft, memory: claim, .. }, answer) in batch {
            drafts.push(draft);
            memory.push(claim);
            answers.push(answer);
        }
        let results = spool.commit(drafts);
        drop(memory);
        if results.iter().any(|result| matches!(result, Ok(Stored::New { .. }))) {
            news.tell();
        }
        look_at(spool, results.iter().filter_map(|result| result.as_ref().err()), fatal);
        for (answer, result) in answers.into_iter().zip(results) {
            drop(answer.send(result.map_err(StoreError::from)));
        }
    }
}

/// The same for deletions.
fn delete_all(spool: &Spool, mut jobs: mpsc::Receiver<Delete>, fatal: &Fatal) {
    while let Some(batch) = gather(&mut jobs, |Delete(leases, _)| leases.len()) {
        let (mut leases, mut answers) = (Vec::new(), Vec::new());
        for Delete(some, answer) in batch {
            answers.push((some.len(), answer));
            leases.extend(some);
        }
        let results = spool.delete(leases);
        look_at(spool, results.iter().filter_map(|result| result.as_ref().err()), fatal);
        let mut results = results.into_iter();
        for (count, answer) in answers {
            // All of its results are taken, also behind an error.
            let of_job: Vec<_> = results.by_ref().take(count).collect();
            drop(answer.send(of_job.into_iter().collect()));
        }
    }
}

/// Ends the node when the disk did not do as it was told, and the spool stores nothing more.
fn look_at<'a>(spool: &Spool, mut errors: impl Iterator<Item = &'a CommitError>, fatal: &Fatal) {
    let of_disk = |error: &CommitError| matches!(error, CommitError::Disk(_) | CommitError::Poisoned { .. });
    if errors.any(of_disk)
        && let Some(reason) = spool.poisoned()
    {
        fatal.declare(format_args!("the spool stores nothing more since a write failed: {reason}"));
    }
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

    fn spool(root: &std::path::Path) -> Spool {
        let settings = tidegate_spool::Settings {
            root: root.join("spool"),
            max_bytes: u64::MAX,
            max_files: u64::MAX,
            reserve_bytes: 0,
            duplicates: tidegate_spool::Duplicates::default(),
            sync_threads: 2,
            overflow: tidegate_spool::Overflow::default(),
        };
        Spool::open(settings).expect("it opens").0
    }

    fn package(spool: &Spool, name: &str) -> Package {
        let mut draft = spool.begin(name.as_bytes(), 1).expect("there is room");
        draft.write(b"x").expect("it is in memory");
        let memory = Claim::nothing(&crate::memory::Budget::new(0));
        Package { draft, memory, name: name.into() }
    }

    fn leases<const N: usize>(spool: &Spool, names: [&str; N]) -> Vec<Lease> {
        names.map(|name| spool.lease(name.as_bytes()).expect("it is there")).into()
    }

    #[tokio::test]
    async fn deletions_that_wait_together_are_one_batch_and_each_hears_of_its_own() {
        let root = tempfile::tempdir().expect("a directory");
        let spool = spool(root.path());
        let (committer, thread) = Committer::start(spool.clone(), Fatal::default()).expect("it starts");
        let names = ["a", "b", "c", "d"];
        for name in names {
            committer.store(package(&spool, name)).await.expect("it is stored");
        }
        let [claims, alone] = [leases(&spool, ["a", "c"]), leases(&spool, ["d"])];
        let (of_two, of_one, of_none, stored) = tokio::join!(
            committer.delete_all(claims),
            committer.delete_all(alone),
            committer.delete_all(vec![]),
            committer.store(package(&spool, "e")),
        );
        assert!(of_two.is_ok() && of_one.is_ok() && of_none.is_ok() && stored.is_ok());
        let listing = spool.listing();
        assert_eq!(listing.names().collect::<Vec<_>>(), [b"b", b"e"]);
        drop((spool, listing));
        drop(committer);
        thread.join().expect("both threads end");
        assert!(self::spool(root.path()).find(b"a").is_none(), "nobody has it open any more");
    }

    #[tokio::test]
    async fn news_are_of_packages_that_were_stored() {
        let root = tempfile::tempdir().expect("a directory");
        let spool = spool(root.path());
        let (committer, _thread) = Committer::start(spool.clone(), Fatal::default()).expect("it starts");
        let mut news = committer.news();
        committer.store(package(&spool, "a")).await.expect("it is stored");
        assert!(news.has_changed().expect("it lives"));
        news.mark_unchanged();
        assert_eq!(committer.store(package(&spool, "a")).await.expect("it is there"), Stored::Repeat);
        committer.delete_all(leases(&spool, ["a"])).await.expect("it is deleted");
        assert!(!news.has_changed().expect("it lives"));
        committer.teller().tell();
        assert!(news.has_changed().expect("it lives"));
    }
}
