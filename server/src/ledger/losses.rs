//! What was lost at this end, and what an operator threw away: counted for good, and never more rows than a bound.

use std::path::Path;
use std::time::SystemTime;

use rusqlite::{OptionalExtension, Row, params};

use super::{Batch, LedgerError, Package, open, schema, seconds};

/// Rows that are kept one by one; beyond it a loss is added to the newest row of its site and reason, so that
/// nothing is forgotten and the table grows no more.
const ROWS_MAX: i64 = 10_000;

/// The class of packages whose class is not known here.
const CLASS: &str = "data";

/// Why packages are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LossReason {
    /// The content was damaged on this server's disk, and the site had it no more.
    Damaged,
    /// An operator threw it away.
    Purged,
}

impl LossReason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::Purged => "purged",
        }
    }
}

/// Packages that are lost. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct LossRow {
    pub(crate) id: i64,
    pub(crate) site: String,
    pub(crate) class: String,
    pub(crate) reason: String,
    pub(crate) packages: u64,
    pub(crate) bytes: u64,
    pub(crate) first: i64,
    pub(crate) last: i64,
}

impl LossRow {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            site: row.get(1)?,
            class: row.get(2)?,
            reason: row.get(3)?,
            packages: row.get(4)?,
            bytes: row.get(5)?,
            first: row.get(6)?,
            last: row.get(7)?,
        })
    }

    /// The losses that the ledger in `directory` knows, oldest first. Safe beside a running server.
    pub(crate) fn read_all(directory: &Path) -> Result<Vec<Self>, LedgerError> {
        let Some(db) = open::database_to_read(directory)? else { return Ok(Vec::new()) };
        schema::is_up_to_date(&db)?;
        let mut query =
            db.prepare("SELECT id, site, class, reason, packages, bytes, first, last FROM loss ORDER BY id")?;
        let rows = query.query_map([], Self::of)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

impl Batch<'_> {
    /// Records that a package is lost.
    pub(crate) fn lost(&self, package: &Package, reason: LossReason) -> rusqlite::Result<()> {
        self.lost_within(package, reason, ROWS_MAX)
    }

    pub(super) fn lost_within(
        &self,
        package: &Package,
        reason: LossReason,
        rows_max: i64,
    ) -> rusqlite::Result<()> {
        let now = seconds(SystemTime::now());
        let (site, reason) = (&package.site, reason.as_str());
        let rows: i64 =
            self.tx.prepare_cached("SELECT count(*) FROM loss")?.query_row([], |row| row.get(0))?;
        let row: Option<i64> = if rows < rows_max {
            None
        } else {
            self.tx
                .prepare_cached("SELECT max(id) FROM loss WHERE site = ?1 AND class = ?2 AND reason = ?3")?
                .query_row(params![site, CLASS, reason], |row| row.get(0))
                .optional()?
                .flatten()
        };
        if let Some(row) = row {
            self.tx
                .prepare_cached(
                    "UPDATE loss SET packages = packages + 1, bytes = bytes + ?2, last = max(last, ?3) WHERE id = ?1",
                )?
                .execute(params![row, package.size, now])?;
        } else {
            self.tx
                .prepare_cached(
                    "INSERT INTO loss (site, class, reason, packages, bytes, first, last)
                     VALUES (?1, ?2, ?3, 1, ?4, ?5, ?5)",
                )?
                .execute(params![site, CLASS, reason, package.size, now])?;
        }
        Ok(())
    }
}
