//! Transcripts that run: one text shows what both owners do and what crosses the wire, and either machine can be held
//! to it.
//!
//! ```text
//! P> 03 000010 …   the puller's machine writes these bytes, the node's reads them
//! N> 13 000000     the other way round
//! N> data 01 …     DATA frames that come to these bytes when decompressed; with `end` the zstd frame ends there
//! n= acked 12      the node's machine gives this event
//! n! deleted 12    the node's owner answers
//! p= …  p! …       the same for the puller
//! P/               the puller ends its output
//! n/ text          the node's machine closes, its reason holds this text
//! + 500            500 milliseconds pass
//! # …              a remark
//! ```
//!
//! The machine under test gets the other end's bytes in chunks of 1, 2, 3, 7 and many bytes: the events must be the
//! same. What one end writes, hears or gives beyond the transcript is an error.

use std::collections::VecDeque;

use tidegate_proto::relay::{
    CloseCode, Farewell, LossRecord, Node, NodeEvent, Number, Puller, PullerEvent, Purpose, Status,
};
use tidegate_proto::{Close, Machine, Time};
use zstd_safe::zstd_sys::ZSTD_EndDirective::{self, ZSTD_e_end, ZSTD_e_flush};
use zstd_safe::{CCtx, CParameter, DCtx, InBuffer, OutBuffer};

use crate::pair::{hello, number, package, pump, welcome};
use crate::shared;
use crate::wire::raw;

const DATA: u8 = 0x12;

/// Holds both machines to the transcript.
pub(crate) fn at_both_ends(purpose: Purpose, script: &str) {
    for chunk in [usize::MAX, 1, 2, 3, 7] {
        let node = Node::new(Time::from_secs(5), Time::ZERO);
        End::new(node, ['n', 'p'], chunk, node_event, node_call).run(script);
        let puller = Puller::new(hello(purpose), Time::ZERO);
        End::new(puller, ['p', 'n'], chunk, puller_event, puller_call).run(script);
    }
}

fn counter(number: Number) -> u64 {
    number.counter
}

fn node_event(event: &NodeEvent) -> String {
    match event {
        NodeEvent::Hello(hello) => format!("hello {:?} epoch {}", hello.purpose, hello.epoch),
        NodeEvent::Room => "room".into(),
        NodeEvent::Acked(upto) => format!("acked {}", counter(*upto)),
        NodeEvent::LossesAcked(upto) => format!("losses acked {}", counter(*upto)),
        NodeEvent::List => "list".into(),
        NodeEvent::Shared(request) => format!("asked {}", shared::asked(request)),
    }
}

fn puller_event(event: &PullerEvent) -> String {
    match event {
        PullerEvent::Welcome(welcome) => format!("welcome epoch {}", welcome.epoch),
        PullerEvent::DecoderNeeded => "decoder needed".into(),
        PullerEvent::DecoderFreed => "decoder freed".into(),
        PullerEvent::Package(head) => format!("package {} {} {}", counter(head.number), head.name, head.size),
        PullerEvent::Skipped(head) => format!("skipped {} {} {}", counter(head.number), head.name, head.size),
        PullerEvent::Body(bytes) => format!("body {}", String::from_utf8_lossy(bytes)),
        PullerEvent::PackageEnd => "end".into(),
        PullerEvent::Dry => "dry".into(),
        PullerEvent::Deleted(upto) => format!("deleted {}", counter(*upto)),
        PullerEvent::Status(status) => format!("status {:?} packages", status.packages),
        PullerEvent::Losses(records) => {
            let told: Vec<_> =
                records.iter().map(|loss| format!("{} {}", loss.class, loss.packages)).collect();
            format!("losses {}", told.join(", "))
        }
        PullerEvent::Listing { names, last } => {
            format!("listing {} {last}", String::from_utf8_lossy(names).replace('\n', " "))
        }
        PullerEvent::Shared(answer) => format!("told {}", shared::told(answer)),
    }
}

fn words(call: &str) -> (&str, Vec<&str>) {
    let mut words = call.split(' ');
    (words.next().expect("a call has a name"), words.collect())
}

fn counted(text: &str) -> u64 {
    text.parse().expect("a number")
}

fn node_call(node: &mut Node, call: &str, now: Time) {
    match words(call) {
        ("welcome", _) => node.welcome(welcome(), now),
        ("refuse", w) if w == ["not_offered"] => {
            node.refuse(Farewell::new(CloseCode::NotOffered, ""));
        }
        ("refuse", _) => {
            node.refuse(Farewell { code: CloseCode::EpochTooLow, number: 4, text: "old".into() })
        }
        ("package", w) => {
            assert!(node.may_begin(now));
            let package = package(counted(w[0]), w[1].as_bytes());
            node.begin(&package.head, now);
            node.write(&package.body, now);
        }
        ("skip", w) => {
            let mut head = package(counted(w[0]), b"").head;
            head.size = counted(w[1]);
            node.skip(&head, now);
        }
        ("dry", _) => node.dry(now),
        ("deleted", w) => node.deleted(number(counted(w[0]))),
        ("status", w) => node.status(&Status { packages: Some(counted(w[0])), ..Status::default() }),
        ("losses", w) => node.losses(&[LossRecord {
            number: number(counted(w[0])),
            class: "data".into(),
            reason: 1,
            packages: counted(w[1]),
            bytes: 9,
            first: 1,
            last: 2,
        }]),
        ("tell", w) => node.answer(shared::answer(&w)),
        ("listing", w) => node.listing(w.join("\n").as_bytes(), true),
        ("close", _) => node.close(Farewell::new(CloseCode::Stopping, "")),
        _ => panic!("the node's owner cannot {call:?}"),
    }
}

