//! From received bytes to files in `incomingdir`, each package once: all disk and ledger work of the server.
//!
//! Constraints, before the design:
//! - Everything here blocks; the async side calls it on blocking threads only.
//! - What a method returns about, it has made durable. A crash at any point inside leaves a state from which the
//!   next start ([`recover`]) and the next listing ([`Pipeline::listed`]) go on without loss or doubling.
//! - One caller a site at a time (each site has one task); sites run beside each other.
//! - It never speaks to a site, and no path comes from one: names are [`Name`]s.
//!
//! ```text
//!            hold                        resolve, listed               finish
//! stock:  ───────────▶ staged + held ───────────────────▶ committed ───────────▶ delivered
//!            accept                                           ▲    └──────────────▶ quarantined
//! node:   ────────────────────────────────────────────────────┘
//!            relayed
//! ```
//!
//! A name may have several versions in flight, if a stock site rewrote the file between `RECV` and `MV`. They are
//! kept and delivered in the order in which they were seen, except that a version of which a later one is a
//! continuation (it was still being written) gives way to the later one.

mod admit;
mod boot;
mod deferred;
mod deliver;
mod recover;
mod relayed;
mod repeats;
mod resolve;

pub(crate) use admit::{Kept, REPEAT_WINDOW, Received};
pub(crate) use relayed::{Relayed, What};
pub(crate) use resolve::Moved;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use tidegate_proto::Name;

use boot::Boot;
use deferred::Deferred;

use crate::board::Board;
use crate::body::Digest;
use crate::config::Incoming;
use crate::crash::Crash;
use crate::ledger::{Batch, Ledger, LedgerError, Package, Waiting, fact};
use crate::staging::{StagedFile, Staging, StagingError, Tie};

/// Packages of one site in quarantine, and their bytes. Beyond it nothing more is pulled from that site by relay: its
/// backlog stays there until an operator has looked.
const QUARANTINE_MAX: u64 = if cfg!(test) { 4 } else { 1_000 };
const QUARANTINE_BYTES_MAX: u64 = 1 << 30;

/// Room that is left on the disk of the pipeline: so many bytes, or that part of a small one. Below it nothing is
/// pulled: what came would be turned away at the last moment, again and again.
const FREE_MIN: u64 = 64 << 20;
const FREE_PART: u64 = 8;

/// Why packages cannot be taken now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// No room: the backlog stays at the sites until there is.
    #[error("{0}")]
    Full(String),
    /// Something else that an operator can mend while the server runs.
    #[error("{0}")]
    Failed(String),
    /// The ledger cannot be trusted to have recorded what it was told: only a restart finds out.
    #[error(transparent)]
    Ledger(LedgerError),
    /// What was handed over may not survive a power cut: after a failed fsync a second one proves nothing.
    #[error("cannot fsync {directory}: {source}; check the disk, then start again")]
    Durability { directory: String, source: io::Error },
}

impl Trouble {
    /// For `map_err`: what could not be done.
    pub(crate) fn io(what: &str) -> impl FnOnce(io::Error) -> Self {
        move |error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::Full(format!("{what}: {error}"))
            }
            _ => Self::Failed(format!("{what}: {error}")),
        }
    }

    /// For `map_err`: the directory whose fsync failed.
    pub(crate) fn fsync(directory: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Durability { directory: directory.display().to_string(), source }
    }

    /// Whether this process must not go on.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Ledger(_) | Self::Durability { .. })
    }
}

impl From<LedgerError> for Trouble {
    fn from(error: LedgerError) -> Self {
        if error.is_full() {
            return Self::Full(format!("no room for the ledger: {error}"));
        }
        if error.is_busy() {
            return Self::Failed(format!("another process has had the ledger for too long: {error}"));
        }
        Self::Ledger(error)
    }
}

/// Why the pipeline cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Staging(#[from] StagingError),
    #[error(transparent)]
    Recovery(#[from] Trouble),
}

