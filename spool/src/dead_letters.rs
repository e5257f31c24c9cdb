//! What lies in `corrupt/`, and its ways out: back in as a package, or away for good.
//!
//! An operator's command works beside a running process and without one, so it changes nothing but names: it moves a
//! file from `corrupt/` to `requeue/` or `purge/`, durably, and the process that has the spool open takes it from there
//! ([`Spool::take_up_dead_letters`]), as does every start. A package is made of the bytes as they are now, under the
//! name it was sent with; its file goes when the package is durable. A crash between the two repeats it, and the spool
//! recognises the repeat as it does a sender's.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::commit::Stored;
use crate::corrupt::reject;
use crate::durable;
use crate::error::{CommitError, Context, DiskError, Full};
use crate::fs::Found;
use crate::layout::{Layout, parse_package};
use crate::losses::{Loss, LossReason};
use crate::names;
use crate::store::Spool;
use crate::verify::digest;

/// Bytes copied at once.
const CHUNK: usize = 64 * 1024;

/// The dead letters of the spool in a directory, whether or not a process has it open.
pub struct DeadLetters {
    layout: Layout,
}

/// One file in `corrupt/`.
#[derive(Debug)]
pub struct DeadLetter {
    /// Its name there.
    pub file_name: OsString,
    /// Where it lies.
    pub path: PathBuf,
    /// Its length in bytes.
    pub size: u64,
    /// Its modification time: of a package the arrival.
    pub modified: SystemTime,
    /// When its name or its bytes were last changed: as a rule, when it was set aside.
    pub changed: SystemTime,
    /// The name under which it would be a package again; `None` when that is impossible.
    pub sent_name: Option<Vec<u8>>,
    /// What is wrong with it.
    pub condition: Condition,
}

/// What is wrong with a dead letter, as it shows now.
#[derive(Debug)]
pub enum Condition {
    /// A package whose bytes have changed.
    Changed {
        /// The first eight bytes of the SHA-256 of what arrived.
        expected: u64,
        /// Those of what is there now.
        found: u64,
    },
    /// A package that is whole: another one has its listed name, or somebody moved it here.
    Whole {
        /// The first eight bytes of its SHA-256.
        digest: u64,
    },
    /// The disk does not give its bytes back.
    Unreadable(io::Error),
    /// Its name is not that of a package.
    Foreign {
        /// The first eight bytes of its SHA-256.
        found: u64,
    },
    /// A directory, a link, a pipe.
    NotAFile,
}

impl DeadLetters {
    /// Those of the spool in `root`.
    pub fn of(root: &Path) -> Self {
        Self { layout: Layout::new(root) }
    }

    /// All of them, each read to its end, by name. What goes away meanwhile is left out.
    pub fn list(&self) -> Result<Vec<DeadLetter>, DiskError> {
        let directory = &self.layout.corrupt;
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.context("list", directory)?,
        };
        let mut letters = Vec::new();
        for entry in entries {
            let name = entry.context("list", directory)?.file_name();
            let path = directory.join(&name);
            match examine(name, path.clone()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                letter => letters.push(letter.context("look at", &path)?),
            }
        }
        letters.sort_unstable_by(|a, b| a.file_name.cmp(&b.file_name));
        Ok(letters)
    }

    /// Has it taken up as a package by the process that has the spool open, or by the next one.
    pub fn requeue(&self, letter: &DeadLetter) -> Result<(), DiskError> {
        self.hand_over(letter, &self.layout.requeue)
    }

    /// Has it removed by the process that has the spool open, or by the next one.
    pub fn purge(&self, letter: &DeadLetter) -> Result<(), DiskError> {
        self.hand_over(letter, &self.layout.purge)
    }

    fn hand_over(&self, letter: &DeadLetter, directory: &Path) -> Result<(), DiskError> {
        let to = directory.join(&letter.file_name);
        durable::rename_noreplace(&letter.path, &to).context("move a dead letter to", &to)?;
        durable::sync_dir(directory).context("fsync", directory)?;
        durable::sync_dir(&self.layout.corrupt).context("fsync", &self.layout.corrupt)
    }
}

fn examine(file_name: OsString, path: PathBuf) -> io::Result<DeadLetter> {
    let metadata = fs::symlink_metadata(&path)?;
    let condition = match (metadata.is_file(), parse_package(&file_name)) {
        (false, _) => Condition::NotAFile,
        (true, package) => match (File::open(&path).and_then(|mut file| digest(&mut file)), package) {
            (Ok(found), Some((_, expected, _))) if found == expected => Condition::Whole { digest: found },
            (Ok(found), Some((_, expected, _))) => Condition::Changed { expected, found },
            (Ok(found), None) => Condition::Foreign { found },
            (Err(error), _) if error.kind() == io::ErrorKind::NotFound => return Err(error),
            (Err(error), _) => Condition::Unreadable(error),
        },
    };
    let sent = sent_name(&file_name).filter(|_| !matches!(condition, Condition::NotAFile));
    let changed = Duration::from_secs(u64::try_from(metadata.ctime()).unwrap_or(0));
    Ok(DeadLetter {
        path,
        size: metadata.len(),
        modified: metadata.modified()?,
        changed: UNIX_EPOCH + changed,
        sent_name: sent,
        file_name,
        condition,
    })
}

