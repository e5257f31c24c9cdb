//! Opens the connection: from the wanted local address, with TLS if asked for.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tidegate_net::tls;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;

use crate::options::Options;
use crate::transfer::Failure;

/// The shortest time that connecting and the handshake are given, however impatient the options are.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// A connection, plain or TLS.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// The connection, and its own address for messages.
pub(crate) async fn connect(options: &Options) -> Result<(Box<dyn Stream>, SocketAddr), Failure> {
    let config = match &options.tls {
        Some(files) => {
            Some(tls::client_config(files).map_err(|error| Failure::Certificates(error.to_string()))?)
        }
        None => None,
    };
    let patience = options.patience.max(CONNECT_PATIENCE);
    let refused = |error| Failure::Connect { address: options.address.clone(), port: options.port, error };
    let stream = match timeout(patience, dial(options)).await {
        Ok(stream) => stream.map_err(refused)?,
        Err(_) => return Err(refused(io::ErrorKind::TimedOut.into())),
    };
    stream.set_nodelay(true).map_err(refused)?;
    let local = stream.local_addr().map_err(refused)?;
    options.say.log(&format!("Connected to {} port {}", options.address, options.port));
    let Some(config) = config else { return Ok((Box::new(stream), local)) };
    match timeout(patience, tls::connect(&config, &options.address, stream)).await {
        Ok(Ok(stream)) => Ok((Box::new(stream), local)),
        Ok(Err(error)) => Err(Failure::Handshake(tls::explain(&error))),
        Err(_) => Err(Failure::TimedOut { local }),
    }
}

/// Tries every address of the host.
async fn dial(options: &Options) -> io::Result<TcpStream> {
    let host = options.address.trim_matches(['[', ']']);
    first_that_answers(lookup_host((host, options.port)).await?, options.bind).await
}

/// An address may be out of reach for a reason of this host: no IPv6, a local address of the other family.
async fn first_that_answers(
    addresses: impl Iterator<Item = SocketAddr>,
    local: Option<IpAddr>,
) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in addresses {
        match dial_one(address, local).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn dial_one(address: SocketAddr, local: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(local) = local {
        socket.bind(SocketAddr::new(local, 0))?;
    }
    socket.connect(address).await
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[tokio::test]
    async fn an_address_that_the_local_one_does_not_fit_is_passed_over() {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let there = listener.local_addr().expect("bound");
        let unfit = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), there.port());
        let local = Some(Ipv4Addr::LOCALHOST.into());
        let stream = first_that_answers([unfit, there].into_iter(), local).await.expect("the second one");
        assert_eq!(stream.peer_addr().expect("connected"), there);
        first_that_answers([unfit].into_iter(), local).await.expect_err("the only one");
    }
}
