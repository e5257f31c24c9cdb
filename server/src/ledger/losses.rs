//! What was lost at this end, what an operator threw away, and what sites that speak relay told of their own losses:
//! counted for good, and never more rows than a bound.

use std::path::Path;
use std::time::SystemTime;

use rusqlite::{OptionalExtension, Row, params};
use tidegate_proto::relay::LossRecord;

use super::number::Row as Numbers;
use super::span::{Kind, Span};
use super::{Batch, Ledger, LedgerError, Package, open, schema, seconds};

/// Rows of this end that are kept one by one; beyond it a loss is added to the newest row of its site and reason, so
/// that nothing is forgotten and the table grows no more.
const ROWS_MAX: i64 = 10_000;

/// The same of what one site told. There a site that makes up ever new classes adds to the newest row of its reason,
/// whatever the class.
const SITE_ROWS_MAX: i64 = if cfg!(test) { 3 } else { 1_000 };

/// Records of a site that one transaction takes, which all sites wait for. An honest node has no more on their way;
/// beyond it they are written in several, one behind the other.
const RECORDS_MAX: usize = 256;

/// What one row may sum up; beyond it a site's numbers are no count of anything, and sums of rows would overflow.
const SUM_MAX: i64 = 1 << 50;

/// What a reason is called that this version does not know.
const UNKNOWN_REASON: &str = "unknown";

/// The words for the reasons of a node's records, as the node itself says them.
const REASONS: [(u8, &str); 10] = [
    (1, "full"),
    (2, "class_quota"),
    (3, "agent_quota"),
    (4, "dropped"),
    (5, "corrupt"),
    (6, "purged"),
    (7, "too_big"),
    (8, "bad_name"),
    (9, "disk"),
    (10, "bad_archive"),
];

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

/// Where packages were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LossPlace {
    /// Here.
    Central,
    /// At the site, which told so.
    Site,
}

/// Packages that are lost. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct LossRow {
    pub(crate) id: i64,
    pub(crate) site: String,
    pub(crate) place: LossPlace,
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
            place: if row.get_ref(8)?.as_str()? == "site" { LossPlace::Site } else { LossPlace::Central },
        })
    }

    /// The losses that the ledger in `directory` knows, oldest first. Safe beside a running server.
    pub(crate) fn read_all(directory: &Path) -> Result<Vec<Self>, LedgerError> {
        let Some(db) = open::database_to_read(directory)? else { return Ok(Vec::new()) };
        schema::is_up_to_date(&db)?;
        let mut query = db.prepare(
            "SELECT id, site, class, reason, packages, bytes, first, last, place FROM loss ORDER BY id",
        )?;
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
        let rows: i64 = self
            .tx
            .prepare_cached("SELECT count(*) FROM loss WHERE place = 'central'")?
            .query_row([], |row| row.get(0))?;
        let row: Option<i64> = if rows < rows_max {
            None
        } else {
            self.tx
                .prepare_cached(
                    "SELECT max(id) FROM loss
                     WHERE place = 'central' AND site = ?1 AND class = ?2 AND reason = ?3",
                )?
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

    /// Records what a site told of its losses. Each number counts once, as long as it was not told with a later time
    /// than any before: a site that was rolled back counts again from where it was. Returns how many were new.
    pub(crate) fn lost_at_site(&self, site: &str, records: &[LossRecord]) -> rusqlite::Result<usize> {
        let mut new = 0;
        let mut rows: i64 = self
            .tx
            .prepare_cached("SELECT count(*) FROM loss WHERE place = 'site' AND site = ?1")?
            .query_row([site], |row| row.get(0))?;
        let mut more_spans = false;
        for record in records {
            let LossRecord { number, class, reason, packages, bytes, first, last } = record;
            let counted = self.counted_before(site, number.run)?;
            if counted.is_some_and(|span| span.covers(*number, *last)) {
                continue;
            }
            new += 1;
            // It is printed as it is.
            let class: String =
                class.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect();
            let reason =
                REASONS.iter().find(|(code, _)| code == reason).map_or(UNKNOWN_REASON, |(_, word)| word);
            let [packages, bytes] =
                [packages, bytes].map(|sum| i64::try_from(*sum).unwrap_or(SUM_MAX).min(SUM_MAX));
            let newest = *last;
            let [first, last] = [first, last].map(|time| time.div_euclid(1_000));
            let full = rows >= SITE_ROWS_MAX;
            if let Some(row) = full.then(|| self.row_to_add_to(site, &class, reason)).transpose()?.flatten() {
                self.tx
                    .prepare_cached(
                        "UPDATE loss SET packages = min(packages + ?2, ?6), bytes = min(bytes + ?3, ?6),
                             first = min(first, ?4), last = max(last, ?5) WHERE id = ?1",
                    )?
                    .execute(params![row, packages, bytes, first, last, SUM_MAX])?;
            } else {
                self.tx
                    .prepare_cached(
                        "INSERT INTO loss (site, class, reason, packages, bytes, first, last, place)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'site')",
                    )?
                    .execute(params![site, class, reason, packages, bytes, first, last])?;
                rows += 1;
            }
            // A site tells its records in order, and merges the oldest: numbers between two were there.
            let this = Span { numbers: Numbers::one(*number), newest };
            let span = counted.map_or(this, |counted| counted.joined(this));
            more_spans |= self.extend(Kind::Loss, site, span)?;
        }
        if more_spans {
            self.forget_spans(Kind::Loss, site)?;
        }
        Ok(new)
    }

    /// The row that another loss is added to where there are too many.
    fn row_to_add_to(&self, site: &str, class: &str, reason: &str) -> rusqlite::Result<Option<i64>> {
        let newest = |sql: &str| -> rusqlite::Result<Option<i64>> {
            self.tx
                .prepare_cached(&format!(
                    "SELECT max(id) FROM loss WHERE place = 'site' AND site = ?1 AND reason = ?2 AND {sql}"
                ))?
                .query_row(params![site, reason, class], |row| row.get(0))
        };
        Ok(newest("class = ?3")?.or(newest("?3 IS NOT NULL")?))
    }
}

impl Ledger {
    /// Records what a site told of its losses, durably. Returns how many were new.
    pub(crate) fn lost_at_site(&self, site: &str, records: &[LossRecord]) -> Result<usize, LedgerError> {
        let chunks = records.chunks(RECORDS_MAX);
        chunks.map(|records| self.write(|batch| batch.lost_at_site(site, records))).sum()
    }
}
