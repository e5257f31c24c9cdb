//! One connection on which packages come: the loop, and what is under way in it.
//!
//! At most one piece of work of a site is in the pipeline at a time; what the node sends meanwhile is read, as far as the
//! credit goes. Whatever ends the connection, that work is waited for: the next connection must not meet it.

mod waits;
mod work;

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_net::{Link, LinkError};
use tidegate_proto::relay::limits::RECORD_COST;
use tidegate_proto::relay::{CloseCode, Farewell, LossRecord, Number, Puller, PullerEvent};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::sleep_until;

use super::credit::Credit;
use super::decoders::Permit;
use super::incoming::Incoming;
use super::job::Done;
use super::{Attempt, Ended, Fault, Shared, fault, out_of_turn};
use crate::ledger::Mode;
use crate::pipeline::Trouble;
use waits::LettingGo;

/// How often at least a site whose packages find no room is looked after.
const ROOM_INTERVAL_MAX: Duration = Duration::from_secs(60);

/// How often a connection that stands looks for what an operator took out of quarantine.
const RESUME_INTERVAL: Duration =
    if cfg!(test) { Duration::from_millis(20) } else { Duration::from_secs(60) };

/// How many packages that stay at the site the log names on a connection. Of more it tells the number, ever more rarely.
const SKIPPED_NAMED: u64 = 3;

/// Work in the pipeline.
type Working<'a> = Pin<Box<dyn Future<Output = Result<Done, Trouble>> + Send + 'a>>;

/// A connection, and everything that belongs to it.
pub(super) struct Stream<'a, S> {
    link: Link<S, Puller>,
    attempt: Attempt<'a>,
    shared: &'a Shared,
    incoming: Incoming,
    credit: Credit,
    decoder: Decoder,
    working: Option<Working<'a>>,
    due: Due,
    /// Why the pipeline takes no more, and when to look again.
    full: Option<(String, Instant)>,
    welcomed: Option<Instant>,
    /// The node has said once that everything it had has come.
    dried: bool,
    /// Packages that the node keeps because they are too large.
    skipped: u64,
    /// How far the node may delete, and how far it has; since when the latter is waited for.
    acked: Option<Number>,
    deleted: Option<Number>,
    awaiting: Option<Instant>,
    /// When the node's numbers were taken last.
    told: Option<Instant>,
    /// When to look for what an operator decided.
    resume: Instant,
    /// When the log is to be told what was pulled.
    tell: Option<Instant>,
    /// The link has failed, or the node has left: nothing more can be said.
    over: bool,
    /// Why the connection is left although there may be more.
    leaving: Option<Farewell>,
}

/// Whose turn it is.
enum Decoder {
    None,
    Queued(Pin<Box<dyn Future<Output = Permit> + Send>>),
    Held { _permit: Permit, let_go: Option<LettingGo> },
}

/// What the next piece of work is to do beside its batch.
#[derive(Default)]
struct Due {
    welcomed: Option<Option<Number>>,
    losses: Vec<LossRecord>,
    deleted: Option<Number>,
    /// After that many packages.
    drained: Option<u64>,
    room: bool,
    news: bool,
    resume: bool,
}

/// What happened.
enum Happened {
    Event(Result<PullerEvent, LinkError>),
    Worked(Result<Done, Trouble>),
    Permit(Permit),
    Wanted,
    Stop,
    Time,
}

