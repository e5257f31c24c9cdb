//! The file-system calls of the spool, as a trait: so that a test can put a file system underneath that forgets,
//! at a crash, whatever was not made durable.
//!
//! The trait is as narrow as the spool's needs. It adds nothing to the calls: what must be fsynced when is decided
//! by the callers.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{Advice, FallocateFlags};

use crate::clock::{Millis, millis, system_time};
use crate::durable;
use crate::error::{Context, DiskError};
use crate::failed;
use crate::parallel;

/// A file system.
pub(crate) trait Fs: Send + Sync {
    /// Makes one directory.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    fn is_dir(&self, path: &Path) -> bool;
    /// Gives everything in a directory, in any order. That many threads look at the files side by side.
    fn visit(&self, directory: &Path, threads: usize, visitor: &mut dyn FnMut(Found)) -> io::Result<()>;
    /// Everything in a directory that cannot hold much, in any order.
    fn list(&self, directory: &Path) -> io::Result<Vec<Found>> {
        let mut found = Vec::new();
        self.visit(directory, 1, &mut |entry| found.push(entry))?;
        Ok(found)
    }
    /// Creates a file that must not exist yet.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn Written>>;
    /// Opens a file for writing behind what is in it, and gives its length.
    fn open_to_append(&self, path: &Path) -> io::Result<(Box<dyn Written>, u64)>;
    /// Opens a file for reading.
    fn open(&self, path: &Path) -> io::Result<File>;
    /// Opens a file for reading what the disk has, as far as what is in the page cache counts as written.
    fn open_uncached(&self, path: &Path) -> io::Result<File>;
    /// Renames; fails with `AlreadyExists` when `to` exists.
    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Opens a file and fsyncs it; the error says which of the two failed.
    fn sync_file(&self, path: &Path) -> Result<(), DiskError>;
    /// Makes all files durable that lie on the file system of this directory.
    fn sync_everything(&self, directory: &Path) -> Result<(), DiskError>;
    /// Opens a directory, to fsync it again and again.
    fn open_dir(&self, path: &Path) -> io::Result<Box<dyn Directory>>;
    /// Opens a directory and fsyncs it; the error says which of the two failed.
    fn sync_dir(&self, path: &Path) -> Result<(), DiskError> {
        self.open_dir(path).context("open", path)?.sync().context("fsync", path)
    }
    /// What an unprivileged process may still write.
    fn free(&self, path: &Path) -> io::Result<Free>;
}

/// An open directory.
///
/// The spool keeps those it fsyncs all the time open: a process that has run out of descriptors can still finish
/// what it has begun, and whatever fails is the fsync itself. The directory is the spool's own while it is open: who
/// puts another one in its place takes what is renamed into that out of these fsyncs.
pub(crate) trait Directory: Send + Sync {
    /// Makes the names in it durable, removals included.
    fn sync(&self) -> io::Result<()>;
}

/// A file being written.
pub(crate) trait Written: Send {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Sets room aside, so that writes up to that length do not fail for want of it. The file keeps its length.
    fn allocate(&mut self, length: u64) -> io::Result<()>;
    fn set_modified(&mut self, time: Millis) -> io::Result<()>;
    fn sync(&mut self) -> io::Result<()>;
}

/// One entry of a directory.
pub(crate) struct Found {
    pub(crate) name: OsString,
    /// An ordinary file, neither directory nor link.
    pub(crate) is_file: bool,
    pub(crate) size: u64,
    pub(crate) modified: Millis,
}

/// What is left of a file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Free {
    pub(crate) bytes: u64,
    /// Files that can still be made; `None` where the file system has no limit of its own for them.
    pub(crate) inodes: Option<u64>,
}

/// Makes a directory and those above it, and fsyncs the parent of every new one: a directory's own name is durable
/// no sooner than any other name.
pub(crate) fn create_dir_all(fs: &dyn Fs, path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || fs.is_dir(path) {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(Path::new(""));
    create_dir_all(fs, parent)?;
    match fs.create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && fs.is_dir(path) => {}
        result => result?,
    }
    fs.open_dir(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })?.sync()
}

/// Entries of a directory whose files are looked at side by side: on a cold disk each may be a read that waits. The
/// next ones follow, so that a large directory is never in memory as a whole.
const LOOKED_AT_TOGETHER: usize = 16_384;

/// What an entry is. It allocates nothing: memory that many threads allocate stays with each of them.
fn look_at(entry: &fs::DirEntry) -> io::Result<(bool, u64, Millis)> {
    let metadata = entry.metadata()?;
    Ok((metadata.is_file(), metadata.len(), millis(metadata.modified()?)))
}

/// The real file system.
pub(crate) struct Disk;

impl Fs for Disk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn is_dir(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn visit(&self, directory: &Path, threads: usize, visitor: &mut dyn FnMut(Found)) -> io::Result<()> {
        let mut entries = fs::read_dir(directory)?;
        loop {
            let some = entries.by_ref().take(LOOKED_AT_TOGETHER);
            let mut some =
                some.map(|entry| Ok((entry?, Ok((false, 0, 0))))).collect::<io::Result<Vec<_>>>()?;
            if some.is_empty() {
                return Ok(());
            }
            parallel::for_each(&mut some, threads, |(entry, seen)| *seen = look_at(entry));
            for (entry, seen) in some {
                let (is_file, size, modified) = seen?;
                visitor(Found { name: entry.file_name(), is_file, size, modified });
            }
        }
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn Written>> {
        Ok(Box::new(durable::create_new(path)?))
    }

    fn open_to_append(&self, path: &Path) -> io::Result<(Box<dyn Written>, u64)> {
        // Not with `append`, under which Linux ignores where a write is to go.
        let file = File::options().write(true).open(path)?;
        let length = file.metadata()?.len();
        Ok((Box::new(file), length))
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        File::open(path)
    }

    fn open_uncached(&self, path: &Path) -> io::Result<File> {
        let file = File::open(path)?;
        rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
        Ok(file)
    }

    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        durable::rename_noreplace(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_file(&self, path: &Path) -> Result<(), DiskError> {
        let file = File::open(path).context("open", path)?;
        durable::sync_open(&file).context("fsync", path)
    }

    fn sync_everything(&self, directory: &Path) -> Result<(), DiskError> {
        let opened = File::open(directory).context("open", directory)?;
        rustix::fs::syncfs(opened).map_err(io::Error::from).context(failed::SYNC_ALL, directory)
    }

    fn open_dir(&self, path: &Path) -> io::Result<Box<dyn Directory>> {
        Ok(Box::new(File::open(path)?))
    }

    fn free(&self, path: &Path) -> io::Result<Free> {
        let space = rustix::fs::statvfs(path)?;
        Ok(Free {
            bytes: space.f_bavail.saturating_mul(space.f_frsize),
            inodes: (space.f_files > 0).then_some(space.f_favail),
        })
    }
}

impl Directory for File {
    fn sync(&self) -> io::Result<()> {
        durable::sync_open_dir(self)
    }
}

impl Written for File {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn allocate(&mut self, length: u64) -> io::Result<()> {
        Ok(rustix::fs::fallocate(self, FallocateFlags::KEEP_SIZE, 0, length)?)
    }

    fn set_modified(&mut self, time: Millis) -> io::Result<()> {
        durable::set_times(self, system_time(time))
    }

    fn sync(&mut self) -> io::Result<()> {
        durable::sync_open(self)
    }
}
