//! What a certificate says, as plain values: read once with `x509-parser`, used to decide and to explain.
//!
//! Certificates come from peers: names are escaped and cut before anybody prints them, and nothing here trusts
//! what it reads. X.509 v1 is read like v3, it only has no extensions.

use std::net::IpAddr;

use rustls::pki_types::CertificateDer;
use x509_parser::asn1_rs::{Any, FromDer as _};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::public_key::PublicKey;
use x509_parser::time::ASN1Time;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::identity::{Fingerprint, Identity, IdentityError};

/// Longest subject or issuer that is shown; the rest is cut.
const SHOWN_MAX: usize = 200;

/// What a certificate says.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// Its holder, escaped.
    pub subject: String,
    /// Who signed it, escaped.
    pub issuer: String,
    /// X.509 version: 1 to 3.
    pub version: u32,
    /// Subject and issuer are the same.
    pub self_issued: bool,
    /// Basic constraint `CA:TRUE`.
    pub authority: bool,
    /// DNS names among the subject's alternative names, escaped.
    pub dns_names: Vec<String>,
    /// IP addresses among them.
    pub ip_addresses: Vec<IpAddr>,
    /// URIs among them, escaped.
    pub uris: Vec<String>,
    /// Extended key usage; `None` when the extension is absent, which permits everything.
    pub purposes: Option<Purposes>,
    /// Start of its validity.
    pub not_before: Moment,
    /// End of its validity.
    pub not_after: Moment,
    /// Kind and size of its key.
    pub key: KeyKind,
    /// The object identifier of the algorithm that signed it.
    pub signature_algorithm: String,
    /// Its `tidegate:` identity.
    pub identity: Result<Option<Identity>, IdentityError>,
    /// SHA-256 of the whole certificate.
    pub fingerprint: Fingerprint,
}

/// The purposes an extended key usage permits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purposes {
    /// To listen as a TLS server.
    pub server: bool,
    /// To dial as a TLS client.
    pub client: bool,
}

/// Not a certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the certificate cannot be read: {0}")]
pub struct Unreadable(String);

impl Certificate {
    /// Reads a certificate.
    pub fn read(der: &CertificateDer<'_>) -> Result<Self, Unreadable> {
        let certificate = parse(der)?;
        let names = alternative_names(&certificate)?;
        let purposes = certificate.extended_key_usage().map_err(unreadable)?;
        Ok(Self {
            subject: shown(&certificate.subject().to_string()),
            issuer: shown(&certificate.issuer().to_string()),
            version: certificate.version().0 + 1,
            self_issued: certificate.subject().as_raw() == certificate.issuer().as_raw(),
            authority: certificate.is_ca(),
            dns_names: names.iter().filter_map(dns_name).collect(),
            ip_addresses: names.iter().filter_map(ip_address).collect(),
            uris: names.iter().filter_map(uri).map(shown).collect(),
            purposes: purposes.map(|usage| Purposes {
                server: usage.value.server_auth || usage.value.any,
                client: usage.value.client_auth || usage.value.any,
            }),
            not_before: Moment(certificate.validity().not_before.timestamp()),
            not_after: Moment(certificate.validity().not_after.timestamp()),
            key: KeyKind::of(certificate.public_key()),
            signature_algorithm: certificate.signature_algorithm.algorithm.to_id_string(),
            identity: identity(&names),
            fingerprint: Fingerprint::of(der),
        })
    }

    /// One line for logs: enough to find the certificate.
    pub fn summary(&self) -> String {
        let identity = match &self.identity {
            Ok(Some(identity)) => format!("{identity}, "),
            _ => String::new(),
        };
        format!("{identity}subject {}, issuer {}, SHA-256 {}", self.subject, self.issuer, self.fingerprint)
    }
}

/// The `tidegate:` identity among a certificate's URIs, without the rest.
pub(crate) fn identity_of(der: &CertificateDer<'_>) -> Result<Option<Identity>, IdentityError> {
    let names = parse(der).and_then(|certificate| {
        let names = alternative_names(&certificate)?;
        Ok(names.iter().filter_map(uri).map(str::to_owned).collect::<Vec<_>>())
    });
    identity_among(names.map_err(|error| IdentityError::Certificate(error.0))?.iter().map(String::as_str))
}

/// A public key as TLS needs it: the algorithm's encoding and the key's bits.
pub(crate) struct RawKey {
    /// The contents of the algorithm identifier, as signature verifiers compare it.
    pub(crate) algorithm: Vec<u8>,
    /// The key.
    pub(crate) bits: Vec<u8>,
    /// The whole SubjectPublicKeyInfo, DER.
    pub(crate) whole: Vec<u8>,
}

