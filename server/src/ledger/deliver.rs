//! A batch of packages is in the pipeline: their states, the sums of their sites, the numbers that were received.

use std::collections::BTreeMap;
use std::time::SystemTime;

use rusqlite::params;

use super::span::Kind;
use super::{Batch, Package, seconds};

/// Asked for every batch: a quarantine full of other packages must not be looked through.
pub(super) const HAS_DAMAGED: &str = "
    SELECT 1 FROM package WHERE site = ?1 AND state = 'quarantined' AND on_site = 1 AND reason LIKE 'damaged%'";

/// What a batch delivered of one site.
struct Sum<'p> {
    packages: u64,
    bytes: u64,
    last: &'p Package,
    /// Whether a damaged copy of something lies in quarantine that the site may still have.
    has_damaged: bool,
}

impl Batch<'_> {
    /// These packages have their target names, durably. Each is counted once, however often it is said.
    pub(crate) fn deliver_all<'p>(
        &self,
        packages: impl IntoIterator<Item = &'p Package>,
    ) -> rusqlite::Result<()> {
        let now = seconds(SystemTime::now());
        let mut delivered = Vec::new();
        {
            let mut deliver = self.tx.prepare_cached(
                "UPDATE package SET state = 'delivered', delivered = ?2 WHERE id = ?1 AND state = 'committed'",
            )?;
            for package in packages {
                if deliver.execute(params![package.id, now])? == 1 {
                    delivered.push(package);
                }
            }
        }
        self.count_history(delivered.len());
        let mut sums: BTreeMap<&str, Sum<'_>> = BTreeMap::new();
        for package in &delivered {
            if let Some(sum) = sums.get_mut(package.site.as_str()) {
                sum.packages += 1;
                sum.bytes = sum.bytes.saturating_add(package.size);
                sum.last = package;
            } else {
                let has_damaged = self.has_damaged(&package.site)?;
                let sum = Sum { packages: 1, bytes: package.size, last: package, has_damaged };
                sums.insert(&package.site, sum);
            }
        }
        for package in delivered.iter().filter(|package| sums[package.site.as_str()].has_damaged) {
            self.supersede_damaged(package)?;
        }
        for (site, sum) in &sums {
            self.tx
                .prepare_cached(
                    "INSERT INTO site (name, packages, bytes, last_package, last_package_at)
                     VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT (name) DO UPDATE SET packages = packages + ?2, bytes = bytes + ?3,
                         last_package = ?4, last_package_at = ?5",
                )?
                .execute(params![site, sum.packages, sum.bytes, sum.last.name.as_bytes(), now])?;
        }
        self.received_packages(delivered)
    }

    fn has_damaged(&self, site: &str) -> rusqlite::Result<bool> {
        self.tx.prepare_cached(HAS_DAMAGED)?.exists([site])
    }

    /// A damaged copy that was put aside is not the last word about a package any more.
    fn supersede_damaged(&self, package: &Package) -> rusqlite::Result<()> {
        self.tx
            .prepare_cached(
                "UPDATE package SET on_site = 0, reason = reason || '; a good copy was delivered later'
                 WHERE site = ?1 AND name = ?2 AND digest = ?3 AND (state IN ('held', 'committed') OR on_site = 1)
                     AND on_site = 1 AND state = 'quarantined' AND reason LIKE 'damaged%'",
            )?
            .execute(params![package.site, package.name.as_bytes(), package.digest.as_bytes()])?;
        Ok(())
    }

    /// The numbers of these packages need not come again, whatever becomes of their rows.
    pub(super) fn received_packages<'p>(
        &self,
        packages: impl IntoIterator<Item = &'p Package>,
    ) -> rusqlite::Result<()> {
        let mut numbers: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for package in packages {
            if let Some(number) = package.number {
                let arrival = package.modified.unwrap_or(i64::MIN);
                numbers.entry(&package.site).or_default().push((number, arrival));
            }
        }
        numbers.into_iter().try_for_each(|(site, numbers)| self.received(Kind::Package, site, numbers))
    }
}
