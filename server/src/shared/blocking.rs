//! Disk work of a sync: on a blocking thread, whatever it does.

use std::fmt::Display;

use crate::pipeline::Trouble;
use crate::pull::Fault;

/// Does it. What fails here is this end's trouble, and none that the packages must hear of.
pub(super) async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, Fault>
where
    T: Send + 'static,
    E: Display + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| here(&error)),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(here(&"the server is stopping")),
        },
    }
}

/// A trouble of this end.
pub(super) fn here(error: &impl Display) -> Fault {
    Fault::Here(Trouble::Failed(error.to_string()))
}
