//! Who a peer is: the role and the name in its certificate, or the fingerprint of a certificate made elsewhere.

use std::fmt;
use std::str::FromStr;

use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};

use crate::certificate;

/// The scheme of the SAN URIs that carry an identity.
pub const SCHEME: &str = "tidegate";

/// Longest name in an identity; a longer one is refused. Names become file names and log fields.
pub const NAME_MAX: usize = 64;

/// What a certificate's holder may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A sync server: dials nodes, may list, move and receive packages.
    Server,
    /// A buffer node: is dialled.
    Node,
    /// A sender of data files.
    Agent,
}

impl Role {
    /// The word in the URI.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Node => "node",
            Self::Agent => "agent",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A role and a name: `tidegate:node/plant-7`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    role: Role,
    name: String,
}

/// Why a text or a certificate carries no usable identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The URI has another form.
    #[error("`{0}` is not of the form tidegate:server/NAME, tidegate:node/NAME or tidegate:agent/NAME")]
    Form(String),
    /// The name has other characters, or is empty or too long.
    #[error("`{0}` is not a name: 1 to {NAME_MAX} of A-Z a-z 0-9 . _ -, the first a letter or digit")]
    Name(String),
    /// More than one identity in one certificate.
    #[error("the certificate carries {0} tidegate: identities; it must carry exactly one")]
    Several(usize),
    /// Not a readable certificate.
    #[error("the certificate cannot be read: {0}")]
    Certificate(String),
}

impl Identity {
    /// An identity of this role and name.
    pub fn new(role: Role, name: &str) -> Result<Self, IdentityError> {
        let valid = name.len() <= NAME_MAX
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if !valid {
            return Err(IdentityError::Name(name.escape_default().to_string()));
        }
        Ok(Self { role, name: name.to_owned() })
    }

    /// The identity in a certificate's SAN URIs; `None` when it has none (made elsewhere).
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Result<Option<Self>, IdentityError> {
        certificate::identity_of(certificate)
    }

    /// Whether a URI is meant as an identity, well formed or not. Schemes are case-insensitive.
    pub(crate) fn claims(uri: &str) -> bool {
        uri.split_once(':').is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case(SCHEME))
    }

    /// What the holder may do.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The holder's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}:{}/{}", self.role, self.name)
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let form = || IdentityError::Form(text.escape_default().to_string());
        let (scheme, rest) = text.split_once(':').ok_or_else(form)?;
        let (role, name) = rest.split_once('/').ok_or_else(form)?;
        let role = match role {
            "server" => Role::Server,
            "node" => Role::Node,
            "agent" => Role::Agent,
            _ => return Err(form()),
        };
        if scheme != SCHEME {
            return Err(form());
        }
        Self::new(role, name)
    }
}

/// The SHA-256 of a certificate's DER, as `openssl x509 -fingerprint -sha256` prints it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

/// Not a SHA-256 fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a SHA-256 fingerprint: 64 hexadecimal digits, with or without colons (openssl x509 -noout -fingerprint -sha256 -in CERT)"
)]
pub struct InvalidFingerprint(String);

impl Fingerprint {
    /// The fingerprint of a certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl FromStr for Fingerprint {
    type Err = InvalidFingerprint;

    fn from_str(text: &str) -> Result<Self, InvalidFingerprint> {
        let invalid = || InvalidFingerprint(text.escape_default().to_string());
        let digits: Vec<u8> = text.bytes().filter(|b| *b != b':').collect();
        let mut hash = [0; 32];
        if digits.len() != 2 * hash.len() {
            return Err(invalid());
        }
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |d: u8| char::from(d).to_digit(16).ok_or_else(invalid);
            *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
        }
        Ok(Self(hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_reads_back_as_it_is_written() {
        for text in ["tidegate:server/central-1", "tidegate:node/plant-7", "tidegate:agent/web01.example.org"]
        {
            assert_eq!(text.parse::<Identity>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn other_forms_are_no_identity() {
        let forms = [
            "tidegate:server",
            "tidegate:root/x",
            "Tidegate:server/x",
            "tidegate://server/x",
            "server/x",
            "",
        ];
        for text in forms {
            assert!(matches!(text.parse::<Identity>(), Err(IdentityError::Form(_))), "{text}");
        }
    }

    #[test]
    fn names_cannot_leave_a_directory_or_break_a_log_line() {
        let long = "n".repeat(NAME_MAX + 1);
        for name in ["", ".", "..", "../x", "a/b", "-rf", "a b", "a\nb", "münchen", &long] {
            assert!(matches!(Identity::new(Role::Node, name), Err(IdentityError::Name(_))), "{name}");
        }
        assert!(Identity::new(Role::Node, &"n".repeat(NAME_MAX)).is_ok());
    }

    #[test]
    fn a_fingerprint_reads_as_openssl_prints_it() {
        let plain = "00ff".repeat(16);
        let colons = ["00:FF"; 16].join(":");
        assert_eq!(plain.parse::<Fingerprint>().unwrap(), colons.parse().unwrap());
        assert_eq!(colons.parse::<Fingerprint>().unwrap().to_string(), plain);
        for wrong in ["", "00", &"0".repeat(63), &"0".repeat(65), &"g".repeat(64), &"é".repeat(32)] {
            assert!(wrong.parse::<Fingerprint>().is_err(), "{wrong}");
        }
    }
}
