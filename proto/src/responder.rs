//! The end that listens: a buffer node, towards agents and pullers.
//!
//! ```text
//!  Command ─┬─"PASS", what the machine refuses──────▶ Command
//!           ├─"SEND", "ZSEND"─────────────▶ Accept ──▶ Command
//!           ├─"RECV", "ZRECV", "LS", "MV"─▶ Serve ─┬─▶ Command
//!           └─"QUIT"──▶ Over                       │
//!                                   MV body served └─▶ Command (moved) ──any command──▶ Held
//!                                                                                        │ released
//!                                                      as from Command ◀── Resumed ◀─────┘
//! ```
//!
//! [`Accept`] and [`Serve`] are the states inside a command, one file each; here are the line reader, the password
//! gate and what stands between commands. Deleting after a `MV` needs proof that the body was read, and the only one
//! that Tentacle has is the next command on the same connection: it is parsed, held back until the stream has taken the
//! body and the owner has deleted the file, and only then obeyed. A peer that writes it ahead of its reading gives its
//! word all the same.

use alloc::vec::Vec;
use core::mem;

use crate::{
    BodyRate, Close, Machine, Name, Packing, PassDigest, Reason, Step, Time, Verb,
    command::Command,
    limits,
    line::LineReader,
    machine::{AT_ONCE, out_of_turn, slim},
    password::Gate,
    pull::serve::Serve,
    reply::Reply,
    send::accept::Accept,
};

/// What a listening end insists on.
#[derive(Clone, Debug)]
pub struct ResponderSettings {
    /// What every session must begin with, if anything.
    pub password: Option<PassDigest>,
    /// The largest body it takes. Beyond it: `… ERR (file is too big)`.
    pub max_size: u64,
    /// The longest line, its `\n` included, in bytes; at least 1. Beyond it the connection closes.
    pub line: usize,
    /// The longest wait for a complete line. Beyond it the connection closes.
    pub idle: Time,
    /// The slowest body it takes. Below it the connection closes.
    pub body_rate: BodyRate,
}

impl Default for ResponderSettings {
    fn default() -> Self {
        Self {
            password: None,
            max_size: limits::MAX_SIZE,
            line: limits::LINE_MAX,
            idle: limits::IDLE,
            body_rate: limits::BODY_RATE,
        }
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
        /// The size of an offered file, where it can be read.
        size: Option<u64>,
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
    gate: Gate,
    max_size: u64,
    idle: Time,
    body_rate: BodyRate,
    lines: LineReader,
    out: Vec<u8>,
    turn: Turn,
}

/// Whose turn it is, and for what.
#[derive(Debug)]
enum Turn {
    /// The peer is to give a command by then. `moved`: it has been given a file to be deleted.
    Command {
        by: Time,
        moved: bool,
    },
    /// The owner is to delete the file that the peer has moved, and hears of it (`told`) once the stream has taken the
    /// whole body. The peer's next command waits.
    Held {
        command: Command,
        told: bool,
    },
    /// The owner has deleted the file: the command that waited is obeyed.
    Resumed(Command),
    Accept(Accept),
    Serve(Serve),
    Over,
}

impl Responder {
    /// A session that begins now.
    pub fn new(settings: ResponderSettings, now: Time) -> Self {
        let ResponderSettings { password, max_size, line, idle, body_rate } = settings;
        let turn = Turn::Command { by: now.saturating_add(idle), moved: false };
        let (lines, out) = (LineReader::new(line), Vec::new());
        Responder { gate: Gate::new(password), max_size, idle, body_rate, lines, out, turn }
    }

    /// Takes the offered file: after [`ResponderEvent::Offer`].
    pub fn accept(&mut self, now: Time) {
        match &mut self.turn {
            Turn::Accept(accept) => accept.accept(self.body_rate, &mut self.out, now),
            _ => out_of_turn("accept"),
        }
    }

    /// Says `… ERR`: after any event that leaves this choice.
    pub fn refuse(&mut self, reason: Reason, now: Time) {
        match &mut self.turn {
            Turn::Accept(accept) => accept.refuse(reason, &mut self.out),
            Turn::Serve(serve) => serve.refuse(reason, &mut self.out),
            _ => out_of_turn("refuse"),
        }
        self.go_on(now);
    }

