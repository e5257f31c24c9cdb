//! The records of the package stream, as they are before compression and after it.
//!
//! ```text
//!  kind u8 | run u64 | counter u64 | arrival i64 | size u64 | digest u64 | name length u8 | name | body
//! ```
//!
//! Only kind 1 has a body, of `size` bytes. Records lie back to back, and where a zstd frame ends means nothing to them:
//! it may be inside one.

use alloc::vec::Vec;

use super::{Number, Violation, limits::RECORD_COST, wire::put_number};
use crate::{Name, limits::LISTED_NAME_MAX};

/// The record of a package with its body.
pub(crate) const PACKAGE: u8 = 1;
/// The record of a package that is larger than was asked for, and stays.
pub(crate) const SKIPPED: u8 = 2;

/// The bytes of a record before its name.
const FIXED: usize = 42;
const HEAD_MAX: usize = FIXED + LISTED_NAME_MAX;

/// What is known of a package before its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its number.
    pub number: Number,
    /// When it arrived at the node, in milliseconds since 1970.
    pub arrival: i64,
    /// The bytes of its body.
    pub size: u64,
    /// The first eight bytes of the body's SHA-256, big-endian.
    pub digest: u64,
    /// Its name, as listings have it.
    pub name: Name,
}

impl Head {
    pub(crate) fn write(&self, kind: u8, out: &mut Vec<u8>) {
        write_head(kind, self.number, self.arrival, self.size, self.digest, self.name.as_bytes(), out);
    }
}

/// Writes a record without its body, right or wrong: for tests. A name is cut at 255 bytes.
pub fn write_head(
    kind: u8,
    number: Number,
    arrival: i64,
    size: u64,
    digest: u64,
    name: &[u8],
    out: &mut Vec<u8>,
) {
    let name = &name[..name.len().min(usize::from(u8::MAX))];
    out.push(kind);
    put_number(number, out);
    out.extend_from_slice(&arrival.to_be_bytes());
    out.extend_from_slice(&size.to_be_bytes());
    out.extend_from_slice(&digest.to_be_bytes());
    out.push(u8::try_from(name.len()).expect("the name was cut"));
    out.extend_from_slice(name);
}
