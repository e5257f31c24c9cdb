//! Where things lie below the node's storage root: the only module that joins paths there.
//!
//! ```text
//! <directory>/spool/     data packages; its inside belongs to the spool crate
//! <directory>/tmp/       shared files on their way in; emptied at start
//! <directory>/.workshop/ shared files that the sync server places; gone on with after a cut
//! <directory>/epoch      which puller the node listens to
//! <directory>/<dir>/     shared files by name, one directory for each filter
//! ```

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The directory of the data packages.
const SPOOL: &str = "spool";

/// The directory of unfinished shared files.
const TEMPORARY: &str = "tmp";

/// The directory of shared files that the sync server places. No filter can name it: those directories begin with no dot.
const WORKSHOP: &str = ".workshop";

/// The file that remembers the puller.
const EPOCH: &str = "epoch";

/// The directories no filter may use.
pub(crate) const RESERVED: [&str; 3] = [SPOOL, TEMPORARY, EPOCH];

/// The spool's root.
pub(crate) fn spool(root: &Path) -> PathBuf {
    root.join(SPOOL)
}

/// The file that remembers the puller.
pub(crate) fn epoch(root: &Path) -> PathBuf {
    root.join(EPOCH)
}

/// The directory of unfinished shared files.
pub(crate) fn temporary(root: &Path) -> PathBuf {
    root.join(TEMPORARY)
}

/// The directory of shared files that the sync server places.
pub(crate) fn workshop(root: &Path) -> PathBuf {
    root.join(WORKSHOP)
}

/// The directory of the shared files that a filter collects.
pub(crate) fn shared_directory(root: &Path, directory: &str) -> PathBuf {
    root.join(directory)
}

/// One shared file. `name` has been parsed, so it can neither be empty nor leave the directory.
pub(crate) fn shared_file(root: &Path, directory: &str, name: &[u8]) -> PathBuf {
    root.join(directory).join(OsStr::from_bytes(name))
}
