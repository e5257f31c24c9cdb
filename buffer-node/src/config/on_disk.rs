//! Looks at what a configuration names on the disk, so that a missing certificate is reported together with a mistyped
//! key. Reads only.

use std::error::Error;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use tidegate_net::pem;
use tidegate_net::tls::{self, ServerFiles};

use super::reader::{Place, Problems};

/// Paths of a configuration, and where they stand in it.
#[derive(Default)]
pub(super) struct Named {
    pub(super) directory: Option<(PathBuf, Place)>,
    pub(super) tls: Option<NamedTls>,
}

/// The files of TLS. Without an authority its place is of no use.
pub(super) struct NamedTls {
    pub(super) files: ServerFiles,
    pub(super) cert: Place,
    pub(super) key: Place,
    pub(super) ca: Place,
}

/// Adds what is wrong with them.
pub(super) fn look(named: &Named, problems: &mut Problems) {
    if let Some((path, place)) = &named.directory {
        directory(path, *place, problems);
    }
    if let Some(tls) = &named.tls {
        certificates(tls, problems);
    }
}

/// The node makes its directory, but not those above it: a mistyped path should not come true.
fn directory(path: &Path, place: Place, problems: &mut Problems) {
    let there = match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => path.parent().unwrap_or(path),
        _ => path,
    };
    match fs::metadata(there) {
        Ok(found) if !found.is_dir() => {
            problems.add(place, format!("`directory`: {} is no directory", there.display()));
        }
        Ok(_) => {
            if let Err(error) = access(there, Access::WRITE_OK | Access::EXEC_OK) {
                let text = format!(
                    "`directory`: this user cannot write to {}: {}; give it to the node's user, and validate as that user",
                    there.display(),
                    io::Error::from(error)
                );
                problems.add_failure(place, text, io::Error::from(error).kind());
            }
        }
        Err(error) => {
            let text = format!("`directory`: {}: {error}; create it, or correct the path", there.display());
            problems.add_failure(place, text, error.kind());
        }
    }
}

/// Each file by itself, so that all that are wrong are named; then all together.
fn certificates(tls: &NamedTls, problems: &mut Problems) {
    let NamedTls { files, cert, key, ca } = tls;
    let alone = [
        ("ssl_cert", *cert, pem::certificates(&files.cert).err()),
        ("ssl_key", *key, pem::private_key(&files.key).err()),
        ("ssl_ca", *ca, files.ca.as_deref().and_then(|path| pem::certificates(path).err())),
    ];
    let all_good = alone.iter().all(|(.., error)| error.is_none());
    for (name, place, error) in alone {
        if let Some(error) = error {
            add_unusable(name, place, &error, problems);
        }
    }
    if all_good && let Err(error) = tls::server_config(files) {
        // What is wrong with one file only in view of the others begins with its path.
        let words = error.to_string();
        let is_about = |path: &Path| words.starts_with(&path.display().to_string());
        let (name, place) = match files.ca.as_deref() {
            Some(path) if is_about(path) => ("ssl_ca", *ca),
            _ if is_about(&files.cert) => ("ssl_cert", *cert),
            _ => ("ssl_key", *key),
        };
        add_unusable(name, place, &error, problems);
    }
}

fn add_unusable(name: &str, place: Place, error: &dyn Error, problems: &mut Problems) {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    let kind = cause.map_or(ErrorKind::Other, io::Error::kind);
    problems.add_failure(place, format!("`{name}`: {error}"), kind);
}
