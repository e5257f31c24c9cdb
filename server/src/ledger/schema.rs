//! The ledger's tables, and how an older file is brought up to date.
//!
//! `user_version` counts the steps below that a file has seen. A file from a later version is refused: its
//! writer knew something that this one would break.

use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;

use super::package::{row_hash, sum_of};
use super::{LedgerError, fact};

/// One entry a version, never edited once released.
const STEPS: &[&str] = &[FIRST, QUARANTINE, RELAY];

const FIRST: &str = "
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
";

/// Quarantine, row sums and losses. A `CHECK` cannot be altered, so the table is made anew; ids are never given
/// twice, hence the line about `sqlite_sequence`.
const QUARANTINE: &str = "
    DROP INDEX package_open;
    DROP INDEX package_name;
    ALTER TABLE package RENAME TO package_1;
    -- One row for every version of a file that a site ever showed us.
    CREATE TABLE package (
        id        INTEGER PRIMARY KEY AUTOINCREMENT,   -- arrival order
        site      TEXT    NOT NULL,
        name      BLOB    NOT NULL,                    -- as listed by the site
        digest    BLOB    NOT NULL,                    -- SHA-256 of the content
        size      INTEGER NOT NULL,
        state     TEXT    NOT NULL CHECK (state IN ('held', 'committed', 'delivered', 'quarantined')),
        on_site   INTEGER NOT NULL DEFAULT 1 CHECK (on_site IN (0, 1)), -- 0: the site is known to have deleted it
        staged    TEXT    NOT NULL,                    -- its file in the staging directory, until delivered
        target    BLOB    NOT NULL,                    -- its name in incomingdir, from 'committed' on
        received  INTEGER NOT NULL,                    -- seconds since 1970
        delivered INTEGER,                             -- the same; also the moment of quarantine
        reason    TEXT,                                -- why it is in quarantine
        modified  INTEGER,                             -- its modification time, milliseconds since 1970
        sum       INTEGER NOT NULL                     -- over site, name, digest, size, staged, target
    );
    INSERT INTO package (id, site, name, digest, size, state, on_site, staged, target, received, delivered, sum)
        SELECT id, site, name, digest, size, state, on_site <> 0, staged, target, received, delivered,
               row_sum(site, name, digest, size, staged, target)
        FROM package_1 ORDER BY id;
    DELETE FROM sqlite_sequence WHERE name = 'package';
    INSERT INTO sqlite_sequence (name, seq) SELECT 'package', seq FROM sqlite_sequence WHERE name = 'package_1';
    DROP TABLE package_1;
    -- The few rows that still need something done by themselves.
    CREATE INDEX package_open ON package (site, name) WHERE state IN ('held', 'committed') OR on_site = 1;
    -- Those that need an operator.
    CREATE INDEX package_quarantined ON package (site, id) WHERE state = 'quarantined';
    -- Those that may be forgotten.
    CREATE INDEX package_history ON package (id) WHERE state = 'delivered' AND on_site = 0;
    -- Where is file X; was it delivered before.
    CREATE INDEX package_name ON package (name, site);
    -- The same by the name that the pipeline saw, where it is another.
    CREATE INDEX package_renamed ON package (target) WHERE target <> name;

    -- What was lost here, and what an operator threw away.
    CREATE TABLE loss (
        id       INTEGER PRIMARY KEY AUTOINCREMENT,
        site     TEXT    NOT NULL,
        class    TEXT    NOT NULL,
        reason   TEXT    NOT NULL,
        packages INTEGER NOT NULL,
        bytes    INTEGER NOT NULL,
        first    INTEGER NOT NULL,                     -- seconds since 1970
        last     INTEGER NOT NULL
    );
";

