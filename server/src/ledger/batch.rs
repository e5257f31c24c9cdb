//! The changes that one transaction may make.

use std::cell::Cell;
use std::time::SystemTime;

use rusqlite::{Transaction, params};
use tidegate_proto::Name;
use tidegate_proto::relay::Number;

use super::package::{DAMAGED, milliseconds};
use super::{LossReason, Package, State, number, seconds};
use crate::body::Digest;

/// A package whose content is durable in the staging directory.
#[derive(Debug)]
pub(crate) struct NewPackage<'a> {
    pub(crate) site: &'a str,
    pub(crate) name: &'a Name,
    pub(crate) digest: &'a Digest,
    pub(crate) size: u64,
    pub(crate) staged: &'a str,
    pub(crate) modified: SystemTime,
}

/// A transaction that is being put together.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    pub(super) tx: &'a Transaction<'a>,
    /// How many rows may have become history.
    history_made: Cell<u64>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(tx: &'a Transaction<'a>) -> Self {
        Self { tx, history_made: Cell::new(0) }
    }

    pub(super) fn history_made(&self) -> u64 {
        self.history_made.get()
    }

    pub(super) fn count_history(&self, rows: usize) {
        self.history_made.set(self.history_made.get().saturating_add(rows as u64));
    }

    /// Records a package as held.
    pub(crate) fn hold(&self, new: &NewPackage<'_>) -> rusqlite::Result<Package> {
        self.insert(new, State::Held, None)
    }

    /// Records a package as committed, under the number that its node gave it.
    pub(crate) fn arrive(&self, new: &NewPackage<'_>, number: Number) -> rusqlite::Result<Package> {
        self.insert(new, State::Committed, Some(number))
    }

    fn insert(
        &self,
        new: &NewPackage<'_>,
        state: State,
        number: Option<Number>,
    ) -> rusqlite::Result<Package> {
        let mut package = Package {
            id: 0,
            site: new.site.to_owned(),
            name: new.name.clone(),
            digest: new.digest.clone(),
            size: new.size,
            state,
            staged: new.staged.to_owned(),
            target: new.name.as_bytes().to_vec(),
            on_site: true,
            reason: None,
            modified: Some(milliseconds(new.modified)),
            received: seconds(SystemTime::now()),
            delivered: None,
            number,
        };
        self.tx
            .prepare_cached(
                "INSERT INTO package (site, name, digest, size, state, staged, target, received, modified, sum, number)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?2, ?7, ?8, ?9, ?10)",
            )?
            .execute(params![
                package.site,
                package.name.as_bytes(),
                package.digest.as_bytes(),
                package.size,
                package.state.as_str(),
                package.staged,
                package.received,
                package.modified,
                package.sum(),
                package.number.map(number::bytes),
            ])?;
        package.id = self.tx.last_insert_rowid();
        Ok(package)
    }

    /// Takes over a row of an earlier ledger, or one for a file that was found, as it is but for its id.
    pub(crate) fn adopt(&self, package: &Package) -> rusqlite::Result<()> {
        self.tx
            .prepare_cached(
                "INSERT INTO package (site, name, digest, size, state, on_site, staged, target, received, delivered,
                     reason, modified, sum, number)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
            )?
            .execute(params![
                package.site,
                package.name.as_bytes(),
                package.digest.as_bytes(),
                package.size,
                package.state.as_str(),
                package.on_site,
                package.staged,
                package.target,
                package.received,
                package.delivered,
                package.reason,
                package.modified,
                package.sum(),
                package.number.map(number::bytes),
            ])?;
        // For `status`, which lists sites.
        self.tx.prepare_cached("INSERT OR IGNORE INTO site (name) VALUES (?1)")?.execute([&package.site])?;
        Ok(())
    }

    /// Forgets a held package: a later version contains all of it.
    pub(crate) fn forget(&self, package: &Package) -> rusqlite::Result<()> {
        self.tx
            .prepare_cached("DELETE FROM package WHERE id = ?1 AND state = 'held'")?
            .execute(params![package.id])?;
        Ok(())
    }

    /// Decides that a package goes to the pipeline under its target name.
    pub(crate) fn commit(&self, package: &Package) -> rusqlite::Result<()> {
        self.tx
            .prepare_cached("UPDATE package SET state = 'committed' WHERE id = ?1 AND state = 'held'")?
            .execute(params![package.id])?;
        Ok(())
    }

    /// Gives a committed package another target name: the first was taken.
    pub(crate) fn retarget(&self, package: &Package, target: &[u8]) -> rusqlite::Result<()> {
        let sum = Package { target: target.to_vec(), ..package.clone() }.sum();
        self.tx
            .prepare_cached("UPDATE package SET target = ?2, sum = ?3 WHERE id = ?1 AND state = 'committed'")?
            .execute(params![package.id, target, sum])?;
        Ok(())
    }

    /// A package has its target name, durably. Counted once, however often it is said.
    #[cfg(test)]
    pub(crate) fn deliver(&self, package: &Package) -> rusqlite::Result<()> {
        self.deliver_all([package])
    }

    /// A committed package cannot be delivered. Returns whether its file stays: a second damaged copy of what the site
    /// still has tells nothing that the first does not, and a good copy that was delivered says all.
    pub(crate) fn quarantine(&self, package: &Package, reason: &str) -> rusqlite::Result<bool> {
        let damaged = reason.starts_with(DAMAGED);
        // Not even if an earlier package had its number.
        if let Some(number) = package.number.filter(|_| damaged) {
            self.not_received(&package.site, number)?;
        }
        let is_told = package.on_site && damaged && self.has_damaged_copy(package)?;
        if is_told || damaged && self.was_delivered_later(package)? {
            self.tx.prepare_cached("DELETE FROM package WHERE id = ?1")?.execute([package.id])?;
            return Ok(false);
        }
        let changed = self
            .tx
            .prepare_cached(
                "UPDATE package SET state = 'quarantined', reason = ?2, delivered = ?3
                 WHERE id = ?1 AND state = 'committed'",
            )?
            .execute(params![package.id, reason, seconds(SystemTime::now())])?;
        // While the site may have it, its next listing decides; and one loss is counted once.
        if changed == 1 && damaged && !package.on_site && !package.reason_is_damage() {
            self.lost(package, LossReason::Damaged)?;
        }
        if changed == 1 && !damaged {
            self.received_packages([package])?;
        }
        Ok(true)
    }

    fn has_damaged_copy(&self, package: &Package) -> rusqlite::Result<bool> {
        self.tx
            .prepare_cached(
                "SELECT 1 FROM package
                 WHERE site = ?1 AND name = ?2 AND digest = ?3 AND (state IN ('held', 'committed') OR on_site = 1)
                     AND on_site = 1 AND state = 'quarantined' AND reason LIKE 'damaged%'",
            )?
            .exists(params![package.site, package.name.as_bytes(), package.digest.as_bytes()])
    }

    /// Whether a package that came after this one, the same in site, name and bytes, was delivered.
    pub(crate) fn was_delivered_later(&self, package: &Package) -> rusqlite::Result<bool> {
        self.tx
            .prepare_cached(
                "SELECT 1 FROM package
                 WHERE name = ?1 AND site = ?2 AND digest = ?3 AND id > ?4 AND state = 'delivered'",
            )?
            .exists(params![package.name.as_bytes(), package.site, package.digest.as_bytes(), package.id])
    }

    /// A package in quarantine is to be delivered after all. Returns whether it still was there.
    pub(crate) fn requeue(&self, package: &Package) -> rusqlite::Result<bool> {
        let target = package.name.as_bytes();
        let sum = Package { target: target.to_vec(), ..package.clone() }.sum();
        let changed = self
            .tx
            .prepare_cached(
                "UPDATE package SET state = 'committed', delivered = NULL, target = ?2, sum = ?3
                 WHERE id = ?1 AND state = 'quarantined'",
            )?
            .execute(params![package.id, target, sum])?;
        Ok(changed == 1)
    }

    /// Forgets a package in quarantine. Returns whether it still was there.
    pub(crate) fn purge(&self, package: &Package) -> rusqlite::Result<bool> {
        let changed = self
            .tx
            .prepare_cached("DELETE FROM package WHERE id = ?1 AND state = 'quarantined'")?
            .execute([package.id])?;
        Ok(changed == 1)
    }

    /// The site is known to have deleted a package.
    pub(crate) fn gone(&self, package: &Package) -> rusqlite::Result<()> {
        self.row_gone(package.id)?;
        // No good copy of it can come any more.
        if package.is_damaged() && package.on_site {
            self.lost(package, LossReason::Damaged)?;
        }
        Ok(())
    }

    /// The site is known to have deleted the package with this row.
    pub(super) fn row_gone(&self, id: i64) -> rusqlite::Result<()> {
        let changed =
            self.tx.prepare_cached("UPDATE package SET on_site = 0 WHERE id = ?1")?.execute([id])?;
        self.count_history(changed);
        Ok(())
    }

    /// Records a fact about the ledger itself.
    pub(crate) fn fact(&self, name: &str, value: &str) -> rusqlite::Result<()> {
        self.tx.execute("INSERT OR REPLACE INTO fact VALUES (?1, ?2)", params![name, value])?;
        Ok(())
    }

    /// Takes a fact back.
    pub(crate) fn no_fact(&self, name: &str) -> rusqlite::Result<()> {
        self.tx.execute("DELETE FROM fact WHERE name = ?1", [name])?;
        Ok(())
    }

    /// The site is known to have deleted what was delivered, or is in quarantine, under this name with this digest.
    pub(crate) fn version_gone(&self, site: &str, name: &Name, digest: &Digest) -> rusqlite::Result<()> {
        let changed = self
            .tx
            .prepare_cached(
                "UPDATE package SET on_site = 0
                 WHERE site = ?1 AND name = ?2 AND digest = ?3 AND state IN ('delivered', 'quarantined')
                     AND on_site = 1",
            )?
            .execute(params![site, name.as_bytes(), digest.as_bytes()])?;
        self.count_history(changed);
        Ok(())
    }

    /// The site sent packages again that had been delivered before.
    pub(crate) fn repeated(&self, site: &str, packages: u64) -> rusqlite::Result<()> {
        self.tx
            .prepare_cached(
                "INSERT INTO site (name, repeats) VALUES (?1, ?2)
                 ON CONFLICT (name) DO UPDATE SET repeats = repeats + ?2",
            )?
            .execute(params![site, packages])?;
        Ok(())
    }
}
