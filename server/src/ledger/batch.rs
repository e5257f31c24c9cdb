//! The changes that one transaction may make.

use std::time::SystemTime;

use rusqlite::{Transaction, params};
use tidegate_proto::Name;

use super::package::milliseconds;
use super::{Package, State, seconds};
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
    tx: &'a Transaction<'a>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(tx: &'a Transaction<'a>) -> Self {
        Self { tx }
    }

    /// Records a package as held.
    pub(crate) fn hold(&self, new: &NewPackage<'_>) -> rusqlite::Result<Package> {
        let mut package = Package {
            id: 0,
            site: new.site.to_owned(),
            name: new.name.clone(),
            digest: new.digest.clone(),
            size: new.size,
            state: State::Held,
            staged: new.staged.to_owned(),
            target: new.name.as_bytes().to_vec(),
            on_site: true,
            reason: None,
            modified: Some(milliseconds(new.modified)),
            received: seconds(SystemTime::now()),
            delivered: None,
        };
        self.tx
            .prepare_cached(
                "INSERT INTO package (site, name, digest, size, state, staged, target, received, modified, sum)
                 VALUES (?1, ?2, ?3, ?4, 'held', ?5, ?2, ?6, ?7, ?8)",
            )?
            .execute(params![
                package.site,
                package.name.as_bytes(),
                package.digest.as_bytes(),
                package.size,
                package.staged,
                package.received,
                package.modified,
                package.sum(),
            ])?;
        package.id = self.tx.last_insert_rowid();
        Ok(package)
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
    pub(crate) fn deliver(&self, package: &Package) -> rusqlite::Result<()> {
        let now = seconds(SystemTime::now());
        let changed = self
            .tx
            .prepare_cached(
                "UPDATE package SET state = 'delivered', delivered = ?2 WHERE id = ?1 AND state = 'committed'",
            )?
            .execute(params![package.id, now])?;
        if changed == 1 {
            self.tx
                .prepare_cached(
                    "INSERT INTO site (name, packages, bytes, last_package, last_package_at)
                     VALUES (?1, 1, ?2, ?3, ?4)
                     ON CONFLICT (name) DO UPDATE SET packages = packages + 1, bytes = bytes + ?2,
                         last_package = ?3, last_package_at = ?4",
                )?
                .execute(params![package.site, package.size, package.name.as_bytes(), now])?;
        }
        Ok(())
    }

    /// The site is known to have deleted the package with this row.
    pub(crate) fn gone(&self, id: i64) -> rusqlite::Result<()> {
        self.tx.prepare_cached("UPDATE package SET on_site = 0 WHERE id = ?1")?.execute([id])?;
        Ok(())
    }

    /// Another staging directory is in use from now on.
    pub(crate) fn staging_mark(&self, mark: &str) -> rusqlite::Result<()> {
        self.tx.execute("INSERT OR REPLACE INTO fact VALUES ('staging', ?1)", params![mark])?;
        Ok(())
    }

    /// The site is known to have deleted what was delivered, or is in quarantine, under this name with this digest.
    pub(crate) fn version_gone(&self, site: &str, name: &Name, digest: &Digest) -> rusqlite::Result<()> {
        self.tx
            .prepare_cached(
                "UPDATE package SET on_site = 0
                 WHERE site = ?1 AND name = ?2 AND digest = ?3 AND state IN ('delivered', 'quarantined')
                     AND on_site = 1",
            )?
            .execute(params![site, name.as_bytes(), digest.as_bytes()])?;
        Ok(())
    }

    /// The site sent a package again that had been delivered before.
    pub(crate) fn repeated(&self, site: &str) -> rusqlite::Result<()> {
        self.tx
            .prepare_cached(
                "INSERT INTO site (name, repeats) VALUES (?1, 1)
                 ON CONFLICT (name) DO UPDATE SET repeats = repeats + 1",
            )?
            .execute(params![site])?;
        Ok(())
    }
}
