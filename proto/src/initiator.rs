//! The end that dials: a sync server that pulls, or a sender.
//!
//! ```text
//!  Greeting ──"PASS OK"──▶ Ready ──▶ Idle ──send────────────────────▶ Offer ──over──▶ Idle
//!                            ▲        │ └──receive, list, take──▶ Fetch ──over──▶ Idle
//!        without a password ─┘        └──quit──▶ Leaving ──end of input──▶ (closed)
//! ```
//!
//! [`Offer`] and [`Fetch`] are the states inside a request, one file each; here are the line reader and what stands
//! between requests. The reference hangs or hangs up on a client that writes ahead, so this end never does: one
//! request is outstanding at a time, and nothing is written, not even after `PASS`, before the last line was answered.

use alloc::vec::Vec;

use crate::{
    Close, Machine, Name, Packing, PassDigest, Refusal, Step, Time, Verb,
    line::LineReader,
    machine::{AT_ONCE, out_of_turn, slim},
    pull::fetch::Fetch,
    reply::Reply,
    send::offer::Offer,
};

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
    /// The peer announces a body of this size: [`proceed`](Initiator::proceed), [`decline`](Initiator::decline), or
    /// drop the connection.
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
    patience: Time,
    lines: LineReader,
    out: Vec<u8>,
    turn: Turn,
}

/// Whose turn it is, and for what.
#[derive(Debug)]
enum Turn {
    /// The peer is to like the password.
    Greeting {
        by: Time,
    },
    /// The owner is to hear that it may begin.
    Ready,
    /// The owner may make a request.
    Idle,
    Offer(Offer),
    Fetch(Fetch),
    /// The peer is to close.
    Leaving {
        by: Time,
    },
}

impl Initiator {
    /// A session that begins now.
    pub fn new(settings: InitiatorSettings, now: Time) -> Self {
        let InitiatorSettings { password, patience } = settings;
        let (mut out, mut turn) = (Vec::new(), Turn::Ready);
        if let Some(digest) = password {
            out.extend_from_slice(b"PASS ");
            out.extend_from_slice(digest.as_bytes());
            out.push(b'\n');
            turn = Turn::Greeting { by: now.saturating_add(patience) };
        }
        Initiator { patience, lines: LineReader::default(), out, turn }
    }

    /// `SEND`, `ZSEND`: offers a file whose body has `size` bytes. [`Accepted`](InitiatorEvent::Accepted) or
    /// [`Refused`](InitiatorEvent::Refused) follows.
    pub fn send(&mut self, name: &Name, size: u64, packing: Packing, now: Time) {
        let verb = Verb::offering(packing);
        let offer = Offer::new(verb, size, now.saturating_add(self.patience));
        self.request(verb, name.as_bytes(), Some(size), Turn::Offer(offer));
    }

    /// `RECV`, `ZRECV`: asks for a file. [`Size`](InitiatorEvent::Size) or [`Refused`](InitiatorEvent::Refused)
    /// follows.
    pub fn receive(&mut self, name: &Name, packing: Packing, now: Time) {
        let verb = Verb::fetching(packing);
        let fetch = Fetch::new(verb, self.patience, None, now);
        self.request(verb, name.as_bytes(), None, Turn::Fetch(fetch));
    }

    /// `LS`: asks for a listing. [`Size`](InitiatorEvent::Size) or [`Refused`](InitiatorEvent::Refused) follows.
    /// Control bytes in the filter are left out: no filter has them, and they could end the line.
    pub fn list(&mut self, filter: &[u8], now: Time) {
        let filter: Vec<u8> = filter.iter().copied().filter(|byte| !byte.is_ascii_control()).collect();
        let fetch = Fetch::new(Verb::Ls, self.patience, None, now);
        self.request(Verb::Ls, &filter, None, Turn::Fetch(fetch));
    }

    /// `MV`: asks for a file and its deletion. [`Size`](InitiatorEvent::Size) or
    /// [`Refused`](InitiatorEvent::Refused) follows. The body is over when after its announced size `quiet` passes
    /// without a byte, or the input ends.
    pub fn take(&mut self, name: &Name, quiet: Time, now: Time) {
        let fetch = Fetch::new(Verb::Mv, self.patience, Some(quiet), now);
        self.request(Verb::Mv, name.as_bytes(), None, Turn::Fetch(fetch));
    }

    /// `… OK`: asks for the announced body, after [`InitiatorEvent::Size`].
    pub fn proceed(&mut self, now: Time) {
        match &mut self.turn {
            Turn::Fetch(fetch) => fetch.proceed(&mut self.out, now),
            _ => out_of_turn("proceed"),
        }
    }

    /// `… ERR`: does without the announced body, after [`InitiatorEvent::Size`]. No event follows, the next request
    /// may be made.
    pub fn decline(&mut self, _now: Time) {
        match &mut self.turn {
            Turn::Fetch(fetch) => fetch.decline(&mut self.out),
            _ => out_of_turn("decline"),
        }
        self.go_on();
    }

