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
use std::fs::{self, File};
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

/// Open, to be fsynced.
struct Directories {
    incoming: File,
    staging: File,
}

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
    pub(super) fn contains(&self, id: i64) -> bool {
        self.0.contains(&id)
    }
}

/// When the ledger is told what was delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Record {
    Now,
    /// With the site's next transaction: until then a package that is committed and not staged counts as delivered.
    Later,
}

impl Pipeline {
    /// Delivers committed packages in arrival order: each is in the pipeline, durably, or in quarantine when this
    /// returns.
    pub(super) fn finish(&self, packages: Vec<Package>) -> Result<Damaged, Trouble> {
        self.finish_and(packages, Record::Now)
    }

    /// The same, leaving to the sites' next transactions what the disk says as well.
    pub(super) fn finish_deferring(&self, packages: Vec<Package>) -> Result<Damaged, Trouble> {
        self.finish_and(packages, Record::Later)
    }

    fn finish_and(&self, mut packages: Vec<Package>, record: Record) -> Result<Damaged, Trouble> {
        if packages.is_empty() {
            return Ok(Damaged::default());
        }
        packages.sort_unstable_by_key(|package| package.id);
        self.crash.point("after-committed");
        self.unbroken()?;
        // Before anything is renamed: that no file can be opened now must not look like a failed fsync later.
        let directories = self.directories()?;
        let mut delivered = Vec::with_capacity(packages.len());
        let mut stranded = Vec::new();
        let mut stopped = None;
        for package in &packages {
            match self.hand_over(package) {
                Ok(Fate::Delivered) => delivered.push(package),
                Ok(Fate::Quarantined(reason)) => stranded.push((package, reason)),
                Err(trouble) => {
                    stopped = Some(trouble);
                    break;
                }
            }
            self.crash.point("after-rename");
        }
        match stopped {
            None if record == Record::Later && stranded.is_empty() => {
                self.crash.point("after-relayed-renamed");
                self.names_are_durable(&directories)?;
                self.deferred.delivered(packages);
                Ok(Damaged::default())
            }
            None => self.settle(&directories, &delivered, &stranded),
            // Only the next start finds out how far it got.
            Some(trouble) if trouble.is_final() => Err(trouble),
            // A consumer may eat what has its name: a power cut must not bring it back.
            Some(trouble) => {
                let settled = self.settle(&directories, &delivered, &stranded);
                Err(settled.err().filter(Trouble::is_final).unwrap_or(trouble))
            }
        }
    }

    /// The directories between which packages are renamed.
    fn directories(&self) -> Result<Directories, Trouble> {
        Ok(Directories {
            incoming: File::open(&self.incoming).map_err(Trouble::io("cannot open incomingdir"))?,
            staging: File::open(self.staging.directory())
                .map_err(Trouble::io("cannot open the staging directory"))?,
        })
    }

    /// Makes the new names of packages durable, and that they lost their old ones.
    fn names_are_durable(&self, directories: &Directories) -> Result<(), Trouble> {
        self.proven(&self.incoming, durable::sync_open_dir(&directories.incoming))?;
        self.proven(self.staging.directory(), durable::sync_open_dir(&directories.staging))?;
        self.crash.point("after-dirsync");
        Ok(())
    }

    /// Makes the fates of packages durable, first on the disk and then in the ledger.
    fn settle(
        &self,
        directories: &Directories,
        delivered: &[&Package],
        stranded: &[(&Package, String)],
    ) -> Result<Damaged, Trouble> {
        let mut damaged = Damaged::default();
        if delivered.is_empty() && stranded.is_empty() {
            return Ok(damaged);
        }
        self.names_are_durable(directories)?;
        let kept = self.ledger.write(|batch| {
            batch.deliver_all(delivered.iter().copied())?;
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

    /// What an fsync of `directory` said. After the first that failed nobody's fsync proves anything any more: the
    /// kernel tells of lost pages once.
    pub(super) fn proven(&self, directory: &Path, synced: io::Result<()>) -> Result<(), Trouble> {
        if let Err(error) = &synced {
            // Set once: the first is the one to be told.
            let _ = self.broken.set((directory.to_owned(), error.to_string()));
        }
        synced.map_err(Trouble::fsync(directory))?;
        self.unbroken()
    }

    /// Fails once an fsync has failed, for whichever site.
    pub(super) fn unbroken(&self) -> Result<(), Trouble> {
        let Some((directory, error)) = self.broken.get() else { return Ok(()) };
        Err(Trouble::fsync(directory)(io::Error::other(error.clone())))
    }

    /// Delivers what an earlier attempt of this site could not (incomingdir was full, say), and what an operator
    /// took out of quarantine.
    pub(crate) fn resume(&self, site: &str) -> Result<(), Trouble> {
        self.write_deferred(site)?;
        self.finish(self.ledger.committed_packages(site)?).map(|_| ())
    }

    fn hand_over(&self, package: &Package) -> Result<Fate, Trouble> {
        let staged = self.staging.path(&package.staged);
        match verified(&staged, &package.digest) {
            Ok(None) => self.rename(package, &staged),
            Ok(Some(damage)) => Ok(Fate::Quarantined(damage)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.delivered_before(package),
            Err(error) if self.is_one_files(&error) => {
                Ok(Fate::Quarantined(format!("its file {} cannot be read: {error}", staged.display())))
            }
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

    /// Whether a staged file could not be read for a reason of its own, and its neighbours can be.
    pub(super) fn is_one_files(&self, error: &io::Error) -> bool {
        use rustix::io::Errno;

        let own = is_lost(error)
            || is_one_of(error, &[Errno::ACCESS, Errno::PERM, Errno::LOOP, Errno::NXIO, Errno::NOENT]);
        own && self.staging.is_intact()
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

/// Whether reading a file failed because its bytes are not there any more: a bad sector, a file system that found its
/// own records damaged, a directory in the file's place.
fn is_lost(error: &io::Error) -> bool {
    use rustix::io::Errno;

    is_one_of(error, &[Errno::IO, Errno::UCLEAN, Errno::BADMSG, Errno::ISDIR])
}

fn is_one_of(error: &io::Error, errnos: &[rustix::io::Errno]) -> bool {
    error.raw_os_error().is_some_and(|code| errnos.iter().any(|errno| errno.raw_os_error() == code))
}

/// What is wrong with the bytes of a staged file, if anything. What fails to be read twice is not read.
fn verified(staged: &Path, digest: &Digest) -> io::Result<Option<String>> {
    match digest_of(staged).or_else(|error| if is_lost(&error) { digest_of(staged) } else { Err(error) }) {
        Ok((found, _)) if found == *digest => Ok(None),
        Ok((found, size)) => Ok(Some(format!(
            "{DAMAGED} on this server's disk: its {size} bytes have the SHA-256 {found:?}…, {digest:?}… came"
        ))),
        Err(error) if is_lost(&error) => {
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
    is_one_of(error, &NAME)
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
