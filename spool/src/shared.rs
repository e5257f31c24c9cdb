//! Shared files, as pairs: a main file, and an `.md5` that holds the lower-case hex MD5 of it and nothing else.
//!
//! Only main files are compared and moved; the `.md5` is derived, and whoever places a main file writes it after that.
//! Other hands work in the same directories with their own tools and take no lock. So nothing here believes that a file
//! stays as it was seen: what is known of it is looked at again, and every change names what it expects to find.
//!
//! - [`look`]: what lies in one pair now.
//! - [`Tree`]: what lies in whole directories, without reading again what has not changed.
//! - [`Buckets`]: the same in 1,024 sums and one sign, to find what differs between two ends in few bytes.
//! - [`Workshop`]: changes a pair, on condition, durably, and so that no reader ever finds half of it.

mod aside;
mod buckets;
mod change;
mod completion;
mod failed;
mod files;
mod look;
#[cfg(test)]
mod model;
mod partial;
mod recover;
mod removal;
mod stamp;
mod tree;
mod workshop;

use std::path::PathBuf;

pub use buckets::{BUCKETS, Buckets};
pub use failed::Failed;
pub use look::{MD5_BYTES, Md5Text, look, md5_text};
pub use partial::{Partial, Ready, Unfinished};
pub use tree::{Folder, Tree, Wanted};
pub use workshop::{Done, Keep, Md5, Workshop};

/// The SHA-256 of a main file.
pub type Digest = [u8; 32];

/// What lies in a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Of the main file.
    pub digest: Digest,
    /// Bytes of the main file.
    pub size: u64,
    /// Whether the `.md5` is there and says what is in the main file.
    pub fits: bool,
}

/// Where a pair lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The main file.
    pub file: PathBuf,
    /// Its `.md5`.
    pub md5: PathBuf,
}
