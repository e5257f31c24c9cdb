//! Versions that one end lost: what they were, whose, why and when. Their contents are objects.

use std::collections::HashSet;

use rusqlite::{OptionalExtension, Row, params};

use super::{Batch, Store, StoreError};
use crate::shared::Digest;
use crate::shared::decide::Why;

/// How many versions of a pair are kept; the oldest beyond it go.
const OF_A_PAIR_MAX: i64 = 32;

/// How many bytes of a site are kept, whatever its node comes up with; the oldest beyond it go, never the newest.
const BYTES_OF_A_SITE_MAX: i64 = 1 << 30;

/// A version that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    /// What an operator calls it by.
    pub(crate) id: i64,
    pub(crate) site: String,
    pub(crate) name: Box<[u8]>,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) why: Why,
    /// Seconds since 1970.
    pub(crate) at: i64,
}

impl Store {
    /// All of a site or of all, newest first.
    pub(crate) fn kept(&self, site: Option<&str>) -> Result<Vec<Kept>, StoreError> {
        self.read(|db| {
            let mut query =
                db.prepare_cached("SELECT * FROM kept WHERE ?1 IS NULL OR site = ?1 ORDER BY id DESC")?;
            query.query_map([site], kept)?.collect()
        })
    }

    /// The contents of all of them.
    pub(crate) fn kept_digests(&self) -> Result<HashSet<Digest>, StoreError> {
        self.read(|db| {
            let mut query = db.prepare_cached("SELECT DISTINCT digest FROM kept")?;
            query.query_map([], |row| row.get(0))?.collect()
        })
    }
}

impl Batch<'_> {
    /// Keeps a version whose content is an object. The same one as the pair's newest is not kept twice.
    pub(crate) fn keep(
        &self,
        (site, name): (&str, &[u8]),
        (digest, size): (Digest, u64),
        why: Why,
        now: i64,
    ) -> rusqlite::Result<()> {
        let newest = "SELECT id, digest FROM kept WHERE site = ?1 AND name = ?2 ORDER BY id DESC LIMIT 1";
        let newest: Option<(i64, Digest)> = self
            .0
            .prepare_cached(newest)?
            .query_row(params![site, name], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        if let Some((id, _)) = newest.filter(|(_, known)| *known == digest) {
            self.0.prepare_cached("UPDATE kept SET at = ?2, why = ?3 WHERE id = ?1")?.execute(params![
                id,
                now,
                why.as_str()
            ])?;
            return Ok(());
        }
        self.0
            .prepare_cached(
                "INSERT INTO kept (site, name, digest, size, why, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![site, name, digest, size, why.as_str(), now])?;
        self.0
            .prepare_cached(
                "DELETE FROM kept WHERE id IN (SELECT id FROM kept WHERE site = ?1 AND name = ?2 ORDER BY id DESC
                     LIMIT -1 OFFSET ?3)",
            )?
            .execute(params![site, name, OF_A_PAIR_MAX])?;
        self.0
            .prepare_cached(
                "DELETE FROM kept WHERE id IN (SELECT id FROM (
                     SELECT id, sum(size) OVER (ORDER BY id DESC) AS bytes, row_number() OVER (ORDER BY id DESC) AS n
                     FROM kept WHERE site = ?1) WHERE bytes > ?2 AND n > 1)",
            )?
            .execute(params![site, BYTES_OF_A_SITE_MAX])?;
        Ok(())
    }

    /// Lets go of what was kept before `then`, in seconds since 1970. Returns how many.
    pub(crate) fn expire(&self, then: i64) -> rusqlite::Result<usize> {
        self.0.prepare_cached("DELETE FROM kept WHERE at < ?1")?.execute([then])
    }
}

fn kept(row: &Row<'_>) -> rusqlite::Result<Kept> {
    let why: String = row.get("why")?;
    Ok(Kept {
        id: row.get("id")?,
        site: row.get("site")?,
        name: row.get::<_, Vec<u8>>("name")?.into(),
        digest: row.get("digest")?,
        size: row.get("size")?,
        // A later version's word.
        why: Why::parse(&why).unwrap_or(Why::Conflict),
        at: row.get("at")?,
    })
}
