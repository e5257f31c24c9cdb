//! The end that dials: a sync server.
//!
//! ```text
//!  Greeting ──WELCOME──▶ Open ──CLOSE, of either end──▶ Over
//!     └──CLOSE, no WELCOME in the keep-alive time──▶ Over
//! ```
//!
//! In every state whatever breaks the protocol leads to `Over`, and is told to the node. What may come in `Open` is a
//! matter of the purpose: [`Puller::expects`].

mod asking;
mod event;

use alloc::vec::Vec;

use super::{
    Farewell, Hello, Number, Purpose, Violation,
    either::Either,
    frame::{Frame, Kind, Sender},
    frames::Frames,
    inflow::Inflow,
    limits::OUTPUT_SOFT,
    losses::Told,
    outbox::Outbox,
    pulse::{self, Pulse},
};
use crate::{
    Close, Machine, Step, Time,
    machine::{AT_ONCE, out_of_turn},
};

use asking::Asking;
pub use event::PullerEvent;

/// A dialling end of relay.
///
/// Its owner calls [`Machine::step`] again soon after each event, also while a batch is on its way: driven for less than
/// every third of the keep-alive time it gives no sign of life.
#[derive(Debug)]
pub struct Puller {
    purpose: Purpose,
    outbox: Outbox,
    turn: Turn,
    pulse: Pulse,
    frames: Frames,
    inflow: Inflow,
    acked: Option<Number>,
    deleted: Option<Number>,
    losses: Told,
    /// A listing is on its way.
    listing: bool,
    asking: Asking,
}

#[derive(Debug)]
enum Turn {
    /// The node has still to answer.
    Greeting {
        by: Time,
    },
    Open,
    Over(Close),
}

impl Puller {
    /// A puller that says `hello` at once. Before the [`Welcome`](PullerEvent::Welcome) it may already
    /// [`grant`](Self::grant), ask for a [`list`](Self::list) or make a [`request`](Self::request): that saves a round trip.
    pub fn new(mut hello: Hello, now: Time) -> Self {
        hello.keep_alive = pulse::bounded(hello.keep_alive);
        let (purpose, keep_alive) = (hello.purpose, hello.keep_alive);
        let inflow = Inflow::new(hello.max_package);
        let mut outbox = Outbox::default();
        if purpose == Purpose::Shared {
            outbox.limit(&hello, now);
        }
        Frame::Hello(hello).write(outbox.end());
        outbox.release(now);
        Puller {
            purpose,
            outbox,
            turn: Turn::Greeting { by: now.saturating_add(keep_alive) },
            pulse: Pulse::new(keep_alive, now),
            frames: Frames::new(),
            inflow,
            acked: None,
            deleted: None,
            losses: Told::default(),
            listing: false,
            asking: Asking::default(),
        }
    }

    /// Answers [`PullerEvent::DecoderNeeded`].
    pub fn decoder_granted(&mut self, now: Time) {
        if self.inflow.decoder_granted() {
            self.pulse.hear(now);
        } else if !self.is_over() {
            out_of_turn("decoder_granted");
        }
    }

    /// Asks the node to end the compressed frame, because others wait for a decoder: [`PullerEvent::DecoderFreed`]
    /// follows about a round trip later, and the next data asks for a decoder again. Without one it does nothing.
    pub fn yield_decoder(&mut self) {
        if self.inflow.is_open() {
            self.say(&Frame::Yield);
        }
    }

    /// Lets the node send up to `total` in all, in the unit of [`received`](Self::received). It only grows: a total that
    /// is no more than the last is passed over.
    pub fn grant(&mut self, total: u64) {
        if self.purpose != Purpose::Stream {
            return out_of_turn("grant");
        }
        if self.inflow.records.grant(total) {
            self.say(&Frame::Credit(total));
        }
    }

    /// What has come so far: each body byte counts 1, each record [`RECORD_COST`](super::limits::RECORD_COST) more.
    pub fn received(&self) -> u64 {
        self.inflow.records.received()
    }

    /// Says that everything up to `upto`, a number that has come whole on this connection, may be deleted.
    pub fn ack(&mut self, upto: Number) {
        if Some(upto) <= self.acked || Some(upto) > self.inflow.records.last_whole() {
            return out_of_turn("ack");
        }
        self.acked = Some(upto);
        self.say(&Frame::Ack(upto));
    }

    /// Says that the loss records up to `upto`, a number that has come on this connection, are durable.
    pub fn ack_losses(&mut self, upto: Number) {
        match self.losses.acknowledge(upto) {
            Ok(()) => self.say(&Frame::LossAck(upto)),
            Err(_) => out_of_turn("ack_losses"),
        }
    }

    /// Asks for a listing: with [`Purpose::List`], one at a time.
    pub fn list(&mut self) {
        if self.purpose != Purpose::List || self.listing {
            return out_of_turn("list");
        }
        self.listing = true;
        self.say(&Frame::List);
    }

    /// Says why it leaves: the next step ends with [`Close::Closed`]. What is said already still goes out.
    pub fn close(&mut self, farewell: Farewell) {
        self.leave(farewell);
    }

