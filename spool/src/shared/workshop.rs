//! Where pairs are made ready, beside the directories in which they are placed.
//!
//! Constraints:
//! - It lies on the file system of the pairs, so that placing is renaming: whoever reads finds the old bytes or the new
//!   ones, whole.
//! - Its inside belongs to one process, the pairs do not: other hands edit them, without a lock, between any two steps.
//! - What it does is durable on return, and after a crash between any two steps [`Workshop::open`] ends what was begun
//!   or undoes it. For that it needs nothing but the names of its files:
//!
//! ```text
//! part.<digest>           bytes on their way in; gone on with
//! spare.<n>               the same, of a digest that is on its way already
//! md5.<name>              the `.md5` that belongs to the main file that is being placed
//! swap.<expected>.<name>  before the exchange: the new main file; after it: what it has replaced
//! held.<expected>.<name>  what is being replaced, where the file system cannot exchange
//! gone.<expected>.<name>  a main file that is being removed
//! out.<expected>.<name>   the same of one whose `.md5` stays as it is
//! ```
//!
//! `<expected>` is half a digest in hex, so that a name of any length fits.
//!
//! The order of placing: the bytes of both files are fsynced and the names in here are; the main file goes in place, its
//! directory is fsynced; the `.md5` goes in place over the old one, its directory is fsynced. So an agent that reads the
//! `.md5` first and the main file after it finds an old `.md5` or a fitting one, and none only where there was none.
//! What was replaced waits until then: when the `.md5` cannot go in place, the main file is taken back.
//! The order of removing: the main file first, then the `.md5`.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use super::change::Change;
use super::failed::Failed;
use super::files::{Files, OpenDir, RealFiles};
use super::look::{hex, io_error};
use super::partial::{Partial, Parts, Ready};
use super::{Digest, Pair, Seen, recover};
use crate::error::Context;
use crate::parallel::lock;

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Done {
    /// It is made.
    Done,
    /// There was nothing to do.
    Already,
    /// Something else than expected is there, and stays: this, if it is a file.
    Changed(Option<Seen>),
}

/// What becomes of the `.md5` of a main file that is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Md5 {
    /// It goes too.
    Goes,
    /// It stays: there is a main file of another kind whose name differs in its extension only, and it is that one's.
    Stays,
}

/// Which bytes on their way in a start keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Those of the last week: who has not gone on with them by then has another version.
    Recent,
    /// None: nobody will go on with them.
    Nothing,
}

/// How long bytes on their way in wait for the rest.
const RECENT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

impl Keep {
    pub(super) fn keeps(self, written: SystemTime) -> bool {
        match self {
            Self::Recent => written.elapsed().unwrap_or_default() < RECENT,
            Self::Nothing => false,
        }
    }
}

/// Such a directory.
pub struct Workshop {
    pub(super) files: Arc<dyn Files>,
    pub(super) directory: OpenDir,
    parts: Arc<Parts>,
    /// Taken for each change, so that one at a time has names in here: most of it is waiting for the disk. Holds the
    /// main files that change no more until the next start, and why.
    stuck: Mutex<HashMap<PathBuf, Stuck>>,
}

/// Why a pair changes no more.
#[derive(Clone, Copy)]
enum Stuck {
    /// Nobody knows what the disk has of it.
    Unsure,
    /// The start could not end what was begun with it. As it is it does no harm, and all other pairs go on.
    NotEnded,
}

impl Workshop {
    /// Makes the directory, ends or undoes what an earlier process began, and removes what nobody needs any more.
    /// `pair_of` says where the pair of a name lies. A pair of which that fails is refused to be changed until the next
    /// start; what was begun with it stays as it is.
    pub fn open(directory: &Path, keep: Keep, pair_of: &dyn Fn(&[u8]) -> Option<Pair>) -> io::Result<Self> {
        Self::open_on(Arc::new(RealFiles), directory, keep, pair_of)
    }

    pub(super) fn open_on(
        files: Arc<dyn Files>,
        directory: &Path,
        keep: Keep,
        pair_of: &dyn Fn(&[u8]) -> Option<Pair>,
    ) -> io::Result<Self> {
        files.create_dir(directory).context("create", directory).map_err(io_error)?;
        let parts = Parts::new(Arc::clone(&files), directory);
        let directory = OpenDir::open(&*files, directory).map_err(io_error)?;
        let workshop = Self { files, directory, parts, stuck: Mutex::default() };
        recover::recover(&workshop, keep, pair_of)?;
        Ok(workshop)
    }

