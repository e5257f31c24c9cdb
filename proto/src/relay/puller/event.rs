//! What a dialling end hears.

use alloc::{boxed::Box, vec::Vec};

use crate::relay::{Head, LossRecord, Number, SharedAnswer, Status, Welcome};

/// What a puller tells its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullerEvent {
    /// The node has accepted the [`Hello`](crate::relay::Hello).
    Welcome(Welcome),
    /// Compressed data has come: answer [`decoder_granted`](super::Puller::decoder_granted) when there is memory for a
    /// decoder (about 1.5 MB). Until then nothing is read.
    DecoderNeeded,
    /// The decoder's memory is free again.
    DecoderFreed,
    /// A package begins. Its body comes as [`Body`](Self::Body) events, none for an empty one, then
    /// [`PackageEnd`](Self::PackageEnd).
    Package(Head),
    /// A package that is larger than [`Hello::max_package`](crate::relay::Hello::max_package) and stays at the node. Its number may be acknowledged, also
    /// as the last of a batch: the node does not delete it.
    Skipped(Head),
    /// A part of the current body: at least one byte, at most [`INFLATED_STEP`](crate::relay::limits::INFLATED_STEP).
    Body(Vec<u8>),
    /// The body is whole in size; whether its digest is right is for the owner to see.
    PackageEnd,
    /// Everything that the node had when it said this has come.
    Dry,
    /// Everything acknowledged up to this package is deleted, durably.
    Deleted(Number),
    /// The node's numbers.
    Status(Box<Status>),
    /// Loss records, in order: answer [`ack_losses`](super::Puller::ack_losses) once they are durable here.
    Losses(Vec<LossRecord>),
    /// A part of the listing. Whole names, joined by `\n`; they are the node's words: parse each.
    Listing {
        /// The names.
        names: Vec<u8>,
        /// Whether it is the last part.
        last: bool,
    },
    /// The answer to the oldest [`request`](super::Puller::request), or a part of it. Names are safe, and items grow by name from the
    /// first part of an answer to its last; all else is the node's word.
    Shared(SharedAnswer),
}
