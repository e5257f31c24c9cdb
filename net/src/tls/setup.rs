//! From the files an operator names to the configurations of both ends.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::ServerName;
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::verify::{ClientCheck, ServerCheck, ServerRule};
use super::{ALPN_RELAY, ALPN_TENTACLE};
use crate::identity::{Fingerprint, Identity, Role};
use crate::pem::{self, PemError};

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
    /// Client certificates accepted by fingerprint alone, also expired ones and X.509 v1.
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
    /// The protocols that are offered by ALPN. A node takes relay where it is among them.
    pub protocols: Vec<&'static [u8]>,
}

/// How the dialling end recognises the server.
///
/// Whatever the way (but for `None`), a server whose certificate carries another role than `node` is refused.
#[derive(Debug, Clone)]
pub enum Verify {
    /// Signed by the authority, and valid for this host name or IP address.
    Name {
        /// The host name or IP address.
        expected: String,
    },
    /// Signed by the authority, and carrying `tidegate:node/<name>`.
    NodeIdentity(String),
    /// Exactly this certificate, also if expired or X.509 v1.
    Pinned(Fingerprint),
    /// Not at all, like the stock client's `-c`.
    None,
}

/// Why a TLS configuration cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// A file.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// A combination of settings.
    #[error("{0}")]
    Setting(String),
}

/// The listening end's configuration.
///
/// Client certificates are asked for only if there is something to verify them with; one that is presented then must
/// pass, required or not.
pub fn server_config(files: &ServerFiles) -> Result<Arc<ServerConfig>, TlsSetupError> {
    let provider = provider();
    let own = pem::certified_key(&files.cert, &files.key)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(setting)?;
    let builder = match (&files.ca, &files.pinned[..]) {
        (None, []) if files.require_client_cert => {
            return Err(TlsSetupError::Setting(
                "client certificates are required, but there is neither an authority (CA file) nor a pinned \
                 fingerprint to verify them with"
                    .to_owned(),
            ));
        }
        (None, []) => builder.with_no_client_auth(),
        (ca, pinned) => {
            let roots = ca.as_deref().map(authorities).transpose()?;
            let check = ClientCheck::new(roots, pinned.to_vec(), files.require_client_cert, &provider);
            builder.with_client_cert_verifier(Arc::new(check.map_err(setting)?))
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    // Of what the client offers, the first of these is taken.
    config.alpn_protocols = vec![ALPN_RELAY.to_vec(), ALPN_TENTACLE.to_vec()];
    Ok(Arc::new(config))
}

/// The dialling end's configuration.
pub fn client_config(files: &ClientFiles) -> Result<Arc<ClientConfig>, TlsSetupError> {
    let provider = provider();
    let roots = files.ca.as_deref().map(authorities).transpose()?;
    let check = ServerCheck::new(rule(&files.verify, roots)?, &provider);
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(setting)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(check));
    let mut config = match (&files.cert, &files.key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(cert), Some(key)) => {
            let own = SingleCertAndKey::from(pem::certified_key(cert, key)?);
            builder.with_client_cert_resolver(Arc::new(own))
        }
        (Some(_), None) => return Err(TlsSetupError::Setting("a certificate without its key".to_owned())),
        (None, Some(_)) => return Err(TlsSetupError::Setting("a key without its certificate".to_owned())),
    };
    config.resumption = Resumption::disabled();
    config.alpn_protocols = files.protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Arc::new(config))
}

fn rule(verify: &Verify, roots: Option<RootCertStore>) -> Result<ServerRule, TlsSetupError> {
    let signed = |what: &str| {
        roots.ok_or_else(|| {
            TlsSetupError::Setting(format!(
                "to verify the server by its {what}, the authority that signs its certificate (a CA file) is needed"
            ))
        })
    };
    match verify {
        Verify::None => Ok(ServerRule::Any),
        Verify::Pinned(fingerprint) => Ok(ServerRule::Pinned(*fingerprint)),
        Verify::Name { expected } => {
            let name = server_name(expected)?;
            Ok(ServerRule::Named { roots: signed("name")?, name })
        }
        Verify::NodeIdentity(name) => {
            let identity = Identity::new(Role::Node, name).map_err(setting)?;
            Ok(ServerRule::Node { roots: signed("identity")?, identity })
        }
    }
}

/// A host name or an IP address (IPv6 with or without brackets), as rustls has it.
pub(super) fn server_name(host: &str) -> Result<ServerName<'static>, TlsSetupError> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(ServerName::IpAddress(address.into()));
    }
    ServerName::try_from(host.to_owned()).map_err(|_| {
        TlsSetupError::Setting(format!("`{}` is neither a host name nor an IP address", host.escape_debug()))
    })
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsSetupError> {
    let mut roots = RootCertStore::empty();
    for (place, certificate) in pem::certificates(path)?.into_iter().enumerate() {
        roots.add(certificate).map_err(|error| {
            let place = place + 1;
            TlsSetupError::Setting(format!(
                "{}: certificate number {place} cannot serve as an authority: {error}",
                path.display()
            ))
        })?;
    }
    Ok(roots)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn setting(error: impl std::fmt::Display) -> TlsSetupError {
    TlsSetupError::Setting(error.to_string())
}
