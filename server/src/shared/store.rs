//! What the central remembers of shared files: whose they are, what both ends had, what each site has, what is kept.
//!
//! A database of its own beside the ledger, because no package depends on it. It is memory, not truth: where it is lost
//! everything compares by content: nothing is removed for want of it, and where both ends differ in what a site may be given
//! the central's counts and the other is kept, as in any conflict. So a damaged one is set
//! aside, with words, and begun anew, also while the server runs. What it takes with it: versions that were kept (their
//! contents stay in `objects` for a while), and who claimed which agent first.
//!
//! Short transactions, durable when they return; commands work beside the server.

pub(crate) mod claims;
pub(crate) mod kept;
pub(crate) mod pairs;
mod schema;
pub(crate) mod sites;

#[cfg(test)]
mod tests;

use std::ffi::c_int;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior, ffi};
use tidegate_spool::durable;

use crate::ledger::seconds;

const DATABASE: &str = "shared.db";

/// What SQLite puts beside its file.
const COMPANIONS: [&str; 2] = ["-wal", "-shm"];

/// How long one process waits for another that has the file for a moment.
const BUSY_WAIT: Duration = Duration::from_secs(5);

/// What SQLite says of a file that cannot be read.
const UNREADABLE: [c_int; 4] = [
    ffi::SQLITE_IOERR_READ,
    ffi::SQLITE_IOERR_SHORT_READ,
    ffi::SQLITE_IOERR_DATA,
    ffi::SQLITE_IOERR_CORRUPTFS,
];

/// Why the memory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// A file or directory.
    #[error("{what}: {source}")]
    File { what: String, source: io::Error },
    /// Written by a later version.
    #[error(
        "{file} has version {found}, this program knows {known}: install the version that wrote it, or a later one; or \
         move the file away, and all is compared anew"
    )]
    Newer { file: String, found: usize, known: usize },
    /// Written by an earlier version, which may be running.
    #[error("the memory of shared files is of an earlier version: restart the server first")]
    Older,
    /// What was read or written then has to be read or written again.
    #[error("the memory of shared files was damaged, was set aside as {0} and is begun anew")]
    BegunAnew(String),
    /// The database.
    #[error("the memory of shared files: {0}")]
    Sql(#[from] rusqlite::Error),
}

impl StoreError {
    /// Whether another process has it for longer than a moment. Nothing was written.
    pub(crate) fn is_busy(&self) -> bool {
        let busy = [ErrorCode::DatabaseBusy, ErrorCode::DatabaseLocked];
        matches!(self, Self::Sql(error) if error.sqlite_error_code().is_some_and(|code| busy.contains(&code)))
    }

    /// Whether the file is not what was written.
    fn is_damage(&self) -> bool {
        use rusqlite::Error;

        match self {
            Self::Sql(error @ Error::SqliteFailure(..)) => {
                // Writing fails on a full disk in many ways: that damages nothing.
                let cannot_be_read =
                    error.sqlite_error().is_some_and(|error| UNREADABLE.contains(&error.extended_code));
                let code = error.sqlite_error_code();
                cannot_be_read || matches!(code, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
            }
            // No such value was ever written.
            Self::Sql(
                Error::FromSqlConversionFailure(..)
                | Error::InvalidColumnType(..)
                | Error::IntegralValueOutOfRange(..)
                | Error::Utf8Error(..),
            ) => true,
            _ => false,
        }
    }
}

/// The memory.
#[derive(Debug)]
pub(crate) struct Store {
    directory: PathBuf,
    db: Mutex<Connection>,
    /// The server's own; a command beside it sets nothing aside.
    owned: bool,
    /// It was set aside since somebody asked.
    begun_anew: AtomicBool,
}

/// One transaction.
pub(crate) struct Batch<'a>(Transaction<'a>);

impl Store {
    /// Opens the server's, in its `directory`. A damaged one is set aside and begun anew.
    pub(crate) fn open(directory: &Path) -> Result<Self, StoreError> {
        make_private(directory)?;
        let db = match open_sound(directory) {
            Err(error) if error.is_damage() => {
                set_aside(directory, &error)?;
                open_sound(directory)?
            }
            result => result?,
        };
        durable::sync_dir(directory).map_err(|source| StoreError::File {
            what: format!("cannot fsync {}", directory.display()),
            source,
        })?;
        Ok(Self {
            directory: directory.to_owned(),
            db: Mutex::new(db),
            owned: true,
            begun_anew: AtomicBool::default(),
        })
    }

