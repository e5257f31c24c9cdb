//! Opening the ledger's files: the lock, the database for its one writer, the database for readers.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use rustix::fs::{FlockOperation, flock};
use tidegate_spool::durable;
use tidegate_spool::sabotage::{self, Switch};

use super::LedgerError;
use super::wal::{self, Log};

pub(super) const DATABASE: &str = "ledger.sqlite";
const LOG: &str = "ledger.sqlite-wal";
const LOCK: &str = "lock";

/// How long a writer waits for a reader that has the file for a moment, and the other way round.
const BUSY_WAIT: Duration = Duration::from_secs(5);

/// Where the ledger lies.
pub(super) fn path(directory: &Path) -> PathBuf {
    directory.join(DATABASE)
}

/// The right to write a ledger, until dropped or the process ends.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "the lock lives as long as the open file")] File);

impl Lock {
    pub(super) fn take(directory: &Path) -> Result<Self, LedgerError> {
        let failed = |what: String| move |source| LedgerError::File { what, source };
        durable::create_dir_all(directory)
            .map_err(failed(format!("cannot make the state directory {}", directory.display())))?;
        let path = directory.join(LOCK);
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed(format!("cannot open the ledger's lock file {}", path.display())))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(LedgerError::Locked(directory.display().to_string()));
            }
            Err(error) => return Err(failed(format!("cannot lock {}", path.display()))(error.into())),
        }
        // For a human who finds the file; the lock itself is the kernel's.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self(file))
    }
}

/// The database, for the one writer.
pub(super) fn database(directory: &Path) -> Result<Connection, LedgerError> {
    let db = Connection::open(path(directory))?;
    db.busy_timeout(BUSY_WAIT)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    let synchronous = if sabotage::breaks(Switch::LedgerNormal) { "NORMAL" } else { "FULL" };
    db.pragma_update(None, "synchronous", synchronous)?;
    Ok(db)
}

/// Merges the log into the database, and begins it anew. Nothing in it is believed before: what was read from the log
/// may be in the page cache alone, if its fsync failed in an earlier process, and behind its end frames of a torn
/// transaction may stand. Gives up for want of room, or beside a command that reads for long: the next start tries again.
pub(super) fn merge_log(db: &Connection) -> Result<(), LedgerError> {
    let merged = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
    match merged.map_err(LedgerError::from) {
        Ok(0) => {}
        Ok(_) => {
            tracing::warn!("the ledger's log could not be merged: a command reads the ledger for too long")
        }
        Err(error) if error.is_full() || error.is_busy() => {
            tracing::warn!(%error, "the ledger's log could not be merged");
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Makes room on a full disk, if the log is what fills it: only a merged log can be cut.
pub(super) fn cut_log(db: &Connection) {
    // The sites' tasks wait for the ledger meanwhile.
    let cut = db.busy_timeout(Duration::ZERO).and_then(|()| {
        let cut = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
        db.busy_timeout(BUSY_WAIT)?;
        cut
    });
    if let Err(error) = cut {
        tracing::debug!(%error, "the ledger's log cannot make room");
    }
}

/// Looks at the log before SQLite does. Whether its last transaction is torn; nobody may be writing it.
pub(super) fn check_log(directory: &Path) -> Result<bool, LedgerError> {
    let path = directory.join(LOG);
    match wal::check(&path) {
        Ok(Log::Whole) => Ok(false),
        Ok(Log::Torn) => Ok(true),
        Ok(Log::Damaged(what)) => Err(LedgerError::Damaged(what)),
        Err(source) => Err(LedgerError::File {
            what: format!("cannot read the ledger's log {}", path.display()),
            source,
        }),
    }
}

/// Whether there is a ledger yet.
pub(super) fn exists(directory: &Path) -> Result<bool, LedgerError> {
    let path = path(directory);
    path.try_exists().map_err(|source| LedgerError::File {
        what: format!("cannot read the ledger {}", path.display()),
        source,
    })
}

/// The database, for a command beside the one writer.
pub(super) fn database_beside(directory: &Path) -> Result<Connection, LedgerError> {
    file_beside(&path(directory))
}

fn file_beside(path: &Path) -> Result<Connection, LedgerError> {
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    db.busy_timeout(BUSY_WAIT)?;
    db.pragma_update(None, "synchronous", "FULL")?;
    // The last one to close a database merges its log, as far as that can be read, and removes it. What the server
    // would find out at its start from a damaged log would be gone.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(db)
}

/// The database, for a reader beside the writer; `None` when there is no ledger yet.
pub(super) fn database_to_read(directory: &Path) -> Result<Option<Connection>, LedgerError> {
    if !exists(directory)? {
        return Ok(None);
    }
    file_to_read(&path(directory)).map(Some)
}

/// A database of this or another name, to read.
pub(super) fn file_to_read(path: &Path) -> Result<Connection, LedgerError> {
    // Reading a WAL database needs its shared-memory file, hence write access; `query_only` keeps us honest.
    let db = file_beside(path)?;
    db.pragma_update(None, "query_only", true)?;
    Ok(db)
}

/// Makes the names of the ledger's files durable: a power cut must not take a ledger that has been written to.
pub(super) fn make_durable(directory: &Path) -> Result<(), LedgerError> {
    durable::sync_dir(directory)
        .map_err(|source| LedgerError::File { what: format!("cannot fsync {}", directory.display()), source })
}