/// The ledger, the staging directory and the directory that the pipeline reads.
#[derive(Debug)]
pub(crate) struct Pipeline {
    ledger: Ledger,
    staging: Arc<Staging>,
    incoming: PathBuf,
    max_files: Option<u64>,
    crash: Crash,
    /// What relay left for the next transaction.
    deferred: Deferred,
    board: Board,
    /// The directory whose fsync failed, and how. From then on no site's task hands anything over.
    broken: OnceLock<(PathBuf, String)>,
}

impl Pipeline {
    /// Opens everything, and finishes what an earlier process left.
    pub(crate) fn open(settings: &Incoming, crash: Crash) -> Result<Self, OpenError> {
        Self::open_in(&Boot::current(), settings, crash)
    }

    fn open_in(boot: &Boot, settings: &Incoming, crash: Crash) -> Result<Self, OpenError> {
        let ledger = Ledger::open(&settings.state)?.keeping(settings.history);
        let tie = Tie {
            ledger: ledger.id()?,
            mark: ledger.staging_mark()?,
            unfinished: ledger.packages_with_files()?.len(),
            starts: ledger.fact(fact::STARTS)?.and_then(|starts| starts.parse().ok()).unwrap_or(0),
        };
        let staging = Staging::open(&settings.staging, &settings.directory, settings.ownership, &tie)?;
        let starts = tie.starts.max(staging.starts()) + 1;
        ledger.write(|batch| {
            // Before any package is recorded that lies there.
            if tie.mark.as_deref() != Some(staging.mark()) {
                batch.fact(fact::STAGING, staging.mark())?;
            }
            // With the count, which hides it from the next start.
            if staging.starts() > tie.starts {
                batch.fact(fact::TORN, fact::OLDER)?;
            }
            batch.fact(fact::STARTS, &starts.to_string())
        })?;
        staging.count_start(starts)?;
        let pipeline = Self {
            ledger,
            staging,
            incoming: settings.directory.clone(),
            max_files: settings.max_files,
            crash,
            deferred: Deferred::default(),
            board: Board::default(),
            broken: OnceLock::new(),
        };
        pipeline.recover(boot, settings.after_power_loss)?;
        Ok(pipeline)
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub(crate) fn staging(&self) -> Arc<Staging> {
        Arc::clone(&self.staging)
    }

    pub(crate) fn crash(&self) -> &Crash {
        &self.crash
    }

    /// Where the sites' words about themselves are kept until the next [`Self::flush`].
    pub(crate) fn board(&self) -> &Board {
        &self.board
    }

    /// Whether the pipeline keeps up: more is pulled only if it has not too many files before it.
    pub(crate) fn room(&self) -> Result<(), Trouble> {
        self.unbroken()?;
        self.free()?;
        let Some(max) = self.max_files else { return Ok(()) };
        let entries = fs::read_dir(&self.incoming).map_err(Trouble::io("cannot read incomingdir"))?;
        let limit = usize::try_from(max).unwrap_or(usize::MAX);
        // Packages may begin with a dot; the staging directory and the data server's own are no packages.
        let is_file = |entry: &io::Result<fs::DirEntry>| {
            entry.as_ref().is_ok_and(|entry| !entry.file_type().is_ok_and(|kind| kind.is_dir()))
        };
        if entries.filter(is_file).take(limit).count() < limit {
            return Ok(());
        }
        Err(Trouble::Full(format!(
            "incomingdir holds {max} files or more (incoming_max_files): the pipeline does not keep up"
        )))
    }

    /// The same for one site, which must not have too much in quarantine either.
    pub(crate) fn room_for(&self, site: &str) -> Result<(), Trouble> {
        self.room()?;
        let (packages, bytes) = self.ledger.quarantine_of(site, QUARANTINE_MAX)?;
        if packages < QUARANTINE_MAX && bytes < QUARANTINE_BYTES_MAX {
            return Ok(());
        }
        Err(Trouble::Full(format!(
            "{packages} packages or more of the site are in quarantine, with {bytes} bytes; from {QUARANTINE_MAX}, or              {QUARANTINE_BYTES_MAX} bytes, on its backlog stays there: decide about them with `tidegate-server quarantine`"
        )))
    }

    /// Whether the disk has room.
    fn free(&self) -> Result<(), Trouble> {
        let directory = self.staging.directory();
        let disk = rustix::fs::statvfs(directory)
            .map_err(|error| Trouble::io("cannot ask for the room of the staging directory")(error.into()))?;
        let [total, free] = [disk.f_blocks, disk.f_bavail].map(|blocks| blocks.saturating_mul(disk.f_frsize));
        let needed = FREE_MIN.min(total / FREE_PART);
        if free >= needed {
            return Ok(());
        }
        Err(Trouble::Full(format!(
            "the file system of {} has {free} bytes left, and packages are pulled from {needed} on",
            directory.display()
        )))
    }

    /// A site's complete listing came: what it no longer shows, it has deleted, so that held packages are now the
    /// only copies, and are delivered. `shown` tells whether a name is listed.
    pub(crate) fn listed(&self, site: &str, shown: impl Fn(&Name) -> bool) -> Result<(), Trouble> {
        let undelivered = self.ledger.settle(site, shown)?;
        self.crash.point("after-released");
        self.finish(undelivered).map(|_| ())
    }

    /// These delivered packages are proven to be deleted at their site.
    pub(crate) fn gone(&self, site: &str, packages: &[(Name, Digest)]) -> Result<(), Trouble> {
        let gone = |batch: &Batch<'_>| {
            packages.iter().try_for_each(|(name, digest)| batch.version_gone(site, name, digest))
        };
        Ok(self.ledger.write(gone)?)
    }

