//! The file-system calls of the workshop, as a trait: so that a test can put a disk underneath on which other hands
//! work, and that dies or forgets between any two of them.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use super::look::open_regular;
use super::stamp::Stamp;
use crate::durable;
use crate::error::{Context, DiskError};
use crate::fs::{Directory, Disk, Fs, Written};

/// The mode of a placed file that replaces none.
const NEW_MODE: u32 = 0o660;

/// The bits of a file's mode that its successor gets.
const PERMISSIONS: u32 = 0o777;

pub(super) trait Files: Send + Sync {
    /// Makes a directory that is nobody else's, if it is not there.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, and when what they stand for was written.
    fn list(&self, directory: &Path) -> io::Result<Vec<(OsString, SystemTime)>>;
    /// Opens a regular file for reading; `None` when there is nothing, or something else.
    fn open(&self, path: &Path) -> io::Result<Option<Opened>>;
    /// What there is under a name; a link is not followed.
    fn identify(&self, path: &Path) -> io::Result<Option<There>>;
    /// Creates a file that must not exist yet, for this process alone.
    fn create(&self, path: &Path) -> io::Result<Box<dyn Written>>;
    /// Opens a file for writing behind what is in it, and gives its length.
    fn append(&self, path: &Path) -> io::Result<(Box<dyn Written>, u64)>;
    /// Gives a file mode and owner of the one at `like`, as far as this process may; where there is none, those of
    /// a new one.
    fn dress(&self, path: &Path, like: &Path) -> io::Result<()>;
    /// Lets two names change places; `Unsupported` where a file system does not know that.
    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()>;
    /// Renames; `AlreadyExists` when `to` exists.
    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Renames, over what is there.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name, which must not exist.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    fn sync_file(&self, path: &Path) -> Result<(), DiskError>;
    /// Opens a directory, to fsync it.
    fn open_dir(&self, path: &Path) -> io::Result<Box<dyn Directory>>;
}

/// An open file, and what it looked like before its first byte was read.
pub(super) struct Opened {
    pub(super) bytes: Box<dyn Read>,
    pub(super) stamp: Stamp,
}

/// An open directory.
pub(super) struct OpenDir {
    opened: Box<dyn Directory>,
    pub(super) path: PathBuf,
}

impl OpenDir {
    pub(super) fn open(files: &dyn Files, path: &Path) -> Result<Self, DiskError> {
        Ok(Self { opened: files.open_dir(path).context("open", path)?, path: path.to_owned() })
    }

    /// Makes the names in it durable.
    pub(super) fn sync(&self) -> Result<(), DiskError> {
        self.opened.sync().context("fsync", &self.path)
    }
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct There {
    pub(super) stamp: Stamp,
    pub(super) is_file: bool,
    /// How many names it has.
    pub(super) links: u64,
}

/// The real ones.
pub(super) struct RealFiles;

impl Files for RealFiles {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        durable::create_dir_all(parent)?;
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists || !path.is_dir() => Err(error),
            _ => durable::sync_dir(parent),
        }
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<(OsString, SystemTime)>> {
        let entry = |entry: io::Result<fs::DirEntry>| {
            let entry = entry?;
            let written = entry.metadata().and_then(|metadata| metadata.modified());
            // Whatever goes away meanwhile was the oldest.
            Ok((entry.file_name(), written.unwrap_or(SystemTime::UNIX_EPOCH)))
        };
        fs::read_dir(directory)?.map(entry).collect()
    }

    fn open(&self, path: &Path) -> io::Result<Option<Opened>> {
        let Some(file) = open_regular(path)? else { return Ok(None) };
        let stamp = Stamp::of(&file.metadata()?);
        Ok(Some(Opened { bytes: Box::new(file), stamp }))
    }

    fn identify(&self, path: &Path) -> io::Result<Option<There>> {
        match fs::symlink_metadata(path) {
            Ok(there) => {
                Ok(Some(There { stamp: Stamp::of(&there), is_file: there.is_file(), links: there.nlink() }))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Written>> {
        Ok(Box::new(File::options().write(true).create_new(true).mode(0o600).open(path)?))
    }

    fn append(&self, path: &Path) -> io::Result<(Box<dyn Written>, u64)> {
        Disk.open_to_append(path)
    }

    fn dress(&self, path: &Path, like: &Path) -> io::Result<()> {
        let file = File::open(path)?;
        let (user, group, mode) = match fs::symlink_metadata(like) {
            Ok(there) if there.is_file() => (Some(there.uid()), there.gid(), there.mode() & PERMISSIONS),
            _ => (None, fs::metadata(durable::parent(like)?)?.gid(), NEW_MODE),
        };
        // Who is not root gives files to his own groups only: what is not allowed stays as it is.
        if fchown(&file, user, Some(group)).is_err() {
            let _ = fchown(&file, None, Some(group));
        }
        file.set_permissions(Permissions::from_mode(mode))
    }

    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        match rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE) {
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => Err(ErrorKind::Unsupported.into()),
            result => Ok(result?),
        }
    }

    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        durable::rename_noreplace(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_file(&self, path: &Path) -> Result<(), DiskError> {
        Disk.sync_file(path)
    }

    fn open_dir(&self, path: &Path) -> io::Result<Box<dyn Directory>> {
        Disk.open_dir(path)
    }
}
