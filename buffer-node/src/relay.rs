//! Relay: the listening end of our pull protocol. A puller says who it is and what it wants; here is decided whether it
//! gets that.
//!
//! ```text
//! HELLO ─▶ rights ─▶ epoch ─▶ WELCOME ─▶ stream: feeder ─▶ machine ─▶ puller
//!             │        │                         losses, status ─▶
//!             ▼        ▼                 puller ─▶ acknowledged ─▶ deletions ─▶ DELETED
//!           CLOSE    CLOSE             ─▶ listing
//!                                      ─▶ look: nothing more
//! ```
//!
//! pullers    who has the stream, or the shared files (the newest), and since when; the epoch is decided on there
//! epoch      the rule, and its file
//! parting    how a visit ends: what the puller hears, and what the log says
//! shared     one puller's turn at the shared files
//! stream     one puller's stream; feeder, sending, deletions, losses and status are its parts

pub(crate) mod epoch;

mod deletions;
mod feeder;
mod listing;
mod losses;
mod parting;
mod pullers;
mod sending;
mod shared;
mod status;
mod stream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tidegate_net::Link;
use tidegate_net::shutdown::Shutdown;
use tidegate_net::tls::Peer;
use tidegate_proto::relay::{
    CloseCode, Farewell, Hello, Node as Machine, NodeEvent, Number, Purpose, Welcome,
};
use tidegate_proto::{Escaped, Time};
use tidegate_spool::Id;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::node::Node;
use crate::rights::Rights;
use listing::Names;
pub(crate) use pullers::Pullers;
use pullers::{Accepted, Place, Predecessor};
use stream::{End, Stream};

/// How long a new stream waits until the one before has let go of its packages. Beyond it the new one begins all the
/// same, and waits where it meets one of them.
const SUCCESSION: Duration = Duration::from_secs(5);

/// How long a puller may take to read our last words. Beyond it the connection is dropped: a stop waits for it.
const FAREWELL: Duration = Duration::from_secs(3);

/// How long a puller may take next to nothing of what is written to it, in times of what an idle agent may: it reads
/// nothing while it waits for one of its decoders. Beyond it the connection ends; a newer one does not wait for that.
const TAKES_NOTHING: u32 = 4;

/// What the node says it is.
const SOFTWARE: &str = concat!("tidegate-buffer-node ", env!("CARGO_PKG_VERSION"));

/// Serves a puller until it leaves, a newer one takes its place, or the node stops.
pub(crate) async fn serve<S>(
    node: Arc<Node>,
    stream: S,
    from: SocketAddr,
    who: &Peer,
    rights: &Rights,
    shutdown: &Shutdown,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let machine = Machine::new(node.greeting, Time::ZERO);
    let mut link = Link::new(stream, machine, node.session.idle * TAKES_NOTHING);
    let visit = Visit { node, from, puller: epoch::puller(who), rights };
    let left = visit.run(&mut link, shutdown).await;
    let part = async {
        // The last frame is written before the machine says that it has closed.
        while matches!(left, Left::Bidding) && link.next().await.is_ok() {}
        link.shutdown().await;
    };
    if timeout(FAREWELL, part).await.is_err() {
        debug!(peer = %from, "the puller took no farewell");
    }
}

/// One connection of a puller.
struct Visit<'a> {
    node: Arc<Node>,
    from: SocketAddr,
    /// By its certificate.
    puller: String,
    rights: &'a Rights,
}

/// How a visit ends.
enum Left {
    /// Our farewell is to be written.
    Bidding,
    /// The link is over.
    Gone,
}