    /// Says the final `… OK`: after [`ResponderEvent::BodyEnd`], when the file is durable.
    pub fn confirm(&mut self, now: Time) {
        match &mut self.turn {
            Turn::Accept(accept) => accept.confirm(&mut self.out),
            _ => out_of_turn("confirm"),
        }
        self.go_on(now);
    }

    /// Says `… SIZE`: after [`ResponderEvent::Fetch`], [`List`](ResponderEvent::List) or
    /// [`Move`](ResponderEvent::Move).
    pub fn announce(&mut self, size: u64, now: Time) {
        let by = self.idle_from(now);
        match &mut self.turn {
            Turn::Serve(serve) => serve.announce(size, by, &mut self.out),
            _ => out_of_turn("announce"),
        }
    }

    /// Sends the next bytes of the announced body: after [`ResponderEvent::Proceed`].
    pub fn write_body(&mut self, bytes: &[u8], now: Time) {
        match &mut self.turn {
            Turn::Serve(serve) => serve.write_body(bytes, &mut self.out),
            _ => out_of_turn("write_body"),
        }
        self.go_on(now);
    }

    /// Goes on with the command that followed a `MV`: after [`ResponderEvent::Released`].
    pub fn released(&mut self, _now: Time) {
        match mem::replace(&mut self.turn, Turn::Over) {
            Turn::Held { command, told: true } => self.turn = Turn::Resumed(command),
            turn => {
                self.turn = turn;
                out_of_turn("released");
            }
        }
    }

    /// The bytes of the current body that have still to come or to go.
    pub fn remaining(&self) -> u64 {
        match &self.turn {
            Turn::Accept(accept) => accept.remaining(),
            Turn::Serve(serve) => serve.remaining(),
            Turn::Command { .. } | Turn::Held { .. } | Turn::Resumed(_) | Turn::Over => 0,
        }
    }

    fn idle_from(&self, now: Time) -> Time {
        now.saturating_add(self.idle)
    }

    /// Waits for the next command if the last one is over.
    fn go_on(&mut self, now: Time) {
        let (over, moved) = match &self.turn {
            Turn::Accept(accept) => (accept.is_over(), false),
            Turn::Serve(serve) => (serve.is_over(), serve.has_moved()),
            Turn::Command { .. } | Turn::Held { .. } | Turn::Resumed(_) | Turn::Over => (false, false),
        };
        if over {
            self.turn = Turn::Command { by: self.idle_from(now), moved };
        }
    }

    /// Reads lines until one says something to the owner. `PASS` is the only one that does not.
    fn read_command(
        &mut self,
        input: &[u8],
        now: Time,
        by: Time,
        moved: bool,
    ) -> Result<Step<ResponderEvent>, Close> {
        let mut used = 0;
        loop {
            let Some((length, line)) = self.lines.take(&input[used..])? else {
                return Step::waiting(input.len(), now, by, Close::Idle);
            };
            used += length;
            let command = Command::parse(line)?;
            if moved {
                self.turn = Turn::Held { command, told: false };
                return Ok(Step { used, ..self.step(&[], now)? });
            }
            if let Some(event) = self.obey(command, now)? {
                return Ok(Step::event(used, event));
            }
        }
    }

    /// `None` only for a `PASS` that is right: the owner need not know.
    fn obey(&mut self, command: Command, now: Time) -> Result<Option<ResponderEvent>, Close> {
        self.turn = Turn::Command { by: self.idle_from(now), moved: false };
        Ok(Some(match command {
            Command::Pass(digest) => {
                self.gate.unlock(&digest)?;
                Reply::Ok.write("PASS", &mut self.out);
                return Ok(None);
            }
            _ if !self.gate.is_open() => return Err(Close::PasswordMissing),
            Command::Offer { packing, name, size } => self.offered(packing, name, size),
            Command::Fetch { packing, name } => match Name::parse_listed(&name) {
                Ok(name) => self.asked(Verb::fetching(packing), ResponderEvent::Fetch { name, packing }),
                Err(_) => self.refused(Verb::fetching(packing), name, Reason::InvalidName),
            },
            Command::Move { name } => match Name::parse_listed(&name) {
                Ok(name) => self.asked(Verb::Mv, ResponderEvent::Move { name }),
                Err(_) => self.refused(Verb::Mv, name, Reason::InvalidName),
            },
            Command::List { filter } if is_filter(&filter) => {
                self.asked(Verb::Ls, ResponderEvent::List { filter })
            }
            Command::List { filter } => self.refused(Verb::Ls, filter, Reason::InvalidName),
            Command::Quit => {
                self.turn = Turn::Over;
                ResponderEvent::Quit
            }
        }))
    }