/// The name that a file's package was sent with, or the file's own.
fn sent_name(file_name: &OsStr) -> Option<Vec<u8>> {
    let name = match parse_package(file_name) {
        Some((_, digest, listed)) => names::sent(listed, digest).into_owned(),
        None => file_name.as_bytes().to_vec(),
    };
    names::valid(&name).then_some(name)
}

/// What became of dead letters that an operator sent on their way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TakenUp {
    /// Packages again.
    pub requeued: u64,
    /// The same name and bytes were there already, or had been pulled a while ago: nothing to do.
    pub repeats: u64,
    /// Removed.
    pub purged: u64,
    /// Moved back to `corrupt/`: they cannot be packages.
    pub returned: u64,
    /// Still waiting: there is no room for them, or the disk failed.
    pub waiting: u64,
}

/// What became of one.
enum Step {
    Requeued,
    Repeat,
    Returned,
    Waiting,
}

impl Spool {
    /// Makes packages of what waits in `requeue/` and removes what waits in `purge/`. To be called every now and then;
    /// costs two looks into empty directories when there is nothing.
    pub fn take_up_dead_letters(&self) -> Result<TakenUp, CommitError> {
        let (store, mut taken_up) = (&*self.store, TakenUp::default());
        store.check_poison()?;
        let layout = &store.layout;
        let requeue = store.fs.list(&layout.requeue).context("list", &layout.requeue)?;
        for found in &requeue {
            match self.requeue(found)? {
                Step::Requeued => taken_up.requeued += 1,
                Step::Repeat => taken_up.repeats += 1,
                Step::Returned => taken_up.returned += 1,
                Step::Waiting => taken_up.waiting += 1,
            }
        }
        let purge = store.fs.list(&layout.purge).context("list", &layout.purge)?;
        for found in &purge {
            taken_up.purged += u64::from(self.purge(found)?);
        }
        for (found, directory) in [(&requeue, &layout.requeue), (&purge, &layout.purge)] {
            if !found.is_empty() {
                let opened = store.fs.open_dir(directory).context("open", directory)?;
                store.poison.fsynced(opened.sync(), directory)?;
            }
        }
        Ok(taken_up)
    }

    fn requeue(&self, found: &Found) -> Result<Step, CommitError> {
        let (store, layout) = (&*self.store, &self.store.layout);
        let path = layout.requeue.join(&found.name);
        let Some(name) = sent_name(&found.name).filter(|_| found.is_file) else {
            return self.return_letter(&path, &"it cannot be a package");
        };
        let mut draft = match self.begin(&name, found.size) {
            Ok(draft) => draft,
            Err(Full::Poisoned { reason }) => return Err(CommitError::Poisoned { reason }),
            Err(full) => {
                tracing::warn!(path = %path.display(), reason = %full, "a dead letter waits to be a package again");
                return Ok(Step::Waiting);
            }
        };
        let copied = store.fs.open(&path).and_then(|mut file| {
            let mut buffer = vec![0; CHUNK];
            loop {
                match file.read(&mut buffer)? {
                    0 => return Ok(()),
                    read => draft.write(&buffer[..read])?,
                }
            }
        });
        match copied {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                tracing::warn!(path = %path.display(), %error, "a dead letter waits to be a package again");
                return Ok(Step::Waiting);
            }
            Err(error) => return self.return_letter(&path, &error),
            Ok(()) => {}
        }
        let step = match self.commit(vec![(draft, name)]).pop().expect("one result for one draft") {
            Ok(Stored::New { .. }) => Step::Requeued,
            Ok(Stored::Repeat) => Step::Repeat,
            Err(error @ (CommitError::InvalidName | CommitError::NoFreeName)) => {
                return self.return_letter(&path, &error);
            }
            Err(error) => return Err(error),
        };
        store.fs.remove(&path).context("remove", &path)?;
        Ok(step)
    }

    fn return_letter(&self, path: &Path, reason: &dyn std::fmt::Display) -> Result<Step, CommitError> {
        let store = &*self.store;
        let to = reject(&*store.fs, &store.layout, path).context("set aside", path)?;
        store.poison.fsynced(store.corrupt.directory.sync(), &store.layout.corrupt)?;
        tracing::error!(path = %to.display(), %reason, "a dead letter is back: it cannot be requeued");
        Ok(Step::Returned)
    }

    /// Whether it was removed. What was recorded when it was set aside is not recorded again.
    fn purge(&self, found: &Found) -> Result<bool, CommitError> {
        let store = &*self.store;
        let path = store.layout.purge.join(&found.name);
        if !found.is_file {
            tracing::error!(path = %path.display(), "cannot purge what is no file: remove it by hand");
            return Ok(false);
        }
        let now = store.fs.open(&path).and_then(|mut file| digest(&mut file));
        let is_recorded = parse_package(&found.name)
            .is_some_and(|(_, expected, _)| now.as_ref().is_ok_and(|now| *now != expected) || now.is_err());
        if !is_recorded {
            let name = sent_name(&found.name).unwrap_or_default();
            let class = &store.quota.overflow.class(store.quota.scope(&name).class).name;
            store.record_losses(&[Loss::of(class, LossReason::Purged, found.size, found.modified)])?;
        }
        store.fs.remove(&path).context("remove", &path)?;
        Ok(true)
    }
}
