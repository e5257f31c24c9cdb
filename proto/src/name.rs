//! File names as the wire carries them: bytes, checked once, into a type that cannot leave its directory.
//!
//! A [`Name`] is never empty, never `.` or `..`, holds no separator, no control byte and none of the characters that
//! Tentacle refuses, and neither begins nor ends with a blank. It need not be UTF-8: what a peer sent is kept byte
//! for byte, and escaped wherever people read it.

use alloc::boxed::Box;
use core::fmt;

use crate::limits::{LISTED_NAME_MAX, NAME_MAX, QUOTE_MAX};

/// The characters that the reference refuses in names.
const REFUSED: &[u8] = b"?[]/\\=+<>:;',*~";

/// A file name that is safe to join to a directory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

/// Why bytes are not a [`Name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Nothing at all.
    #[error("the name is empty")]
    Empty,
    /// `.` or `..`.
    #[error("the name stands for a directory")]
    Directory,
    /// Longer than the limit.
    #[error("the name has {length} bytes, at most {limit} are allowed")]
    TooLong {
        /// What it has.
        length: usize,
        /// What it may have.
        limit: usize,
    },
    /// A refused character or a control byte.
    #[error("the name holds the byte '{}', which Tentacle does not allow", Escaped(&[*.0]))]
    Byte(u8),
    /// A blank at either end.
    #[error("the name begins or ends with a blank")]
    OuterBlank,
}

impl Name {
    /// A name that a sender gives its file, of at most [`NAME_MAX`] bytes.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Name, InvalidName> {
        Self::within(NAME_MAX, bytes)
    }

    /// A name as a listing gives it, of at most [`LISTED_NAME_MAX`] bytes.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse_listed(bytes: &[u8]) -> Result<Name, InvalidName> {
        Self::within(LISTED_NAME_MAX, bytes)
    }

    fn within(limit: usize, bytes: &[u8]) -> Result<Name, InvalidName> {
        let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return Err(InvalidName::Empty) };
        if bytes.len() > limit {
            return Err(InvalidName::TooLong { length: bytes.len(), limit });
        }
        if matches!(bytes, b"." | b"..") {
            return Err(InvalidName::Directory);
        }
        if let Some(byte) = bytes.iter().find(|byte| byte.is_ascii_control() || REFUSED.contains(byte)) {
            return Err(InvalidName::Byte(*byte));
        }
        if *first == b' ' || *last == b' ' {
            return Err(InvalidName::OuterBlank);
        }
        Ok(Name(bytes.into()))
    }

    /// The name, byte for byte.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Name {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaped(&self.0).fmt(f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Bytes of a peer, fit to be read: printable ASCII as it is, everything else, and the backslash, as `\xNN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;

        self.0.iter().try_for_each(|&byte| match byte {
            b'\\' => f.write_str("\\x5c"),
            b' '..=b'~' => f.write_char(char::from(byte)),
            _ => write!(f, "\\x{byte:02x}"),
        })
    }
}

/// Bytes of a peer of which there may be many: [`Escaped`], but only the first [`QUOTE_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted<'a>(pub &'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.get(..QUOTE_MAX) {
            Some(beginning) if beginning.len() < self.0.len() => {
                write!(f, "{}… ({} bytes)", Escaped(beginning), self.0.len())
            }
            _ => Escaped(self.0).fmt(f),
        }
    }
}
