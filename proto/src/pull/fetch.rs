//! The dialling end of `RECV`, `ZRECV`, `LS` and `MV`; the listening end is [`serve`](super::serve).
//!
//! ```text
//!  Asked ──"VERB SIZE n"──▶ Announced ──proceed──▶ Receiving ──last byte──▶ Trailing ──quiet──▶ Over
//!    └──────"VERB ERR"──────────┴──decline───────────────┴──end of input, MV only───────────────▲
//! ```
//!
//! The reference opens a file again for the body of a `MV`. If it was rewritten meanwhile, fewer or more bytes come
//! than were announced, and the file is deleted all the same: what comes is all there is. So after a `MV` the bytes
//! beyond the announced size are read until none comes for a while, and a body that the end of input cuts short is
//! over rather than broken. How much surplus is too much is for the owner to say: it counts the bytes it keeps.

use alloc::vec::Vec;

use crate::{
    Close, InitiatorEvent, Refusal, Step, Time, Verb,
    body::Incoming,
    limits::BODY_RATE,
    line::LineReader,
    machine::{AT_ONCE, out_of_turn},
    reply::Reply,
};

/// A body that was asked for.
#[derive(Debug)]
pub(crate) struct Fetch {
    verb: Verb,
    /// The longest wait for the next byte of the body.
    patience: Time,
    /// For a `MV`: how long no byte must come after the announced ones.
    quiet: Option<Time>,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// The peer is to say how large the body is, or why there is none.
    Asked {
        by: Time,
    },
    /// The owner is to say whether it wants a body of this size.
    Announced {
        size: u64,
    },
    /// The peer is to give the body, its next byte by then.
    Receiving {
        body: Incoming,
        by: Time,
    },
    /// What was announced is here; what comes until then is surplus.
    Trailing {
        surplus: u64,
        by: Time,
    },
    Over,
}

impl Fetch {
    pub(crate) fn new(verb: Verb, patience: Time, quiet: Option<Time>, now: Time) -> Self {
        Fetch { verb, patience, quiet, state: State::Asked { by: now.saturating_add(patience) } }
    }

    pub(crate) fn proceed(&mut self, out: &mut Vec<u8>, now: Time) {
        let State::Announced { size } = self.state else { return out_of_turn("proceed") };
        self.state = self.receiving(Incoming::new(size, BODY_RATE, now), now);
        Reply::Ok.write(self.verb.as_str(), out);
    }

    /// Anything but `OK` will do; this reads well in a capture.
    pub(crate) fn decline(&mut self, out: &mut Vec<u8>) {
        let State::Announced { .. } = self.state else { return out_of_turn("decline") };
        self.state = State::Over;
        Reply::Err(b"").write(self.verb.as_str(), out);
    }

    pub(crate) fn step(
        &mut self,
        lines: &mut LineReader,
        input: &[u8],
        now: Time,
    ) -> Result<Step<InitiatorEvent>, Close> {
        match self.state {
            State::Asked { by } => self.read_reply(lines, input, now, by),
            State::Receiving { .. } => self.read_body(input, now),
            State::Trailing { surplus, by } => match (self.quiet, input) {
                (Some(quiet), [_, ..]) => {
                    let surplus = surplus.saturating_add(input.len() as u64);
                    self.state = State::Trailing { surplus, by: now.saturating_add(quiet) };
                    Ok(Step::event(input.len(), InitiatorEvent::Body))
                }
                _ if now < by => Ok(Step::quiet(0)),
                _ => Ok(self.end(0, surplus)),
            },
            State::Announced { .. } | State::Over => Ok(Step::quiet(0)),
        }
    }

    fn read_reply(
        &mut self,
        lines: &mut LineReader,
        input: &[u8],
        now: Time,
        by: Time,
    ) -> Result<Step<InitiatorEvent>, Close> {
        let Some((used, line)) = lines.take(input)? else {
            return Step::waiting(input.len(), now, by, Close::NoAnswer { request: self.verb.as_str() });
        };
        let event = match Reply::parse(self.verb.as_str(), &line) {
            Some(Reply::Size(size)) => {
                self.state = State::Announced { size };
                InitiatorEvent::Size(size)
            }
            Some(Reply::Err(text)) => {
                self.state = State::Over;
                InitiatorEvent::Refused(Refusal { verb: self.verb, text: text.into() })
            }
            _ => return Err(Close::unexpected_reply(self.verb.as_str(), line)),
        };
        Ok(Step::event(used, event))
    }

    fn read_body(&mut self, input: &[u8], now: Time) -> Result<Step<InitiatorEvent>, Close> {
        let State::Receiving { mut body, by } = self.state else { return Ok(Step::quiet(0)) };
        let used = body.take(input, now)?;
        if used == 0 {
            self.state = State::Receiving { body, by };
            return Step::waiting(0, now, by, Close::Stalled { missing: body.remaining() });
        }
        self.state = self.receiving(body, now);
        Ok(Step::event(used, InitiatorEvent::Body))
    }

    /// What follows when something of the body has just come.
    fn receiving(&self, body: Incoming, now: Time) -> State {
        match (body.remaining(), self.quiet) {
            (0, None) => State::Trailing { surplus: 0, by: AT_ONCE },
            (0, Some(quiet)) => State::Trailing { surplus: 0, by: now.saturating_add(quiet) },
            _ => State::Receiving { body, by: now.saturating_add(self.patience) },
        }
    }

    fn end(&mut self, missing: u64, surplus: u64) -> Step<InitiatorEvent> {
        self.state = State::Over;
        Step::event(0, InitiatorEvent::BodyEnd { missing, surplus })
    }

    pub(crate) fn end_of_input(&mut self, lines: &LineReader) -> Result<Step<InitiatorEvent>, Close> {
        match self.state {
            State::Asked { .. } => Err(lines.cut(Close::Unanswered { request: self.verb.as_str() })),
            State::Receiving { body, .. } if self.quiet.is_some() => Ok(self.end(body.remaining(), 0)),
            State::Receiving { body, .. } => Err(Close::BodyCut { missing: body.remaining() }),
            State::Trailing { surplus, .. } => Ok(self.end(0, surplus)),
            State::Announced { .. } | State::Over => Ok(Step::quiet(0)),
        }
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        match self.state {
            State::Asked { by } | State::Trailing { by, .. } => Some(by),
            State::Receiving { body, by } => Some(by.min(body.deadline())),
            State::Announced { .. } | State::Over => None,
        }
    }

    pub(crate) fn is_blocked(&self) -> bool {
        matches!(self.state, State::Announced { .. })
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    pub(crate) fn remaining(&self) -> u64 {
        match self.state {
            State::Announced { size } => size,
            State::Receiving { body, .. } => body.remaining(),
            State::Asked { .. } | State::Trailing { .. } | State::Over => 0,
        }
    }
}
