//! Sets packages aside that can no longer be handed out: to `corrupt/`, whole or not, where an operator finds them.
//!
//! The order: the loss record is durable, then the file is renamed, then both directories are fsynced, then the package
//! leaves the index. A crash on the way finds the package again at its next hand-over and records it a second time:
//! better than not at all. Nothing here removes bytes.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::clock::millis;
use crate::error::{CommitError, Context};
use crate::fs::{Directory, Fs};
use crate::id::Id;
use crate::index::Package;
use crate::layout::Layout;
use crate::lease::Lease;
use crate::losses::{Loss, LossReason};
use crate::names;
use crate::parallel::lock;
use crate::store::{Spool, Store};
use crate::take_up::Settled;
use crate::verify::Damage;

/// `corrupt/`, and what is on its way there.
pub(crate) struct Corrupt {
    /// Open from start to end.
    pub(crate) directory: Box<dyn Directory>,
    /// Recorded as lost, and still in its place: each counts once in a run.
    recorded: Mutex<HashSet<Id>>,
    /// Dead letters that are dealt with and could not be removed.
    pub(crate) settled: Mutex<HashSet<Settled>>,
}

impl Corrupt {
    pub(crate) fn new(directory: Box<dyn Directory>) -> Self {
        Self { directory, recorded: Mutex::default(), settled: Mutex::default() }
    }
}

/// What became of a damaged package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetAside {
    /// Its file lies here now, durably.
    Moved(PathBuf),
    /// There was no file any more; the package is forgotten.
    Gone,
    /// There is no such package any more: it was deleted, and nothing is wrong.
    Deleted,
}

impl Spool {
    /// Takes a damaged package out of the spool, durably, and records it as lost. After an error it stays as it was.
    pub fn set_aside(&self, lease: Lease, damage: &Damage) -> Result<SetAside, CommitError> {
        self.store.set_aside(lease.package(), damage)
    }
}

impl Store {
    fn set_aside(&self, package: &Package, damage: &Damage) -> Result<SetAside, CommitError> {
        // While a deletion has its turn, its files are gone and not yet out of the index.
        let _deletions = lock(&self.deletions);
        self.check_poison()?;
        let indexed = lock(&self.state).index.get(&package.listed_name);
        if indexed.is_none_or(|indexed| indexed.id != package.id) {
            return Ok(SetAside::Deleted);
        }
        let scope = self.quota.scope(&names::sent(&package.listed_name, package.digest));
        if lock(&self.corrupt.recorded).insert(package.id) {
            let class = &self.quota.overflow.class(scope.class).name;
            let arrival = millis(package.arrival);
            let recorded = self.record_losses(&[Loss::of(class, LossReason::Corrupt, package.size, arrival)]);
            if let Err(error) = recorded {
                lock(&self.corrupt.recorded).remove(&package.id);
                return Err(error.into());
            }
        }
        let outcome = match damage {
            Damage::Missing => SetAside::Gone,
            Damage::Changed { .. } | Damage::Unreadable(_) => {
                let path = self.layout.package(package.id, package.digest, &package.listed_name);
                let to = reject(&*self.fs, &self.layout, &path).context("set aside", &path)?;
                self.poison.fsynced(self.corrupt.directory.sync(), &self.layout.corrupt)?;
                self.poison.fsynced(self.ready.sync(), &self.layout.ready)?;
                SetAside::Moved(to)
            }
        };
        let mut state = lock(&self.state);
        state.oldest.gone(scope, package.id);
        if state.index.remove(package) {
            self.quota.release(scope, package.size);
        }
        drop(state);
        lock(&self.corrupt.recorded).remove(&package.id);
        Ok(outcome)
    }
}

/// Moves a file to `corrupt/` without replacing anything there; durable after an fsync of both directories.
pub(crate) fn reject(fs: &dyn Fs, layout: &Layout, from: &Path) -> io::Result<PathBuf> {
    let name = from.file_name().unwrap_or(OsStr::new("unnamed"));
    let mut candidates = (0..).map(|number| layout.rejected(name, number));
    let moved = candidates.find_map(|to| match fs.rename_noreplace(from, &to) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
        result => Some(result.map(|()| to)),
    });
    moved.expect("numbers do not end")
}
