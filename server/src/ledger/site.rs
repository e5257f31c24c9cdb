//! What is known about each site: for `status`, and its epoch.

use std::path::Path;
use std::time::SystemTime;

use rusqlite::{OptionalExtension, Row, params};
use serde_json::Value;

use super::{Batch, Ledger, LedgerError, open, schema, seconds};

/// How a site is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Relay,
    Tentacle,
    /// Tentacle with `MV` alone, which may lose.
    Move,
}

impl Mode {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Tentacle => "tentacle",
            Self::Move => "move",
        }
    }
}

/// What a site told of itself since it was written down last. What is `None` stays as it was.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    pub(crate) mode: Option<Mode>,
    pub(crate) software: Option<String>,
    /// How far the site's clock is ahead, in milliseconds.
    pub(crate) clock_offset: Option<i64>,
    /// Its status, and when it came, in seconds since 1970.
    pub(crate) status: Option<(Value, i64)>,
    /// What the puller found out.
    pub(crate) note: Option<SiteNote>,
}

/// What an attempt found out about a site.
#[derive(Debug, Clone)]
pub(crate) struct SiteNote {
    /// `tidegate` or `stock`, once known.
    pub(crate) kind: Option<&'static str>,
    /// One word: `ok`, `unreachable`, `refused`, `pipeline-full`, `error`.
    pub(crate) state: &'static str,
    /// Whether the site answered.
    pub(crate) contact: bool,
    /// Names that are left at the site because they cannot be taken; `None`: not known this time.
    pub(crate) held_back: Option<u64>,
    /// Why the attempt failed.
    pub(crate) error: Option<String>,
}

/// A site as `status` shows it. Times are seconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct SiteRow {
    pub(crate) name: String,
    pub(crate) kind: Option<String>,
    pub(crate) state: String,
    pub(crate) since: Option<i64>,
    pub(crate) last_contact: Option<i64>,
    /// Escaped: names come from the site.
    pub(crate) last_package: Option<String>,
    pub(crate) last_package_at: Option<i64>,
    pub(crate) packages: u64,
    pub(crate) bytes: u64,
    pub(crate) repeats: u64,
    pub(crate) held_back: u64,
    /// Packages that are not delivered yet, or whose deletion at the site is not proven yet.
    pub(crate) open: u64,
    /// Packages that could not be delivered and wait for an operator.
    pub(crate) quarantined: u64,
    /// Packages that were lost here, or thrown away by an operator.
    pub(crate) lost: u64,
    pub(crate) last_error: Option<String>,
    pub(crate) last_error_at: Option<i64>,
    /// `relay`, `tentacle` or `move`: how it was pulled last.
    pub(crate) mode: Option<String>,
    pub(crate) epoch: u64,
    /// Packages that were lost at the site, as it told.
    pub(crate) lost_there: u64,
    /// What runs there.
    pub(crate) software: Option<String>,
    /// How far the site's clock is ahead, in milliseconds. It is told, never corrected.
    pub(crate) clock_offset_ms: Option<i64>,
    /// What a site that speaks relay told of itself.
    pub(crate) status: Option<Value>,
    pub(crate) status_at: Option<i64>,
}

impl SiteRow {
    /// A site that was never tried.
    pub(crate) fn untried(name: &str) -> Self {
        Self { name: name.to_owned(), state: "new".to_owned(), epoch: 1, ..Self::default() }
    }

    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        let last_package: Option<Vec<u8>> = row.get(5)?;
        Ok(Self {
            name: row.get(0)?,
            kind: row.get(1)?,
            state: row.get(2)?,
            since: row.get(3)?,
            last_contact: row.get(4)?,
            last_package: last_package.map(|name| tidegate_proto::Escaped(&name).to_string()),
            last_package_at: row.get(6)?,
            packages: row.get(7)?,
            bytes: row.get(8)?,
            repeats: row.get(9)?,
            held_back: row.get(10)?,
            last_error: row.get(11)?,
            last_error_at: row.get(12)?,
            open: row.get(13)?,
            quarantined: row.get(14)?,
            lost: row.get(15)?,
            mode: row.get(16)?,
            epoch: row.get(17)?,
            lost_there: row.get(18)?,
            software: row.get(19)?,
            clock_offset_ms: row.get(20)?,
            // What cannot be read is not known; the next one comes soon.
            status: row.get::<_, Option<String>>(21)?.and_then(|text| serde_json::from_str(&text).ok()),
            status_at: row.get(22)?,
        })
    }
}

