//! Handing committed packages to the pipeline: each is verified, then gets its name by one rename that replaces
//! nothing.
//!
//! A staged file that is gone while its package is committed was renamed by an earlier life of this process: the
//! consumer may even have eaten it already. So it is never delivered again. That conclusion holds only in the
//! staging directory that the ledger knows, hence the check.
//!
//! What is wrong with one package sends it to its site's quarantine, and blocks nothing behind it. What would be wrong
//! with the next one too (a full or read-only disk, missing rights, a missing `incomingdir`) is [`Trouble`].

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tidegate_spool::durable;

use super::{Pipeline, Trouble};
use crate::body::{Digest, digest_of};
use crate::ledger::{DAMAGED, Package};
use crate::names;

/// How many target names are tried for one package; beyond it the package goes to quarantine.
const TARGETS_MAX: u32 = 100;

/// What becomes of a committed package.
enum Fate {
    /// It has its target name.
    Delivered,
    /// It cannot be delivered, for this reason.
    Quarantined(String),
}

/// The packages of a delivery whose staged bytes were not those that came. Those that their sites still have must not
/// be deleted there: they come again.
#[must_use]
#[derive(Debug, Default)]
pub(super) struct Damaged(Vec<i64>);

impl Damaged {
    pub(super) fn contains(&self, package: &Package) -> bool {
        self.0.contains(&package.id)
    }
}

impl Pipeline {
    /// Delivers committed packages in arrival order: each is in the pipeline, durably, or in quarantine when this
    /// returns.
    pub(super) fn finish(&self, mut packages: Vec<Package>) -> Result<Damaged, Trouble> {
        let mut damaged = Damaged::default();
        if packages.is_empty() {
            return Ok(damaged);
        }
        packages.sort_unstable_by_key(|package| package.id);
        self.crash.point("after-committed");
        let mut delivered = Vec::with_capacity(packages.len());
        let mut stranded = Vec::new();
        for package in &packages {
            match self.hand_over(package)? {
                Fate::Delivered => delivered.push(package),
                Fate::Quarantined(reason) => stranded.push((package, reason)),
            }
            self.crash.point("after-rename");
        }
        durable::sync_dir(&self.incoming).map_err(Trouble::fsync(&self.incoming))?;
        self.staging.sync().map_err(Trouble::fsync(self.staging.directory()))?;
        self.crash.point("after-dirsync");
        let kept = self.ledger.write(|batch| {
            delivered.iter().try_for_each(|package| batch.deliver(package))?;
            let quarantine = |(package, reason): &(&Package, String)| batch.quarantine(package, reason);
            stranded.iter().map(quarantine).collect::<rusqlite::Result<Vec<_>>>()
        })?;
        self.crash.point("after-delivered");
        for ((package, reason), kept) in stranded.iter().zip(kept) {
            say_quarantined(package, reason);
            if !kept {
                self.staging.remove(&package.staged);
            }
            damaged.0.extend(Some(package.id).filter(|_| reason.starts_with(DAMAGED)));
        }
        Ok(damaged)
    }

    /// Delivers what an earlier attempt of this site could not (incomingdir was full, say), and what an operator
    /// took out of quarantine.
    pub(crate) fn resume(&self, site: &str) -> Result<(), Trouble> {
        self.finish(self.ledger.committed_packages(site)?).map(|_| ())
    }

