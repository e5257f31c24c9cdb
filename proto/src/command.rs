//! The commands, as lines and as meanings.
//!
//! Only the shape of a line is judged here. Whether its name and size are acceptable is the listener's business,
//! because a bad one is answered, while a line that is no command at all ends the connection.

use alloc::{string::ToString as _, vec::Vec};
use core::fmt;

use crate::Close;

/// What a command or reply is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// `SEND`: a file comes.
    Send,
    /// `ZSEND`: a file comes, in a ZIP archive.
    ZSend,
    /// `RECV`: a file is asked for.
    Recv,
    /// `ZRECV`: a file is asked for, in a ZIP archive.
    ZRecv,
    /// `LS`: a listing is asked for.
    Ls,
    /// `MV`: a file is asked for and to be deleted.
    Mv,
}

/// How a body holds its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Packing {
    /// As it is.
    Plain,
    /// As the one entry of a ZIP archive.
    Zip,
}

impl Verb {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Send => "SEND",
            Verb::ZSend => "ZSEND",
            Verb::Recv => "RECV",
            Verb::ZRecv => "ZRECV",
            Verb::Ls => "LS",
            Verb::Mv => "MV",
        }
    }

    /// `SEND` or `ZSEND`.
    pub(crate) fn offering(packing: Packing) -> Self {
        match packing {
            Packing::Plain => Verb::Send,
            Packing::Zip => Verb::ZSend,
        }
    }

    /// `RECV` or `ZRECV`.
    pub(crate) fn fetching(packing: Packing) -> Self {
        match packing {
            Packing::Plain => Verb::Recv,
            Packing::Zip => Verb::ZRecv,
        }
    }

    /// Writes `VERB <argument>`, and ` SIZE n` where there is one, as a line.
    pub(crate) fn write_command(self, argument: &[u8], size: Option<u64>, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_str().as_bytes());
        out.extend_from_slice(b" <");
        out.extend_from_slice(argument);
        out.push(b'>');
        if let Some(size) = size {
            out.extend_from_slice(b" SIZE ");
            out.extend_from_slice(size.to_string().as_bytes());
        }
        out.push(b'\n');
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A line of the dialling end, with its arguments as they came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Pass(Vec<u8>),
    /// `SEND`, `ZSEND`; `size` is `None` when the number is too large to be represented.
    Offer {
        packing: Packing,
        name: Vec<u8>,
        size: Option<u64>,
    },
    /// `RECV`, `ZRECV`.
    Fetch {
        packing: Packing,
        name: Vec<u8>,
    },
    List {
        filter: Vec<u8>,
    },
    Move {
        name: Vec<u8>,
    },
    Quit,
}

impl Command {
    /// The meaning of a line without its `\n`.
    pub(crate) fn parse(line: Vec<u8>) -> Result<Command, Close> {
        Self::recognise(&line).ok_or_else(|| Close::unknown_command(line))
    }

    fn recognise(line: &[u8]) -> Option<Command> {
        if line == b"QUIT" {
            return Some(Command::Quit);
        }
        let space = line.iter().position(|&byte| byte == b' ')?;
        let (word, rest) = (&line[..space], &line[space + 1..]);
        let argument = || Some(between_brackets(rest)?.to_vec());
        Some(match word {
            b"PASS" => Command::Pass(rest.to_vec()),
            b"SEND" => Self::offer(Packing::Plain, rest)?,
            b"ZSEND" => Self::offer(Packing::Zip, rest)?,
            b"RECV" => Command::Fetch { packing: Packing::Plain, name: argument()? },
            b"ZRECV" => Command::Fetch { packing: Packing::Zip, name: argument()? },
            b"LS" => Command::List { filter: argument()? },
            b"MV" => Command::Move { name: argument()? },
            _ => return None,
        })
    }

    /// `<name> SIZE n`. Like the reference takes the last ` SIZE `: what stands before it is the name, however odd.
    fn offer(packing: Packing, rest: &[u8]) -> Option<Command> {
        const SIZE: &[u8] = b" SIZE ";

        let at = rest.windows(SIZE.len()).rposition(|window| window == SIZE)?;
        let (name, digits) = (between_brackets(&rest[..at])?, &rest[at + SIZE.len()..]);
        is_decimal(digits).then(|| Command::Offer { packing, name: name.to_vec(), size: decimal(digits) })
    }
}

fn between_brackets(bytes: &[u8]) -> Option<&[u8]> {
    bytes.strip_prefix(b"<")?.strip_suffix(b">")
}

fn is_decimal(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit)
}

/// The value of decimal digits, if that is what the bytes are, and if it can be represented.
pub(crate) fn decimal(bytes: &[u8]) -> Option<u64> {
    if !is_decimal(bytes) {
        return None;
    }
    core::str::from_utf8(bytes).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Option<Command> {
        Command::parse(line.into()).ok()
    }

    fn offer(name: &str, size: Option<u64>) -> Option<Command> {
        Some(Command::Offer { packing: Packing::Plain, name: name.into(), size })
    }

    #[test]
    fn commands_have_one_shape() {
        assert_eq!(parse("QUIT"), Some(Command::Quit));
        assert_eq!(parse("PASS abc"), Some(Command::Pass(b"abc".to_vec())));
        assert_eq!(parse("LS <.>"), Some(Command::List { filter: b".".to_vec() }));
        assert_eq!(parse("MV <a>"), Some(Command::Move { name: b"a".to_vec() }));
        assert_eq!(parse("ZRECV <a>"), Some(Command::Fetch { packing: Packing::Zip, name: b"a".to_vec() }));
        assert_eq!(parse("SEND <web 1.17.data> SIZE 9133"), offer("web 1.17.data", Some(9133)));
        assert_eq!(parse("SEND <a> SIZE 007"), offer("a", Some(7)));
    }

    #[test]
    fn odd_names_and_sizes_are_still_commands() {
        assert_eq!(parse("SEND <> SIZE 0"), offer("", Some(0)));
        assert_eq!(parse("SEND <a> SIZE 1> SIZE 2"), offer("a> SIZE 1", Some(2)));
        assert_eq!(parse("SEND <a> SIZE 18446744073709551615"), offer("a", Some(u64::MAX)));
        assert_eq!(parse("SEND <a> SIZE 18446744073709551616"), offer("a", None));
    }

    #[test]
    fn anything_else_is_unknown() {
        let lines = [
            "",
            " ",
            "quit",
            "QUIT ",
            " QUIT",
            "PASS",
            "SEND",
            "SEND a SIZE 3",
            "SEND <a>",
            "SEND <a> SIZE",
            "SEND <a> SIZE ",
            "SEND <a> SIZE +3",
            "SEND <a> SIZE -3",
            "SEND <a> SIZE 3 ",
            "SEND <a> SIZE 0x3",
            "SEND <a>  SIZE 3",
            "SEND  <a> SIZE 3",
            "SEND < SIZE 3",
            "RECV a",
            "RECV <a",
            "RECV <",
            "RECV <a> ",
            "LS",
            "LS .",
            "HELO <a>",
        ];
        for line in lines {
            assert_eq!(Command::parse(line.into()), Err(Close::UnknownCommand(line.into())), "{line:?}");
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        let mut out = Vec::new();
        Verb::ZSend.write_command(b"a b.1.data", Some(12), &mut out);
        assert_eq!(out, b"ZSEND <a b.1.data> SIZE 12\n");
        out.clear();
        Verb::Ls.write_command(b".", None, &mut out);
        assert_eq!(out, b"LS <.>\n");
    }
}
