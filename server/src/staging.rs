//! The staging directory: files that have been received and are not in the pipeline yet.
//!
//! Constraints:
//! - It is on the file system of `incomingdir`, so that delivering is one rename.
//! - No name in it matches what a consumer of `incomingdir` reads; by default it is hidden there as `.tidegate`.
//! - It belongs to one ledger, whose id it carries, beside a mark of its own that the ledger knows. A missing staged file
//!   means "already delivered" only in the right directory: with an unmounted or replaced one, the same absence would
//!   be a loss, so the server refuses. The mark tells the directory below a mount point from the one mounted over it.
//! - A file in it may be the only copy of a package that the site has deleted. The ledger knows it, unless that is an
//!   older one than was here before (restored from a backup, or its log lost). So both count the starts: the ledger
//!   first, and a directory that has seen more of them is swept of nothing.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::SystemTime;

use tidegate_spool::durable;

use crate::config::Ownership;

/// The file that ties the directory to its ledger.
pub(crate) const OWNER: &str = "ledger-id";

/// The end of a staged file's name.
const ENDING: &str = ".staged";

/// The end of the name of one that was set aside.
pub(crate) const ASIDE_ENDING: &str = ".aside";

/// How many files of a batch are fsynced side by side.
const SYNC_THREADS: usize = 8;

/// Why a staging directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StagingError {
    /// Some step failed.
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    /// Wrong file system.
    #[error(
        "the staging directory {staging} is not on the file system of incomingdir {incoming}, so that a package \
         could not be handed over in one step: remove `staging`, or give a directory on the same file system"
    )]
    OtherFileSystem { staging: String, incoming: String },
    /// The ledger counts on files that cannot be here.
    #[error(
        "the ledger has {unfinished} packages whose files lie in the staging directory it used before, and {staging} \
         is not that directory. Is the file system of incomingdir mounted, or was `incomingdir` or `staging` \
         changed? Put it back, start the server once until it has delivered them (and empty the quarantine: \
         `tidegate-server quarantine`), then change it"
    )]
    Replaced { staging: String, unfinished: usize },
    /// What is staged is read again before it is handed over.
    #[error(
        "this server cannot read files with the owner, group and mode that it gives them (incoming_owner, \
         incoming_group, incoming_mode), and it must, to verify each before it is handed over: choose a group that it \
         is in and a mode that lets the group read (\"0640\"), or give it CAP_DAC_READ_SEARCH beside CAP_CHOWN"
    )]
    Unreadable,
    /// Two servers, or a ledger that was lost.
    #[error(
        "the staging directory {staging} belongs to another ledger. Two servers with one incomingdir need a `staging` \
         of their own each; if that other ledger is lost for good, move {staging} away (what is in it was received \
         and never handed on)"
    )]
    Foreign { staging: String },
}

/// What a ledger knows of its staging directory.
#[derive(Debug)]
pub(crate) struct Tie {
    /// The ledger's id.
    pub(crate) ledger: String,
    /// The mark of the directory it used last, if any.
    pub(crate) mark: Option<String>,
    /// How many packages have their files there.
    pub(crate) unfinished: usize,
    /// How many starts it has seen.
    pub(crate) starts: u64,
}

/// An open staging directory.
#[derive(Debug)]
pub(crate) struct Staging {
    directory: PathBuf,
    ownership: Ownership,
    owner: Owner,
    start: String,
    counter: AtomicU64,
}

/// What stands in [`OWNER`]: `<ledger> <mark>`, and from the first start on `<ledger> <starts> <mark>`.
#[derive(Debug)]
struct Owner {
    ledger: String,
    mark: String,
    starts: u64,
}

impl Owner {
    fn read(directory: &Path) -> io::Result<Option<Self>> {
        match fs::read_to_string(directory.join(OWNER)) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (ledger, rest) = text.split_once(' ')?;
        let (starts, mark) = rest.split_once(' ').unwrap_or(("0", rest));
        Some(Self { ledger: ledger.to_owned(), mark: mark.to_owned(), starts: starts.parse().ok()? })
    }
}

/// Whose a directory says to be: the ledger's id and the directory's own mark. `None` when it is absent or says nothing.
pub(crate) fn owner_of(directory: &Path) -> io::Result<Option<(String, String)>> {
    Ok(Owner::read(directory)?.map(|owner| (owner.ledger, owner.mark)))
}

/// A file in the staging directory; it goes with this value unless it is [kept](StagedFile::keep).
#[derive(Debug)]
pub(crate) struct StagedFile {
    /// `None` while it is closed.
    file: Option<File>,
    name: String,
    staging: Arc<Staging>,
    kept: AtomicBool,
}

