//! Reading certificates and keys from PEM files; the only user of `rustls-pemfile`.
//!
//! Every error names the file, what is wrong with it, and the command that fixes it.

use std::path::{Path, PathBuf};

use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A file that cannot be used, why, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", .path.display())]
pub struct PemError {
    path: PathBuf,
    problem: String,
}

/// All certificates of a file, in order, at least one.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let _ = path;
    unimplemented!()
}

/// The one unencrypted private key of a file: PKCS#8, PKCS#1 or SEC1.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    let _ = path;
    unimplemented!()
}
