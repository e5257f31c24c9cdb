//! Frames: a kind, a length, a payload. One table says who may send which, and how long it may be.
//!
//! Public so that a test can write any frame, right ([`Frame::write`]) or wrong ([`write_raw`]).

use alloc::{boxed::Box, vec::Vec};

pub use super::record::write_head;
use super::{
    Farewell, Hello, LossRecord, Number, SharedAnswer, SharedRequest, Status, Violation, Welcome,
    limits::{HEADER, PAYLOAD_MAX, SHARED_BUCKETS, SHARED_PART, TEXT_MAX},
    wire::{Fields, put_number},
};
use crate::limits::LISTED_NAME_MAX;

/// Kinds with this bit may be passed over by an end that does not know them.
pub const OPTIONAL: u8 = 0x80;

/// Who sends a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The end that dials.
    Puller,
    /// The end that listens.
    Node,
    /// Either.
    Both,
}

/// A kind of frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// What stands in the header.
    pub code: u8,
    /// What people call it.
    pub name: &'static str,
    /// Who sends it.
    pub sender: Sender,
    /// The shortest payload.
    pub least: usize,
    /// The longest payload.
    pub most: usize,
}

impl Kind {
    const fn new(code: u8, name: &'static str, sender: Sender, least: usize, most: usize) -> Self {
        Kind { code, name, sender, least, most }
    }

    /// Whether it is of the dialogue about shared files.
    pub(crate) fn is_shared(&self) -> bool {
        SHARED.contains(self)
    }
}

const HELLO: Kind = Kind::new(0x01, "HELLO", Sender::Puller, 42, 512);
const CREDIT: Kind = Kind::new(0x02, "CREDIT", Sender::Puller, 8, 8);
const ACK: Kind = Kind::new(0x03, "ACK", Sender::Puller, 16, 16);
const LOSS_ACK: Kind = Kind::new(0x04, "LOSS_ACK", Sender::Puller, 16, 16);
const LIST: Kind = Kind::new(0x05, "LIST", Sender::Puller, 0, 0);
pub(crate) const SUMMARY: Kind = Kind::new(0x06, "SUMMARY", Sender::Puller, 0, 0);
pub(crate) const LOOK_INTO: Kind = Kind::new(0x07, "LOOK_INTO", Sender::Puller, 2, 2 * SHARED_BUCKETS);
pub(crate) const FETCH: Kind = Kind::new(0x08, "FETCH", Sender::Puller, 41 + 1, 41 + LISTED_NAME_MAX);
pub(crate) const PLACE: Kind = Kind::new(0x09, "PLACE", Sender::Puller, 74 + 1, 74 + LISTED_NAME_MAX);
pub(crate) const PART: Kind = Kind::new(0x0a, "PART", Sender::Puller, 1, SHARED_PART);
pub(crate) const REMOVE: Kind = Kind::new(0x0b, "REMOVE", Sender::Puller, 33 + 1, 33 + LISTED_NAME_MAX);
const YIELD: Kind = Kind::new(0x86, "YIELD", Sender::Puller, 0, 0);
const WELCOME: Kind = Kind::new(0x11, "WELCOME", Sender::Node, 37, 512);
pub(crate) const DATA: Kind = Kind::new(0x12, "DATA", Sender::Node, 1, PAYLOAD_MAX);
const DRY: Kind = Kind::new(0x13, "DRY", Sender::Node, 0, 0);
const DELETED: Kind = Kind::new(0x14, "DELETED", Sender::Node, 16, 16);
const LOSSES: Kind = Kind::new(0x15, "LOSSES", Sender::Node, 50, PAYLOAD_MAX);
const LISTING: Kind = Kind::new(0x16, "LISTING", Sender::Node, 1, PAYLOAD_MAX);
pub(crate) const BUCKETS: Kind =
    Kind::new(0x17, "BUCKETS", Sender::Node, 8 * SHARED_BUCKETS, 8 * SHARED_BUCKETS);
