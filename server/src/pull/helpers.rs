//! The connections beside the first that a visit of a stock site works with: `sync_connections` of them in all.
//!
//! They are there while there are files to ask for, and gone before the next listing, so that none waits in silence. One
//! that cannot be had is no error: a stock server has few slots, and its agents need them. After the first that
//! fails, or fails to come, a visit asks for no more of them.

use std::iter::once;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::crew::{PAUSE_MAX, all};
use super::remote::{Fault, Remote, Way};
use super::visit::Visit;

/// How many names are worth a connection: it costs about as much as pulling one of them.
const NAMES_EACH: usize = 4;

/// With less time left before the first connection must speak again, none is asked for.
const TIME_MIN: Duration = Duration::from_secs(2);

/// How long they have for saying `QUIT`, while the first connection waits.
const GOODBYE_MAX: Duration = Duration::from_secs(1);

impl<W: Way> Visit<'_, W> {
    /// All connections.
    pub(super) fn remotes(&mut self) -> impl Iterator<Item = &mut W::Remote> {
        once(&mut self.remote).chain(&mut self.helpers)
    }

    /// Asks for as many further connections as this many names are worth.
    pub(super) async fn enlist(&mut self, names: usize) {
        let worth = self.site.sync.connections.min(names / NAMES_EACH).saturating_sub(1);
        let missing = worth.saturating_sub(self.helpers.len());
        let until = self.remote.silent_since() + PAUSE_MAX;
        if missing == 0 || self.alone || self.remote.is_over() || until < Instant::now() + TIME_MIN {
            return;
        }
        let opened = Mutex::new(Vec::new());
        let open = |_| async {
            let one = timeout_at(until, self.way.open()).await;
            let one = one.unwrap_or_else(|_| Err(Fault::Site("no answer in time".into())));
            opened.lock().expect("no holder panics").push(one);
        };
        all((0..missing).map(open)).await;
        for one in opened.into_inner().expect("no holder panics") {
            match one {
                Ok(remote) => self.helpers.push(remote),
                Err(error) => {
                    self.alone = true;
                    tracing::debug!(site = self.site.name, %error, "the site gives no further connection");
                }
            }
        }
    }

    /// Lets go of those that are over, and puts another in the place of the first if that is.
    pub(super) fn regroup(&mut self) {
        self.helpers.retain(|remote| !remote.is_over());
        if self.remote.is_over()
            && let Some(other) = self.helpers.pop()
        {
            self.remote = other;
        }
    }

    /// Says `QUIT` on all but the first.
    pub(super) async fn dismiss(&mut self) {
        if !self.helpers.is_empty() {
            let goodbyes = all(self.helpers.iter_mut().map(Remote::quit));
            // Whatever they do in this time, they are done with.
            let _ = timeout(GOODBYE_MAX, goodbyes).await;
            self.helpers.clear();
        }
    }

    /// A fault left something undone. With a connection left, a new listing decides what; otherwise [`Self::next`]
    /// tells the fault.
    pub(super) fn failed(&mut self, fault: Fault) {
        self.alone = true;
        if matches!(fault, Fault::Site(_)) && !self.remote.is_over() {
            tracing::debug!(site = self.site.name, error = %fault, "a connection failed; the others go on");
            self.listing_is_old = true;
        } else {
            self.fault = Some(fault);
        }
    }
}
