//! Why a connection is over.
//!
//! Tentacle has no words for it: a peer that breaks the protocol is disconnected without one. So the reason lives
//! here, for the log of this end. Bytes of the peer are quoted escaped, and never those of a `PASS`.

use alloc::vec::Vec;

use crate::Escaped;

/// Why a connection is over, in words for an operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Close {
    /// The regular end.
    #[error("QUIT ended the session")]
    Quit,
    /// The other regular end: many clients just hang up.
    #[error("the peer closed the connection between two commands")]
    PeerLeft,
    /// The end came inside a line.
    #[error("the peer closed the connection in the middle of a line")]
    LineCut,
    /// The end came inside a body.
    #[error("the peer closed the connection with {missing} bytes of a body still to come")]
    BodyCut {
        /// The bytes that did not come.
        missing: u64,
    },
    /// The end came where a reply was due. That is how Tentacle refuses without a word.
    #[error(
        "the peer closed the connection instead of answering {request}; Tentacle does so for a wrong or missing \
         password, for a command it does not know, and for LS and MV without the right to use them"
    )]
    Unanswered {
        /// What it did not answer.
        request: &'static str,
    },
    /// The end came after the body of a `MV`, where the next command would have proved that the body was read.
    #[error("the peer closed the connection after a MV body without a next command, so the file is kept")]
    Unproven,
    /// No `\n` within [`LINE_MAX`](crate::limits::LINE_MAX) bytes.
    #[error("a line is longer than {} bytes", crate::limits::LINE_MAX)]
    LineTooLong,
    /// A line ended in CR LF.
    #[error("a line ends in CR LF; Tentacle ends its lines with LF alone")]
    CarriageReturn,
    /// A line that is no command.
    #[error("unknown command \"{}\"", Escaped(.0))]
    UnknownCommand(Vec<u8>),
    /// A command where `PASS` was due.
    #[error("the peer gave no password; set the same password at both ends")]
    PasswordMissing,
    /// A `PASS` with other characters than ours.
    #[error("the peer gave a wrong password; set the same password at both ends")]
    PasswordWrong,
    /// A second `PASS`, or one where there is no password.
    #[error("the peer gave a password that was not asked for")]
    PasswordUnexpected,
    /// No complete line in time.
    #[error("no complete line within the idle limit")]
    Idle,
    /// A body that hardly moves.
    #[error("a body arrived slower than the minimum rate, {missing} bytes were still to come")]
    TooSlow {
        /// The bytes that did not come.
        missing: u64,
    },
    /// No reply in time.
    #[error("no answer to {request} in time")]
    NoAnswer {
        /// What it did not answer.
        request: &'static str,
    },
    /// A body of which nothing came in time.
    #[error("a body stopped with {missing} bytes still to come")]
    Stalled {
        /// The bytes that did not come.
        missing: u64,
    },
    /// Bytes where nothing was asked.
    #[error("the peer sent bytes that were not asked for")]
    Unasked,
    /// A line that is no reply to what was asked.
    #[error("\"{}\" is no answer to {request}", Escaped(line))]
    UnexpectedReply {
        /// What was asked.
        request: &'static str,
        /// What came.
        line: Vec<u8>,
    },
}

impl Close {
    /// Whether this is how sessions are meant to end.
    pub fn is_clean(&self) -> bool {
        matches!(self, Close::Quit | Close::PeerLeft)
    }
}

#[cfg(test)]
mod tests {
    use alloc::{string::ToString as _, vec};

    use super::*;

    #[test]
    fn only_regular_ends_are_clean() {
        assert!(Close::Quit.is_clean() && Close::PeerLeft.is_clean());
        for close in
            [Close::LineCut, Close::BodyCut { missing: 1 }, Close::Unproven, Close::Idle, Close::Unasked]
        {
            assert!(!close.is_clean(), "{close}");
        }
    }

    #[test]
    fn quotes_are_escaped() {
        assert_eq!(
            Close::UnknownCommand(vec![b'a', 0x1b, 0xff]).to_string(),
            r#"unknown command "a\x1b\xff""#
        );
    }
}
