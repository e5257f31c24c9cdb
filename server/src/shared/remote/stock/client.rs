//! One connection at a time to a stock server, for files that fit into memory.

use std::time::Duration;

use tidegate_net::Link;
use tidegate_proto::{Initiator, InitiatorEvent, InitiatorSettings, Name, Packing};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};

use crate::config::SyncKeys;
use crate::pull::Fault;

/// After so long without a word a new connection is made: a stock server hangs up after 4 s.
pub(in crate::shared) const SILENCE: Duration = Duration::from_millis(2_500);

/// How much of a body is given at once.
const GIVEN_AT_ONCE: usize = 16 * 1024;

/// The slowest body, on average; a slower one ends the connection.
const BYTES_PER_SECOND_MIN: u64 = 1_000;

/// How much is told of what the server says.
const SAID_MAX: usize = 200;

/// A stream to it.
pub(in crate::shared) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Wire for S {}

/// The way to it.
pub(in crate::shared) trait Way {
    async fn open(&self) -> Result<Box<dyn Wire>, Fault>;
}

/// What came of asking for a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    File(Vec<u8>),
    /// There is none.
    None,
    TooLarge(u64),
}

/// The server, by way of a connection that is made when it is needed.
pub(super) struct Client<W> {
    way: W,
    sync: SyncKeys,
    link: Option<Link<Box<dyn Wire>, Initiator>>,
    spoke: Instant,
}

impl<W: Way> Client<W> {
    pub(super) fn new(way: W, sync: &SyncKeys) -> Self {
        Self { way, sync: sync.clone(), link: None, spoke: Instant::now() }
    }

    /// `RECV`. Of a body that is too large not a byte is read.
    pub(super) async fn receive(&mut self, name: &Name, most: u64) -> Result<Received, Fault> {
        let link = self.link().await?;
        let now = link.now();
        link.machine().receive(name, Packing::Plain, now);
        let size = match self.next().await? {
            InitiatorEvent::Refused(_) => return Ok(Received::None),
            InitiatorEvent::Size(size) => size,
            event => return Err(self.unexpected(&event)),
        };
        // A stock server that reads the next command together with a declining reply drops both, and ends the session
        // after an empty body: only hanging up works.
        if size == 0 || size > most {
            self.link = None;
            return Ok(if size == 0 { Received::File(Vec::new()) } else { Received::TooLarge(size) });
        }
        let longest = self.longest(size);
        let body = timeout(longest, self.body(size)).await;
        body.unwrap_or_else(|_| Err(self.failed(&format!("{name} did not come within {longest:?}"))))
    }

    async fn body(&mut self, size: u64) -> Result<Received, Fault> {
        let link = self.link().await?;
        let now = link.now();
        link.machine().proceed(now);
        let mut body = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        loop {
            match self.next().await? {
                InitiatorEvent::Body => body.extend_from_slice(self.link().await?.chunk()),
                InitiatorEvent::BodyEnd { missing: 0, .. } => return Ok(Received::File(body)),
                event => return Err(self.unexpected(&event)),
            }
        }
    }

    /// `SEND`. `Some`: why the server does not take it.
    pub(super) async fn send(&mut self, name: &Name, content: &[u8]) -> Result<Option<String>, Fault> {
        let size = content.len() as u64;
        let link = self.link().await?;
        let now = link.now();
        link.machine().send(name, size, Packing::Plain, now);
        match self.next().await? {
            InitiatorEvent::Accepted => {}
            InitiatorEvent::Refused(refusal) => return Ok(Some(short(refusal.to_string()))),
            event => return Err(self.unexpected(&event)),
        }
        let longest = self.longest(size);
        let stored = timeout(longest, self.give(content)).await;
        stored.unwrap_or_else(|_| Err(self.failed(&format!("{name} was not taken within {longest:?}"))))
    }

    async fn give(&mut self, content: &[u8]) -> Result<Option<String>, Fault> {
        for part in content.chunks(GIVEN_AT_ONCE) {
            let link = self.link().await?;
            let now = link.now();
            link.machine().write_body(part, now);
            let given = link.flush().await;
            given.map_err(|error| self.failed(&error.to_string()))?;
            self.spoke = Instant::now();
        }
        match self.next().await? {
            InitiatorEvent::Stored => Ok(None),
            InitiatorEvent::Refused(refusal) => Ok(Some(short(refusal.to_string()))),
            event => Err(self.unexpected(&event)),
        }
    }

    /// `QUIT`.
    pub(super) async fn quit(&mut self) {
        let Some(mut link) = self.link.take() else { return };
        let now = link.now();
        link.machine().quit(now);
        // The server closes, or it does not: either way this connection is done.
        let _ = timeout(self.sync.timeout, link.next()).await;
    }

    /// A connection that the server has not given up.
    async fn link(&mut self) -> Result<&mut Link<Box<dyn Wire>, Initiator>, Fault> {
        if self.spoke.elapsed() > SILENCE {
            self.quit().await;
        }
        if self.link.is_none() {
            let stream = self.way.open().await?;
            let patience = self.sync.timeout;
            let settings = InitiatorSettings { password: self.sync.password.clone(), patience };
            self.link = Some(Link::new(stream, Initiator::new(settings, Duration::ZERO), patience));
            match self.next().await? {
                InitiatorEvent::Ready => {}
                event => return Err(self.unexpected(&event)),
            }
        }
        self.link.as_mut().ok_or_else(|| Fault::Site("the connection is over".into()))
    }

    async fn next(&mut self) -> Result<InitiatorEvent, Fault> {
        let Some(link) = &mut self.link else { return Err(Fault::Site("the connection is over".into())) };
        let event = link.next().await;
        self.spoke = Instant::now();
        event.map_err(|error| self.failed(&error.to_string()))
    }

    fn failed(&mut self, text: &str) -> Fault {
        self.link = None;
        Fault::Site(text.to_owned())
    }

    fn unexpected(&mut self, event: &InitiatorEvent) -> Fault {
        self.failed(&format!("the site answered out of turn: {}", short(format!("{event:?}"))))
    }

    /// The longest time for a body of this size.
    fn longest(&self, size: u64) -> Duration {
        2 * self.sync.timeout + Duration::from_secs(size / BYTES_PER_SECOND_MIN)
    }
}

/// The start of what was said.
fn short(said: String) -> String {
    said.chars().take(SAID_MAX).collect()
}