    /// Uses input up to the next event.
    fn read(&mut self, input: &[u8], now: Time) -> Result<Step<PullerEvent>, Violation> {
        let mut used = 0;
        loop {
            if let Some(event) = self.inflow.event()? {
                return Ok(Step::event(used, event));
            }
            let rest = &input[used..];
            if self.blocked() || self.is_over() || rest.is_empty() {
                return Ok(Step::quiet(used));
            }
            let data = self.frames.data().min(rest.len());
            if data > 0 {
                let count = self.inflow.feed(&rest[..data])?;
                self.frames.data_used(count);
                used += count;
                continue;
            }
            let (purpose, listing, asking) = (self.purpose, self.listing, &self.asking);
            let open = matches!(self.turn, Turn::Open);
            let (count, frame) =
                self.frames.take(rest, |kind| Self::expects(kind, purpose, open, listing, asking))?;
            used += count;
            if let Some(frame) = frame
                && let Some(event) = self.obey(frame, now)?
            {
                return Ok(Step::event(used, event));
            }
        }
    }

    /// Whether a frame of this kind may come now.
    fn expects(kind: &Kind, purpose: Purpose, open: bool, listing: bool, asking: &Asking) -> bool {
        match kind.name {
            _ if kind.sender == Sender::Puller => false,
            "CLOSE" => true,
            "WELCOME" => !open,
            "PING" | "PONG" => open,
            "STATUS" => open && matches!(purpose, Purpose::Stream | Purpose::List),
            "LISTING" => open && listing,
            _ if kind.is_shared() => open && asking.awaits(kind),
            _ => open && purpose == Purpose::Stream,
        }
    }

    fn obey(&mut self, frame: Frame, now: Time) -> Result<Option<PullerEvent>, Violation> {
        Ok(match frame {
            Frame::Welcome(welcome) => {
                self.turn = Turn::Open;
                self.pulse.hear(now);
                Some(PullerEvent::Welcome(welcome))
            }
            Frame::Dry => Some(PullerEvent::Dry),
            Frame::Deleted(number) => {
                if Some(number) <= self.deleted || Some(number) > self.acked {
                    return Err(Violation::Deleted(number));
                }
                self.deleted = Some(number);
                Some(PullerEvent::Deleted(number))
            }
            Frame::Status(status) => Some(PullerEvent::Status(status)),
            Frame::Losses(records) => {
                self.losses.tell(&records)?;
                Some(PullerEvent::Losses(records))
            }
            Frame::Listing { names, last } => {
                self.listing = !last;
                Some(PullerEvent::Listing { names, last })
            }
            Frame::Answer(answer) => Some(self.answered(answer)?),
            frame => {
                self.obey_either(frame)?;
                None
            }
        })
    }
}

impl Either for Puller {
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
        }
    }

    /// The connection is over; what is said goes out, nothing else is kept.
    fn end(&mut self, close: Close) -> Close {
        self.turn = Turn::Over(close.clone());
        self.outbox.unlimit();
        self.asking = Asking::default();
        self.frames = Frames::new();
        self.inflow.free();
        close
    }
}

impl Machine for Puller {
    type Event = PullerEvent;

    fn step(&mut self, input: &[u8], now: Time) -> Result<Step<PullerEvent>, Close> {
        if !self.is_over() && (!input.is_empty() || self.blocked()) {
            self.pulse.hear(now);
        }
        let step = match &self.turn {
            Turn::Over(close) => return Err(close.clone()),
            Turn::Greeting { .. } | Turn::Open => {
                self.read(input, now).map_err(|violation| self.violated(violation))?
            }
        };
        match self.turn {
            Turn::Over(ref close) if step.event.is_none() => Err(close.clone()),
            Turn::Greeting { by } if step.event.is_none() && now >= by => {
                Err(self.end(Close::NoAnswer { request: "HELLO" }))
            }
            Turn::Open => {
                // What leaves at the pace of the rate is sign of life enough.
                if !self.outbox.has_room() {
                    self.pulse.speak();
                }
                if let Some(number) = self.pulse.ping(now) {
                    self.say(&Frame::Ping(number));
                }
                self.pulse.settle(now);
                if step.event.is_none() && step.used == 0 {
                    self.pulse.check(now).map_err(|close| self.end(close))?;
                }
                self.outbox.release(now);
                Ok(step)
            }
            _ => {
                self.outbox.release(now);
                Ok(step)
            }
        }
    }

    fn end_of_input(&mut self, _now: Time) -> Result<Step<PullerEvent>, Close> {
        match &self.turn {
            Turn::Over(close) => Err(close.clone()),
            _ if self.blocked() => Ok(Step::quiet(0)),
            _ if self.frames.is_between() => Err(self.end(Close::HungUp)),
            _ => Err(self.end(Close::FrameCut)),
        }
    }

    fn deadline(&self) -> Option<Time> {
        let deadline = match self.turn {
            Turn::Over(_) => AT_ONCE,
            Turn::Greeting { by } => by,
            Turn::Open if self.inflow.is_due() => AT_ONCE,
            Turn::Open => self.pulse.deadline(),
        };
        Some(self.outbox.next_release().map_or(deadline, |release| release.min(deadline)))
    }

    fn output(&mut self) -> &mut Vec<u8> {
        &mut self.outbox.out
    }

    fn blocked(&self) -> bool {
        !self.is_over() && (self.inflow.is_waiting() || self.outbox.waiting() >= OUTPUT_SOFT)
    }
}
