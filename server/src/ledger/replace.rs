//! A new ledger in the place of a damaged one, which is asked for what it still knows and set aside.
//!
//! Constraints: it can be done again after a crash at any step, and after any error; nothing that was set aside is ever
//! overwritten. So the new ledger is made whole in a directory of its own, and then the two change places:
//!
//! 1. A note says under which name the old one is set aside. While it is there no server starts.
//! 2. The files of the old one get that name, the database first.
//! 3. The new one gets the old one's name.
//! 4. The staging directory is tied to it, and the note goes.
//!
//! Whoever begins again finds either a ledger in its place, and replaces that one, or none, and reads the one that the
//! note names.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};
use tidegate_spool::durable;

use super::package::{COLUMNS, State};
use super::{Batch, Ledger, LedgerError, Package, open, seconds};

/// Where the new ledger is made.
const NEW: &str = "ledger-new";

/// The note.
const NOTE: &str = "ledger-reset";

/// The files of a ledger, by the ends of their names. The database comes first: without it, what is left of a ledger
/// makes nobody believe that there is one.
const ENDINGS: [&str; 3] = ["", "-wal", "-shm"];

/// Sums over a site and losses: the tables that are taken over as they are, and their columns. The spans of numbers are
/// not: beside rows that cannot be read they would swallow what was received and never delivered.
const TABLES: [(&str, &str); 2] = [
    (
        "site",
        "name, kind, state, since, last_contact, last_package, last_package_at, packages, bytes, repeats, held_back, \
         error, error_at, epoch",
    ),
    ("loss", "site, class, reason, packages, bytes, first, last, place"),
];

/// Columns that the second version did not have yet, and what stands for them.
const SINCE_THE_SECOND: [(&str, &str); 3] =
    [(", number", ", NULL"), (", epoch", ", 1"), (", place", ", 'central'")];

/// A ledger that is being replaced. No server runs while this lives.
#[derive(Debug)]
pub(crate) struct Replacement {
    directory: PathBuf,
    /// The database that is replaced, if there is one.
    old: Option<PathBuf>,
    _lock: open::Lock,
}

/// What the old ledger still knows.
#[derive(Debug, Default)]
pub(crate) struct Readable {
    /// Its rows that are sound and no history, in arrival order.
    pub(crate) packages: Vec<Package>,
    /// The rows of each of [`TABLES`] that can be read.
    tables: [Vec<Vec<Value>>; TABLES.len()],
}

/// Whether a replacement was begun and not ended.
pub(super) fn is_under_way(directory: &Path) -> bool {
    directory.join(NOTE).exists()
}

impl Replacement {
    /// Begins, or begins again.
    pub(crate) fn begin(directory: &Path) -> Result<Self, LedgerError> {
        let lock = open::Lock::take(directory)?;
        let current = open::path(directory);
        let old = if open::exists(directory)? {
            Some(current)
        } else if let Some(aside) = noted(directory)? {
            move_files(directory, &aside)?;
            Some(aside).filter(|aside| aside.exists())
        } else {
            None
        };
        Ok(Self { directory: directory.to_owned(), old, _lock: lock })
    }

    /// Reads the old ledger, as far as that goes.
    pub(crate) fn readable(&self) -> Readable {
        let mut readable = Readable::default();
        if let Some(old) = &self.old
            && let Err(error) = readable.read(old)
        {
            tracing::warn!(%error, "the old ledger can be read in part only");
        }
        readable
    }

    /// Makes the new ledger, with what is still known and `changes` in it, and puts it in the place of the old one. Until
    /// all of that is done a note keeps every server away. `tie` is given its id. Returns where the old one's files are now.
    pub(crate) fn put<E: From<LedgerError>>(
        self,
        readable: &Readable,
        changes: impl FnOnce(&Batch<'_>) -> rusqlite::Result<()>,
        tie: impl FnOnce(&str) -> Result<(), E>,
    ) -> Result<Vec<PathBuf>, E> {
        let directory = self.directory.as_path();
        let (id, new) = build(directory, readable, changes)?;
        let note = directory.join(NOTE);
        let moved = if open::exists(directory)? {
            let aside = free_name(directory)?;
            // Only the name: the state directory may have moved before this is read.
            let name = aside.file_name().map_or_else(Vec::new, |name| name.as_encoded_bytes().to_vec());
            durable::replace(&note, &name).map_err(failed("write", &note))?;
            move_files(directory, &aside)?;
            Some(aside)
        } else {
            if !note.exists() {
                durable::replace(&note, b"").map_err(failed("write", &note))?;
            }
            self.old.clone()
        };
        let current = open::path(directory);
        durable::rename_noreplace(&new, &current).map_err(failed("rename", &new))?;
        open::make_durable(directory)?;
        tie(&id)?;
        fs::remove_file(&note).map_err(failed("remove", &note))?;
        open::make_durable(directory)?;
        // What is left of it means nothing.
        let _ = fs::remove_dir_all(directory.join(NEW));
        Ok(moved.map_or_else(Vec::new, |aside| files(&aside).filter(|file| file.exists()).collect()))
    }
}

/// The files of the ledger with this database.
fn files(database: &Path) -> impl Iterator<Item = PathBuf> {
    let database = database.as_os_str().to_owned();
    ENDINGS.into_iter().map(move |ending| {
        let mut file = database.clone();
        file.push(ending);
        PathBuf::from(file)
    })
}

/// The database that the note names, whether it is there or not.
fn noted(directory: &Path) -> Result<Option<PathBuf>, LedgerError> {
    let note = directory.join(NOTE);
    match fs::read_to_string(&note) {
        Ok(name) if name.is_empty() => Ok(None),
        Ok(name) => Ok(Some(directory.join(name))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed("read", &note)(source)),
    }
}

/// A name for a ledger that is set aside, which nothing has.
fn free_name(directory: &Path) -> Result<PathBuf, LedgerError> {
    let now = seconds(SystemTime::now());
    for n in 0_u32.. {
        let more = if n == 0 { String::new() } else { format!("-{n}") };
        let name = directory.join(format!("ledger-damaged-{now}{more}.sqlite"));
        let mut taken = false;
        for file in files(&name) {
            taken |= file.try_exists().map_err(failed("look at", &file))?;
        }
        if !taken {
            return Ok(name);
        }
    }
    unreachable!("a directory holds less than 2³² files of one second")
}

/// Gives the files of the ledger in `directory` the names of another, as far as they are still there.
fn move_files(directory: &Path, aside: &Path) -> Result<(), LedgerError> {
    for (from, to) in files(&open::path(directory)).zip(files(aside)) {
        match durable::rename_noreplace(&from, &to) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                let what = format!("cannot rename {} to {}", from.display(), to.display());
                return Err(LedgerError::File { what, source });
            }
            _ => {}
        }
    }
    open::make_durable(directory)
}