    /// Opens it for a command beside a running server, or without one; `None`: there is none yet.
    pub(crate) fn beside(directory: &Path) -> Result<Option<Self>, StoreError> {
        let path = directory.join(DATABASE);
        match path.try_exists() {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(source) => {
                return Err(StoreError::File { what: format!("cannot read {}", path.display()), source });
            }
        }
        let db = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        configure(&db)?;
        if !schema::is_up_to_date(&db, &path)? {
            return Ok(None);
        }
        Ok(Some(Self {
            directory: directory.to_owned(),
            db: Mutex::new(db),
            owned: false,
            begun_anew: AtomicBool::default(),
        }))
    }

    /// Writes in one transaction: all of it, durably, or nothing.
    pub(crate) fn write<T>(
        &self,
        work: impl FnOnce(&Batch<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let mut db = self.lock();
        let result = (|| {
            let batch = Batch(db.transaction_with_behavior(TransactionBehavior::Immediate)?);
            let value = work(&batch)?;
            batch.0.commit()?;
            Ok(value)
        })();
        self.or_begin_anew(db, result)
    }

    /// Whether it was begun anew since this was asked last: whatever is known of it elsewhere is wrong then.
    pub(super) fn was_begun_anew(&self) -> bool {
        self.begun_anew.swap(false, Ordering::Relaxed)
    }

    fn read<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let db = self.lock();
        let result = work(&db).map_err(StoreError::from);
        self.or_begin_anew(db, result)
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A transaction that panicked was rolled back.
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The result, unless it shows that the file is damaged: then there is a new one.
    fn or_begin_anew<T>(
        &self,
        mut db: MutexGuard<'_, Connection>,
        result: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match result {
            Err(error) if self.owned && error.is_damage() => {
                *db = Connection::open_in_memory()?;
                let aside = set_aside(&self.directory, &error)?;
                *db = open_sound(&self.directory)?;
                self.begun_anew.store(true, Ordering::Relaxed);
                Err(StoreError::BegunAnew(aside.display().to_string()))
            }
            result => result,
        }
    }
}

/// Makes a directory that only this user can look into: configurations hold secrets.
pub(super) fn make_private(directory: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::File { what: format!("cannot make {}", directory.display()), source };
    let parent = directory.parent().unwrap_or(directory);
    durable::create_dir_all(parent).map_err(failed)?;
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => durable::sync_dir(parent).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

/// The database with all its tables, after a look at its pages.
fn open_sound(directory: &Path) -> Result<Connection, StoreError> {
    let path = directory.join(DATABASE);
    let mut db = Connection::open(&path)?;
    configure(&db)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    let complaint: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if complaint != "ok" {
        let code = ffi::Error::new(ffi::SQLITE_CORRUPT);
        return Err(rusqlite::Error::SqliteFailure(code, Some(complaint)).into());
    }
    schema::bring_up_to_date(&mut db, &path)?;
    Ok(db)
}

fn configure(db: &Connection) -> rusqlite::Result<()> {
    db.busy_timeout(BUSY_WAIT)?;
    db.pragma_update(None, "synchronous", "FULL")
}

/// Moves a damaged database and what belongs to it out of the way. Returns where it is.
fn set_aside(directory: &Path, error: &StoreError) -> Result<PathBuf, StoreError> {
    let path = directory.join(DATABASE);
    let free = |n: &u32| {
        let aside = directory.join(format!("{DATABASE}.damaged-{}-{n}", seconds(SystemTime::now())));
        !aside.exists()
    };
    let n = (0..).find(free).expect("numbers do not end");
    let aside = directory.join(format!("{DATABASE}.damaged-{}-{n}", seconds(SystemTime::now())));
    let failed = |source| StoreError::File { what: format!("cannot set {} aside", path.display()), source };
    fs::rename(&path, &aside).map_err(failed)?;
    for companion in COMPANIONS {
        let with = |path: &Path| PathBuf::from(format!("{}{companion}", path.display()));
        match fs::rename(with(&path), with(&aside)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    durable::sync_dir(directory).map_err(failed)?;
    tracing::error!(
        %error,
        "the memory of shared files is damaged: it was set aside as {} and is begun anew. All shared files are compared \
         by content again, and nothing is removed anywhere; versions that were kept are listed no more, their contents \
         are in `objects` beside it",
        aside.display()
    );
    Ok(aside)
}
