//! File-system steps whose effect survives a power cut.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::SystemTime;

/// Creates a file that must not exist.
pub fn create_new(path: &Path) -> io::Result<File> {
    let _ = path;
    unimplemented!()
}
/// Creates a file that must not exist, writes and fsyncs it. The directory entry is not durable before [`sync_dir`].
pub fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let _ = (path, bytes);
    unimplemented!()
}
/// Fsyncs a file by path.
pub fn sync_file(path: &Path) -> io::Result<()> {
    let _ = path;
    unimplemented!()
}
/// Fsyncs a directory.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    let _ = path;
    unimplemented!()
}
/// Renames, or fails with `AlreadyExists` when `to` exists.
pub fn rename_noreplace(from: &Path, to: &Path) -> io::Result<()> {
    let _ = (from, to);
    unimplemented!()
}
/// Puts `bytes` in the place of the file at `path`: readers see the old or the new ones, whole, also after a crash.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let _ = (path, bytes);
    unimplemented!()
}
/// [`replace`] with the bytes of a reader.
pub fn replace_from(path: &Path, contents: &mut impl Read) -> io::Result<()> {
    let _ = (path, contents);
    unimplemented!()
}
/// Makes a directory and its parents, and fsyncs every parent of a new one.
pub fn create_dir_all(path: &Path) -> io::Result<()> {
    let _ = path;
    unimplemented!()
}
/// Sets a file's access and modification time (follow with an fsync to make it durable).
pub fn set_times(file: &File, modified: SystemTime) -> io::Result<()> {
    let _ = (file, modified);
    unimplemented!()
}
