//! When sites are synced: at the start, and when something rings. A sync is a connection of its own, made only when there
//! is something to do.
//!
//! Constraints, before the design:
//! - Whatever happens here costs the packages nothing: sites have tasks of their own, and one that dies is begun again.
//! - A site is synced no more often than `[shared] interval`, and after failures ever more rarely: nothing that its node
//!   says or does makes it more.
//! - Nothing is synced before the central's own directories have been read: what is not known here must not look removed.

mod bells;

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tidegate_net::backoff::Backoff;
use tidegate_net::shutdown::Shutdown;
use tidegate_proto::Name;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Shared;
use super::blocking::{blocking, here as here_trouble};
use super::remote::Relay;
use super::session::{Report, Session};
use super::turn::Turn;
use crate::config::Site;
use crate::desk::Desk;
use crate::ledger::seconds;
use crate::pull::{Connection, Fault, connect};
use bells::Bell;
pub(crate) use bells::Bells;

/// The least pause before what could not be done is tried again: what a node refused, shows otherwise than it says, or
/// changes faster than it can be followed.
const PAUSE: Duration = Duration::from_secs(60);

/// What is wrong where only relay will do.
const NO_RELAY: &str = "the site does not speak relay, and shared files travel by nothing else: update a Tidegate node \
                        that is older, remove `pull_mode` if it says \"tentacle\" or \"move\", or write `sync_shared = false` \
                        for it";

/// Syncs all sites that share files, until the shutdown.
pub(crate) async fn run(shared: Arc<Shared>, sites: Vec<Site>, desk: Arc<Desk>, stop: Shutdown) {
    let (scanned, ready) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let mut running = HashMap::new();
    let start = |tasks: &mut JoinSet<()>, site: Site, pause| {
        let syncer = Syncer::new(site.clone(), &shared, &desk, &stop);
        (tasks.spawn(syncer.repeat(ready.clone(), pause)).id(), site)
    };
    for site in sites.into_iter().filter(|site| shared.bells().of(&site.name).is_some()) {
        running.extend([start(&mut tasks, site, Duration::ZERO)]);
    }
    let mut scanning = pin!(scan(&shared, &scanned));
    loop {
        tokio::select! {
            ended = tasks.join_next() => match ended {
                None => return,
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    let site = running.remove(&error.id()).expect("every task has a site");
                    tracing::error!(
                        site = site.name, %error,
                        "the task of the site's shared files died; please report this. Its packages go on"
                    );
                    let pause = site.sync.backoff;
                    running.extend([start(&mut tasks, site, pause)]);
                }
            },
            never = &mut scanning => match never {},
            () = stop.aborting() => return,
        }
    }
}

/// One sync of each site, for commands that do everything once. Says of each what was done, or why not.
pub(crate) async fn once(
    shared: &Arc<Shared>,
    sites: Vec<Site>,
    desk: &Arc<Desk>,
    stop: &Shutdown,
) -> Vec<(String, Result<String, Fault>)> {
    let here = Arc::clone(shared);
    if let Err(fault) = blocking(move || here.scan()).await {
        let error = fault.to_string();
        return sites.into_iter().map(|site| (site.name, Err(here_trouble(&error)))).collect();
    }
    let mut tasks = JoinSet::new();
    for site in sites {
        let mut syncer = Syncer::new(site, shared, desk, stop);
        tasks.spawn(async move {
            let result = syncer.turn().await;
            (syncer.site.name, result.map(|report| report.told.to_string()))
        });
    }
    let mut done = tasks.join_all().await;
    done.sort_by(|one, other| one.0.cmp(&other.0));
    done
}

/// Looks again and again at what the central's directories hold, and rings for the sites that a change concerns.
async fn scan(shared: &Arc<Shared>, scanned: &watch::Sender<bool>) -> std::convert::Infallible {
    let mut failure = None;
    loop {
        let here = Arc::clone(shared);
        match blocking(move || here.scan()).await {
            Ok(sites) => {
                sites.iter().for_each(|site| shared.bells().ring(site));
                scanned.send_replace(true);
                if failure.take().is_some() {
                    tracing::info!("the directories of shared files can be read again");
                }
            }
            Err(fault) => {
                scanned.send_replace(false);
                let error = fault.to_string();
                if failure.as_ref() != Some(&error) {
                    tracing::warn!(
                        error,
                        "the directories of shared files cannot be read: none travels until they can"
                    );
                }
                failure = Some(error);
            }
        }
        sleep(shared.interval()).await;
    }
}

/// One site's syncs.
struct Syncer {
    site: Site,
    shared: Arc<Shared>,
    desk: Arc<Desk>,
    stop: Shutdown,
    /// What was wrong at the last attempt, and has been told.
    fault: Option<String>,
    /// What is withheld, and has been told.
    withheld: HashSet<Name>,
}

/// When the next sync may begin, and whether it begins though nothing rings.
struct Next {
    pause: Duration,
    again: Option<Duration>,
}

impl Syncer {
    fn new(site: Site, shared: &Arc<Shared>, desk: &Arc<Desk>, stop: &Shutdown) -> Self {
        let (shared, desk, stop) = (Arc::clone(shared), Arc::clone(desk), stop.clone());
        Self { site, shared, desk, stop, fault: None, withheld: HashSet::new() }
    }

    /// One sync after the other, the first after a pause.
    async fn repeat(mut self, mut ready: watch::Receiver<bool>, pause: Duration) {
        let interval = self.shared.interval();
        let cap = self.site.sync.backoff.max(interval);
        let mut failures = Backoff::new(interval, cap);
        let mut fruitless = Backoff::new(PAUSE.max(interval), cap.max(PAUSE));
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
            next = match result {
                Err(_) => Next { pause: failures.next(), again: Some(Duration::ZERO) },
                Ok(report) => {
                    failures.reset();
                    if !report.refused {
                        fruitless.reset();
                    }
                    let again = match report {
                        Report { waits: true, .. } | Report { unfinished: true, .. } => Some(Duration::ZERO),
                        Report { refused: true, .. } => Some(fruitless.next()),
                        _ => None,
                    };
                    Next { pause: interval, again }
                }
            };
        }
    }

    /// One sync, as soon as it is the site's turn.
    async fn turn(&mut self) -> Result<Report, Fault> {
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
        let name = self.site.name.clone();
        let epoch = self.desk.run(move |pipeline| pipeline.epoch(&name)).await?;
        let Connection::Relay(stream) = connect(&self.site).await? else {
            return Err(Fault::Refused(NO_RELAY.into()));
        };
        let mut relay = Relay::open(*stream, &self.site, epoch, turn.clone()).await?;
        let session =
            Session::new(&self.site.name, &self.shared, &mut relay, turn, &self.stop, &mut self.withheld);
        let report = session.run().await?;
        relay.close().await;
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
