//! How a peer broke the protocol. Each becomes the text of a `CLOSE(protocol)`, so both ends' logs have it.

use alloc::string::ToString as _;

use super::{CloseCode, Farewell, Number, OutcomeCode, limits};
use crate::InvalidName;

/// What a peer did that ends the connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A frame that is not known and may not be passed over.
    #[error("frame 0x{0:02x} is not known and may not be skipped")]
    UnknownFrame(u8),
    /// A payload of a size that its frame cannot have.
    #[error("{frame} has a payload of {length} bytes, it may have {least} to {most}")]
    Length {
        /// The frame.
        frame: &'static str,
        /// What it has.
        length: usize,
        /// What it must have.
        least: usize,
        /// What it may have.
        most: usize,
    },
    /// A payload that cannot be read.
    #[error("{frame} {what}")]
    Malformed {
        /// The frame.
        frame: &'static str,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A frame where it has no business.
    #[error("{0} came out of turn")]
    OutOfTurn(&'static str),
    /// A version that is not spoken here.
    #[error("version {0} is not spoken here, only {version}", version = limits::VERSION)]
    Version(u16),
    /// A total of credit that does not grow.
    #[error("a credit of {0} is no more than was granted before")]
    CreditShrinks(u64),
    /// An acknowledgement of what was not sent, not sent whole, or acknowledged before.
    #[error("{0} is acknowledged, which was not sent whole on this connection, or acknowledged before")]
    Ack(Number),
    /// The same for a loss record.
    #[error("loss record {0} is acknowledged, which was not sent on this connection, or acknowledged before")]
    LossAck(Number),
    /// A deletion of what was not acknowledged, or told before.
    #[error("{0} is said to be deleted, which was not acknowledged, or was said before")]
    Deleted(Number),
    /// An answer to a `PING` that was not sent.
    #[error("PONG answers a PING that was not sent")]
    Pong,
    /// Loss records out of order.
    #[error("loss record {got} came after {last}; their numbers must grow")]
    LossOrder {
        /// The one before.
        last: Number,
        /// The one that came.
        got: Number,
    },
    /// More loss records than may wait.
    #[error("more than {max} loss records came unacknowledged", max = limits::LOSSES_IN_FLIGHT_MAX)]
    TooManyLosses,
    /// Bytes that are no zstd frame.
    #[error("the package stream is not zstd")]
    NotZstd,
    /// A skippable frame of zstd.
    #[error("the package stream holds a skippable zstd frame")]
    Skippable,
    /// A dictionary.
    #[error("the package stream asks for a zstd dictionary")]
    Dictionary,
    /// A large window.
    #[error("the package stream asks for a window of {0} bytes, at most {max} are allowed", max = 1_u64 << limits::WINDOW_LOG)]
    Window(u64),
    /// Data that zstd cannot decompress.
    #[error("the package stream cannot be decompressed: {0}")]
    Zstd(&'static str),
    /// A compressed frame in which nothing was.
    #[error("the package stream holds an empty zstd frame")]
    EmptyFrame,
    /// Compressed bytes that come to nothing.
    #[error("{max} compressed bytes came to nothing", max = limits::BARREN_MAX)]
    Barren,
    /// A record that is not known.
    #[error("a record of kind {0} is not known")]
    RecordKind(u8),
    /// Packages out of order.
    #[error("package {got} came after {last}; their numbers must grow")]
    Order {
        /// The one before.
        last: Number,
        /// The one that came.
        got: Number,
    },
    /// A package over the size that was asked for.
    #[error("package {number} has {size} bytes, at most {max} were asked for")]
    TooLarge {
        /// The package.
        number: Number,
        /// Its size.
        size: u64,
        /// What it may have.
        max: u64,
    },
    /// A package that is kept back although it could come.
    #[error("package {number} of {size} bytes was passed over, though up to {max} were asked for")]
    Withheld {
        /// The package.
        number: Number,
        /// Its size.
        size: u64,
        /// What it may have.
        max: u64,
    },
    /// A name that no package can have.
    #[error("package {number}: {reason}")]
    Name {
        /// The package.
        number: Number,
        /// What is wrong with its name.
        reason: InvalidName,
    },
    /// A name that no shared file can have.
    #[error("{frame}: {reason}")]
    FileName {
        /// The frame that holds it.
        frame: &'static str,
        /// What is wrong with it.
        reason: InvalidName,
    },
    /// Shared files out of order.
    #[error("shared files came out of order; their names must grow")]
    ItemOrder,
    /// More shared files than are listened to.
    #[error("more than {max} shared files came on this connection", max = limits::SHARED_ITEMS_MAX)]
    TooManyItems,
    /// An outcome that the request cannot have.
    #[error("{request} cannot be answered with {code} here")]
    Outcome {
        /// The request.
        request: &'static str,
        /// The answer.
        code: OutcomeCode,
    },
    /// A count of bytes that are there, which cannot be right.
    #[error("{number} bytes of the file are said to be there, which cannot be")]
    GoOn {
        /// The count.
        number: u64,
    },
    /// More of a shared file than it has.
    #[error("more bytes came than the {size} of the file that is being placed")]
    Overfull {
        /// What it has.
        size: u64,
    },
    /// More than was granted.
    #[error("more came than the credit of {granted}")]
    Credit {
        /// What was granted in all.
        granted: u64,
    },
}

impl Violation {
    /// What is said to the end that did it.
    pub(crate) fn farewell(&self) -> Farewell {
        match self {
            Violation::Version(_) => {
                let number = limits::VERSION.into();
                Farewell { code: CloseCode::Version, number, text: self.to_string() }
            }
            _ => Farewell::new(CloseCode::Protocol, self.to_string()),
        }
    }
}