impl Ledger {
    /// Records what an attempt found out.
    pub(crate) fn note(&self, site: &str, note: &SiteNote) -> Result<(), LedgerError> {
        self.write(|batch| batch.note(site, note))
    }

    /// The epoch under which a site is pulled: 1 unless an operator took it over.
    pub(crate) fn epoch(&self, site: &str) -> Result<u64, LedgerError> {
        let query = "SELECT epoch FROM site WHERE name = ?1";
        let epoch = self.guarded(|db| db.query_row(query, [site], |row| row.get(0)).optional())?;
        Ok(epoch.unwrap_or(1))
    }

    /// All sites that the ledger in `directory` knows, by name. Safe beside a running server.
    pub(crate) fn read_sites(directory: &Path) -> Result<Vec<SiteRow>, LedgerError> {
        let Some(db) = open::database_to_read(directory)? else { return Ok(Vec::new()) };
        schema::is_up_to_date(&db)?;
        let mut query = db.prepare(
            "SELECT name, kind, state, since, last_contact, last_package, last_package_at, site.packages, bytes,
                    repeats, held_back, error, error_at,
                    (SELECT count(*) FROM package
                      WHERE package.site = site.name AND (package.state IN ('held', 'committed') OR on_site = 1)),
                    (SELECT count(*) FROM package
                      WHERE package.site = site.name AND package.state = 'quarantined'),
                    coalesce(lost.here, 0), mode, epoch, coalesce(lost.there, 0), software, clock_offset, status,
                    status_at
             FROM site LEFT JOIN (SELECT site, sum(packages) FILTER (WHERE place = 'central') AS here,
                                         sum(packages) FILTER (WHERE place = 'site') AS there
                                  FROM loss GROUP BY site) AS lost
                 ON lost.site = site.name
             ORDER BY name",
        )?;
        let rows = query.query_map([], SiteRow::of)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

impl Batch<'_> {
    /// Another epoch for a site.
    pub(crate) fn set_epoch(&self, site: &str, epoch: u64) -> rusqlite::Result<()> {
        let text =
            "INSERT INTO site (name, epoch) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET epoch = ?2";
        self.tx.prepare_cached(text)?.execute(params![site, epoch])?;
        Ok(())
    }

    /// Records what an attempt at a site found out.
    pub(super) fn note(&self, site: &str, note: &SiteNote) -> rusqlite::Result<()> {
        let now = seconds(SystemTime::now());
        self.know(site)?;
        self.tx
            .prepare_cached(
                "UPDATE site SET kind = coalesce(?2, kind),
                 since = CASE WHEN state = ?3 THEN since ELSE ?4 END, state = ?3,
                 last_contact = CASE WHEN ?5 THEN ?4 ELSE last_contact END,
                 held_back = coalesce(?6, held_back),
                 error = coalesce(?7, error),
                 error_at = CASE WHEN ?7 IS NULL THEN error_at ELSE ?4 END
             WHERE name = ?1",
            )?
            .execute(params![site, note.kind, note.state, now, note.contact, note.held_back, note.error])?;
        Ok(())
    }

    /// Records what a site told of itself.
    pub(crate) fn told(&self, site: &str, told: &Told) -> rusqlite::Result<()> {
        let Told { mode, software, clock_offset, status, note } = told;
        self.know(site)?;
        let (text, at) = match status {
            Some((status, at)) => (Some(status.to_string()), Some(at)),
            None => (None, None),
        };
        self.tx
            .prepare_cached(
                "UPDATE site SET mode = coalesce(?2, mode), software = coalesce(?3, software),
                     clock_offset = coalesce(?4, clock_offset), status = coalesce(?5, status),
                     status_at = coalesce(?6, status_at)
                 WHERE name = ?1",
            )?
            .execute(params![site, mode.map(Mode::as_str), software, clock_offset, text, at])?;
        note.iter().try_for_each(|note| self.note(site, note))
    }

    fn know(&self, site: &str) -> rusqlite::Result<()> {
        self.tx
            .prepare_cached("INSERT INTO site (name) VALUES (?1) ON CONFLICT (name) DO NOTHING")?
            .execute([site])?;
        Ok(())
    }
}
