//! What lies in `corrupt/`, and its ways out: back in as a package, or away for good.
//!
//! An operator's command works beside a running process and without one, so it changes nothing but names: it moves a
//! file from `corrupt/` to `requeue/` or `purge/`, durably, and the process that has the spool open takes it from there
//! (module `take_up`), as does every start.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::durable;
use crate::error::{Context, DiskError};
use crate::layout::{Layout, parse_dead_letter};
use crate::names;
use crate::verify::digest;

/// The dead letters of the spool in a directory, whether or not a process has it open.
pub struct DeadLetters {
    layout: Layout,
}

/// How far a dead letter is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// In `corrupt/`: an operator has to decide.
    SetAside,
    /// In `requeue/`: it waits to be a package again.
    Requeued,
    /// In `purge/`: it waits to be removed.
    Purged,
}

/// One dead letter.
#[derive(Debug)]
pub struct DeadLetter {
    /// Where an operator has sent it.
    pub stage: Stage,
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

    /// All of them, each read to its end: first those that were set aside, then those on their way, each by name. What
    /// goes away meanwhile is left out.
    pub fn list(&self) -> Result<Vec<DeadLetter>, DiskError> {
        let mut letters = Vec::new();
        for stage in [Stage::SetAside, Stage::Requeued, Stage::Purged] {
            self.list_in(stage, &mut letters)?;
        }
        Ok(letters)
    }

    /// How many were set aside. Reads none of them.
    pub fn count(&self) -> Result<u64, DiskError> {
        let directory = self.directory(Stage::SetAside);
        match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            entries => Ok(entries.context("list", directory)?.count() as u64),
        }
    }

    fn list_in(&self, stage: Stage, letters: &mut Vec<DeadLetter>) -> Result<(), DiskError> {
        let (directory, first) = (self.directory(stage), letters.len());
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.context("list", directory)?,
        };
        for entry in entries {
            let name = entry.context("list", directory)?.file_name();
            let path = directory.join(&name);
            match examine(stage, name, path.clone()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                letter => letters.push(letter.context("look at", &path)?),
            }
        }
        letters[first..].sort_unstable_by(|a, b| a.file_name.cmp(&b.file_name));
        Ok(())
    }

    fn directory(&self, stage: Stage) -> &Path {
        match stage {
            Stage::SetAside => &self.layout.corrupt,
            Stage::Requeued => &self.layout.requeue,
            Stage::Purged => &self.layout.purge,
        }
    }

    /// Has them taken up as packages by the process that has the spool open, or by the next one.
    pub fn requeue<'a>(&self, letters: impl IntoIterator<Item = &'a DeadLetter>) -> Result<(), DiskError> {
        self.hand_over(letters, Stage::Requeued)
    }

    /// Has them removed by the process that has the spool open, or by the next one. Of those that wait to be packages
    /// again, one may have become a package a moment before; then that stays.
    pub fn purge<'a>(&self, letters: impl IntoIterator<Item = &'a DeadLetter>) -> Result<(), DiskError> {
        self.hand_over(letters, Stage::Purged)
    }

    fn hand_over<'a>(
        &self,
        letters: impl IntoIterator<Item = &'a DeadLetter>,
        stage: Stage,
    ) -> Result<(), DiskError> {
        let directory = self.directory(stage);
        let moved = letters.into_iter().filter(|letter| letter.stage != stage).try_for_each(|letter| {
            let to = directory.join(&letter.file_name);
            match durable::rename_noreplace(&letter.path, &to) {
                // Taken up a moment ago, or moved by another operator.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                result => result.context("move a dead letter to", &to),
            }
        });
        // Also after an error, for those before it.
        for directory in [directory, &self.layout.corrupt, &self.layout.requeue] {
            durable::sync_dir(directory).context("fsync", directory)?;
        }
        moved
    }
}

fn examine(stage: Stage, file_name: OsString, path: PathBuf) -> io::Result<DeadLetter> {
    let metadata = fs::symlink_metadata(&path)?;
    let condition = match (metadata.is_file(), parse_dead_letter(&file_name)) {
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
        stage,
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
pub(crate) fn sent_name(file_name: &OsStr) -> Option<Vec<u8>> {
    let name = match parse_dead_letter(file_name) {
        Some((_, digest, listed)) => names::sent(listed, digest).into_owned(),
        None => file_name.as_bytes().to_vec(),
    };
    names::valid(&name).then_some(name)
}
