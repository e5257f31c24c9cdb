//! What is known of each pair at a site: what both ends had, what was begun, what the site showed last.

use std::collections::BTreeMap;
use std::time::Duration;

use rusqlite::{Row, params};
use tidegate_spool::shared::Seen;

use super::{Batch, Store, StoreError};
use crate::shared::Digest;
use crate::shared::decide::{End, Intent};
use crate::shared::names::Key;

/// How many contents that a pair had are remembered. One that came before them counts as new when it comes back.
const HAD_MAX: i64 = 64;

/// A pair as its site showed it last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct There {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    /// Its `.md5` says so.
    pub(crate) fits: bool,
    /// Since when it has been seen with this content and without a fitting `.md5`: milliseconds since 1970.
    pub(crate) unfit_since: Option<i64>,
}

impl There {
    pub(crate) fn seen(&self) -> Seen {
        Seen { digest: self.digest, size: self.size, fits: self.fits }
    }
}

/// Why a site did not take what it was to be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) words: String,
    /// What it did not take; `None`: a removal.
    pub(crate) digest: Option<Digest>,
    /// Seconds since 1970.
    pub(crate) at: i64,
}

/// All that is known of a pair at a site.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pair {
    /// What both ends had.
    pub(crate) agreed: Option<Digest>,
    /// What was begun.
    pub(crate) intent: Option<Intent>,
    /// What came from the site last: what that says, the central did not write.
    pub(crate) taken: Option<Digest>,
    /// An operator let it go there.
    pub(crate) allowed: bool,
    pub(crate) there: Option<There>,
    pub(crate) refused: Option<Refusal>,
    /// Since when an operator wants it pushed: seconds since 1970.
    pub(crate) wished: Option<i64>,
}

impl Pair {
    /// What the site shows. Without a fitting `.md5` somebody may be writing it, for as long as `interval`. `now` is in
    /// milliseconds since 1970.
    pub(crate) fn there_end(&self, now: i64, interval: Duration) -> End {
        let Some(there) = self.there else { return End::NONE };
        let age = there.unfit_since.map(|since| now.saturating_sub(since));
        let interval = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
        End { digest: Some(there.digest), fits: there.fits, settled: age.is_none_or(|age| age >= interval) }
    }
}

/// Whose content both ends have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The central's, or nobody knows.
    Here,
    /// The site's.
    There,
}

/// Which ends show a content that the pair had before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Old {
    pub(crate) here: bool,
    pub(crate) there: bool,
}

impl Store {
    /// Which ends of a pair show an old content, where that may decide: there, if it is not what was agreed; here, if that
    /// would go over another.
    pub(crate) fn old(
        &self,
        site: &str,
        name: &[u8],
        pair: &Pair,
        here: Option<Digest>,
    ) -> Result<Old, StoreError> {
        let there = pair.there.map(|there| there.digest);
        let was_before = |digest: Option<Digest>| match digest.filter(|_| digest != pair.agreed) {
            Some(digest) => self.was_before(site, name, &digest),
            None => Ok(false),
        };
        let goes_over = here.filter(|_| there.is_some() && there != here);
        Ok(Old { here: was_before(goes_over)?, there: was_before(there)? })
    }

    /// All pairs of a site, by the name of the main file.
    pub(crate) fn pairs(&self, site: &str) -> Result<BTreeMap<Box<[u8]>, Pair>, StoreError> {
        self.read(|db| {
            let mut query = db.prepare_cached("SELECT * FROM pair WHERE site = ?1")?;
            let rows = query.query_map([site], |row| {
                Ok((row.get::<_, Vec<u8>>("name")?.into_boxed_slice(), pair(row)?))
            })?;
            rows.collect()
        })
    }

    /// One of them.
    #[cfg(test)]
    pub(crate) fn pair(&self, site: &str, name: &[u8]) -> Result<Pair, StoreError> {
        Ok(self.pairs(site)?.remove(name).unwrap_or_default())
    }

