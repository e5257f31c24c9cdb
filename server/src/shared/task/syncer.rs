//! One site's syncs, one after the other.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tidegate_net::shutdown::Shutdown;
use tidegate_proto::Name;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::sleep;

use super::bells::Bell;
use super::rhythm::{Next, Rhythm};
use super::stock::{StockWay, candidates};
use crate::config::Site;
use crate::desk::Desk;
use crate::ledger::seconds;
use crate::pull::{Connection, Fault, Kind, connect};
use crate::shared::Shared;
use crate::shared::blocking::blocking;
use crate::shared::remote::{Relay, Remote, Stock, StockMemory, Wire};
use crate::shared::session::{Report, Session};
use crate::shared::turn::Turn;

/// What is wrong where shared files cannot travel.
const NO_RELAY: &str = "the node does not speak relay with this server, and its shared files travel by nothing else: update a \
                        node that is older, remove `pull_mode` if it says \"tentacle\" or \"move\", or write \
                        `sync_shared = false` for the site";

/// One site's syncs.
pub(super) struct Syncer {
    pub(super) site: Site,
    shared: Arc<Shared>,
    desk: Arc<Desk>,
    stop: Shutdown,
    /// What was wrong at the last attempt, and has been told.
    fault: Option<String>,
    /// What is withheld, and has been told.
    withheld: HashSet<Name>,
    /// What is known of a stock server, and whether the site has one.
    memory: StockMemory,
    is_stock: bool,
}

impl Syncer {
    pub(super) fn new(site: Site, shared: &Arc<Shared>, desk: &Arc<Desk>, stop: &Shutdown) -> Self {
        let (shared, desk, stop) = (Arc::clone(shared), Arc::clone(desk), stop.clone());
        let (withheld, memory) = (HashSet::new(), StockMemory::default());
        Self { site, shared, desk, stop, fault: None, withheld, memory, is_stock: false }
    }

    /// One sync after the other, the first after a pause.
    pub(super) async fn repeat(mut self, mut ready: watch::Receiver<bool>, pause: Duration) {
        let mut rhythm = Rhythm::new(self.shared.interval(), self.site.sync.backoff);
        let mut next = Next { pause, again: Some(Duration::ZERO) };
        let (shared, stop) = (Arc::clone(&self.shared), self.stop.clone());
        let Some(bell) = shared.bells().of(&self.site.name) else { return };
        loop {
            tokio::select! {
                () = due(&next, bell, &mut ready) => {}
                () = stop.draining() => return,
            }
            // Dropped in the middle it is as after a crash.
            let result = tokio::select! {
                result = self.sync() => result,
                () = stop.draining() => return,
            };
            next = rhythm.after(result.as_ref().ok(), self.is_stock);
        }
    }

    /// One sync. Nobody waits for a site that does not answer: its turn begins when it has said hello.
    pub(super) async fn sync(&mut self) -> Result<Report, Fault> {
        let result = match connect(&self.site).await {
            Ok(Connection::Relay(stream)) => self.sync_relay(*stream).await,
            Ok(Connection::Tls(_, Kind::Tidegate)) => Err(Fault::Refused(NO_RELAY.into())),
            Ok(Connection::Tls(stream, Kind::Stock)) => self.sync_stock(stream).await,
            Ok(Connection::Plain(stream)) => self.sync_stock(stream).await,
            Err(fault) => Err(fault),
        };
        self.note(&result).await;
        result
    }

    async fn sync_relay<S>(&mut self, stream: S) -> Result<Report, Fault>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.is_stock = false;
        let name = self.site.name.clone();
        let epoch = self.desk.run(move |pipeline| pipeline.epoch(&name)).await?;
        let mut relay = Relay::open(stream, &self.site, epoch).await?;
        let turn = relay.turn(self.shared.turns()).await?;
        let report = self.session(&mut relay, &turn).await?;
        relay.close().await;
        Ok(report)
    }

    /// The same with a stock server.
    async fn sync_stock(&mut self, stream: Box<dyn Wire>) -> Result<Report, Fault> {
        if !std::mem::replace(&mut self.is_stock, true) {
            tracing::info!(
                site = self.site.name,
                "shared files go to the stock server by SEND and come by RECV, if it runs with -o; removals do not travel, \
                 and every file is asked about at each sync"
            );
        }
        let way = StockWay::new(&self.site, stream);
        let turn = Arc::clone(self.shared.turns()).next().await;
        let (shared, name) = (Arc::clone(&self.shared), self.site.name.clone());
        let candidates = blocking(move || candidates(&shared, &name)).await?;
        let mut memory = std::mem::take(&mut self.memory);
        let mut stock = Stock::new(way, &self.site.sync, candidates, &mut memory, &self.shared, &turn);
        let report = self.session(&mut stock, &turn).await;
        stock.close().await;
        self.memory = memory;
        report
    }

    async fn session(&mut self, remote: &mut impl Remote, turn: &Turn) -> Result<Report, Fault> {
        let bell = self.shared.bells().of(&self.site.name);
        let heard = bell.and_then(Bell::begin);
        let site = &self.site.name;
        let session = Session::new(site, &self.shared, remote, turn, &self.stop, &mut self.withheld);
        let report = session.run().await?;
        if report.foreign > 0 {
            tracing::debug!(
                site,
                pairs = report.foreign,
                "the site shows shared files that are none of its own"
            );
        }
        if let Some(bell) = bell {
            bell.end(heard, report.sign);
        }
        Ok(report)
    }

    /// Tells of a sync, if there is news.
    async fn note(&mut self, result: &Result<Report, Fault>) {
        let site = &self.site.name;
        let Err(fault) = result else {
            if self.fault.take().is_some() {
                tracing::info!(site, "shared files are synced again");
            }
            return;
        };
        let error = fault.to_string();
        if self.fault.as_ref() != Some(&error) {
            tracing::warn!(site, error, "shared files cannot be synced; packages go on");
        }
        self.fault = Some(error.clone());
        let (shared, name) = (Arc::clone(&self.shared), site.clone());
        let now = seconds(SystemTime::now());
        let noted = blocking(move || shared.store().write(|batch| batch.failed(&name, &error, now)));
        if let Err(error) = noted.await {
            tracing::warn!(site, %error, "the state of the site's shared files could not be recorded");
        }
    }
}

/// Completes when a sync may begin, and is due.
async fn due(next: &Next, bell: &Bell, ready: &mut watch::Receiver<bool>) {
    sleep(next.pause).await;
    match next.again {
        Some(again) => tokio::select! {
            () = sleep(again) => {}
            () = bell.rung() => {}
        },
        None => bell.rung().await,
    }
    // It fails only when nothing scans any more: then the server stops.
    let _ = ready.wait_for(|ready| *ready).await;
}
