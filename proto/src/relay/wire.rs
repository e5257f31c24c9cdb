//! How integers and texts lie in a payload: big-endian, and a length byte before a text.

use alloc::{string::String, vec::Vec};

use super::{Digest, Number, Violation};
use crate::Name;

/// Reads a payload from its front.
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
    frame: &'static str,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(frame: &'static str, payload: &'a [u8]) -> Self {
        Fields { rest: payload, frame }
    }

    pub(crate) fn malformed(&self, what: &'static str) -> Violation {
        Violation::Malformed { frame: self.frame, what }
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Violation> {
        let (bytes, rest) =
            self.rest.split_at_checked(count).ok_or_else(|| self.malformed("ends too early"))?;
        self.rest = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Violation> {
        let bytes = self.bytes(N)?;
        Ok(bytes.try_into().expect("that many bytes were taken"))
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Violation> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Violation> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Violation> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Violation> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Violation> {
        self.array().map(i64::from_be_bytes)
    }

    pub(crate) fn number(&mut self) -> Result<Number, Violation> {
        Ok(Number { run: self.u64()?, counter: self.u64()? })
    }

    /// `yes` or `no`, as 1 or 0.
    pub(crate) fn flag(&mut self, neither: &'static str) -> Result<bool, Violation> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.malformed(neither)),
        }
    }

    pub(crate) fn digest(&mut self) -> Result<Digest, Violation> {
        self.array()
    }

    /// A digest and whether it is there.
    pub(crate) fn digest_if_any(&mut self) -> Result<Option<Digest>, Violation> {
        let there = self.flag("says neither that there is a digest nor that there is none")?;
        let digest = self.digest()?;
        Ok(there.then_some(digest))
    }

    /// The name of a shared file.
    pub(crate) fn name(&mut self) -> Result<Name, Violation> {
        let length = usize::from(self.u8()?);
        let name = Name::parse_listed(self.bytes(length)?);
        name.map_err(|reason| Violation::FileName { frame: self.frame, reason })
    }

    /// A text for people, to the end: the frame is not worth a quarrel over it, so it is made fit for a log.
    pub(crate) fn text(self) -> String {
        let readable = |char: char| if char.is_control() { char::REPLACEMENT_CHARACTER } else { char };
        String::from_utf8_lossy(self.rest).chars().map(readable).collect()
    }

    /// A text of at most `limit` bytes that is fit for a log.
    pub(crate) fn label(&mut self, limit: usize) -> Result<String, Violation> {
        let length = usize::from(self.u8()?);
        if length > limit {
            return Err(self.malformed("holds a text that is too long"));
        }
        let bytes = self.bytes(length)?;
        match core::str::from_utf8(bytes) {
            Ok(text) if !text.chars().any(char::is_control) => Ok(text.into()),
            _ => Err(self.malformed("holds a text that cannot be read")),
        }
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// For frames that may not grow.
    pub(crate) fn end(self) -> Result<(), Violation> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.malformed("is too long")) }
    }
}

pub(crate) fn put_number(number: Number, out: &mut Vec<u8>) {
    out.extend_from_slice(&number.run.to_be_bytes());
    out.extend_from_slice(&number.counter.to_be_bytes());
}

/// Zeros where there is none.
pub(crate) fn put_digest_if_any(digest: Option<&Digest>, out: &mut Vec<u8>) {
    out.push(digest.is_some().into());
    out.extend_from_slice(digest.unwrap_or(&[0; 32]));
}

pub(crate) fn put_name(name: &Name, out: &mut Vec<u8>) {
    let name = name.as_bytes();
    out.push(u8::try_from(name.len()).expect("listed names have at most 210 bytes"));
    out.extend_from_slice(name);
}

/// What the other end would not read is replaced, what is too long is cut.
pub(crate) fn put_label(text: &str, limit: usize, out: &mut Vec<u8>) {
    let text = text.replace(char::is_control, "?");
    let text = cut(&text, limit);
    out.push(u8::try_from(text.len()).expect("limits of texts are below 256"));
    out.extend_from_slice(text.as_bytes());
}

/// The beginning of a text: whole characters, at most `limit` bytes.
pub(crate) fn cut(text: &str, limit: usize) -> &str {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
