//! Accepting connections under limits that hold from the first byte.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;

/// How many connections may be open at once. One more is closed at once, unread.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// All peers together.
    pub total: usize,
    /// One peer address.
    pub per_address: usize,
}

/// Which limit a refused connection met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// [`Limits::total`].
    Total,
    /// [`Limits::per_address`].
    PerAddress,
}

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

/// Listening sockets on one or several addresses.
#[derive(Debug)]
pub struct Listener {}

/// A connection's place under the limits.
#[derive(Debug)]
pub struct Permit {}

impl Listener {
    /// Listens on every address, or on none and says which failed. IPv6 sockets take IPv6 only, so that `0.0.0.0`
    /// and `::` can stand side by side. Must be called inside a tokio runtime.
    pub fn bind(addresses: &[SocketAddr], limits: Limits) -> io::Result<Self> {
        let _ = (addresses, limits);
        unimplemented!()
    }

    /// The addresses really listened on, with the ports that were given for port 0.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        unimplemented!()
    }

    /// How many connections hold a permit.
    pub fn open(&self) -> usize {
        unimplemented!()
    }

    /// The next connection or report. May be dropped and called again without losing a connection.
    pub async fn next(&mut self) -> Arrival {
        unimplemented!()
    }
}

/// What a connection begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// A TLS handshake record.
    Tls,
    /// Anything else.
    Plain,
}

/// Looks at the first byte without taking it. `TimedOut` if none comes, `UnexpectedEof` if the peer closes first.
pub async fn sniff(stream: &TcpStream, patience: Duration) -> io::Result<Opening> {
    let _ = (stream, patience);
    unimplemented!()
}
