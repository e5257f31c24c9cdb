//! The ledger as a command has it beside a running server: to read, and to write in short transactions.
//!
//! With no server running, the command keeps one from starting meanwhile, and leaves a log that a power cut or damage
//! left out of order to the next start: only a start can draw the conclusions. Closing never merges the log into the
//! database, for the same reason.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::package::COLUMNS;
use super::{Batch, LedgerError, OF_FEW, Package, open, schema};

/// The ledger, for a command.
#[derive(Debug)]
pub(crate) struct Beside {
    db: Connection,
    /// Ours if no server runs.
    _lock: Option<open::Lock>,
}

impl Beside {
    /// Opens the ledger in `directory`; `None` when there is none.
    pub(crate) fn open(directory: &Path) -> Result<Option<Self>, LedgerError> {
        if !open::exists(directory)? {
            return Ok(None);
        }
        let lock = match open::Lock::take(directory) {
            Ok(lock) => Some(lock),
            Err(LedgerError::Locked(_)) => None,
            Err(error) => return Err(error),
        };
        if lock.is_some() && open::check_log(directory)? {
            return Err(LedgerError::Unfinished);
        }
        let db = open::database_beside(directory)?;
        schema::is_up_to_date(&db)?;
        Ok(Some(Self { db, _lock: lock }))
    }

    /// The packages in quarantine, of one site or of all, in arrival order.
    pub(crate) fn quarantined(&self, site: Option<&str>) -> Result<Vec<Package>, LedgerError> {
        let mut query = self.db.prepare(&format!(
            "SELECT {COLUMNS} FROM package WHERE state = 'quarantined' AND (?1 IS NULL OR site = ?1) {OF_FEW}"
        ))?;
        let rows = query.query_map(params![site], Package::of)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The package in quarantine with this number.
    pub(crate) fn in_quarantine(&self, id: i64) -> Result<Option<Package>, LedgerError> {
        let mut query = self.db.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM package WHERE id = ?1 AND state = 'quarantined'"
        ))?;
        Ok(query.query_row([id], Package::of).optional()?)
    }

    /// Runs `changes` in one transaction, as [`super::Ledger::write`] does.
    pub(crate) fn write<T>(
        &mut self,
        changes: impl FnOnce(&Batch<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, LedgerError> {
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let value = changes(&Batch::new(&tx))?;
        tx.commit()?;
        Ok(value)
    }
}
