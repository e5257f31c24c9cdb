//! Stopping in two phases: *draining* (accept nothing new, finish what is in flight), then *aborting* (drop the
//! rest) when the grace period is over or the operator asks a second time.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A handle to the stopping of a whole process; clones share one state.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    draining: CancellationToken,
    aborting: CancellationToken,
}

impl Shutdown {
    /// Nothing is stopping yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins draining at the first SIGTERM or SIGINT, and aborting at the second or `grace` after the first.
    /// Must be called inside a tokio runtime, before anything that should be stoppable is started.
    pub fn on_signals(&self, grace: Duration) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let this = self.clone();
        tokio::spawn(async move {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
                () = this.draining.cancelled() => "request",
            };
            tracing::info!(reason = name, "stopping: finishing what is in flight");
            this.begin();
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                () = tokio::time::sleep(grace) => {}
            }
            this.abort();
        });
        Ok(())
    }

    /// Begins draining.
    pub fn begin(&self) {
        self.draining.cancel();
    }

    /// Drops what is still in flight. Implies [`Shutdown::begin`].
    pub fn abort(&self) {
        self.draining.cancel();
        self.aborting.cancel();
    }

    /// Whether draining has begun.
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Completes when draining begins.
    pub async fn draining(&self) {
        self.draining.cancelled().await;
    }

    /// Completes when aborting begins.
    pub async fn aborting(&self) {
        self.aborting.cancelled().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn draining_comes_before_aborting_and_every_clone_hears_of_both() {
        let shutdown = Shutdown::new();
        let clone = shutdown.clone();
        assert!(!clone.is_draining());
        shutdown.begin();
        clone.draining().await;
        assert!(clone.is_draining() && !clone.aborting.is_cancelled());
        shutdown.abort();
        clone.aborting().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_to_stop_ends_in_aborting_after_the_grace_period() {
        let shutdown = Shutdown::new();
        shutdown.on_signals(Duration::from_secs(5)).unwrap();
        shutdown.begin();
        let start = tokio::time::Instant::now();
        shutdown.aborting().await;
        assert!(start.elapsed() >= Duration::from_secs(5));
    }
}
