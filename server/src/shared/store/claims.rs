//! Whose an agent is, by what the sites have sent.
//!
//! A claim is only a site's word. The first one counts, for good, unless its site is configured no more; a later one is
//! recorded to be shown. A claim of an agent whose configuration the central has already may be a lie told to read it: it
//! gives nothing until the site has shown that it has the same, or an operator says so.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Batch, Store, StoreError};
use crate::shared::names::{Key, keys_of};

/// How many other claimants of an agent are remembered; more are not.
const OTHERS_MAX: usize = 8;

/// A site's word that an agent is its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) key: Key,
    pub(crate) site: String,
    /// What stands before the number in its packages' names.
    pub(crate) agent: Box<[u8]>,
    /// Seconds since 1970.
    pub(crate) at: i64,
    /// The site may be given what it did not have.
    pub(crate) may_give: bool,
    /// Sites that said the same later.
    pub(crate) too: Vec<String>,
}

/// What came of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Claimed {
    /// The site has it.
    Now { may_give: bool },
    /// It had it.
    Before,
    /// Another site has it; told the first time only.
    Others { site: String, new: bool },
    /// The site has as many as it may.
    Full,
}

/// What is to be known about a claim before it is decided.
pub(crate) struct Terms<'a> {
    /// The sites of the configuration.
    pub(crate) configured: &'a dyn Fn(&str) -> bool,
    /// Whether a new claim of this agent gives what the central has already.
    pub(crate) may_give: &'a dyn Fn(Key) -> bool,
    /// How many agents a site may have.
    pub(crate) max: usize,
    /// Seconds since 1970.
    pub(crate) now: i64,
}

impl Store {
    /// Who has an agent.
    pub(crate) fn claimant(&self, key: Key) -> Result<Option<Claim>, StoreError> {
        self.read(|db| {
            let found = one(db, key)?;
            found.map(|claim| Ok(Claim { too: others(db, key)?, ..claim })).transpose()
        })
    }

    /// The keys that a site claimed first, and whether it may be given what it did not have.
    pub(crate) fn claimed(&self, site: &str) -> Result<Vec<(Key, bool)>, StoreError> {
        self.read(|db| {
            let mut query =
                db.prepare_cached("SELECT key, may_give FROM claim WHERE site = ?1 ORDER BY key")?;
            query.query_map([site], |row| Ok((key(row)?, row.get("may_give")?)))?.collect()
        })
    }

    /// The names by which a site's agents are known. Those that another site has are not among them: that one may be
    /// configured no more.
    pub(crate) fn agents(&self, site: &str) -> Result<Vec<Box<[u8]>>, StoreError> {
        self.read(|db| {
            let mut query = db.prepare_cached("SELECT DISTINCT agent FROM claim WHERE site = ?1")?;
            let agents = query.query_map([site], |row| Ok(row.get::<_, Vec<u8>>(0)?.into()))?;
            agents.collect()
        })
    }
}

impl Batch<'_> {
    /// A site sent packages of these agents: what came of each of their keys.
    pub(crate) fn claim<'a>(
        &self,
        site: &str,
        agents: &'a [Box<[u8]>],
        terms: &Terms<'_>,
    ) -> rusqlite::Result<Vec<(&'a [u8], Key, Claimed)>> {
        let mut count = self.0.prepare_cached("SELECT count(*) FROM claim WHERE site = ?1")?;
        let known: usize = count.query_row([site], |row| row.get(0))?;
        let mut room = terms.max.saturating_sub(known);
        let mut claims = Vec::new();
        for agent in agents {
            for key in keys_of(agent) {
                let claimed = self.claim_key(site, agent, key, room > 0, terms)?;
                room -= usize::from(matches!(claimed, Claimed::Now { .. }));
                claims.push((&**agent, key, claimed));
            }
        }
        Ok(claims)
    }

    fn claim_key(
        &self,
        site: &str,
        agent: &[u8],
        key: Key,
        has_room: bool,
        terms: &Terms<'_>,
    ) -> rusqlite::Result<Claimed> {
        match one(&self.0, key)? {
            Some(claim) if claim.site == site => return Ok(Claimed::Before),
            Some(claim) if (terms.configured)(&claim.site) => {
                let new = self.claim_too(site, agent, key, terms.now)?;
                return Ok(Claimed::Others { site: claim.site, new });
            }
            _ => {}
        }
        if !has_room {
            return Ok(Claimed::Full);
        }
        let may_give = (terms.may_give)(key);
        self.0
            .prepare_cached(
                "INSERT OR REPLACE INTO claim (key, site, agent, at, may_give) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![key.to_string(), site, agent, terms.now, may_give])?;
        self.0
            .prepare_cached("DELETE FROM claim_too WHERE key = ?1 AND site = ?2")?
            .execute(params![key.to_string(), site])?;
        Ok(Claimed::Now { may_give })
    }

    /// Whether that is news.
    fn claim_too(&self, site: &str, agent: &[u8], key: Key, now: i64) -> rusqlite::Result<bool> {
        if others(&self.0, key)?.len() >= OTHERS_MAX {
            return Ok(false);
        }
        let inserted = self
            .0
            .prepare_cached("INSERT OR IGNORE INTO claim_too (key, site, agent, at) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![key.to_string(), site, agent, now])?;
        Ok(inserted > 0)
    }

    /// From now on the agent's site may be given what it did not have.
    pub(super) fn give(&self, site: &str, key: Key) -> rusqlite::Result<()> {
        self.0
            .prepare_cached("UPDATE claim SET may_give = 1 WHERE key = ?1 AND site = ?2 AND may_give = 0")?
            .execute(params![key.to_string(), site])?;
        Ok(())
    }
}

fn one(db: &Connection, key: Key) -> rusqlite::Result<Option<Claim>> {
    db.prepare_cached("SELECT * FROM claim WHERE key = ?1")?.query_row([key.to_string()], claim).optional()
}

fn others(db: &Connection, key: Key) -> rusqlite::Result<Vec<String>> {
    let mut query = db.prepare_cached("SELECT site FROM claim_too WHERE key = ?1 ORDER BY at, site")?;
    query.query_map([key.to_string()], |row| row.get(0))?.collect()
}

fn key(row: &Row<'_>) -> rusqlite::Result<Key> {
    let key: String = row.get("key")?;
    let wrong = || rusqlite::Error::InvalidColumnType(0, "key".into(), rusqlite::types::Type::Text);
    Key::parse(key.as_bytes()).ok_or_else(wrong)
}

fn claim(row: &Row<'_>) -> rusqlite::Result<Claim> {
    Ok(Claim {
        key: key(row)?,
        site: row.get("site")?,
        agent: row.get::<_, Vec<u8>>("agent")?.into(),
        at: row.get("at")?,
        may_give: row.get("may_give")?,
        too: Vec::new(),
    })
}
