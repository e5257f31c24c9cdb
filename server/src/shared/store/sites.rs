//! How each site's last sync went, for `status`.

use rusqlite::params;

use super::{Batch, Store, StoreError};
use crate::shared::decide::Step;

/// How many pairs of a site are how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) in_sync: u64,
    /// About to go one way or the other.
    pub(crate) under_way: u64,
    pub(crate) waiting: u64,
    pub(crate) withheld: u64,
    /// The site's own, which stay there.
    pub(crate) left_there: u64,
    /// The site did not take it.
    pub(crate) refused: u64,
}

impl Counts {
    /// Counts a pair by what is to become of it.
    pub(crate) fn add(&mut self, step: &Step, refused: bool) {
        *match step {
            _ if refused => &mut self.refused,
            Step::Rest | Step::Agree(_) | Step::Forget => &mut self.in_sync,
            Step::Withhold => &mut self.withheld,
            Step::Leave => &mut self.left_there,
            Step::Wait(_) => &mut self.waiting,
            Step::Prove { .. }
            | Step::Place { .. }
            | Step::Remove { .. }
            | Step::Take { .. }
            | Step::Drop { .. } => &mut self.under_way,
        } += 1;
    }
}

/// What is known of a site.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SiteRow {
    pub(crate) name: String,
    /// When a sync last came to its end: seconds since 1970.
    pub(crate) synced: Option<i64>,
    /// Why the last one did not.
    pub(crate) error: Option<String>,
    pub(crate) error_at: Option<i64>,
    pub(crate) counts: Counts,
    /// It sent packages of more agents than `max_agents`.
    pub(crate) overfull: bool,
    /// How many versions are kept of it, and how many of them because both ends had changed.
    pub(crate) kept: u64,
    pub(crate) conflicts: u64,
    /// Agents that are its own, and those that another site says are its own too.
    pub(crate) agents: u64,
    pub(crate) disputed: u64,
}

impl Store {
    /// What is known of each site.
    pub(crate) fn sites(&self) -> Result<Vec<SiteRow>, StoreError> {
        self.read(|db| {
            let mut query = db.prepare_cached(
                "SELECT *,
                     (SELECT count(*) FROM kept WHERE kept.site = s.name) AS kept,
                     (SELECT count(*) FROM kept WHERE kept.site = s.name AND why = 'conflict') AS conflicts,
                     (SELECT count(*) FROM claim WHERE claim.site = s.name) AS agents,
                     (SELECT count(DISTINCT claim.key) FROM claim JOIN claim_too ON claim_too.key = claim.key
                         WHERE claim.site = s.name) AS disputed
                 FROM (SELECT name FROM site UNION SELECT site FROM claim) AS s LEFT JOIN site ON site.name = s.name
                 ORDER BY s.name",
            )?;
            let rows = query.query_map([], |row| {
                let count = |column: &str| Ok::<_, rusqlite::Error>(row.get::<_, Option<u64>>(column)?.unwrap_or(0));
                Ok(SiteRow {
                    name: row.get(0)?,
                    synced: row.get("synced")?,
                    error: row.get("error")?,
                    error_at: row.get("error_at")?,
                    counts: Counts {
                        in_sync: count("in_sync")?,
                        under_way: count("under_way")?,
                        waiting: count("waiting")?,
                        withheld: count("withheld")?,
                        left_there: count("left_there")?,
                        refused: count("refused")?,
                    },
                    overfull: count("overfull")? > 0,
                    kept: count("kept")?,
                    conflicts: count("conflicts")?,
                    agents: count("agents")?,
                    disputed: count("disputed")?,
                })
            })?;
            rows.collect()
        })
    }
}

impl Batch<'_> {
    /// A sync came to its end, and this is how the pairs are.
    pub(crate) fn synced(&self, site: &str, counts: &Counts, now: i64) -> rusqlite::Result<()> {
        let Counts { in_sync, under_way, waiting, withheld, left_there, refused } = counts;
        self.0
            .prepare_cached(
                "INSERT INTO site (name, synced, in_sync, under_way, waiting, withheld, left_there, refused)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                 ON CONFLICT DO UPDATE SET synced = ?2, error = NULL, error_at = NULL, in_sync = ?3, under_way = ?4,
                     waiting = ?5, withheld = ?6, left_there = ?7, refused = ?8",
            )?
            .execute(params![site, now, in_sync, under_way, waiting, withheld, left_there, refused])?;
        Ok(())
    }

    /// A sync did not come to its end.
    pub(crate) fn failed(&self, site: &str, error: &str, now: i64) -> rusqlite::Result<()> {
        self.0
            .prepare_cached(
                "INSERT INTO site (name, error, error_at) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET error = ?2, error_at = ?3",
            )?
            .execute(params![site, error, now])?;
        Ok(())
    }

    /// The site has more agents than it may.
    pub(crate) fn overfull(&self, site: &str) -> rusqlite::Result<()> {
        self.0
            .prepare_cached(
                "INSERT INTO site (name, overfull) VALUES (?1, 1) ON CONFLICT DO UPDATE SET overfull = 1",
            )?
            .execute([site])?;
        Ok(())
    }
}
