//! Lines out of a stream of bytes: fragment first, interpret second.
//!
//! The reference expects a line to arrive in one piece with nothing behind it. Its clients keep to that, networks do
//! not: here a line may come in any number of pieces, and what stands behind it is left for later. A reader holds
//! nothing between lines, and never more than one line.

use alloc::vec::Vec;
use core::mem;

use crate::{Close, limits::LINE_MAX};

/// The beginning of a line that is not complete.
#[derive(Debug)]
pub(crate) struct LineReader {
    /// The longest line, its `\n` included.
    max: usize,
    partial: Vec<u8>,
}

impl Default for LineReader {
    fn default() -> Self {
        Self::new(LINE_MAX)
    }
}

impl LineReader {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, partial: Vec::new() }
    }

    /// The next line, without its `\n`, and how much of `input` it used. `None`: all of `input` was used, and the
    /// line goes on.
    pub(crate) fn take(&mut self, input: &[u8]) -> Result<Option<(usize, Vec<u8>)>, Close> {
        let room = self.max - self.partial.len();
        match input.iter().take(room).position(|&byte| byte == b'\n') {
            Some(end) => {
                let mut line = mem::take(&mut self.partial);
                line.extend_from_slice(&input[..end]);
                if line.ends_with(b"\r") { Err(Close::CarriageReturn) } else { Ok(Some((end + 1, line))) }
            }
            None if input.len() >= room => Err(Close::LineTooLong),
            None => {
                self.partial.extend_from_slice(input);
                Ok(None)
            }
        }
    }

    /// Why the connection is over when the input ends here: in a line, or else for the reason given.
    pub(crate) fn cut(&self, between_lines: Close) -> Close {
        if self.partial.is_empty() { between_lines } else { Close::LineCut }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn a_line_may_come_in_pieces() {
        let mut lines = LineReader::default();
        assert_eq!(lines.take(b"QU"), Ok(None));
        assert_eq!(lines.take(b""), Ok(None));
        assert_eq!(lines.take(b"IT\nSEND"), Ok(Some((3, b"QUIT".to_vec()))));
        assert_eq!(lines.take(b"\n"), Ok(Some((1, vec![]))));
    }

    #[test]
    fn a_line_has_a_longest_length() {
        for max in [10, LINE_MAX] {
            for split in [0, 1, max - 1] {
                let mut line = vec![b'x'; max - 1];
                line.push(b'\n');
                let mut lines = LineReader::new(max);
                assert_eq!(lines.take(&line[..split]), Ok(None));
                let (used, text) = lines.take(&line[split..]).unwrap().unwrap();
                assert_eq!((used, text.len()), (max - split, max - 1));

                line.insert(0, b'x');
                assert_eq!(lines.take(&line[..split]), Ok(None));
                assert_eq!(lines.take(&line[split..]), Err(Close::LineTooLong));
            }
        }
    }

    #[test]
    fn carriage_returns_are_refused_only_at_the_end() {
        assert_eq!(LineReader::default().take(b"QUIT\r\n"), Err(Close::CarriageReturn));
        assert_eq!(LineReader::default().take(b"Q\rUIT\n"), Ok(Some((6, b"Q\rUIT".to_vec()))));
    }

    #[test]
    fn an_end_inside_a_line_is_told_apart() {
        let mut lines = LineReader::default();
        assert_eq!(lines.cut(Close::PeerLeft), Close::PeerLeft);
        assert_eq!(lines.take(b"QUI"), Ok(None));
        assert_eq!(lines.cut(Close::PeerLeft), Close::LineCut);
    }
}
