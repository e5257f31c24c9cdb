//! The replies, as lines and as meanings, with every reason verbatim: clients print them.

use alloc::vec::Vec;
use core::fmt;

use crate::{Escaped, Verb};

/// Why something is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The name is not a [`Name`](crate::Name).
    InvalidName,
    /// The size is over the limit, or 0.
    TooBig,
    /// The name is taken and may not be overwritten.
    Exists,
    /// There is no such file.
    NotFound,
    /// There is no room.
    StorageFull,
    /// Nothing is said but `ERR`.
    Bare,
}

impl Reason {
    /// What stands in the parentheses of the reply; `None` where the reply is a bare `… ERR`, as it always is for
    /// `LS` and `MV`.
    pub fn text(self, verb: Verb) -> Option<&'static str> {
        match (self, verb) {
            (Reason::Bare, _) | (_, Verb::Ls | Verb::Mv) => None,
            (Reason::InvalidName, Verb::Recv | Verb::ZRecv) => Some("file has an invalid file name"),
            (Reason::InvalidName, Verb::Send | Verb::ZSend) => Some("invalid file name"),
            (Reason::TooBig, _) => Some("file is too big"),
            (Reason::Exists, _) => Some("file already exists"),
            (Reason::NotFound, _) => Some("file does not exist"),
            (Reason::StorageFull, _) => Some("storage full"),
        }
    }
}

/// A peer's `… ERR`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What it refused.
    pub verb: Verb,
    /// What stood in the parentheses; empty after a bare `… ERR`.
    pub text: Vec<u8>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text.as_slice() {
            [] => write!(f, "{} ERR", self.verb),
            text => write!(f, "{} ERR ({})", self.verb, Escaped(text)),
        }
    }
}
