//! Why a certificate was refused, in words with the remedy.
//!
//! The peer gets rustls' own error, because it decides the alert that the peer sees (expired, unknown CA, …). The
//! words for our own log need the certificate, which the error does not hold: they go through a task-local slot from
//! the verifier to the handshake that runs it.
//!
//! Whoever is refused may be an attacker, and chose every word in the certificate. So no remedy asks to trust a
//! client as it is: to pin it is to let it read and delete all packages, which is said, and is not offered at all for
//! one that claims an identity nobody has vouched for.

use std::cell::RefCell;

use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, Error};

use crate::certificate::{Certificate, Moment};
use crate::identity::{Fingerprint, Identity, IdentityError, Role};

tokio::task_local! {
    /// The last refusal in this handshake.
    pub(super) static REASON: RefCell<Option<String>>;
}

/// Whose certificate is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// The dialling peer's.
    Client,
    /// The listening peer's.
    Server,
}

/// Which check a certificate failed.
#[derive(Debug)]
pub(super) enum Refusal {
    /// One of rustls: signature, validity, purpose, name.
    Check(Error),
    /// Only pinned certificates are accepted, and this is none.
    NotPinned,
    /// The server has another certificate than the pinned one.
    OtherThanPinned(Fingerprint),
    /// A `tidegate:` URI that is malformed or not alone.
    Identity(IdentityError),
    /// A role that does not listen.
    Role(Identity),
    /// Another node than the expected.
    OtherNode { expected: Identity, found: Option<Identity> },
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Check(error)
    }
}

/// Puts the reason into words, and gives the error for the handshake.
pub(super) fn refuse(subject: Subject, der: &CertificateDer<'_>, refusal: Refusal) -> Error {
    let reason = words(subject, der, &refusal);
    // Outside a handshake of ours nobody wants the words.
    let _ = REASON.try_with(|slot| slot.replace(Some(reason)));
    match refusal {
        Refusal::Check(error) => error,
        Refusal::NotPinned => CertificateError::UnknownIssuer.into(),
        Refusal::OtherThanPinned(_) | Refusal::Identity(_) | Refusal::Role(_) | Refusal::OtherNode { .. } => {
            CertificateError::ApplicationVerificationFailure.into()
        }
    }
}

fn words(subject: Subject, der: &CertificateDer<'_>, refusal: &Refusal) -> String {
    let whose = match subject {
        Subject::Client => "the client's certificate",
        Subject::Server => "the server's certificate",
    };
    match Certificate::read(der) {
        Ok(certificate) => {
            let (reason, remedy) = check_failed(subject, &certificate, refusal);
            format!("{whose} was refused here: {reason} ({}); {remedy}", certificate.summary())
        }
        Err(error) => format!("{whose} was refused here: {error}; the peer has to replace it"),
    }
}

/// The reason and the remedy.
fn check_failed(subject: Subject, certificate: &Certificate, refusal: &Refusal) -> (String, String) {
    let reissue = reissue(subject, certificate);
    let or_pin = or_pin(subject, certificate, &reissue);
    match refusal {
        Refusal::NotPinned => (
            "its fingerprint is not one of the pinned, and this end has no authority to verify it with"
                .to_owned(),
            format!("configure your authority at this end (CA file); {or_pin}"),
        ),
        Refusal::OtherThanPinned(pin) => (
            format!("it is not the pinned certificate {pin}"),
            format!(
                "if the site has renewed its certificate, compare this with the site's own and pin it: {}",
                certificate.fingerprint
            ),
        ),
        Refusal::Identity(error) => (error.to_string(), reissue),
        Refusal::Role(found) => (
            format!("it is the certificate of {found}, and only a node may be dialled"),
            format!("configure the node with a certificate of its own: {reissue}"),
        ),
        Refusal::OtherNode { expected, found: Some(found) } => (
            format!("it belongs to {found}, and {expected} was expected"),
            "correct the address of the site or the name that is expected there".to_owned(),
        ),
        Refusal::OtherNode { expected, found: None } => {
            (format!("it carries no tidegate: identity, and {expected} was expected"), or_pin)
        }
        Refusal::Check(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            unknown_issuer(subject, certificate, or_pin)
        }
        Refusal::Check(Error::InvalidCertificate(error)) => invalid(error, certificate, reissue, or_pin),
        Refusal::Check(error) => (error.to_string(), or_pin),
    }
}

