//! File-system steps whose effect survives a power cut.
//!
//! Two facts rule this module. Bytes reach the disk only by fsync of the *file*; a name reaches it only by fsync of
//! the *directory* that holds it. And after a failed fsync the system forgets which bytes are missing: a second one
//! succeeds and proves nothing, so a caller gives the file up instead of trying again.

use std::fs::{self, File, FileTimes};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use crate::fs::Disk;
use crate::sabotage::{self, Switch};

/// How the names of the temporary files of [`replace`] begin. A crash may leave one behind; it may be removed
/// whenever no process writes to its directory.
pub const TEMPORARY_PREFIX: &str = ".tidegate-";

/// Creates a file that must not exist yet (`AlreadyExists`), for writing.
pub fn create_new(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).open(path)
}

/// Creates a file that must not exist yet, writes and fsyncs it. Its name is durable after [`sync_dir`] only.
pub fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_new_from(path, &mut &*bytes)
}

fn write_new_from(path: &Path, contents: &mut impl Read) -> io::Result<()> {
    let mut file = create_new(path)?;
    let written = io::copy(contents, &mut file).and_then(|_| file.flush()).and_then(|()| sync_open(&file));
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written
}

/// Fsyncs the file at `path`: its bytes, length and times.
pub fn sync_file(path: &Path) -> io::Result<()> {
    sync_open(&File::open(path)?)
}

/// The same for an open file.
pub fn sync_open(file: &File) -> io::Result<()> {
    if sabotage::breaks(Switch::SkipFileFsync) {
        return Ok(());
    }
    file.sync_all()
}

/// Fsyncs a directory: the names in it, removals included.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    sync_open_dir(&File::open(path)?)
}

/// The same for an open one.
pub fn sync_open_dir(directory: &File) -> io::Result<()> {
    if sabotage::breaks(Switch::SkipDirFsync) {
        return Ok(());
    }
    directory.sync_all()
}

/// Renames a file, or fails with `AlreadyExists` (`EEXIST`) when `to` exists. Durable after [`sync_dir`] of both
/// directories.
///
/// Some file systems cannot rename that way (`EINVAL`, `EOPNOTSUPP`) and some kernels do not know the call
/// (`ENOSYS`): there the file is linked to `to`, which fails with `EEXIST` likewise, and then unlinked. A crash
/// between the two leaves both names.
pub fn rename_noreplace(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => link_and_unlink(from, to),
        result => Ok(result?),
    }
}

fn link_and_unlink(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to)?;
    fs::remove_file(from)
}

/// Puts `bytes` in the place of the file at `path`, existing or not. Readers see the old bytes or the new ones,
/// always whole, also after a crash; once it returns, the new ones.
///
/// The order is what makes it so: write a temporary file beside it, fsync that (or the rename could become durable
/// before the bytes), rename, fsync the directory (or the rename could be lost).
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_from(path, &mut &*bytes)
}

/// [`replace`] by what a reader gives, to its end.
pub fn replace_from(path: &Path, contents: &mut impl Read) -> io::Result<()> {
    let directory = parent(path)?;
    let temporary = loop {
        let temporary = temporary_in(&directory);
        match write_new_from(&temporary, contents) {
            // Left behind by a process that had this one's number; nothing was read from `contents` yet.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            result => break result.map(|()| temporary)?,
        }
    };
    if let Err(error) = fs::rename(&temporary, path) {
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    sync_dir(&directory)
}

fn temporary_in(directory: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    directory.join(format!("{TEMPORARY_PREFIX}{}-{number}.tmp", std::process::id()))
}

pub(crate) fn parent(path: &Path) -> io::Result<PathBuf> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Ok(PathBuf::from(".")),
        Some(parent) => Ok(parent.to_owned()),
        None => Err(io::Error::new(io::ErrorKind::InvalidInput, "a path that ends in a file name is needed")),
    }
}

/// Makes a directory and those above it, and fsyncs the parent of every new one.
pub fn create_dir_all(path: &Path) -> io::Result<()> {
    crate::fs::create_dir_all(&Disk, path)
}

/// Sets a file's access and modification time; durable with the next fsync of the file.
pub fn set_times(file: &File, modified: SystemTime) -> io::Result<()> {
    file.set_times(FileTimes::new().set_accessed(modified).set_modified(modified))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn neither_way_of_renaming_replaces() {
        for rename in [rename_noreplace, link_and_unlink] {
            let directory = tempfile::tempdir().unwrap();
            let [a, b] = ["a", "b"].map(|name| directory.path().join(name));
            write_new(&a, b"first").unwrap();
            write_new(&b, b"second").unwrap();
            assert_eq!(rename(&a, &b).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(fs::read(&b).unwrap(), b"second");
            fs::remove_file(&b).unwrap();
            rename(&a, &b).unwrap();
            assert_eq!(fs::read(&b).unwrap(), b"first");
            assert_eq!(names(directory.path()), ["b"]);
            assert_eq!(rename(&a, &b).unwrap_err().kind(), io::ErrorKind::NotFound);
        }
    }

    #[test]
    fn a_new_file_never_overwrites() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        write_new(&path, b"first").unwrap();
        assert_eq!(write_new(&path, b"second").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"first");
    }

    #[test]
    fn replacing_leaves_the_new_bytes_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.conf");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(names(directory.path()), ["web.conf"]);
    }

    #[test]
    fn a_replacement_that_fails_leaves_the_old_bytes() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("the source broke"))
            }
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.conf");
        replace(&path, b"one").unwrap();
        assert_eq!(replace_from(&path, &mut Broken).unwrap_err().to_string(), "the source broke");
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(names(directory.path()), ["web.conf"]);
    }

    #[test]
    fn directories_are_made_with_their_parents_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b/c");
        create_dir_all(&path).unwrap();
        create_dir_all(&path).unwrap();
        assert!(path.is_dir());
        fs::write(directory.path().join("file"), "").unwrap();
        assert!(create_dir_all(&directory.path().join("file")).is_err());
        assert!(create_dir_all(&directory.path().join("file/below")).is_err());
    }

    #[test]
    fn times_are_set_to_the_millisecond() {
        let file = tempfile::tempfile().unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        set_times(&file, time).unwrap();
        assert_eq!(file.metadata().unwrap().modified().unwrap(), time);
    }
}
