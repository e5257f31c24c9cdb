//! The package stream as it comes in: zstd frames back to back, decompressed a step at a time.
//!
//! ```text
//!  Header ──its bytes are there, and allow a decoder──▶ Waiting ──the owner grants one──▶ Open ──end of the frame──▶ Header
//! ```
//!
//! Nothing large exists before the frame's own header was checked and the owner has agreed, and nothing when the frame
//! has ended. At most [`INFLATED_STEP`] bytes are decompressed before they are counted, so a bomb costs one step.

use alloc::{boxed::Box, vec, vec::Vec};
use core::fmt;

use zstd_safe::{
    DCtx, DParameter, InBuffer, MAGIC_SKIPPABLE_MASK, MAGIC_SKIPPABLE_START, MAGICNUMBER, OutBuffer,
};

use super::{
    PullerEvent, Violation,
    limits::{BARREN_MAX, INFLATED_STEP, WINDOW_LOG},
    record::{Part, Records},
};

/// The longest beginning of a zstd frame that says how large its window is: magic, descriptor, content size.
const HEADER_MAX: usize = 4 + 1 + 8;

/// The stream, up to its records.
#[derive(Debug)]
pub(crate) struct Inflow {
    pub(crate) records: Records,
    state: State,
}

#[derive(Debug)]
enum State {
    Header(Header),
    Waiting { header: Header, asked: bool },
    Open(Box<Open>),
}

/// What has come of a zstd frame's header.
#[derive(Clone, Copy, Debug, Default)]
struct Header {
    bytes: [u8; HEADER_MAX],
    length: usize,
}

/// A frame being decompressed.
struct Open {
    context: DCtx<'static>,
    /// What came out last, and where in it the records stand.
    plain: Vec<u8>,
    at: usize,
    end: usize,
    /// There may be more without further input.
    more: bool,
    ended: bool,
    /// Compressed bytes since something came out; whether anything ever did.
    barren: usize,
    fruitful: bool,
}

impl Inflow {
    pub(crate) fn new(max_package: u64) -> Self {
        Inflow { records: Records::new(max_package), state: State::Header(Header::default()) }
    }

    /// What there is to tell without further input.
    pub(crate) fn event(&mut self) -> Result<Option<PullerEvent>, Violation> {
        let open = match &mut self.state {
            State::Header(_) | State::Waiting { asked: true, .. } => return Ok(None),
            State::Waiting { asked, .. } => {
                *asked = true;
                return Ok(Some(PullerEvent::DecoderNeeded));
            }
            State::Open(open) => open,
        };
        loop {
            let rest = &open.plain[open.at..open.end];
            let (used, part) = self.records.take(rest)?;
            let event = part.map(|part| told(part, rest));
            open.at += used;
            if event.is_some() {
                return Ok(event);
            }
            if open.ended {
                self.state = State::Header(Header::default());
                return Ok(Some(PullerEvent::DecoderFreed));
            }
            if !open.more {
                return Ok(None);
            }
            open.inflate(&[])?;
        }
    }

    /// Whether [`event`](Self::event) may have something.
    pub(crate) fn is_due(&self) -> bool {
        match &self.state {
            State::Header(_) => false,
            State::Waiting { asked, .. } => !asked,
            State::Open(open) => open.at < open.end || open.more || open.ended || self.records.is_due(),
        }
    }

    /// Whether there is a decoder.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Whether the owner has still to grant a decoder.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting { asked: true, .. })
    }

    /// Forgets everything: the connection is over.
    pub(crate) fn free(&mut self) {
        self.state = State::Header(Header::default());
    }

    /// The owner agrees to a decoder. Whether it was asked.
    pub(crate) fn decoder_granted(&mut self) -> bool {
        let State::Waiting { header, asked: true } = self.state else { return false };
        self.state = State::Open(Box::new(Open::new(header)));
        true
    }

    /// Takes compressed bytes, once there is nothing more to tell: how many of them were used, at least one.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        match &mut self.state {
            State::Header(header) => {
                let used = header.take(bytes)?;
                if header.is_whole() {
                    self.state = State::Waiting { header: *header, asked: false };
                }
                Ok(used)
            }
            State::Waiting { .. } => Ok(0),
            State::Open(open) => open.inflate(bytes),
        }
    }
}

