//! Work on one site that several connections share.
//!
//! Constraints, before the design:
//! - A connection carries one request at a time; which of them carries which is nobody's business, so jobs are handed
//!   out in order and come back in any.
//! - A stock server hangs up after 4 s of silence: a connection that waits for the others says `QUIT` before that.
//! - What the fault of one connection leaves undone goes to the others; the task decides how often.
//! - All connections are driven by the task of their site: nothing is spawned, so dropping it drops everything.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep_until;

use super::remote::Remote;

/// The longest pause between two commands: a stock server hangs up after 4 s of silence. Beyond it we say `QUIT`.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(3);

/// Work in pieces.
pub(super) trait Task<R> {
    type Job;

    /// The next piece, if there is one now. One that is being worked on may come back.
    fn next(&self) -> Option<Self::Job>;

    /// Does a piece of it.
    async fn work(&self, remote: &mut R, job: Self::Job);
}

/// Works on a task with all of these connections until nothing of it is left, or none of them.
pub(super) async fn share<'a, R: Remote + 'a, T: Task<R>>(
    remotes: impl Iterator<Item = &'a mut R>,
    task: &T,
) {
    let (busy, news) = (AtomicUsize::new(0), Notify::new());
    all(remotes.map(|remote| one(remote, task, &busy, &news))).await;
}

/// What one connection does.
async fn one<R: Remote, T: Task<R>>(remote: &mut R, task: &T, busy: &AtomicUsize, news: &Notify) {
    while !remote.is_over() {
        // Listens before it looks, lest a piece come back in between.
        let heard = news.notified();
        if let Some(job) = task.next() {
            busy.fetch_add(1, Ordering::Relaxed);
            task.work(remote, job).await;
            busy.fetch_sub(1, Ordering::Relaxed);
            news.notify_waiters();
            continue;
        }
        if busy.load(Ordering::Relaxed) == 0 {
            return;
        }
        tokio::select! {
            () = heard => {}
            () = sleep_until(remote.silent_since() + PAUSE_MAX) => remote.quit().await,
        }
    }
}

/// Waits for all of them.
pub(super) async fn all<F: Future<Output = ()>>(futures: impl Iterator<Item = F>) {
    let mut waiting: Vec<Pin<Box<F>>> = futures.map(Box::pin).collect();
    poll_fn(|cx| {
        waiting.retain_mut(|future| future.as_mut().poll(cx).is_pending());
        if waiting.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
