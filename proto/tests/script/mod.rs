//! Transcripts that run: one text shows what both owners do and what crosses the wire, and either machine can be held
//! to it.
//!
//! ```text
//! C: SEND <a> SIZE 3   the client's machine writes this line, the server's reads it
//! C. abc               the same without a line end; \n, \r and \xNN stand for bytes
//! S: SEND OK           the other way round
//! s= offer a 3 plain   the server's machine gives this event
//! s! accept            the server's owner answers
//! c= accepted          the same for the client …
//! c! body abc
//! C/                   the client ends its output
//! s/ QUIT              the server's machine closes, its reason holds this text
//! + 500                500 milliseconds pass
//! # …                  a remark; blanks at the ends of a line do not count
//! ```
//!
//! The machine under test gets the other end's bytes in chunks of 1, 2, 3, 7 and many bytes: the events must be the
//! same. What one end writes, hears or gives beyond the transcript is an error.

use std::collections::VecDeque;
use std::fmt::Debug;

use tidegate_proto::{
    BodyRate, Close, Escaped, Initiator, InitiatorEvent, InitiatorSettings, Machine, Name, Packing,
    PassDigest, Reason, Responder, ResponderEvent, ResponderSettings, Step, Time,
};

const CHUNKS: [usize; 5] = [usize::MAX, 1, 2, 3, 7];

/// Holds both machines to the transcript.
pub(crate) fn at_both_ends(script: &str) {
    at_server(script);
    at_client(script);
}

/// Holds the listening machine to the transcript.
pub(crate) fn at_server(script: &str) {
    at_server_with(None, script);
}

/// Holds the dialling machine to the transcript.
pub(crate) fn at_client(script: &str) {
    at_client_with(None, script);
}

/// Holds both machines, with a password, to the transcript.
pub(crate) fn at_both_ends_with(password: &str, script: &str) {
    at_server_with(Some(password), script);
    at_client_with(Some(password), script);
}

/// Holds the listening machine to the transcript. Bodies: at most 100 bytes, at least 2 bytes a second over 5 s; lines
/// within 10 s.
pub(crate) fn at_server_with(password: Option<&str>, script: &str) {
    for chunk in CHUNKS {
        let settings = ResponderSettings {
            password: password.map(|password| PassDigest::of(password.as_bytes())),
            max_size: 100,
            idle: Time::from_secs(10),
            body_rate: BodyRate { bytes_per_second: 2, window: Time::from_secs(5) },
            ..ResponderSettings::default()
        };
        let machine = Responder::new(settings, Time::ZERO);
        End::new(machine, ['s', 'c'], chunk, server_event, server_call).run(script);
    }
}

/// Holds the dialling machine to the transcript. Its patience is 4 s.
pub(crate) fn at_client_with(password: Option<&str>, script: &str) {
    for chunk in CHUNKS {
        let password = password.map(|password| PassDigest::of(password.as_bytes()));
        let settings = InitiatorSettings { password, patience: Time::from_secs(4) };
        let machine = Initiator::new(settings, Time::ZERO);
        End::new(machine, ['c', 's'], chunk, client_event, client_call).run(script);
    }
}

fn server_event(event: &ResponderEvent, body: &[u8]) -> String {
    match event {
        ResponderEvent::Refused { verb, name, size, reason } => {
            let size = size.map(|size| format!("{size} ")).unwrap_or_default();
            format!("refused {verb} {} {size}{reason:?}", Escaped(name))
        }
        ResponderEvent::Offer { name, size, packing } => {
            format!("offer {name} {size} {}", packing_name(*packing))
        }
        ResponderEvent::Body => format!("body {}", Escaped(body)),
        ResponderEvent::BodyEnd => "end".into(),
        ResponderEvent::Fetch { name, packing } => format!("fetch {name} {}", packing_name(*packing)),
        ResponderEvent::List { filter } => format!("list {}", Escaped(filter)),
        ResponderEvent::Move { name } => format!("move {name}"),
        ResponderEvent::Proceed => "proceed".into(),
        ResponderEvent::Declined => "declined".into(),
        ResponderEvent::Released => "released".into(),
        ResponderEvent::Quit => "quit".into(),
    }
}