fn unknown_issuer(subject: Subject, certificate: &Certificate, or_pin: String) -> (String, String) {
    if certificate.self_issued {
        return ("it is self-signed, and not in the CA file of this end".to_owned(), or_pin);
    }
    let reason = format!(
        "no authority in the CA file of this end signed it; its issuer calls itself {}",
        certificate.issuer
    );
    let remedy = match subject {
        Subject::Client => "",
        Subject::Server => {
            "if that authority is yours, put its CA certificate into this end's CA file (a missing intermediate \
             belongs into the peer's certificate file), or "
        }
    };
    (reason, format!("{remedy}{or_pin}"))
}

fn invalid(
    error: &CertificateError,
    certificate: &Certificate,
    reissue: String,
    or_pin: String,
) -> (String, String) {
    use CertificateError as E;
    let now = Moment::now();
    match error {
        E::Expired | E::ExpiredContext { .. } => {
            let days = certificate.not_after.days_until(now);
            (
                format!("it expired on {}, {days} days ago (this clock says {now})", certificate.not_after),
                reissue,
            )
        }
        E::NotValidYet | E::NotValidYetContext { .. } => (
            format!("it is not valid before {} (this clock says {now})", certificate.not_before),
            format!("set the clock that is wrong, or {reissue}"),
        ),
        E::NotValidForName => (wrong_name(None, certificate), reissue),
        E::NotValidForNameContext { expected, .. } => {
            (wrong_name(Some(expected.to_str().as_ref()), certificate), reissue)
        }
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => (
            format!("its extended key usage does not permit this: it is for {}", purposes(certificate)),
            reissue,
        ),
        E::BadSignature => (
            "its signature is not by the authority of that name: two authorities share one name".to_owned(),
            or_pin,
        ),
        E::Revoked => ("it is revoked".to_owned(), reissue),
        _ if certificate.version < 3 => (
            format!(
                "it is X.509 v{}, which carries neither names nor usages, so it can only be pinned",
                certificate.version
            ),
            or_pin,
        ),
        _ if certificate.authority => (
            "it is an authority's certificate (CA:TRUE) used by an end, as `openssl req -x509` makes them"
                .to_owned(),
            or_pin,
        ),
        other => (format!("{other}"), or_pin),
    }
}

fn wrong_name(expected: Option<&str>, certificate: &Certificate) -> String {
    let addresses = certificate.ip_addresses.iter().map(ToString::to_string);
    let names: Vec<String> = certificate.dns_names.iter().cloned().chain(addresses).collect();
    let has = match &names[..] {
        [] => "it has no subject alternative name, and the common name does not count".to_owned(),
        names => format!("its subject alternative names are {}", names.join(", ")),
    };
    format!("it is not valid for {}: {has}", expected.unwrap_or("the expected name"))
}

fn purposes(certificate: &Certificate) -> &'static str {
    match certificate.purposes {
        Some(p) if p.client && p.server => "both ends of TLS",
        Some(p) if p.client => "dialling (clientAuth) only",
        Some(p) if p.server => "listening (serverAuth) only",
        Some(_) => "neither end of TLS",
        None => "everything",
    }
}

/// The command that makes a good certificate for that peer. A role that cannot stand at that end is not repeated.
fn reissue(subject: Subject, certificate: &Certificate) -> String {
    let identity = certificate.identity.as_ref().ok().and_then(Option::as_ref);
    match (subject, identity.map(|identity| (identity.role(), identity.name()))) {
        (Subject::Client, Some((role @ (Role::Server | Role::Agent), name))) => {
            format!("if you know this peer, issue it a new one with: tidegate-certs issue {role} {name}")
        }
        (Subject::Client, _) => {
            "if you know this peer, issue it a new one with: tidegate-certs issue server NAME (a \
             puller) or agent NAME (a sender)"
                .to_owned()
        }
        (Subject::Server, identity) => {
            let name = identity.filter(|(role, _)| *role == Role::Node).map_or("NAME", |(_, name)| name);
            format!("issue the peer a new one with: tidegate-certs issue node {name} --dns HOST --ip ADDRESS")
        }
    }
}

/// What else helps, where something does: to pin the certificate.
fn or_pin(subject: Subject, certificate: &Certificate, reissue: &str) -> String {
    let fingerprint = certificate.fingerprint;
    match (subject, &certificate.identity) {
        (Subject::Server, _) => format!(
            "{reissue}, or pin its fingerprint {fingerprint} at this end, once compared with the site's own"
        ),
        (Subject::Client, Ok(None)) => format!(
            "{reissue}; only if it is the puller of this site and cannot have another one, pin its fingerprint \
             {fingerprint} at this end: that grants its holder the right to read and delete all packages"
        ),
        (Subject::Client, _) => format!("{reissue}; else leave it refused, nobody vouches for its identity"),
    }
}
