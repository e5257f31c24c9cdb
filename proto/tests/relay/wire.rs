//! What one end writes, put together by hand, and the other end that reads it.

use tidegate_proto::relay::frame::{Frame, write_head, write_raw};
use tidegate_proto::relay::{
    CloseCode, Hello, Node, NodeEvent, Number, Puller, PullerEvent, Purpose, Violation,
};
use tidegate_proto::{Close, Machine, Time};
use zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer};

use crate::pair::{hello, pump, welcome};

pub(crate) const PACKAGE: u8 = 1;
pub(crate) const SKIPPED: u8 = 2;
pub(crate) const CREDIT: u64 = 1 << 20;

pub(crate) fn frames(frames: &[Frame]) -> Vec<u8> {
    let mut out = Vec::new();
    frames.iter().for_each(|frame| frame.write(&mut out));
    out
}

pub(crate) fn raw(code: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_raw(code, payload, &mut out);
    out
}

/// A record without a body.
pub(crate) fn head(kind: u8, counter: u64, size: u64, name: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_head(kind, Number { run: 7, counter }, 5, size, 6, name, &mut out);
    out
}

/// A record with its body.
pub(crate) fn record(counter: u64, body: &[u8]) -> Vec<u8> {
    [head(PACKAGE, counter, body.len() as u64, b"a.data"), body.into()].concat()
}

/// One whole zstd frame, as our own node makes it.
pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd_with(bytes, &[CParameter::WindowLog(20)])
}

pub(crate) fn zstd_with(bytes: &[u8], parameters: &[CParameter]) -> Vec<u8> {
    let mut context = CCtx::create();
    for parameter in parameters {
        context.set_parameter(*parameter).expect("zstd knows it");
    }
    let mut out = vec![0; zstd_safe::compress_bound(bytes.len()) + 64];
    let mut output = OutBuffer::around(&mut out[..]);
    // In two steps: the size of the content shall not be known at the beginning.
    let mut input = InBuffer::around(bytes);
    while input.pos() < bytes.len() {
        context
            .compress_stream2(&mut output, &mut input, ZSTD_EndDirective::ZSTD_e_continue)
            .expect("it can be compressed");
    }
    assert_eq!(context.compress_stream2(&mut output, &mut input, ZSTD_EndDirective::ZSTD_e_end), Ok(0));
    let length = output.pos();
    out.truncate(length);
    out
}

/// Compressed bytes in frames.
pub(crate) fn data(compressed: &[u8]) -> Vec<u8> {
    compressed.chunks(65_536).flat_map(|chunk| raw(0x12, chunk)).collect()
}

/// Records, compressed, in frames.
pub(crate) fn stream(records: &[u8]) -> Vec<u8> {
    data(&zstd(records))
}

/// A puller that was welcomed and has given credit.
pub(crate) fn puller(purpose: Purpose) -> Puller {
    puller_with(hello(purpose))
}

pub(crate) fn puller_with(hello: Hello) -> Puller {
    let stream = hello.purpose == Purpose::Stream;
    let mut puller = Puller::new(hello, Time::ZERO);
    if stream {
        puller.grant(CREDIT);
    }
    let (events, close) = hear(&mut puller, &frames(&[Frame::Welcome(welcome())]), usize::MAX);
    assert_eq!((events, close), (vec![PullerEvent::Welcome(welcome())], None));
    puller.output().clear();
    puller
}

/// What a puller with an obliging owner makes of the bytes.
pub(crate) fn hear(puller: &mut Puller, bytes: &[u8], chunk: usize) -> (Vec<PullerEvent>, Option<Close>) {
    let (mut input, mut all) = (bytes.to_vec(), Vec::new());
    loop {
        let (events, close) = pump(puller, &mut input, chunk, Time::ZERO);
        let asked = events.last() == Some(&PullerEvent::DecoderNeeded);
        all.extend(events);
        if close.is_some() || !asked {
            return (all, close);
        }
        puller.decoder_granted(Time::ZERO);
    }
}

/// A node that has welcomed.
pub(crate) fn node(purpose: Purpose) -> Node {
    let mut node = Node::new(Time::from_secs(5), Time::ZERO);
    let mut input = frames(&[Frame::Hello(hello(purpose))]);
    let (events, close) = pump(&mut node, &mut input, usize::MAX, Time::ZERO);
    assert_eq!((events, close), (vec![NodeEvent::Hello(hello(purpose))], None));
    assert!(node.blocked() && node.output().is_empty());
    node.welcome(welcome(), Time::ZERO);
    assert_eq!(said(&mut node), [Frame::Welcome(welcome())]);
    node
}

/// The frames that a machine has written; `DATA` is left out.
pub(crate) fn said(machine: &mut impl Machine) -> Vec<Frame> {
    let output = std::mem::take(machine.output());
    let (mut rest, mut all) = (&output[..], Vec::new());
    while !rest.is_empty() {
        let (frame, length) = Frame::read(rest).expect("frames are right").expect("frames are written whole");
        all.push(frame);
        rest = &rest[length..];
    }
    all.retain(|frame| !matches!(frame, Frame::Data(_)));
    all
}

/// The machine closes over this, and tells its peer so.
pub(crate) fn assert_violation(machine: &mut impl Machine, close: Option<Close>, text: &str) {
    let Some(Close::Violation(violation)) = close else { panic!("{text:?} expected, not {close:?}") };
    let reason = violation.to_string();
    assert!(reason.contains(text), "{text:?} expected, not {reason:?}");
    let Some(Frame::Close(farewell)) = said(machine).pop() else {
        panic!("nothing was said about {reason:?}")
    };
    let code = match violation {
        Violation::Version(_) => CloseCode::Version,
        _ => CloseCode::Protocol,
    };
    assert_eq!((farewell.code, farewell.text), (code, reason));
    // Over is over.
    assert!(machine.step(&[], Time::ZERO).is_err() && machine.end_of_input(Time::ZERO).is_err());
    assert!(machine.output().is_empty());
}
