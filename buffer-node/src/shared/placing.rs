//! Changes pairs for the sync server, and only from what it expects to find to what it wants.
//!
//! Uploads of agents are kept out meanwhile, operators' tools cannot be: the workshop puts back what turns out to be
//! another file than expected. What is on its way has its room reserved, and what a cut left of it is gone on with.

use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use tidegate_proto::relay::limits::SHARED_AT_ONCE;
use tidegate_proto::{Escaped, Name};
use tidegate_spool::shared::{Digest, Done, Failed, Md5, Pair, Partial, Unfinished, Workshop};

use super::Shared;
use super::room::{Held, Reserved};
use super::synced::Synced;

/// Bytes of an `.md5`.
const MD5_BYTES: u64 = 32;

/// What the server wants to lie there.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) name: Name,
    /// What it expects to find; nothing, if so.
    pub(crate) expected: Option<Digest>,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// What was wanted is so, durably.
    Done,
    /// Something else was found, which stays.
    Changed(Option<Digest>),
    /// It cannot be, and why.
    Refused(String),
    /// The bytes that came were not those that were announced.
    Damaged,
}

/// Why nothing is known of an order's outcome.
#[derive(Debug, thiserror::Error)]
#[error("nothing is stored until the node has started again: {0}")]
pub(crate) struct PlaceError(Arc<str>);

/// A pair that is on its way.
pub(crate) struct Coming {
    order: Order,
    partial: Partial,
    /// Of the bytes that come next, so many are there already.
    skip: u64,
    /// Bytes that have come, as the server counts them.
    came: u64,
    reserved: Reserved,
}

/// What an order leads to at once.
pub(crate) enum Begun {
    /// Its bytes are wanted.
    Coming(Box<Coming>),
    Over(Outcome),
}

impl Shared {
    /// Begins with an order. What is wanted of its bytes is to be [taken](Shared::take), and then [placed](Shared::place).
    pub(crate) fn begin(&self, order: Order) -> Result<Begun, PlaceError> {
        let (synced, pair) = match self.pair_of(order.name.as_bytes()) {
            Ok(found) => found,
            Err(refused) => return Ok(Begun::Over(refused)),
        };
        if order.size > synced.max_size {
            let words = format!("larger than the node's `shared.max_size` of {} bytes", synced.max_size);
            return Ok(Begun::Over(Outcome::Refused(words)));
        }
        let there = match synced.look(order.name.as_bytes()) {
            Ok(there) => there,
            Err(error) => return Ok(Begun::Over(refused(&error))),
        };
        let is_so = there.is_some_and(|there| there.digest == order.digest);
        let there_digest = there.map(|there| there.digest);
        if !is_so && there_digest != order.expected {
            return Ok(Begun::Over(Outcome::Changed(there_digest)));
        }
        if !there.is_some_and(|there| there.fits) {
            match synced.owner_of_md5(order.name.as_bytes()) {
                Ok(None) => {}
                Ok(Some(other)) => return Ok(Begun::Over(shares_md5(&other))),
                Err(error) => return Ok(Begun::Over(refused(&error))),
            }
        }
        if is_so {
            let completed = self.change(&order.name, None, |workshop, pair| {
                workshop.complete(order.name.as_bytes(), pair, order.digest)
            });
            return completed.map(Begun::Over);
        }

        // Both are there for a moment, which is the disk's affair: an edit in a full room is an edit.
        let whole = Held { files: 2, bytes: order.size.saturating_add(MD5_BYTES) };
        let more = whole.without(Held::by(&[&pair.file, &pair.md5]));
        let reserved = match self.room.reserve_order(more) {
            Ok(reserved) => reserved,
            Err(full) => return Ok(Begun::Over(no_room(&full))),
        };
        if let Err(full) = synced.check_disk(whole.bytes) {
            return Ok(Begun::Over(no_room(&full)));
        }
        let partial = match synced.workshop.begin(order.digest, order.size) {
            Ok(partial) => partial,
            Err(error) => return Ok(Begun::Over(refused(&error))),
        };
        let is_wanted = partial.offset() < order.size;
        let coming = Box::new(Coming::new(order, partial, reserved));
        // Or all of it came before a cut.
        if is_wanted { Ok(Begun::Coming(coming)) } else { self.place(*coming).map(Begun::Over) }
    }

    /// Takes the next bytes; or says why there is no place for them.
    pub(crate) fn take(&self, coming: &mut Coming, bytes: &[u8]) -> Result<(), Outcome> {
        let (synced, _) = self.pair_of(coming.order.name.as_bytes())?;
        synced.check_disk(bytes.len() as u64).map_err(|full| no_room(&full))?;
        let skip = usize::try_from(coming.skip).unwrap_or(usize::MAX).min(bytes.len());
        coming.partial.write(&bytes[skip..]).map_err(|error| refused(&error))?;
        coming.skip -= skip as u64;
        coming.came += bytes.len() as u64;
        Ok(())
    }

