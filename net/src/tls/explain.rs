//! What a failed handshake means, and what to do.

use std::{fmt, io};

use rustls::{AlertDescription, Error, InvalidMessage};

/// Which end of the connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Listening,
    Dialling,
}

/// A handshake that failed, with what this end knows about it.
#[derive(Debug)]
pub(super) struct HandshakeError {
    end: End,
    reason: Option<String>,
    source: io::Error,
}

impl HandshakeError {
    pub(super) fn new(end: End, reason: Option<String>, source: io::Error) -> Self {
        Self { end, reason, source }
    }
}

impl From<HandshakeError> for io::Error {
    fn from(error: HandshakeError) -> Self {
        Self::new(error.source.kind(), error)
    }
}

impl std::error::Error for HandshakeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(reason) = &self.reason {
            return f.write_str(reason);
        }
        match tls_error(&self.source) {
            Some(error) => f.write_str(&words(error, self.end)),
            None => f.write_str(&broken(&self.source, self.end)),
        }
    }
}

/// A failed handshake, or a TLS connection that failed later, in plain words: which side, which certificate, which
/// check, and the command that fixes it. Errors that have nothing to do with TLS keep their own words.
///
/// In TLS 1.3 the dialling end learns only after its own handshake that the server refuses it, so this is for the
/// errors of the first reads too. (The listening end's handshake is over only when both have agreed.)
pub fn explain(error: &io::Error) -> String {
    match tls_error(error) {
        Some(tls) => words(tls, End::Dialling),
        None => error.to_string(),
    }
}

fn tls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// The stream ended or failed before the handshake did.
fn broken(error: &io::Error, end: End) -> String {
    let cut = matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    );
    match (cut, end) {
        (false, _) => format!("the TLS handshake failed: {error}"),
        (true, End::Listening) => "the client closed the connection during the TLS handshake, without a reason; a \
             client that does not accept this server's certificate may do so: look at its log"
            .to_owned(),
        (true, End::Dialling) => "the server closed the connection during the TLS handshake, without a reason; a \
             server without TLS does so (then tls = \"off\" for this site), or one that has no free place for \
             another connection"
            .to_owned(),
    }
}

fn words(error: &Error, end: End) -> String {
    match error {
        Error::AlertReceived(alert) => alert_received(*alert, end),
        Error::NoCertificatesPresented => "the client presented no certificate, and this server requires one; give \
             the client a certificate and key made with: tidegate-certs issue server NAME (a puller) or agent NAME (a \
             sender)"
            .to_owned(),
        Error::InvalidCertificate(cause) => format!(
            "the peer did not prove that it holds the key of its certificate ({cause}); its key file may belong to \
             another certificate, or its RSA key is shorter than 2048 bits: issue the peer a new pair with: \
             tidegate-certs issue"
        ),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => "the peer does not speak TLS here: it sent \
             something else (plain Tentacle?); use TLS at both ends or at none"
            .to_owned(),
        Error::PeerIncompatible(cause) => format!(
            "the two ends have no TLS version, cipher or key kind in common ({cause:?}); this end has TLS 1.2 and 1.3 \
             with ECDHE, AES-GCM and ChaCha20: the peer needs OpenSSL 1.0.1 or later, and a certificate with an ECDSA \
             P-256 or RSA key"
        ),
        Error::PeerMisbehaved(cause) => {
            format!("the peer broke the rules of TLS ({cause:?}); is something between the two ends changing bytes?")
        }
        other => format!("the TLS connection failed: {other}"),
    }
}

/// The peer has said why it does not go on.
fn alert_received(alert: AlertDescription, end: End) -> String {
    use AlertDescription as A;
    let (peer, ours, remedy) = match end {
        End::Listening => ("the client", "this server's certificate", SERVER_REMEDY),
        End::Dialling => ("the server", "our client certificate", CLIENT_REMEDY),
    };
    let name = alert.as_str().map_or_else(|| format!("{alert:?}"), |name| name.to_lowercase());
    let meaning = match alert {
        A::CertificateRequired => format!(
            "{peer} requires a client certificate and got none; configure certificate and key at this end \
             (sync_cert and sync_key), made with: tidegate-certs issue server NAME"
        ),
        A::CertificateExpired => {
            format!("{peer} finds {ours} expired, or not valid yet by its clock; {remedy}")
        }
        A::CertificateRevoked => format!("{peer} knows {ours} as revoked; {remedy}"),
        A::UnknownCA => format!(
            "{peer} does not trust the authority that signed {ours}; give the peer our CA certificate, or {remedy}"
        ),
        A::BadCertificate
        | A::UnsupportedCertificate
        | A::CertificateUnknown
        | A::AccessDenied
        | A::DecryptError => {
            format!("{peer} refused {ours}: wrong name, purpose or signature; {remedy}")
        }
        A::HandshakeFailure => format!(
            "{peer} found no agreement: no TLS version, cipher or key kind in common, or it requires a client \
             certificate and got none; {remedy}"
        ),
        A::ProtocolVersion => {
            format!("{peer} speaks none of TLS 1.2 and 1.3; it needs OpenSSL 1.0.1 or later, or no -z option")
        }
        A::NoApplicationProtocol => format!("{peer} speaks neither Tentacle nor anything this end offers"),
        A::UnrecognisedName => {
            format!("{peer} knows no host of the name that was dialled; dial it by IP address")
        }
        _ => format!("{peer} ended the TLS connection; look at its log"),
    };
    format!("{meaning} (TLS alert {name} received)")
}

const SERVER_REMEDY: &str = "the stock client with -f compares the certificate with the IP address it connects to, so \
     that address must be among its names: tidegate-certs issue node NAME --dns HOST --ip ADDRESS";

const CLIENT_REMEDY: &str = "renew it by an authority that the server knows: tidegate-certs issue server NAME (a puller) \
     or agent NAME (a sender); a stock server without -f accepts no client certificate at all: client_cert = false";
