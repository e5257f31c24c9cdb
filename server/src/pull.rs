//! One attempt at one site: connect, find out what it is, pull with the strategy for it.
//!
//! A site that agrees on ALPN `tentacle` is a Tidegate node, any other is taken for a stock server.

mod connect;
mod crew;
mod helpers;
mod listing;
mod moving;
mod node;
mod prompt;
mod receive;
mod remote;
mod session;
mod stock;
mod take;
mod tally;
mod visit;
mod way;

pub(crate) use listing::Listing;
pub(crate) use remote::Fault;
pub(crate) use tally::Tally;
pub(crate) use visit::{Ended, Memory};

use std::collections::HashSet;
use std::time::Duration;

use tidegate_net::shutdown::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::config::{PullMode, Site};
use crate::desk::Desk;
use crate::pipeline::Trouble;
use connect::Connection;
use remote::{Remote, Way};
use session::Session;
use visit::Visit;
use way::{PlainWay, TlsWay};

/// How far apart two listings of a stock site must be that show a name, before it is taken.
const SETTLING: Duration = Duration::from_secs(2);

/// Everything an attempt works with.
pub(crate) struct Attempt<'a> {
    pub(crate) site: &'a Site,
    pub(crate) desk: &'a Desk,
    pub(crate) memory: &'a mut Memory,
    pub(crate) tally: &'a Tally,
    pub(crate) stop: &'a Shutdown,
}

/// What an attempt found out.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What the site is, if it was reached.
    pub(crate) kind: Option<Kind>,
    pub(crate) result: Result<Ended, Fault>,
}

/// What a site is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Tidegate,
    Stock,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Tidegate => "tidegate",
            Self::Stock => "stock",
        }
    }
}

/// Asks a site what it holds (`LS`), and nothing else.
pub(crate) async fn list(site: &Site) -> Result<(Kind, Listing), Fault> {
    match connect::connect(site).await? {
        Connection::Plain(stream) => list_over(*stream, Kind::Stock, site).await,
        Connection::Tls(stream, kind) => list_over(*stream, kind, site).await,
    }
}

async fn list_over<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    kind: Kind,
    site: &Site,
) -> Result<(Kind, Listing), Fault> {
    let mut session = Session::open(stream, kind, &site.sync).await?;
    let mut listing = Listing::new(site.sync.names.clone());
    session.list(&mut listing).await?;
    session.quit().await;
    Ok((kind, listing.finish()))
}

impl Attempt<'_> {
    /// Makes the attempt.
    pub(crate) async fn run(self) -> Outcome {
        // What is here need not wait for the way to the site.
        let site = self.site.name.clone();
        if let Err(trouble) = self.desk.run(move |pipeline| pipeline.resume(&site)).await {
            return Outcome { kind: None, result: Err(Fault::Here(trouble)) };
        }
        let connected = tokio::select! {
            connected = connect::connect(self.site) => connected,
            () = self.stop.draining() => return Outcome { kind: None, result: Ok(Ended::Stopped) },
        };
        match connected {
            Ok(Connection::Plain(stream)) => {
                let way = PlainWay(self.site);
                self.pull(*stream, Kind::Stock, way).await
            }
            Ok(Connection::Tls(stream, kind)) => {
                let way = TlsWay(self.site, kind);
                self.pull(*stream, kind, way).await
            }
            Err(fault) => Outcome { kind: None, result: Err(fault) },
        }
    }

    async fn pull<S, W>(self, stream: S, kind: Kind, way: W) -> Outcome
    where
        S: AsyncRead + AsyncWrite + Unpin,
        W: Way<Remote = Session<S>>,
    {
        let remote = match Session::open(stream, kind, &self.site.sync).await {
            Ok(session) => session,
            Err(fault) => return Outcome { kind: None, result: Err(fault) },
        };
        let mut visit = Visit {
            remote,
            helpers: Vec::new(),
            way,
            alone: false,
            site: self.site,
            desk: self.desk,
            memory: self.memory,
            tally: self.tally,
            stop: self.stop,
            settling: SETTLING,
            skipped: HashSet::new(),
            kind,
            listings: 0,
            refusals: 0,
            listing_is_old: false,
            fault: None,
        };
        let result = visit.pull(kind).await;
        if let Err(Fault::Site(_) | Fault::Here(Trouble::Full(_))) = &result {
            visit.memory.shrink_batch();
        }
        Outcome { kind: Some(kind), result }
    }
}

impl<W: Way> Visit<'_, W> {
    /// Pulls as the mode and the site's kind ask for. `QUIT` ends it, except after a fault of the site, and with `MV`
    /// alone after any: a node would take it as the proof that its last body was read and kept.
    async fn pull(&mut self, kind: Kind) -> Result<Ended, Fault> {
        let result = match (self.site.sync.mode, kind) {
            (PullMode::Move, _) => self.pull_moving().await,
            (_, Kind::Tidegate) => self.pull_node().await,
            (_, Kind::Stock) => self.pull_stock().await,
        };
        if self.refusals > 0 {
            let (site, packages) = (&self.site.name, self.refusals);
            tracing::warn!(
                site,
                packages,
                "the site lists packages and refused MV; its next listing decides"
            );
        }
        self.dismiss().await;
        match &result {
            Err(Fault::Site(_)) => {}
            Err(_) if self.site.sync.mode == PullMode::Move => self.remote.hang_up(),
            _ => self.remote.quit().await,
        }
        result
    }
}

#[cfg(test)]
mod tests;