/// Numbers of packages and what is known of them, and what sites that speak relay tell of themselves. The sum of a row
/// without a number is what it was.
const RELAY: &str = "
    ALTER TABLE package ADD COLUMN number BLOB          -- what its node numbers it: run and counter; NULL: Tentacle
        CHECK (number IS NULL OR length(number) = 16);
    CREATE INDEX package_number ON package (number) WHERE number IS NOT NULL;
    -- What came over Tentacle and may come again by relay.
    CREATE INDEX package_unnumbered ON package (site, name)
        WHERE number IS NULL AND (state IN ('held', 'committed') OR on_site = 1);
    -- Of what the site may send a good copy.
    CREATE INDEX package_damaged ON package (site)
        WHERE state = 'quarantined' AND on_site = 1 AND reason LIKE 'damaged%';

    -- Numbers of a run, first to last, that were all received here; of loss records those that are counted.
    CREATE TABLE span (
        id     INTEGER PRIMARY KEY,                     -- the greater, the later it was extended
        kind   TEXT    NOT NULL CHECK (kind IN ('package', 'loss')),
        site   TEXT    NOT NULL,
        run    BLOB    NOT NULL,
        first  BLOB    NOT NULL,
        last   BLOB    NOT NULL,
        newest INTEGER NOT NULL,                        -- their latest time, milliseconds since 1970
        sum    INTEGER NOT NULL                         -- over all of it but the id
    );
    CREATE INDEX span_run ON span (site, kind, run, first);

    ALTER TABLE site ADD COLUMN epoch INTEGER NOT NULL DEFAULT 1 CHECK (epoch > 0);
    ALTER TABLE site ADD COLUMN mode TEXT;              -- relay, tentacle or move
    ALTER TABLE site ADD COLUMN software TEXT;
    ALTER TABLE site ADD COLUMN clock_offset INTEGER;   -- of the site's clock, in milliseconds; ahead: positive
    ALTER TABLE site ADD COLUMN status TEXT;            -- what it told of itself, as JSON
    ALTER TABLE site ADD COLUMN status_at INTEGER;

    ALTER TABLE loss ADD COLUMN place TEXT NOT NULL DEFAULT 'central' CHECK (place IN ('central', 'site'));
    CREATE INDEX loss_place ON loss (place, site, reason, class);
";

/// Creates or updates the tables.
pub(super) fn bring_up_to_date(db: &mut Connection) -> Result<(), LedgerError> {
    let version: usize = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version > STEPS.len() {
        return Err(LedgerError::Newer { found: version, known: STEPS.len() });
    }
    if version < STEPS.len() {
        add_row_sum(db)?;
    }
    for (done, step) in STEPS.iter().enumerate().skip(version) {
        let tx = db.transaction()?;
        tx.execute_batch(step)?;
        tx.pragma_update(None, "user_version", done + 1)?;
        tx.commit()?;
    }
    Ok(())
}

/// Whether a command may change the tables beside a server: only if both know the same ones.
pub(super) fn is_up_to_date(db: &Connection) -> Result<(), LedgerError> {
    let version: usize = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match version.cmp(&STEPS.len()) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Less => Err(LedgerError::Older),
        std::cmp::Ordering::Greater => Err(LedgerError::Newer { found: version, known: STEPS.len() }),
    }
}

/// Records that the last transaction of the log was torn. A ledger without tables has nothing to be torn from.
pub(super) fn note_torn_log(db: &Connection) -> rusqlite::Result<()> {
    if db.table_exists(None, "fact")? {
        db.execute("INSERT OR REPLACE INTO fact VALUES (?1, '1')", [fact::TORN])?;
    }
    Ok(())
}

/// Lets SQL make the sum of a row.
fn add_row_sum(db: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    db.create_scalar_function("row_sum", 6, flags, |values| {
        let bytes = |at| Ok::<_, rusqlite::Error>(values.get_raw(at).as_bytes()?);
        let row = (bytes(0)?, bytes(1)?, bytes(2)?, values.get(3)?, bytes(4)?, bytes(5)?);
        Ok(sum_of(row_hash(row)))
    })
}

/// The tables of the first version, for the tests.
#[cfg(test)]
pub(super) fn first_version(db: &Connection) {
    db.execute_batch(FIRST).expect("the first step needs nothing");
    db.pragma_update(None, "user_version", 1).expect("a version can be set");
}

/// The tables of the second version, for the tests.
#[cfg(test)]
pub(super) fn second_version(db: &Connection) {
    first_version(db);
    add_row_sum(db).expect("a function can be added");
    db.execute_batch(QUARANTINE).expect("the second step needs the first");
    db.pragma_update(None, "user_version", 2).expect("a version can be set");
}
