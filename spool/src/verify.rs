//! Whether a package's bytes are still those that were taken in.
//!
//! The digest in a package's file name was made from the bytes as they arrived. Before a package is handed out its
//! file is read once and compared; the second reading, for the puller, comes from the page cache. What differs, is
//! too short or cannot be read is no longer what its sender was promised to have delivered: nobody gets it as if it
//! were. Whoever finds it so sets it aside ([`Spool::set_aside`]), where an operator may rescue what is left.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek};

use rustix::io::Errno;
use sha2::{Digest, Sha256};

use crate::index::Package;
use crate::seen::first_eight;
use crate::store::Spool;

/// Bytes read at once.
const CHUNK: usize = 64 * 1024;

/// What is wrong with a package's file.
#[derive(Debug)]
pub enum Damage {
    /// Its bytes are others.
    Changed {
        /// The first eight bytes of their SHA-256.
        found: u64,
    },
    /// The disk does not give them back.
    Unreadable(io::Error),
    /// There is no such file any more: somebody removed it by hand.
    Missing,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed { found } => write!(f, "its bytes have changed, their digest is now {found:016x}"),
            Self::Unreadable(error) => write!(f, "its bytes cannot be read: {error}"),
            Self::Missing => f.write_str("its file is gone, and nobody pulled it"),
        }
    }
}

/// Why a package cannot be handed out.
#[derive(Debug)]
pub enum Unfit {
    /// Its file is not what was stored, or seems so: the package may also have been deleted meanwhile, which
    /// [`Spool::set_aside`] tells.
    Damaged(Damage),
    /// It could not be looked at; later it may.
    Disk(io::Error),
}

impl Spool {
    /// Opens a package's bytes, after having read and compared all of them. Takes time in proportion to its size.
    pub fn open_verified(&self, package: &Package) -> Result<File, Unfit> {
        twice(|| compare(package, self.open_package(package)))
    }

    /// A package's bytes, compared as they are read: one pass instead of two, for a package that fits into memory.
    pub fn read_verified(&self, package: &Package) -> Result<Vec<u8>, Unfit> {
        let read = |file: File| {
            let size = usize::try_from(package.size).map_err(io::Error::other)?;
            let mut bytes = Vec::with_capacity(size);
            // One more than there should be: a file that has grown is not the one that was stored.
            file.take(package.size.saturating_add(1)).read_to_end(&mut bytes)?;
            Ok((first_eight(Sha256::new_with_prefix(&bytes)), bytes))
        };
        twice(|| judge(package, self.open_package(package).and_then(read)))
    }

    /// Compares the bytes that the disk itself has. They were fsynced before.
    pub(crate) fn verify_on_disk(&self, package: &Package) -> Result<(), Unfit> {
        let path = self.store.layout.package(package.id, package.digest, &package.listed_name);
        twice(|| compare(package, self.store.fs.open_uncached(&path)).map(drop))
    }
}

/// One failure may lie on the way to the disk (a path that was switched over, a controller that was reset), and setting
/// aside keeps a package from its pipeline until an operator comes: unreadable is what fails twice.
fn twice<T>(read: impl Fn() -> Result<T, Unfit>) -> Result<T, Unfit> {
    match read() {
        Err(Unfit::Damaged(Damage::Unreadable(_))) => read(),
        result => result,
    }
}

/// The file at its start again, if its bytes are those that arrived.
fn compare(package: &Package, file: io::Result<File>) -> Result<File, Unfit> {
    let read = |mut file: File| -> io::Result<(u64, File)> {
        let found = digest(&mut file)?;
        file.rewind()?;
        Ok((found, file))
    };
    judge(package, file.and_then(read))
}

/// What was read, if its digest is the right one.
fn judge<T>(package: &Package, read: io::Result<(u64, T)>) -> Result<T, Unfit> {
    match read {
        Ok((found, read)) if found == package.digest => Ok(read),
        Ok((found, _)) => Err(Unfit::Damaged(Damage::Changed { found })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Unfit::Damaged(Damage::Missing)),
        Err(error) if is_damage(&error) => Err(Unfit::Damaged(Damage::Unreadable(error))),
        Err(error) => Err(Unfit::Disk(error)),
    }
}

/// First eight bytes of the SHA-256 of what a reader gives.
pub(crate) fn digest(reader: &mut impl Read) -> io::Result<u64> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(first_eight(hasher)),
            Ok(read) => hasher.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether an error speaks of the file's blocks, and not of a lack of descriptors, memory or rights: the disk gives
/// none (`EIO`), or the file system finds its own checksums wrong (`EBADMSG`, `EUCLEAN`).
pub(crate) fn is_damage(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::IO | Errno::BADMSG | Errno::UCLEAN))
}
