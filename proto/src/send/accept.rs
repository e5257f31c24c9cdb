//! The listening end of `SEND` and `ZSEND`; the dialling end is [`offer`](super::offer).
//!
//! ```text
//!  Offered ──accept──▶ Receiving ──last byte──▶ Received ──confirm──▶ Over
//!     └─────refuse──────────────────────────────────┴──────refuse──────▲
//! ```
//!
//! An `OK` is written in two places only, `accept` and `confirm`, and each checks its state: whatever a peer sends,
//! it hears no `OK` that the owner did not give.

use alloc::vec::Vec;

use crate::{
    BodyRate, Close, Reason, ResponderEvent, Step, Time, Verb,
    body::Incoming,
    machine::{AT_ONCE, out_of_turn},
    reply::Reply,
};

/// A file that a peer offers.
#[derive(Debug)]
pub(crate) struct Accept {
    verb: Verb,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The owner is to say whether it takes a body of this size.
    Offered(u64),
    Receiving(Incoming),
    /// The owner is to say whether it has the file.
    Received,
    Over,
}

impl Accept {
    pub(crate) fn new(verb: Verb, size: u64) -> Self {
        Accept { verb, state: State::Offered(size) }
    }

    pub(crate) fn accept(&mut self, rate: BodyRate, out: &mut Vec<u8>, now: Time) {
        let State::Offered(size) = self.state else { return out_of_turn("accept") };
        self.state = State::Receiving(Incoming::new(size, rate, now));
        Reply::Ok.write(self.verb.as_str(), out);
    }

    pub(crate) fn refuse(&mut self, reason: Reason, out: &mut Vec<u8>) {
        if !self.is_blocked() {
            return out_of_turn("refuse");
        }
        self.state = State::Over;
        Reply::refusal(self.verb, reason).write(self.verb.as_str(), out);
    }

    pub(crate) fn confirm(&mut self, out: &mut Vec<u8>) {
        let State::Received = self.state else { return out_of_turn("confirm") };
        self.state = State::Over;
        Reply::Ok.write(self.verb.as_str(), out);
    }

    pub(crate) fn step(&mut self, input: &[u8], now: Time) -> Result<Step<ResponderEvent>, Close> {
        let State::Receiving(body) = &mut self.state else { return Ok(Step::quiet(0)) };
        if body.remaining() == 0 {
            self.state = State::Received;
            return Ok(Step::event(0, ResponderEvent::BodyEnd));
        }
        match body.take(input, now)? {
            0 => Ok(Step::quiet(0)),
            used => Ok(Step::event(used, ResponderEvent::Body)),
        }
    }

    pub(crate) fn end_of_input(&mut self, now: Time) -> Result<Step<ResponderEvent>, Close> {
        match self.remaining() {
            0 => self.step(&[], now),
            _ if self.is_blocked() => Ok(Step::quiet(0)),
            missing => Err(Close::BodyCut { missing }),
        }
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        match &self.state {
            State::Receiving(body) if body.remaining() == 0 => Some(AT_ONCE),
            State::Receiving(body) => Some(body.deadline()),
            State::Offered(_) | State::Received | State::Over => None,
        }
    }

    pub(crate) fn is_blocked(&self) -> bool {
        matches!(self.state, State::Offered(_) | State::Received)
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    pub(crate) fn remaining(&self) -> u64 {
        match &self.state {
            State::Offered(size) => *size,
            State::Receiving(body) => body.remaining(),
            State::Received | State::Over => 0,
        }
    }
}
