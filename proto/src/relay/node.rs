//! The end that listens: a buffer node.

use alloc::vec::Vec;

use super::{Farewell, Head, Hello, LossRecord, Number, Status, Welcome, frame::Frame};
use crate::{Close, Machine, Step, Time};

/// What a node's end tells its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeEvent {
    /// Who dials and what it wants. Answer [`welcome`](Node::welcome) or [`refuse`](Node::refuse); until then nothing
    /// is read. ([`Node::hello`] keeps it.)
    Hello(Hello),
    /// There is room again, where [`room`](Node::room) was 0 or [`may_begin`](Node::may_begin) was false: also the
    /// first time after the welcome.
    Room,
    /// Everything sent up to this package may be deleted. Not what was only [`skip`](Node::skip)ped. Answer
    /// [`deleted`](Node::deleted) once it is gone, durably; one answer may cover several.
    Acked(Number),
    /// The loss records up to this one are durable at the central.
    LossesAcked(Number),
    /// A listing is wanted: answer [`listing`](Node::listing).
    List,
}

/// A listening end of relay.
#[derive(Debug)]
pub struct Node {
    out: Vec<u8>,
}

impl Node {
    /// A node that waits `patience` for the whole `HELLO`.
    pub fn new(_patience: Time, _now: Time) -> Self {
        Node { out: Vec::new() }
    }

    /// Accepts the [`Hello`].
    pub fn welcome(&mut self, welcome: Welcome, _now: Time) {
        Frame::Welcome(welcome).write(&mut self.out);
    }

    /// Does not: says why, and nothing else. The next step ends with [`Close::Closed`].
    pub fn refuse(&mut self, farewell: Farewell) {
        Frame::Close(farewell).write(&mut self.out);
    }

    /// How many bytes of the current body [`write`](Self::write) takes now: 0 without credit, while the output is full,
    /// and where no package has begun.
    pub fn room(&self, _now: Time) -> usize {
        0
    }

    /// Whether a package may [`begin`](Self::begin) or be [`skip`](Self::skip)ped now.
    pub fn may_begin(&self, _now: Time) -> bool {
        false
    }

    /// Begins a package, whose number is greater than all before. Its body follows by [`write`](Self::write), all
    /// [`Head::size`] bytes of it. An owner that cannot give them must [`close`](Self::close).
    pub fn begin(&mut self, _head: &Head, _now: Time) {}

    /// Tells of a package that is larger than [`Hello::max_package`] and stays.
    pub fn skip(&mut self, _head: &Head, _now: Time) {}

    /// A part of the current body, at most [`room`](Self::room) bytes.
    pub fn write(&mut self, _bytes: &[u8], _now: Time) {}

    /// Says that all there is has been sent. Flushes. Said again before another package has begun, it does nothing.
    pub fn dry(&mut self, _now: Time) {
        Frame::Dry.write(&mut self.out);
    }

    /// Flushes: for an owner that has nothing to give at the moment although there are packages (claimed by another
    /// connection, or being read).
    pub fn pause(&mut self, _now: Time) {}

    /// Says that everything acknowledged up to `upto` is gone, durably.
    pub fn deleted(&mut self, upto: Number) {
        Frame::Deleted(upto).write(&mut self.out);
    }

    /// Tells the node's numbers.
    pub fn status(&mut self, status: &Status) {
        Frame::Status(alloc::boxed::Box::new(status.clone())).write(&mut self.out);
    }

    /// How many loss records may be told now: the rest waits for [`NodeEvent::LossesAcked`].
    pub fn losses_room(&self) -> usize {
        0
    }

    /// Tells of losses, oldest first, each once on a connection: numbers greater than all told before, at most
    /// [`losses_room`](Self::losses_room).
    pub fn losses(&mut self, records: &[LossRecord]) {
        Frame::Losses(records.into()).write(&mut self.out);
    }

    /// Whether a part of a listing may be told now; when it was not, [`NodeEvent::Room`] says that it may again.
    pub fn listing_room(&self) -> bool {
        false
    }

    /// A part of the listing: whole names, joined by `\n`, of any length; and whether it is the last part.
    pub fn listing(&mut self, names: &[u8], last: bool) {
        Frame::Listing { names: names.into(), last }.write(&mut self.out);
    }

    /// Says why it leaves: the next step ends with [`Close::Closed`]. What is said already still goes out.
    pub fn close(&mut self, farewell: Farewell) {
        Frame::Close(farewell).write(&mut self.out);
    }

    /// How many packages, skipped ones included, have been sent whole and not acknowledged.
    pub fn in_flight(&self) -> usize {
        0
    }

    /// What the puller said first.
    pub fn hello(&self) -> Option<&Hello> {
        None
    }
}

impl Machine for Node {
    type Event = NodeEvent;

    fn step(&mut self, _input: &[u8], _now: Time) -> Result<Step<NodeEvent>, Close> {
        Ok(Step::quiet(0))
    }

    fn end_of_input(&mut self, _now: Time) -> Result<Step<NodeEvent>, Close> {
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