impl Visit<'_> {
    async fn run<S>(&self, link: &mut Link<S, Machine>, shutdown: &Shutdown) -> Left
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let hello = tokio::select! {
            biased;
            () = shutdown.draining() => return self.stopping(link),
            event = link.next() => match event {
                Ok(NodeEvent::Hello(hello)) => hello,
                Ok(_) => return Left::Gone,
                Err(error) => return self.gone_before_hello(&error),
            },
        };
        if let Rights::None(lack) = self.rights {
            self.refused(lack);
            link.machine().refuse(Farewell::new(CloseCode::NoRights, lack.to_string()));
            return Left::Bidding;
        }
        debug!(peer = %self.from, puller = %self.puller, ?hello, "a puller has come");
        match hello.purpose {
            Purpose::Look => self.look(link, shutdown).await,
            Purpose::List => self.list(&hello, link, shutdown).await,
            Purpose::Stream => self.stream(&hello, link, shutdown).await,
            Purpose::Shared => self.shared(&hello, link, shutdown).await,
        }
    }

    /// Tells what a puller should know before it comes in earnest.
    async fn look<S>(&self, link: &mut Link<S, Machine>, shutdown: &Shutdown) -> Left
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let node = self.node.clone();
        let held = match spawn_blocking(move || node.pullers.held()).await {
            Ok(Ok(held)) => held,
            Ok(Err(error)) => return self.trouble(link, &error),
            Err(crash) => return self.trouble(link, &crash),
        };
        if let Err(crash) = self.welcome(link, held.map_or(0, |held| held.epoch)).await {
            return self.trouble(link, &crash);
        }
        self.until_it_leaves(link, shutdown).await
    }

    async fn until_it_leaves<S>(&self, link: &mut Link<S, Machine>, shutdown: &Shutdown) -> Left
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        loop {
            tokio::select! {
                biased;
                () = shutdown.draining() => return self.stopping(link),
                event = link.next() => match event {
                    Ok(_) => {}
                    Err(error) => return self.gone(&error),
                },
            }
        }
    }

    async fn list<S>(&self, hello: &Hello, link: &mut Link<S, Machine>, shutdown: &Shutdown) -> Left
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let accepted = match self.admit(link, hello.epoch).await {
            Ok(accepted) => accepted,
            Err(left) => return left,
        };
        if let Err(crash) = self.greet(link, &accepted).await {
            return self.trouble(link, &crash);
        }
        let mut names: Option<Names> = None;
        loop {
            if link.machine().listing_room()
                && let Some(rest) = names.take()
            {
                match rest.part().await {
                    Ok((part, rest)) => {
                        link.machine().listing(&part.names, part.last);
                        names = (!part.last).then_some(rest);
                    }
                    Err(error) => return self.trouble(link, &error),
                }
            }
            tokio::select! {
                biased;
                () = shutdown.draining() => return self.stopping(link),
                event = link.next() => match event {
                    Ok(NodeEvent::List) => {
                        // Its epoch may have passed since it came.
                        if let Err(left) = self.admit(link, hello.epoch).await {
                            return left;
                        }
                        let Some(place) = self.node.pullers.listing() else { return self.busy(link) };
                        match Names::of(&self.node, place).await {
                            Ok(all) => names = Some(all),
                            Err(error) => return self.trouble(link, &error),
                        }
                    }
                    Ok(_) => {}
                    Err(error) => return self.gone(&error),
                },
            }
        }
    }

    /// Decides on a puller that wants something short.
    async fn admit<S>(&self, link: &mut Link<S, Machine>, epoch: u64) -> Result<Accepted, Left>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (node, puller) = (self.node.clone(), self.puller.clone());
        match spawn_blocking(move || node.pullers.admit(epoch, &puller)).await {
            Ok(Ok(accepted)) => Ok(accepted),
            Ok(Err(rejected)) => Err(self.reject(link, epoch, rejected)),
            Err(crash) => Err(self.trouble(link, &crash)),
        }
    }

    async fn stream<S>(&self, hello: &Hello, link: &mut Link<S, Machine>, shutdown: &Shutdown) -> Left
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (node, epoch, puller) = (self.node.clone(), hello.epoch, self.puller.clone());
        let (accepted, place, before) =
            match spawn_blocking(move || node.pullers.take_stream(epoch, &puller)).await {
                Ok(Ok(taken)) => taken,
                Ok(Err(rejected)) => return self.reject(link, epoch, rejected),
                Err(crash) => return self.trouble(link, &crash),
            };
        if !self.is_turn(&place, before).await {
            link.machine()
                .refuse(Farewell::new(CloseCode::Replaced, "a newer connection has taken the stream"));
            return Left::Bidding;
        }
        if let Err(crash) = self.greet(link, &accepted).await {
            return self.trouble(link, &crash);
        }
        if hello.standing {
            info!(
                peer = %self.from, puller = %self.puller, epoch,
                name = %Escaped(hello.name.as_bytes()), software = %Escaped(hello.software.as_bytes()),
                "pulled by relay: the stream has begun"
            );
        }
        let (end, figures) = Stream::new(&self.node, link, place, hello.max_package).run(shutdown).await;
        self.ended(hello, &end, figures);
        match end {
            End::Link(_) => Left::Gone,
            End::Reading | End::Deletion(_) | End::Replaced | End::Stopping => Left::Bidding,
        }
    }

    /// Waits until the stream before has let go; `false` when a newer one has come meanwhile.
    async fn is_turn(&self, place: &Place, before: Option<Predecessor>) -> bool {
        let Some(mut before) = before else { return true };
        tokio::select! {
            biased;
            () = place.taken() => false,
            gone = before.gone(SUCCESSION) => {
                if !gone {
                    warn!(peer = %self.from, "the stream before still deletes what was acknowledged on it: slow disk?");
                }
                true
            }
        }
    }

    async fn greet<S>(&self, link: &mut Link<S, Machine>, accepted: &Accepted) -> Result<(), JoinError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if accepted.is_new {
            info!(peer = %self.from, held = %accepted.held, "a puller has come under a new epoch; older ones are refused from now on");
        }
        self.welcome(link, accepted.held.epoch).await
    }

    /// Says nothing where the oldest package could not be looked for: "none" would let the central forget what it has.
    async fn welcome<S>(&self, link: &mut Link<S, Machine>, epoch: u64) -> Result<(), JoinError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let node = self.node.clone();
        let oldest = spawn_blocking(move || node.spool.oldest_number()).await?;
        let welcome = Welcome {
            epoch,
            oldest: oldest.map(number),
            clock: millis(SystemTime::now()),
            name: self.node.name.clone(),
            software: SOFTWARE.to_owned(),
        };
        let now = link.now();
        link.machine().welcome(welcome, now);
        Ok(())
    }
}

/// A number as it is on the wire.
fn number(id: Id) -> Number {
    Number { run: id.run, counter: id.counter }
}

/// Milliseconds since 1970, also before it.
fn millis(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |before| -before),
    }
}
