//! The node's side of a listing.

use super::Node;
use crate::relay::{either::Either as _, frame::Frame, limits::PAYLOAD_MAX};

/// The names that fit a `LISTING`, beside the byte that says whether it is the last.
const LISTING_MAX: usize = PAYLOAD_MAX - 1;

impl Node {
    /// Whether a part of a listing may be told now; when it was not, [`NodeEvent::Room`](super::NodeEvent::Room) says that it may again.
    pub fn listing_room(&self) -> bool {
        self.listing && self.outbox.has_room()
    }

    /// A part of the listing: whole names, joined by `\n`, of any length; and whether it is the last part.
    pub fn listing(&mut self, names: &[u8], last: bool) {
        if !self.listing {
            return self.misused("listing");
        }
        let mut rest = names;
        while let Some(part) = rest.get(..LISTING_MAX) {
            let end = part.iter().rposition(|byte| *byte == b'\n').unwrap_or(LISTING_MAX);
            self.say(&Frame::Listing { names: part[..end].into(), last: false });
            rest = rest[end..].strip_prefix(b"\n").unwrap_or(&rest[end..]);
        }
        self.say(&Frame::Listing { names: rest.into(), last });
        self.listing = !last;
        self.note_room();
    }
}