    /// Whether a pair had this content at both ends once.
    pub(crate) fn was_before(&self, site: &str, name: &[u8], digest: &Digest) -> Result<bool, StoreError> {
        self.read(|db| {
            db.prepare_cached("SELECT 1 FROM had WHERE site = ?1 AND name = ?2 AND digest = ?3")?
                .exists(params![site, name, digest])
        })
    }

    /// The sites of which an operator wants something pushed.
    pub(crate) fn wished_sites(&self) -> Result<Vec<String>, StoreError> {
        self.read(|db| {
            let mut query = db.prepare_cached("SELECT DISTINCT site FROM pair WHERE wished IS NOT NULL")?;
            query.query_map([], |row| row.get(0))?.collect()
        })
    }
}

impl Batch<'_> {
    /// What a site shows of a pair; `None`: nothing. `now` is in milliseconds since 1970.
    pub(crate) fn saw(
        &self,
        site: &str,
        name: &[u8],
        seen: Option<(Digest, u64, bool)>,
        now: i64,
    ) -> rusqlite::Result<()> {
        let Some((digest, size, fits)) = seen else {
            self.0
                .prepare_cached(
                    "UPDATE pair SET there = NULL, there_size = NULL, there_fits = NULL, unfit_since = NULL
                     WHERE site = ?1 AND name = ?2",
                )?
                .execute(params![site, name])?;
            return self.tidy(site, name);
        };
        self.0
            .prepare_cached(
                "INSERT INTO pair (site, name, there, there_size, there_fits, unfit_since)
                 VALUES (?1, ?2, ?3, ?4, ?5, CASE WHEN ?5 THEN NULL ELSE ?6 END)
                 ON CONFLICT DO UPDATE SET there = ?3, there_size = ?4, there_fits = ?5, unfit_since =
                     CASE WHEN ?5 THEN NULL WHEN there IS ?3 AND unfit_since <= ?6 THEN unfit_since ELSE ?6 END",
            )?
            .execute(params![site, name, digest, size, fits, now])?;
        Ok(())
    }

    /// A step is about to be begun. `agreed` is what the decision took for agreed: where that is what the last step was to
    /// take up, it was taken up.
    pub(crate) fn intend(
        &self,
        site: &str,
        name: &[u8],
        agreed: Option<Digest>,
        intent: Intent,
    ) -> rusqlite::Result<()> {
        let (way, target) = match intent {
            Intent::Up(target) => ("up", target),
            Intent::Down(target) => ("down", target),
        };
        self.had(site, name, agreed)?;
        self.0
            .prepare_cached(
                "INSERT INTO pair (site, name, agreed, intent, target) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO UPDATE SET agreed = ?3, intent = ?4, target = ?5,
                     taken = iif(intent = 'up' AND target = ?3, target, taken)",
            )?
            .execute(params![site, name, agreed, way, target])?;
        match (intent, Key::of_conf(name)) {
            // What is the site's own needs no leave.
            (Intent::Up(Some(_)), Some(key)) => self.give(site, key),
            _ => Ok(()),
        }
    }

    /// Both ends have this content.
    pub(crate) fn agree(
        &self,
        site: &str,
        name: &[u8],
        digest: Digest,
        origin: Origin,
    ) -> rusqlite::Result<()> {
        self.had(site, name, Some(digest))?;
        self.0
            .prepare_cached(
                "INSERT INTO pair (site, name, agreed, taken) VALUES (?1, ?2, ?3, iif(?4, ?3, NULL))
                 ON CONFLICT DO UPDATE SET agreed = ?3, taken = iif(?4, ?3, taken), intent = NULL, target = NULL,
                     refused = NULL, refused_what = NULL, refused_at = NULL, wished = NULL",
            )?
            .execute(params![site, name, digest, origin == Origin::There])?;
        Key::of_conf(name).map_or(Ok(()), |key| self.give(site, key))
    }

    /// Neither end has it any more.
    pub(crate) fn forget(&self, site: &str, name: &[u8]) -> rusqlite::Result<()> {
        self.0
            .prepare_cached(
                "UPDATE pair SET agreed = NULL, intent = NULL, target = NULL, refused = NULL, refused_what = NULL,
                     refused_at = NULL, wished = NULL
                 WHERE site = ?1 AND name = ?2",
            )?
            .execute(params![site, name])?;
        self.tidy(site, name)
    }

    /// The site did not take it.
    pub(crate) fn refused(&self, site: &str, name: &[u8], refusal: &Refusal) -> rusqlite::Result<()> {
        let Refusal { words, digest, at } = refusal;
        self.0
            .prepare_cached(
                "INSERT INTO pair (site, name, refused, refused_what, refused_at) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO UPDATE SET refused = ?3, refused_what = ?4, refused_at = ?5, wished = NULL",
            )?
            .execute(params![site, name, words, digest, at])?;
        Ok(())
    }

    /// An operator wants what is here to be there, and lets it go there.
    pub(crate) fn wish(&self, site: &str, name: &[u8], now: i64) -> rusqlite::Result<()> {
        self.0
            .prepare_cached(
                "INSERT INTO pair (site, name, wished, allowed) VALUES (?1, ?2, ?3, 1)
                 ON CONFLICT DO UPDATE SET wished = ?3, allowed = 1, refused = NULL, refused_what = NULL, refused_at = NULL",
            )?
            .execute(params![site, name, now])?;
        Key::of_conf(name).map_or(Ok(()), |key| self.give(site, key))
    }

    /// A wish that came to nothing, because there is nothing to push.
    pub(crate) fn unwish(&self, site: &str, name: &[u8]) -> rusqlite::Result<()> {
        self.0
            .prepare_cached("UPDATE pair SET wished = NULL WHERE site = ?1 AND name = ?2")?
            .execute(params![site, name])?;
        self.tidy(site, name)
    }

    /// A pair had this content at both ends.
    fn had(&self, site: &str, name: &[u8], digest: Option<Digest>) -> rusqlite::Result<()> {
        let Some(digest) = digest else { return Ok(()) };
        let newest = "SELECT ifnull(max(at), 0) FROM had WHERE site = ?1 AND name = ?2";
        let newest: i64 = self.0.prepare_cached(newest)?.query_row(params![site, name], |row| row.get(0))?;
        self.0
            .prepare_cached("INSERT OR REPLACE INTO had (site, name, digest, at) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![site, name, digest, newest + 1])?;
        self.0
            .prepare_cached("DELETE FROM had WHERE site = ?1 AND name = ?2 AND at <= ?3")?
            .execute(params![site, name, newest + 1 - HAD_MAX])?;
        Ok(())
    }

    /// A row that says nothing goes.
    fn tidy(&self, site: &str, name: &[u8]) -> rusqlite::Result<()> {
        self.0
            .prepare_cached(
                "DELETE FROM pair WHERE site = ?1 AND name = ?2 AND agreed IS NULL AND intent IS NULL AND there IS NULL
                     AND allowed = 0 AND refused IS NULL AND wished IS NULL",
            )?
            .execute(params![site, name])?;
        Ok(())
    }
}

fn pair(row: &Row<'_>) -> rusqlite::Result<Pair> {
    let target: Option<Digest> = row.get("target")?;
    let intent = match row.get::<_, Option<String>>("intent")?.as_deref() {
        Some("up") => Some(Intent::Up(target)),
        Some(_) => Some(Intent::Down(target)),
        None => None,
    };
    let there = match row.get::<_, Option<Digest>>("there")? {
        None => None,
        Some(digest) => Some(There {
            digest,
            size: row.get("there_size")?,
            fits: row.get("there_fits")?,
            unfit_since: row.get("unfit_since")?,
        }),
    };
    let refused = match row.get::<_, Option<String>>("refused")? {
        None => None,
        Some(words) => Some(Refusal { words, digest: row.get("refused_what")?, at: row.get("refused_at")? }),
    };
    Ok(Pair {
        agreed: row.get("agreed")?,
        intent,
        taken: row.get("taken")?,
        allowed: row.get("allowed")?,
        there,
        refused,
        wished: row.get("wished")?,
    })
}
