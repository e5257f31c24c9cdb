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
        self.write_then(certificate, key, sync_directory)
    }

    /// Whatever fails, nothing is left that a second attempt would find in its way. What is removed was made a moment
    /// ago and nobody has it.
    fn write_then(
        &self,
        certificate: &str,
        key: &str,
        settle: impl FnOnce(&Path) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let parent = self.key.parent().filter(|parent| !parent.as_os_str().is_empty());
        create(&self.key, key, KEY_MODE)?;
        let certificate = create(&self.certificate, certificate, CERTIFICATE_MODE);
        let made: &[&Path] = if certificate.is_ok() { &[&self.certificate, &self.key] } else { &[&self.key] };
        let written = certificate.and_then(|()| settle(parent.unwrap_or(Path::new("."))));
        if written.is_err() {
            made.iter().for_each(|path| _ = fs::remove_file(path));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_that_cannot_be_made_durable_leaves_nothing_in_the_way_of_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let pair = Pair::at(&dir.path().join("ca"));
        let broken = |_: &Path| Err(Failure::Bad("the disk is broken".to_owned()));
        pair.write_then("certificate", "key", broken).unwrap_err();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        pair.write("certificate", "key").unwrap();
        assert_eq!(fs::read(&pair.key).unwrap(), b"key");

        let other = Pair { key: dir.path().join("other.key"), ..pair };
        other.write("another", "key").unwrap_err();
        assert_eq!(fs::read(&other.certificate).unwrap(), b"certificate", "not ours to remove");
        assert!(!other.key.exists());
    }
}
