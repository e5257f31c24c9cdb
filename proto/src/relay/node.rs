//! The end that listens: a buffer node.
//!
//! ```text
//!  Silent ──HELLO──▶ Asked ──welcome──▶ Open ──CLOSE, of either end──▶ Over
//!    └──too late──▶ Over ◀──refuse──┘
//! ```
//!
//! In every state whatever breaks the protocol leads to `Over`, and is told to the puller. What may come in `Open` is a
//! matter of the purpose: [`Node::expects`].
//!
//! The owner sends: it asks for [`room`](Node::room), gives a package or a part of one, and when there is no room waits for
//! [`NodeEvent::Room`].

mod answering;
mod event;
mod listing;
mod stream;

use alloc::{boxed::Box, vec::Vec};

use super::{
    CloseCode, Farewell, Hello, Purpose, Status, Violation, Welcome,
    either::Either,
    frame::{Frame, Kind, Sender},
    frames::Frames,
    limits::OUTPUT_SOFT,
    losses::Told,
    outbox::Outbox,
    pulse::Pulse,
    sending::Sending,
};
use crate::{
    Close, Machine, Step, Time,
    machine::{AT_ONCE, out_of_turn},
};

use answering::Answering;
pub use event::NodeEvent;

/// A listening end of relay.
#[derive(Debug)]
pub struct Node {
    hello: Option<Hello>,
    outbox: Outbox,
    turn: Turn,
    pulse: Pulse,
    frames: Frames,
    sending: Sending,
    losses: Told,
    /// A listing was asked for and is not complete.
    listing: bool,
    answering: Answering,
    /// The newest numbers, when there was no room to tell them.
    untold: Option<Box<Status>>,
    /// The owner knows that there is room.
    told_room: bool,
}

#[derive(Debug)]
enum Turn {
    /// The puller has still to say what it wants.
    Silent {
        by: Time,
    },
    /// The owner has still to decide.
    Asked,
    Open,
    Over(Close),
}

impl Node {
    /// A node that waits `patience` for the whole `HELLO`.
    pub fn new(patience: Time, now: Time) -> Self {
        Node {
            hello: None,
            outbox: Outbox::default(),
            turn: Turn::Silent { by: now.saturating_add(patience) },
            pulse: Pulse::new(patience, now),
            frames: Frames::new(),
            sending: Sending::new(now),
            losses: Told::default(),
            listing: false,
            answering: Answering::default(),
            untold: None,
            told_room: false,
        }
    }

    /// Accepts the [`Hello`].
    pub fn welcome(&mut self, welcome: Welcome, now: Time) {
        let (Turn::Asked, Some(hello)) = (&self.turn, &self.hello) else { return self.misused("welcome") };
        self.pulse = Pulse::new(hello.keep_alive, now);
        self.outbox.limit(hello, now);
        self.turn = Turn::Open;
        self.say(&Frame::Welcome(welcome));
        self.pulse.settle(now);
        self.outbox.release(now);
    }

    /// Does not: says why, and nothing else. The next step ends with [`Close::Closed`].
    pub fn refuse(&mut self, farewell: Farewell) {
        match self.turn {
            Turn::Asked => self.close(farewell),
            _ => self.misused("refuse"),
        }
    }

    /// Tells the node's numbers. A puller that only looks does not hear them. Where the line is behind they wait, and go
    /// ahead of what the owner gives next; newer ones take their place, so they do not queue up.
    pub fn status(&mut self, status: &Status) {
        if self.is_open_for(Purpose::Stream) || self.is_open_for(Purpose::List) {
            self.untold = Some(Box::new(status.clone()));
            self.tell_untold();
        }
    }

    /// Says why it leaves: the next step ends with [`Close::Closed`]. What is said already still goes out.
    pub fn close(&mut self, farewell: Farewell) {
        self.leave(farewell);
    }

    /// What the puller said first.
    pub fn hello(&self) -> Option<&Hello> {
        self.hello.as_ref()
    }

    fn is_open_for(&self, purpose: Purpose) -> bool {
        matches!(self.turn, Turn::Open) && self.hello.as_ref().is_some_and(|hello| hello.purpose == purpose)
    }

    /// After anything that may have filled the output: the owner is told again when there is room, whoever took it.
    fn note_room(&mut self) {
        self.told_room &= self.has_room();
    }

    /// An owner that does what it may not has a bug; what it wanted to say would be missed, so the connection ends.
    fn misused(&mut self, call: &str) {
        if !self.is_over() {
            out_of_turn(call);
            self.close(Farewell::new(CloseCode::Trouble, "the node made a mistake"));
        }
    }

    /// Before anything that fills the output again: a line that is always behind would never carry them.
    fn tell_untold(&mut self) {
        if self.outbox.has_room()
            && let Some(status) = self.untold.take()
        {
            self.say(&Frame::Status(status));
        }
    }

    fn has_room(&self) -> bool {
        self.listing_room() || self.answer_room() || self.may_send()
    }

    /// Flushes and ends what has waited long enough.
    fn tend(&mut self, now: Time) {
        if self.sending.rest_over().is_some_and(|at| now >= at) {
            self.sending.rest(now, self.outbox.end());
            self.pulse.speak();
        }
        if self.flush_at().is_some_and(|at| now >= at) {
            self.sending.flush(self.outbox.end());
            self.pulse.speak();
        }
        self.outbox.release(now);
    }

    /// Only an owner that knows of room has given nothing of its own accord.
    fn flush_at(&self) -> Option<Time> {
        self.sending.flush_at().filter(|_| self.told_room && self.outbox.waiting() == 0)
    }

