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