    /// Sends the next bytes of the offered file, after [`InitiatorEvent::Accepted`].
    pub fn write_body(&mut self, bytes: &[u8], now: Time) {
        let by = now.saturating_add(self.patience);
        match &mut self.turn {
            Turn::Offer(offer) => offer.write_body(bytes, by, &mut self.out),
            _ => out_of_turn("write_body"),
        }
    }

    /// `QUIT`, when no request is outstanding. The machine then waits for the peer to close, which ends in
    /// [`Close::Quit`], as does the end of its patience.
    pub fn quit(&mut self, now: Time) {
        match self.turn {
            Turn::Idle | Turn::Ready => {
                self.out.extend_from_slice(b"QUIT\n");
                self.turn = Turn::Leaving { by: now.saturating_add(self.patience) };
            }
            _ => out_of_turn("quit"),
        }
    }

    /// The bytes of the current body that have still to come or to go.
    pub fn remaining(&self) -> u64 {
        match &self.turn {
            Turn::Offer(offer) => offer.remaining(),
            Turn::Fetch(fetch) => fetch.remaining(),
            Turn::Greeting { .. } | Turn::Ready | Turn::Idle | Turn::Leaving { .. } => 0,
        }
    }

    fn request(&mut self, verb: Verb, argument: &[u8], size: Option<u64>, turn: Turn) {
        let Turn::Idle = self.turn else { return out_of_turn(verb.as_str()) };
        verb.write_command(argument, size, &mut self.out);
        self.turn = turn;
    }

    /// Lets the owner make the next request if the last one is over.
    fn go_on(&mut self) {
        let over = match &self.turn {
            Turn::Offer(offer) => offer.is_over(),
            Turn::Fetch(fetch) => fetch.is_over(),
            Turn::Greeting { .. } | Turn::Ready | Turn::Idle | Turn::Leaving { .. } => false,
        };
        if over {
            self.turn = Turn::Idle;
        }
    }

    fn greet(&mut self, input: &[u8], now: Time, by: Time) -> Result<Step<InitiatorEvent>, Close> {
        let request = "PASS";
        let Some((used, line)) = self.lines.take(input)? else {
            return Step::waiting(input.len(), now, by, Close::NoAnswer { request });
        };
        if Reply::parse(request, &line) != Some(Reply::Ok) {
            return Err(Close::unexpected_reply(request, line));
        }
        self.turn = Turn::Idle;
        Ok(Step::event(used, InitiatorEvent::Ready))
    }
}

impl Machine for Initiator {
    type Event = InitiatorEvent;

    fn step(&mut self, input: &[u8], now: Time) -> Result<Step<InitiatorEvent>, Close> {
        slim(&mut self.out);
        let step = match &mut self.turn {
            &mut Turn::Greeting { by } => self.greet(input, now, by),
            Turn::Ready => {
                self.turn = Turn::Idle;
                Ok(Step::event(0, InitiatorEvent::Ready))
            }
            Turn::Idle if input.is_empty() => Ok(Step::quiet(0)),
            Turn::Idle => Err(Close::Unasked),
            Turn::Offer(offer) => offer.step(&mut self.lines, input, now),
            Turn::Fetch(fetch) => fetch.step(&mut self.lines, input, now),
            Turn::Leaving { by } => Step::waiting(input.len(), now, *by, Close::Quit),
        };
        self.go_on();
        step
    }

    fn end_of_input(&mut self, now: Time) -> Result<Step<InitiatorEvent>, Close> {
        let step = match &mut self.turn {
            Turn::Greeting { .. } => Err(self.lines.cut(Close::Unanswered { request: "PASS" })),
            Turn::Ready => self.step(&[], now),
            Turn::Idle => Err(Close::PeerLeft),
            Turn::Offer(offer) => offer.end_of_input(&self.lines),
            Turn::Fetch(fetch) => fetch.end_of_input(&self.lines),
            Turn::Leaving { .. } => Err(Close::Quit),
        };
        self.go_on();
        step
    }

    fn deadline(&self) -> Option<Time> {
        match &self.turn {
            Turn::Greeting { by } | Turn::Leaving { by } => Some(*by),
            Turn::Ready => Some(AT_ONCE),
            Turn::Idle => None,
            Turn::Offer(offer) => offer.deadline(),
            Turn::Fetch(fetch) => fetch.deadline(),
        }
    }

    fn output(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    fn blocked(&self) -> bool {
        match &self.turn {
            Turn::Offer(offer) => offer.is_blocked(),
            Turn::Fetch(fetch) => fetch.is_blocked(),
            Turn::Greeting { .. } | Turn::Ready | Turn::Idle | Turn::Leaving { .. } => false,
        }
    }
}
