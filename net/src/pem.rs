//! Reading certificates and keys from PEM files; the only user of `rustls-pemfile`.
//!
//! Every error names the file, what is wrong with it, and the command that fixes it. Keys in files come in many
//! kinds (PKCS#8, PKCS#1, SEC1, encrypted in two ways), so a file is cut into its blocks first and each block is
//! told apart by its label: what a parser would skip in silence is what an operator needs to hear about.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls_pemfile::Item;

use crate::certificate::{Certificate, RawKey};

/// Largest file that is read; a larger one is no PEM file of ours.
const FILE_MAX: u64 = 4 * 1024 * 1024;

/// A file that cannot be used, why, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", .path.display())]
pub struct PemError {
    path: PathBuf,
    problem: String,
    #[source]
    cause: Option<io::Error>,
}

impl PemError {
    fn new(path: &Path, problem: String) -> Self {
        Self { path: path.to_owned(), problem, cause: None }
    }
}

/// One block of a PEM file.
#[derive(Debug)]
pub enum Block {
    /// A certificate.
    Certificate(CertificateDer<'static>),
    /// A private key that can be used.
    Key(PrivateKeyDer<'static>),
    /// A private key encrypted as PKCS#8.
    EncryptedKey,
    /// A private key encrypted in the old way of OpenSSL, with a `Proc-Type` header.
    OldEncryptedKey,
    /// A certificate signing request, DER.
    Request(Vec<u8>),
    /// A certificate revocation list, DER.
    RevocationList(Vec<u8>),
    /// Something else, by its label.
    Other(String),
    /// A block that is damaged: its label and what is wrong.
    Damaged(String, String),
}

/// All certificates of a file, in order, at least one.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let error = |problem| PemError::new(path, problem);
    let mut found = Vec::new();
    let mut keys = 0;
    for block in blocks(path)? {
        match block {
            Block::Certificate(certificate) => found.push(certificate),
            Block::Key(_) | Block::EncryptedKey | Block::OldEncryptedKey => keys += 1,
            Block::Damaged(label, problem) => return Err(error(damaged(&label, &problem))),
            Block::Request(_) => return Err(error(REQUEST.to_owned())),
            Block::Other(label) if label == "TRUSTED CERTIFICATE" => return Err(error(trusted(path))),
            Block::RevocationList(_) | Block::Other(_) => {}
        }
    }
    match (found.is_empty(), keys) {
        (false, _) => Ok(found),
        (true, 0) => {
            Err(error("holds no certificate; look with: openssl x509 -noout -text -in FILE".to_owned()))
        }
        (true, _) => {
            Err(error("holds a private key and no certificate: are key and certificate swapped?".to_owned()))
        }
    }
}

/// The one unencrypted private key of a file: PKCS#8, PKCS#1 or SEC1.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    let error = |problem| PemError::new(path, problem);
    let mut found = Vec::new();
    let mut certificates = 0;
    for block in blocks(path)? {
        match block {
            Block::Key(key) => found.push(key),
            Block::Certificate(_) => certificates += 1,
            Block::EncryptedKey => return Err(error(encrypted(path, "openssl pkcs8"))),
            Block::OldEncryptedKey => return Err(error(encrypted(path, "openssl pkcs8 -topk8 -nocrypt"))),
            Block::Damaged(label, problem) => return Err(error(damaged(&label, &problem))),
            Block::Request(_) | Block::RevocationList(_) | Block::Other(_) => {}
        }
    }
    match (found.len(), certificates) {
        (1, _) => Ok(found.remove(0)),
        (0, 0) => {
            Err(error("holds no private key; look with: openssl pkey -noout -text -in FILE".to_owned()))
        }
        (0, _) => {
            Err(error("holds a certificate and no private key: are key and certificate swapped?".to_owned()))
        }
        (many, _) => Err(error(format!("holds {many} private keys; keep the one of the certificate"))),
    }
}

/// A certificate with its chain and its key, proven to belong together, ready for TLS.
pub fn certified_key(certificate: &Path, key: &Path) -> Result<CertifiedKey, PemError> {
    let chain = certificates(certificate)?;
    let error = |problem| PemError::new(key, problem);
    let signer = rustls::crypto::ring::sign::any_supported_type(&private_key(key)?).map_err(|_| {
        error(
            "is of a kind that cannot be used here (ECDSA P-256, P-384, Ed25519 and RSA of 2048 to 8192 bits can); \
             make a new pair with: tidegate-certs issue"
                .to_owned(),
        )
    })?;
    let held = signer.public_key().map(|key| key.as_ref().to_vec());
    let belongs =
        |certificate: &CertificateDer<'_>| RawKey::of(certificate).ok().map(|key| key.whole) == held;
    match chain.iter().position(belongs) {
        Some(0) => Ok(CertifiedKey { cert: chain, key: Arc::clone(&signer), ocsp: None }),
        Some(place) => Err(PemError::new(
            certificate,
            format!(
                "its certificate number {} belongs to the key {}, and must be the first",
                place + 1,
                key.display()
            ),
        )),
        None => Err(error(mismatch(certificate, key, &chain[0]))),
    }
}