fn server_call(machine: &mut Responder, call: &str, now: Time) {
    match call.split_once(' ').unwrap_or((call, "")) {
        ("accept", _) => machine.accept(now),
        ("confirm", _) => machine.confirm(now),
        ("released", _) => machine.released(now),
        ("announce", size) => machine.announce(number(size), now),
        ("body", text) => machine.write_body(&bytes(text), now),
        ("refuse", "InvalidName") => machine.refuse(Reason::InvalidName, now),
        ("refuse", "TooBig") => machine.refuse(Reason::TooBig, now),
        ("refuse", "Exists") => machine.refuse(Reason::Exists, now),
        ("refuse", "NotFound") => machine.refuse(Reason::NotFound, now),
        ("refuse", "StorageFull") => machine.refuse(Reason::StorageFull, now),
        ("refuse", "Bare") => machine.refuse(Reason::Bare, now),
        _ => panic!("the server's owner cannot {call:?}"),
    }
}

fn client_event(event: &InitiatorEvent, body: &[u8]) -> String {
    match event {
        InitiatorEvent::Ready => "ready".into(),
        InitiatorEvent::Accepted => "accepted".into(),
        InitiatorEvent::Stored => "stored".into(),
        InitiatorEvent::Refused(refusal) => format!("refused {refusal}"),
        InitiatorEvent::Size(size) => format!("size {size}"),
        InitiatorEvent::Body => format!("body {}", Escaped(body)),
        InitiatorEvent::BodyEnd { missing: 0, surplus: 0 } => "end".into(),
        InitiatorEvent::BodyEnd { missing, surplus } => format!("end missing {missing} surplus {surplus}"),
    }
}

fn client_call(machine: &mut Initiator, call: &str, now: Time) {
    let name = |text: &str| Name::parse_listed(&bytes(text)).expect("transcripts use valid names here");
    match *call.split(' ').collect::<Vec<_>>().as_slice() {
        ["send", n, size, "plain"] => machine.send(&name(n), number(size), Packing::Plain, now),
        ["send", n, size, "zip"] => machine.send(&name(n), number(size), Packing::Zip, now),
        ["receive", n, "plain"] => machine.receive(&name(n), Packing::Plain, now),
        ["receive", n, "zip"] => machine.receive(&name(n), Packing::Zip, now),
        ["list", filter] => machine.list(&bytes(filter), now),
        ["take", n, quiet] => machine.take(&name(n), Time::from_millis(number(quiet)), now),
        ["proceed"] => machine.proceed(now),
        ["decline"] => machine.decline(now),
        ["body", text] => machine.write_body(&bytes(text), now),
        ["quit"] => machine.quit(now),
        _ => panic!("the client's owner cannot {call:?}"),
    }
}

fn packing_name(packing: Packing) -> &'static str {
    match packing {
        Packing::Plain => "plain",
        Packing::Zip => "zip",
    }
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}

/// The bytes that a transcript's text stands for.
fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'\\' => match rest.next() {
                Some(b'n') => out.push(b'\n'),
                Some(b'r') => out.push(b'\r'),
                Some(b'x') => {
                    let digits: String = rest.by_ref().take(2).map(char::from).collect();
                    out.push(u8::from_str_radix(&digits, 16).expect("two hex digits follow \\x"));
                }
                other => panic!("unknown escape {other:?} in {text:?}"),
            },
            _ => out.push(byte),
        }
    }
    out
}

/// A machine and the smallest of drivers.
struct End<M: Machine> {
    machine: M,
    /// The letters of this end and of the other.
    letters: [char; 2],
    chunk: usize,
    render: fn(&M::Event, &[u8]) -> String,
    call: fn(&mut M, &str, Time),
    now: Time,
    /// What the other end wrote, and the machine has not used.
    input: Vec<u8>,
    ended: bool,
    output: Vec<u8>,
    events: VecDeque<String>,
    closed: Option<Close>,
}

