//! Accepting connections under limits that hold from the first byte.
//!
//! A flood must cost little: a connection over a limit is closed unread, its report is counted and given at most once
//! a second, and when the process runs out of descriptors the listener pauses instead of spinning on the same error.
//! What was only counted is reported when the second is over, so that the reports add up to the total.

mod places;

use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use std::{io, mem};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep, sleep, timeout, timeout_at};

use places::Places;
pub use places::{Limit, Limits, Permit};

/// Connections that the kernel holds until they are accepted; more wait for their SYN to be answered.
const BACKLOG: i32 = 1024;

/// How long nothing is accepted after a failure such as EMFILE: long enough not to spin, short enough for a peer that
/// waits.
const FAILURE_PAUSE: Duration = Duration::from_millis(200);

/// The least time between two reports of the same kind; what happens meanwhile is only counted.
const REPORT_PAUSE: Duration = Duration::from_secs(1);

/// What the next wait on a [`Listener`] brought.
#[derive(Debug)]
pub enum Arrival {
    /// A connection within the limits.
    Accepted {
        /// The connection, TCP_NODELAY set.
        stream: TcpStream,
        /// Where it comes from; IPv4 is never shown as mapped IPv6.
        peer: SocketAddr,
        /// Its place under the limits; dropped = given back. Keep it as long as the stream.
        permit: Permit,
    },
    /// A connection over a limit, already closed. Reported at most once a second, for the log.
    Refused {
        /// The peer of the last refused connection.
        peer: IpAddr,
        /// The limit it met.
        limit: Limit,
        /// How many were refused since the last report, this one included.
        count: u64,
    },
    /// Accepting failed (out of file descriptors or memory); the listener waits and tries again. Reported at
    /// most once a second, for the log.
    Failed(io::Error),
}

/// Listening sockets on one or several addresses, under one set of limits.
#[derive(Debug)]
pub struct Listener {
    sockets: Vec<TcpListener>,
    /// The socket that is asked first, so that a busy one does not starve the others.
    turn: usize,
    places: Places,
    refusals: Reports,
    /// The last refused connection, and the limit it met.
    refused_last: Option<(IpAddr, Limit)>,
    failures: Reports,
    /// Until when nothing is accepted, after a failure.
    pause: Option<Pin<Box<Sleep>>>,
}

