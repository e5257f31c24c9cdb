//! The checks of a peer's certificate.
//!
//! A certificate is accepted because an authority of ours signed it, or because its fingerprint is pinned. In either
//! case the peer proves that it holds the key, by a signature that is verified against the raw public key: so a
//! pinned certificate may be X.509 v1, which the path builder cannot even read. Every failure leaves its reason in
//! words for whoever reports the handshake ([`super::refusal`]).

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, ServerName, SignatureVerificationAlgorithm, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved, RootCertStore,
    SignatureScheme,
};

use super::refusal::{Refusal, Subject, refuse};
use crate::certificate::RawKey;
use crate::identity::{Fingerprint, Identity, Role};

/// What the listening end asks of clients.
#[derive(Debug)]
pub(super) struct ClientCheck {
    signed: Option<Arc<dyn ClientCertVerifier>>,
    pinned: Vec<Fingerprint>,
    required: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCheck {
    pub(super) fn new(
        roots: Option<RootCertStore>,
        pinned: Vec<Fingerprint>,
        required: bool,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, VerifierBuilderError> {
        let signed = match roots {
            Some(roots) => Some(
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build()?,
            ),
            None => None,
        };
        Ok(Self { signed, pinned, required, algorithms: provider.signature_verification_algorithms })
    }

    fn check(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Refusal> {
        if self.pinned.contains(&Fingerprint::of(certificate)) {
            return Ok(());
        }
        let signed = self.signed.as_ref().ok_or(Refusal::NotPinned)?;
        signed.verify_client_cert(certificate, intermediates, now)?;
        // What the holder may do is not decided here, but it has to be readable.
        Identity::of_certificate(certificate).map_err(Refusal::Identity)?;
        Ok(())
    }
}

impl ClientCertVerifier for ClientCheck {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    /// None: some clients would otherwise not present a certificate that is pinned.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.check(certificate, intermediates, now) {
            Ok(()) => Ok(ClientCertVerified::assertion()),
            Err(refusal) => Err(refuse(Subject::Client, certificate, refusal)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        prove(&self.algorithms, message, certificate, signed, Version::Tls12)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        prove(&self.algorithms, message, certificate, signed, Version::Tls13)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// How the dialling end recognises the server.
#[derive(Debug)]
pub(super) enum ServerRule {
    /// Signed, and valid for the name.
    Named { roots: RootCertStore, name: ServerName<'static> },
    /// Signed, and carrying the identity.
    Node { roots: RootCertStore, identity: Identity },
    /// Exactly this one.
    Pinned(Fingerprint),
    /// Anyone.
    Any,
}

/// What the dialling end asks of the server.
#[derive(Debug)]
pub(super) struct ServerCheck {
    rule: ServerRule,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCheck {
    pub(super) fn new(rule: ServerRule, provider: &CryptoProvider) -> Self {
        Self { rule, algorithms: provider.signature_verification_algorithms }
    }

    fn check(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Refusal> {
        let signed_by = |roots| {
            let parsed = ParsedCertificate::try_from(certificate)?;
            verify_server_cert_signed_by_trust_anchor(
                &parsed,
                roots,
                intermediates,
                now,
                self.algorithms.all,
            )?;
            Ok::<_, Error>(parsed)
        };
        match &self.rule {
            ServerRule::Any => return Ok(()),
            ServerRule::Pinned(pin) if *pin != Fingerprint::of(certificate) => {
                return Err(Refusal::OtherThanPinned(*pin));
            }
            ServerRule::Pinned(_) => {}
            ServerRule::Named { roots, name } => verify_server_name(&signed_by(roots)?, name)?,
            ServerRule::Node { roots, .. } => drop(signed_by(roots)?),
        }
        let found = Identity::of_certificate(certificate).map_err(Refusal::Identity)?;
        match (&self.rule, found) {
            (_, Some(found)) if found.role() != Role::Node => Err(Refusal::Role(found)),
            (ServerRule::Node { identity, .. }, found) if found.as_ref() != Some(identity) => {
                Err(Refusal::OtherNode { expected: identity.clone(), found })
            }
            _ => Ok(()),
        }
    }
}

impl ServerCertVerifier for ServerCheck {
    /// The name that rustls hands over is where the connection goes; who is expected there stands in the rule.
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _dialled: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.check(certificate, intermediates, now) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(refusal) => Err(refuse(Subject::Server, certificate, refusal)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        prove(&self.algorithms, message, certificate, signed, Version::Tls12)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        prove(&self.algorithms, message, certificate, signed, Version::Tls13)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[derive(PartialEq, Eq)]
enum Version {
    Tls12,
    Tls13,
}

/// Verifies that the peer holds the certificate's key: its signature over the handshake.
fn prove(
    algorithms: &WebPkiSupportedAlgorithms,
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    version: Version,
) -> Result<HandshakeSignatureValid, Error> {
    let key = RawKey::of(certificate).map_err(|_| CertificateError::BadEncoding)?;
    for algorithm in candidates(algorithms, signed.scheme, &version)? {
        // In TLS 1.2 a scheme names the hash but not the curve: the one that fits the key is meant.
        if algorithm.public_key_alg_id().as_ref() == key.algorithm {
            return match algorithm.verify_signature(&key.bits, message, signed.signature()) {
                Ok(()) => Ok(HandshakeSignatureValid::assertion()),
                Err(_) => Err(CertificateError::BadSignature.into()),
            };
        }
    }
    Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into())
}

/// The algorithms that a signature scheme can stand for. In TLS 1.3 only the first, and no PKCS#1 v1.5.
fn candidates(
    algorithms: &WebPkiSupportedAlgorithms,
    scheme: SignatureScheme,
    version: &Version,
) -> Result<&'static [&'static dyn SignatureVerificationAlgorithm], Error> {
    let unadvertised = || PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme;
    let (_, found) =
        algorithms.mapping.iter().find(|(known, _)| *known == scheme).ok_or_else(unadvertised)?;
    let pkcs1 = matches!(
        scheme,
        SignatureScheme::RSA_PKCS1_SHA256
            | SignatureScheme::RSA_PKCS1_SHA384
            | SignatureScheme::RSA_PKCS1_SHA512
    );
    match version {
        Version::Tls12 => Ok(found),
        Version::Tls13 if pkcs1 => Err(unadvertised().into()),
        Version::Tls13 => Ok(&found[..1]),
    }
}
