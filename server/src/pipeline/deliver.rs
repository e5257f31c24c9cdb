//! Handing committed packages to the pipeline: one rename each, without replacing anything.
//!
//! A staged file that is gone while its package is committed was renamed by an earlier life of this process: the
//! consumer may even have eaten it already. So it is never delivered again. That conclusion holds only in the
//! staging directory that the ledger knows, hence the check.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tidegate_spool::durable;

use super::{Pipeline, Trouble};
use crate::ledger::Package;
use crate::names;

/// How many target names are tried for one package; beyond it something is wrong with incomingdir.
const TARGETS_MAX: u32 = 100;

impl Pipeline {
    /// Delivers committed packages in arrival order: each is in the pipeline, durably, when this returns.
    pub(super) fn finish(&self, mut packages: Vec<Package>) -> Result<(), Trouble> {
        if packages.is_empty() {
            return Ok(());
        }
        packages.sort_unstable_by_key(|package| package.id);
        self.crash.point("after-committed");
        for package in &packages {
            self.rename(package)?;
            self.crash.point("after-rename");
        }
        durable::sync_dir(&self.incoming).map_err(Trouble::fsync(&self.incoming))?;
        self.staging.sync().map_err(Trouble::fsync(self.staging.directory()))?;
        self.crash.point("after-dirsync");
        self.ledger.write(|batch| packages.iter().try_for_each(|package| batch.deliver(package)))?;
        self.crash.point("after-delivered");
        Ok(())
    }

    /// Delivers what an earlier attempt of this site could not: incomingdir was full, say.
    pub(crate) fn resume(&self, site: &str) -> Result<(), Trouble> {
        self.finish(self.ledger.committed_packages(site)?)
    }

    fn rename(&self, package: &Package) -> Result<(), Trouble> {
        let staged = self.staging.path(&package.staged);
        let mut target = package.target.clone();
        for attempt in 0..TARGETS_MAX {
            match durable::rename_noreplace(&staged, &self.target(&target)) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if same_file(&staged, &self.target(&target)) {
                        // A file system without RENAME_NOREPLACE, and a crash between link and unlink.
                        self.staging.remove(&package.staged);
                        return Ok(());
                    }
                    target = unique(package, attempt);
                    self.ledger.write(|batch| batch.retarget(package, &target))?;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound && !staged.exists() => {
                    return self.delivered_before(package);
                }
                Err(error) => {
                    let what = format!("cannot rename {} into incomingdir", package.name);
                    return Err(Trouble::io(&what)(error));
                }
            }
        }
        Err(Trouble::Failed(format!("{TARGETS_MAX} names for {} are taken in incomingdir", package.name)))
    }

    fn delivered_before(&self, package: &Package) -> Result<(), Trouble> {
        if !self.staging.is_intact() {
            return Err(Trouble::Failed(
                "the staging directory is gone or was replaced: is the file system of incomingdir mounted?"
                    .into(),
            ));
        }
        tracing::info!(site = package.site, package = %package.name, "was handed to the pipeline before the restart");
        Ok(())
    }

    fn target(&self, name: &[u8]) -> PathBuf {
        self.incoming.join(OsStr::from_bytes(name))
    }
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