    /// Puts what has come in its place, if that is still as it was expected; durable on return.
    pub(crate) fn place(&self, coming: Coming) -> Result<Outcome, PlaceError> {
        let Coming { order, partial, reserved, .. } = coming;
        let ready = match partial.finish() {
            Ok(ready) => ready,
            Err(Unfinished::Io(error)) => return Ok(refused(&error)),
            Err(Unfinished::Damaged | Unfinished::Short { .. }) => return Ok(Outcome::Damaged),
        };
        self.change(&order.name, Some(reserved), |workshop, pair| {
            workshop.place(order.name.as_bytes(), pair, order.expected, ready)
        })
    }

    /// Removes a pair, if its main file is still the expected one; durable on return.
    pub(crate) fn remove(&self, name: &Name, expected: Digest) -> Result<Outcome, PlaceError> {
        let synced = self.synced.as_ref();
        // A .conf beside what anybody may have left goes whole: an agent that could read its .md5 would not register again.
        let has_sibling = || {
            let name = name.as_bytes();
            synced.is_some_and(|synced| match synced.owner_of_md5(name) {
                Ok(None) => !name.ends_with(b".conf") && synced.has_other_of_stem(name),
                Ok(Some(_)) | Err(_) => true,
            })
        };
        self.change(name, None, |workshop, pair| {
            let md5 = if has_sibling() { Md5::Stays } else { Md5::Goes };
            workshop.remove(pair, expected, md5)
        })
    }

    /// Changes a pair that nobody else changes meanwhile, and counts what it takes then.
    fn change(
        &self,
        name: &Name,
        reserved: Option<Reserved>,
        change: impl FnOnce(&Workshop, &Pair) -> Result<Done, Failed>,
    ) -> Result<Outcome, PlaceError> {
        let (synced, pair) = match self.pair_of(name.as_bytes()) {
            Ok(found) => found,
            Err(refused) => return Ok(refused),
        };
        let _alone = self.alone(name.as_bytes());
        if let Some(reason) = self.fatal.reason() {
            return Err(PlaceError(reason));
        }
        let held = || Held::by(&[&pair.file, &pair.md5]);
        let before = held();
        let done = change(&synced.workshop, &pair);
        synced.touch(name.as_bytes());
        match reserved {
            Some(reserved) => reserved.keep(before, held()),
            None => self.room.changed(before, held()),
        }
        match done {
            Ok(Done::Done | Done::Already) => Ok(Outcome::Done),
            Ok(Done::Changed(there)) => Ok(Outcome::Changed(there.map(|there| there.digest))),
            Err(Failed::Refused(error)) => Ok(refused(&error)),
            Err(Failed::Unsure(error)) => {
                let reason = format!("cannot make a shared file durable: {error}; check the disk");
                self.fatal.declare(&reason);
                Err(PlaceError(reason.into()))
            }
        }
    }

    fn pair_of(&self, name: &[u8]) -> Result<(&Synced, Pair), Outcome> {
        let off = || Outcome::Refused("the node's `sync_shared` is off".into());
        let synced = self.synced.as_ref().ok_or_else(off)?;
        match synced.pair(name) {
            Ok(pair) => Ok((synced, pair)),
            Err(why) => Err(Outcome::Refused(why.to_string())),
        }
    }
}

impl Coming {
    fn new(order: Order, partial: Partial, reserved: Reserved) -> Self {
        let offset = partial.offset();
        let (skip, came) = if order.size <= SHARED_AT_ONCE { (offset, 0) } else { (0, offset) };
        Self { order, partial, skip, came, reserved }
    }

    pub(crate) fn name(&self) -> &Name {
        &self.order.name
    }

    /// How many bytes the server need not send any more, or has sent.
    pub(crate) fn came(&self) -> u64 {
        self.came
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.came >= self.order.size
    }
}

/// Of what harmed nobody.
fn refused(error: &io::Error) -> Outcome {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => no_room(error),
        _ => Outcome::Refused(format!("the node's disk failed: {error}")),
    }
}

/// Of another file that the `.md5` belongs to.
fn shares_md5(other: &[u8]) -> Outcome {
    Outcome::Refused(format!("{} lies there, and both would have the same .md5", Escaped(other)))
}

fn no_room(why: &dyn Display) -> Outcome {
    Outcome::Refused(format!("no room: {why}"))
}