    fn hand_over(&self, package: &Package) -> Result<Fate, Trouble> {
        let staged = self.staging.path(&package.staged);
        match verified(&staged, &package.digest) {
            Ok(None) => self.rename(package, &staged),
            Ok(Some(damage)) => Ok(Fate::Quarantined(damage)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.delivered_before(package),
            Err(error) => {
                Err(Trouble::io(&format!("cannot read the staged file of {}", package.name))(error))
            }
        }
    }

    fn rename(&self, package: &Package, staged: &Path) -> Result<Fate, Trouble> {
        let mut target = package.target.clone();
        for attempt in 0..TARGETS_MAX {
            match durable::rename_noreplace(staged, &self.target(&target)) {
                Ok(()) => return Ok(Fate::Delivered),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if same_file(staged, &self.target(&target)) {
                        // A file system without RENAME_NOREPLACE, and a crash between link and unlink.
                        self.staging.remove(&package.staged);
                        return Ok(Fate::Delivered);
                    }
                    target = unique(package, attempt);
                    self.ledger.write(|batch| batch.retarget(package, &target))?;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound && !staged.exists() => {
                    return self.delivered_before(package);
                }
                Err(error) if is_its_own(&error) && self.incoming.is_dir() => {
                    return Ok(Fate::Quarantined(format!("cannot have its name in incomingdir: {error}")));
                }
                Err(error) => {
                    let what = format!("cannot rename {} into incomingdir", package.name);
                    return Err(Trouble::io(&what)(error));
                }
            }
        }
        Ok(Fate::Quarantined(format!("{TARGETS_MAX} names for it are taken in incomingdir")))
    }

    fn delivered_before(&self, package: &Package) -> Result<Fate, Trouble> {
        if !self.staging.is_intact() {
            return Err(Trouble::Failed(
                "the staging directory is gone or was replaced: is the file system of incomingdir mounted?"
                    .into(),
            ));
        }
        tracing::info!(site = package.site, package = %package.name, "was handed to the pipeline before the restart");
        Ok(Fate::Delivered)
    }

    fn target(&self, name: &[u8]) -> PathBuf {
        self.incoming.join(OsStr::from_bytes(name))
    }
}

/// What an operator reads about a package that stays behind.
pub(super) fn say_quarantined(package: &Package, reason: &str) {
    tracing::error!(
        site = package.site,
        package = %package.name,
        id = package.id,
        reason,
        "cannot be delivered and is in quarantine; nothing waits for it. `tidegate-server quarantine` shows it, \
         delivers it after all, or throws it away"
    );
}

/// What is wrong with the bytes of a staged file, if anything. A bad sector is damage of this one file: what fails
/// to be read twice is not read.
fn verified(staged: &Path, digest: &Digest) -> io::Result<Option<String>> {
    let unreadable = |error: &io::Error| error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error());
    match digest_of(staged).or_else(|error| if unreadable(&error) { digest_of(staged) } else { Err(error) }) {
        Ok((found, _)) if found == *digest => Ok(None),
        Ok((found, size)) => Ok(Some(format!(
            "{DAMAGED} on this server's disk: its {size} bytes have the SHA-256 {found:?}…, {digest:?}… came"
        ))),
        Err(error) if unreadable(&error) => {
            Ok(Some(format!("{DAMAGED} on this server's disk: it cannot be read: {error}")))
        }
        Err(error) => Err(error),
    }
}

/// Whether a rename failed for a reason in the name, and another package's would not.
pub(super) fn is_its_own(error: &io::Error) -> bool {
    use rustix::io::Errno;

    const NAME: [Errno; 6] =
        [Errno::NAMETOOLONG, Errno::INVAL, Errno::ILSEQ, Errno::NOTDIR, Errno::ISDIR, Errno::LOOP];
    error.raw_os_error().is_some_and(|code| NAME.iter().any(|errno| errno.raw_os_error() == code))
}

/// Whether two names lead to one file.
fn same_file(a: &Path, b: &Path) -> bool {
    let id = |path| fs::metadata(path).map(|file| (file.dev(), file.ino()));
    matches!((id(a), id(b)), (Ok(a), Ok(b)) if a == b)
}

/// Another target name: the row's number makes it unique at once, unless somebody else names files that way.
fn unique(package: &Package, attempt: u32) -> Vec<u8> {
    let mut digits = format!("{:010}", package.id);
    if attempt > 0 {
        digits.push_str(&attempt.to_string());
    }
    names::with_digits(&package.name, &digits)
}