pub(crate) const ITEMS: Kind = Kind::new(0x18, "ITEMS", Sender::Node, 1, PAYLOAD_MAX);
pub(crate) const CONTENT: Kind = Kind::new(0x19, "CONTENT", Sender::Node, 1, 1 + SHARED_PART);
pub(crate) const OUTCOME: Kind = Kind::new(0x1a, "OUTCOME", Sender::Node, 42, 42 + TEXT_MAX);
const STATUS: Kind = Kind::new(0x91, "STATUS", Sender::Node, 0, 4096);
const PING: Kind = Kind::new(0x21, "PING", Sender::Both, 8, 8);
const PONG: Kind = Kind::new(0x22, "PONG", Sender::Both, 8, 8);
const CLOSE: Kind = Kind::new(0x23, "CLOSE", Sender::Both, 9, 9 + TEXT_MAX);

/// Every kind of frame.
pub const KINDS: [Kind; 26] = [
    HELLO, CREDIT, ACK, LOSS_ACK, LIST, SUMMARY, LOOK_INTO, FETCH, PLACE, PART, REMOVE, WELCOME, DATA, DRY,
    DELETED, LOSSES, LISTING, BUCKETS, ITEMS, CONTENT, OUTCOME, STATUS, PING, PONG, CLOSE, YIELD,
];

/// The dialogue about shared files.
const SHARED: [Kind; 10] = [SUMMARY, LOOK_INTO, FETCH, PLACE, PART, REMOVE, BUCKETS, ITEMS, CONTENT, OUTCOME];

/// A whole frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Who the puller is and what it wants.
    Hello(Hello),
    /// What the node may send in all.
    Credit(u64),
    /// Everything up to this package may be deleted.
    Ack(Number),
    /// Everything up to this loss record is known.
    LossAck(Number),
    /// A listing is wanted.
    List,
    /// The compressed frame is to end: others wait for a decoder.
    Yield,
    /// Who the node is.
    Welcome(Welcome),
    /// A part of the compressed package stream.
    Data(Vec<u8>),
    /// Everything so far has been sent.
    Dry,
    /// Everything acknowledged up to this package is deleted, durably.
    Deleted(Number),
    /// Loss records.
    Losses(Vec<LossRecord>),
    /// A part of a listing.
    Listing {
        /// Names, joined by line ends.
        names: Vec<u8>,
        /// Whether it is the last part.
        last: bool,
    },
    /// A request about shared files.
    Ask(SharedRequest),
    /// The answer to one, or a part of it.
    Answer(SharedAnswer),
    /// A node's numbers.
    Status(Box<Status>),
    /// Are you there?
    Ping(u64),
    /// Yes.
    Pong(u64),
    /// The end.
    Close(Farewell),
}

impl Frame {
    /// Its row in the table.
    pub fn kind(&self) -> Kind {
        match self {
            Frame::Hello(_) => HELLO,
            Frame::Credit(_) => CREDIT,
            Frame::Ack(_) => ACK,
            Frame::LossAck(_) => LOSS_ACK,
            Frame::List => LIST,
            Frame::Yield => YIELD,
            Frame::Welcome(_) => WELCOME,
            Frame::Data(_) => DATA,
            Frame::Dry => DRY,
            Frame::Deleted(_) => DELETED,
            Frame::Losses(_) => LOSSES,
            Frame::Listing { .. } => LISTING,
            Frame::Ask(request) => request.kind(),
            Frame::Answer(answer) => answer.kind(),
            Frame::Status(_) => STATUS,
            Frame::Ping(_) => PING,
            Frame::Pong(_) => PONG,
            Frame::Close(_) => CLOSE,
        }
    }

    /// Appends the frame.
    pub fn write(&self, out: &mut Vec<u8>) {
        let at = out.len();
        open(self.kind().code, out);
        match self {
            Frame::Hello(hello) => hello.write(out),
            Frame::Welcome(welcome) => welcome.write(out),
            Frame::Credit(number) | Frame::Ping(number) | Frame::Pong(number) => {
                out.extend_from_slice(&number.to_be_bytes());
            }
            Frame::Ack(number) | Frame::LossAck(number) | Frame::Deleted(number) => put_number(*number, out),
            Frame::List | Frame::Yield | Frame::Dry => {}
            Frame::Data(bytes) => out.extend_from_slice(bytes),
            Frame::Losses(records) => records.iter().for_each(|record| record.write(out)),
            Frame::Listing { names, last } => {
                out.push((*last).into());
                out.extend_from_slice(names);
            }
            Frame::Ask(request) => request.write(out),
            Frame::Answer(answer) => answer.write(out),
            Frame::Status(status) => status.write(out),
            Frame::Close(farewell) => farewell.write(out),
        }
        close(at, out);
    }

