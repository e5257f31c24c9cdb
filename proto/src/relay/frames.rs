//! Cuts what comes in into frames. `DATA` is not collected but passed on as it comes; other payloads are short, and
//! wait until they are whole.

use alloc::vec::Vec;

use super::{
    Violation,
    frame::{DATA, Frame, Kind, OPTIONAL, check_length, kind_of, parse_header},
    limits::{HEADER, PAYLOAD_MAX},
};

/// What has come of a frame.
#[derive(Debug)]
pub(crate) enum Frames {
    /// The beginning of a header.
    Header { bytes: [u8; HEADER], have: usize },
    /// The beginning of a payload.
    Payload { kind: &'static Kind, length: usize, have: Vec<u8> },
    /// What is left of a `DATA` frame.
    Data(usize),
    /// What is left of a frame that nobody here knows.
    Unknown(usize),
}

impl Frames {
    pub(crate) fn new() -> Self {
        Frames::Header { bytes: [0; HEADER], have: 0 }
    }

    /// Uses bytes up to the end of a frame, or of a `DATA` frame's header, or all.
    pub(crate) fn take(
        &mut self,
        input: &[u8],
        in_turn: impl Fn(&Kind) -> bool,
    ) -> Result<(usize, Option<Frame>), Violation> {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            match self {
                Frames::Header { bytes, have } => {
                    let count = rest.len().min(HEADER - *have);
                    bytes[*have..*have + count].copy_from_slice(&rest[..count]);
                    *have += count;
                    used += count;
                    if *have < HEADER {
                        return Ok((used, None));
                    }
                    *self = Self::begun(*bytes, &in_turn)?;
                }
                Frames::Payload { kind, length, have } if have.is_empty() && rest.len() >= *length => {
                    let frame = Frame::parse(kind, &rest[..*length])?;
                    used += *length;
                    *self = Frames::new();
                    return Ok((used, Some(frame)));
                }
                Frames::Payload { kind, length, have } => {
                    let count = rest.len().min(*length - have.len());
                    have.extend_from_slice(&rest[..count]);
                    used += count;
                    if have.len() < *length {
                        return Ok((used, None));
                    }
                    let frame = Frame::parse(kind, have)?;
                    *self = Frames::new();
                    return Ok((used, Some(frame)));
                }
                Frames::Data(0) | Frames::Unknown(0) => *self = Frames::new(),
                Frames::Data(_) => return Ok((used, None)),
                Frames::Unknown(left) => {
                    let count = rest.len().min(*left);
                    *left -= count;
                    used += count;
                    if *left > 0 {
                        return Ok((used, None));
                    }
                }
            }
        }
    }

    /// What a header begins: refused before a byte of the payload is kept.
    fn begun(header: [u8; HEADER], in_turn: impl Fn(&Kind) -> bool) -> Result<Self, Violation> {
        let (code, length) = parse_header(header);
        let Some(kind) = kind_of(code) else {
            let most = PAYLOAD_MAX;
            return match code & OPTIONAL {
                0 => Err(Violation::UnknownFrame(code)),
                _ if length > most => {
                    Err(Violation::Length { frame: "an unknown frame", length, least: 0, most })
                }
                _ => Ok(Frames::Unknown(length)),
            };
        };
        if !in_turn(kind) {
            return Err(Violation::OutOfTurn(kind.name));
        }
        check_length(kind, length)?;
        if *kind == DATA {
            return Ok(Frames::Data(length));
        }
        Ok(Frames::Payload { kind, length, have: Vec::new() })
    }

    /// How many of the next bytes are `DATA`.
    pub(crate) fn data(&self) -> usize {
        if let Frames::Data(left) = self { *left } else { 0 }
    }

    pub(crate) fn data_used(&mut self, count: usize) {
        if let Frames::Data(left) = self {
            *left -= count;
        }
    }

    /// Whether the next byte begins a frame.
    pub(crate) fn is_between(&self) -> bool {
        matches!(self, Frames::Header { have: 0, .. } | Frames::Data(0) | Frames::Unknown(0))
    }
}