fn puller_call(puller: &mut Puller, call: &str, now: Time) {
    match words(call) {
        ("grant", w) => puller.grant(counted(w[0])),
        ("yield", _) => puller.yield_decoder(),
        ("decoder", _) => puller.decoder_granted(now),
        ("ack", w) => puller.ack(number(counted(w[0]))),
        ("ack_losses", w) => puller.ack_losses(number(counted(w[0]))),
        ("list", _) => puller.list(),
        ("ask", w) => puller.request(shared::request(&w)),
        ("close", _) => puller.close(Farewell::new(CloseCode::Done, "")),
        _ => panic!("the puller's owner cannot {call:?}"),
    }
}

/// A machine and the smallest of drivers.
struct End<M: Machine> {
    machine: M,
    /// The letters of this end and of the other.
    letters: [char; 2],
    chunk: usize,
    render: fn(&M::Event) -> String,
    call: fn(&mut M, &str, Time),
    now: Time,
    input: Vec<u8>,
    ended: bool,
    output: Vec<u8>,
    events: VecDeque<String>,
    closed: Option<Close>,
    packer: CCtx<'static>,
    unpacker: DCtx<'static>,
}

impl<M: Machine> End<M> {
    fn new(
        machine: M,
        letters: [char; 2],
        chunk: usize,
        render: fn(&M::Event) -> String,
        call: fn(&mut M, &str, Time),
    ) -> Self {
        let mut packer = CCtx::create();
        packer.set_parameter(CParameter::WindowLog(20)).expect("zstd knows it");
        End {
            machine,
            letters,
            chunk,
            render,
            call,
            now: Time::ZERO,
            input: Vec::new(),
            ended: false,
            output: Vec::new(),
            events: VecDeque::new(),
            closed: None,
            packer,
            unpacker: DCtx::create(),
        }
    }

    fn run(mut self, script: &str) {
        self.pump();
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            eprintln!("{} {line}", self.letters[0]);
            self.obey(line);
        }
        assert_eq!(self.events, VecDeque::<String>::new(), "events beyond the transcript");
        assert_eq!(self.output, b"", "output beyond the transcript");
        assert_eq!(self.closed, None, "closed beyond the transcript");
    }

    fn obey(&mut self, line: &str) {
        let (tag, text) = line.split_once(' ').unwrap_or((line, ""));
        let [me, other] = self.letters;
        let mut tag = tag.chars();
        match (tag.next().expect("lines are not empty"), tag.next()) {
            ('#', _) => {}
            ('+', _) => {
                self.now += Time::from_millis(counted(text));
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
            (end, Some('>')) if end == other.to_ascii_uppercase() => {
                let bytes = match text.split_once("data") {
                    Some((_, plain)) => match plain.strip_suffix("end") {
                        Some(plain) => self.pack(&hex(plain), ZSTD_e_end),
                        None => self.pack(&hex(plain), ZSTD_e_flush),
                    },
                    None => hex(text),
                };
                self.input.extend(bytes);
                self.pump();
            }
            (end, Some('/')) if end == other.to_ascii_uppercase() => {
                self.ended = true;
                self.pump();
            }
            (_, Some('>')) => match text.split_once("data") {
                Some((_, plain)) => {
                    let last = plain.strip_suffix("end");
                    assert_eq!(self.unpack(), (hex(last.unwrap_or(plain)), last.is_some()));
                }
                None => {
                    let wire = hex(text);
                    let length = wire.len().min(self.output.len());
                    let said: Vec<u8> = self.output.drain(..length).collect();
                    assert_eq!(said, wire, "closed: {:?}", self.closed);
                }
            },
            (_, Some('/')) => {}
            _ => panic!("unknown line {line:?}"),
        }
    }

    /// `DATA` as another node would send it.
    fn pack(&mut self, plain: &[u8], directive: ZSTD_EndDirective) -> Vec<u8> {
        let mut out = vec![0; 1000];
        let mut output = OutBuffer::around(&mut out[..]);
        let left = self.packer.compress_stream2(&mut output, &mut InBuffer::around(plain), directive);
        assert_eq!(left, Ok(0));
        let length = output.pos();
        raw(DATA, &out[..length])
    }

    /// What the `DATA` at the front of the output comes to, and whether a zstd frame ends there.
    fn unpack(&mut self) -> (Vec<u8>, bool) {
        let (mut all, mut ended) = (Vec::new(), false);
        while self.output.first() == Some(&DATA) {
            let length = usize::from(self.output[2]) << 8 | usize::from(self.output[3]);
            let frame: Vec<u8> = self.output.drain(..4 + length).collect();
            let mut plain = vec![0; 1000];
            let mut output = OutBuffer::around(&mut plain[..]);
            let left = self.unpacker.decompress_stream(&mut output, &mut InBuffer::around(&frame[4..]));
            ended = left == Ok(0);
            let length = output.pos();
            all.extend_from_slice(&plain[..length]);
        }
        (all, ended)
    }

    /// Steps until the machine has nothing more to say.
    fn pump(&mut self) {
        if self.closed.is_some() {
            return;
        }
        let (events, mut closed) = pump(&mut self.machine, &mut self.input, self.chunk, self.now);
        self.events.extend(events.iter().map(self.render));
        if self.ended && closed.is_none() && !self.machine.blocked() {
            closed = self.machine.end_of_input(self.now).err();
        }
        self.closed = closed;
        self.output.append(self.machine.output());
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b' ').collect();
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).expect("hex digits are ASCII");
        u8::from_str_radix(pair, 16).expect("two hex digits")
    };
    digits.chunks(2).map(byte).collect()
}
