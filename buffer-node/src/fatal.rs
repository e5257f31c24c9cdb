//! What ends the node while it runs.
//!
//! After a failed fsync, or without the thread that stores packages, a node could only refuse: it would sit there, out
//! of service, until somebody looked. So whoever finds such a thing declares it here; the node then finishes what is
//! in flight and exits with these words, systemd starts it again, and the start looks at what the disk really holds.

use std::fmt::Display;
use std::sync::Arc;

use tokio::sync::watch;
use tracing::error;

/// The first thing that went wrong for good, if any; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Fatal(watch::Sender<Option<Arc<str>>>);

impl Default for Fatal {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Fatal {
    /// Ends the node. Only the first reason is kept: the others follow from it.
    pub(crate) fn declare(&self, reason: impl Display) {
        self.0.send_if_modified(|first| {
            let is_first = first.is_none();
            if is_first {
                error!(%reason, "cannot go on");
                *first = Some(reason.to_string().into());
            }
            is_first
        });
    }

    /// Why the node ends, if it does.
    pub(crate) fn reason(&self) -> Option<Arc<str>> {
        self.0.borrow().clone()
    }

    /// Completes when something was declared.
    pub(crate) async fn declared(&self) {
        // The sender is `self`, so the wait cannot fail.
        let _ = self.0.subscribe().wait_for(Option::is_some).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_reason_stays_and_every_clone_hears_of_it() {
        let fatal = Fatal::default();
        let clone = fatal.clone();
        assert_eq!(clone.reason(), None);
        fatal.declare("the disk is gone");
        fatal.declare("nothing works");
        clone.declared().await;
        assert_eq!(clone.reason().as_deref(), Some("the disk is gone"));
    }
}
