//! The ledger: what has been received from which site, and how far it got on its way to the pipeline.
//!
//! Constraints, before the design:
//! - One server writes a ledger (a lock of its own beside the file). Commands may read it at the same time, and
//!   change the quarantine in short transactions.
//! - What a transaction has recorded survives a power cut (`synchronous=FULL`).
//! - One transaction a batch: [`Ledger::write`] runs all changes of a batch, or none.
//! - It knows nothing of files: whoever records that a file is staged has made it durable before.
//!
//! A package goes `held → committed → delivered`; from a Tidegate node it starts at `committed`. One that cannot be
//! delivered goes `committed → quarantined`, and an operator decides. Beside that, `on_site` says that the site may
//! still show it. A row that is delivered and no longer on its site is history.

mod batch;
mod error;
mod open;
mod package;
mod schema;
mod site;

pub(crate) use batch::{Batch, NewPackage};
pub(crate) use error::LedgerError;
pub(crate) use package::{Package, State, seconds};
pub(crate) use site::{SiteNote, SiteRow};

use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use tidegate_proto::Name;

use crate::body::Digest;
use package::COLUMNS;

/// Rows of history that are kept; beyond it the oldest are forgotten, and a repeat of one would count as new.
const HISTORY_MAX: i64 = 1_000_000;

/// Rows of history forgotten at once: a turn never waits long for it.
const FORGOTTEN_AT_ONCE: i64 = 1_000;

/// The few rows that are not history yet; the words of the index `package_open`.
const OPEN: &str = "(state IN ('held', 'committed') OR on_site = 1)";

/// An open ledger.
#[derive(Debug)]
pub(crate) struct Ledger {
    db: Mutex<Connection>,
    _lock: open::Lock,
}

impl Ledger {
    /// Opens the ledger in `directory`, which is made if need be, and keeps every other process out.
    pub(crate) fn open(directory: &Path) -> Result<Self, LedgerError> {
        let lock = open::Lock::take(directory)?;
        let mut db = open::database(directory)?;
        schema::bring_up_to_date(&mut db)?;
        open::make_durable(directory)?;
        Ok(Self { db: Mutex::new(db), _lock: lock })
    }

    fn db(&self) -> MutexGuard<'_, Connection> {
        self.db.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Runs `changes` in one transaction: durable when this returns, or as if it had never been called.
    pub(crate) fn write<T>(
        &self,
        changes: impl FnOnce(&Batch<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, LedgerError> {
        let mut db = self.db();
        // Immediate: only at its beginning may a transaction wait for a command that writes beside the server.
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let value = changes(&Batch::new(&tx))?;
        tx.commit()?;
        Ok(value)
    }

    /// What ties this ledger to its staging directory.
    pub(crate) fn id(&self) -> Result<String, LedgerError> {
        Ok(self.db().query_row("SELECT value FROM fact WHERE name = 'id'", [], |row| row.get(0))?)
    }

    /// The mark of the staging directory in use, if there was one yet.
    pub(crate) fn staging_mark(&self) -> Result<Option<String>, LedgerError> {
        let query = "SELECT value FROM fact WHERE name = 'staging'";
        Ok(self.db().query_row(query, [], |row| row.get(0)).optional()?)
    }

    /// A site's packages of one name that are not history yet, in arrival order.
    pub(crate) fn open_packages(&self, site: &str, name: &Name) -> Result<Vec<Package>, LedgerError> {
        self.select(
            &format!("site = ?1 AND {OPEN} AND name = ?2 ORDER BY id"),
            params![site, name.as_bytes()],
        )
    }

    /// A site's packages that were decided to go to the pipeline and have not got there, in arrival order.
    pub(crate) fn committed_packages(&self, site: &str) -> Result<Vec<Package>, LedgerError> {
        self.select(&format!("site = ?1 AND {OPEN} AND state = 'committed' ORDER BY id"), params![site])
    }

    /// What a site no longer shows, it has deleted: its delivered packages become history, held ones are committed.
    /// Returns those that have to be delivered, in arrival order. `shown` tells whether the site shows a name.
    pub(crate) fn settle(
        &self,
        site: &str,
        shown: impl Fn(&Name) -> bool,
    ) -> Result<Vec<Package>, LedgerError> {
        let mut gone = Vec::new();
        let mut undelivered = Vec::new();
        {
            let db = self.db();
            let mut query = db.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM package WHERE site = ?1 AND {OPEN} ORDER BY id"
            ))?;
            let mut rows = query.query_map(params![site], Package::of)?;
            // Row by row: after a long drain there are as many as packages were drained.
            while let Some(package) = rows.next().transpose()? {
                if !shown(&package.name) {
                    gone.push(package.id);
                    let waits = matches!(package.state, State::Held | State::Committed);
                    let gone = Package { on_site: false, ..package };
                    undelivered.extend(Some(gone).filter(|_| waits));
                }
            }
        }
        if !gone.is_empty() {
            self.write(|batch| {
                gone.iter().try_for_each(|id| batch.gone(*id))?;
                undelivered.iter().try_for_each(|package| batch.commit(package))
            })?;
        }
        Ok(undelivered)
    }

    /// All sites' packages that have a file in the staging directory and are not in quarantine, in arrival order.
    pub(crate) fn staged_packages(&self) -> Result<Vec<Package>, LedgerError> {
        self.select(&format!("{OPEN} AND state IN ('held', 'committed') ORDER BY id"), params![])
    }

    /// Whether the site's package of this name and content was delivered, or went to quarantine, after `since`.
    /// Digests are compared here and not by SQL: a damaged one would otherwise be a silent "no".
    pub(crate) fn was_delivered(
        &self,
        site: &str,
        name: &Name,
        digest: &Digest,
        since: SystemTime,
    ) -> Result<bool, LedgerError> {
        let versions = self.select(
            "name = ?1 AND site = ?2 AND delivered >= ?3",
            params![name.as_bytes(), site, seconds(since)],
        )?;
        Ok(versions.iter().any(|package| package.digest == *digest))
    }

    /// The packages for which the rest of an SQL query holds.
    fn select(&self, rest: &str, params: impl rusqlite::Params) -> Result<Vec<Package>, LedgerError> {
        let db = self.db();
        let mut query = db.prepare_cached(&format!("SELECT {COLUMNS} FROM package WHERE {rest}"))?;
        let rows = query.query_map(params, Package::of)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Forgets some of the history beyond its limit.
    pub(crate) fn trim(&self) -> Result<(), LedgerError> {
        self.trim_to(HISTORY_MAX)
    }

    fn trim_to(&self, rows: i64) -> Result<(), LedgerError> {
        self.db().execute(
            "DELETE FROM package WHERE id IN (SELECT id FROM package
                 WHERE id <= (SELECT max(id) FROM package) - ?1 AND state = 'delivered' AND on_site = 0
                 ORDER BY id LIMIT ?2)",
            params![rows, FORGOTTEN_AT_ONCE],
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
