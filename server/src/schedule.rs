//! When each site is pulled. Every site has a task of its own: what one does never delays another.
//!
//! A *turn* is a row of attempts. `sync_retries` of them failing one after the other make the site unreachable
//! until its next turn; turns of a failing site move apart, up to `sync_backoff_max`, with jitter.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_net::backoff::Backoff;
use tidegate_net::shutdown::Shutdown;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::config::Site;
use crate::desk::Desk;
use crate::ledger::{Mode, SiteNote};
use crate::pipeline::Trouble;
use crate::pull::{Attempt, Ended, Fault, Journal, Kind, Memory, Tally};

/// The pause between two attempts of one turn: about this, doubled each time up to the maximum.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(5);

/// How many connections one after the other may fail early and still be followed at once by the next, if each brought
/// something: a bad link gets it through so. From then on the pauses grow, or a node that hangs up after each package
/// would be dialled without end.
const SHORT_MAX: u32 = 16;

/// A connection that brought so much was not a short one.
const DECENT_PACKAGES: u64 = 64;
const DECENT_BYTES: u64 = 1024 * 1024;

/// How often packages are looked for whose sites nobody pulls.
const UNCONFIGURED_INTERVAL: Duration = Duration::from_secs(60);

/// How often is written what connections that stand leave to be written, for all sites at once.
pub(crate) const FLUSH_INTERVAL: Duration = Duration::from_secs(10);

/// The same when one of them has come to rest, so that `status` soon shows it so: once for all that do in this time.
const SETTLED_INTERVAL: Duration = Duration::from_secs(1);

/// How often the ledger's history is trimmed, beside the end of every attempt: a connection that stands has none.
const TRIM_INTERVAL: Duration = Duration::from_secs(600);

/// How a turn ended.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Everything there was has been pulled.
    Fine,
    /// The server is stopping; there may be more.
    Stopped,
    /// The site could not be reached, or not be worked with.
    Unreachable(String),
    /// The site does not want this server.
    Refused(String),
    /// This server could not take more.
    Trouble(Trouble),
}

/// One site and what is remembered of it.
pub(crate) struct Puller {
    pub(crate) site: Site,
    pub(crate) desk: Arc<Desk>,
    pub(crate) stop: Shutdown,
    pub(crate) tally: Arc<Tally>,
    pub(crate) memory: Memory,
    journal: Journal,
    /// The site was of use since the last turn that it was not.
    worked: bool,
}

/// Pulls all sites until the shutdown. Only a ledger that cannot be trusted ends it earlier.
pub(crate) async fn run(sites: Vec<Site>, desk: &Arc<Desk>, stop: &Shutdown) -> Result<(), Trouble> {
    let mut tasks = JoinSet::new();
    let mut running = HashMap::new();
    let start = |tasks: &mut JoinSet<_>, site: Site, pause| {
        let puller = Puller::new(site.clone(), Arc::clone(desk), stop.clone());
        (tasks.spawn(puller.repeat(pause)).id(), site)
    };
    let configured = sites.iter().map(|site| site.name.clone()).collect();
    let mut others = pin!(resume_unconfigured(configured, desk));
    let mut flushing = pin!(flush(desk));
    for site in sites {
        running.extend([start(&mut tasks, site, Duration::ZERO)]);
    }
    let mut result = Ok(());
    loop {
        tokio::select! {
            ended = tasks.join_next() => match ended {
                None => return result.and(last_flush(desk).await),
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(trouble))) => {
                    stop.begin();
                    result = Err(trouble);
                }
                // A bug that one site brings to light must not cost the others anything. Its work so far is as safe
                // as after a crash.
                Some(Err(error)) => {
                    let site = running.remove(&error.id()).expect("every task has a site");
                    tracing::error!(site = site.name, %error, "the site's task died; please report this");
                    let pause = site.sync.backoff;
                    running.extend([start(&mut tasks, site, pause)]);
                }
            },
            trouble = &mut others, if result.is_ok() => {
                stop.begin();
                result = Err(trouble);
            }
            trouble = &mut flushing, if result.is_ok() => {
                stop.begin();
                result = Err(trouble);
            }
            () = stop.aborting() => {
                tracing::warn!("gave up waiting; what was under way is repeated after the next start");
                return result;
            }
        }
    }
}

