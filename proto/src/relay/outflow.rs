//! The package stream as it goes out: compressed straight into `DATA` frames at the end of the output.
//!
//! The context exists from the first byte after a rest to the end of the zstd frame; its window is what makes packages
//! of the same agents cost next to nothing. Level and parameters were chosen by measurement: see `PROTOCOL.md`.

use alloc::{boxed::Box, vec::Vec};
use core::fmt;

use zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer, zstd_sys::ZSTD_EndDirective};

use super::{
    frame::{self, DATA},
    limits::{HEADER, PAYLOAD_MAX, WINDOW_LOG},
};

/// What is offered to the compressor at once.
const STEP: usize = 16_384;

const LEVEL: i32 = 3;

/// The compressor.
#[derive(Default)]
pub(crate) struct Outflow {
    context: Option<Box<CCtx<'static>>>,
    unflushed: bool,
}

impl Outflow {
    /// Whether a zstd frame has begun and not ended.
    pub(crate) fn is_open(&self) -> bool {
        self.context.is_some()
    }

    /// Whether the compressor may hold something back.
    pub(crate) fn is_unflushed(&self) -> bool {
        self.unflushed
    }

    pub(crate) fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.unflushed = true;
        self.run(bytes, ZSTD_EndDirective::ZSTD_e_continue, out);
    }

    pub(crate) fn flush(&mut self, out: &mut Vec<u8>) {
        if self.unflushed {
            self.unflushed = false;
            self.run(&[], ZSTD_EndDirective::ZSTD_e_flush, out);
        }
    }

    /// Ends the zstd frame, and frees the context.
    pub(crate) fn end(&mut self, out: &mut Vec<u8>) {
        if self.is_open() {
            self.run(&[], ZSTD_EndDirective::ZSTD_e_end, out);
            *self = Outflow::default();
        }
    }

    fn run(&mut self, bytes: &[u8], directive: ZSTD_EndDirective, out: &mut Vec<u8>) {
        let context = self.context.get_or_insert_with(|| Box::new(context()));
        let mut input = InBuffer::around(bytes);
        let mut frame = out.len();
        frame::open(DATA.code, out);
        loop {
            let filled = out.len();
            let full = frame + HEADER + PAYLOAD_MAX;
            out.resize((filled + STEP).min(full), 0);
            let mut output = OutBuffer::around(&mut out[filled..]);
            let left = context
                .compress_stream2(&mut output, &mut input, directive)
                .expect("with valid parameters the compressor lacks nothing but memory");
            let written = output.pos();
            out.truncate(filled + written);
            let flushed = left == 0 || directive == ZSTD_EndDirective::ZSTD_e_continue;
            if flushed && input.pos() == bytes.len() {
                break;
            }
            if out.len() == full {
                frame::close(frame, out);
                frame = out.len();
                frame::open(DATA.code, out);
            }
        }
        if out.len() > frame + HEADER {
            frame::close(frame, out);
        } else {
            out.truncate(frame);
        }
    }
}

fn context() -> CCtx<'static> {
    let mut context = CCtx::create();
    for parameter in [
        CParameter::CompressionLevel(LEVEL),
        CParameter::WindowLog(WINDOW_LOG),
        // TLS and each package's digest see to that already.
        CParameter::ChecksumFlag(false),
    ] {
        context.set_parameter(parameter).expect("zstd knows this parameter");
    }
    context
}

impl fmt::Debug for Outflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outflow").field("open", &self.is_open()).field("unflushed", &self.unflushed).finish()
    }
}
