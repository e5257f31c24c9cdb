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
mod beside;
mod check;
mod deliver;
mod error;
mod history;
mod losses;
mod number;
mod numbered;
mod open;
mod package;
mod reader;
mod replace;
mod schema;
mod site;
mod span;
mod wal;

pub(crate) use batch::{Batch, NewPackage};
pub(crate) use beside::Beside;
pub(crate) use error::LedgerError;
pub(crate) use history::Retention;
pub(crate) use losses::{LossPlace, LossReason, LossRow};
pub(crate) use number::Row as NumberRow;
pub(crate) use package::{DAMAGED, Package, State, milliseconds, seconds};
pub(crate) use reader::{Found, Reader, Rows, Standing};
pub(crate) use replace::Replacement;
pub(crate) use site::{Mode, SiteNote, SiteRow, Told};
pub(crate) use span::{Kind as SpanKind, Span};

use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};
use tidegate_proto::Name;

use crate::body::Digest;
use package::COLUMNS;

/// The few rows that are not history yet; the words of the index `package_open`.
const OPEN: &str = "(state IN ('held', 'committed') OR on_site = 1)";

/// How many packages of a site wait for something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) site: String,
    /// For the site's listing to lack them.
    pub(crate) held: u64,
    /// For room in the pipeline.
    pub(crate) committed: u64,
    /// For an operator.
    pub(crate) quarantined: u64,
    /// For the proof that the site has deleted them.
    pub(crate) delivered: u64,
}

impl Waiting {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            site: row.get(0)?,
            held: row.get(1)?,
            committed: row.get(2)?,
            quarantined: row.get(3)?,
            delivered: row.get(4)?,
        })
    }
}

/// The names of facts about the ledger itself.
pub(crate) mod fact {
    /// The mark of the staging directory in use.
    pub(crate) const STAGING: &str = "staging";
    /// The boot of the machine in which a server ran last.
    pub(crate) const BOOT: &str = "boot";
    /// A start found the last transaction torn, or the ledger an [`OLDER`] one, and staged files may be known to nobody
    /// for that.
    pub(crate) const TORN: &str = "torn";
    /// The value of [`TORN`] when the staging directory has seen later starts than the ledger.
    pub(crate) const OLDER: &str = "older";
    /// How many starts it has seen.
    pub(crate) const STARTS: &str = "starts";
}

/// The order of arrival, for queries that an index answers with few rows. Without the sign SQLite rather reads all rows
/// in this order than to sort.
const OF_FEW: &str = "ORDER BY +id";

/// An open ledger.
#[derive(Debug)]
pub(crate) struct Ledger {
    db: Mutex<Connection>,
    /// What was found damaged, from then on.
    damage: OnceLock<String>,
    retention: Retention,
    _lock: open::Lock,
}

impl Ledger {
    /// Opens the ledger in `directory`, which is made if need be, and keeps every other process out.
    pub(crate) fn open(directory: &Path) -> Result<Self, LedgerError> {
        let lock = open::Lock::take(directory)?;
        if replace::is_under_way(directory) {
            return Err(LedgerError::ResetUnfinished);
        }
        let torn = open::check_log(directory)?;
        let mut db = open::database(directory)?;
        if torn {
            // The first transaction overwrites what shows that it was torn.
            schema::note_torn_log(&db)?;
        }
        open::merge_log(&db)?;
        schema::bring_up_to_date(&mut db)?;
        check::whole(&db)?;
        open::make_durable(directory)?;
        Ok(Self { db: Mutex::new(db), retention: Retention::default(), damage: OnceLock::new(), _lock: lock })
    }

    /// The same with other limits of its history.
    pub(crate) fn keeping(self, retention: Retention) -> Self {
        Self { retention, ..self }
    }

