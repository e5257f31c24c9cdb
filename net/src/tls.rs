//! TLS for both ends: configurations, handshakes, who the peer is, and why a handshake failed.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::{ClientConfig, CommonState, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{client, server};

use crate::identity::{Fingerprint, Identity};

/// The ALPN name of plain Tentacle commands, understood by Tidegate nodes only.
pub const ALPN_TENTACLE: &[u8] = b"tentacle";

/// What the listening end needs.
#[derive(Debug, Clone)]
pub struct ServerFiles {
    /// Its certificate, with intermediates.
    pub cert: PathBuf,
    /// The certificate's key.
    pub key: PathBuf,
    /// Authorities of client certificates.
    pub ca: Option<PathBuf>,
    /// Whether a client without a certificate is refused.
    pub require_client_cert: bool,
    /// Client certificates accepted by fingerprint alone.
    pub pinned: Vec<Fingerprint>,
}

/// What the dialling end needs.
#[derive(Debug, Clone)]
pub struct ClientFiles {
    /// Authorities of server certificates.
    pub ca: Option<PathBuf>,
    /// Its own certificate, if it presents one.
    pub cert: Option<PathBuf>,
    /// The certificate's key.
    pub key: Option<PathBuf>,
    /// How the server is recognised.
    pub verify: Verify,
}

/// How the dialling end recognises the server.
#[derive(Debug, Clone)]
pub enum Verify {
    /// Signed by the authority, and valid for this host name or IP address.
    Name {
        /// The host name or IP address.
        expected: String,
    },
    /// Signed by the authority, and carrying `tidegate:node/<name>`.
    NodeIdentity(String),
    /// Exactly this certificate, whatever it says about itself.
    Pinned(Fingerprint),
    /// Not at all.
    None,
}

/// Why a TLS configuration cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// A file.
    #[error(transparent)]
    Pem(#[from] crate::pem::PemError),
    /// A combination of settings.
    #[error("{0}")]
    Setting(String),
}

/// Who the other end is.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// The identity in its certificate, verified.
    pub identity: Option<Identity>,
    /// Its certificate's fingerprint.
    pub fingerprint: Option<Fingerprint>,
    /// Whether the connection is TLS.
    pub tls: bool,
    /// The protocol agreed on.
    pub alpn: Option<Vec<u8>>,
    /// Whether the certificate is one of the pinned.
    pub pinned: bool,
}

impl Peer {
    /// Somebody on a connection without TLS.
    pub fn plain() -> Self {
        Self::default()
    }

    /// The peer of a finished handshake (`stream.get_ref().1`).
    pub fn of(connection: &CommonState, pinned: &[Fingerprint]) -> Self {
        let _ = (connection, pinned);
        unimplemented!()
    }
}

/// The listening end's configuration.
pub fn server_config(files: &ServerFiles) -> Result<Arc<ServerConfig>, TlsSetupError> {
    let _ = files;
    unimplemented!()
}

/// The dialling end's configuration.
pub fn client_config(files: &ClientFiles) -> Result<Arc<ClientConfig>, TlsSetupError> {
    let _ = files;
    unimplemented!()
}

/// The listening end's handshake. The caller bounds its time. [`explain`] tells what an error means.
pub async fn accept<S>(config: &Arc<ServerConfig>, stream: S) -> io::Result<server::TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let _ = (config, stream);
    unimplemented!()
}

/// The dialling end's handshake with `host` (name or IP address, sent as SNI if a name). The caller bounds its
/// time. [`explain`] tells what an error means.
pub async fn connect<S>(config: &Arc<ClientConfig>, host: &str, stream: S) -> io::Result<client::TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let _ = (config, host, stream);
    unimplemented!()
}

/// A failed handshake in plain words: which side, which certificate, which check, which command fixes it.
pub fn explain(error: &io::Error) -> String {
    error.to_string()
}
