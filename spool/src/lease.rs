//! Claims of pullers, and the deletion of what they have taken over.
//!
//! The order of a deletion: its record is durable, then the file is unlinked, then the directory is fsynced, then it
//! is done. A crash on the way leaves either the package as it was, or a record by which the next start deletes what
//! came back; in both cases a repeat of the package is recognised.

use std::sync::Arc;

use crate::error::{CommitError, Context};
use crate::index::Package;
use crate::names;
use crate::parallel::{self, lock};
use crate::quota::Scope;
use crate::seen::{self, Deletion};
use crate::seen_log::Record;
use crate::store::{Spool, Store};

/// An exclusive claim on one package; dropping it gives it up.
pub struct Lease {
    store: Arc<Store>,
    package: Package,
}

impl Lease {
    pub(crate) fn new(store: Arc<Store>, package: Package) -> Self {
        Self { store, package }
    }

    /// The claimed package.
    pub fn package(&self) -> &Package {
        &self.package
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = lock(&self.store.state);
        if state.index.release(self.package.id) {
            state.oldest.unclaimed();
        }
    }
}

impl Spool {
    /// Deletes claimed packages, durably; the results come in the order of the leases. After an error the package is
    /// still listed; whether it is after the next start, too, is open.
    pub fn delete(&self, leases: Vec<Lease>) -> Vec<Result<(), CommitError>> {
        let packages: Vec<&Package> = leases.iter().map(Lease::package).collect();
        match self.store.delete(&packages, Ending::Delivered) {
            Ok(results) => results,
            Err(error) => packages.iter().map(|_| Err(error.clone())).collect(),
        }
    }
}

/// Why a package is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Somebody has it: a repeat of it is recognised for a while.
    Delivered,
    /// Nobody has it: who sends it again is taken seriously.
    Dropped,
}

impl Store {
    pub(crate) fn delete(
        &self,
        packages: &[&Package],
        ending: Ending,
    ) -> Result<Vec<Result<(), CommitError>>, CommitError> {
        if packages.is_empty() {
            return Ok(Vec::new());
        }
        let mut log = lock(&self.deletions);
        self.check_poison()?;
        let now = self.clock.now();
        // By the name sent: one look finds it, whatever names other copies have by now.
        let record = |package: &&Package| {
            let sent = names::sent(&package.listed_name, package.digest);
            let key = seen::key(&sent, package.digest, package.size);
            let deletion = Deletion {
                key,
                time: now,
                timed: names::timed(&sent),
                repeats: ending == Ending::Delivered,
                next_step: names::step_after(&package.listed_name, package.digest),
            };
            (Record { id: package.id, deletion }, self.quota.scope(&sent))
        };
        let (records, scopes): (Vec<Record>, Vec<Scope>) = packages.iter().map(record).unzip();
        log.append(&records)?;
        let mut unlinked: Vec<_> = packages.iter().map(|package| (*package, Ok(()))).collect();
        // Giving the blocks of a file back takes ext4 about as long as an fsync.
        parallel::for_each(&mut unlinked, self.threads, |(package, result)| *result = self.unlink(package));
        self.poison.fsynced(self.ready.sync(), &self.layout.ready)?;
        let mut state = lock(&self.state);
        let of_each = records.iter().zip(scopes);
        for ((package, _), (record, scope)) in
            unlinked.iter().zip(of_each).filter(|((_, done), _)| done.is_ok())
        {
            state.oldest.gone(scope, package.id);
            state.seen.remember(&record.deletion);
            // One that was set aside meanwhile has given its room back.
            if state.index.remove(package) {
                self.quota.release(scope, package.size);
            }
        }
        state.seen.prune(now);
        drop(state);
        log.drop_old_segments(now);
        Ok(unlinked.into_iter().map(|(_, result)| result).collect())
    }

    fn unlink(&self, package: &Package) -> Result<(), CommitError> {
        let path = self.layout.package(package.id, package.digest, &package.listed_name);
        match self.fs.remove(&path) {
            // Somebody was quicker, by hand; it is gone all the same.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            result => Ok(result.context("remove", &path)?),
        }
    }
}
