//! Loss records on their way: what did not get in at a node, or is gone without having been pulled.

use alloc::{collections::VecDeque, string::String, vec::Vec};

use super::{
    Number, Violation,
    limits::{CLASS_MAX, LOSSES_IN_FLIGHT_MAX},
    wire::{Fields, put_label, put_number},
};

/// Packages that did not get in, or are gone, for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LossRecord {
    /// The record's number, of a sequence of its own. Later records have greater ones.
    pub number: Number,
    /// What sort of packages. At most 32 bytes, more are cut.
    pub class: String,
    /// Why: the spool's code; there may be newer ones.
    pub reason: u8,
    /// How many.
    pub packages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The earliest of their times, in milliseconds since 1970.
    pub first: i64,
    /// The latest.
    pub last: i64,
}

impl LossRecord {
    /// The most bytes of a record: its numbers, and its class with a length.
    pub(crate) const MAX: usize = 49 + 1 + CLASS_MAX;

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        put_number(self.number, out);
        out.push(self.reason);
        out.extend_from_slice(&self.packages.to_be_bytes());
        out.extend_from_slice(&self.bytes.to_be_bytes());
        out.extend_from_slice(&self.first.to_be_bytes());
        out.extend_from_slice(&self.last.to_be_bytes());
        put_label(&self.class, CLASS_MAX, out);
    }

    /// All records of a payload.
    pub(crate) fn read_all(payload: &[u8]) -> Result<Vec<Self>, Violation> {
        let mut fields = Fields::new("LOSSES", payload);
        let mut records = Vec::new();
        while !fields.is_empty() {
            records.push(LossRecord {
                number: fields.number()?,
                reason: fields.u8()?,
                packages: fields.u64()?,
                bytes: fields.u64()?,
                first: fields.i64()?,
                last: fields.i64()?,
                class: fields.label(CLASS_MAX)?,
            });
        }
        Ok(records)
    }
}

/// The records that one end has told the other, and that are not acknowledged. Both ends keep it, and so agree.
#[derive(Debug, Default)]
pub(crate) struct Told {
    waiting: VecDeque<Number>,
    last: Option<Number>,
}

impl Told {
    /// How many more may be told.
    pub(crate) fn room(&self) -> usize {
        LOSSES_IN_FLIGHT_MAX - self.waiting.len()
    }

    pub(crate) fn tell(&mut self, records: &[LossRecord]) -> Result<(), Violation> {
        if records.len() > self.room() {
            return Err(Violation::TooManyLosses);
        }
        for record in records {
            let got = record.number;
            match self.last {
                Some(last) if got <= last => return Err(Violation::LossOrder { last, got }),
                _ => self.last = Some(got),
            }
            self.waiting.push_back(got);
        }
        Ok(())
    }

    pub(crate) fn acknowledge(&mut self, upto: Number) -> Result<(), Violation> {
        let at = self.waiting.binary_search(&upto).map_err(|_| Violation::LossAck(upto))?;
        self.waiting.drain(..=at);
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
        Ok(())
    }
}
