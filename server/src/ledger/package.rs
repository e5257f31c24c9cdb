//! One row of the table `package`, and the sum that shows when it was damaged.
//!
//! SQLite has no checksums of its own: a flipped bit in a name or a digest would be believed. So every row carries
//! the sum of what must not change unnoticed, written at insert and at retarget, and verified at every read. Of a
//! package that came by relay its number and its arrival are in it: they decide what is a repeat. The state and
//! `on_site` are not in it: they change often, and a wrong one shows in the indexes and in the `CHECK`.

use std::time::{Duration, SystemTime};

use rusqlite::Row;
use rusqlite::types::Type;
use sha2::{Digest as _, Sha256};
use tidegate_proto::Name;
use tidegate_proto::relay::Number;

use super::number;
use crate::body::Digest;

/// How far a package got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Durable here, and not yet known to be gone from its (stock) site.
    Held,
    /// On its way to its target name.
    Committed,
    /// Handed to the pipeline.
    Delivered,
    /// Cannot be delivered; its file waits in the staging directory for an operator.
    Quarantined,
}

impl State {
    /// As the ledger spells it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Committed => "committed",
            Self::Delivered => "delivered",
            Self::Quarantined => "quarantined",
        }
    }
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) id: i64,
    pub(crate) site: String,
    pub(crate) name: Name,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) state: State,
    pub(crate) staged: String,
    pub(crate) target: Vec<u8>,
    /// Whether the site may still have it.
    pub(crate) on_site: bool,
    /// Why it is in quarantine.
    pub(crate) reason: Option<String>,
    /// The modification time that the pipeline sees, in milliseconds since 1970; unknown for rows of version 1. Of a
    /// package with a number it is the arrival at its node.
    pub(crate) modified: Option<i64>,
    /// When it was received, in seconds since 1970.
    pub(crate) received: i64,
    /// When it was delivered or went to quarantine, in seconds since 1970.
    pub(crate) delivered: Option<i64>,
    /// What its node numbers it; none for what came over Tentacle.
    pub(crate) number: Option<Number>,
}

/// How the reason of a package begins whose bytes are not those that came.
pub(crate) const DAMAGED: &str = "damaged";

/// What [`Package::of`] reads, in its order.
pub(super) const COLUMNS: &str = "id, site, name, digest, size, state, staged, target, on_site, reason, modified, received, delivered, sum, number";

/// A row that cannot be what was written.
#[derive(Debug, thiserror::Error)]
#[error("row {id} of the table `{table}` {what}")]
pub(super) struct DamagedRow {
    table: &'static str,
    id: i64,
    what: String,
}

impl Package {
    /// Whether nothing is left to do about it here by itself.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.state, State::Delivered | State::Quarantined)
    }

    /// Whether it is in quarantine because its bytes are not those that came. Then a good copy is as good as new.
    pub(crate) fn is_damaged(&self) -> bool {
        self.state == State::Quarantined && self.reason_is_damage()
    }

    /// Whether it was in quarantine for that.
    pub(super) fn reason_is_damage(&self) -> bool {
        self.reason.as_ref().is_some_and(|reason| reason.starts_with(DAMAGED))
    }

    /// Reads a row of [`COLUMNS`], and verifies it.
    pub(super) fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        let id: i64 = row.get(0)?;
        Self::read(row, id).map_err(|error| {
            let what = match error {
                RowError::Sum => "does not have the sum it was written with".to_owned(),
                RowError::Value(error) => format!("has a value that was never written: {error}"),
            };
            conversion_failure(DamagedRow { table: "package", id, what })
        })
    }

    fn read(row: &Row<'_>, id: i64) -> Result<Self, RowError> {
        let name: Vec<u8> = row.get(2)?;
        let state: String = row.get(5)?;
        let package = Self {
            id,
            site: row.get(1)?,
            name: Name::parse_listed(&name).map_err(|_| RowError::Sum)?,
            digest: Digest::from(row.get::<_, [u8; 32]>(3)?),
            size: row.get(4)?,
            state: match state.as_str() {
                "held" => State::Held,
                "committed" => State::Committed,
                "delivered" => State::Delivered,
                "quarantined" => State::Quarantined,
                _ => return Err(RowError::Sum),
            },
            staged: row.get(6)?,
            target: row.get(7)?,
            on_site: row.get(8)?,
            reason: row.get(9)?,
            modified: row.get(10)?,
            received: row.get(11)?,
            delivered: row.get(12)?,
            number: row.get::<_, Option<[u8; 16]>>(14)?.map(number::of),
        };
        if row.get::<_, i64>(13)? == package.sum() { Ok(package) } else { Err(RowError::Sum) }
    }

    /// The sum that its row must have.
    pub(super) fn sum(&self) -> i64 {
        let Self { site, name, digest, size, staged, target, .. } = self;
        let values =
            (site.as_bytes(), name.as_bytes(), digest.as_bytes(), *size, staged.as_bytes(), &target[..]);
        let mut hash = row_hash(values);
        if let Some(number) = self.number {
            hash.update(number::bytes(number));
            hash.update(self.modified.unwrap_or(i64::MIN).to_be_bytes());
        }
        sum_of(hash)
    }
}

fn conversion_failure(row: DamagedRow) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Integer, Box::new(row))
}

/// A row does not have the sum it was written with.
pub(super) fn damaged(table: &'static str, id: i64) -> rusqlite::Error {
    conversion_failure(DamagedRow { table, id, what: "does not have the sum it was written with".into() })
}

/// Why a row is not believed.
enum RowError {
    Sum,
    Value(rusqlite::Error),
}

impl From<rusqlite::Error> for RowError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Value(error)
    }
}

/// Site, name, digest, size, staged and target.
pub(super) type Values<'a> = (&'a [u8], &'a [u8], &'a [u8], u64, &'a [u8], &'a [u8]);

/// The SHA-256 of a row's values, each with its length before it.
pub(super) fn row_hash((site, name, digest, size, staged, target): Values<'_>) -> Sha256 {
    let mut hash = Sha256::new();
    for value in [site, name, digest, &size.to_be_bytes(), staged, target] {
        hash.update((value.len() as u64).to_be_bytes());
        hash.update(value);
    }
    hash
}

/// The first eight bytes of a SHA-256.
pub(super) fn sum_of(hash: Sha256) -> i64 {
    let hash: [u8; 32] = hash.finalize().into();
    let (first, _) = hash.split_first_chunk().expect("a SHA-256 has more than eight bytes");
    i64::from_be_bytes(*first)
}

/// Seconds since 1970, as the ledger keeps times.
pub(crate) fn seconds(time: SystemTime) -> i64 {
    i64::try_from(since_1970(time).as_secs()).unwrap_or(i64::MAX)
}

/// Milliseconds since 1970, as the ledger keeps modification times.
pub(crate) fn milliseconds(time: SystemTime) -> i64 {
    i64::try_from(since_1970(time).as_millis()).unwrap_or(i64::MAX)
}

fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