    /// Uses input up to the next event.
    fn read(&mut self, input: &[u8], now: Time) -> Result<Step<NodeEvent>, Violation> {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            if self.blocked() || self.is_over() || rest.is_empty() {
                return Ok(Step::quiet(used));
            }
            let (purpose, listing) = (self.hello.as_ref().map(|hello| hello.purpose), self.listing);
            let (count, frame) = self.frames.take(rest, |kind| Self::expects(kind, purpose, listing))?;
            used += count;
            if let Some(frame) = frame
                && let Some(event) = self.obey(frame, now)?
            {
                return Ok(Step::event(used, event));
            }
        }
    }

    /// Whether a frame of this kind may come now. Without a purpose, no `HELLO` has come.
    fn expects(kind: &Kind, purpose: Option<Purpose>, listing: bool) -> bool {
        match kind.name {
            _ if kind.sender == Sender::Node => false,
            "CLOSE" => true,
            "HELLO" => purpose.is_none(),
            "PING" | "PONG" => purpose.is_some(),
            "LIST" => purpose == Some(Purpose::List) && !listing,
            _ if kind.is_shared() => purpose == Some(Purpose::Shared),
            _ => purpose == Some(Purpose::Stream),
        }
    }

    fn obey(&mut self, frame: Frame, now: Time) -> Result<Option<NodeEvent>, Violation> {
        Ok(match frame {
            Frame::Hello(hello) => {
                self.turn = Turn::Asked;
                self.hello = Some(hello.clone());
                Some(NodeEvent::Hello(hello))
            }
            Frame::Credit(total) => {
                self.sending.credit(total)?;
                None
            }
            Frame::Yield => {
                self.sending.rest(now, self.outbox.end());
                None
            }
            Frame::Ack(number) => {
                self.sending.ack(number)?;
                Some(NodeEvent::Acked(number))
            }
            Frame::LossAck(number) => {
                self.losses.acknowledge(number)?;
                Some(NodeEvent::LossesAcked(number))
            }
            Frame::List => {
                self.listing = true;
                Some(NodeEvent::List)
            }
            Frame::Ask(request) => self.asked(request)?,
            frame => {
                self.obey_either(frame)?;
                None
            }
        })
    }

    /// What there is to tell without input.
    fn news(&mut self, now: Time) -> Option<NodeEvent> {
        if self.told_room || !self.has_room() {
            return None;
        }
        self.told_room = true;
        self.sending.told_room(now);
        Some(NodeEvent::Room)
    }
}

impl Either for Node {
    fn pulse(&mut self) -> &mut Pulse {
        &mut self.pulse
    }

    fn is_over(&self) -> bool {
        matches!(self.turn, Turn::Over(_))
    }

    fn say(&mut self, frame: &Frame) {
        if !self.is_over() {
            frame.write(self.outbox.end());
            self.pulse.speak();
            self.note_room();
        }
    }

    /// The connection is over; what is said goes out, nothing else is kept.
    fn end(&mut self, close: Close) -> Close {
        self.turn = Turn::Over(close.clone());
        self.outbox.unlimit();
        self.frames = Frames::new();
        self.untold = None;
        self.sending.free();
        close
    }
}

impl Machine for Node {
    type Event = NodeEvent;

    fn step(&mut self, input: &[u8], now: Time) -> Result<Step<NodeEvent>, Close> {
        if let Turn::Over(close) = &self.turn {
            return Err(close.clone());
        }
        if !input.is_empty() || self.blocked() {
            self.pulse.hear(now);
        }
        self.tend(now);
        let mut step = self.read(input, now).map_err(|violation| self.violated(violation))?;
        match self.turn {
            Turn::Over(ref close) if step.event.is_none() => return Err(close.clone()),
            Turn::Silent { by } if step.event.is_none() && now >= by => {
                return Err(self.end(Close::NoHello));
            }
            Turn::Open => {
                // What leaves at the pace of the rate, or of the line, is sign of life enough; a PING would queue behind it.
                if !self.outbox.has_room() {
                    self.pulse.speak();
                }
                if let Some(number) = self.pulse.ping(now) {
                    self.say(&Frame::Ping(number));
                }
                self.pulse.settle(now);
                self.tell_untold();
                // The compressor may have been flushed.
                self.note_room();
                if step.event.is_none() {
                    step.event = self.news(now);
                }
                if step.event.is_none() && step.used == 0 {
                    self.pulse.check(now).map_err(|close| self.end(close))?;
                }
                self.outbox.release(now);
            }
            _ => {}
        }
        Ok(step)
    }

    fn end_of_input(&mut self, _now: Time) -> Result<Step<NodeEvent>, Close> {
        match &self.turn {
            Turn::Over(close) => Err(close.clone()),
            _ if self.blocked() => Ok(Step::quiet(0)),
            _ if self.frames.is_between() => Err(self.end(Close::HungUp)),
            _ => Err(self.end(Close::FrameCut)),
        }
    }

    fn deadline(&self) -> Option<Time> {
        match self.turn {
            Turn::Over(_) => Some(AT_ONCE),
            Turn::Silent { by } => Some(by),
            Turn::Asked => None,
            Turn::Open if !self.told_room && self.has_room() => Some(AT_ONCE),
            Turn::Open if self.untold.is_some() && self.outbox.has_room() => Some(AT_ONCE),
            Turn::Open => [self.sending.rest_over(), self.flush_at(), self.outbox.next_release()]
                .into_iter()
                .flatten()
                .chain([self.pulse.deadline()])
                .min(),
        }
    }

    fn output(&mut self) -> &mut Vec<u8> {
        &mut self.outbox.out
    }

    fn blocked(&self) -> bool {
        match self.turn {
            Turn::Asked => true,
            Turn::Over(_) => false,
            Turn::Open if self.answering.is_due() => true,
            _ => self.outbox.waiting() >= 2 * OUTPUT_SOFT,
        }
    }
}