impl RawKey {
    /// The key of a certificate of any version.
    pub(crate) fn of(der: &CertificateDer<'_>) -> Result<Self, Unreadable> {
        let certificate = parse(der)?;
        let info = certificate.public_key();
        let contents = Any::from_der(info.raw).map_err(unreadable)?.1.data;
        let algorithm = Any::from_der(contents).map_err(unreadable)?.1.data;
        Ok(Self {
            algorithm: algorithm.to_vec(),
            bits: info.subject_public_key.data.to_vec(),
            whole: info.raw.to_vec(),
        })
    }
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Unreadable> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(unreadable)?;
    if !rest.is_empty() {
        return Err(Unreadable(format!("{} bytes follow it", rest.len())));
    }
    Ok(certificate)
}

fn alternative_names<'a>(certificate: &'a X509Certificate<'a>) -> Result<Vec<GeneralName<'a>>, Unreadable> {
    let names = certificate.subject_alternative_name().map_err(unreadable)?;
    Ok(names.map(|names| names.value.general_names.clone()).unwrap_or_default())
}

fn identity(names: &[GeneralName<'_>]) -> Result<Option<Identity>, IdentityError> {
    identity_among(names.iter().filter_map(uri))
}

fn identity_among<'a>(uris: impl Iterator<Item = &'a str>) -> Result<Option<Identity>, IdentityError> {
    let ours: Vec<&str> = uris.filter(|uri| Identity::claims(uri)).collect();
    match ours[..] {
        [] => Ok(None),
        [one] => one.parse().map(Some),
        _ => Err(IdentityError::Several(ours.len())),
    }
}

fn uri<'a>(name: &GeneralName<'a>) -> Option<&'a str> {
    match name {
        GeneralName::URI(uri) => Some(uri),
        _ => None,
    }
}

fn dns_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(shown(name)),
        _ => None,
    }
}

fn ip_address(name: &GeneralName<'_>) -> Option<IpAddr> {
    let GeneralName::IPAddress(octets) = name else { return None };
    <[u8; 4]>::try_from(*octets)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(*octets).map(IpAddr::from))
        .ok()
}

/// The kind and the size of a public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA, with its size in bits.
    Rsa(usize),
    /// ECDSA on the NIST curve of this many bits.
    Ecdsa(u16),
    /// Ed25519.
    Ed25519,
    /// Anything else, by its object identifier.
    Other(String),
}

impl KeyKind {
    /// Whether TLS connections here can use such a key.
    pub fn is_usable(&self) -> bool {
        matches!(self, Self::Rsa(2048..=8192) | Self::Ecdsa(256 | 384) | Self::Ed25519)
    }

    /// The kind of a public key.
    pub fn of(key: &SubjectPublicKeyInfo<'_>) -> Self {
        let algorithm = key.algorithm.algorithm.to_id_string();
        let curve = key.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
        match key.parsed() {
            Ok(PublicKey::RSA(key)) => Self::Rsa(key.key_size()),
            Ok(PublicKey::EC(_)) => match curve.map(|curve| curve.to_id_string()).as_deref() {
                Some("1.2.840.10045.3.1.7") => Self::Ecdsa(256),
                Some("1.3.132.0.34") => Self::Ecdsa(384),
                Some("1.3.132.0.35") => Self::Ecdsa(521),
                curve => Self::Other(format!("ECDSA on curve {}", curve.unwrap_or("without a name"))),
            },
            _ if algorithm == "1.3.101.112" => Self::Ed25519,
            _ => Self::Other(format!("algorithm {algorithm}")),
        }
    }
}

impl std::fmt::Display for KeyKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rsa(bits) => write!(f, "RSA {bits} bits"),
            Self::Ecdsa(bits) => write!(f, "ECDSA P-{bits}"),
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

/// A peer's words, made safe for a log line.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_MAX).is_some() {
        shown.push('…');
    }
    if shown.is_empty() { "(empty)".to_owned() } else { shown }
}

fn unreadable(error: impl std::fmt::Display) -> Unreadable {
    Unreadable(shown(&error.to_string()))
}

/// Seconds since 1970, shown as UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub i64);

impl Moment {
    /// By this machine's clock.
    pub fn now() -> Self {
        Self(ASN1Time::now().timestamp())
    }

    /// Whole days from `self` until `later`; negative when that is before.
    pub fn days_until(self, later: Self) -> i64 {
        (later.0 - self.0).div_euclid(24 * 60 * 60)
    }
}

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Ok(time) = ASN1Time::from_timestamp(self.0) else {
            return write!(f, "{} s after 1970", self.0);
        };
        let time = time.to_datetime();
        let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
        write!(f, "{year}-{month:02}-{day:02} {:02}:{:02} UTC", time.hour(), time.minute())
    }
}