    /// The frame at the front of `bytes` and its length, once it is all there.
    ///
    /// # Errors
    /// What is wrong with it, as either end would say. An unknown frame is an error here, also one that may be skipped.
    pub fn read(bytes: &[u8]) -> Result<Option<(Self, usize)>, Violation> {
        let Some((header, rest)) = bytes.split_first_chunk() else { return Ok(None) };
        let (code, length) = parse_header(*header);
        let kind = *kind_of(code).ok_or(Violation::UnknownFrame(code))?;
        check_length(&kind, length)?;
        let Some(payload) = rest.get(..length) else { return Ok(None) };
        Ok(Some((Frame::parse(&kind, payload)?, HEADER + length)))
    }

    /// Reads a payload whose length fits its kind.
    pub(crate) fn parse(kind: &Kind, payload: &[u8]) -> Result<Self, Violation> {
        let mut fields = Fields::new(kind.name, payload);
        let frame = match kind.code {
            code if code == HELLO.code => return Ok(Frame::Hello(Hello::read(payload)?)),
            code if code == WELCOME.code => return Ok(Frame::Welcome(Welcome::read(payload)?)),
            code if code == DATA.code => return Ok(Frame::Data(payload.into())),
            code if code == LOSSES.code => return Ok(Frame::Losses(LossRecord::read_all(payload)?)),
            code if code == STATUS.code => return Ok(Frame::Status(Box::new(Status::read(payload)))),
            code if code == CLOSE.code => return Ok(Frame::Close(Farewell::read(payload)?)),
            code if code == LISTING.code => {
                let last = fields.flag("is neither the last part nor another")?;
                return Ok(Frame::Listing { names: fields.rest().into(), last });
            }
            code if code == CREDIT.code => Frame::Credit(fields.u64()?),
            code if code == ACK.code => Frame::Ack(fields.number()?),
            code if code == LOSS_ACK.code => Frame::LossAck(fields.number()?),
            code if code == DELETED.code => Frame::Deleted(fields.number()?),
            code if code == LIST.code => Frame::List,
            code if code == DRY.code => Frame::Dry,
            code if code == YIELD.code => Frame::Yield,
            code if code == PING.code => Frame::Ping(fields.u64()?),
            code if code == PONG.code => Frame::Pong(fields.u64()?),
            _ if kind.sender == Sender::Puller => return SharedRequest::read(kind, payload).map(Frame::Ask),
            _ => return SharedAnswer::read(kind, payload).map(Frame::Answer),
        };
        fields.end()?;
        Ok(frame)
    }
}

/// Appends any frame, right or wrong: for tests.
pub fn write_raw(code: u8, payload: &[u8], out: &mut Vec<u8>) {
    let at = out.len();
    open(code, out);
    out.extend_from_slice(payload);
    close(at, out);
}

/// Begins a frame, whose length is not known yet.
pub(crate) fn open(code: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(&[code, 0, 0, 0]);
}

/// Ends the frame that began at `at`.
pub(crate) fn close(at: usize, out: &mut [u8]) {
    let length = u32::try_from(out.len() - at - HEADER).unwrap_or(u32::MAX);
    let [_, length @ ..] = length.to_be_bytes();
    out[at + 1..at + HEADER].copy_from_slice(&length);
}

/// The kind and the length of the payload.
pub(crate) fn parse_header([code, length @ ..]: [u8; HEADER]) -> (u8, usize) {
    let [a, b, c] = length;
    (code, usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c))
}

pub(crate) fn kind_of(code: u8) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.code == code)
}

pub(crate) fn check_length(kind: &Kind, length: usize) -> Result<(), Violation> {
    let Kind { name: frame, least, most, .. } = *kind;
    if (least..=most).contains(&length) {
        Ok(())
    } else {
        Err(Violation::Length { frame, length, least, most })
    }
}
