//! The handshakes of both ends, over any stream.
//!
//! rustls aborts when a client offers ALPN protocols and the server knows none of them. Tentacle servers have always
//! ignored ALPN, so here too such a client gets its connection, without ALPN: the server looks at the ClientHello
//! before it chooses its configuration.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;

use rustls::server::Acceptor;
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_rustls::{LazyConfigAcceptor, TlsConnector, client, server};

use super::explain::{End, HandshakeError};
use super::refusal::REASON;
use super::setup::server_name;
use crate::link::linger;

/// The listening end's handshake. The caller bounds its time. [`explain`](super::explain()) tells what an error means.
pub async fn accept<S>(config: &Arc<ServerConfig>, stream: S) -> io::Result<server::TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // Boxed, so that the room a handshake needs is given back when it is over.
    Box::pin(explained(End::Listening, greet(Arc::clone(config), stream))).await
}

/// The dialling end's handshake with `host` (name or IP address; a name is sent as SNI). Who is expected there is the
/// configuration's business ([`Verify`](super::Verify)). The caller bounds its time. [`explain`](super::explain())
/// tells what an error means.
pub async fn connect<S>(config: &Arc<ClientConfig>, host: &str, stream: S) -> io::Result<client::TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = server_name(host).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let handshake = TlsConnector::from(Arc::clone(config)).connect(name, stream).into_fallible();
    Box::pin(explained(End::Dialling, handshake)).await
}

async fn greet<S>(config: Arc<ServerConfig>, stream: S) -> Result<server::TlsStream<S>, (io::Error, S)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut hello = LazyConfigAcceptor::new(Acceptor::default(), stream);
    let start = match (&mut hello).await {
        Ok(start) => start,
        Err(error) => {
            let stream = hello.take_io().expect("a stream that became no connection is still there");
            return Err((error, stream));
        }
    };
    let foreign = start.client_hello().alpn().is_some_and(|mut offered| {
        !offered.any(|protocol| config.alpn_protocols.iter().any(|known| known == protocol))
    });
    let config = if foreign { without_alpn(&config) } else { config };
    start.into_stream(config).into_fallible().await
}

fn without_alpn(config: &ServerConfig) -> Arc<ServerConfig> {
    let mut config = config.clone();
    config.alpn_protocols.clear();
    Arc::new(config)
}

/// Runs a handshake; if it fails, lets the peer read our alert, and joins the verifier's words to the error.
async fn explained<T, S>(
    end: End,
    handshake: impl Future<Output = Result<T, (io::Error, S)>>,
) -> io::Result<T>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut handshake = pin!(REASON.scope(RefCell::new(None), handshake));
    let (error, mut stream) = match handshake.as_mut().await {
        Ok(connection) => return Ok(connection),
        Err(failed) => failed,
    };
    let reason = handshake.as_mut().take_value().and_then(RefCell::into_inner);
    if stream.shutdown().await.is_ok() {
        linger(&mut stream).await;
    }
    Err(HandshakeError::new(end, reason, error).into())
}