/// Delivers now and then what is decided of sites without a task of their own. Ends with a trouble that ends the
/// server.
async fn resume_unconfigured(configured: Vec<String>, desk: &Desk) -> Trouble {
    let configured = Arc::new(configured);
    loop {
        sleep(UNCONFIGURED_INTERVAL).await;
        let configured = Arc::clone(&configured);
        match desk.run(move |pipeline| pipeline.resume_unconfigured(&configured)).await {
            Ok(()) => {}
            Err(trouble) if trouble.is_final() => return trouble,
            Err(trouble) => {
                tracing::warn!(%trouble, "cannot deliver what is here of sites that are not configured")
            }
        }
    }
}

/// Writes now and then what connections that stand have left to be written. Ends with a trouble that ends the server.
async fn flush(desk: &Desk) -> Trouble {
    let mut trimmed = Instant::now();
    loop {
        let settled = async {
            desk.relay().settled().await;
            sleep(SETTLED_INTERVAL).await;
        };
        tokio::select! {
            () = sleep(FLUSH_INTERVAL) => {}
            () = settled => {}
        }
        let trim = trimmed.elapsed() >= TRIM_INTERVAL;
        if trim {
            trimmed = Instant::now();
        }
        let flushed = desk.run(move |pipeline| {
            pipeline.flush()?;
            if trim { Ok(pipeline.ledger().trim()?) } else { Ok(()) }
        });
        match flushed.await {
            Ok(()) => {}
            Err(trouble) if trouble.is_final() => return trouble,
            Err(trouble) => {
                tracing::warn!(%trouble, "what the sites said could not be recorded; it is tried again")
            }
        }
    }
}

/// The same at an end that waits for nothing: what cannot be written is said again.
pub(crate) async fn last_flush(desk: &Desk) -> Result<(), Trouble> {
    match desk.run(|pipeline| pipeline.flush()).await {
        Err(trouble) if trouble.is_final() => Err(trouble),
        _ => Ok(()),
    }
}

impl Puller {
    pub(crate) fn new(site: Site, desk: Arc<Desk>, stop: Shutdown) -> Self {
        let journal = Journal::new(&site.name);
        Self { site, desk, stop, tally: Arc::default(), memory: Memory::default(), journal, worked: false }
    }

    /// After a pause, one turn after the other.
    async fn repeat(mut self, mut pause: Duration) -> Result<(), Trouble> {
        let sync = self.site.sync.clone();
        let mut backoff = Backoff::new(sync.interval, sync.backoff.max(sync.interval));
        loop {
            tokio::select! {
                () = sleep(pause) => {}
                () = self.stop.draining() => return Ok(()),
            }
            let turn = self.turn().await;
            if std::mem::take(&mut self.worked) {
                backoff.reset();
            }
            pause = match turn {
                Turn::Fine => {
                    backoff.reset();
                    sync.interval
                }
                Turn::Stopped => return Ok(()),
                Turn::Unreachable(_) | Turn::Refused(_) => backoff.next(),
                Turn::Trouble(trouble) if trouble.is_final() => return Err(trouble),
                Turn::Trouble(_) => sync.interval,
            };
        }
    }

