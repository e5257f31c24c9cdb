//! The end that dials: a sync server.

use alloc::{boxed::Box, vec::Vec};

use super::{Farewell, Head, Hello, LossRecord, Number, Status, Welcome, frame::Frame};
use crate::{Close, Machine, Step, Time};

/// What a puller tells its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullerEvent {
    /// The node has accepted the [`Hello`].
    Welcome(Welcome),
    /// Compressed data has come: answer [`decoder_granted`](Puller::decoder_granted) when there is memory for a
    /// decoder (about 1.5 MB). Until then nothing is read.
    DecoderNeeded,
    /// The decoder's memory is free again.
    DecoderFreed,
    /// A package begins. Its body comes as [`Body`](Self::Body) events, none for an empty one, then
    /// [`PackageEnd`](Self::PackageEnd).
    Package(Head),
    /// A package that is larger than [`Hello::max_package`] and stays at the node. Its number may be acknowledged, also
    /// as the last of a batch: the node does not delete it.
    Skipped(Head),
    /// A part of the current body: at least one byte, at most [`INFLATED_STEP`](super::limits::INFLATED_STEP).
    Body(Vec<u8>),
    /// The body is whole in size; whether its digest is right is for the owner to see.
    PackageEnd,
    /// Everything that the node had when it said this has come.
    Dry,
    /// Everything acknowledged up to this package is deleted, durably.
    Deleted(Number),
    /// The node's numbers.
    Status(Box<Status>),
    /// Loss records, in order: answer [`ack_losses`](Puller::ack_losses) once they are durable here.
    Losses(Vec<LossRecord>),
    /// A part of the listing. Whole names, joined by `\n`; they are the node's words: parse each.
    Listing {
        /// The names.
        names: Vec<u8>,
        /// Whether it is the last part.
        last: bool,
    },
}

/// A dialling end of relay.
///
/// Call [`Machine::step`] again soon after each event, also while a batch is on its way: an owner that drives nothing for a third
/// of the keep-alive time sends no sign of life.
#[derive(Debug)]
pub struct Puller {
    out: Vec<u8>,
}

impl Puller {
    /// A puller that says `hello` at once. Before the [`Welcome`](PullerEvent::Welcome) it may already
    /// [`grant`](Self::grant): that saves a round trip.
    pub fn new(hello: Hello, _now: Time) -> Self {
        let mut out = Vec::new();
        Frame::Hello(hello).write(&mut out);
        Puller { out }
    }

    /// Answers [`PullerEvent::DecoderNeeded`].
    pub fn decoder_granted(&mut self, _now: Time) {}

    /// Lets the node send up to `total` in all, in the unit of [`received`](Self::received). It only grows: a total that
    /// is no more than the last is passed over.
    pub fn grant(&mut self, _total: u64) {}

    /// What has come so far: each body byte counts 1, each record [`RECORD_COST`](super::limits::RECORD_COST) more.
    pub fn received(&self) -> u64 {
        0
    }

    /// Says that everything up to `upto`, a number that has come whole on this connection, may be deleted.
    pub fn ack(&mut self, upto: Number) {
        Frame::Ack(upto).write(&mut self.out);
    }

    /// Says that the loss records up to `upto`, a number that has come on this connection, are durable.
    pub fn ack_losses(&mut self, upto: Number) {
        Frame::LossAck(upto).write(&mut self.out);
    }

    /// Asks for a listing: after the welcome, with [`Purpose::List`](super::Purpose::List), one at a time.
    pub fn list(&mut self) {
        Frame::List.write(&mut self.out);
    }

    /// Says why it leaves: the next step ends with [`Close::Closed`]. What is said already still goes out.
    pub fn close(&mut self, farewell: Farewell) {
        Frame::Close(farewell).write(&mut self.out);
    }
}

impl Machine for Puller {
    type Event = PullerEvent;

    fn step(&mut self, _input: &[u8], _now: Time) -> Result<Step<PullerEvent>, Close> {
        Ok(Step::quiet(0))
    }

    fn end_of_input(&mut self, _now: Time) -> Result<Step<PullerEvent>, Close> {
        Err(Close::HungUp)
    }

    fn deadline(&self) -> Option<Time> {
        None
    }

    fn output(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    fn blocked(&self) -> bool {
        false
    }
}
