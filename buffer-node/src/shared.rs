//! Shared files: kept by name, replaced whole and durably, served to everybody, never drained.
//!
//! Operators edit the same directories with their own tools, so nothing about them is believed between two
//! requests but a running count for the room, and which files this process has made durable (`durable_files`). A failed
//! fsync is final: afterwards nobody knows what the disk holds, and a second fsync would succeed and prove nothing. So
//! nothing is put any more, repeats included, and the node ends. Only regular files count as files: a link or a pipe that somebody
//! put there is neither followed nor opened.
//!
//! `overwrite` off means that a taken name keeps its bytes. A stock server refuses before the body; here the offer
//! is refused at once only when its size shows that the bytes differ. Otherwise the body is taken and compared,
//! because a sender whose `SEND OK` was lost repeats itself and must hear `SEND OK`. To the stock client both
//! refusals are the same words and the same exit code.
//!
//! With `sync_shared` the sync server changes them as well, in pairs of a main file and its `.md5`. Whoever changes one
//! half is alone with the pair meanwhile.
//!
//! ```text
//! agent ──▶ put ──(guard)──▶ conf/ md5/ … ◀── placing ◀── sync server
//!                                  └──▶ synced: what lies there, by digest ──▶ sync server
//! ```

mod durable_files;
mod guard;
mod placing;
mod put;
mod room;
mod stamp;
mod synced;

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::OFlags;
use tidegate_proto::Name;
use tidegate_spool::durable;
use tracing::warn;

use crate::config::{SharedLimits, SyncShared};
use crate::fatal::Fatal;
use crate::filters::Filters;
use crate::layout;
use crate::pairs;
use durable_files::DurableFiles;
pub(crate) use guard::Guarded;
pub(crate) use placing::{Begun, Coming, Order, Outcome, PlaceError};
pub(crate) use put::{Put, PutError};
use room::Room;
use stamp::Stamp;
pub(crate) use synced::Reading;
use synced::Synced;

/// Pairs that are changed at the same time without waiting for each other.
const STRIPES: usize = 64;

/// The shared files of a node. Everything here blocks on the disk.
pub(crate) struct Shared {
    root: PathBuf,
    overwrite: bool,
    room: Room,
    /// Two uploads of one name must not both find it free, and nobody changes a pair of which somebody changes a half.
    stripes: [Mutex<()>; STRIPES],
    hasher: RandomState,
    counter: AtomicU64,
    durable: DurableFiles,
    /// Where the sync server keeps pairs in step.
    synced: Option<Synced>,
    fatal: Fatal,
    /// `File::sync_all`, but in a test.
    fsync: fn(&File) -> io::Result<()>,
}

/// A shared file that somebody asked for.
pub(crate) struct Given {
    pub(crate) file: File,
    pub(crate) size: u64,
    /// For [`Shared::was_read`].
    pub(crate) reading: Option<Reading>,
}

enum Found {
    Nothing,
    File(File),
    /// A directory, a link, a pipe.
    Other,
}

impl Shared {
    /// Makes the directories and removes what an earlier process left unfinished.
    pub(crate) fn open(
        root: &Path,
        filters: &Filters,
        overwrite: bool,
        limits: SharedLimits,
        sync: Option<&SyncShared>,
        fatal: Fatal,
    ) -> io::Result<Self> {
        let temporary = layout::temporary(root);
        durable::create_dir_all(&temporary)?;
        for entry in fs::read_dir(&temporary)? {
            let path = entry?.path();
            if let Err(error) = fs::remove_file(&path) {
                warn!(path = %path.display(), %error, "does not belong here and cannot be removed; look at it");
            }
        }
        let directories = filters.directories().into_iter();
        let directories: Vec<PathBuf> =
            directories.map(|directory| layout::shared_directory(root, directory)).collect();
        for directory in &directories {
            durable::create_dir_all(directory)?;
            check_file_system(directory, &temporary)?;
        }
        // Those found may have been made by a process that died before it could fsync their names.
        durable::sync_dir(root)?;
        let synced = match sync {
            Some(sync) => Some(Synced::open(root, sync)?),
            None => {
                synced::finish(root, filters)?;
                None
            }
        };
        Ok(Self {
            root: root.into(),
            overwrite,
            room: Room::count(directories, limits, sync.is_some())?,
            stripes: std::array::from_fn(|_| Mutex::new(())),
            hasher: RandomState::new(),
            counter: AtomicU64::new(0),
            durable: DurableFiles::default(),
            synced,
            fatal,
            fsync: File::sync_all,
        })
    }

    /// Opens a shared file for reading.
    pub(crate) fn get(&self, directory: &str, name: &[u8]) -> io::Result<Option<Given>> {
        match find(&layout::shared_file(&self.root, directory, name))? {
            Found::File(file) => {
                let there = file.metadata()?;
                let reading = self.reading(name, Stamp::of(&there));
                Ok(Some(Given { file, size: there.len(), reading }))
            }
            Found::Nothing | Found::Other => Ok(None),
        }
    }

    /// The names in a directory that a peer could ask for, joined by line ends.
    pub(crate) fn listing(&self, directory: &str) -> io::Result<Vec<u8>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(layout::shared_directory(&self.root, directory))? {
            let entry = entry?;
            let name = entry.file_name().into_encoded_bytes();
            if entry.file_type()?.is_file() && Name::parse_listed(&name).is_ok() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names.join(&b'\n'))
    }

    /// The right to change the pair that `name` is of.
    fn alone(&self, name: &[u8]) -> MutexGuard<'_, ()> {
        self.stripe(name).lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stripe(&self, name: &[u8]) -> &Mutex<()> {
        &self.stripes[self.hasher.hash_one(pairs::stem(name)) as usize % STRIPES]
    }

    /// An fsync of what is visible already.
    fn final_fsync(&self, file: &File, path: &Path) -> io::Result<()> {
        (self.fsync)(file).inspect_err(|error| {
            self.fatal.declare(format_args!("cannot fsync {}: {error}; check the disk", path.display()));
        })
    }
}

/// Files are renamed from one to the other, which a file system does only inside itself.
fn check_file_system(directory: &Path, temporary: &Path) -> io::Result<()> {
    if fs::metadata(directory)?.dev() == fs::metadata(temporary)?.dev() {
        return Ok(());
    }
    let (directory, temporary) = (directory.display(), temporary.display());
    let words = format!("{directory} is on another file system than {temporary}; put both on the same one");
    Err(io::Error::new(ErrorKind::CrossesDevices, words))
}

fn directory_of(path: &Path) -> io::Result<File> {
    File::open(path.parent().expect("a shared file lies in a directory"))
}

/// Never follows a link, and never waits for the other end of a pipe.
fn find(path: &Path) -> io::Result<Found> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(_) if fs::symlink_metadata(path).is_ok_and(|there| !there.is_file()) => return Ok(Found::Other),
        Err(error) => return Err(error),
    };
    if file.metadata()?.is_file() { Ok(Found::File(file)) } else { Ok(Found::Other) }
}

#[cfg(test)]
mod tests;