    /// One turn.
    pub(crate) async fn turn(&mut self) -> Turn {
        self.journal.begin();
        let (mut failed, mut fruitless, mut short) = (0, 0, 0);
        let mut backoff = Backoff::new(RETRY_PAUSE, RETRY_PAUSE_MAX);
        let turn = loop {
            let (packages, bytes) = (self.tally.packages(), self.tally.bytes());
            let attempt = Attempt {
                site: &self.site,
                desk: &self.desk,
                memory: &mut self.memory,
                tally: &self.tally,
                journal: &mut self.journal,
                stop: &self.stop,
            };
            let outcome = attempt.run().await;
            let (packages, bytes) = (self.tally.packages() - packages, self.tally.bytes() - bytes);
            let lasted = outcome.lasted >= self.site.sync.interval;
            let progress = packages > 0 || lasted;
            let decent = lasted || packages >= DECENT_PACKAGES || bytes >= DECENT_BYTES;
            short = if decent { 0 } else { short + 1 };
            self.worked |= progress;
            self.note(outcome.found, &outcome.result).await;
            let error = match outcome.result {
                Ok(Ended::Done) => break Turn::Fine,
                Ok(Ended::Stopped) => break Turn::Stopped,
                Ok(ended @ (Ended::Again | Ended::Later)) => {
                    fruitless = if progress { 0 } else { fruitless + 1 };
                    // The site answers; what is left of it can wait for the next turn.
                    if fruitless >= self.site.sync.retries {
                        break Turn::Fine;
                    }
                    if ended == Ended::Later && !self.pause(backoff.next()).await {
                        break Turn::Stopped;
                    }
                    continue;
                }
                Err(Fault::Here(trouble)) => break Turn::Trouble(trouble),
                Err(Fault::Refused(error)) => break Turn::Refused(error),
                Err(Fault::Site(error)) => error,
            };
            if progress && short <= SHORT_MAX {
                backoff.reset();
            }
            failed = if progress { 1 } else { failed + 1 };
            if failed >= self.site.sync.retries {
                break Turn::Unreachable(error);
            }
            tracing::debug!(site = self.site.name, error, failed, "attempt failed");
            if !self.pause(backoff.next()).await {
                break Turn::Stopped;
            }
        };
        self.say(&turn);
        turn
    }

    /// Waits, unless the server stops: then it returns `false`.
    async fn pause(&self, pause: Duration) -> bool {
        tokio::select! {
            () = sleep(pause) => true,
            () = self.stop.draining() => false,
        }
    }

    /// Records for `status` what an attempt found out.
    async fn note(&self, found: Option<(Kind, Mode)>, result: &Result<Ended, Fault>) {
        let (state, error) = match result {
            Ok(Ended::Stopped) if found.is_none() => return,
            Ok(_) => ("ok", None),
            Err(Fault::Site(error)) => ("unreachable", Some(error.clone())),
            Err(Fault::Refused(error)) => ("refused", Some(error.clone())),
            Err(Fault::Here(Trouble::Full(error))) => ("pipeline-full", Some(error.clone())),
            Err(Fault::Here(trouble)) => ("error", Some(trouble.to_string())),
        };
        let held_back = result.is_ok().then(|| self.tally.left_behind());
        let note = SiteNote {
            kind: found.map(|(kind, _)| kind.as_str()),
            state,
            contact: found.is_some(),
            held_back,
            error,
        };
        let board = self.desk.board();
        if let Some((_, mode)) = found {
            board.mode(&self.site.name, mode);
        }
        // By way of the board, where what a connection said before may still wait to be written.
        board.note(&self.site.name, note);
        let noted = self.desk.run(|pipeline| {
            pipeline.flush()?;
            Ok(pipeline.ledger().trim()?)
        });
        if let Err(error) = noted.await {
            tracing::warn!(site = self.site.name, %error, "the site's state could not be recorded");
        }
    }

    /// Tells the log about a turn.
    fn say(&mut self, turn: &Turn) {
        self.journal.pulled(&self.tally);
        match turn {
            Turn::Fine => self.journal.works(),
            // Nothing new is known about the site.
            Turn::Stopped => {}
            Turn::Unreachable(error) => self.journal.unreachable(error),
            Turn::Refused(error) => self.journal.refused(error),
            Turn::Trouble(trouble) => self.journal.trouble(trouble),
        }
    }
}
