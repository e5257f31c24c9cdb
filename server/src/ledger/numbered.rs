//! What relay asks of the ledger: packages by their numbers, and those that came without one.

use std::collections::HashSet;

use rusqlite::{OptionalExtension, params};
use tidegate_proto::Name;
use tidegate_proto::relay::Number;

use super::number::{self, Row};
use super::package::milliseconds;
use super::{Batch, Ledger, LedgerError, LossReason, NewPackage, OPEN, Package, State};

/// Packages read for a row of numbers: so many for each, and a few. One number has several if a clone of its site was
/// pulled, or a running spool rolled back. What is beyond counts as unknown: what a hostile site could gain by numbering
/// everything alike is a double, what it could cost is bounded.
const ROWS_A_NUMBER: u64 = 4;
const ROWS_BEYOND: u64 = 64;

/// The packages with these numbers, of whatever site.
const BY_NUMBER: &str = "number >= ?1 AND number <= ?2 LIMIT ?3";

/// Those of a name that carries a time: few, and the newest if a hostile site makes them many. What is beyond comes
/// twice at worst.
const BY_NAME: &str = "name = ?1 AND site = ?2 ORDER BY id DESC LIMIT 64";

/// Those of a name that came without a number and are not history. A plugin's name has any number of others.
const UNNUMBERED_BY_NAME: &str = "site = ?1 AND name = ?2 AND number IS NULL AND (state IN ('held', 'committed') OR on_site = 1) ORDER BY id";

impl Ledger {
    /// The packages that have one of these numbers, of all sites.
    pub(crate) fn numbered(&self, rows: &[Row]) -> Result<Vec<Package>, LedgerError> {
        let mut packages = Vec::new();
        for row in rows {
            let limit = row.length().saturating_mul(ROWS_A_NUMBER).saturating_add(ROWS_BEYOND);
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let [first, last] = [row.first(), row.last()].map(number::bytes);
            packages.append(&mut self.select(BY_NUMBER, params![first, last, limit])?);
        }
        Ok(packages)
    }

    /// The last row, of whatever site.
    pub(crate) fn newest_row(&self) -> Result<i64, LedgerError> {
        self.guarded(|db| {
            db.prepare_cached("SELECT coalesce(max(id), 0) FROM package")?.query_row([], |row| row.get(0))
        })
    }

    /// A site's packages of this name among which a repeat may be found, in arrival order: if it is not `timed`, those
    /// that came without a number and are not history.
    pub(crate) fn same_name(
        &self,
        site: &str,
        name: &Name,
        timed: bool,
    ) -> Result<Vec<Package>, LedgerError> {
        if timed {
            let mut packages = self.select(BY_NAME, params![name.as_bytes(), site])?;
            packages.reverse();
            Ok(packages)
        } else {
            self.select(UNNUMBERED_BY_NAME, params![site, name.as_bytes()])
        }
    }

    /// The site holds nothing older than `oldest` any more, nothing at all if that is `None`.
    pub(crate) fn holds_from(&self, site: &str, oldest: Option<Number>) -> Result<(), LedgerError> {
        let oldest = oldest.map_or([0xff; 16], number::bytes);
        let older = format!("site = ?1 AND {OPEN} AND on_site = 1 AND number < ?2");
        let is_known = self.guarded(|db| {
            let mut query = db.prepare_cached(&format!("SELECT 1 FROM package WHERE {older} LIMIT 1"))?;
            query.query_row(params![site, oldest], |_| Ok(())).optional()
        })?;
        if is_known.is_none() {
            return Ok(());
        }
        let damaged = format!("{older} AND state = 'quarantined'");
        let mut damaged = self.select(&damaged, params![site, oldest])?;
        damaged.retain(Package::is_damaged);
        self.write(|batch| {
            damaged.iter().try_for_each(|package| batch.lost(package, LossReason::Damaged))?;
            let gone = format!("UPDATE package SET on_site = 0 WHERE {older}");
            let changed = batch.tx.prepare_cached(&gone)?.execute(params![site, oldest])?;
            batch.count_history(changed);
            Ok(())
        })
    }