impl Staging {
    /// Makes and checks the directory.
    pub(crate) fn open(
        directory: &Path,
        incoming: &Path,
        ownership: Ownership,
        tie: &Tie,
    ) -> Result<Arc<Self>, StagingError> {
        let unfinished = tie.unfinished;
        let shown = || directory.display().to_string();
        let failed = |what: String| move |source| StagingError::Io { what, source };
        let of_incoming = fs::metadata(incoming)
            .map_err(failed(format!("cannot use incomingdir {}", incoming.display())))?;
        let absent = !directory.exists();
        if absent && unfinished > 0 {
            return Err(StagingError::Replaced { staging: shown(), unfinished });
        }
        if absent {
            // The mode is given to mkdir, not set after it: a set-group-ID bit is inherited from incomingdir.
            DirBuilder::new()
                .mode(0o700)
                .create(directory)
                .and_then(|()| durable::sync_dir(directory.parent().unwrap_or(incoming)))
                .map_err(failed(format!("cannot make the staging directory {}", shown())))?;
        }
        let of_staging = fs::metadata(directory)
            .map_err(failed(format!("cannot use the staging directory {}", shown())))?;
        if of_staging.dev() != of_incoming.dev() {
            return Err(StagingError::OtherFileSystem {
                staging: shown(),
                incoming: incoming.display().to_string(),
            });
        }
        let owner_file = directory.join(OWNER);
        let start = Self::new_mark();
        let owner = match fs::read_to_string(&owner_file) {
            Ok(owner) => Owner::parse(&owner).filter(|owner| owner.ledger == tie.ledger),
            Err(error) if error.kind() == io::ErrorKind::NotFound && unfinished == 0 => {
                Self::tie(directory, &tie.ledger, &start)?;
                Some(Owner { ledger: tie.ledger.clone(), mark: start.clone(), starts: 0 })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StagingError::Replaced { staging: shown(), unfinished });
            }
            Err(error) => return Err(failed(format!("cannot read {}", owner_file.display()))(error)),
        };
        let Some(owner) = owner else {
            return Err(StagingError::Foreign { staging: shown() });
        };
        // Without unfinished packages any directory of this ledger will do.
        if unfinished > 0 && tie.mark.as_ref() != Some(&owner.mark) {
            return Err(StagingError::Replaced { staging: shown(), unfinished });
        }
        let staging = Arc::new(Self {
            directory: directory.to_owned(),
            ownership,
            owner,
            start,
            counter: AtomicU64::new(0),
        });
        if staging.can_read_back() { Ok(staging) } else { Err(StagingError::Unreadable) }
    }

    /// Whether a dressed file can be read. What keeps one from being made is told when the first is needed.
    fn can_read_back(self: &Arc<Self>) -> bool {
        let Ok(file) = self.create() else { return true };
        if file.dress(SystemTime::now()).is_err() {
            return true;
        }
        !File::open(file.path()).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    }

    /// The names of the staged files in `directory`, which must be a staging directory.
    pub(crate) fn files(directory: &Path) -> io::Result<HashSet<String>> {
        fs::metadata(directory.join(OWNER))?;
        let mut files = HashSet::new();
        for entry in fs::read_dir(directory)? {
            let name = entry?.file_name();
            files.extend(name.to_str().filter(|name| name.ends_with(ENDING)).map(str::to_owned));
        }
        Ok(files)
    }

    /// A mark that no other directory of a ledger has.
    pub(crate) fn new_mark() -> String {
        // The moment is mark enough: nobody makes two of one ledger's directories at once.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        format!("{now:x}")
    }

    /// Ties `directory` to a ledger, whatever it was tied to.
    pub(crate) fn tie(directory: &Path, ledger: &str, mark: &str) -> Result<(), StagingError> {
        Self::write_owner(directory, &format!("{ledger} {mark}"))
    }

    fn write_owner(directory: &Path, text: &str) -> Result<(), StagingError> {
        let owner = directory.join(OWNER);
        durable::replace(&owner, text.as_bytes())
            .map_err(|source| StagingError::Io { what: format!("cannot write {}", owner.display()), source })
    }

    /// What tells this directory from every other one of its ledger.
    pub(crate) fn mark(&self) -> &str {
        &self.owner.mark
    }

    /// How many starts it has seen.
    pub(crate) fn starts(&self) -> u64 {
        self.owner.starts
    }

    /// Counts a start, which the ledger has counted.
    pub(crate) fn count_start(&self, starts: u64) -> Result<(), StagingError> {
        Self::write_owner(&self.directory, &format!("{} {starts} {}", self.owner.ledger, self.owner.mark))
    }

    /// Where it is.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where a staged file lies.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// A new, empty file.
    pub(crate) fn create(self: &Arc<Self>) -> io::Result<StagedFile> {
        let n = self.counter.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{n:08x}{ENDING}", self.start);
        let file = durable::create_new(&self.path(&name))?;
        Ok(StagedFile { file: Some(file), name, staging: Arc::clone(self), kept: AtomicBool::new(false) })
    }

    /// Makes the contents of `files` durable, and their names. On ext4, fsyncs side by side share the journal's
    /// commits: 64 files took 7 ms instead of 32.
    pub(crate) fn sync_files(&self, files: &[&StagedFile]) -> io::Result<()> {
        let sync = |files: &[&StagedFile]| files.iter().try_for_each(|file| file.sync());
        let share = files.len().div_ceil(SYNC_THREADS).max(1);
        thread::scope(|threads| {
            let syncing: Vec<_> =
                files.chunks(share).map(|files| threads.spawn(move || sync(files))).collect();
            // All are waited for, whatever the first says.
            let synced: Vec<_> =
                syncing.into_iter().map(|thread| thread.join().expect("fsync does not panic")).collect();
            synced.into_iter().collect::<io::Result<()>>()
        })?;
        if files.is_empty() { Ok(()) } else { self.sync() }
    }

    /// Makes the names of staged files durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        durable::sync_dir(&self.directory)
    }

    /// Whether this still is the directory that it was at the start.
    pub(crate) fn is_intact(&self) -> bool {
        let owner = Owner::read(&self.directory);
        owner.is_ok_and(|owner| {
            owner.is_some_and(|owner| owner.ledger == self.owner.ledger && owner.mark == self.owner.mark)
        })
    }

    /// Removes every staged file that is not in `keep`. Returns how many.
    pub(crate) fn sweep(&self, keep: &HashSet<&str>) -> io::Result<usize> {
        let mut swept = 0;
        for entry in fs::read_dir(&self.directory)? {
            let name = entry?.file_name();
            let Some(name) = name.to_str() else { continue };
            let ours = name.ends_with(ENDING) || name.starts_with(durable::TEMPORARY_PREFIX);
            if ours && !keep.contains(name) {
                self.remove(name);
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// Gives every staged file that is not in `known` a name that no start removes. Returns where they are.
    pub(crate) fn set_aside(&self, known: &HashSet<&str>) -> io::Result<Vec<PathBuf>> {
        let mut aside = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let name = entry?.file_name();
            let Some(name) = name.to_str().filter(|name| !known.contains(name)) else { continue };
            let Some(stem) = name.strip_suffix(ENDING) else { continue };
            let path = self.path(&format!("{stem}{ASIDE_ENDING}"));
            fs::rename(self.path(name), &path)?;
            aside.push(path);
        }
        self.sync()?;
        Ok(aside)
    }

    /// Removes a staged file that the ledger does not know (any more). A file that stays is swept at the next start.
    pub(crate) fn remove(&self, name: &str) {
        if let Err(error) = fs::remove_file(self.path(name)) {
            tracing::warn!(file = name, %error, "a staged file that is not needed could not be removed");
        }
    }
}

impl StagedFile {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.staging.path(&self.name)
    }

    /// The open file.
    ///
    /// # Panics
    /// When it was closed: nothing is written behind that.
    pub(crate) fn file(&mut self) -> &mut File {
        self.file.as_mut().expect("a file is closed after its last write")
    }

    /// Closes the file for a while. Nothing of it is durable.
    pub(crate) fn rest(&mut self) {
        self.file = None;
    }

    /// Opens it again, at its end. Blocks.
    pub(crate) fn wake(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            self.file = Some(File::options().append(true).open(self.path())?);
        }
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn is_open(&self) -> bool {
        self.file.is_some()
    }

    fn sync(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), durable::sync_open)
    }

    /// Makes the content durable, and closes the file: of a big batch not all can be open at once.
    pub(crate) fn sync_and_close(&mut self) -> io::Result<()> {
        self.sync()?;
        self.file = None;
        Ok(())
    }

    /// Gives the file what the pipeline is to see: modification time, owner, group, mode.
    pub(crate) fn dress(&self, modified: SystemTime) -> io::Result<()> {
        let Ownership { user, group, mode } = self.staging.ownership;
        let file = self.file.as_ref().expect("a file is dressed before it is closed");
        if user.is_some() || group.is_some() {
            fchown(file, user, group)?;
        }
        file.set_permissions(Permissions::from_mode(mode))?;
        durable::set_times(file, modified)
    }

    /// Whether the file outlives this value: from before the ledger may know it on.
    pub(crate) fn keep(&self, keep: bool) {
        self.kept.store(keep, Ordering::Relaxed);
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if !self.kept.load(Ordering::Relaxed) {
            self.staging.remove(&self.name);
        }
    }
}
