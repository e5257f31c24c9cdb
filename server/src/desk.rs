//! Where the async side hands work to the [`Pipeline`], which blocks.
//!
//! Only this work is bounded in concurrency, never the waiting for a site: a silent site holds no permit, so it
//! delays nobody.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::board::Board;
use crate::pipeline::{Pipeline, Trouble};
use crate::pull::RelayShared;
use crate::shared::Shared;
use crate::staging::Staging;

/// The pipeline, for many sites at once.
#[derive(Debug)]
pub(crate) struct Desk {
    pipeline: Arc<Pipeline>,
    permits: Semaphore,
    relay: RelayShared,
    /// Shared files, if they are on.
    shared: Option<Arc<Shared>>,
}

impl Desk {
    pub(crate) fn new(pipeline: Pipeline, concurrency: usize) -> Self {
        Self {
            pipeline: Arc::new(pipeline),
            permits: Semaphore::new(concurrency),
            relay: RelayShared::default(),
            shared: None,
        }
    }

    /// The same with shared files.
    pub(crate) fn with_shared(self, shared: Option<Arc<Shared>>) -> Self {
        Self { shared, ..self }
    }

    /// Whether a site has them on.
    pub(crate) fn shares(&self, site: &str) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.bells().has(site))
    }

    /// Shared files, if a site has them on.
    pub(crate) fn shared(&self) -> Option<&Arc<Shared>> {
        self.shared.as_ref()
    }

    /// Runs work on a blocking thread when it is its turn.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Pipeline) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, Trouble> {
        let _permit = self.permits.acquire().await.expect("the semaphore is never closed");
        let pipeline = Arc::clone(&self.pipeline);
        match tokio::task::spawn_blocking(move || work(&pipeline)).await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Trouble::Failed("the server is stopping".into())),
            },
        }
    }

    pub(crate) fn staging(&self) -> Arc<Staging> {
        self.pipeline.staging()
    }

    /// What the connections over relay share.
    pub(crate) fn relay(&self) -> &RelayShared {
        &self.relay
    }

    /// The same with other shares.
    #[cfg(test)]
    pub(crate) fn with_relay(self, relay: RelayShared) -> Self {
        Self { relay, ..self }
    }

    /// A site gave packages of these names: whose agents they speak of, its shared files are.
    pub(crate) fn learned<'a>(&self, site: &str, packages: impl IntoIterator<Item = &'a [u8]>) {
        if let Some(shared) = &self.shared {
            shared.learned(site, packages);
        }
    }

    /// What the sites say of themselves.
    pub(crate) fn board(&self) -> &Board {
        self.pipeline.board()
    }

    /// Passes a step at which a test may end the process.
    pub(crate) fn crash_point(&self, step: &str) {
        self.pipeline.crash().point(step);
    }
}