impl<M: Machine<Event: Debug>> End<M> {
    fn new(
        machine: M,
        letters: [char; 2],
        chunk: usize,
        render: fn(&M::Event, &[u8]) -> String,
        call: fn(&mut M, &str, Time),
    ) -> Self {
        let (input, output) = (Vec::new(), Vec::new());
        let (events, closed) = (VecDeque::new(), None);
        End {
            machine,
            letters,
            chunk,
            render,
            call,
            now: Time::ZERO,
            input,
            ended: false,
            output,
            events,
            closed,
        }
    }

    fn run(mut self, script: &str) {
        self.pump();
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            eprintln!("{line}");
            self.obey(line);
        }
        assert_eq!(self.events, VecDeque::<String>::new(), "events beyond the transcript");
        assert_eq!(Escaped(&self.output).to_string(), "", "output beyond the transcript");
        assert_eq!(self.closed, None, "closed beyond the transcript");
    }

    fn obey(&mut self, line: &str) {
        let (tag, text) = line.split_once(' ').unwrap_or((line, ""));
        let [me, other] = self.letters;
        let mut tag = tag.chars();
        let (end, kind) = (tag.next().expect("lines are not empty"), tag.next());
        match (end, kind) {
            ('#', _) => {}
            ('+', _) => {
                self.now += Time::from_millis(number(text));
                self.pump();
            }
            (end, Some('!' | '=' | '/')) if end == other => {}
            (end, Some('!')) if end == me => {
                (self.call)(&mut self.machine, text, self.now);
                self.pump();
            }
            (end, Some('=')) if end == me => {
                assert_eq!(self.events.pop_front().as_deref(), Some(text), "closed: {:?}", self.closed);
            }
            (end, Some('/')) if end == me => {
                let reason = self.closed.take().expect("the machine closes").to_string();
                assert!(reason.contains(text), "{reason:?}");
            }
            (end, Some(kind)) => {
                let mut wire = bytes(text);
                if kind == ':' {
                    wire.push(b'\n');
                }
                if end == other.to_ascii_uppercase() {
                    self.hear(&wire, kind == '/');
                } else if kind != '/' {
                    assert_eq!(end, me.to_ascii_uppercase());
                    let said = Escaped(&self.output[..wire.len().min(self.output.len())]).to_string();
                    assert_eq!(said, Escaped(&wire).to_string(), "closed: {:?}", self.closed);
                    self.output.drain(..wire.len());
                }
            }
            _ => panic!("unknown line {line:?}"),
        }
    }

    fn hear(&mut self, wire: &[u8], end: bool) {
        self.input.extend_from_slice(wire);
        self.ended |= end;
        self.pump();
    }

    /// Steps until the machine has nothing more to say.
    fn pump(&mut self) {
        while self.closed.is_none() {
            match self.step() {
                Ok(true) => {}
                Ok(false) => return,
                Err(close) => self.closed = Some(close),
            }
            self.output.append(self.machine.output());
        }
    }

    /// Whether anything moved.
    fn step(&mut self) -> Result<bool, Close> {
        let given = self.chunk.min(self.input.len());
        let due = self.machine.deadline().is_some_and(|deadline| deadline <= self.now);
        let outcome = self.machine.step(&self.input[..given], self.now);
        let news = !matches!(outcome, Ok(Step { event: None, .. }));
        assert!(given > 0 || due || !news, "a driver that waits for the deadline would miss this");
        let step = outcome?;
        assert!(
            step.event.is_some() || step.used == given || self.machine.blocked(),
            "input is left over without a reason"
        );
        let used: Vec<u8> = self.input.drain(..step.used).collect();
        let written = !self.machine.output().is_empty();
        if let Some(event) = step.event {
            self.record((self.render)(&event, &used));
        } else if step.used == 0 && !written {
            if !self.ended || !self.input.is_empty() {
                return Ok(false);
            }
            let Some(event) = self.machine.end_of_input(self.now)?.event else { return Ok(false) };
            self.record((self.render)(&event, &[]));
        }
        Ok(true)
    }

    /// However a body is cut into chunks, a transcript shows it as one.
    fn record(&mut self, event: String) {
        match (self.events.back_mut(), event.strip_prefix("body ")) {
            (Some(last), Some(more)) if last.starts_with("body ") => last.push_str(more),
            _ => self.events.push_back(event),
        }
    }
}
