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

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;
    use crate::body::Arriving;
    use crate::pull::listing::Listing;
    use crate::pull::remote::{Fault, Fetched, Taken};
    use tidegate_proto::Name;
    use tokio::time::Instant;

    /// A connection on which nothing has been said for as long as a stock server bears.
    struct Silent<'a> {
        since: Instant,
        over: bool,
        goodbyes: &'a Notify,
    }

    impl<'a> Silent<'a> {
        fn new(goodbyes: &'a Notify) -> Self {
            let since = Instant::now().checked_sub(PAUSE_MAX).expect("the machine has run for three seconds");
            Self { since, over: false, goodbyes }
        }
    }

    impl Remote for Silent<'_> {
        async fn list(&mut self, _: &mut Listing) -> Result<(), Fault> {
            unreachable!("nobody asks")
        }

        async fn fetch(&mut self, _: &Name, _: &mut Arriving) -> Result<Fetched, Fault> {
            unreachable!("nobody asks")
        }

        async fn take(&mut self, _: &Name, _: Duration, _: &mut Arriving) -> Result<Taken, Fault> {
            unreachable!("nobody asks")
        }

        async fn quit(&mut self) {
            self.over = true;
            self.goodbyes.notify_one();
        }

        fn hang_up(&mut self) {
            self.over = true;
        }

        fn is_over(&self) -> bool {
            self.over
        }

        fn silent_since(&self) -> Instant {
            self.since
        }
    }

    /// A job that takes until the others have left.
    struct Long<'a> {
        left: Cell<u32>,
        goodbyes: &'a Notify,
    }

    impl<R> Task<R> for Long<'_> {
        type Job = ();

        fn next(&self) -> Option<()> {
            self.left.replace(self.left.get().saturating_sub(1)).checked_sub(1).map(|_| ())
        }

        async fn work(&self, _: &mut R, (): ()) {
            self.goodbyes.notified().await;
        }
    }

    #[tokio::test]
    async fn who_has_nothing_to_do_for_too_long_says_quit_and_the_work_goes_on() {
        let goodbyes = Notify::new();
        let mut remotes = [Silent::new(&goodbyes), Silent::new(&goodbyes)];
        share(remotes.iter_mut(), &Long { left: Cell::new(1), goodbyes: &goodbyes }).await;
        assert_eq!(remotes.map(|remote| remote.over), [false, true]);
    }

    /// The first connection fails under its job, which the second takes up.
    struct Handed(RefCell<Vec<u32>>, Cell<u32>);

    impl Task<Silent<'_>> for Handed {
        type Job = u32;

        fn next(&self) -> Option<u32> {
            self.0.borrow_mut().pop()
        }

        async fn work(&self, remote: &mut Silent<'_>, job: u32) {
            tokio::task::yield_now().await;
            if job == 0 {
                remote.over = true;
                self.0.borrow_mut().push(1);
            } else {
                self.1.set(self.1.get() + job);
            }
        }
    }

    #[tokio::test]
    async fn a_job_that_comes_back_is_given_to_another() {
        let goodbyes = Notify::new();
        let mut remotes = [Silent::new(&goodbyes), Silent::new(&goodbyes)];
        // They have time to wait for each other.
        remotes.iter_mut().for_each(|remote| remote.since = Instant::now());
        let task = Handed(RefCell::new(vec![0]), Cell::new(0));
        share(remotes.iter_mut(), &task).await;
        assert_eq!(task.1.get(), 1, "it was done");
        assert_eq!(remotes.map(|remote| remote.over), [true, false]);
    }
}
