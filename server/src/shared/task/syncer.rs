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
use crate::shared::remote::{Relay, Stock, StockMemory, Wire};
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
                result = self.turn() => result,
                () = stop.draining() => return,
            };
            next = rhythm.after(result.as_ref().ok(), self.is_stock);
        }
    }

    /// One sync, as soon as it is the site's turn.
    pub(super) async fn turn(&mut self) -> Result<Report, Fault> {
        let shared = Arc::clone(&self.shared);
        let bell = shared.bells().of(&self.site.name);
        let turn = Arc::clone(shared.turns()).next().await;
        let heard = bell.and_then(Bell::begin);
        let mut result = self.sync(&turn).await;
        if let (Ok(report), Some(bell)) = (&mut result, bell) {
            report.refused |= bell.end(heard, report.sign);
        }
        self.note(&result).await;
        result
    }

    async fn sync(&mut self, turn: &Turn) -> Result<Report, Fault> {
        match connect(&self.site).await? {
            Connection::Relay(stream) => {
                self.is_stock = false;
                self.sync_relay(*stream, turn).await
            }
            Connection::Tls(_, Kind::Tidegate) => Err(Fault::Refused(NO_RELAY.into())),
            Connection::Tls(stream, Kind::Stock) => self.sync_stock(stream, turn).await,
            Connection::Plain(stream) => self.sync_stock(stream, turn).await,
        }
    }

    async fn sync_relay<S>(&mut self, stream: S, turn: &Turn) -> Result<Report, Fault>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = self.site.name.clone();
        let epoch = self.desk.run(move |pipeline| pipeline.epoch(&name)).await?;
        let mut relay = Relay::open(stream, &self.site, epoch, turn.clone()).await?;
        let session =
            Session::new(&self.site.name, &self.shared, &mut relay, turn, &self.stop, &mut self.withheld);
        let report = session.run().await?;
        relay.close().await;
        Ok(report)
    }

    /// The same with a stock server.
    async fn sync_stock(&mut self, stream: Box<dyn Wire>, turn: &Turn) -> Result<Report, Fault> {
        if !std::mem::replace(&mut self.is_stock, true) {
            tracing::info!(
                site = self.site.name,
                "shared files go to the stock server by SEND and come by RECV, if it runs with -o; removals do not travel, \
                 and every file is asked about at each sync"
            );
        }
        let (shared, name) = (Arc::clone(&self.shared), self.site.name.clone());
        let candidates = blocking(move || candidates(&shared, &name)).await?;
        let way = StockWay::new(&self.site, stream);
        let mut stock = Stock::new(way, &self.site.sync, candidates, &mut self.memory, &self.shared, turn);
        let session =
            Session::new(&self.site.name, &self.shared, &mut stock, turn, &self.stop, &mut self.withheld);
        let report = session.run().await;
        stock.close().await;
        report
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
