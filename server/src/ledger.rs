//! The ledger: what has been received from which site, and how far it got on its way to the pipeline.
//!
//! Constraints, before the design:
//! - One process writes a ledger (a lock of its own beside the file); `status` may read it at the same time.
//! - What a transaction has recorded survives a power cut (`synchronous=FULL`).
//! - One transaction a batch: [`Ledger::write`] runs all changes of a batch, or none.
//! - It knows nothing of files: whoever records that a file is staged has made it durable before.
//!
//! A package goes `held → committed → delivered`; from a Tidegate node it starts at `committed`. Beside that,
//! `on_site` says that the site may still show it. A row that is delivered and no longer on its site is history.

mod batch;
mod open;
mod schema;
mod site;

pub(crate) use batch::{Batch, NewPackage};
pub(crate) use site::{SiteNote, SiteRow};

use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension, Row, params};
use tidegate_proto::Name;

use crate::body::Digest;

/// Rows of history that are kept; beyond it the oldest are forgotten, and a repeat of one would count as new.
const HISTORY_MAX: i64 = 1_000_000;

/// Rows of history forgotten at once: a turn never waits long for it.
const FORGOTTEN_AT_ONCE: i64 = 1_000;

/// Why the ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LedgerError {
    /// Another process has it.
    #[error(
        "another tidegate-server uses the ledger in {0}: it already pulls all its sites by itself; \
         to pull by hand, stop it first (systemctl stop tidegate-server)"
    )]
    Locked(String),
    /// Written by a later version.
    #[error(
        "the ledger has version {found}, this program knows {known}: install the version that wrote it, or a later one"
    )]
    Newer { found: usize, known: usize },
    /// Its directory or lock file.
    #[error("{what}: {source}")]
    File { what: String, source: std::io::Error },
    /// The database.
    #[error("ledger: {0}")]
    Sql(#[from] rusqlite::Error),
}

impl LedgerError {
    /// Whether there is no room for it: waiting may help.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Sql(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull))
    }
}

/// How far a package got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Durable here, and not yet known to be gone from its (stock) site.
    Held,
    /// On its way to its target name.
    Committed,
    /// Handed to the pipeline.
    Delivered,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) id: i64,
    pub(crate) site: String,
    pub(crate) name: Name,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) state: State,
    pub(crate) staged: String,
    pub(crate) target: Vec<u8>,
}

/// The few rows that are not history yet; the words of the index `package_open`.
const OPEN_PACKAGES: &str = "SELECT id, site, name, digest, size, state, staged, target FROM package
    WHERE site = ?1 AND (state <> 'delivered' OR on_site = 1)";

impl Package {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        let name: Vec<u8> = row.get(2)?;
        let state: String = row.get(5)?;
        Ok(Self {
            id: row.get(0)?,
            site: row.get(1)?,
            name: Name::parse_listed(&name).map_err(|_| rusqlite::Error::InvalidQuery)?,
            digest: Digest::from(row.get::<_, [u8; 32]>(3)?),
            size: row.get(4)?,
            state: match state.as_str() {
                "held" => State::Held,
                "committed" => State::Committed,
                _ => State::Delivered,
            },
            staged: row.get(6)?,
            target: row.get(7)?,
        })
    }
}

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
        let tx = db.transaction()?;
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
        self.select(&format!("{OPEN_PACKAGES} AND name = ?2 ORDER BY id"), params![site, name.as_bytes()])
    }

    /// A site's packages that were decided to go to the pipeline and have not got there, in arrival order.
    pub(crate) fn committed_packages(&self, site: &str) -> Result<Vec<Package>, LedgerError> {
        self.select(&format!("{OPEN_PACKAGES} AND state = 'committed' ORDER BY id"), params![site])
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
            let mut query = db.prepare_cached(&format!("{OPEN_PACKAGES} ORDER BY id"))?;
            let mut rows = query.query_map(params![site], Package::of)?;
            // Row by row: after a long drain there are as many as packages were drained.
            while let Some(package) = rows.next().transpose()? {
                if !shown(&package.name) {
                    gone.push(package.id);
                    undelivered.extend(Some(package).filter(|package| package.state != State::Delivered));
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

    /// All sites' packages that still have a file in the staging directory, in arrival order.
    pub(crate) fn staged_packages(&self) -> Result<Vec<Package>, LedgerError> {
        self.select(
            "SELECT id, site, name, digest, size, state, staged, target FROM package
             WHERE state <> 'delivered' ORDER BY id",
            params![],
        )
    }

    /// Whether the site's package of this name and content was delivered after `since`.
    pub(crate) fn was_delivered(
        &self,
        site: &str,
        name: &Name,
        digest: &Digest,
        since: SystemTime,
    ) -> Result<bool, LedgerError> {
        let db = self.db();
        let mut query = db.prepare_cached(
            "SELECT 1 FROM package WHERE name = ?1 AND site = ?2 AND digest = ?3 AND delivered >= ?4 LIMIT 1",
        )?;
        Ok(query.exists(params![name.as_bytes(), site, digest.as_bytes(), seconds(since)])?)
    }

    fn select(&self, sql: &str, params: impl rusqlite::Params) -> Result<Vec<Package>, LedgerError> {
        let db = self.db();
        let mut query = db.prepare_cached(sql)?;
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

/// Seconds since 1970, as the ledger keeps times.
pub(crate) fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
