//! How much history is kept: rows that are delivered and gone from their site.
//!
//! The promise needs none of it. With a forgotten row goes the answer of `find`, and the recognition of a file that a
//! stock site's sender sends again after it was pulled.
//!
//! Trimming keeps up with any rate, and its work is bounded: a transaction that makes `n` rows history forgets up to
//! `2n` and a few; beside that every attempt at a site forgets up to [`FORGOTTEN_AT_ONCE`], which is what catches up
//! after the limits were lowered, and what makes room when nothing is pulled.

use std::time::{Duration, SystemTime};

use rusqlite::{Connection, params};

use super::{Ledger, LedgerError, seconds};

/// Rows forgotten at once: an attempt never waits long for it.
const FORGOTTEN_AT_ONCE: u64 = 1_000;

/// How much is forgotten in a transaction beyond twice what it adds.
const A_FEW: u64 = 16;

/// How much history is kept: what is beyond either limit is forgotten, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retention {
    /// History is among the newest so many rows.
    pub(crate) max: u64,
    /// For so long after the delivery.
    pub(crate) keep: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self { max: 1_000_000, keep: Duration::from_secs(30 * 24 * 60 * 60) }
    }
}

impl Retention {
    /// In a transaction that made `rows` rows history.
    pub(super) fn trim_behind(self, db: &Connection, rows: u64) -> rusqlite::Result<()> {
        if rows > 0 { self.trim(db, rows.saturating_mul(2).saturating_add(A_FEW)) } else { Ok(()) }
    }

    /// Forgets what is beyond the limits among the oldest `at_once` rows of history.
    fn trim(self, db: &Connection, at_once: u64) -> rusqlite::Result<()> {
        let Self { max, keep } = self;
        let horizon = SystemTime::now().checked_sub(keep).map_or(0, seconds);
        db.prepare_cached(TRIM)?.execute(params![
            i64::try_from(max).unwrap_or(i64::MAX),
            horizon,
            i64::try_from(at_once).unwrap_or(i64::MAX),
        ])?;
        Ok(())
    }
}

/// The index holds nothing but history, by id: no other row is ever looked at.
pub(super) const TRIM: &str = "
    DELETE FROM package WHERE id IN (
        SELECT id FROM (
            SELECT id, delivered FROM package INDEXED BY package_history
            WHERE state = 'delivered' AND on_site = 0 ORDER BY id LIMIT ?3)
        WHERE id <= (SELECT max(id) FROM package) - ?1 OR delivered < ?2)";

impl Ledger {
    /// Forgets some of the history beyond its limits.
    pub(crate) fn trim(&self) -> Result<(), LedgerError> {
        let retention = self.retention;
        self.guarded(|db| retention.trim(db, FORGOTTEN_AT_ONCE))
    }
}

#[cfg(test)]
mod tests {
    use tidegate_proto::Name;

    use super::super::{Batch, NewPackage, Package};
    use super::*;
    use crate::body::Digest;

    const FOR_EVER: Duration = Duration::from_secs(1_000_000_000);

    fn hold(batch: &Batch<'_>, n: u32) -> Package {
        let name = Name::parse_listed(format!("web01.{n}.data").as_bytes()).unwrap();
        let (digest, staged) = (Digest::from([7; 32]), format!("{n}.staged"));
        let modified = SystemTime::now();
        let new = NewPackage { site: "a", name: &name, digest: &digest, size: 1, staged: &staged, modified };
        batch.hold(&new).unwrap()
    }

    /// A package that is delivered, and deleted by its site.
    fn make_history(ledger: &Ledger, numbers: std::ops::Range<u32>) {
        ledger
            .write(|batch| {
                numbers.clone().try_for_each(|n| {
                    let package = hold(batch, n);
                    batch.commit(&package)?;
                    batch.deliver(&package)?;
                    batch.gone(&package)
                })
            })
            .unwrap();
    }

    fn ids(ledger: &Ledger) -> Vec<i64> {
        ledger.select("true ORDER BY id", []).unwrap().iter().map(|package| package.id).collect()
    }

    fn ledger(max: u64, keep: Duration) -> (tempfile::TempDir, Ledger) {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(directory.path()).unwrap().keeping(Retention { max, keep });
        (directory, ledger)
    }

    #[test]
    fn history_is_bounded_and_nothing_else_is_forgotten() {
        let (_directory, ledger) = ledger(3, FOR_EVER);
        let open = ledger.write(|batch| {
            let held = hold(batch, 0);
            let committed = hold(batch, 1);
            batch.commit(&committed)?;
            let on_site = hold(batch, 2);
            batch.commit(&on_site)?;
            batch.deliver(&on_site)?;
            Ok([held.id, committed.id, on_site.id])
        });
        make_history(&ledger, 10..20);
        let kept: Vec<i64> = open.unwrap().into_iter().chain([11, 12, 13]).collect();
        assert_eq!(ids(&ledger), kept);
    }

    #[test]
    fn trimming_keeps_up_with_any_rate_and_no_transaction_does_more_than_its_share() {
        let (_directory, ledger) = ledger(10, FOR_EVER);
        for round in 0..20 {
            make_history(&ledger, round * 500..(round + 1) * 500);
            assert_eq!(ids(&ledger).len(), 10);
        }
        let behind = ledger.keeping(Retention { max: 10_000, keep: FOR_EVER });
        make_history(&behind, 10_000..15_000);
        assert_eq!(ids(&behind).len(), 5_010);
        let behind = behind.keeping(Retention { max: 10, keep: FOR_EVER });
        behind.trim().unwrap();
        assert_eq!(ids(&behind).len(), 5_010 - FORGOTTEN_AT_ONCE as usize);
        make_history(&behind, 20_000..20_001);
        assert_eq!(
            ids(&behind).len(),
            5_011 - 1_000 - 2 * 2 - A_FEW as usize,
            "delivered and gone count one each"
        );
    }

    #[test]
    fn history_goes_when_its_time_has_come() {
        let (directory, ledger) = ledger(1_000, Duration::from_secs(3_600));
        make_history(&ledger, 0..4);
        let age = |id: i64| {
            let db = Connection::open(directory.path().join("ledger.sqlite")).unwrap();
            db.execute("UPDATE package SET delivered = delivered - 3601 WHERE id = ?1", [id]).unwrap();
        };
        age(1);
        age(3);
        ledger.trim().unwrap();
        assert_eq!(ids(&ledger), [2, 4]);
    }

    #[test]
    fn only_history_is_looked_at() {
        let (_directory, ledger) = ledger(1_000, FOR_EVER);
        let db = ledger.db();
        let mut query = db.prepare(&format!("EXPLAIN QUERY PLAN {TRIM}")).unwrap();
        let lines = query.query_map([0, 0, 0], |row| row.get::<_, String>(3)).unwrap();
        let plan = lines.map(Result::unwrap).collect::<Vec<_>>().join("; ");
        assert!(plan.contains("SCAN package USING INDEX package_history"), "{plan}");
        assert!(plan.contains("SEARCH package USING INTEGER PRIMARY KEY (rowid=?)"), "{plan}");
        assert!(!plan.contains("TEMP B-TREE"), "{plan}");
    }
}