/// Everything in a file, block by block; at least one.
pub fn blocks(path: &Path) -> Result<Vec<Block>, PemError> {
    let error = |problem| PemError::new(path, problem);
    let bytes = read(path).map_err(|cause| PemError {
        path: path.to_owned(),
        problem: unreadable(path, &cause),
        cause: Some(cause),
    })?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(error(format!("is larger than {FILE_MAX} bytes, so it is not a PEM file")));
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(error("is empty; was the disk full, or a download cut?".to_owned()));
    }
    let text = String::from_utf8_lossy(&bytes);
    let found: Vec<Block> = cut(&text).into_iter().map(|(label, block)| read_block(label, block)).collect();
    if found.is_empty() {
        return Err(error(not_pem(path, &bytes)));
    }
    Ok(found)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

const BEGIN: &str = "-----BEGIN ";
const DASHES: &str = "-----";

/// The labels and the texts of a file's blocks. A block without its end runs to the end of the file.
fn cut(text: &str) -> Vec<(&str, &str)> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(BEGIN) {
        let block = &rest[start..];
        let label = block[BEGIN.len()..].lines().next().unwrap_or_default();
        let label = label.trim_end().trim_end_matches('-');
        let end = format!("{DASHES}END {label}{DASHES}");
        let length = block.find(&end).map_or(block.len(), |at| at + end.len());
        blocks.push((label, &block[..length]));
        rest = &block[length..];
    }
    blocks
}

fn read_block(label: &str, block: &str) -> Block {
    if block.contains("Proc-Type:") {
        return Block::OldEncryptedKey;
    }
    if label == "ENCRYPTED PRIVATE KEY" {
        return Block::EncryptedKey;
    }
    match rustls_pemfile::read_one_from_slice(block.as_bytes()) {
        Ok(Some((item, _))) => match item {
            Item::X509Certificate(der) => Block::Certificate(der),
            Item::Pkcs1Key(der) => Block::Key(der.into()),
            Item::Pkcs8Key(der) => Block::Key(der.into()),
            Item::Sec1Key(der) => Block::Key(der.into()),
            Item::Csr(der) => Block::Request(der.to_vec()),
            Item::Crl(der) => Block::RevocationList(der.to_vec()),
            _ => Block::Other(label.to_owned()),
        },
        Ok(None) => Block::Other(label.to_owned()),
        Err(rustls_pemfile::Error::MissingSectionEnd { .. }) => {
            Block::Damaged(label.to_owned(), "its END line is missing, so the file is cut".to_owned())
        }
        Err(_) => Block::Damaged(label.to_owned(), "its text is not base64".to_owned()),
    }
}

const REQUEST: &str = "holds a certificate request, not a certificate: the authority has to sign it first";

fn damaged(label: &str, problem: &str) -> String {
    format!("the block {} is damaged: {problem}; copy the file again", label.escape_debug())
}

fn encrypted(path: &Path, command: &str) -> String {
    let path = path.display();
    format!(
        "is an encrypted key, and a daemon cannot type its password; write an unencrypted copy with: \
         (umask 077; {command} -in {path} -out {path}.plain)"
    )
}

fn trusted(path: &Path) -> String {
    let path = path.display();
    format!("is a TRUSTED CERTIFICATE of OpenSSL; convert it with: openssl x509 -in {path} -out {path}.plain")
}

fn unreadable(path: &Path, cause: &io::Error) -> String {
    match cause.kind() {
        io::ErrorKind::NotFound => "does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => {
            let path = path.display();
            format!(
                "may not be read by this user; let the daemon's group read it (and enter its directory): chgrp tidegate \
                 {path} && chmod 0640 {path}"
            )
        }
        _ => format!("cannot be read: {cause}"),
    }
}

fn not_pem(path: &Path, bytes: &[u8]) -> String {
    let path = path.display();
    // A DER SEQUENCE.
    if bytes[0] != 0x30 {
        return "is not a PEM file: it has no -----BEGIN line".to_owned();
    }
    if Certificate::read(&CertificateDer::from(bytes)).is_ok() {
        return format!(
            "is a DER certificate; convert it with: openssl x509 -inform DER -in {path} -out {path}.pem"
        );
    }
    format!(
        "is binary (DER or PKCS#12), not PEM; a key converts with: openssl pkey -inform DER -in {path} -out {path}.pem; \
         a .p12 or .pfx with: openssl pkcs12 -nodes -in {path} -out {path}.pem"
    )
}

fn mismatch(certificate: &Path, key: &Path, leaf: &CertificateDer<'_>) -> String {
    let (certificate, key) = (certificate.display(), key.display());
    let whose = Certificate::read(leaf).map_or_else(|error| error.to_string(), |leaf| leaf.summary());
    format!(
        "is not the key of the certificate {certificate} ({whose}); these two must print the same: \
         openssl pkey -in {key} -pubout and openssl x509 -in {certificate} -noout -pubkey"
    )
}
