//! Opening a spool: what a crash left is put in order before anything counts.
//!
//! What lies in `ready/` may be there without being durable: the process may have died between the rename and the
//! fsync. A repeat would be answered by it, so it is made durable first. What was deleted may be back: its record
//! says so.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use crate::clock::Clock;
use crate::corrupt::{self, Corrupt};
use crate::entry::Entry;
use crate::error::{Context, DiskError, OpenError};
use crate::failed;
use crate::fs::{Disk, Found, Fs, create_dir_all};
use crate::id::{Id, next_run};
use crate::index::Index;
use crate::layout::{Layout, parse_package};
use crate::losses::{self, Losses};
use crate::names;
use crate::oldest::Oldest;
use crate::parallel;
use crate::poison::Poison;
use crate::quota::{Limits, Quota};
use crate::seen_log::{self, SeenLog};
use crate::store::{Settings, Spool, State, Store};

/// Packages found at a start that are fsynced one by one. Each costs a flush of the disk, also when nothing of it was
/// left to write; so beyond it all are made durable together, by one `syncfs`. That waits for whatever else is being
/// written to the file system too, which a start with a large backlog can bear and one with a small backlog need not.
/// Tests get there sooner.
const SYNC_EACH_MAX: usize = if cfg!(test) { 2 } else { 1_024 };

/// Directories above the spool's own that may have been made together with it: an owner's root, and what that lies in.
const ANCESTORS: usize = 2;

/// What [`Spool::open`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Packages ready to be pulled.
    pub packages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Unfinished uploads that were removed.
    pub unfinished: u64,
    /// Packages that had come back after their deletion, and were removed again.
    pub deleted_again: u64,
    /// Where things now lie that were no packages, or second ones of a listed name.
    pub corrupt: Vec<PathBuf>,
}

pub(crate) fn open(settings: &Settings) -> Result<(Spool, Recovery), OpenError> {
    let layout = Layout::new(&settings.root);
    create_dir_all(&Disk, &layout.root).context("make the directory", &layout.root)?;
    let lock = take_lock(&layout)?;
    Ok(open_on(Arc::new(Disk), Clock::system(), Some(lock), settings)?)
}

/// One process a spool. The system gives the lock up with the process, however that ends.
fn take_lock(layout: &Layout) -> Result<File, OpenError> {
    let path = layout.lock();
    let open = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = open.context("open", &path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            return Err(OpenError::Locked { path, pid: holder.trim().parse().ok() });
        }
        Err(TryLockError::Error(error)) => Err(error).context("lock", &path)?,
    }
    // Only for whoever finds it locked, so it need not be durable.
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).context("write", &path)?;
    Ok(file)
}

pub(crate) fn open_on(
    fs: Arc<dyn Fs>,
    clock: Clock,
    lock: Option<File>,
    settings: &Settings,
) -> Result<(Spool, Recovery), DiskError> {
    let layout = Layout::new(&settings.root);
    let opened = put_in_order(Arc::clone(&fs), clock, lock, settings, layout.clone());
    if let Err(error) = &opened
        && failed::is_failed_sync(error)
    {
        failed::mark(&*fs, &layout, &error.to_string(), None);
    }
    opened
}

fn put_in_order(
    fs: Arc<dyn Fs>,
    clock: Clock,
    lock: Option<File>,
    settings: &Settings,
    layout: Layout,
) -> Result<(Spool, Recovery), DiskError> {
    let now = clock.now();
    make_directories(&*fs, &layout)?;
    let failure = failed::find(&*fs, &layout)?;
    let mut recovery = Recovery { unfinished: empty_tmp(&*fs, &layout)?, ..Recovery::default() };
    let replayed = seen_log::replay(&*fs, &layout, settings.duplicates, now)?;
    let packages = list_ready(&*fs, &layout, settings.sync_threads, &mut recovery)?;
    let found_losses = losses::replay(&*fs, &layout)?;
    let last_run =
        packages.last().map(|package| package.id.run).max(replayed.last_run).max(found_losses.last_run);
    let index =
        make_durable(&*fs, &layout, settings.sync_threads, packages, &replayed.deleted, &mut recovery)?;

    let run = next_run(last_run);
    let poison = Arc::new(Poison::new(Arc::clone(&fs), layout.clone()));
    let mut log = SeenLog::start(
        Arc::clone(&fs),
        &layout,
        settings.duplicates,
        Arc::clone(&poison),
        run,
        replayed.segments,
        failure.is_some(),
    )?;
    log.drop_old_segments(now);
    let losses =
        Losses::start(Arc::clone(&fs), &layout, Arc::clone(&poison), run, found_losses, failure.is_some())?;
    (recovery.packages, recovery.bytes) = (index.len(), index.bytes());
    let limits = Limits {
        max_files: settings.max_files,
        max_bytes: settings.max_bytes,
        reserve_bytes: settings.reserve_bytes,
    };
    let ready = fs.open_dir(&layout.ready).context("open", &layout.ready)?;
    let free = {
        let (fs, root) = (Arc::clone(&fs), layout.root.clone());
        move || fs.free(&root)
    };
    let quota = Quota::new(limits, settings.overflow.clone(), free);
    let mut oldest = Oldest::new(&settings.overflow);
    for (id, entry) in index.packages() {
        let scope = quota.scope(&names::sent(entry.listed_name(), entry.digest()));
        quota.found(scope, entry.size());
        oldest.found(scope, id, entry.listed_name());
    }
    let corrupt = Corrupt::new(fs.open_dir(&layout.corrupt).context("open", &layout.corrupt)?);
    let store = Store {
        quota,
        fs,
        clock,
        layout,
        ready,
        corrupt,
        run,
        threads: settings.sync_threads,
        poison,
        state: Mutex::new(State { index, oldest, seen: replayed.seen, repeats: 0, dropped: 0 }),
        commits: Mutex::new(0),
        dropping: Mutex::default(),
        deletions: Mutex::new(log),
        losses,
        temporaries: AtomicU64::new(0),
        _lock: lock,
    };
    let spool = Spool { store: Arc::new(store) };
    if failure.is_some() {
        failed::verify_all(&spool)?;
        let usage = spool.usage();
        (recovery.packages, recovery.bytes) = (usage.files, usage.bytes);
    }
    Ok((spool, recovery))
}

