//! Who the two ends are: the first frame in each direction.

use alloc::{string::String, vec::Vec};

use super::{
    Number, Violation,
    limits::{LABEL_MAX, VERSION},
    wire::{Fields, put_label, put_number},
};
use crate::Time;

/// The bit of `HELLO`'s flags that says the connection is to stay open.
const STANDING: u8 = 1;

/// What a puller wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The packages, and to delete what it acknowledges.
    Stream,
    /// The names of the packages.
    List,
    /// The [`Welcome`], or the refusal, and nothing else. Needs no matching epoch.
    Look,
    /// The shared files: to see, fetch, place and remove them.
    Shared,
}

impl Purpose {
    const ALL: [(Self, u8); 4] = [(Self::Stream, 1), (Self::List, 2), (Self::Look, 3), (Self::Shared, 4)];

    fn code(self) -> u8 {
        Self::ALL.iter().find(|(purpose, _)| *purpose == self).map_or(0, |(_, code)| *code)
    }
}

/// What a puller says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// What it wants.
    pub purpose: Purpose,
    /// Whether it means to stay when everything has been pulled.
    pub standing: bool,
    /// The epoch under which it pulls.
    pub epoch: u64,
    /// How long either end may be silent before the other takes the connection for dead. Whole milliseconds; the
    /// machines keep it between [`KEEP_ALIVE_MIN`](super::limits::KEEP_ALIVE_MIN) and
    /// [`KEEP_ALIVE_MAX`](super::limits::KEEP_ALIVE_MAX).
    pub keep_alive: Time,
    /// The largest package it takes; larger ones are only announced.
    pub max_package: u64,
    /// The most bytes a second that the node may write to the connection, and with [`Purpose::Shared`] the puller; 0: no
    /// limit.
    pub rate: u64,
    /// Its clock, in milliseconds since 1970.
    pub clock: i64,
    /// Its name for people; its rights come from its certificate. At most 64 bytes, more are cut.
    pub name: String,
    /// Its software and version. At most 64 bytes, more are cut.
    pub software: String,
}

impl Hello {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.push(self.purpose.code());
        out.push(if self.standing { STANDING } else { 0 });
        out.extend_from_slice(&self.epoch.to_be_bytes());
        let keep_alive = u32::try_from(self.keep_alive.as_millis()).unwrap_or(u32::MAX);
        out.extend_from_slice(&keep_alive.to_be_bytes());
        out.extend_from_slice(&self.max_package.to_be_bytes());
        out.extend_from_slice(&self.rate.to_be_bytes());
        out.extend_from_slice(&self.clock.to_be_bytes());
        put_label(&self.name, LABEL_MAX, out);
        put_label(&self.software, LABEL_MAX, out);
    }

    pub(crate) fn read(payload: &[u8]) -> Result<Self, Violation> {
        let mut fields = Fields::new("HELLO", payload);
        let version = fields.u16()?;
        if version < VERSION {
            return Err(Violation::Version(version));
        }
        let purpose = fields.u8()?;
        let purpose = Purpose::ALL.iter().find(|(_, code)| *code == purpose);
        let (purpose, _) = *purpose.ok_or_else(|| fields.malformed("has a purpose that is not known"))?;
        Ok(Hello {
            purpose,
            standing: fields.u8()? & STANDING != 0,
            epoch: fields.u64()?,
            keep_alive: Time::from_millis(fields.u32()?.into()),
            max_package: fields.u64()?,
            rate: fields.u64()?,
            clock: fields.i64()?,
            name: fields.label(LABEL_MAX)?,
            software: fields.label(LABEL_MAX)?,
        })
    }
}

/// What a node answers to a [`Hello`] that it accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The epoch that it holds now.
    pub epoch: u64,
    /// The number of the oldest package that it holds, if any: what is older is gone.
    pub oldest: Option<Number>,
    /// Its clock, in milliseconds since 1970.
    pub clock: i64,
    /// Its name for people. At most 64 bytes, more are cut.
    pub name: String,
    /// Its software and version. At most 64 bytes, more are cut.
    pub software: String,
}

impl Welcome {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(&self.epoch.to_be_bytes());
        out.push(self.oldest.is_some().into());
        put_number(self.oldest.unwrap_or(Number { run: 0, counter: 0 }), out);
        out.extend_from_slice(&self.clock.to_be_bytes());
        put_label(&self.name, LABEL_MAX, out);
        put_label(&self.software, LABEL_MAX, out);
    }

    pub(crate) fn read(payload: &[u8]) -> Result<Self, Violation> {
        let mut fields = Fields::new("WELCOME", payload);
        let version = fields.u16()?;
        if version != VERSION {
            return Err(Violation::Version(version));
        }
        let epoch = fields.u64()?;
        let holds = fields.flag("says neither that packages are held nor that none are")?;
        let oldest = fields.number()?;
        Ok(Welcome {
            epoch,
            oldest: holds.then_some(oldest),
            clock: fields.i64()?,
            name: fields.label(LABEL_MAX)?,
            software: fields.label(LABEL_MAX)?,
        })
    }
}
