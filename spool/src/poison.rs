//! The end of trust in a disk.
//!
//! After a failed fsync the kernel drops what it could not write and reports success from then on. So the first
//! failure is remembered here, and nothing is stored or deleted any more until the spool is opened anew and has
//! looked at what the disk really holds (module `failed`).
//!
//! A call that fails *before* its fsync, because no descriptor or memory was left to open something, is not such a
//! failure: nothing was lost, what it was for is refused, and the next one may succeed.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::error::{CommitError, Context, DiskError};
use crate::failed::{self, Batch};
use crate::fs::Fs;
use crate::layout::Layout;
use crate::parallel::lock;

/// Why nothing can be stored or deleted any more, if so.
pub(crate) struct Poison {
    fs: Arc<dyn Fs>,
    layout: Layout,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    reason: Option<Arc<str>>,
    /// What is being committed: neither confirmed nor refused.
    batch: Option<Batch>,
}

impl Poison {
    pub(crate) fn new(fs: Arc<dyn Fs>, layout: Layout) -> Self {
        Self { fs, layout, state: Mutex::default() }
    }

    /// Every fsync after the spool has been opened hands in its result here: of something opened before, so that
    /// nothing else can fail in it.
    pub(crate) fn fsynced(&self, result: io::Result<()>, path: &Path) -> Result<(), DiskError> {
        let result = result.context("fsync", path);
        if let Err(error) = &result
            && let Some(batch) = self.give_up(error)
        {
            tracing::error!(%error, "the spool stores and deletes nothing more until it is opened again");
            // Not under the lock: the disk may take its time to fail, and everybody asks for the reason.
            failed::mark(&*self.fs, &self.layout, &error.to_string(), batch);
        }
        result
    }

    /// Keeps the first reason only: the others follow from it. Gives what was being committed then.
    fn give_up(&self, error: &DiskError) -> Option<Option<Batch>> {
        let mut state = lock(&self.state);
        let is_first = state.reason.is_none();
        is_first.then(|| {
            state.reason = Some(error.to_string().into());
            state.batch
        })
    }

    /// A batch is about to be written.
    pub(crate) fn begin_batch(&self, batch: Batch) -> Result<(), CommitError> {
        let mut state = lock(&self.state);
        refuse(&state)?;
        state.batch = Some(batch);
        Ok(())
    }

    /// Whether the batch counts. Once it does, no later failure takes it back.
    pub(crate) fn end_batch(&self) -> Result<(), CommitError> {
        let mut state = lock(&self.state);
        state.batch = None;
        refuse(&state)
    }

    pub(crate) fn check(&self) -> Result<(), CommitError> {
        refuse(&lock(&self.state))
    }

    pub(crate) fn reason(&self) -> Option<Arc<str>> {
        lock(&self.state).reason.clone()
    }
}

fn refuse(state: &State) -> Result<(), CommitError> {
    state.reason.clone().map_or(Ok(()), |reason| Err(CommitError::Poisoned { reason }))
}
