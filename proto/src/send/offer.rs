//! The dialling end of `SEND` and `ZSEND`; the listening end is [`accept`](super::accept).
//!
//! ```text
//!  Offered ──"VERB OK"──▶ Writing ──last byte──▶ Written ──"VERB OK", "VERB ERR"──▶ Over
//!     └──────"VERB ERR"─────────────────────────────────────────────────────────────▲
//! ```

use alloc::vec::Vec;

use crate::{
    Close, InitiatorEvent, Refusal, Step, Time, Verb, body::Outgoing, line::LineReader, machine::out_of_turn,
    reply::Reply,
};

/// A file on offer.
#[derive(Debug)]
pub(crate) struct Offer {
    verb: Verb,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The peer is to say whether it takes a body of this size.
    Offered {
        size: u64,
        by: Time,
    },
    /// The owner is to give the body.
    Writing(Outgoing),
    /// The peer is to say whether it has the file.
    Written {
        by: Time,
    },
    Over,
}

impl Offer {
    pub(crate) fn new(verb: Verb, size: u64, by: Time) -> Self {
        Offer { verb, state: State::Offered { size, by } }
    }

    pub(crate) fn write_body(&mut self, bytes: &[u8], by: Time, out: &mut Vec<u8>) {
        let State::Writing(body) = &mut self.state else { return out_of_turn("write_body") };
        body.write(bytes, out);
        if body.remaining() == 0 {
            self.state = State::Written { by };
        }
    }

    pub(crate) fn step(
        &mut self,
        lines: &mut LineReader,
        input: &[u8],
        now: Time,
    ) -> Result<Step<InitiatorEvent>, Close> {
        let Some(by) = self.deadline() else { return Ok(Step::quiet(0)) };
        let Some((used, line)) = lines.take(input)? else {
            return Step::waiting(input.len(), now, by, Close::NoAnswer { request: self.verb.as_str() });
        };
        let event = match (Reply::parse(self.verb.as_str(), &line), &self.state) {
            (Some(Reply::Ok), State::Offered { size, .. }) if *size > 0 => {
                self.state = State::Writing(Outgoing::new(*size));
                InitiatorEvent::Accepted
            }
            (Some(Reply::Ok), State::Written { .. }) => {
                self.state = State::Over;
                InitiatorEvent::Stored
            }
            (Some(Reply::Err(text)), _) => {
                self.state = State::Over;
                InitiatorEvent::Refused(Refusal { verb: self.verb, text: text.into() })
            }
            _ => return Err(Close::unexpected_reply(self.verb.as_str(), line)),
        };
        Ok(Step::event(used, event))
    }

    pub(crate) fn end_of_input(&self, lines: &LineReader) -> Result<Step<InitiatorEvent>, Close> {
        match self.state {
            State::Writing(_) => Ok(Step::quiet(0)),
            _ => Err(lines.cut(Close::Unanswered { request: self.verb.as_str() })),
        }
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        match self.state {
            State::Offered { by, .. } | State::Written { by } => Some(by),
            State::Writing(_) | State::Over => None,
        }
    }

    pub(crate) fn is_blocked(&self) -> bool {
        matches!(self.state, State::Writing(_))
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    pub(crate) fn remaining(&self) -> u64 {
        match &self.state {
            State::Offered { size, .. } => *size,
            State::Writing(body) => body.remaining(),
            State::Written { .. } | State::Over => 0,
        }
    }
}