fn make_directories(fs: &dyn Fs, layout: &Layout) -> Result<(), DiskError> {
    let below = [
        &layout.tmp,
        &layout.ready,
        &layout.corrupt,
        &layout.requeue,
        &layout.purge,
        &layout.seen,
        &layout.losses,
    ];
    for directory in std::iter::once(&layout.root).chain(below) {
        create_dir_all(fs, directory).context("make the directory", directory)?;
    }
    for directory in [&layout.root, &layout.ready, &layout.corrupt] {
        failed::renew(fs, directory)?;
    }
    // Those found may have been made by a process that died before it could fsync their names.
    fs.sync_dir(&layout.root)?;
    layout.root.ancestors().skip(1).take(ANCESTORS).try_for_each(|above| {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        match fs.sync_dir(above) {
            // Not ours to read: then it was not us who made what is in it, either.
            Err(error) if error.source.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            result => result,
        }
    })
}

/// Removes what was being written when the spool was last used.
fn empty_tmp(fs: &dyn Fs, layout: &Layout) -> Result<u64, DiskError> {
    let mut removed = 0;
    for found in fs.list(&layout.tmp).context("list", &layout.tmp)? {
        let path = layout.tmp.join(&found.name);
        match fs.remove(&path) {
            Ok(()) => removed += 1,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot remove an unfinished upload")
            }
        }
    }
    Ok(removed)
}

/// A package as its file shows it.
struct FoundPackage {
    id: Id,
    entry: Entry,
}

impl FoundPackage {
    fn path(&self, layout: &Layout) -> PathBuf {
        layout.package(self.id, self.entry.digest(), self.entry.listed_name())
    }
}

/// The packages in `ready/`, in the order of their numbers. Everything else is moved away.
fn list_ready(
    fs: &dyn Fs,
    layout: &Layout,
    threads: usize,
    recovery: &mut Recovery,
) -> Result<Vec<FoundPackage>, DiskError> {
    let (mut packages, mut others) = (Vec::new(), Vec::new());
    let mut visitor = |found: Found| match parse_package(&found.name).filter(|_| found.is_file) {
        Some((id, digest, listed_name)) => {
            let entry = Entry::new(digest, found.size, found.modified, listed_name);
            packages.push(FoundPackage { id, entry });
        }
        None => others.push(found.name),
    };
    fs.visit(&layout.ready, threads, &mut visitor).context("list", &layout.ready)?;
    others.iter().for_each(|name| reject(fs, layout, name, recovery));
    packages.sort_unstable_by_key(|package| package.id);
    Ok(packages)
}

/// Removes what was deleted before, and makes the rest durable.
fn make_durable(
    fs: &dyn Fs,
    layout: &Layout,
    threads: usize,
    mut packages: Vec<FoundPackage>,
    deleted: &HashSet<Id>,
    recovery: &mut Recovery,
) -> Result<Index, DiskError> {
    for package in packages.extract_if(.., |package| deleted.contains(&package.id)) {
        let path = package.path(layout);
        fs.remove(&path).context("remove", &path)?;
        recovery.deleted_again += 1;
    }
    sync_files(fs, layout, threads, &packages)?;
    let mut index = Index::default();
    index.reserve(packages.len());
    for package in packages {
        if !index.holds(package.entry.listed_name()) {
            index.insert(package.id, package.entry);
        } else if let Some(name) = package.path(layout).file_name() {
            // The spool never gives a name twice: somebody copied it here.
            reject(fs, layout, name, recovery);
        }
    }
    fs.sync_dir(&layout.corrupt)?;
    fs.sync_dir(&layout.ready)?;
    Ok(index)
}

fn sync_files(
    fs: &dyn Fs,
    layout: &Layout,
    threads: usize,
    packages: &[FoundPackage],
) -> Result<(), DiskError> {
    if packages.len() > SYNC_EACH_MAX {
        return fs.sync_everything(&layout.ready);
    }
    let mut files: Vec<_> = packages.iter().map(|package| (package.path(layout), Ok(()))).collect();
    parallel::for_each(&mut files, threads, |(path, synced)| *synced = fs.sync_file(path));
    files.into_iter().try_for_each(|(_, synced)| synced)
}

/// Moves something that is no package out of the way. Where that is impossible it stays, and is not counted.
fn reject(fs: &dyn Fs, layout: &Layout, name: &OsStr, recovery: &mut Recovery) {
    let from = layout.ready.join(name);
    match corrupt::reject(fs, layout, &from) {
        Ok(to) => {
            tracing::warn!(from = %from.display(), to = %to.display(), "moved something that is no package");
            recovery.corrupt.push(to);
        }
        Err(error) => tracing::warn!(path = %from.display(), %error, "ignoring something that is no package"),
    }
}
