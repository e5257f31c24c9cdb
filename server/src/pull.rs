//! One attempt at one site: connect, find out what it is, pull with the strategy for it.
//!
//! What it agreed on in the TLS handshake (ALPN) tells: `tidegate/1` is relay, `tentacle` a Tidegate node that is spoken
//! to in Tentacle, and nothing a stock server.

mod connect;
mod crew;
mod helpers;
mod journal;
mod listing;
mod moving;
mod node;
mod prompt;
mod receive;
pub(crate) mod relay;
mod remote;
mod session;
mod stock;
mod take;
mod tally;
mod visit;
mod way;

pub(crate) use connect::{Connection, connect};
pub(crate) use journal::Journal;
pub(crate) use listing::Listing;
pub(crate) use relay::{Answer, Shared as RelayShared};
pub(crate) use remote::Fault;
pub(crate) use tally::Tally;
pub(crate) use visit::{Ended, Memory};

use std::collections::HashSet;
use std::time::Duration;

use tidegate_net::shutdown::Shutdown;
use tidegate_proto::relay::Purpose;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::config::{PullMode, Site};
use crate::desk::Desk;
use crate::ledger::Mode;
use crate::pipeline::Trouble;
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
    pub(crate) journal: &'a mut Journal,
    pub(crate) stop: &'a Shutdown,
}

/// What an attempt found out.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What the site is and how it is pulled, if it was reached.
    pub(crate) found: Option<(Kind, Mode)>,
    /// For how long the site was at our service, if that says more than what came from it.
    pub(crate) lasted: Duration,
    pub(crate) result: Result<Ended, Fault>,
}

impl Outcome {
    fn unreached(result: Result<Ended, Fault>) -> Self {
        Self { found: None, lasted: Duration::ZERO, result }
    }
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

/// Asks a site what it holds, and nothing else; over relay under `epoch`.
pub(crate) async fn list(site: &Site, epoch: u64) -> Result<(Kind, Listing), Fault> {
    match connect(site).await? {
        Connection::Plain(stream) => list_over(*stream, Kind::Stock, site).await,
        Connection::Tls(stream, kind) => list_over(*stream, kind, site).await,
        Connection::Relay(stream) => Ok((Kind::Tidegate, relay::list(site, epoch, *stream).await?)),
    }
}

/// Asks a site that speaks relay what it says to an epoch, and nothing else.
pub(crate) async fn greet(site: &Site, purpose: Purpose, epoch: u64) -> Result<Answer, Fault> {
    match connect(site).await? {
        Connection::Relay(stream) => relay::greet(site, purpose, epoch, *stream).await,
        Connection::Plain(_) | Connection::Tls(..) => Err(Fault::Site(
            "it does not speak relay, and Tentacle knows no epoch: there is nothing to ask".into(),
        )),
    }
}

/// How a site that speaks Tentacle is pulled.
fn over_tentacle(site: &Site) -> Mode {
    if site.sync.mode == PullMode::Move { Mode::Move } else { Mode::Tentacle }
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
            return Outcome::unreached(Err(Fault::Here(trouble)));
        }
        let connected = tokio::select! {
            connected = connect(self.site) => connected,
            () = self.stop.draining() => return Outcome::unreached(Ok(Ended::Stopped)),
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
            Ok(Connection::Relay(stream)) => {
                let (lasted, result) = relay::pull(self, *stream).await;
                Outcome { found: Some((Kind::Tidegate, Mode::Relay)), lasted, result }
            }
            Err(fault) => Outcome::unreached(Err(fault)),
        }
    }

    async fn pull<S, W>(self, stream: S, kind: Kind, way: W) -> Outcome
    where
        S: AsyncRead + AsyncWrite + Unpin,
        W: Way<Remote = Session<S>>,
    {
        let remote = match Session::open(stream, kind, &self.site.sync).await {
            Ok(session) => session,
            Err(fault) => return Outcome::unreached(Err(fault)),
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
        Outcome { found: Some((kind, over_tentacle(self.site))), lasted: Duration::ZERO, result }
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
