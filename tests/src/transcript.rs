//! Conversations written down as text, and played against a server.
//!
//! ```text
//! == a name that is refused            a case
//! > SEND <a/b> SIZE 3\n                 say this, as one packet
//! < SEND ERR (invalid file name)\n      hear exactly this
//! > QUIT\n
//! closed                                the other side ends, without another byte
//! = a.1.data  abc                       afterwards this file is stored with these bytes (none listed: nothing is)
//! ```
//! `end` ends our sending side. Bytes may be written `\n \r \t \0 \\ \xNN`, and `\{a*200}` is 200 times `a`. Lines that
//! start with `#` are comments.

use std::net::SocketAddr;
use std::time::Duration;

use crate::sender::Sender;
use crate::until;

/// Two writes in a row are kept this far apart, so that they arrive as two packets.
const BETWEEN_PACKETS: Duration = Duration::from_millis(30);

/// One conversation.
#[derive(Debug, Clone)]
pub struct Case {
    /// What it shows.
    pub name: String,
    steps: Vec<Step>,
    /// What is stored afterwards: names and bytes.
    pub stored: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Debug, Clone)]
enum Step {
    Say(Vec<u8>),
    Hear(Vec<u8>),
    End,
    Closed,
}

/// Reads the cases of a text.
///
/// # Panics
/// When a line makes no sense.
pub fn parse(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix("== ") {
            cases.push(Case { name: name.to_owned(), steps: Vec::new(), stored: Vec::new() });
            continue;
        }
        let case = cases.last_mut().unwrap_or_else(|| panic!("line {}: no case yet", number + 1));
        match line.split_once(' ').unwrap_or((line, "")) {
            (">", rest) => case.steps.push(Step::Say(unescape(rest))),
            ("<", rest) => case.steps.push(Step::Hear(unescape(rest))),
            ("end", "") => case.steps.push(Step::End),
            ("closed", "") => case.steps.push(Step::Closed),
            ("=", rest) => {
                let (name, bytes) =
                    rest.split_once("  ").unwrap_or_else(|| panic!("line {}: two blanks", number + 1));
                case.stored.push((unescape(name), unescape(bytes)));
            }
            _ => panic!("line {}: {line}", number + 1),
        }
    }
    cases
}

impl Case {
    /// Plays it; says what came instead.
    pub fn play(&self, address: SocketAddr) -> Result<(), String> {
        let mut sender =
            Sender::connect(address).map_err(|error| format!("{}: cannot connect: {error}", self.name))?;
        let mut said_before = false;
        for (index, step) in self.steps.iter().enumerate() {
            let wrong = |what: String| format!("{}, step {}: {what}", self.name, index + 1);
            match step {
                Step::Say(bytes) => {
                    if said_before {
                        until::pause(BETWEEN_PACKETS);
                    }
                    // The other side may have closed already; what it said before is what counts.
                    let _ = sender.say(bytes);
                }
                Step::Hear(expected) => {
                    let heard = sender.body(expected.len()).map_err(|error| {
                        wrong(format!("no {:?}: {error}", expected.escape_ascii().to_string()))
                    })?;
                    if heard != *expected {
                        return Err(wrong(format!(
                            "expected {:?}, heard {:?}",
                            expected.escape_ascii().to_string(),
                            heard.escape_ascii().to_string()
                        )));
                    }
                }
                Step::End => sender.finish().map_err(|error| wrong(error.to_string()))?,
                Step::Closed => {
                    let rest = sender.rest().map_err(|error| wrong(format!("not closed: {error}")))?;
                    if !rest.is_empty() {
                        return Err(wrong(format!(
                            "before the end came {:?}",
                            rest.escape_ascii().to_string()
                        )));
                    }
                }
            }
            said_before = matches!(step, Step::Say(_));
        }
        Ok(())
    }
}

/// Bytes from their written form.
///
/// # Panics
/// When an escape makes no sense.
pub fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, mut after)) = rest.split_first() {
        if first != b'\\' {
            bytes.push(first);
            rest = after;
            continue;
        }
        let (&escape, tail) = after.split_first().expect("an escape has a letter");
        after = tail;
        match escape {
            b'n' => bytes.push(b'\n'),
            b'r' => bytes.push(b'\r'),
            b't' => bytes.push(b'\t'),
            b'0' => bytes.push(0),
            b'\\' => bytes.push(b'\\'),
            b'x' => {
                let digits = std::str::from_utf8(&after[..2]).expect("two hex digits");
                bytes.push(u8::from_str_radix(digits, 16).expect("two hex digits"));
                after = &after[2..];
            }
            b'{' => {
                let close = after.iter().position(|byte| *byte == b'}').expect("\\{ has its }");
                let count =
                    std::str::from_utf8(&after[2..close]).expect("a number").parse().expect("a number");
                bytes.extend(std::iter::repeat_n(after[0], count));
                after = &after[close + 1..];
            }
            other => panic!("unknown escape \\{}", char::from(other)),
        }
        rest = after;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_back_from_their_written_form() {
        assert_eq!(unescape(r"a\n\x00\\\{b*3}c"), b"a\n\0\\bbbc");
    }

    #[test]
    fn a_text_becomes_cases() {
        let cases = parse("# why\n== one\n> QUIT\\n\nclosed\n= a.1.data  \\{x*2}\n");
        assert_eq!(cases.len(), 1);
        assert_eq!(cases[0].steps.len(), 2);
        assert_eq!(cases[0].stored, [(b"a.1.data".to_vec(), b"xx".to_vec())]);
    }
}
