//! The end that listens: a buffer node, towards agents and pullers.

use alloc::vec::Vec;

use crate::{BodyRate, Close, Machine, Name, Packing, PassDigest, Reason, Step, Time, Verb, limits};

/// What a listening end insists on.
#[derive(Clone, Debug)]
pub struct ResponderSettings {
    /// What every session must begin with, if anything.
    pub password: Option<PassDigest>,
    /// The largest body it takes. Beyond it: `… ERR (file is too big)`.
    pub max_size: u64,
    /// The longest wait for a complete line. Beyond it the connection closes.
    pub idle: Time,
    /// The slowest body it takes. Below it the connection closes.
    pub body_rate: BodyRate,
}

impl Default for ResponderSettings {
    fn default() -> Self {
        Self { password: None, max_size: limits::MAX_SIZE, idle: limits::IDLE, body_rate: limits::BODY_RATE }
    }
}

/// What a listening end tells its owner, and what the owner owes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponderEvent {
    /// The machine itself has refused something: for the log and the counters, no answer is due.
    Refused {
        /// What was asked.
        verb: Verb,
        /// The name or filter as it came.
        name: Vec<u8>,
        /// Why not.
        reason: Reason,
    },
    /// A file is offered. Answer [`accept`](Responder::accept) or [`refuse`](Responder::refuse).
    Offer {
        /// Its name.
        name: Name,
        /// The size of the body, at least 1.
        size: u64,
        /// How the body holds the file.
        packing: Packing,
    },
    /// `input[..used]` is body.
    Body,
    /// The body is whole. Answer [`confirm`](Responder::confirm) once it is durable, or
    /// [`refuse`](Responder::refuse).
    BodyEnd,
    /// A file is asked for. Answer [`announce`](Responder::announce) or [`refuse`](Responder::refuse).
    Fetch {
        /// Its name.
        name: Name,
        /// How the body is to hold the file.
        packing: Packing,
    },
    /// A listing is asked for. Answer [`announce`](Responder::announce) or [`refuse`](Responder::refuse).
    List {
        /// Which files: the filters give the directory for it.
        filter: Vec<u8>,
    },
    /// A file is asked for, and to be deleted once read. Answer [`announce`](Responder::announce) or
    /// [`refuse`](Responder::refuse).
    Move {
        /// Its name.
        name: Name,
    },
    /// The peer wants the announced body: [`write_body`](Responder::write_body) until
    /// [`remaining`](Responder::remaining) is 0.
    Proceed,
    /// The peer does not want the announced body; the session goes on.
    Declined,
    /// The peer has gone on after the body of a `MV`, so it has read it: delete the file, then answer
    /// [`released`](Responder::released).
    Released,
    /// The peer is done; the next step closes.
    Quit,
}

/// A listening end.
#[derive(Debug)]
pub struct Responder {
    out: Vec<u8>,
}

impl Responder {
    /// A session that begins now.
    pub fn new(_settings: ResponderSettings, _now: Time) -> Self {
        unimplemented!()
    }

    /// Takes the offered file: after [`ResponderEvent::Offer`].
    pub fn accept(&mut self, _now: Time) {
        unimplemented!()
    }

    /// Says `… ERR`: after any event that asks for an answer.
    pub fn refuse(&mut self, _reason: Reason, _now: Time) {
        unimplemented!()
    }

    /// Says the final `… OK`: after [`ResponderEvent::BodyEnd`], when the file is durable.
    pub fn confirm(&mut self, _now: Time) {
        unimplemented!()
    }

    /// Says `… SIZE`: after [`ResponderEvent::Fetch`], [`List`](ResponderEvent::List) or
    /// [`Move`](ResponderEvent::Move).
    pub fn announce(&mut self, _size: u64, _now: Time) {
        unimplemented!()
    }

    /// Sends the next bytes of the announced body: after [`ResponderEvent::Proceed`].
    pub fn write_body(&mut self, _bytes: &[u8], _now: Time) {
        unimplemented!()
    }

    /// Goes on with the command that followed a `MV`: after [`ResponderEvent::Released`].
    pub fn released(&mut self, _now: Time) {
        unimplemented!()
    }

    /// The bytes of the current body that have still to come or to go.
    pub fn remaining(&self) -> u64 {
        unimplemented!()
    }
}

impl Machine for Responder {
    type Event = ResponderEvent;

    fn step(&mut self, _input: &[u8], _now: Time) -> Result<Step<ResponderEvent>, Close> {
        unimplemented!()
    }

    fn end_of_input(&mut self, _now: Time) -> Result<Step<ResponderEvent>, Close> {
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
