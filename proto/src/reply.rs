//! The replies, as lines and as meanings, with every reason verbatim: clients print them.

use alloc::{string::ToString as _, vec::Vec};
use core::fmt;

use crate::{Escaped, Verb, command::decimal};

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

/// A line that answers another: `VERB OK`, `VERB SIZE n`, `VERB ERR (text)`, `VERB ERR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply<'a> {
    Ok,
    Size(u64),
    /// Empty: a bare `ERR`.
    Err(&'a [u8]),
}

impl<'a> Reply<'a> {
    /// The reply that refuses for a reason.
    pub(crate) fn refusal(verb: Verb, reason: Reason) -> Reply<'static> {
        Reply::Err(reason.text(verb).unwrap_or_default().as_bytes())
    }

    /// The meaning of a line without its `\n`, if it answers this word.
    pub(crate) fn parse(word: &str, line: &'a [u8]) -> Option<Reply<'a>> {
        match line.strip_prefix(word.as_bytes())?.strip_prefix(b" ")? {
            b"OK" => Some(Reply::Ok),
            b"ERR" => Some(Reply::Err(b"")),
            rest => match rest.strip_prefix(b"ERR (") {
                Some(text) => text.strip_suffix(b")").map(Reply::Err),
                None => rest.strip_prefix(b"SIZE ").and_then(decimal).map(Reply::Size),
            },
        }
    }

    /// Writes the line that answers this word.
    pub(crate) fn write(self, word: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(word.as_bytes());
        match self {
            Reply::Ok => out.extend_from_slice(b" OK"),
            Reply::Size(size) => {
                out.extend_from_slice(b" SIZE ");
                out.extend_from_slice(size.to_string().as_bytes());
            }
            Reply::Err(b"") => out.extend_from_slice(b" ERR"),
            Reply::Err(text) => {
                out.extend_from_slice(b" ERR (");
                out.extend_from_slice(text);
                out.push(b')');
            }
        }
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use super::*;

    fn refusal(verb: Verb, reason: Reason) -> String {
        let mut out = Vec::new();
        Reply::refusal(verb, reason).write(verb.as_str(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn refusals_are_verbatim() {
        let said = [
            (Verb::Send, Reason::InvalidName, "SEND ERR (invalid file name)\n"),
            (Verb::Send, Reason::TooBig, "SEND ERR (file is too big)\n"),
            (Verb::Send, Reason::Exists, "SEND ERR (file already exists)\n"),
            (Verb::Send, Reason::StorageFull, "SEND ERR (storage full)\n"),
            (Verb::ZSend, Reason::InvalidName, "ZSEND ERR (invalid file name)\n"),
            (Verb::ZSend, Reason::TooBig, "ZSEND ERR (file is too big)\n"),
            (Verb::ZSend, Reason::Exists, "ZSEND ERR (file already exists)\n"),
            (Verb::ZSend, Reason::StorageFull, "ZSEND ERR (storage full)\n"),
            (Verb::ZSend, Reason::Bare, "ZSEND ERR\n"),
            (Verb::Recv, Reason::InvalidName, "RECV ERR (file has an invalid file name)\n"),
            (Verb::Recv, Reason::NotFound, "RECV ERR (file does not exist)\n"),
            (Verb::ZRecv, Reason::InvalidName, "ZRECV ERR (file has an invalid file name)\n"),
            (Verb::ZRecv, Reason::NotFound, "ZRECV ERR (file does not exist)\n"),
            (Verb::Ls, Reason::InvalidName, "LS ERR\n"),
            (Verb::Mv, Reason::NotFound, "MV ERR\n"),
        ];
        for (verb, reason, line) in said {
            assert_eq!(refusal(verb, reason), line);
        }
    }

    #[test]
    fn replies_read_as_they_are_written() {
        for reply in [Reply::Ok, Reply::Size(0), Reply::Size(u64::MAX), Reply::Err(b""), Reply::Err(b"a (b)")]
        {
            let mut line = Vec::new();
            reply.write("ZRECV", &mut line);
            assert_eq!(line.pop(), Some(b'\n'));
            assert_eq!(Reply::parse("ZRECV", &line), Some(reply));
            assert_eq!(Reply::parse("RECV", &line), None);
        }
    }

    #[test]
    fn anything_else_is_no_reply() {
        let lines = [
            "",
            "SEND",
            "SEND ",
            "SEND OK ",
            "SEND ok",
            "SENDOK",
            " SEND OK",
            "SEND ERR ",
            "SEND ERR (a",
            "SEND ERR a",
            "SEND SIZE",
            "SEND SIZE ",
            "SEND SIZE +1",
            "SEND SIZE -1",
            "SEND SIZE 1 ",
            "SEND SIZE 18446744073709551616",
            "ZSEND OK",
        ];
        for line in lines {
            assert_eq!(Reply::parse("SEND", line.as_bytes()), None, "{line:?}");
        }
    }

    #[test]
    fn refusals_print_like_the_wire_but_escaped() {
        let refusal = |text: &[u8]| Refusal { verb: Verb::Send, text: text.to_vec() }.to_string();
        assert_eq!(refusal(b"file is too big"), "SEND ERR (file is too big)");
        assert_eq!(refusal(b""), "SEND ERR");
        assert_eq!(refusal(b"\x1b[2J\xff"), "SEND ERR (\\x1b[2J\\xff)");
    }
}
