//! Shared files: kept by name, replaced whole and durably, served to everybody, never drained.
//!
//! Operators edit the same directories with their own tools, so nothing about them is remembered between two
//! requests but a running count for the room, and which files this process has made durable (`durable_files`). A failed
//! fsync is final: afterwards nobody knows what the disk holds, and a second fsync would succeed and prove nothing. So
//! nothing is put any more, repeats included, and the node ends. Only regular files count as files: a link or a pipe that somebody
//! put there is neither followed nor opened.
//!
//! `overwrite` off means that a taken name keeps its bytes. A stock server refuses before the body; here the offer
//! is refused at once only when its size shows that the bytes differ. Otherwise the body is taken and compared,
//! because a sender whose `SEND OK` was lost repeats itself and must hear `SEND OK`. To the stock client both
//! refusals are the same words and the same exit code.

mod durable_files;
mod room;

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::OFlags;
use tidegate_proto::Name;
use tidegate_spool::durable;
use tracing::warn;

use crate::config::SharedLimits;
use crate::fatal::Fatal;
use crate::layout;
use durable_files::DurableFiles;
use room::Room;

/// Names that are put at the same time without waiting for each other.
const STRIPES: usize = 64;

/// Bytes compared at once.
const COMPARE_BYTES: usize = 16 * 1024;

/// The shared files of a node. Everything here blocks on the disk.
pub(crate) struct Shared {
    root: PathBuf,
    overwrite: bool,
    room: Room,
    /// Two uploads of one name must not both find it free.
    stripes: [Mutex<()>; STRIPES],
    hasher: RandomState,
    counter: AtomicU64,
    durable: DurableFiles,
    fatal: Fatal,
    /// `File::sync_all`, but in a test.
    fsync: fn(&File) -> io::Result<()>,
}

/// What became of a file that was put.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Put {
    Written,
    /// The same bytes were there already.
    Same,
    /// Other bytes are there, and stay.
    Taken,
}

/// Why a file could not be put.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PutError {
    #[error("{0}")]
    Full(String),
    #[error("nothing is stored until the node has started again: {0}")]
    Stopping(Arc<str>),
    #[error(transparent)]
    Io(#[from] io::Error),
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
        directories: &[&str],
        overwrite: bool,
        limits: SharedLimits,
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
        let directories: Vec<PathBuf> =
            directories.iter().map(|directory| layout::shared_directory(root, directory)).collect();
        for directory in &directories {
            durable::create_dir_all(directory)?;
            check_file_system(directory, &temporary)?;
        }
        // Those found may have been made by a process that died before it could fsync their names.
        durable::sync_dir(root)?;
        Ok(Self {
            root: root.into(),
            overwrite,
            room: Room::count(directories, limits)?,
            stripes: std::array::from_fn(|_| Mutex::new(())),
            hasher: RandomState::new(),
            counter: AtomicU64::new(0),
            durable: DurableFiles::default(),
            fatal,
            fsync: File::sync_all,
        })
    }

    /// Whether it is clear before the body that the name keeps its bytes. `size` is that of the offered file, where
    /// it is known.
    pub(crate) fn is_taken(&self, directory: &str, name: &[u8], size: Option<u64>) -> io::Result<bool> {
        if self.overwrite {
            return Ok(false);
        }
        match fs::symlink_metadata(layout::shared_file(&self.root, directory, name)) {
            Ok(there) => Ok(!there.is_file() || size.is_some_and(|size| size != there.len())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Puts `content`, which is at its start and has `size` bytes, in the place of `name`; durable on return.
    pub(crate) fn put(
        &self,
        directory: &str,
        name: &[u8],
        mut content: File,
        size: u64,
    ) -> Result<Put, PutError> {
        let path = layout::shared_file(&self.root, directory, name);
        let stripe = self.hasher.hash_one(&path) as usize % STRIPES;
        let _alone = self.stripes[stripe].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = self.fatal.reason() {
            return Err(PutError::Stopping(reason));
        }

        let replaced = match find(&path)? {
            Found::Nothing => None,
            Found::Other => return Ok(Put::Taken),
            Found::File(there) => {
                let there_size = there.metadata()?.len();
                if there_size == size && same_bytes(&there, &mut content)? {
                    self.make_durable(&path, &there)?;
                    return Ok(Put::Same);
                }
                if !self.overwrite {
                    return Ok(Put::Taken);
                }
                io::Seek::rewind(&mut content)?;
                Some(there_size)
            }
        };
        let reserved = self.room.reserve(size)?;
        let put = self.write(&path, &mut content)?;
        if put == Put::Written {
            reserved.keep(replaced);
        }
        Ok(put)
    }

    /// Opens a shared file for reading, with its size.
    pub(crate) fn get(&self, directory: &str, name: &[u8]) -> io::Result<Option<(File, u64)>> {
        match find(&layout::shared_file(&self.root, directory, name))? {
            Found::File(file) => {
                let size = file.metadata()?.len();
                Ok(Some((file, size)))
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

    /// Written and fsynced aside first, so that readers see the old or the new bytes, never a part. The rename
    /// becomes durable with the directory's fsync.
    fn write(&self, path: &Path, content: &mut File) -> io::Result<Put> {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        // Unlike anything that an earlier process left and this one could not remove.
        let aside = layout::temporary(&self.root).join(format!("{}-{number}", std::process::id()));
        // Opened first: without descriptors, nothing is renamed that could not be made durable.
        let directory = directory_of(path)?;
        let renamed = self.copy_durably(content, &aside).and_then(|file| {
            // Without `overwrite`, what an operator has put there in the meantime wins.
            let rename = if self.overwrite { fs::rename } else { durable::rename_noreplace };
            rename(&aside, path)?;
            file.metadata()
        });
        match renamed {
            Ok(placed) => {
                self.final_fsync(&directory, path)?;
                self.durable.remember(path, &placed);
                Ok(Put::Written)
            }
            Err(error) => {
                fs::remove_file(&aside).or_else(|error| match error.kind() {
                    ErrorKind::NotFound => Ok(()),
                    _ => Err(error),
                })?;
                if error.kind() == ErrorKind::AlreadyExists { Ok(Put::Taken) } else { Err(error) }
            }
        }
    }

    /// A failure harms nobody: what was written is thrown away.
    fn copy_durably(&self, content: &mut File, aside: &Path) -> io::Result<File> {
        let mut file = durable::create_new(aside)?;
        io::copy(content, &mut file)?;
        (self.fsync)(&file)?;
        Ok(file)
    }

    /// Makes durable what somebody else, or an earlier process, has put there.
    fn make_durable(&self, path: &Path, there: &File) -> io::Result<()> {
        let before = there.metadata()?;
        if self.durable.holds(path, &before) {
            return Ok(());
        }
        let directory = directory_of(path)?;
        self.final_fsync(there, path)?;
        self.final_fsync(&directory, path)?;
        self.durable.remember(path, &before);
        Ok(())
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

fn same_bytes(mut left: impl Read, mut right: impl Read) -> io::Result<bool> {
    let (mut left_part, mut right_part) = (Vec::new(), Vec::new());
    loop {
        left_part.clear();
        right_part.clear();
        left.by_ref().take(COMPARE_BYTES as u64).read_to_end(&mut left_part)?;
        right.by_ref().take(COMPARE_BYTES as u64).read_to_end(&mut right_part)?;
        if left_part != right_part {
            return Ok(false);
        }
        if left_part.is_empty() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests;
