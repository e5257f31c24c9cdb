//! How a command fails: words for the operator and an exit code for scripts.

use std::error::Error;
use std::{fmt, io};

use tidegate_net::pem::PemError;
use tidegate_net::tls::TlsSetupError;

/// The command line makes no sense.
pub(crate) const USAGE: u8 = 64;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What was looked at is bad, or something is in the way. Exit code 1.
    Bad(String),
    /// The command line makes no sense. Exit code 64.
    Usage(String),
    /// The other end cannot be reached. Exit code 69.
    Unavailable(String),
    /// A file may not be read or written by this user. Exit code 77.
    Permission(String),
    /// A file or setting cannot be used. Exit code 78.
    Configuration(String),
}

impl Failure {
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Bad(_) => 1,
            Self::Usage(_) => USAGE,
            Self::Unavailable(_) => 69,
            Self::Permission(_) => 77,
            Self::Configuration(_) => 78,
        }
    }

    /// A file-system call that failed.
    pub(crate) fn file(doing: &str, error: &io::Error) -> Self {
        let words = format!("{doing}: {error}");
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::Permission(words),
            io::ErrorKind::AlreadyExists => Self::Bad(words),
            _ => Self::Configuration(words),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Bad(words)
        | Self::Usage(words)
        | Self::Unavailable(words)
        | Self::Permission(words)
        | Self::Configuration(words)) = self;
        f.write_str(words)
    }
}

impl From<PemError> for Failure {
    fn from(error: PemError) -> Self {
        let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
        match cause.map(io::Error::kind) {
            Some(io::ErrorKind::PermissionDenied) => Self::Permission(error.to_string()),
            _ => Self::Configuration(error.to_string()),
        }
    }
}

impl From<TlsSetupError> for Failure {
    fn from(error: TlsSetupError) -> Self {
        match error {
            TlsSetupError::Pem(error) => error.into(),
            TlsSetupError::Setting(words) => Self::Configuration(words),
        }
    }
}

impl From<rcgen::Error> for Failure {
    fn from(error: rcgen::Error) -> Self {
        Self::Bad(format!("the certificate could not be made: {error}"))
    }
}
