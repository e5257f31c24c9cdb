//! A site as the pulling strategies see it. The real one is [`super::session::Session`]; tests have one in memory,
//! which they can cut and crash at every step.

use std::time::Duration;

use tidegate_proto::Name;
use tokio::time::Instant;

use super::listing::Listing;
use crate::body::Arriving;
use crate::pipeline::Trouble;

/// Why a connection to a site is of no more use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// The site, or the way to it.
    #[error("{0}")]
    Site(String),
    /// The site has said that it does not want us: another attempt would not help by itself, either.
    #[error("{0}")]
    Refused(String),
    /// This end: another attempt would not help by itself.
    #[error(transparent)]
    Here(#[from] Trouble),
}

/// What became of a `RECV`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fetched {
    Whole,
    /// The site has it no more, or does not give it.
    Refused,
    /// It stays there. The connection to a stock site is over.
    TooBig(u64),
    /// There is nothing in it. It stays there, and the connection to a stock site is over: such a server ends the
    /// session after an empty body.
    Empty,
}

/// What became of a `MV`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    Whole,
    /// More than was announced came: the file was rewritten. The connection is over.
    Surplus,
    /// The site has it no more, or does not give it.
    Refused,
}

/// One connection to a site. A fault ends it.
pub(crate) trait Remote {
    /// `LS`.
    async fn list(&mut self, listing: &mut Listing) -> Result<(), Fault>;

    /// `RECV`.
    async fn fetch(&mut self, name: &Name, body: &mut Arriving) -> Result<Fetched, Fault>;

    /// `MV`: after [`Taken::Whole`] the site deletes the file, at the latest before the next reply. What came before
    /// a fault is in `body`.
    async fn take(&mut self, name: &Name, quiet: Duration, body: &mut Arriving) -> Result<Taken, Fault>;

    /// `QUIT`, if the connection is not over yet.
    async fn quit(&mut self);

    /// Ends the connection without a word, so that a node keeps what it sent last.
    fn hang_up(&mut self);

    /// Whether no request can be made any more.
    fn is_over(&self) -> bool;

    /// Since when nothing has been said on it.
    fn silent_since(&self) -> Instant;
}

/// The way to a site, for connections beside the first.
pub(crate) trait Way {
    type Remote: Remote;

    /// Another connection that the site serves: one that waits for its turn there is not it.
    async fn open(&self) -> Result<Self::Remote, Fault>;
}
