//! The last frame: why an end leaves.

use alloc::{string::String, vec::Vec};
use core::fmt;

use super::{
    Violation,
    limits::TEXT_MAX,
    wire::{Fields, cut},
};

/// Why an end leaves, as the other one can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseCode {
    /// The regular end.
    Done,
    /// The other end broke the protocol.
    Protocol,
    /// The other end's version is not spoken here. The number is the one that is.
    Version,
    /// The node knows a higher epoch, which is the number.
    EpochTooLow,
    /// The epoch is more than one above the node's, which is the number.
    EpochJump,
    /// The epoch is another puller's. The number is the node's.
    EpochOfAnother,
    /// The certificate does not allow this.
    NoRights,
    /// A newer connection has taken the stream.
    Replaced,
    /// The end is shutting down.
    Stopping,
    /// The end has no room for this connection now.
    Busy,
    /// Something failed at the end; also every code that is not known.
    Trouble,
    /// The node does not do what the purpose is.
    NotOffered,
}

impl CloseCode {
    /// Every code, with its number and its name on the wire.
    pub const ALL: [(Self, u8, &str); 12] = [
        (Self::Done, 0, "done"),
        (Self::Protocol, 1, "protocol"),
        (Self::Version, 2, "version"),
        (Self::EpochTooLow, 3, "epoch_too_low"),
        (Self::EpochJump, 4, "epoch_jump"),
        (Self::EpochOfAnother, 5, "epoch_of_another"),
        (Self::NoRights, 6, "no_rights"),
        (Self::Replaced, 7, "replaced"),
        (Self::Stopping, 8, "stopping"),
        (Self::Busy, 9, "busy"),
        (Self::Trouble, 10, "trouble"),
        (Self::NotOffered, 11, "not_offered"),
    ];

    fn row(self) -> (Self, u8, &'static str) {
        *Self::ALL.iter().find(|(code, ..)| *code == self).expect("every code is in the table")
    }

    fn of(number: u8) -> Self {
        Self::ALL.iter().find(|(_, it, _)| *it == number).map_or(Self::Trouble, |(code, ..)| *code)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.row().2)
    }
}

/// What an end says last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Farewell {
    /// Why.
    pub code: CloseCode,
    /// What the code says it is, else 0.
    pub number: u64,
    /// For people. At most 200 bytes, more are cut.
    pub text: String,
}

impl Farewell {
    /// A farewell without a number.
    pub fn new(code: CloseCode, text: impl Into<String>) -> Self {
        Farewell { code, number: 0, text: text.into() }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.push(self.code.row().1);
        out.extend_from_slice(&self.number.to_be_bytes());
        out.extend_from_slice(cut(&self.text, TEXT_MAX).as_bytes());
    }

    pub(crate) fn read(payload: &[u8]) -> Result<Self, Violation> {
        let mut fields = Fields::new("CLOSE", payload);
        let (code, number) = (CloseCode::of(fields.u8()?), fields.u64()?);
        Ok(Farewell { code, number, text: fields.text() })
    }
}

impl fmt::Display for Farewell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if self.number != 0 {
            write!(f, " ({})", self.number)?;
        }
        if self.text.is_empty() { Ok(()) } else { write!(f, ": {}", self.text) }
    }
}
