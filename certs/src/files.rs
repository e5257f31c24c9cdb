//! Writing a certificate and its key: new files only, durable, the key for its owner alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Nobody but the owner may read a key.
const KEY_MODE: u32 = 0o600;
/// Certificates are public.
const CERTIFICATE_MODE: u32 = 0o644;

/// Where a pair lies.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Pair {
    /// `PREFIX.pem` and `PREFIX.key`.
    pub(crate) fn at(prefix: &Path) -> Self {
        let with = |ending: &str| {
            let mut path = prefix.as_os_str().to_owned();
            path.push(ending);
            PathBuf::from(path)
        };
        Self { certificate: with(".pem"), key: with(".key") }
    }

    /// Writes both, or neither. A file that exists stays as it is: a key that is overwritten is lost.
    pub(crate) fn write(&self, certificate: &str, key: &str) -> Result<(), Failure> {
        create(&self.key, key, KEY_MODE)?;
        let written = create(&self.certificate, certificate, CERTIFICATE_MODE).and_then(|()| {
            let parent = self.certificate.parent().filter(|parent| !parent.as_os_str().is_empty());
            sync_directory(parent.unwrap_or(Path::new(".")))
        });
        if written.is_err() {
            // The key was made a moment ago and nobody has it.
            let _ = fs::remove_file(&self.key);
        }
        written
    }
}

fn create(path: &Path, content: &str, mode: u32) -> Result<(), Failure> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::Bad(format!(
            "{} exists and is never overwritten; move it away, or choose another place with --out",
            path.display()
        )),
        _ => Failure::file(&format!("cannot write {}", path.display()), &error),
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed)?;
    let written = file.write_all(content.as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|error| {
        let _ = fs::remove_file(path);
        failed(error)
    })
}

fn sync_directory(path: &Path) -> Result<(), Failure> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(|error| Failure::file(&format!("cannot write {}", path.display()), &error))
}