    fn db(&self) -> MutexGuard<'_, Connection> {
        self.db.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Runs `changes` in one transaction: durable when this returns, or as if it had never been called.
    pub(crate) fn write<T>(
        &self,
        changes: impl FnOnce(&Batch<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, LedgerError> {
        let retention = self.retention;
        self.guarded(|db| {
            // Immediate: only at its beginning may a transaction wait for a command that writes beside the server.
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let batch = Batch::new(&tx);
            let value = changes(&batch)?;
            retention.trim_behind(&tx, batch.history_made())?;
            tx.commit()?;
            Ok(value)
        })
    }

    /// Works on the database, unless it was found damaged: from then on no site's task gets an answer from it, and
    /// without one nothing is delivered or deleted.
    fn guarded<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, LedgerError> {
        let mut db = self.db();
        if let Some(damage) = self.damage.get() {
            return Err(LedgerError::Damaged(damage.clone()));
        }
        let result = work(&mut db).map_err(LedgerError::from);
        if result.as_ref().is_err_and(LedgerError::is_full) {
            // For the next turn.
            open::cut_log(&db);
        }
        if let Err(LedgerError::Damaged(damage)) = &result {
            // Set once, behind the lock of the database.
            let _ = self.damage.set(damage.clone());
        }
        result
    }

    /// What ties this ledger to its staging directory.
    pub(crate) fn id(&self) -> Result<String, LedgerError> {
        self.fact("id")?.ok_or_else(|| LedgerError::Damaged("it has no id".into()))
    }

    /// The mark of the staging directory in use, if there was one yet.
    pub(crate) fn staging_mark(&self) -> Result<Option<String>, LedgerError> {
        self.fact(fact::STAGING)
    }

    /// Something recorded about the ledger itself.
    pub(crate) fn fact(&self, name: &str) -> Result<Option<String>, LedgerError> {
        self.guarded(|db| {
            db.query_row("SELECT value FROM fact WHERE name = ?1", [name], |row| row.get(0)).optional()
        })
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

    /// The sites of packages that were decided to go to the pipeline and have not got there.
    pub(crate) fn sites_with_committed(&self) -> Result<Vec<String>, LedgerError> {
        self.guarded(|db| {
            let mut query = db.prepare_cached(&format!(
                "SELECT DISTINCT site FROM package WHERE {OPEN} AND state = 'committed' ORDER BY site"
            ))?;
            let rows = query.query_map([], |row| row.get(0))?;
            rows.collect()
        })
    }

    /// What a site no longer shows, it has deleted: its delivered packages become history, held ones are committed.
    /// Returns those that have to be delivered, in arrival order. `shown` tells whether the site shows a name.
    pub(crate) fn settle(
        &self,
        site: &str,
        shown: impl Fn(&Name) -> bool,
    ) -> Result<Vec<Package>, LedgerError> {
        let mut gone = Vec::new();
        let mut damaged: Vec<Package> = Vec::new();
        let mut undelivered: Vec<Package> = Vec::new();
        self.guarded(|db| {
            let mut query = db.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM package WHERE site = ?1 AND {OPEN} ORDER BY id"
            ))?;
            let mut rows = query.query_map(params![site], Package::of)?;
            // Row by row: after a long drain there are as many as packages were drained.
            while let Some(package) = rows.next().transpose()? {
                if shown(&package.name) {
                    continue;
                }
                gone.push(package.id);
                if package.is_damaged() {
                    damaged.push(package);
                } else {
                    let waits = matches!(package.state, State::Held | State::Committed);
                    let gone = Package { on_site: false, ..package };
                    undelivered.extend(Some(gone).filter(|_| waits));
                }
            }
            Ok(())
        })?;
        // Of these a good copy came, and is about to be delivered.
        damaged.retain(|lost| {
            !undelivered.iter().any(|good| good.name == lost.name && good.digest == lost.digest)
        });
        if !gone.is_empty() {
            self.write(|batch| {
                gone.iter().try_for_each(|id| batch.row_gone(*id))?;
                damaged.iter().try_for_each(|package| batch.lost(package, LossReason::Damaged))?;
                undelivered.iter().try_for_each(|package| batch.commit(package))
            })?;
        }
        Ok(undelivered)
    }

    /// The packages of [`Self::packages_with_files`] that are not in quarantine.
    #[cfg(test)]
    pub(crate) fn staged_packages(&self) -> Result<Vec<Package>, LedgerError> {
        self.select(&format!("{OPEN} AND state IN ('held', 'committed') {OF_FEW}"), params![])
    }

    /// All packages that have a file in the staging directory, in arrival order: those that wait for something by
    /// themselves, and those in quarantine. One statement: a command may move a package from the one to the other at
    /// any moment, and between two it would be in neither answer.
    pub(crate) fn packages_with_files(&self) -> Result<Vec<Package>, LedgerError> {
        self.select(
            &format!(
                "{OPEN} AND state IN ('held', 'committed')
                 UNION ALL SELECT {COLUMNS} FROM package WHERE state = 'quarantined' ORDER BY id"
            ),
            params![],
        )
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
        Ok(versions.iter().any(|package| package.digest == *digest && !package.is_damaged()))
    }

    /// How many packages of a site are in quarantine, and their bytes. It does not count beyond `most`.
    pub(crate) fn quarantine_of(&self, site: &str, most: u64) -> Result<(u64, u64), LedgerError> {
        self.guarded(|db| {
            let mut query = db.prepare_cached(
                "SELECT count(*), coalesce(sum(size), 0) FROM (
                     SELECT size FROM package WHERE site = ?1 AND state = 'quarantined' LIMIT ?2)",
            )?;
            query.query_row(params![site, most], |row| Ok((row.get(0)?, row.get(1)?)))
        })
    }

    /// The packages for which the rest of an SQL query holds.
    fn select(&self, rest: &str, params: impl rusqlite::Params) -> Result<Vec<Package>, LedgerError> {
        self.guarded(|db| {
            let mut query = db.prepare_cached(&format!("SELECT {COLUMNS} FROM package WHERE {rest}"))?;
            let rows = query.query_map(params, Package::of)?;
            rows.collect()
        })
    }

    /// How many packages of each site wait for something, by site.
    pub(crate) fn waiting(&self) -> Result<Vec<Waiting>, LedgerError> {
        self.guarded(|db| {
            let mut query = db.prepare(&format!(
                "SELECT site, sum(state = 'held'), sum(state = 'committed'), sum(state = 'quarantined'),
                        sum(state = 'delivered')
                 FROM package WHERE {OPEN} OR state = 'quarantined' GROUP BY site ORDER BY site"
            ))?;
            let rows = query.query_map([], Waiting::of)?;
            rows.collect()
        })
    }
}

#[cfg(test)]
mod tests;
