//! A new ledger in the place of a damaged one, which is moved aside and asked for what it still knows.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::package::{COLUMNS, State};
use super::{Ledger, LedgerError, Package, open, seconds};

/// What came of it.
#[derive(Debug)]
pub(crate) struct Replaced {
    pub(crate) ledger: Ledger,
    /// Where the old one's files are.
    pub(crate) moved: Vec<PathBuf>,
    /// Its rows that are sound and no history.
    pub(crate) readable: Vec<Package>,
}

impl Ledger {
    /// Replaces the ledger in `directory`. No server may run.
    pub(crate) fn replace(directory: &Path) -> Result<Replaced, LedgerError> {
        let lock = open::Lock::take(directory)?;
        let moved = move_aside(directory)?;
        let readable = moved.first().map_or_else(Vec::new, |old| readable(old));
        Ok(Replaced { ledger: Self::open_locked(directory, lock)?, moved, readable })
    }
}

/// Gives the files of a ledger other names, which still fit each other. The database goes first: without it, what is
/// left of it makes no server believe that it has a ledger.
fn move_aside(directory: &Path) -> Result<Vec<PathBuf>, LedgerError> {
    let name = format!("ledger-damaged-{}.sqlite", seconds(SystemTime::now()));
    let mut moved = Vec::new();
    for ending in ["", "-wal", "-shm"] {
        let from = directory.join(format!("{}{ending}", open::DATABASE));
        let to = directory.join(format!("{name}{ending}"));
        match fs::rename(&from, &to) {
            Ok(()) => moved.push(to),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => {
                let what = format!("cannot rename {} to {}", from.display(), to.display());
                return Err(LedgerError::File { what, source });
            }
        }
    }
    open::make_durable(directory)?;
    Ok(moved)
}

/// The rows of a damaged database that can be read, have their sum and are no history.
fn readable(database: &Path) -> Vec<Package> {
    let mut packages = Vec::new();
    let mut read = || -> Result<(), LedgerError> {
        let db = open::file_to_read(database)?;
        let mut query = db.prepare(&format!("SELECT {COLUMNS} FROM package ORDER BY id"))?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let package = Package::of(row).ok();
            packages.extend(package.filter(|package| package.state != State::Delivered || package.on_site));
        }
        Ok(())
    };
    if let Err(error) = read() {
        tracing::warn!(%error, "the old ledger can be read in part only");
    }
    packages
}