impl Listener {
    /// Listens on every address, or on none and says which failed. IPv6 sockets take IPv6 only, so that `0.0.0.0`
    /// and `::` can stand side by side. Must be called inside a tokio runtime.
    pub fn bind(addresses: &[SocketAddr], limits: Limits) -> io::Result<Self> {
        let bound = addresses.iter().map(|address| {
            bind(*address)
                .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))
        });
        Ok(Self {
            sockets: bound.collect::<io::Result<_>>()?,
            turn: 0,
            places: Places::new(limits),
            refusals: Reports::default(),
            refused_last: None,
            failures: Reports::default(),
            pause: None,
        })
    }

    /// The addresses really listened on, with the ports that were given for port 0.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }

    /// How many connections hold a permit.
    pub fn open(&self) -> usize {
        self.places.open()
    }

    /// How many connections were refused since the start, reported or not yet.
    pub fn refused_total(&self) -> u64 {
        self.refusals.total
    }

    /// The next connection or report. May be dropped and called again without losing a connection.
    pub async fn next(&mut self) -> Arrival {
        loop {
            if let Some(pause) = &mut self.pause {
                pause.await;
                self.pause = None;
            }
            let held_back = self.refusals.held_back();
            let accept = poll_fn(|cx| self.poll_accept(cx));
            let accepted = match held_back {
                Some(until) => timeout_at(until, accept).await.ok(),
                None => Some(accept.await),
            };
            match accepted {
                None => {
                    if let Some(report) = self.report() {
                        return report;
                    }
                }
                Some(Ok((stream, peer))) => {
                    if let Some(arrival) = self.admit(stream, peer) {
                        return arrival;
                    }
                }
                Some(Err(error)) if concerns_one_peer(&error) => {}
                Some(Err(error)) => {
                    self.pause = Some(Box::pin(sleep(FAILURE_PAUSE)));
                    self.failures.count();
                    if self.failures.due().is_some() {
                        return Arrival::Failed(error);
                    }
                }
            }
        }
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let count = self.sockets.len();
        for place in (self.turn..count).chain(0..self.turn) {
            if let Poll::Ready(accepted) = self.sockets[place].poll_accept(cx) {
                self.turn = (place + 1) % count;
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    }

    /// Gives the connection a place, or drops it.
    fn admit(&mut self, stream: TcpStream, peer: SocketAddr) -> Option<Arrival> {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let permit = match self.places.take(peer.ip()) {
            Ok(permit) => permit,
            Err(limit) => {
                self.refusals.count();
                self.refused_last = Some((peer.ip(), limit));
                return self.report();
            }
        };
        // Without it, replies of a few bytes wait for the acknowledgement of the last one.
        match stream.set_nodelay(true) {
            Ok(()) => Some(Arrival::Accepted { stream, peer, permit }),
            Err(error) => {
                tracing::debug!(%peer, %error, "gone as soon as it was accepted");
                None
            }
        }
    }

    /// The report of refused connections, if one is due.
    fn report(&mut self) -> Option<Arrival> {
        let (peer, limit) = self.refused_last?;
        self.refusals.due().map(|count| Arrival::Refused { peer, limit, count })
    }
}

/// Counts what happens, and says at most once per [`REPORT_PAUSE`] how often.
#[derive(Debug, Default)]
struct Reports {
    /// When the last report was given.
    last: Option<Instant>,
    /// How often it happened since.
    unreported: u64,
    total: u64,
}

impl Reports {
    /// It has happened once more.
    fn count(&mut self) {
        self.unreported += 1;
        self.total += 1;
    }

    /// How often it has happened, if it is time for a report.
    fn due(&mut self) -> Option<u64> {
        let now = Instant::now();
        if self.unreported == 0 || self.last.is_some_and(|last| now < last + REPORT_PAUSE) {
            return None;
        }
        self.last = Some(now);
        Some(mem::take(&mut self.unreported))
    }

    /// Until when a report is held back, if there is one.
    fn held_back(&self) -> Option<Instant> {
        self.last.filter(|_| self.unreported > 0).map(|last| last + REPORT_PAUSE)
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A restart must not wait for old connections to time out.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Errors of a connection that died before it was accepted (accept(2) passes them on).
fn concerns_one_peer(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(
        error.kind(),
        K::ConnectionAborted
            | K::ConnectionReset
            | K::ConnectionRefused
            | K::TimedOut
            | K::HostUnreachable
            | K::NetworkUnreachable
            | K::NetworkDown
            | K::Interrupted
    )
}

/// What a connection begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// A TLS handshake record.
    Tls,
    /// Anything else.
    Plain,
}

/// The content type that every TLS connection begins with. No Tentacle command begins with it.
const TLS_HANDSHAKE: u8 = 0x16;

/// Looks at the first byte without taking it. `TimedOut` if none comes, `UnexpectedEof` if the peer closes first.
pub async fn sniff(stream: &TcpStream, patience: Duration) -> io::Result<Opening> {
    let mut first = [0];
    match timeout(patience, stream.peek(&mut first)).await {
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the peer sent nothing")),
        Ok(Ok(0)) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the peer closed without a byte")),
        Ok(Ok(_)) if first[0] == TLS_HANDSHAKE => Ok(Opening::Tls),
        Ok(Ok(_)) => Ok(Opening::Plain),
        Ok(Err(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const WIDE: Limits = Limits { total: 100, per_address: 100 };

    fn listen(addresses: &[&str], limits: Limits) -> Listener {
        let addresses: Vec<SocketAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Listener::bind(&addresses, limits).unwrap()
    }

    async fn accepted(listener: &mut Listener) -> (TcpStream, SocketAddr, Permit) {
        match listener.next().await {
            Arrival::Accepted { stream, peer, permit } => (stream, peer, permit),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn one_listener_serves_ipv4_and_ipv6_on_the_same_port() {
        let first = listen(&["127.0.0.1:0"], WIDE);
        let port = first.addresses()[0].port();
        drop(first);
        let mut both = listen(&[&format!("0.0.0.0:{port}"), &format!("[::]:{port}")], WIDE);
        for address in ["127.0.0.1", "::1"] {
            let ip: IpAddr = address.parse().unwrap();
            let client = TcpStream::connect((ip, port)).await.unwrap();
            let (stream, peer, _permit) = accepted(&mut both).await;
            assert_eq!(peer, client.local_addr().unwrap());
            assert!(stream.nodelay().unwrap());
        }
    }

    #[tokio::test]
    async fn an_address_that_cannot_be_had_is_named() {
        let taken = listen(&["127.0.0.1:0"], WIDE);
        let address = taken.addresses()[0];
        let error = Listener::bind(&[address], WIDE).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }

    #[tokio::test]
    async fn over_a_limit_a_connection_is_closed_and_reported_and_places_come_back() {
        let mut listener = listen(&["127.0.0.1:0"], Limits { total: 100, per_address: 1 });
        let address = listener.addresses()[0];
        let _first = TcpStream::connect(address).await.unwrap();
        let (_stream, _, permit) = accepted(&mut listener).await;

        let mut second = TcpStream::connect(address).await.unwrap();
        let refused = listener.next().await;
        assert!(
            matches!(refused, Arrival::Refused { limit: Limit::PerAddress, count: 1, .. }),
            "{refused:?}"
        );
        assert_eq!(second.read(&mut [0]).await.unwrap(), 0);

        drop(permit);
        assert_eq!(listener.open(), 0);
        let _third = TcpStream::connect(address).await.unwrap();
        let (_stream, _, _permit) = accepted(&mut listener).await;
        assert_eq!(listener.open(), 1);
    }

    #[tokio::test]
    async fn many_refusals_are_few_reports_and_none_is_left_out() {
        let mut listener = listen(&["127.0.0.1:0"], Limits { total: 0, per_address: 1 });
        let address = listener.addresses()[0];
        let mut refused = Vec::new();
        for _ in 0..4 {
            refused.push(TcpStream::connect(address).await.unwrap());
        }
        let mut counts = Vec::new();
        while counts.iter().sum::<u64>() < 4 {
            match listener.next().await {
                Arrival::Refused { peer, limit: Limit::Total, count } if peer == address.ip() => {
                    counts.push(count)
                }
                other => panic!("{other:?}"),
            }
        }
        // The first is reported at once; nobody comes after the last one, and yet it is.
        assert_eq!(counts[0], 1);
        assert_eq!((counts.iter().sum::<u64>(), listener.refused_total()), (4, 4));
    }

    #[tokio::test]
    async fn the_first_byte_tells_tls_from_plain_and_stays() {
        let mut listener = listen(&["127.0.0.1:0"], WIDE);
        for (sent, opening) in [(&b"\x16\x03\x01"[..], Opening::Tls), (b"SEND", Opening::Plain)] {
            let mut client = TcpStream::connect(listener.addresses()[0]).await.unwrap();
            let (mut stream, ..) = accepted(&mut listener).await;
            client.write_all(sent).await.unwrap();
            assert_eq!(sniff(&stream, Duration::from_secs(10)).await.unwrap(), opening);
            let mut read = vec![0; sent.len()];
            stream.read_exact(&mut read).await.unwrap();
            assert_eq!(read, sent);
        }
    }

    #[tokio::test]
    async fn a_peer_that_sends_nothing_is_told_from_one_that_leaves() {
        let mut listener = listen(&["127.0.0.1:0"], WIDE);
        let client = TcpStream::connect(listener.addresses()[0]).await.unwrap();
        let (stream, ..) = accepted(&mut listener).await;
        let silent = sniff(&stream, Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(silent.kind(), io::ErrorKind::TimedOut);
        drop(client);
        let left = sniff(&stream, Duration::from_secs(10)).await.unwrap_err();
        assert_eq!(left.kind(), io::ErrorKind::UnexpectedEof);
    }
}
