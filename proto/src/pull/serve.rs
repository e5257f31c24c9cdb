//! The listening end of `RECV`, `ZRECV`, `LS` and `MV`; the dialling end is [`fetch`](super::fetch).
//!
//! ```text
//!  Asked ──announce──▶ Announced ──"VERB OK"──▶ Serving ──last byte──▶ Served
//!    └──refuse──▶ Dropped ◀──any other line──┘
//! ```
//!
//! Nothing tells a listener that a body was read. After a `MV`, where it matters, the [`Responder`](crate::Responder)
//! waits for the peer's next command.

use alloc::vec::Vec;

use crate::{
    Close, Reason, ResponderEvent, Step, Time, Verb, body::Outgoing, line::LineReader, machine::out_of_turn,
    reply::Reply,
};

/// A body that a peer asks for.
#[derive(Debug)]
pub(crate) struct Serve {
    verb: Verb,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The owner is to say how large the body is, or why there is none.
    Asked,
    /// The peer is to say whether it wants a body of this size.
    Announced {
        size: u64,
        by: Time,
    },
    /// The owner is to give the body.
    Serving(Outgoing),
    Served,
    Dropped,
}

impl Serve {
    pub(crate) fn new(verb: Verb) -> Self {
        Serve { verb, state: State::Asked }
    }

    pub(crate) fn announce(&mut self, size: u64, by: Time, out: &mut Vec<u8>) {
        let State::Asked = self.state else { return out_of_turn("announce") };
        self.state = State::Announced { size, by };
        Reply::Size(size).write(self.verb.as_str(), out);
    }

    pub(crate) fn refuse(&mut self, reason: Reason, out: &mut Vec<u8>) {
        let State::Asked = self.state else { return out_of_turn("refuse") };
        self.state = State::Dropped;
        Reply::refusal(self.verb, reason).write(self.verb.as_str(), out);
    }

    pub(crate) fn write_body(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let State::Serving(body) = &mut self.state else { return out_of_turn("write_body") };
        body.write(bytes, out);
        if body.remaining() == 0 {
            self.state = State::Served;
        }
    }

    pub(crate) fn step(
        &mut self,
        lines: &mut LineReader,
        input: &[u8],
        now: Time,
    ) -> Result<Step<ResponderEvent>, Close> {
        let State::Announced { size, by } = self.state else { return Ok(Step::quiet(0)) };
        let Some((used, line)) = lines.take(input)? else {
            return Step::waiting(input.len(), now, by, Close::Idle);
        };
        if Reply::parse(self.verb.as_str(), &line) != Some(Reply::Ok) {
            self.state = State::Dropped;
            return Ok(Step::event(used, ResponderEvent::Declined));
        }
        self.state = if size == 0 { State::Served } else { State::Serving(Outgoing::new(size)) };
        Ok(Step::event(used, ResponderEvent::Proceed))
    }

    pub(crate) fn end_of_input(&self, lines: &LineReader) -> Result<Step<ResponderEvent>, Close> {
        match self.state {
            State::Announced { .. } => Err(lines.cut(Close::Untaken { request: self.verb.as_str() })),
            _ => Ok(Step::quiet(0)),
        }
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        match self.state {
            State::Announced { by, .. } => Some(by),
            _ => None,
        }
    }

    pub(crate) fn is_blocked(&self) -> bool {
        matches!(self.state, State::Asked | State::Serving(_))
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Served | State::Dropped)
    }

    /// Whether the peer has been given a file that it wants deleted.
    pub(crate) fn has_moved(&self) -> bool {
        self.verb == Verb::Mv && matches!(self.state, State::Served)
    }

    pub(crate) fn remaining(&self) -> u64 {
        match &self.state {
            State::Announced { size, .. } => *size,
            State::Serving(body) => body.remaining(),
            State::Asked | State::Served | State::Dropped => 0,
        }
    }
}