impl<'a, S> Stream<'a, S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    /// A connection on which nothing was said yet. Without room in the pipeline nothing is granted.
    pub(super) fn new(link: Link<S, Puller>, attempt: Attempt<'a>, full: Option<String>) -> Self {
        let shared = attempt.desk.relay();
        let names = attempt.site.sync.names.clone();
        let incoming = Incoming::new(names, attempt.desk.staging());
        let mut stream = Self {
            link,
            incoming,
            credit: Credit::new(Arc::clone(&shared.pool)),
            attempt,
            shared,
            decoder: Decoder::None,
            working: None,
            due: Due::default(),
            full: None,
            welcomed: None,
            dried: false,
            skipped: 0,
            acked: None,
            deleted: None,
            awaiting: None,
            told: None,
            resume: Instant::now() + RESUME_INTERVAL,
            tell: None,
            over: false,
            leaving: None,
        };
        match full {
            Some(why) => stream.no_room(why),
            None => stream.grant(),
        }
        stream
    }

    /// Pulls. Returns also for how long the site was at our service.
    pub(super) async fn run(mut self) -> (Duration, Result<Ended, Fault>) {
        let mut result = self.pull().await;
        // Nothing more is read: the others need not wait for the disk.
        self.decoder = Decoder::None;
        // What stands before a package that is damaged is not, and must not be sent again for it.
        let goes_on = !self.over && matches!(result, Err(Fault::Site(_))) && self.full.is_none();
        while let Some(working) = self.working.take() {
            match working.await {
                Ok(done) => {
                    let whole = done.whole;
                    self.worked(done);
                    self.working = if whole && goes_on { self.next_work() } else { None };
                }
                // It weighs more than what the site did.
                Err(trouble) => result = Err(Fault::Here(trouble)),
            }
        }
        self.attempt.tally.held_back(self.skipped);
        if !self.over {
            let farewell = self.leaving.take().unwrap_or_else(|| farewell(&result));
            self.link.machine().close(farewell);
            self.link.shutdown().await;
        }
        (self.welcomed.map_or(Duration::ZERO, |since| since.elapsed()), result)
    }

    async fn pull(&mut self) -> Result<Ended, Fault> {
        loop {
            if self.working.is_none() {
                self.working = self.next_work();
            }
            if self.is_finished() {
                return Ok(Ended::Done);
            }
            if let Some((why, _)) = &self.full
                && !self.attempt.site.sync.standing
                && self.working.is_none()
            {
                return Err(Fault::Here(Trouble::Full(why.clone())));
            }
            let ended = match self.next().await {
                Happened::Event(event) => {
                    let event = event.map_err(|error| {
                        self.over = true;
                        fault(&self.attempt.site.name, error)
                    })?;
                    self.event(event).await?;
                    // Only reading from the socket would count, and one read may hold very many small frames.
                    tokio::task::consume_budget().await;
                    None
                }
                Happened::Worked(done) => {
                    self.working = None;
                    self.worked(done?)
                }
                Happened::Permit(permit) => {
                    let now = self.link.now();
                    self.link.machine().decoder_granted(now);
                    self.decoder = Decoder::Held { _permit: permit, let_go: None };
                    None
                }
                Happened::Wanted => {
                    self.link.machine().yield_decoder();
                    self.let_go();
                    None
                }
                Happened::Stop => Some(Ended::Stopped),
                Happened::Time => self.time()?,
            };
            if let Some(ended) = ended {
                return Ok(ended);
            }
        }
    }

    /// Waits for the next thing that happens.
    async fn next(&mut self) -> Happened {
        let Self { link, working, decoder, shared, .. } = self;
        let time = [
            self.full.as_ref().map(|(_, look)| *look),
            self.awaiting.map(|since| since + self.attempt.site.sync.timeout),
            self.tell,
            Some(self.resume),
            if let Decoder::Held { let_go: Some(letting), .. } = decoder {
                Some(letting.until)
            } else {
                None
            },
        ];
        let time = time.into_iter().flatten().min();
        let working = async {
            match working {
                Some(working) => working.await,
                None => pending().await,
            }
        };
        let turn = async {
            match decoder {
                Decoder::Queued(turn) => Happened::Permit(turn.await),
                Decoder::Held { let_go: None, .. } => {
                    shared.decoders.wanted().await;
                    Happened::Wanted
                }
                _ => pending().await,
            }
        };
        let time = async {
            match time {
                Some(time) => sleep_until(time.into()).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            done = working => Happened::Worked(done),
            () = self.attempt.stop.draining() => Happened::Stop,
            turn = turn => turn,
            () = time => Happened::Time,
            event = link.next() => Happened::Event(event),
        }
    }

    async fn event(&mut self, event: PullerEvent) -> Result<(), Fault> {
        match event {
            PullerEvent::Welcome(welcome) => {
                self.welcomed = Some(Instant::now());
                self.due.welcomed = Some(welcome.oldest);
                let (site, board) = (&self.attempt.site.name, self.attempt.desk.board());
                board.mode(site, Mode::Relay);
                board.welcomed(site, &welcome.software, welcome.clock);
                if self.full.is_none() {
                    self.attempt.journal.works();
                }
                self.note_news();
                tracing::debug!(
                    site,
                    node = welcome.name,
                    software = welcome.software,
                    "connected over relay"
                );
            }
            PullerEvent::DecoderNeeded => {
                self.decoder = Decoder::Queued(Box::pin(Arc::clone(&self.shared.decoders).turn()));
            }
            PullerEvent::DecoderFreed => {
                self.decoder = Decoder::None;
                self.grant();
            }
            PullerEvent::Package(head) => {
                self.came();
                self.incoming.begin(head);
            }
            PullerEvent::Body(bytes) => {
                self.came();
                self.incoming.body(&bytes).await?;
                self.freed(0);
            }
            PullerEvent::PackageEnd => self.incoming.end().await?,
            PullerEvent::Skipped(head) => {
                self.came();
                self.skipped += 1;
                self.say_skipped(&head);
                self.credit.stays(head.size.saturating_add(RECORD_COST));
                self.attempt.tally.held_back(self.skipped);
                self.incoming.skipped(head);
            }
            PullerEvent::Dry => {
                if !self.dried {
                    self.dried = true;
                    self.due.drained = Some(self.incoming.came());
                }
                self.credit.dry();
            }
            PullerEvent::Deleted(upto) => {
                self.deleted = Some(upto);
                self.awaiting = self.acked.filter(|acked| *acked > upto).map(|_| Instant::now());
                self.due.deleted = Some(upto);
            }
            PullerEvent::Status(status) => self.status(&status),
            // The machine bounds how many of them come before they are acknowledged.
            PullerEvent::Losses(records) => self.due.losses.extend(records),
            event @ (PullerEvent::Listing { .. } | PullerEvent::Shared(_)) => {
                return Err(out_of_turn(&event));
            }
        }
        Ok(())
    }
}

/// What is said last.
fn farewell(result: &Result<Ended, Fault>) -> Farewell {
    match result {
        Ok(Ended::Done | Ended::Again | Ended::Later) => Farewell::new(CloseCode::Done, ""),
        Ok(Ended::Stopped) => Farewell::new(CloseCode::Stopping, ""),
        // What is wrong here is no business of the node's.
        Err(Fault::Here(_)) => {
            Farewell::new(CloseCode::Trouble, "packages cannot be taken now; see the server's log")
        }
        Err(fault) => Farewell::new(CloseCode::Trouble, fault.to_string()),
    }
}
