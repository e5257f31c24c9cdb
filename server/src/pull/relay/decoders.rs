//! Decoders are the largest piece of memory that a site can ask for (a window of 1 MiB and its tables), so there are few
//! of them, and every site gets its turn: who asks first gets one first, and who holds one while others wait is to
//! let it go.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Decoders in use at once. A site whose turn has not come is not read from.
const DECODERS: usize = 16;

/// How long a node may take to end its compressed frame when it is asked to, and gets no more credit, because others wait.
/// On a slow line that comes behind what was on its way: as long as so much comes in that time it gets as long again, up
/// to the maximum. Then its connection is closed; it may come again, after a pause and behind the others.
pub(super) const LET_GO: Duration = Duration::from_secs(5);
pub(super) const LET_GO_BYTES: u64 = 64 * 1024;
pub(super) const LET_GO_MAX: Duration = Duration::from_secs(60);

/// The right to one decoder.
pub(super) type Permit = OwnedSemaphorePermit;

/// All of them.
#[derive(Debug)]
pub(super) struct Decoders {
    permits: Arc<Semaphore>,
    waiting: watch::Sender<usize>,
}

impl Default for Decoders {
    fn default() -> Self {
        Self::new(DECODERS)
    }
}

impl Decoders {
    pub(super) fn new(decoders: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(decoders)), waiting: watch::Sender::new(0) }
    }

    /// Waits for one. The place in the queue is that of the first poll, and is lost when the future is dropped.
    pub(super) async fn turn(self: Arc<Self>) -> Permit {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return permit;
        }
        let _waiting = Waiting::new(&self.waiting);
        Arc::clone(&self.permits).acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Whether somebody waits.
    pub(super) fn is_wanted(&self) -> bool {
        *self.waiting.borrow() > 0
    }

    /// Completes when somebody waits.
    pub(super) async fn wanted(&self) {
        let mut waiting = self.waiting.subscribe();
        // The sender lives as long as `self`.
        let _ = waiting.wait_for(|waiting| *waiting > 0).await;
    }
}

/// Somebody who waits.
struct Waiting<'a>(&'a watch::Sender<usize>);

impl<'a> Waiting<'a> {
    fn new(waiting: &'a watch::Sender<usize>) -> Self {
        waiting.send_modify(|waiting| *waiting += 1);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| *waiting -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::Poll;

    use super::*;

    /// Polls once, and tells what came of it.
    async fn poll_once<T>(mut future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    #[tokio::test]
    async fn who_asks_first_gets_one_first_and_holders_hear_of_it() {
        let decoders = Arc::new(Decoders::new(1));
        let held = Arc::clone(&decoders).turn().await;
        let mut wanted = Box::pin(decoders.wanted());
        assert!(poll_once(wanted.as_mut()).await.is_none(), "nobody waits");
        let mut first = Box::pin(Arc::clone(&decoders).turn());
        let mut second = Box::pin(Arc::clone(&decoders).turn());
        assert!(poll_once(first.as_mut()).await.is_none());
        assert!(poll_once(second.as_mut()).await.is_none());
        assert!(poll_once(wanted.as_mut()).await.is_some());
        drop(held);
        assert!(poll_once(second.as_mut()).await.is_none(), "it is not the second's turn");
        let held = poll_once(first.as_mut()).await.expect("the first's turn");
        drop(held);
        let held = poll_once(second.as_mut()).await.expect("the second's turn");
        drop((first, second));
        let mut wanted = Box::pin(decoders.wanted());
        assert!(poll_once(wanted.as_mut()).await.is_none(), "nobody waits any more");
        drop(held);
    }

    #[tokio::test]
    async fn who_gives_up_waiting_is_not_waited_for() {
        let decoders = Arc::new(Decoders::new(1));
        let held = Arc::clone(&decoders).turn().await;
        let mut given_up = Box::pin(Arc::clone(&decoders).turn());
        assert!(poll_once(given_up.as_mut()).await.is_none());
        drop(given_up);
        drop(held);
        let mut next = Box::pin(Arc::clone(&decoders).turn());
        assert!(poll_once(next.as_mut()).await.is_some());
    }
}