    /// Takes in a file of `size` bytes. An earlier one of the same digest is gone on with, also after a restart. At
    /// most four are kept.
    pub fn begin(&self, digest: Digest, size: u64) -> io::Result<Partial> {
        self.parts.begin(digest, size)
    }

    /// The same from its first byte, for bytes that must all come from one place: what has come before goes.
    pub fn begin_anew(&self, digest: Digest, size: u64) -> io::Result<Partial> {
        self.parts.begin_anew(digest, size)
    }

    /// Places a main file and then its `.md5`, if what lies there has the `expected` digest (`None`: nothing does);
    /// durable on return. The main file bears the pair's `name`.
    ///
    /// Where something is expected, the two files change places, and what came out is looked at: an edit by other hands
    /// in that very moment is put back. Lost is only what is written later than that into a file that was opened before it.
    /// On a file system that cannot exchange (NFS, for one), an edit is lost that falls between two calls.
    pub fn place(
        &self,
        name: &[u8],
        pair: &Pair,
        expected: Option<Digest>,
        ready: Ready,
    ) -> Result<Done, Failed> {
        self.change(name, pair, |change| change.place(expected, ready))
    }

    /// Removes a main file that has the `expected` digest, and then its `.md5`, if that is to go; durable on return. An
    /// edit by other hands in that moment is put back.
    pub fn remove(&self, pair: &Pair, expected: Digest, md5: Md5) -> Result<Done, Failed> {
        let name = pair.file.file_name().unwrap_or_default().as_bytes();
        self.change(name, pair, |change| change.remove(expected, md5))
    }

    /// Writes the `.md5` of a main file that stays; both are durable on return.
    pub fn complete(&self, name: &[u8], pair: &Pair, expected: Digest) -> Result<Done, Failed> {
        self.change(name, pair, |change| change.complete(expected))
    }

    fn change(
        &self,
        name: &[u8],
        pair: &Pair,
        work: impl FnOnce(&Change<'_>) -> Result<Done, Failed>,
    ) -> Result<Done, Failed> {
        let mut stuck = lock(&self.stuck);
        let (file, workshop) = (pair.file.display(), self.directory.path.display());
        match stuck.get(&pair.file) {
            Some(Stuck::Unsure) => {
                let words = format!("an earlier change of {file} failed");
                return Err(Failed::Unsure(io::Error::other(words)));
            }
            Some(Stuck::NotEnded) => {
                let words = format!(
                    "what an earlier process began with {file} could not be ended: look into {workshop} and the log of \
                     the start, then start again"
                );
                return Err(Failed::Refused(io::Error::other(words)));
            }
            None => {}
        }
        let done = Change::new(self, name, pair).and_then(|change| work(&change));
        if matches!(done, Err(Failed::Unsure(_))) {
            stuck.insert(pair.file.clone(), Stuck::Unsure);
        }
        done
    }

    /// What was begun with this pair stays as it is.
    pub(super) fn leave(&self, pair: &Pair) {
        lock(&self.stuck).insert(pair.file.clone(), Stuck::NotEnded);
    }

    pub(super) fn is_left(&self, pair: &Pair) -> bool {
        lock(&self.stuck).contains_key(&pair.file)
    }

    /// Where the `.md5` of this name waits.
    pub(super) fn staged_md5(&self, name: &[u8]) -> PathBuf {
        self.directory.path.join(OsStr::from_bytes(&[MD5.as_bytes(), name].concat()))
    }

    /// Where a main file of this name is aside.
    pub(super) fn aside(&self, prefix: &str, expected: &[u8], name: &[u8]) -> PathBuf {
        let file = [prefix.as_bytes(), expected, b".", name].concat();
        self.directory.path.join(OsStr::from_bytes(&file))
    }
}

/// How the names in a workshop begin.
pub(super) const MD5: &str = "md5.";
pub(super) const SWAP: &str = "swap.";
pub(super) const HELD: &str = "held.";
pub(super) const GONE: &str = "gone.";
pub(super) const OUT: &str = "out.";

/// How many hex digits of a digest go into a name.
pub(super) const EXPECTED_DIGITS: usize = 32;

/// As much of a digest as goes into a name.
pub(super) fn in_name(digest: &Digest) -> Vec<u8> {
    hex(digest)[..EXPECTED_DIGITS].into()
}

#[cfg(test)]
mod tests;
