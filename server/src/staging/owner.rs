//! Whose a staging directory is: the file in it that ties it to one ledger.

use std::fs;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use tidegate_spool::durable;

use super::{Staging, StagingError};

/// The file that ties the directory to its ledger.
pub(crate) const OWNER: &str = "ledger-id";

/// What a ledger knows of its staging directory.
#[derive(Debug)]
pub(crate) struct Tie {
    /// The ledger's id.
    pub(crate) ledger: String,
    /// The mark of the directory it used last, if any.
    pub(crate) mark: Option<String>,
    /// How many packages have their files there.
    pub(crate) unfinished: usize,
    /// How many starts it has seen.
    pub(crate) starts: u64,
}

/// What stands in [`OWNER`]: `<ledger> <mark>`, and from the first start on `<ledger> <starts> <mark>`.
#[derive(Debug)]
pub(super) struct Owner {
    pub(super) ledger: String,
    pub(super) mark: String,
    pub(super) starts: u64,
}

impl Owner {
    fn read(directory: &Path) -> io::Result<Option<Self>> {
        match fs::read_to_string(directory.join(OWNER)) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let (ledger, rest) = text.split_once(' ')?;
        let (starts, mark) = rest.split_once(' ').unwrap_or(("0", rest));
        Some(Self { ledger: ledger.to_owned(), mark: mark.to_owned(), starts: starts.parse().ok()? })
    }
}

/// Whose a directory says to be: the ledger's id and the directory's own mark. `None` when it is absent or says nothing.
pub(crate) fn owner_of(directory: &Path) -> io::Result<Option<(String, String)>> {
    Ok(Owner::read(directory)?.map(|owner| (owner.ledger, owner.mark)))
}

impl Staging {
    /// A mark that no other directory of a ledger has.
    pub(crate) fn new_mark() -> String {
        // The moment is mark enough: nobody makes two of one ledger's directories at once.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        format!("{now:x}")
    }

    /// Ties `directory` to a ledger, whatever it was tied to.
    pub(crate) fn tie(directory: &Path, ledger: &str, mark: &str) -> Result<(), StagingError> {
        Self::write_owner(directory, &format!("{ledger} {mark}"))
    }

    fn write_owner(directory: &Path, text: &str) -> Result<(), StagingError> {
        let owner = directory.join(OWNER);
        durable::replace(&owner, text.as_bytes())
            .map_err(|source| StagingError::Io { what: format!("cannot write {}", owner.display()), source })
    }

    /// What tells this directory from every other one of its ledger.
    pub(crate) fn mark(&self) -> &str {
        &self.owner.mark
    }

    /// How many starts it has seen.
    pub(crate) fn starts(&self) -> u64 {
        self.owner.starts
    }

    /// Counts a start, which the ledger has counted.
    pub(crate) fn count_start(&self, starts: u64) -> Result<(), StagingError> {
        Self::write_owner(&self.directory, &format!("{} {starts} {}", self.owner.ledger, self.owner.mark))
    }

    /// Whether this still is the directory that it was at the start.
    pub(crate) fn is_intact(&self) -> bool {
        let owner = Owner::read(&self.directory);
        owner.is_ok_and(|owner| {
            owner.is_some_and(|owner| owner.ledger == self.owner.ledger && owner.mark == self.owner.mark)
        })
    }
}
