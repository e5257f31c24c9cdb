//! The quarantine, for an operator: what could not be delivered, and what is to become of it. Works beside a running
//! server, in short transactions; what is requeued is delivered in the next turn of its site.

pub(crate) mod command;

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::body::digest_of;
use crate::config::Incoming;
use crate::ledger::{Beside, LedgerError, LossReason, Package};
use crate::names;

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
    /// Its file does not have the bytes that came: it would never be delivered.
    Changed(Package),
    /// A good copy of it came later and was delivered: the pipeline would have it twice.
    GoodCopyDelivered(Package),
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
        self.ledger.in_quarantine(id)
    }

    /// Where a package's file lies.
    pub(crate) fn path(&self, package: &Package) -> PathBuf {
        self.staging.join(&package.staged)
    }

    /// Has a package delivered after all, under the name it came with if that is free now. Only one whose bytes are
    /// those that came: for a committed one the site's copy is not taken any more.
    pub(crate) fn requeue(&mut self, id: i64) -> Result<Outcome, LedgerError> {
        let Some(package) = self.one(id)? else { return Ok(Outcome::Unknown) };
        let path = self.path(&package);
        match digest_of(&path) {
            Ok((digest, _)) if digest == package.digest => {}
            // A committed package without its file counts as delivered.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Outcome::FileMissing(package));
            }
            Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
                return Err(LedgerError::File { what: format!("cannot read {}", path.display()), source });
            }
            _ => return Ok(Outcome::Changed(package)),
        }
        // Other names and undamaged versions may come again with the same bytes, and be new.
        let once = package.is_damaged() || names::is_timed(&package.name, &package.digest);
        self.ledger.write(|batch| {
            if once && batch.was_delivered_later(&package)? {
                return Ok(Outcome::GoodCopyDelivered(package));
            }
            Ok(if batch.requeue(&package)? { Outcome::Done(package) } else { Outcome::Unknown })
        })
    }

    /// Throws a package away: its row, leaving a loss record, and then its file. A site that still has it
    /// ([`Package::on_site`]) gives it again.
    pub(crate) fn purge(&mut self, id: i64) -> Result<Outcome, LedgerError> {
        let Some(package) = self.one(id)? else { return Ok(Outcome::Unknown) };
        let changed = self.ledger.write(|batch| {
            let changed = batch.purge(&package)?;
            // The loss of a damaged one was recorded when its site showed it no more, unless a good copy had come.
            if changed && (package.on_site || !package.is_damaged()) {
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