    fn offered(&mut self, packing: Packing, name: Vec<u8>, size: Option<u64>) -> ResponderEvent {
        let verb = Verb::offering(packing);
        let Ok(parsed) = Name::parse(&name) else {
            return self.refused_file(verb, name, size, Reason::InvalidName);
        };
        match size {
            Some(size) if (1..=self.max_size).contains(&size) => {
                self.turn = Turn::Accept(Accept::new(verb, size));
                ResponderEvent::Offer { name: parsed, size, packing }
            }
            _ => self.refused_file(verb, name, size, Reason::TooBig),
        }
    }

    fn asked(&mut self, verb: Verb, event: ResponderEvent) -> ResponderEvent {
        self.turn = Turn::Serve(Serve::new(verb));
        event
    }

    fn refused(&mut self, verb: Verb, name: Vec<u8>, reason: Reason) -> ResponderEvent {
        self.refused_file(verb, name, None, reason)
    }

    fn refused_file(
        &mut self,
        verb: Verb,
        name: Vec<u8>,
        size: Option<u64>,
        reason: Reason,
    ) -> ResponderEvent {
        Reply::refusal(verb, reason).write(verb.as_str(), &mut self.out);
        ResponderEvent::Refused { verb, name, size, reason }
    }
}

impl Machine for Responder {
    type Event = ResponderEvent;

    fn step(&mut self, input: &[u8], now: Time) -> Result<Step<ResponderEvent>, Close> {
        slim(&mut self.out);
        match &mut self.turn {
            &mut Turn::Command { by, moved } => self.read_command(input, now, by, moved),
            Turn::Held { told, .. } => {
                let due = !*told && self.out.is_empty();
                *told |= due;
                Ok(Step { used: 0, event: due.then_some(ResponderEvent::Released) })
            }
            Turn::Resumed(command) => {
                // What is left in its place is replaced at once.
                let command = mem::replace(command, Command::Quit);
                Ok(Step { used: 0, event: self.obey(command, now)? })
            }
            Turn::Accept(accept) => accept.step(input, now),
            Turn::Serve(serve) => {
                let step = serve.step(&mut self.lines, input, now)?;
                self.go_on(now);
                Ok(step)
            }
            Turn::Over => Err(Close::Quit),
        }
    }

    fn end_of_input(&mut self, now: Time) -> Result<Step<ResponderEvent>, Close> {
        match &mut self.turn {
            Turn::Command { moved: true, .. } => Err(Close::Unproven),
            Turn::Command { .. } => Err(self.lines.cut(Close::PeerLeft)),
            Turn::Accept(accept) => accept.end_of_input(now),
            Turn::Serve(serve) => serve.end_of_input(&self.lines),
            Turn::Held { .. } | Turn::Resumed(_) | Turn::Over => self.step(&[], now),
        }
    }

    fn deadline(&self) -> Option<Time> {
        match &self.turn {
            Turn::Command { by, .. } => Some(*by),
            Turn::Accept(accept) => accept.deadline(),
            Turn::Serve(serve) => serve.deadline(),
            Turn::Held { told: true, .. } => None,
            Turn::Held { told: false, .. } | Turn::Resumed(_) | Turn::Over => Some(AT_ONCE),
        }
    }

    fn output(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    fn blocked(&self) -> bool {
        match &self.turn {
            Turn::Accept(accept) => accept.is_blocked(),
            Turn::Serve(serve) => serve.is_blocked(),
            Turn::Held { .. } => true,
            Turn::Command { .. } | Turn::Resumed(_) | Turn::Over => false,
        }
    }
}

/// What stands behind `LS`. It names no file, so only what the reference refuses is refused, and what would spoil a
/// log.
fn is_filter(bytes: &[u8]) -> bool {
    !bytes.iter().any(|byte| matches!(byte, b'*' | b'/') || byte.is_ascii_control())
}
