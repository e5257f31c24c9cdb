//! What PEM files hold, in plain words.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tidegate_net::certificate::{Certificate, KeyKind};
use tidegate_net::pem::{self, Block};
use x509_parser::certificate::X509Certificate;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::describe::{Finding, facts, findings};
use crate::failure::Failure;

const USABLE: &str = "ECDSA P-256 and P-384, Ed25519 and RSA of 2048 to 8192 bits can";

/// `tidegate-certs inspect`.
pub(crate) fn inspect(files: &[PathBuf], report: &mut String) -> Result<(), Failure> {
    let opened: Vec<_> = files.iter().map(|file| (file, pem::blocks(file))).collect();
    let certificates: Vec<&CertificateDer<'static>> = opened
        .iter()
        .filter_map(|(_, blocks)| blocks.as_ref().ok())
        .flatten()
        .filter_map(certificate)
        .collect();
    let mut bad = 0;
    let mut unreadable = None;
    for (file, blocks) in &opened {
        let _ = writeln!(report, "{}", file.display());
        match blocks {
            Err(error) => {
                let _ = writeln!(report, "  BAD: {error}");
                unreadable = Some(format!("{error}"));
            }
            Ok(blocks) => {
                for block in blocks {
                    bad += tell(file, block, &certificates, report);
                }
            }
        }
    }
    match unreadable {
        Some(_) if opened.iter().all(|(_, blocks)| blocks.is_err()) => {
            let first = opened.into_iter().find_map(|(_, blocks)| blocks.err());
            Err(first.map_or_else(|| Failure::Bad("nothing was readable".to_owned()), Failure::from))
        }
        Some(error) => Err(Failure::Bad(error)),
        None if bad > 0 => Err(Failure::Bad(format!("{bad} things are bad, see above"))),
        None => Ok(()),
    }
}

fn certificate(block: &Block) -> Option<&CertificateDer<'static>> {
    match block {
        Block::Certificate(certificate) => Some(certificate),
        _ => None,
    }
}

/// Tells about one block, and gives the number of bad things about it.
fn tell(file: &Path, block: &Block, certificates: &[&CertificateDer<'_>], report: &mut String) -> usize {
    let shown = file.display();
    let found = match block {
        Block::Certificate(der) => tell_certificate(der, report),
        Block::Key(key) => tell_key(file, key, certificates, report),
        Block::EncryptedKey => vec![locked(&format!("openssl pkcs8 -in {shown}"), file)],
        Block::OldEncryptedKey => vec![locked(&format!("openssl pkcs8 -topk8 -nocrypt -in {shown}"), file)],
        Block::Request(der) => tell_request(der, report),
        Block::RevocationList(_) => {
            let _ = writeln!(report, "  revocation list; look with: openssl crl -noout -text -in {shown}");
            Vec::new()
        }
        Block::Other(label) => {
            let _ = writeln!(report, "  {}: not used by Tidegate", label.escape_debug());
            Vec::new()
        }
        Block::Damaged(label, problem) => {
            vec![Finding::Bad(format!(
                "the block {} is damaged: {problem}; copy the file again",
                label.escape_debug()
            ))]
        }
    };
    for finding in &found {
        let _ = match finding {
            Finding::Bad(words) => writeln!(report, "    BAD: {words}"),
            Finding::Note(words) => writeln!(report, "    note: {words}"),
        };
    }
    found.iter().filter(|finding| matches!(finding, Finding::Bad(_))).count()
}

fn tell_certificate(der: &CertificateDer<'_>, report: &mut String) -> Vec<Finding> {
    match Certificate::read(der) {
        Ok(certificate) => {
            let kind = if certificate.authority { "authority's certificate" } else { "certificate" };
            let _ = writeln!(report, "  {kind}, X.509 v{}", certificate.version);
            facts(&certificate, report);
            findings(&certificate)
        }
        Err(error) => vec![Finding::Bad(error.to_string())],
    }
}

fn tell_key(
    file: &Path,
    key: &PrivateKeyDer<'_>,
    certificates: &[&CertificateDer<'_>],
    report: &mut String,
) -> Vec<Finding> {
    let format = match key {
        PrivateKeyDer::Pkcs1(_) => "PKCS#1",
        PrivateKeyDer::Sec1(_) => "SEC1",
        _ => "PKCS#8",
    };
    let mut found = Vec::new();
    let public = any_supported_type(key).ok().and_then(|key| key.public_key().map(|public| public.to_vec()));
    let Some(public) = public else {
        let _ = writeln!(report, "  private key, {format}");
        found.push(Finding::Bad(format!(
            "it cannot be used ({USABLE}); issue a new pair: tidegate-certs issue"
        )));
        return found;
    };
    let kind = SubjectPublicKeyInfo::from_der(&public).map(|(_, public)| KeyKind::of(&public));
    let kind = kind.map_or_else(|_| String::new(), |kind| format!(" {kind},"));
    let _ = writeln!(report, "  private key,{kind} {format}, not encrypted");
    let belongs = certificates.iter().filter(|certificate| public_key(certificate) == Some(&public));
    match belongs.copied().next().map(Certificate::read) {
        Some(Ok(owner)) => {
            let _ = writeln!(report, "    belongs to   {}", owner.summary());
        }
        _ if !certificates.is_empty() => {
            found.push(Finding::Note("it belongs to none of the certificates given with it".to_owned()));
        }
        _ => {}
    }
    if let Ok(meta) = fs::metadata(file)
        && meta.permissions().mode() & 0o007 != 0
    {
        let file = file.display();
        found.push(Finding::Bad(format!(
            "every user of this machine may read it; chmod 0600 {file} (or 0640)"
        )));
    }
    found
}

/// A certificate's SubjectPublicKeyInfo.
fn public_key<'a>(certificate: &'a CertificateDer<'_>) -> Option<&'a [u8]> {
    X509Certificate::from_der(certificate)
        .ok()
        .map(|(_, certificate)| certificate.tbs_certificate.subject_pki.raw)
}

fn tell_request(der: &[u8], report: &mut String) -> Vec<Finding> {
    match X509CertificationRequest::from_der(der) {
        Ok((_, request)) => {
            let info = &request.certification_request_info;
            let subject = info.subject.to_string();
            let _ = writeln!(
                report,
                "  certificate request: not a certificate yet, its authority has to sign it"
            );
            let _ = writeln!(report, "    subject      {}", subject.escape_debug());
            let _ = writeln!(report, "    key          {}", KeyKind::of(&info.subject_pki));
            if !KeyKind::of(&info.subject_pki).is_usable() {
                return vec![Finding::Bad(format!("its key cannot be used ({USABLE})"))];
            }
            match request.verify_signature() {
                Ok(()) => Vec::new(),
                Err(_) => vec![Finding::Bad("its signature is not by its own key".to_owned())],
            }
        }
        Err(_) => vec![Finding::Bad("the certificate request cannot be read".to_owned())],
    }
}

fn locked(command: &str, file: &Path) -> Finding {
    Finding::Bad(format!(
        "an encrypted private key, and a daemon cannot type its password; write an unencrypted copy with: \
         (umask 077; {command} -out {}.plain)",
        file.display()
    ))
}
