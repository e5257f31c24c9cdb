//! A connection to a site that speaks Tentacle: the [`Remote`] over a real stream.
//!
//! Every wait is bounded twice: the machine closes when nothing comes for `sync_timeout`, and a body as a whole
//! has a time that grows with its size, so that a site that drips bytes ends too.

use std::time::Duration;

use tidegate_net::{Link, LinkError};
use tidegate_proto::{Initiator, InitiatorEvent, InitiatorSettings, Name, Packing};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::Kind;
use super::listing::{self, Listing};
use super::remote::{Fault, Fetched, Remote, Taken};
use crate::body::Arriving;
use crate::config::SyncKeys;
use crate::pipeline::Trouble;

/// The slowest body, on average; a slower one ends the connection.
const BYTES_PER_SECOND_MIN: u64 = 1_000;

/// What `LS` asks for: the directory of data files.
const FILTER: &[u8] = b".data";

/// One connection.
#[derive(Debug)]
pub(crate) struct Session<S> {
    link: Link<S, Initiator>,
    kind: Kind,
    patience: Duration,
    max_size: u64,
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
            over: false,
        };
        match session.next().await? {
            InitiatorEvent::Ready => Ok(session),
            event => Err(session.unexpected(&event)),
        }
    }

    async fn next(&mut self) -> Result<InitiatorEvent, Fault> {
        self.link.next().await.map_err(|error| self.failed(&error))
    }

    fn failed(&mut self, error: &LinkError) -> Fault {
        self.over = true;
        Fault::Site(error.to_string())
    }

    fn unexpected(&mut self, event: &InitiatorEvent) -> Fault {
        self.over = true;
        Fault::Site(format!("the site answered out of turn: {event:?}"))
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
        let size = match self.next().await? {
            InitiatorEvent::Size(size) => size,
            InitiatorEvent::Refused(refusal) => {
                self.over = true;
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
        match self.next().await? {
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
        self.link.machine().take(name, quiet, now);
        match self.next().await? {
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

    fn is_over(&self) -> bool {
        self.over
    }
}
