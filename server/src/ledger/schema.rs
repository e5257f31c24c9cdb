//! The ledger's tables, and how an older file is brought up to date.
//!
//! `user_version` counts the steps below that a file has seen. A file from a later version is refused: its
//! writer knew something that this one would break.

use rusqlite::Connection;

use super::LedgerError;

/// One entry a version, never edited once released.
const STEPS: &[&str] = &["
    -- One row for every version of a file that a site ever showed us.
    CREATE TABLE package (
        id        INTEGER PRIMARY KEY AUTOINCREMENT,   -- arrival order
        site      TEXT    NOT NULL,
        name      BLOB    NOT NULL,                    -- as listed by the site
        digest    BLOB    NOT NULL,                    -- SHA-256 of the content
        size      INTEGER NOT NULL,
        state     TEXT    NOT NULL CHECK (state IN ('held', 'committed', 'delivered')),
        on_site   INTEGER NOT NULL DEFAULT 1,          -- 0: the site is known to have deleted it
        staged    TEXT    NOT NULL,                    -- its file in the staging directory, until delivered
        target    BLOB    NOT NULL,                    -- its name in incomingdir, from 'committed' on
        received  INTEGER NOT NULL,                    -- seconds since 1970
        delivered INTEGER
    );
    -- The few rows that still need something done.
    CREATE INDEX package_open ON package (site, name) WHERE state <> 'delivered' OR on_site = 1;
    -- Where is file X; was it delivered before.
    CREATE INDEX package_name ON package (name, site);

    -- What `status` shows of a site; written at the end of every attempt.
    CREATE TABLE site (
        name         TEXT PRIMARY KEY,
        kind         TEXT,
        state        TEXT NOT NULL DEFAULT 'new',
        since        INTEGER,
        last_contact INTEGER,
        last_package BLOB,
        last_package_at INTEGER,
        packages     INTEGER NOT NULL DEFAULT 0,
        bytes        INTEGER NOT NULL DEFAULT 0,
        repeats      INTEGER NOT NULL DEFAULT 0,
        held_back    INTEGER NOT NULL DEFAULT 0,
        error        TEXT,
        error_at     INTEGER
    ) WITHOUT ROWID;

    -- Facts about the ledger itself: 'id' ties it to its staging directory.
    CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    INSERT INTO fact VALUES ('id', lower(hex(randomblob(16))));
"];

/// Creates or updates the tables.
pub(super) fn bring_up_to_date(db: &mut Connection) -> Result<(), LedgerError> {
    let version: usize = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version > STEPS.len() {
        return Err(LedgerError::Newer { found: version, known: STEPS.len() });
    }
    for (done, step) in STEPS.iter().enumerate().skip(version) {
        let tx = db.transaction()?;
        tx.execute_batch(step)?;
        tx.pragma_update(None, "user_version", done + 1)?;
        tx.commit()?;
    }
    Ok(())
}