    /// A site has sent everything that it holds under its numbers: what has another than these, it has deleted.
    pub(crate) fn settle_numbered(&self, site: &str, held: &HashSet<Number>) -> Result<(), LedgerError> {
        let numbered = format!("site = ?1 AND {OPEN} AND on_site = 1 AND number IS NOT NULL ORDER BY id");
        let mut packages = self.select(&numbered, params![site])?;
        packages.retain(|package| package.number.is_some_and(|number| !held.contains(&number)));
        if packages.is_empty() {
            return Ok(());
        }
        self.write(|batch| packages.iter().try_for_each(|package| batch.gone(package)))
    }

    /// A site has sent everything that it holds under its numbers: what came without one, and did not get one now, it
    /// has deleted. Returns those that have to be delivered, in arrival order.
    pub(crate) fn settle_unnumbered(&self, site: &str) -> Result<Vec<Package>, LedgerError> {
        let unnumbered = format!("site = ?1 AND {OPEN} AND number IS NULL ORDER BY id");
        let packages = self.select(&unnumbered, params![site])?;
        if packages.is_empty() {
            return Ok(packages);
        }
        let waits = |package: &&Package| matches!(package.state, State::Held | State::Committed);
        let has_good_copy = |lost: &Package| {
            let same = |good: &Package| good.name == lost.name && good.digest == lost.digest;
            packages.iter().filter(waits).any(same)
        };
        self.write(|batch| {
            for package in &packages {
                batch.row_gone(package.id)?;
                batch.commit(package)?;
                if package.is_damaged() && !has_good_copy(package) {
                    batch.lost(package, LossReason::Damaged)?;
                }
            }
            Ok(())
        })?;
        let gone = |package: &Package| Package { on_site: false, ..package.clone() };
        Ok(packages.iter().filter(waits).map(gone).collect())
    }
}

impl Batch<'_> {
    /// A package that came without a number has one. Returns it as it is then. A row that a command changed since it was
    /// read stays as it is: its sum would be wrong.
    pub(crate) fn number(
        &self,
        package: &Package,
        number: Number,
        arrival: std::time::SystemTime,
    ) -> rusqlite::Result<Package> {
        let read = package.sum();
        let package =
            Package { number: Some(number), modified: Some(milliseconds(arrival)), ..package.clone() };
        self.tx
            .prepare_cached(
                "UPDATE package SET number = ?2, modified = ?3, sum = ?4 WHERE id = ?1 AND sum = ?5",
            )?
            .execute(params![package.id, number::bytes(number), package.modified, package.sum(), read])?;
        Ok(package)
    }

    /// Whether another site has given the same package, under the same number, in a row after `since`: clones of a site
    /// are drained beside each other. If that copy proves damaged, its own node has it still.
    pub(crate) fn came_elsewhere(
        &self,
        package: &NewPackage<'_>,
        number: Number,
        timed: bool,
        since: i64,
    ) -> rusqlite::Result<bool> {
        let NewPackage { site, name, digest, modified, .. } = package;
        self.tx
            .prepare_cached(
                "SELECT 1 FROM package
                 WHERE number = ?1 AND id > ?2 AND site <> ?3 AND name = ?4 AND digest = ?5 AND (?6 OR modified = ?7)
                     AND (state <> 'quarantined' OR reason NOT LIKE 'damaged%')",
            )?
            .exists(params![
                number::bytes(number),
                since,
                site,
                name.as_bytes(),
                digest.as_bytes(),
                timed,
                milliseconds(*modified)
            ])
    }

    /// These are gone from their site.
    pub(crate) fn rows_gone(&self, ids: &[i64]) -> rusqlite::Result<()> {
        ids.iter().try_for_each(|id| self.row_gone(*id))
    }
}

#[cfg(test)]
pub(super) const QUESTIONS: [(&str, &str); 3] = [
    (BY_NUMBER, "package_number (number>? AND number<?)"),
    (BY_NAME, "package_name (name=? AND site=?)"),
    (UNNUMBERED_BY_NAME, "package_unnumbered (site=? AND name=?)"),
];
