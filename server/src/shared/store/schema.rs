//! The tables, and how an older file is brought up to date.

use std::path::Path;

use rusqlite::Connection;

use super::StoreError;

/// One entry a version, never edited once released.
const STEPS: &[&str] = &[FIRST];

const FIRST: &str = "
    -- Whose an agent is: of the site that first sent a package of it.
    CREATE TABLE claim (
        key      TEXT PRIMARY KEY,
        site     TEXT    NOT NULL,
        agent    BLOB    NOT NULL,                     -- its name, as in the package's
        at       INTEGER NOT NULL,                     -- seconds since 1970
        may_give INTEGER NOT NULL CHECK (may_give IN (0, 1))
    ) WITHOUT ROWID;
    CREATE INDEX claim_site ON claim (site);
    -- Who said so later: shown, never acted on.
    CREATE TABLE claim_too (
        key   TEXT    NOT NULL,
        site  TEXT    NOT NULL,
        agent BLOB    NOT NULL,
        at    INTEGER NOT NULL,
        PRIMARY KEY (key, site)
    ) WITHOUT ROWID;

    -- All that is known of a pair at a site.
    CREATE TABLE pair (
        site         TEXT NOT NULL,
        name         BLOB NOT NULL,                    -- of the main file
        agreed       BLOB CHECK (agreed IS NULL OR length(agreed) = 32), -- what both ends had
        intent       TEXT CHECK (intent IN ('up', 'down')), -- a step that was begun
        target       BLOB CHECK (target IS NULL OR length(target) = 32), -- what it was to bring; NULL: a removal
        taken        BLOB CHECK (taken IS NULL OR length(taken) = 32), -- what came from the site last
        allowed      INTEGER NOT NULL DEFAULT 0 CHECK (allowed IN (0, 1)), -- an operator let it go there
        there        BLOB CHECK (there IS NULL OR length(there) = 32), -- what the site showed last
        there_size   INTEGER,
        there_fits   INTEGER,
        unfit_since  INTEGER,                          -- milliseconds since 1970
        refused      TEXT,                             -- what the site said
        refused_what BLOB CHECK (refused_what IS NULL OR length(refused_what) = 32),
        refused_at   INTEGER,                          -- seconds since 1970
        wished       INTEGER,                          -- since when an operator wants it pushed
        PRIMARY KEY (site, name)
    ) WITHOUT ROWID;
    CREATE INDEX pair_wished ON pair (site) WHERE wished IS NOT NULL;
    -- Contents that a pair had at both ends.
    CREATE TABLE had (
        site   TEXT    NOT NULL,
        name   BLOB    NOT NULL,
        digest BLOB    NOT NULL,
        at     INTEGER NOT NULL,                       -- counts up
        PRIMARY KEY (site, name, digest)
    ) WITHOUT ROWID;

    -- Versions that one end lost. Their contents are in `objects`.
    CREATE TABLE kept (
        id     INTEGER PRIMARY KEY AUTOINCREMENT,
        site   TEXT    NOT NULL,
        name   BLOB    NOT NULL,
        digest BLOB    NOT NULL CHECK (length(digest) = 32),
        size   INTEGER NOT NULL,
        why    TEXT    NOT NULL,
        at     INTEGER NOT NULL                        -- seconds since 1970
    );
    CREATE INDEX kept_pair ON kept (site, name, id);
    CREATE INDEX kept_site ON kept (site, id, size);
    CREATE INDEX kept_at ON kept (at);
    CREATE INDEX kept_digest ON kept (digest);

    -- What `status` shows of a site.
    CREATE TABLE site (
        name      TEXT PRIMARY KEY,
        synced    INTEGER,                             -- seconds since 1970
        error     TEXT,
        error_at  INTEGER,
        in_sync   INTEGER NOT NULL DEFAULT 0,
        under_way INTEGER NOT NULL DEFAULT 0,
        waiting   INTEGER NOT NULL DEFAULT 0,
        withheld  INTEGER NOT NULL DEFAULT 0,
        left_there INTEGER NOT NULL DEFAULT 0,
        refused   INTEGER NOT NULL DEFAULT 0,
        overfull  INTEGER NOT NULL DEFAULT 0           -- agents beyond max_agents were seen
    ) WITHOUT ROWID;
";

/// Creates or updates the tables.
pub(super) fn bring_up_to_date(db: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let version = version(db, path)?;
    for (done, step) in STEPS.iter().enumerate().skip(version) {
        let tx = db.transaction()?;
        tx.execute_batch(step)?;
        tx.pragma_update(None, "user_version", done + 1)?;
        tx.commit()?;
    }
    Ok(())
}

/// Whether there is something for a command to use beside a server: only tables that both know. `false`: they are just
/// being made.
pub(super) fn is_up_to_date(db: &Connection, path: &Path) -> Result<bool, StoreError> {
    match version(db, path)? {
        0 => Ok(false),
        found if found < STEPS.len() => Err(StoreError::Older),
        _ => Ok(true),
    }
}

fn version(db: &Connection, path: &Path) -> Result<usize, StoreError> {
    let found: usize = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found > STEPS.len() {
        return Err(StoreError::Newer { file: path.display().to_string(), found, known: STEPS.len() });
    }
    Ok(found)
}