/// Makes the new ledger: one file, durable. Returns its id and where it is.
fn build(
    directory: &Path,
    readable: &Readable,
    changes: impl FnOnce(&Batch<'_>) -> rusqlite::Result<()>,
) -> Result<(String, PathBuf), LedgerError> {
    let place = directory.join(NEW);
    match fs::remove_dir_all(&place) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove", &place)(source));
        }
        _ => {}
    }
    let ledger = Ledger::open(&place)?;
    let id = ledger.id()?;
    ledger.write(|batch| {
        readable.give(batch)?;
        changes(batch)
    })?;
    // Merges the log into the database and removes it: one rename moves one file.
    ledger.guarded(|db| db.pragma_update(None, "journal_mode", "DELETE"))?;
    drop(ledger);
    let new = open::path(&place);
    durable::sync_file(&new).map_err(failed("fsync", &new))?;
    open::make_durable(&place)?;
    Ok((id, new))
}

fn failed(verb: &str, path: &Path) -> impl FnOnce(io::Error) -> LedgerError {
    let what = format!("cannot {verb} {}", path.display());
    move |source| LedgerError::File { what, source }
}

impl Readable {
    fn read(&mut self, database: &Path) -> Result<(), LedgerError> {
        let db = open::file_to_read(database)?;
        // The small tables first: a damaged page ends the reading of the big one.
        let known = known_columns(&db);
        let read = |table, columns| whole_rows(&db, table, columns, &known(columns)).unwrap_or_default();
        self.tables = TABLES.map(|(table, columns)| read(table, columns));
        let mut query = db.prepare(&format!("SELECT {} FROM package ORDER BY id", known(COLUMNS)))?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let package = Package::of(row).ok();
            self.packages
                .extend(package.filter(|package| package.state != State::Delivered || package.on_site));
        }
        Ok(())
    }

    /// Writes what is taken over as it is.
    fn give(&self, batch: &Batch<'_>) -> rusqlite::Result<()> {
        for ((table, columns), rows) in TABLES.iter().zip(&self.tables) {
            let places = vec!["?"; columns.split(',').count()].join(", ");
            let insert = format!("INSERT OR IGNORE INTO {table} ({columns}) VALUES ({places})");
            let mut insert = batch.tx.prepare(&insert)?;
            for row in rows {
                insert.execute(params_from_iter(row))?;
            }
        }
        Ok(())
    }
}

/// Says what to read for columns in a ledger of this version or the one before.
fn known_columns(db: &Connection) -> impl Fn(&str) -> String + use<> {
    let version = db.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap_or(u32::MAX);
    move |columns| {
        let known = |columns: String, (new, old): &(&str, &str)| columns.replace(new, old);
        if version > 2 { columns.to_owned() } else { SINCE_THE_SECOND.iter().fold(columns.to_owned(), known) }
    }
}

/// The rows of a table whose values are of the kinds that are written there.
fn whole_rows(db: &Connection, table: &str, columns: &str, known: &str) -> rusqlite::Result<Vec<Vec<Value>>> {
    let mut query = db.prepare(&format!("SELECT {known} FROM {table}"))?;
    let columns: Vec<&str> = columns.split(", ").collect();
    let read = |row: &Row<'_>| -> rusqlite::Result<Option<Vec<Value>>> {
        let values: Vec<Value> = (0..columns.len()).map(|at| row.get(at)).collect::<Result<_, _>>()?;
        let sound = columns.iter().zip(&values).all(|(column, value)| is_sound(column, value));
        Ok(sound.then_some(values))
    };
    let rows = query.query_map([], read)?;
    // One that cannot be read may be followed by some that can; an end of it all ends this too.
    Ok(rows.map_while(Result::ok).flatten().collect())
}

/// Whether a column of [`TABLES`] may hold this.
fn is_sound(column: &str, value: &Value) -> bool {
    match column {
        "name" | "state" | "site" | "class" | "reason" | "place" => matches!(value, Value::Text(_)),
        "kind" | "error" => matches!(value, Value::Text(_) | Value::Null),
        "last_package" => matches!(value, Value::Blob(_) | Value::Null),
        "packages" | "bytes" | "repeats" | "held_back" | "first" | "last" => {
            matches!(value, Value::Integer(0..))
        }
        "epoch" => matches!(value, Value::Integer(1..)),
        _ => matches!(value, Value::Integer(_) | Value::Null),
    }
}
