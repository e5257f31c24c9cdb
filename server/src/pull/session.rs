//! A connection to a site that speaks Tentacle: the [`Remote`] over a real stream.
//!
//! Every wait is bounded twice: the machine closes when nothing comes for `sync_timeout`, and a body as a whole
//! has a time that grows with its size, so that a site that drips bytes ends too.

use std::time::Duration;

use tidegate_net::{Link, LinkError};
use tidegate_proto::{Initiator, InitiatorEvent, InitiatorSettings, Name, Packing};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};

use super::Kind;
use super::listing::{self, Listing};
use super::remote::{Fault, Fetched, Remote, Taken};
use crate::body::Arriving;
use crate::config::SyncKeys;
use crate::pipeline::Trouble;

/// The slowest body, on average; a slower one ends the connection.
const BYTES_PER_SECOND_MIN: u64 = 1_000;

/// How much longer than `sync_quiet` a slow way may make the silence: a stock server hangs up after 4 s.
const QUIET_MAX: Duration = Duration::from_secs(2);

/// How much is told of an answer of the site.
const ANSWER_SHOWN: usize = 200;

/// What `LS` asks for: the directory of data files.
const FILTER: &[u8] = b".data";

/// A filter that no server takes: its answer costs nothing and shows that there is somebody.
const NO_FILTER: &[u8] = b"*";

/// One connection.
#[derive(Debug)]
pub(crate) struct Session<S> {
    link: Link<S, Initiator>,
    kind: Kind,
    patience: Duration,
    max_size: u64,
    /// The quickest answer so far: the way there and back, and little else.
    round_trip: Duration,
    spoke: Instant,
    over: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    /// Begins a session, with the password if the site wants one.
    pub(crate) async fn open(stream: S, kind: Kind, sync: &SyncKeys) -> Result<Self, Fault> {
        let patience = sync.timeout;
        let settings = InitiatorSettings { password: sync.password.clone(), patience };
        let machine = Initiator::new(settings, Duration::ZERO);
        let mut session = Self {
            link: Link::new(stream, machine, patience),
            kind,
            patience,
            max_size: sync.max_size,
            round_trip: patience,
            spoke: Instant::now(),
            over: false,
        };
        match session.next().await? {
            InitiatorEvent::Ready => Ok(session),
            event => Err(session.unexpected(&event)),
        }
    }

    /// Finds out whether the site serves this connection: a stock server takes more of them than it serves.
    pub(super) async fn prove(&mut self) -> Result<(), Fault> {
        let now = self.link.now();
        self.link.machine().list(NO_FILTER, now);
        match self.answer(now).await? {
            InitiatorEvent::Refused(_) => Ok(()),
            event => Err(self.unexpected(&event)),
        }
    }

    async fn next(&mut self) -> Result<InitiatorEvent, Fault> {
        let event = self.link.next().await;
        self.spoke = Instant::now();
        event.map_err(|error| self.failed(&error))
    }

    fn failed(&mut self, error: &LinkError) -> Fault {
        self.over = true;
        Fault::Site(error.to_string())
    }

    /// The answer to a request that was made at `asked`.
    async fn answer(&mut self, asked: Duration) -> Result<InitiatorEvent, Fault> {
        let event = self.next().await?;
        self.round_trip = self.round_trip.min(self.link.now().saturating_sub(asked));
        Ok(event)
    }

    fn unexpected(&mut self, event: &InitiatorEvent) -> Fault {
        self.over = true;
        Fault::Site(format!("the site answered out of turn: {}", short(format!("{event:?}"))))
    }

    /// For how long nothing may come after a moved body: what was written behind it is still on its way for a round
    /// trip. A node's packages need no such time.
    fn quiet(&self, quiet: Duration) -> Duration {
        if quiet.is_zero() { quiet } else { quiet.max((2 * self.round_trip).min(QUIET_MAX)) }
    }

    /// Leaves an announced body at the site. Declining has no reply, and a stock server that reads the next command
    /// together with it drops both: there only hanging up works.
    fn decline(&mut self) {
        match self.kind {
            Kind::Tidegate => {
                let now = self.link.now();
                self.link.machine().decline(now);
            }
            Kind::Stock => self.over = true,
        }
    }

    /// The longest time for a body of this size.
    fn whole_body(&self, size: u64) -> Duration {
        2 * self.patience + Duration::from_secs(size / BYTES_PER_SECOND_MIN)
    }

    /// Receives an announced body. Returns how much more than announced came.
    async fn body(&mut self, size: u64, body: &mut Arriving) -> Result<u64, Fault> {
        let longest = self.whole_body(size);
        let Ok(received) = timeout(longest, self.body_chunks(size, body)).await else {
            self.over = true;
            return Err(Fault::Site(format!("a body of {size} bytes did not come within {longest:?}")));
        };
        received
    }

    async fn body_chunks(&mut self, size: u64, body: &mut Arriving) -> Result<u64, Fault> {
        let now = self.link.now();
        self.link.machine().proceed(now);
        loop {
            match self.next().await? {
                InitiatorEvent::Body => {
                    let written = body.write(self.link.chunk()).await;
                    written.map_err(|error| self.here("cannot write a staged file", error))?;
                    if body.size() > self.max_size {
                        self.over = true;
                        return Err(Fault::Site(format!("a body announced with {size} bytes does not end")));
                    }
                }
                InitiatorEvent::BodyEnd { missing: 0, surplus } => return Ok(surplus),
                InitiatorEvent::BodyEnd { missing, .. } => {
                    self.over = true;
                    let text = format!("the site ended a body of {size} bytes {missing} bytes too early");
                    return Err(Fault::Site(text));
                }
                event => return Err(self.unexpected(&event)),
            }
        }
    }

