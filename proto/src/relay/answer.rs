//! What a node answers about shared files.

use alloc::{boxed::Box, string::String, vec::Vec};
use core::fmt;

use super::{
    Digest, Violation,
    frame::{self, Kind},
    limits::{SHARED_BUCKETS, SHARED_PART, TEXT_MAX},
    wire::{Fields, cut, put_digest_if_any, put_name},
};
use crate::Name;

/// The bit of an item's flags that says its pair fits.
const FITS: u8 = 1;

/// A shared file at a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedItem {
    /// Its name.
    pub name: Name,
    /// The SHA-256 of its bytes.
    pub digest: Digest,
    /// How many there are.
    pub size: u64,
    /// Whether the `.md5` beside it is there and fits.
    pub fits: bool,
}

/// What a [`SharedRequest`](super::SharedRequest) comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SharedAnswer {
    /// To `Summary`: the values of all buckets.
    Buckets(Box<[u64; SHARED_BUCKETS]>),
    /// To `LookInto`: what lies there, names growing; in several parts if it is much.
    Items {
        /// A part of them.
        items: Vec<SharedItem>,
        /// Whether it is the last part.
        last: bool,
    },
    /// To `Fetch`: a part of the file.
    Content {
        /// How it goes on.
        state: ContentState,
        /// The bytes. All of [`SHARED_PART`] when more follow.
        bytes: Vec<u8>,
    },
    /// To `Place`, `Part` and `Remove`.
    Outcome(SharedOutcome),
}

/// How a file that is being fetched goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentState {
    /// More bytes follow these.
    More,
    /// The file ends with these.
    End,
    /// It has another content by now, or is gone: no bytes.
    Another,
}

impl ContentState {
    /// Every state and its number on the wire.
    pub const ALL: [(Self, u8, &str); 3] =
        [(Self::More, 0, "more"), (Self::End, 1, "end"), (Self::Another, 2, "another")];
}

/// What a change came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutcomeCode {
    /// Bytes are wanted.
    GoOn,
    /// It is done, durably.
    Done,
    /// Something else is there than was expected.
    Changed,
    /// The node does not do it; the text says why.
    Refused,
    /// A part came while nothing was being placed. The machine says so itself.
    Ignored,
    /// The bytes that came do not have the digest; nothing was placed.
    Damaged,
}

impl OutcomeCode {
    /// Every code, with its number and its name.
    pub const ALL: [(Self, u8, &str); 6] = [
        (Self::GoOn, 0, "go_on"),
        (Self::Done, 1, "done"),
        (Self::Changed, 2, "changed"),
        (Self::Refused, 3, "refused"),
        (Self::Ignored, 4, "ignored"),
        (Self::Damaged, 5, "damaged"),
    ];
}

impl fmt::Display for OutcomeCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(row(&Self::ALL, *self).1)
    }
}

/// The answer to a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedOutcome {
    /// What came of it.
    pub code: OutcomeCode,
    /// With [`GoOn`](OutcomeCode::GoOn) how many bytes are there: where the next ones begin. Else 0.
    pub number: u64,
    /// With [`Changed`](OutcomeCode::Changed) what is there instead, if anything is.
    pub digest: Option<Digest>,
    /// For people. At most 200 bytes, more are cut.
    pub text: String,
}

impl SharedOutcome {
    fn new(code: OutcomeCode) -> Self {
        SharedOutcome { code, number: 0, digest: None, text: String::new() }
    }

    /// So many bytes are there, and the rest is wanted.
    pub fn go_on(number: u64) -> Self {
        SharedOutcome { number, ..Self::new(OutcomeCode::GoOn) }
    }

    /// It is done, durably.
    pub fn done() -> Self {
        Self::new(OutcomeCode::Done)
    }

    /// That is there instead of what was expected.
    pub fn changed(digest: Option<Digest>) -> Self {
        SharedOutcome { digest, ..Self::new(OutcomeCode::Changed) }
    }

    /// The node does not do it.
    pub fn refused(text: impl Into<String>) -> Self {
        SharedOutcome { text: text.into(), ..Self::new(OutcomeCode::Refused) }
    }

    /// What came did not have the digest.
    pub fn damaged() -> Self {
        Self::new(OutcomeCode::Damaged)
    }

    /// There is nothing that the part could belong to.
    pub(crate) fn ignored() -> Self {
        Self::new(OutcomeCode::Ignored)
    }

    fn read(mut fields: Fields<'_>) -> Result<Self, Violation> {
        let code = of(&OutcomeCode::ALL, fields.u8()?);
        let code = code.ok_or_else(|| fields.malformed("has a code that is not known"))?;
        let (number, digest) = (fields.u64()?, fields.digest_if_any()?);
        Ok(SharedOutcome { code, number, digest, text: fields.text() })
    }
}

