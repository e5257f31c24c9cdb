//! The records of the package stream, as they are before compression and after it.
//!
//! ```text
//!  kind u8 | run u64 | counter u64 | arrival i64 | size u64 | digest u64 | name length u8 | name | body
//! ```
//!
//! Only kind 1 has a body, of `size` bytes. Records lie back to back, and where a zstd frame ends means nothing to them:
//! it may be inside one. [`Records`] reads them, charges them to the credit as they come, and refuses what no honest
//! node sends.

use alloc::vec::Vec;

use super::{
    Number, Violation,
    limits::RECORD_COST,
    wire::{Fields, put_number},
};
use crate::Name;

/// The record of a package with its body.
pub(crate) const PACKAGE: u8 = 1;
/// The record of a package that is larger than was asked for, and stays.
pub(crate) const SKIPPED: u8 = 2;

/// The bytes of a record before its name.
const FIXED: usize = 42;

/// What is known of a package before its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its number.
    pub number: Number,
    /// When it arrived at the node, in milliseconds since 1970.
    pub arrival: i64,
    /// The bytes of its body.
    pub size: u64,
    /// The first eight bytes of the body's SHA-256, big-endian.
    pub digest: u64,
    /// Its name, as listings have it.
    pub name: Name,
}

impl Head {
    pub(crate) fn write(&self, kind: u8, out: &mut Vec<u8>) {
        write_head(kind, self.number, self.arrival, self.size, self.digest, self.name.as_bytes(), out);
    }
}

/// Writes a record without its body, right or wrong: for tests. A name is cut at 255 bytes.
pub fn write_head(
    kind: u8,
    number: Number,
    arrival: i64,
    size: u64,
    digest: u64,
    name: &[u8],
    out: &mut Vec<u8>,
) {
    let name = &name[..name.len().min(usize::from(u8::MAX))];
    out.push(kind);
    put_number(number, out);
    out.extend_from_slice(&arrival.to_be_bytes());
    out.extend_from_slice(&size.to_be_bytes());
    out.extend_from_slice(&digest.to_be_bytes());
    out.push(u8::try_from(name.len()).expect("the name was cut"));
    out.extend_from_slice(name);
}

/// What comes out of the stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// A package with a body begins.
    Package(Head),
    /// A package that stays.
    Skipped(Head),
    /// This many of the bytes given are body.
    Body(usize),
    /// The body is over.
    End,
}

/// Reads records from bytes in any portions.
#[derive(Debug)]
pub(crate) struct Records {
    max_package: u64,
    granted: u64,
    received: u64,
    last: Option<Number>,
    /// The last that has come whole, or is only announced.
    whole: Option<Number>,
    /// The beginning of a head that was cut; at most 297 bytes, and none at rest.
    partial: Vec<u8>,
    /// What is still to come of a body, and 0 as long as its end was not told.
    body: Option<u64>,
}

impl Records {
    pub(crate) fn new(max_package: u64) -> Self {
        let partial = Vec::new();
        Records { max_package, granted: 0, received: 0, last: None, whole: None, partial, body: None }
    }

    /// Whether that is more than before.
    pub(crate) fn grant(&mut self, total: u64) -> bool {
        let more = total > self.granted;
        self.granted = self.granted.max(total);
        more
    }

    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    pub(crate) fn last_whole(&self) -> Option<Number> {
        self.whole
    }

    /// Whether the end of a body is to be told.
    pub(crate) fn is_due(&self) -> bool {
        self.body == Some(0)
    }

    /// Uses up some of `bytes`: all of them if there is nothing to tell.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<(usize, Option<Part>), Violation> {
        match self.body {
            None => self.take_head(bytes),
            Some(0) => {
                (self.body, self.whole) = (None, self.last);
                Ok((0, Some(Part::End)))
            }
            Some(_) if bytes.is_empty() => Ok((0, None)),
            Some(left) => {
                let used = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                self.charge(used as u64)?;
                self.body = Some(left - used as u64);
                Ok((used, Some(Part::Body(used))))
            }
        }
    }

    fn take_head(&mut self, bytes: &[u8]) -> Result<(usize, Option<Part>), Violation> {
        if self.partial.is_empty()
            && let Some(head) = bytes.get(..head_length(bytes))
        {
            return Ok((head.len(), Some(self.read(head)?)));
        }
        let mut used = 0;
        loop {
            let missing = head_length(&self.partial) - self.partial.len();
            if missing == 0 {
                let head = core::mem::take(&mut self.partial);
                return Ok((used, Some(self.read(&head)?)));
            }
            let more = missing.min(bytes.len() - used);
            if more == 0 {
                return Ok((used, None));
            }
            self.partial.extend_from_slice(&bytes[used..used + more]);
            used += more;
        }
    }

    /// Reads a whole head. Its kind and number decide first, so that the reason given names the root of the trouble.
    fn read(&mut self, head: &[u8]) -> Result<Part, Violation> {
        let mut fields = Fields::new("a record", head);
        let kind = fields.u8()?;
        if kind != PACKAGE && kind != SKIPPED {
            return Err(Violation::RecordKind(kind));
        }
        let (number, arrival) = (fields.number()?, fields.i64()?);
        let (size, digest) = (fields.u64()?, fields.u64()?);
        let _length = fields.u8()?;
        match self.last {
            Some(last) if number <= last => return Err(Violation::Order { last, got: number }),
            _ => self.last = Some(number),
        }
        let max = self.max_package;
        match kind {
            PACKAGE if size > max => return Err(Violation::TooLarge { number, size, max }),
            SKIPPED if size <= max => return Err(Violation::Withheld { number, size, max }),
            _ => {}
        }
        let name = Name::parse_listed(fields.rest()).map_err(|reason| Violation::Name { number, reason })?;
        self.charge(RECORD_COST)?;
        let head = Head { number, arrival, size, digest, name };
        if kind == SKIPPED {
            self.whole = self.last;
            return Ok(Part::Skipped(head));
        }
        self.body = Some(size);
        Ok(Part::Package(head))
    }

    fn charge(&mut self, cost: u64) -> Result<(), Violation> {
        let received = self.received.saturating_add(cost);
        if received > self.granted {
            return Err(Violation::Credit { granted: self.granted });
        }
        self.received = received;
        Ok(())
    }
}

/// How long the head is that begins so; while its name's length has not come, what comes before the name.
fn head_length(beginning: &[u8]) -> usize {
    match beginning.get(FIXED - 1) {
        Some(name) => FIXED + usize::from(*name),
        None => FIXED,
    }
}
