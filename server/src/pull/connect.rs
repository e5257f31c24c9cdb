//! Reaching a site: address, connection, TLS. Every step within `sync_timeout`.

use std::time::Duration;

use tidegate_net::tls::{self, ALPN_RELAY, ALPN_TENTACLE, Peer};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::prompt::Prompt;
use super::{Fault, Kind};
use crate::config::{PullMode, Site};
use crate::pipeline::Trouble;

/// Addresses of one host that are tried; the time for connecting is shared between them.
const ADDRESSES_MAX: usize = 4;

/// What is wrong where only relay will do.
const NO_RELAY: &str = "the site does not have relay, and pull_mode = \"relay\" allows nothing else: update a Tidegate \
                        node that is older; for a stock Tentacle server write pull_mode = \"auto\"";

/// A connection on which nothing has been said yet.
#[derive(Debug)]
pub(crate) enum Connection {
    Plain(Box<Prompt>),
    Tls(Box<TlsStream<Prompt>>, Kind),
    Relay(Box<TlsStream<Prompt>>),
}

/// Connects to a site.
pub(crate) async fn connect(site: &Site) -> Result<Connection, Fault> {
    let patience = site.sync.timeout;
    let stream = Prompt::new(tcp(site, patience).await?);
    let Some(files) = &site.tls else { return Ok(Connection::Plain(Box::new(stream))) };
    let config = {
        // Read anew for every attempt: a renewed certificate needs no restart.
        let files = files.clone();
        let loaded = tokio::task::spawn_blocking(move || tls::client_config(&files)).await;
        loaded
            .map_err(|error| Fault::Here(Trouble::Failed(error.to_string())))?
            .map_err(|error| Fault::Here(Trouble::Failed(error.to_string())))?
    };
    let mut stream = timeout(patience, tls::connect(&config, &site.host, stream))
        .await
        .map_err(|_| Fault::Site(format!("no TLS handshake within {patience:?}; does the site speak TLS?")))?
        .map_err(|error| Fault::Site(tls::explain(&error)))?;
    match Peer::of(stream.get_ref().1, &[]).alpn.as_deref() {
        Some(ALPN_RELAY) => {
            stream.get_mut().0.relax();
            Ok(Connection::Relay(Box::new(stream)))
        }
        _ if site.sync.mode == PullMode::Relay => Err(Fault::Site(NO_RELAY.into())),
        Some(ALPN_TENTACLE) => {
            stream.get_mut().0.relax();
            Ok(Connection::Tls(Box::new(stream), Kind::Tidegate))
        }
        _ => Ok(Connection::Tls(Box::new(stream), Kind::Stock)),
    }
}

async fn tcp(site: &Site, patience: Duration) -> Result<TcpStream, Fault> {
    let (host, port) = (site.host.as_str(), site.port);
    let addresses: Vec<_> = timeout(patience, lookup_host((host, port)))
        .await
        .map_err(|_| Fault::Site(format!("the address of {host} did not come within {patience:?}")))?
        .map_err(|error| Fault::Site(format!("cannot find the address of {host}: {error}")))?
        .take(ADDRESSES_MAX)
        .collect();
    let mut failed = Fault::Site(format!("{host} has no address"));
    for address in &addresses {
        let share = patience / u32::try_from(addresses.len()).unwrap_or(1);
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true).map_err(|error| Fault::Site(format!("TCP_NODELAY: {error}")))?;
                return Ok(stream);
            }
            Ok(Err(error)) => failed = Fault::Site(format!("cannot connect to {address}: {error}")),
            Err(_) => failed = Fault::Site(format!("cannot connect to {address} within {share:?}")),
        }
    }
    Err(failed)
}