    /// Says which sites have packages here and are not configured (any more): nobody pulls them, so nothing settles
    /// what waits for their listings.
    pub(crate) fn tell_unconfigured(&self, configured: &[String]) -> Result<(), Trouble> {
        for waiting in self.ledger.waiting()? {
            let Waiting { site, held, committed, quarantined, delivered } = waiting;
            if configured.contains(&site) {
                continue;
            }
            tracing::warn!(
                site,
                held,
                committed,
                quarantined,
                delivered,
                "has packages here and is not configured: what is held waits for its listing. If the site has another \
                 name now, give it its old one back (`name` in its [[site]] table) until nothing waits"
            );
        }
        Ok(())
    }

    /// Delivers what is decided of sites that nobody pulls (any more): what an operator took out of quarantine, say.
    pub(crate) fn resume_unconfigured(&self, configured: &[String]) -> Result<(), Trouble> {
        let sites = self.ledger.sites_with_committed()?;
        sites.iter().filter(|site| !configured.contains(site)).try_for_each(|site| self.resume(site))
    }

    /// Makes `files` durable, and runs `changes`, which record them, in one transaction.
    fn record<T>(
        &self,
        files: &[&StagedFile],
        changes: impl FnOnce(&Batch<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, Trouble> {
        self.unbroken()?;
        self.staging.sync_files(files).map_err(Trouble::io("cannot make staged files durable"))?;
        self.crash.point("after-recv-staged");
        self.record_durable(files, changes)
    }

    /// The same where `files` are durable.
    fn record_durable<T>(
        &self,
        files: &[&StagedFile],
        changes: impl FnOnce(&Batch<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, Trouble> {
        // From here on the files must outlive every error but a certain "not recorded".
        files.iter().for_each(|file| file.keep(true));
        self.ledger.write(changes).map_err(|error| {
            files.iter().for_each(|file| file.keep(!error.is_full() && !error.is_busy()));
            error.into()
        })
    }

    /// Removes the files of versions that gave way to a later one.
    fn remove_continued<'a>(&self, continued: impl IntoIterator<Item = &'a Package>) {
        continued.into_iter().for_each(|package| self.staging.remove(&package.staged));
    }
}

#[cfg(test)]
mod tests;
