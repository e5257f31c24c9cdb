//! Pulling over relay: the node sends its packages back to back, as far as it has credit; they are delivered in batches
//! and acknowledged, and the node deletes them.
//!
//! ```text
//! stream     one connection: what comes in, what goes out, and what is under way
//! incoming   from what the node sends to packages, and to batches of them
//! job        the work of a batch in the pipeline
//! credit     how much the node may send
//! decoders   whose turn it is to have a decoder
//! refusal    why a connection ended, in words
//! ```
//!
//! Constraints, before the design:
//! - Nothing is acknowledged before the pipeline has said that it is delivered.
//! - What a node can make this server hold is bounded by the credit, for each and for all together.
//! - A batch is what came while the last one was on its way: a lone package waits for nobody, and a site with a
//!   million of them has one batch at a time at the `Desk`, behind those of the others.

mod credit;
mod decoders;
mod incoming;
mod job;
mod refusal;
mod stream;

pub(crate) use refusal::fault;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tidegate_net::{Link, LinkError};
use tidegate_proto::Close;
use tidegate_proto::relay::{CloseCode, Farewell, Hello, Puller, PullerEvent, Purpose, Welcome};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::listing::{BYTES_MAX, Listing};
use super::{Attempt, Ended, Fault};
use crate::config::Site;
use stream::Stream;

/// The longest time for a listing; one that takes longer is given up.
const LISTING_TIME: Duration = Duration::from_secs(600);

/// Of a rate, shared files have this part, on a connection of their own.
pub(crate) const SHARED_PART: u64 = 4;

/// What the connections of all sites share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    decoders: Arc<decoders::Decoders>,
    pool: Arc<credit::Pool>,
    /// A site has deleted everything that was acknowledged.
    settled: Notify,
}

impl Shared {
    /// Completes when a site has come to rest: what was left to be written of it is best written soon.
    pub(crate) async fn settled(&self) {
        self.settled.notified().await;
    }
}

#[cfg(test)]
impl Shared {
    pub(super) fn with_decoders(decoders: usize) -> Self {
        Self { decoders: Arc::new(decoders::Decoders::new(decoders)), ..Self::default() }
    }
}

/// Pulls over a connection until the site has nothing more, or for as long as it stands. Returns also for how long the
/// site was at our service.
pub(super) async fn pull<S>(attempt: Attempt<'_>, stream: S) -> (Duration, Result<Ended, Fault>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let name = attempt.site.name.clone();
    let asked = attempt.desk.run(move |pipeline| Ok((pipeline.epoch(&name)?, job::room(pipeline, &name)?)));
    let (epoch, full) = match asked.await {
        Ok(answer) => answer,
        Err(trouble) => return (Duration::ZERO, Err(trouble.into())),
    };
    let mut hello = hello(attempt.site, Purpose::Stream, epoch);
    if attempt.desk.shares(&attempt.site.name) {
        hello.rate -= hello.rate / SHARED_PART;
    }
    let link = Link::new(stream, Puller::new(hello, Duration::ZERO), attempt.site.sync.timeout);
    Stream::new(link, attempt, full).run().await
}

/// Asks a node for the names of its packages.
pub(super) async fn list<S>(site: &Site, epoch: u64, stream: S) -> Result<Listing, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let listed = timeout(LISTING_TIME, list_all(site, epoch, stream)).await;
    listed.unwrap_or_else(|_| Err(Fault::Site(format!("the listing did not come within {LISTING_TIME:?}"))))
}

async fn list_all<S>(site: &Site, epoch: u64, stream: S) -> Result<Listing, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut link = link(site, Purpose::List, epoch, stream);
    match link.next().await.map_err(|error| fault(&site.name, error))? {
        PullerEvent::Welcome(_) => link.machine().list(),
        event => return Err(out_of_turn(&event)),
    }
    let mut listing = Listing::new(site.sync.names.clone());
    let mut bytes = 0;
    loop {
        let (names, last) = match link.next().await.map_err(|error| fault(&site.name, error))? {
            PullerEvent::Listing { names, last } => (names, last),
            // What a node says of itself meanwhile is for those who pull it.
            PullerEvent::Status(_) | PullerEvent::Losses(_) => continue,
            event => return Err(out_of_turn(&event)),
        };
        bytes += names.len() as u64;
        if bytes > BYTES_MAX {
            return Err(Fault::Site(format!(
                "the listing is longer than {BYTES_MAX} bytes; more are not read"
            )));
        }
        listing.push(&names);
        listing.push(b"\n");
        if last {
            break;
        }
    }
    leave(link).await;
    Ok(listing.finish())
}

/// What a node says to an epoch.
#[derive(Debug)]
pub(crate) enum Answer {
    Welcome(Welcome),
    Farewell(Farewell),
}

/// Makes a connection for no other purpose than to hear what the node says to `epoch`.
pub(super) async fn greet<S>(site: &Site, purpose: Purpose, epoch: u64, stream: S) -> Result<Answer, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut link = link(site, purpose, epoch, stream);
    match link.next().await {
        Ok(PullerEvent::Welcome(welcome)) => {
            leave(link).await;
            Ok(Answer::Welcome(welcome))
        }
        Ok(event) => Err(out_of_turn(&event)),
        Err(LinkError::Closed(Close::Farewell(farewell))) => Ok(Answer::Farewell(farewell)),
        Err(error) => Err(fault(&site.name, error)),
    }
}

/// A connection that is not to stand.
fn link<S>(site: &Site, purpose: Purpose, epoch: u64, stream: S) -> Link<S, Puller>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let hello = Hello { standing: false, ..hello(site, purpose, epoch) };
    Link::new(stream, Puller::new(hello, Duration::ZERO), site.sync.timeout)
}

async fn leave<S: AsyncRead + AsyncWrite + Unpin>(mut link: Link<S, Puller>) {
    link.machine().close(Farewell::new(CloseCode::Done, ""));
    link.shutdown().await;
}

pub(crate) fn out_of_turn(event: &PullerEvent) -> Fault {
    Fault::Site(format!("the node said {event:.40?} out of turn"))
}

/// What this server says first.
pub(crate) fn hello(site: &Site, purpose: Purpose, epoch: u64) -> Hello {
    Hello {
        purpose,
        standing: site.sync.standing,
        epoch,
        keep_alive: site.sync.timeout,
        max_package: site.sync.max_size,
        rate: site.sync.rate.unwrap_or(0),
        clock: crate::ledger::milliseconds(SystemTime::now()),
        name: host_name(),
        software: concat!("tidegate-server ", env!("CARGO_PKG_VERSION")).to_owned(),
    }
}

/// What people call this machine.
fn host_name() -> String {
    // The kernel's memory, no disk.
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}
