//! The end that dials: a sync server that pulls, or a sender.

use alloc::vec::Vec;

use crate::{Close, Machine, Name, Packing, PassDigest, Refusal, Step, Time};

/// What a dialling end brings along.
#[derive(Clone, Debug)]
pub struct InitiatorSettings {
    /// What the peer wants to hear first, if anything.
    pub password: Option<PassDigest>,
    /// The longest wait for a reply, or for the next byte of a body. Beyond it the connection closes.
    pub patience: Time,
}

/// What a dialling end tells its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InitiatorEvent {
    /// The first request may be made.
    Ready,
    /// The peer takes the offered file: [`write_body`](Initiator::write_body) until
    /// [`remaining`](Initiator::remaining) is 0.
    Accepted,
    /// The peer has the file. The next request may be made.
    Stored,
    /// The peer said `… ERR`. The next request may be made.
    Refused(Refusal),
    /// The peer announces a body of this size: [`proceed`](Initiator::proceed), or drop the connection.
    Size(u64),
    /// `input[..used]` is body.
    Body,
    /// The body is over. The next request may be made.
    BodyEnd {
        /// The announced bytes that did not come; more than 0 only after a `MV` that the end of input cut short.
        missing: u64,
        /// The bytes that came, as [`Body`](Self::Body), beyond the announced size; more than 0 only after a `MV`.
        surplus: u64,
    },
}

/// A dialling end.
#[derive(Debug)]
pub struct Initiator {
    out: Vec<u8>,
}

impl Initiator {
    /// A session that begins now.
    pub fn new(_settings: InitiatorSettings, _now: Time) -> Self {
        unimplemented!()
    }

    /// `SEND`, `ZSEND`: offers a file whose body has `size` bytes. [`Accepted`](InitiatorEvent::Accepted) or
    /// [`Refused`](InitiatorEvent::Refused) follows.
    pub fn send(&mut self, _name: &Name, _size: u64, _packing: Packing, _now: Time) {
        unimplemented!()
    }

    /// `RECV`, `ZRECV`: asks for a file. [`Size`](InitiatorEvent::Size) or [`Refused`](InitiatorEvent::Refused)
    /// follows.
    pub fn receive(&mut self, _name: &Name, _packing: Packing, _now: Time) {
        unimplemented!()
    }

    /// `LS`: asks for a listing. [`Size`](InitiatorEvent::Size) or [`Refused`](InitiatorEvent::Refused) follows.
    pub fn list(&mut self, _filter: &[u8], _now: Time) {
        unimplemented!()
    }

    /// `MV`: asks for a file and its deletion. [`Size`](InitiatorEvent::Size) or
    /// [`Refused`](InitiatorEvent::Refused) follows. The body is over when after its announced size `quiet` passes
    /// without a byte, or the input ends.
    pub fn take(&mut self, _name: &Name, _quiet: Time, _now: Time) {
        unimplemented!()
    }

    /// `… OK`: asks for the announced body, after [`InitiatorEvent::Size`].
    pub fn proceed(&mut self, _now: Time) {
        unimplemented!()
    }

    /// Sends the next bytes of the offered file, after [`InitiatorEvent::Accepted`].
    pub fn write_body(&mut self, _bytes: &[u8], _now: Time) {
        unimplemented!()
    }

    /// `QUIT`, when no request is outstanding. The machine then waits for the peer to close, which ends in
    /// [`Close::Quit`].
    pub fn quit(&mut self, _now: Time) {
        unimplemented!()
    }

    /// The bytes of the current body that have still to come or to go.
    pub fn remaining(&self) -> u64 {
        unimplemented!()
    }
}

impl Machine for Initiator {
    type Event = InitiatorEvent;

    fn step(&mut self, _input: &[u8], _now: Time) -> Result<Step<InitiatorEvent>, Close> {
        unimplemented!()
    }

    fn end_of_input(&mut self, _now: Time) -> Result<Step<InitiatorEvent>, Close> {
        unimplemented!()
    }

    fn deadline(&self) -> Option<Time> {
        unimplemented!()
    }

    fn output(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    fn blocked(&self) -> bool {
        unimplemented!()
    }
}