fn told(part: Part, bytes: &[u8]) -> PullerEvent {
    match part {
        Part::Package(head) => PullerEvent::Package(head),
        Part::Skipped(head) => PullerEvent::Skipped(head),
        Part::Body(length) => PullerEvent::Body(bytes[..length].to_vec()),
        Part::End => PullerEvent::PackageEnd,
    }
}

impl Header {
    /// Takes what belongs to the header. Refuses what must not reach a decoder.
    fn take(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        let mut used = 0;
        while let Some(byte) = bytes.get(used)
            && !self.is_whole()
        {
            self.bytes[self.length] = *byte;
            self.length += 1;
            used += 1;
            if self.length == 4 {
                self.check_magic()?;
            }
        }
        if self.is_whole() {
            self.check()?;
        }
        Ok(used)
    }

    fn descriptor(&self) -> Option<u8> {
        self.bytes[..self.length].get(4).copied()
    }

    /// RFC 8878, 3.1.1.1: the window's descriptor, or in a frame of a single segment the size of the content.
    fn is_whole(&self) -> bool {
        match self.descriptor() {
            None => false,
            Some(descriptor) if is_single(descriptor) => self.length == 5 + content_size_bytes(descriptor),
            Some(_) => self.length == 6,
        }
    }

    fn check_magic(&self) -> Result<(), Violation> {
        let [a, b, c, d, ..] = self.bytes;
        match u32::from_le_bytes([a, b, c, d]) {
            MAGICNUMBER => Ok(()),
            magic if magic & MAGIC_SKIPPABLE_MASK == MAGIC_SKIPPABLE_START => Err(Violation::Skippable),
            _ => Err(Violation::NotZstd),
        }
    }

    fn check(&self) -> Result<(), Violation> {
        let descriptor = self.bytes[4];
        if descriptor & 0b11 != 0 {
            return Err(Violation::Dictionary);
        }
        let window = self.window(descriptor);
        if window > 1 << WINDOW_LOG { Err(Violation::Window(window)) } else { Ok(()) }
    }

    fn window(&self, descriptor: u8) -> u64 {
        if is_single(descriptor) {
            let mut size = [0; 8];
            size[..content_size_bytes(descriptor)].copy_from_slice(&self.bytes[5..self.length]);
            let offset = if content_size_bytes(descriptor) == 2 { 256 } else { 0 };
            return u64::from_le_bytes(size).saturating_add(offset);
        }
        let (exponent, mantissa) = (self.bytes[5] >> 3, self.bytes[5] & 0b111);
        let base = 1_u64 << (10 + u32::from(exponent));
        base + base / 8 * u64::from(mantissa)
    }
}

fn is_single(descriptor: u8) -> bool {
    descriptor & 0x20 != 0
}

fn content_size_bytes(descriptor: u8) -> usize {
    match descriptor >> 6 {
        0 if is_single(descriptor) => 1,
        0 => 0,
        1 => 2,
        2 => 4,
        _ => 8,
    }
}

impl Open {
    /// A decoder that has been given the header.
    fn new(header: Header) -> Self {
        let mut context = DCtx::create();
        context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG)).expect("zstd knows this window");
        let mut open = Open {
            context,
            plain: vec![0; INFLATED_STEP],
            at: 0,
            end: 0,
            more: false,
            ended: false,
            barren: 0,
            fruitful: false,
        };
        // What zstd finds wrong with a header it says again, when more comes.
        let _ = open.inflate(&header.bytes[..header.length]);
        open
    }

    fn inflate(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        let mut input = InBuffer::around(bytes);
        let mut output = OutBuffer::around(&mut self.plain[..]);
        let left = self.context.decompress_stream(&mut output, &mut input);
        let left = left.map_err(|code| Violation::Zstd(zstd_safe::get_error_name(code)))?;
        (self.at, self.end) = (0, output.pos());
        self.ended = left == 0;
        self.more = self.end == self.plain.len() && !self.ended;
        self.barren = if self.end == 0 { self.barren + input.pos() } else { 0 };
        self.fruitful |= self.end > 0;
        if self.ended && !self.fruitful {
            return Err(Violation::EmptyFrame);
        }
        // At the end of a frame the rest is another one's.
        let stuck = !self.ended && self.end == 0 && input.pos() < bytes.len();
        if stuck || self.barren > BARREN_MAX {
            return Err(Violation::Barren);
        }
        Ok(input.pos())
    }
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open").field("at", &self.at).field("end", &self.end).finish_non_exhaustive()
    }
}
