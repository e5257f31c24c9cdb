//! TLS for both ends: configurations, handshakes, who the peer is, and why a handshake failed.
//!
//! TLS 1.2 and 1.3 with the ring provider, named explicitly. No resumption, tickets or early data: a resumed session
//! would skip the checks of the certificate. Nothing is read from the system's certificate store.
//!
//! ```text
//! setup      files → rustls configurations
//! verify     the checks of a peer's certificate, and why one failed (refusal)
//! handshake  a stream → a TLS stream, or an error that remembers the reason
//! explain    an error → plain words and the command that fixes it
//! ```

mod explain;
mod handshake;
mod refusal;
mod setup;
mod verify;

use rustls::CommonState;

pub use explain::explain;
pub use handshake::{accept, connect};
pub use setup::{ClientFiles, ServerFiles, TlsSetupError, Verify, client_config, server_config};

use crate::identity::{Fingerprint, Identity};

/// The ALPN name of plain Tentacle commands. Only Tidegate nodes agree to it: a stock server has no ALPN, so a
/// connection without it speaks to one.
pub const ALPN_TENTACLE: &[u8] = b"tentacle";

/// The ALPN name of relay, the pull protocol. A node prefers it wherever it is offered.
pub const ALPN_RELAY: &[u8] = b"tidegate/1";

/// Who the other end is.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// The identity in its certificate. As true as the configuration's checks make it: with [`Verify::None`] it is
    /// only a claim; a listening end has always checked it.
    pub identity: Option<Identity>,
    /// Its certificate's fingerprint; `None` when it presented no certificate.
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
        let certificate = connection.peer_certificates().and_then(<[_]>::first);
        let fingerprint = certificate.map(Fingerprint::of);
        Self {
            identity: certificate
                .and_then(|certificate| Identity::of_certificate(certificate).ok().flatten()),
            pinned: fingerprint.is_some_and(|fingerprint| pinned.contains(&fingerprint)),
            fingerprint,
            tls: true,
            alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
        }
    }
}