    fn here(&mut self, what: &str, error: std::io::Error) -> Fault {
        self.over = true;
        Fault::Here(Trouble::io(what)(error))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Remote for Session<S> {
    async fn list(&mut self, listing: &mut Listing) -> Result<(), Fault> {
        let now = self.link.now();
        self.link.machine().list(FILTER, now);
        let size = match self.answer(now).await? {
            InitiatorEvent::Size(size) => size,
            InitiatorEvent::Refused(refusal) => {
                self.over = true;
                let refusal = short(refusal.to_string());
                return Err(Fault::Site(format!(
                    "{refusal}: the site lets this server not list; a Tidegate node wants a certificate with the \
                     server role (tidegate-certs issue server …), a stock server the option -I"
                )));
            }
            event => return Err(self.unexpected(&event)),
        };
        if size > listing::BYTES_MAX {
            self.over = true;
            return Err(Fault::Site(format!(
                "the site announces a listing of {size} bytes, more than {} are not read",
                listing::BYTES_MAX
            )));
        }
        let now = self.link.now();
        self.link.machine().proceed(now);
        let longest = self.whole_body(size);
        let names = async {
            loop {
                match self.next().await? {
                    InitiatorEvent::Body => listing.push(self.link.chunk()),
                    InitiatorEvent::BodyEnd { .. } => return Ok(()),
                    event => return Err(self.unexpected(&event)),
                }
            }
        };
        timeout(longest, names)
            .await
            .unwrap_or_else(|_| Err(Fault::Site(format!("the listing did not come within {longest:?}"))))
    }

    async fn fetch(&mut self, name: &Name, body: &mut Arriving) -> Result<Fetched, Fault> {
        let now = self.link.now();
        self.link.machine().receive(name, Packing::Plain, now);
        match self.answer(now).await? {
            InitiatorEvent::Refused(_) => Ok(Fetched::Refused),
            InitiatorEvent::Size(0) => {
                self.decline();
                Ok(Fetched::Empty)
            }
            InitiatorEvent::Size(size) if size > self.max_size => {
                self.decline();
                Ok(Fetched::TooBig(size))
            }
            InitiatorEvent::Size(size) => self.body(size, body).await.map(|_| Fetched::Whole),
            event => Err(self.unexpected(&event)),
        }
    }

    async fn take(&mut self, name: &Name, quiet: Duration, body: &mut Arriving) -> Result<Taken, Fault> {
        let now = self.link.now();
        let quiet = self.quiet(quiet);
        self.link.machine().take(name, quiet, now);
        match self.answer(now).await? {
            InitiatorEvent::Refused(_) => Ok(Taken::Refused),
            InitiatorEvent::Size(size) if size > self.max_size => {
                self.over = true;
                Err(Fault::Site(format!(
                    "{name} has grown to {size} bytes, over max_size; it stays at the site"
                )))
            }
            InitiatorEvent::Size(size) => {
                let reserved = body.reserve(size).await;
                reserved.map_err(|error| self.here("no room for what MV brings", error))?;
                let surplus = self.body(size, body).await?;
                self.over |= surplus > 0;
                Ok(if surplus > 0 { Taken::Surplus } else { Taken::Whole })
            }
            event => Err(self.unexpected(&event)),
        }
    }

    async fn quit(&mut self) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        let now = self.link.now();
        self.link.machine().quit(now);
        // The peer closes, or it does not: either way this connection is done.
        let _ = timeout(self.patience, self.link.next()).await;
    }

    fn hang_up(&mut self) {
        self.over = true;
    }

    fn is_over(&self) -> bool {
        self.over
    }

    fn silent_since(&self) -> Instant {
        self.spoke
    }
}

/// The start of what a site answered, already escaped.
fn short(answer: String) -> String {
    match answer.char_indices().nth(ANSWER_SHOWN) {
        Some((end, _)) => format!("{}…", &answer[..end]),
        None => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn session(quickest: Duration) -> Session<tokio::io::DuplexStream> {
        let (stream, _peer) = tokio::io::duplex(64);
        let mut session = Session::open(stream, Kind::Stock, &SyncKeys::default()).await.unwrap();
        session.round_trip = quickest;
        session
    }

    #[tokio::test]
    async fn a_slow_way_asks_for_a_longer_silence_within_reason() {
        for (quickest, quiet) in [(1, 50), (25, 50), (200, 400), (60_000, 2_000)] {
            let session = session(Duration::from_millis(quickest)).await;
            assert_eq!(session.quiet(Duration::from_millis(50)), Duration::from_millis(quiet));
            assert_eq!(session.quiet(Duration::ZERO), Duration::ZERO, "nodes need none");
        }
    }

    #[test]
    fn a_long_answer_is_told_in_part() {
        assert_eq!(short("LS ERR".into()), "LS ERR");
        assert_eq!(short("é".repeat(1_000)), "é".repeat(ANSWER_SHOWN) + "…");
    }
}
