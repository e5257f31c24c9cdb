//! The door: takes connections, finds out in bounded time who comes and how, and starts a session for each.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustls::ServerConfig;
use tidegate_net::accept::{Arrival, Limit, Listener, Opening, sniff};
use tidegate_net::identity::Fingerprint;
use tidegate_net::shutdown::Shutdown;
use tidegate_net::tls::{self, ALPN_RELAY, Peer, TlsSetupError};
use tokio::net::TcpStream;
use tokio::time::{Instant, interval_at, timeout};
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::config::{Config, Listen};
use crate::limits_hit;
use crate::node::Node;
use crate::rates;
use crate::relay;
use crate::rights::Rights;
use crate::session;
use crate::totals;

/// How connections may begin.
pub(crate) struct Door {
    tls: Option<Arc<ServerConfig>>,
    pinned: Vec<Fingerprint>,
    plain: bool,
    handshake: Duration,
}

/// Why a connection never became a session.
#[derive(Debug, thiserror::Error)]
enum Turned {
    #[error("no handshake within its limit")]
    TooSlow,
    #[error("plain connections are not accepted; see `accept`")]
    PlainRefused,
    #[error("TLS is not accepted; see `accept`, `ssl_cert` and `ssl_key`")]
    TlsRefused,
    #[error("{}", tls::explain(.0))]
    Handshake(io::Error),
    #[error(transparent)]
    Gone(io::Error),
}

impl Door {
    /// Loads the certificates.
    pub(crate) fn new(config: &Config) -> Result<Self, TlsSetupError> {
        let files = config.tls.as_ref();
        Ok(Self {
            tls: files.map(tls::server_config).transpose()?,
            pinned: files.map(|files| files.pinned.clone()).unwrap_or_default(),
            plain: config.plain,
            handshake: config.handshake,
        })
    }

    /// Lets one connection in and serves it.
    async fn enter(&self, node: Arc<Node>, stream: TcpStream, peer: SocketAddr, shutdown: &Shutdown) {
        let opening = timeout(self.handshake, self.open(stream)).await.unwrap_or(Err(Turned::TooSlow));
        match opening {
            Ok(Opened::Plain(stream)) => {
                let rights = Rights::of(&Peer::plain(), node.insecure);
                session::serve(node, stream, peer, rights, shutdown).await;
            }
            Ok(Opened::Tls(stream)) => {
                let who = Peer::of(stream.get_ref().1, &self.pinned);
                let rights = Rights::of(&who, node.insecure);
                debug!(%peer, identity = ?who.identity, ?rights, "handshake finished");
                if who.alpn.as_deref() == Some(ALPN_RELAY) {
                    relay::serve(node, *stream, peer, &who, &rights, shutdown).await;
                } else {
                    session::serve(node, *stream, peer, rights, shutdown).await;
                }
            }
            Err(Turned::Gone(reason)) => debug!(%peer, %reason, "gone before the first byte"),
            Err(reason) => {
                node.totals.turned_away(1);
                if let Some(line) = node.repeats.admit("turned away", peer.ip()) {
                    warn!(%peer, %reason, suppressed = line.suppressed, "turned away");
                }
            }
        }
    }

    async fn open(&self, stream: TcpStream) -> Result<Opened, Turned> {
        match (sniff(&stream, self.handshake).await, &self.tls) {
            (Ok(Opening::Tls), Some(config)) => {
                let stream = tls::accept(config, stream).await.map_err(Turned::Handshake)?;
                Ok(Opened::Tls(Box::new(stream)))
            }
            (Ok(Opening::Tls), None) => Err(Turned::TlsRefused),
            (Ok(Opening::Plain), _) if self.plain => Ok(Opened::Plain(stream)),
            (Ok(Opening::Plain), _) => Err(Turned::PlainRefused),
            (Err(error), _) if error.kind() == io::ErrorKind::TimedOut => Err(Turned::TooSlow),
            (Err(error), _) => Err(Turned::Gone(error)),
        }
    }
}

enum Opened {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::server::TlsStream<TcpStream>>),
}

/// Takes the ports. A host without IPv6 is no error where nobody asked for IPv6.
pub(crate) fn bind(listen: &Listen) -> io::Result<Listener> {
    let mut addresses = listen.addresses.clone();
    if listen.by_default && UdpSocket::bind("[::]:0").is_err() {
        warn!("this host has no IPv6: listening on IPv4 only; name `addresses` to silence this");
        addresses.retain(SocketAddr::is_ipv4);
    }
    Listener::bind(&addresses, listen.limits)
}

/// Takes connections until the node stops, then waits until the last session has ended or was dropped.
pub(crate) async fn run(node: Arc<Node>, door: Door, mut listener: Listener, shutdown: Shutdown) {
    let door = Arc::new(door);
    let sessions = TaskTracker::new();
    let mut telling = interval_at(Instant::now() + totals::EVERY, totals::EVERY);
    let mut sampling = interval_at(Instant::now() + rates::EVERY, rates::EVERY);
    loop {
        let arrival = tokio::select! {
            biased;
            () = shutdown.draining() => break,
            _ = telling.tick() => {
                totals::tell(&node);
                continue;
            }
            _ = sampling.tick() => {
                node.rates.sample(node.totals.traffic());
                continue;
            }
            arrival = listener.next() => arrival,
        };
        match arrival {
            Arrival::Accepted { stream, peer, permit } => {
                let (node, door, shutdown) = (node.clone(), door.clone(), shutdown.clone());
                sessions.spawn(async move {
                    let _counted = Counted::new(&node);
                    let node = node.clone();
                    tokio::select! {
                        () = door.enter(node, stream, peer, &shutdown) => {}
                        () = shutdown.aborting() => debug!(%peer, "dropped: the node is stopping"),
                    }
                    drop(permit);
                });
            }
            Arrival::Refused { peer, limit, count } => {
                node.totals.turned_away(count);
                node.limits_hit.hit(limits_hit::CONNECTIONS);
                log_over_limit(peer, limit, count);
            }
            Arrival::Failed(error) => warn!(%error, "cannot accept connections at the moment"),
        }
    }
    drop(listener);
    sessions.close();
    sessions.wait().await;
    totals::tell(&node);
}

/// One connection more, until it is dropped.
struct Counted<'a>(&'a Node);

impl<'a> Counted<'a> {
    fn new(node: &'a Node) -> Self {
        node.connections.fetch_add(1, Ordering::Relaxed);
        Self(node)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

fn log_over_limit(peer: IpAddr, limit: Limit, count: u64) {
    let key = match limit {
        Limit::Total => "max_connections",
        Limit::PerAddress => "max_connections_per_address",
    };
    warn!(%peer, limit = key, count, "connections over the limit were closed");
}
