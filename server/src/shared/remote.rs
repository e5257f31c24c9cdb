//! The other end of a sync as [`super::session`] sees it: a node over relay, or a stock server. Tests have one in memory,
//! which they can cut at every call and which can lie.
//!
//! Requests come in batches, so that an end far away is not waited for at every pair. A fault ends the connection; what
//! was answered before it counts.

mod relay;
mod stock;

pub(super) use relay::Relay;
pub(super) use stock::{Candidate, SILENCE, Stock, StockMemory, Way, Wire};

use std::path::PathBuf;
use std::sync::Arc;

use tidegate_proto::Name;
use tidegate_spool::shared::{Buckets, Digest, Seen};

use super::objects::Objects;
use crate::pull::Fault;

/// What is known before the other end is asked.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// What it showed last.
    pub(super) there: Buckets,
    /// What it shows if it has the same of the site's pairs as this end, and nothing else.
    pub(super) here: Buckets,
}

/// What the other end shows.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Buckets that hold what [`Known::here`] says.
    pub(super) as_here: Vec<u16>,
    /// The buckets that were looked into: of these, `items` is everything there is.
    pub(super) buckets: Vec<u16>,
    pub(super) items: Vec<(Name, Seen)>,
    /// Others may differ as well, and wait for the next sync.
    pub(super) more: bool,
}

/// A content that is asked for.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) name: Name,
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fetched {
    /// It is among the objects.
    Here,
    /// It is another content now, or gone.
    Another,
    /// What came did not have the digest: nothing of it was kept.
    Damaged,
    /// Others wait for their turn. What came is kept.
    Later,
}

/// Something that is to be done at the other end, if it still shows what is expected there.
#[derive(Debug, Clone)]
pub(super) enum Order {
    Place { name: Name, expected: Option<Digest>, digest: Digest, size: u64, content: PathBuf },
    Remove { name: Name, expected: Digest },
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    Done,
    /// There is something else now.
    Changed,
    /// The other end does not take it, and says why.
    Refused(String),
    /// What came there did not have the digest.
    Damaged,
    /// Others wait for their turn. What went is kept there.
    Later,
}

/// One end of a sync.
pub(super) trait Remote {
    /// What differs from what is known of it.
    async fn list(&mut self, known: &Known) -> Result<Listing, Fault>;

    /// Brings contents among the objects. `came` gets an entry for each, in order.
    async fn fetch(
        &mut self,
        objects: &Arc<Objects>,
        wanted: &[Wanted],
        came: &mut Vec<Fetched>,
    ) -> Result<(), Fault>;

    /// Carries orders out. `replies` gets an entry for each, in order.
    async fn carry_out(&mut self, orders: &[Order], replies: &mut Vec<Reply>) -> Result<(), Fault>;

    /// Gives signs of life while this end is busy. Only a fault ends it.
    async fn idle(&mut self) -> Fault;
}

impl Fetched {
    /// What came has its digest, or it has not.
    fn kept(kept: bool) -> Self {
        if kept { Self::Here } else { Self::Damaged }
    }
}