impl SharedItem {
    /// The most bytes of an item: its numbers, and its name with a length.
    pub(crate) const MAX: usize = 41 + 1 + crate::limits::LISTED_NAME_MAX;

    fn read(fields: &mut Fields<'_>) -> Result<Self, Violation> {
        let (flags, size, digest) = (fields.u8()?, fields.u64()?, fields.digest()?);
        Ok(SharedItem { name: fields.name()?, digest, size, fits: flags & FITS != 0 })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(if self.fits { FITS } else { 0 });
        out.extend_from_slice(&self.size.to_be_bytes());
        out.extend_from_slice(&self.digest);
        put_name(&self.name, out);
    }
}

impl SharedAnswer {
    /// Its frame.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            SharedAnswer::Buckets(_) => frame::BUCKETS,
            SharedAnswer::Items { .. } => frame::ITEMS,
            SharedAnswer::Content { .. } => frame::CONTENT,
            SharedAnswer::Outcome(_) => frame::OUTCOME,
        }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            SharedAnswer::Buckets(values) => {
                values.iter().for_each(|value| out.extend_from_slice(&value.to_be_bytes()));
            }
            SharedAnswer::Items { items, last } => {
                out.push((*last).into());
                items.iter().for_each(|item| item.write(out));
            }
            SharedAnswer::Content { state, bytes } => {
                out.push(row(&ContentState::ALL, *state).0);
                out.extend_from_slice(bytes);
            }
            SharedAnswer::Outcome(outcome) => {
                out.push(row(&OutcomeCode::ALL, outcome.code).0);
                out.extend_from_slice(&outcome.number.to_be_bytes());
                put_digest_if_any(outcome.digest.as_ref(), out);
                out.extend_from_slice(cut(&outcome.text, TEXT_MAX).as_bytes());
            }
        }
    }

    /// Reads the payload of a frame of this sort.
    pub(crate) fn read(kind: &Kind, payload: &[u8]) -> Result<Self, Violation> {
        let mut fields = Fields::new(kind.name, payload);
        match kind.code {
            code if code == frame::BUCKETS.code => {
                let mut values = Box::new([0; SHARED_BUCKETS]);
                for value in values.iter_mut() {
                    *value = fields.u64()?;
                }
                fields.end()?;
                Ok(SharedAnswer::Buckets(values))
            }
            code if code == frame::ITEMS.code => {
                let last = fields.flag("is neither the last part nor another")?;
                let mut items = Vec::new();
                while !fields.is_empty() {
                    items.push(SharedItem::read(&mut fields)?);
                }
                let answer = SharedAnswer::Items { items, last };
                if answer.is_sound() { Ok(answer) } else { Err(fields.malformed("is a part of nothing")) }
            }
            code if code == frame::CONTENT.code => {
                let state = of(&ContentState::ALL, fields.u8()?);
                let state = state.ok_or_else(|| fields.malformed("has a state that is not known"))?;
                let unsound = fields.malformed("holds more or fewer bytes than its state allows");
                let answer = SharedAnswer::Content { state, bytes: fields.rest().into() };
                if answer.is_sound() { Ok(answer) } else { Err(unsound) }
            }
            code if code == frame::OUTCOME.code => SharedOutcome::read(fields).map(SharedAnswer::Outcome),
            code => Err(Violation::UnknownFrame(code)),
        }
    }

    /// Whether the other end would read it. What is not the last part brings something: else an answer need not end.
    pub(crate) fn is_sound(&self) -> bool {
        match self {
            SharedAnswer::Items { items, last } => *last || !items.is_empty(),
            SharedAnswer::Content { state, bytes } => match state {
                ContentState::More => bytes.len() == SHARED_PART,
                ContentState::End => bytes.len() <= SHARED_PART,
                ContentState::Another => bytes.is_empty(),
            },
            SharedAnswer::Buckets(_) | SharedAnswer::Outcome(_) => true,
        }
    }
}

/// The number and the name of something in its table.
fn row<T: Copy + PartialEq>(table: &[(T, u8, &'static str)], it: T) -> (u8, &'static str) {
    let row = table.iter().find(|(other, ..)| *other == it);
    row.map(|(_, number, name)| (*number, *name)).expect("everything is in its table")
}

/// What has this number in a table.
fn of<T: Copy>(table: &[(T, u8, &str)], number: u8) -> Option<T> {
    table.iter().find(|(_, it, _)| *it == number).map(|(it, ..)| *it)
}
