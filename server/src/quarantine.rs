//! The quarantine, for an operator: what could not be delivered, and what is to become of it. Works beside a running
//! server, in short transactions; what is requeued is delivered in the next turn of its site.

pub(crate) mod command;

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::config::Incoming;
use crate::ledger::{Beside, LedgerError, LossReason, Package};

/// The packages that wait for an operator.
#[derive(Debug)]
pub(crate) struct Quarantine {
    ledger: Beside,
    staging: PathBuf,
}

/// What came of a request about one package.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is as was asked for.
    Done(Package),
    /// No such package is in quarantine (any more).
    Unknown,
    /// Its file is gone from the staging directory: there is nothing to deliver. It can be purged.
    FileMissing(Package),
}

impl Quarantine {
    /// Opens the quarantine of the ledger that `settings` name; `None` when there is no ledger yet.
    pub(crate) fn open(settings: &Incoming) -> Result<Option<Self>, LedgerError> {
        let ledger = Beside::open(&settings.state)?;
        Ok(ledger.map(|ledger| Self { ledger, staging: settings.staging.clone() }))
    }

    /// Everything in it, of one site or of all, in arrival order.
    pub(crate) fn list(&self, site: Option<&str>) -> Result<Vec<Package>, LedgerError> {
        self.ledger.quarantined(site)
    }

    /// The package with this number.
    pub(crate) fn one(&self, id: i64) -> Result<Option<Package>, LedgerError> {
        Ok(self.list(None)?.into_iter().find(|package| package.id == id))
    }

    /// Where a package's file lies.
    pub(crate) fn path(&self, package: &Package) -> PathBuf {
        self.staging.join(&package.staged)
    }

    /// Has a package delivered after all, under the name it came with if that is free now.
    pub(crate) fn requeue(&mut self, id: i64) -> Result<Outcome, LedgerError> {
        let Some(package) = self.one(id)? else { return Ok(Outcome::Unknown) };
        // A committed package without its file counts as delivered.
        if !self.path(&package).exists() {
            return Ok(Outcome::FileMissing(package));
        }
        let changed = self.ledger.write(|batch| batch.requeue(&package))?;
        Ok(if changed { Outcome::Done(package) } else { Outcome::Unknown })
    }

    /// Throws a package away: its row, leaving a loss record, and then its file. A site that still has it
    /// ([`Package::on_site`]) gives it again.
    pub(crate) fn purge(&mut self, id: i64) -> Result<Outcome, LedgerError> {
        let Some(package) = self.one(id)? else { return Ok(Outcome::Unknown) };
        let changed = self.ledger.write(|batch| {
            let changed = batch.purge(&package)?;
            // The loss of a damaged one was recorded when it was certain; a good copy of it may have come.
            if changed && !package.is_damaged() {
                batch.lost(&package, LossReason::Purged)?;
            }
            Ok(changed)
        })?;
        if !changed {
            return Ok(Outcome::Unknown);
        }
        // A file that stays is unknown to the ledger, and swept at the next start.
        match fs::remove_file(self.path(&package)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                let what = format!("cannot remove {}", self.path(&package).display());
                Err(LedgerError::File { what, source })
            }
            _ => Ok(Outcome::Done(package)),
        }
    }
}
