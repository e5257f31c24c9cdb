//! Why a connection is over.
//!
//! Tentacle has no words for it: a peer that breaks the protocol is disconnected without one. So the reason lives
//! here, for the log of this end. (Relay has words, and says them to the peer too.) Bytes of the peer are quoted escaped, in part when they are many, and never what
//! stands behind a `PASS`.

use alloc::vec::Vec;

use crate::{
    Quoted, Time,
    relay::{CloseCode, Farewell, Violation},
};

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
    /// The end came where a peer was to say whether it wants the body that it asked for.
    #[error(
        "the peer closed the connection after the answer to its {request}, without taking the body or declining it"
    )]
    Untaken {
        /// What it asked.
        request: &'static str,
    },
    /// The end came after the body of a `MV`, where the next command would have proved that the body was read.
    #[error("the peer closed the connection after a MV body without a next command, so the file is kept")]
    Unproven,
    /// No `\n` within the limit: [`ResponderSettings::line`](crate::ResponderSettings::line) at the listening end,
    /// [`LINE_MAX`](crate::limits::LINE_MAX) at the dialling one.
    #[error("a line is longer than the limit for lines")]
    LineTooLong,
    /// A line ended in CR LF.
    #[error("a line ends in CR LF; Tentacle ends its lines with LF alone")]
    CarriageReturn,
    /// A line that is no command. Of a `PASS` in any spelling, only the word.
    #[error("unknown command \"{}\"", Quoted(.0))]
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
    /// A line that is no reply to what was asked. Of a `PASS` in any spelling, as a peer that echoes would send it
    /// back, only the word.
    #[error("\"{}\" is no answer to {request}", Quoted(line))]
    UnexpectedReply {
        /// What was asked.
        request: &'static str,
        /// What came.
        line: Vec<u8>,
    },
    /// Relay: the peer said why it leaves.
    #[error("the peer ended the connection: {0}")]
    Farewell(Farewell),
    /// Relay: this end has said why it leaves.
    #[error("this end ended the connection: {0}")]
    Closed(Farewell),
    /// Relay: the peer broke the protocol.
    #[error("the peer broke the protocol: {0}")]
    Violation(Violation),
    /// Relay: the peer gave no sign of life.
    #[error("nothing came from the peer for {} s, the keep-alive time", .0.as_secs_f32())]
    Silent(Time),
    /// Relay: no whole `HELLO` in time.
    #[error("no HELLO came in time")]
    NoHello,
    /// Relay: the end came between two frames, without a `CLOSE`.
    #[error("the peer closed the connection without saying why")]
    HungUp,
    /// Relay: the end came inside a frame.
    #[error("the peer closed the connection in the middle of a frame")]
    FrameCut,
}

impl Close {
    pub(crate) fn unknown_command(line: Vec<u8>) -> Self {
        Close::UnknownCommand(without_password(line))
    }

    pub(crate) fn unexpected_reply(request: &'static str, line: Vec<u8>) -> Self {
        Close::UnexpectedReply { request, line: without_password(line) }
    }

    /// Whether this is how sessions are meant to end.
    pub fn is_clean(&self) -> bool {
        match self {
            Close::Quit | Close::PeerLeft => true,
            Close::Farewell(farewell) | Close::Closed(farewell) => farewell.code == CloseCode::Done,
            _ => false,
        }
    }
}

/// What may be told of a line to others than its sender: of a `PASS`, in any spelling, only the word.
fn without_password(mut line: Vec<u8>) -> Vec<u8> {
    const PASS: &[u8] = b"PASS";

    let start = line.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    let end = start + PASS.len();
    if line.get(start..end).is_some_and(|word| word.eq_ignore_ascii_case(PASS)) {
        line.truncate(end);
    }
    line
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

    #[test]
    fn passwords_are_never_quoted() {
        for line in ["PASS geheim", "pass geheim", "PaSS\tgeheim", "PASSgeheim", " \tPASS geheim"] {
            for close in [Close::unknown_command(line.into()), Close::unexpected_reply("PASS", line.into())] {
                for quote in [close.to_string(), alloc::format!("{close:?}")] {
                    assert!(!quote.contains("geheim"), "{line:?}: {quote}");
                }
                assert!(close.to_string().to_ascii_uppercase().contains("PASS\""), "{line:?}: {close}");
            }
        }
        assert_eq!(Close::unknown_command(b"PAS".to_vec()), Close::UnknownCommand(b"PAS".to_vec()));
    }

    #[test]
    fn long_lines_are_quoted_in_part() {
        let close = Close::UnknownCommand(vec![0xff; 1000]).to_string();
        assert_eq!(close.matches("\\xff").count(), 200);
        assert!(close.ends_with("… (1000 bytes)\""), "{close}");
    }
}
