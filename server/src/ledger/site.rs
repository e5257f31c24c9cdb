//! What is known about each site, for `status`.

use std::path::Path;
use std::time::SystemTime;

use rusqlite::{Row, params};

use super::{Ledger, LedgerError, open, schema, seconds};

/// What an attempt found out about a site.
#[derive(Debug, Clone)]
pub(crate) struct SiteNote {
    /// `tidegate` or `stock`, once known.
    pub(crate) kind: Option<&'static str>,
    /// One word: `ok`, `unreachable`, `pipeline-full`, `error`.
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
}

impl SiteRow {
    /// A site that was never tried.
    pub(crate) fn untried(name: &str) -> Self {
        Self { name: name.to_owned(), state: "new".to_owned(), ..Self::default() }
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
        })
    }
}

impl Ledger {
    /// Records what an attempt found out.
    pub(crate) fn note(&self, site: &str, note: &SiteNote) -> Result<(), LedgerError> {
        let now = seconds(SystemTime::now());
        self.guarded(|db| {
            db.prepare_cached("INSERT INTO site (name) VALUES (?1) ON CONFLICT (name) DO NOTHING")?
                .execute([site])?;
            db.prepare_cached(
                "UPDATE site SET kind = coalesce(?2, kind),
                 since = CASE WHEN state = ?3 THEN since ELSE ?4 END, state = ?3,
                 last_contact = CASE WHEN ?5 THEN ?4 ELSE last_contact END,
                 held_back = coalesce(?6, held_back),
                 error = coalesce(?7, error),
                 error_at = CASE WHEN ?7 IS NULL THEN error_at ELSE ?4 END
             WHERE name = ?1",
            )?
            .execute(params![
                site,
                note.kind,
                note.state,
                now,
                note.contact,
                note.held_back,
                note.error
            ])?;
            Ok(())
        })
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
                    coalesce(lost.packages, 0)
             FROM site LEFT JOIN (SELECT site, sum(packages) AS packages FROM loss GROUP BY site) AS lost
                 ON lost.site = site.name
             ORDER BY name",
        )?;
        let rows = query.query_map([], SiteRow::of)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
