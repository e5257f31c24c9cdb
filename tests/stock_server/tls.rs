//! TLS as the reference does it: no ALPN, and one of two rules for client certificates.

use std::io::{BufReader, ErrorKind};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig,
    ServerConnection, SignatureScheme, StreamOwned,
};

use crate::wire::End;

/// With an authority (`-f`) a client certificate is mandatory. Without one a certificate is requested, none is fine,
/// and any that comes is refused, because the system store of a typical site can verify none of them.
pub(crate) fn server_config(
    certificate: &Path,
    key: &Path,
    authority: Option<&Path>,
) -> anyhow::Result<Arc<ServerConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier: Arc<dyn ClientCertVerifier> = match authority {
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for root in certificates(path)? {
                roots.add(root).with_context(|| format!("authority {}", path.display()))?;
            }
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()?
        }
        None => Arc::new(EmptySystemStore(Arc::clone(&provider))),
    };
    let key = rustls_pemfile::private_key(&mut open(key)?)?
        .with_context(|| format!("{} holds no private key", key.display()))?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(certificate)?, key)?;
    Ok(Arc::new(config))
}

/// Completes the handshake, so that its failure ends the session as in the reference.
pub(crate) fn accept(
    config: Arc<ServerConfig>,
    mut stream: TcpStream,
) -> Result<StreamOwned<ServerConnection, TcpStream>, End> {
    let mut connection = ServerConnection::new(config).map_err(|error| End::because(error.to_string()))?;
    while connection.is_handshaking() {
        match connection.complete_io(&mut stream) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(End::because(format!("SSL: {error}"))),
        }
    }
    Ok(StreamOwned::new(connection, stream))
}

fn open(path: &Path) -> anyhow::Result<BufReader<std::fs::File>> {
    Ok(BufReader::new(std::fs::File::open(path).with_context(|| path.display().to_string())?))
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    Ok(rustls_pemfile::certs(&mut open(path)?).collect::<Result<_, _>>()?)
}

/// Verifies no certificate at all: alert 48, unknown authority.
#[derive(Debug)]
struct EmptySystemStore(Arc<rustls::crypto::CryptoProvider>);

impl ClientCertVerifier for EmptySystemStore {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Err(CertificateError::UnknownIssuer.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
