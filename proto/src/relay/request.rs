//! What a puller asks of a node about shared files. Each request has one answer ([`SharedAnswer`](super::SharedAnswer)),
//! in order.

use alloc::vec::Vec;

use super::{
    Violation,
    frame::{self, Kind},
    limits::{HEADER, SHARED_BUCKETS, SHARED_PART},
    wire::{Fields, put_digest_if_any, put_name},
};
use crate::Name;

/// The SHA-256 of a shared file.
pub type Digest = [u8; 32];

/// A question about shared files, or an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SharedRequest {
    /// The values of all buckets are wanted.
    Summary,
    /// What lies in these buckets is wanted. Each is less than [`SHARED_BUCKETS`] and more than the one before; at least
    /// one.
    LookInto(Vec<u16>),
    /// A part of a file is wanted.
    Fetch {
        /// The file.
        name: Name,
        /// The content that is meant.
        digest: Digest,
        /// Where the part begins.
        offset: u64,
    },
    /// A file is to be placed, if what is there is what is expected. Its bytes follow as [`Part`](Self::Part)s, if they are
    /// wanted.
    Place {
        /// The file.
        name: Name,
        /// What is to be there before; nothing for `None`.
        expected: Option<Digest>,
        /// The new content.
        digest: Digest,
        /// Its bytes.
        size: u64,
    },
    /// Bytes of the file that is being placed: at least one, at most [`SHARED_PART`]. Any other request
    /// ends the placing.
    Part(Vec<u8>),
    /// A file is to be removed, if it is what is expected.
    Remove {
        /// The file.
        name: Name,
        /// What is to be there before.
        expected: Digest,
    },
}

impl SharedRequest {
    /// Its frame.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            SharedRequest::Summary => frame::SUMMARY,
            SharedRequest::LookInto(_) => frame::LOOK_INTO,
            SharedRequest::Fetch { .. } => frame::FETCH,
            SharedRequest::Place { .. } => frame::PLACE,
            SharedRequest::Part(_) => frame::PART,
            SharedRequest::Remove { .. } => frame::REMOVE,
        }
    }

    /// The frame of its answer.
    pub(crate) fn answer(&self) -> Kind {
        match self {
            SharedRequest::Summary => frame::BUCKETS,
            SharedRequest::LookInto(_) => frame::ITEMS,
            SharedRequest::Fetch { .. } => frame::CONTENT,
            SharedRequest::Place { .. } | SharedRequest::Part(_) | SharedRequest::Remove { .. } => {
                frame::OUTCOME
            }
        }
    }

    /// What it counts of [`SHARED_IN_FLIGHT`](super::limits::SHARED_IN_FLIGHT): its own frame or that of its answer,
    /// whichever may be longer.
    pub(crate) fn cost(&self) -> usize {
        let own = match self {
            SharedRequest::Part(bytes) => bytes.len(),
            _ => self.kind().most,
        };
        HEADER + own.max(self.answer().most)
    }

    /// Whether the other end would read it.
    pub(crate) fn is_sound(&self) -> bool {
        match self {
            SharedRequest::LookInto(buckets) => !buckets.is_empty() && are_buckets(buckets),
            SharedRequest::Part(bytes) => (1..=SHARED_PART).contains(&bytes.len()),
            _ => true,
        }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            SharedRequest::Summary => {}
            SharedRequest::LookInto(buckets) => {
                buckets.iter().for_each(|bucket| out.extend_from_slice(&bucket.to_be_bytes()));
            }
            SharedRequest::Fetch { name, digest, offset } => {
                out.extend_from_slice(digest);
                out.extend_from_slice(&offset.to_be_bytes());
                put_name(name, out);
            }
            SharedRequest::Place { name, expected, digest, size } => {
                put_digest_if_any(expected.as_ref(), out);
                out.extend_from_slice(digest);
                out.extend_from_slice(&size.to_be_bytes());
                put_name(name, out);
            }
            SharedRequest::Part(bytes) => out.extend_from_slice(bytes),
            SharedRequest::Remove { name, expected } => {
                out.extend_from_slice(expected);
                put_name(name, out);
            }
        }
    }

    /// Reads the payload of a frame of this sort.
    pub(crate) fn read(kind: &Kind, payload: &[u8]) -> Result<Self, Violation> {
        let mut fields = Fields::new(kind.name, payload);
        let request = match kind.code {
            code if code == frame::SUMMARY.code => SharedRequest::Summary,
            code if code == frame::LOOK_INTO.code => {
                let mut buckets = Vec::with_capacity(payload.len() / size_of::<u16>());
                while !fields.is_empty() {
                    buckets.push(fields.u16()?);
                }
                if !are_buckets(&buckets) {
                    return Err(fields.malformed("holds buckets that do not grow, or that do not exist"));
                }
                SharedRequest::LookInto(buckets)
            }
            code if code == frame::FETCH.code => {
                let (digest, offset) = (fields.digest()?, fields.u64()?);
                SharedRequest::Fetch { name: fields.name()?, digest, offset }
            }
            code if code == frame::PLACE.code => {
                let (expected, digest, size) = (fields.digest_if_any()?, fields.digest()?, fields.u64()?);
                SharedRequest::Place { name: fields.name()?, expected, digest, size }
            }
            code if code == frame::PART.code => return Ok(SharedRequest::Part(payload.into())),
            code if code == frame::REMOVE.code => {
                let expected = fields.digest()?;
                SharedRequest::Remove { name: fields.name()?, expected }
            }
            code => return Err(Violation::UnknownFrame(code)),
        };
        fields.end()?;
        Ok(request)
    }
}

/// Each more than the one before: none twice, so a request costs a node no more than one look at everything.
fn are_buckets(buckets: &[u16]) -> bool {
    buckets.is_sorted_by(|one, next| one < next)
        && buckets.last().is_none_or(|last| usize::from(*last) < SHARED_BUCKETS)
}
