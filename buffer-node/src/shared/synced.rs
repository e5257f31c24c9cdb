//! What lies in the pairs that the sync server keeps in step with its own, and which versions agents have.
//!
//! Uploads are known as they happen, and so are the server's own changes: those pairs alone are looked at again. What
//! operators do here by hand is found by looking at everything, now and then; a look reads a file again only where it may
//! have changed.

use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::statvfs;
use tidegate_spool::shared::{Buckets, Digest, Folder, Keep, Pair, Seen, Tree, Workshop, look, md5_text};
use tokio::sync::watch;

use super::guard::Known;
use super::stamp::Stamp;
use super::{Found, Shared, find};
use crate::config::SyncShared;
use crate::filters::Filters;
use crate::layout;
use crate::pairs::{Half, Halves, NoPair, Pairs};

/// How old a look at everything may be where the server asks.
const ASKED: Duration = Duration::from_secs(1);

/// How old it may be where a report is made, which is more often than regularly while agents upload.
const REPORTED: Duration = Duration::from_secs(5);

/// Beyond this many pairs that were changed since the last look, everything is looked at.
const TOUCHED_MAX: usize = 10_000;

/// Beyond this many bytes an uploaded `.md5` is none. Some write a line end, or capital letters.
const MD5_MAX: u64 = 64;

/// The pairs of a node.
pub(super) struct Synced {
    pub(super) pairs: Pairs,
    pub(super) known: Known,
    pub(super) workshop: Workshop,
    /// The largest that the server may place.
    pub(super) max_size: u64,
    reserve_bytes: u64,
    root: PathBuf,
    pub(super) tree: Mutex<Looked>,
    /// Changed since the last look. Absent when those are too many.
    touched: Mutex<Option<BTreeSet<Box<[u8]>>>>,
    /// The sign, as far as it is known without looking.
    told: Mutex<Option<u64>>,
    /// Somebody looks at everything for the reports.
    is_looking: AtomicBool,
    changed: watch::Sender<()>,
}

/// What was seen, and when.
pub(super) struct Looked {
    tree: Tree,
    at: Option<Instant>,
}

/// A version of a main file that is on its way to an agent.
#[derive(Debug)]
pub(crate) struct Reading {
    name: Box<[u8]>,
    version: Stamp,
}

impl Synced {
    /// Finishes what a crash left half placed. Looks at nothing yet: reading every file takes longer than agents wait.
    pub(super) fn open(root: &Path, sync: &SyncShared) -> io::Result<Self> {
        let pairs = sync.pairs.clone();
        let directory = |name: &str| layout::shared_directory(root, name);
        let folder = |kind: &crate::pairs::Kind| Folder {
            directory: directory(&kind.directory),
            extension: kind.extension,
            md5_directory: directory(pairs.md5_directory()),
        };
        let folders = pairs.kinds().iter().map(folder).collect();
        let wanted = pairs.clone();
        let wanted = Box::new(move |name: &[u8]| wanted.halves(name).is_ok());
        let tree = Tree::new(folders, wanted, sync.max_size);
        let workshop = open_workshop(root, Keep::Recent, &pairs)?;
        Ok(Self {
            known: Known::default(),
            workshop,
            max_size: sync.max_size,
            reserve_bytes: sync.reserve_bytes,
            root: root.into(),
            tree: Mutex::new(Looked { tree, at: None }),
            touched: Mutex::new(None),
            told: Mutex::new(None),
            is_looking: AtomicBool::new(false),
            changed: watch::Sender::new(()),
            pairs,
        })
    }

    /// Where the two files of a main file's name lie.
    pub(super) fn pair(&self, name: &[u8]) -> Result<Pair, NoPair> {
        self.pairs.halves(name).map(|halves| pair(&self.root, name, &halves))
    }

    /// Whether the disk has room for so much more, and the reserve beside it; if not, why.
    pub(super) fn check_disk(&self, more: u64) -> Result<(), String> {
        let space =
            statvfs(&self.root).map_err(|error| format!("the free space cannot be asked for: {error}"))?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        if free < more.saturating_add(self.reserve_bytes) {
            return Err(format!(
                "{free} bytes of the disk are free, and `spool.reserve` keeps {} of them",
                self.reserve_bytes
            ));
        }
        Ok(())
    }

    /// The other main files that would have the same `.md5`, whether they are there or not.
    fn others_of_stem(&self, name: &[u8]) -> Vec<Box<[u8]>> {
        let Ok(Halves { md5_name, .. }) = self.pairs.halves(name) else { return Vec::new() };
        let Half::Md5 { of } = self.pairs.half(&md5_name) else { return Vec::new() };
        of.into_iter().filter(|main| **main != *name).collect()
    }

    /// Another main file that lies there, and whose digest the `.md5` of `name` is. One that it does not fit has no claim
    /// to it: anybody may leave a file of any name.
    pub(super) fn owner_of_md5(&self, name: &[u8]) -> io::Result<Option<Box<[u8]>>> {
        for main in self.others_of_stem(name) {
            if self.look(&main)?.is_some_and(|seen| seen.fits) {
                return Ok(Some(main));
            }
        }
        Ok(None)
    }

    /// Whether another main file of the same stem lies there.
    pub(super) fn has_other_of_stem(&self, name: &[u8]) -> bool {
        let is_there = |main: &[u8]| self.pair(main).is_ok_and(|pair| pair.file.symlink_metadata().is_ok());
        self.others_of_stem(name).iter().any(|main| is_there(main))
    }

    /// Whether anything lies where the `.md5` of a main file belongs.
    pub(super) fn has_md5(&self, name: &[u8]) -> bool {
        self.pair(name).is_ok_and(|pair| pair.md5.symlink_metadata().is_ok())
    }

    fn look_beside(&self, pair: &Pair) -> io::Result<Option<Seen>> {
        let is_too_large = |file: Metadata| file.is_file() && file.len() > self.max_size;
        if pair.file.symlink_metadata().is_ok_and(is_too_large) {
            return Err(io::Error::other(format!(
                "larger than `shared.max_size` of {} bytes",
                self.max_size
            )));
        }
        look(pair)
    }

    /// Whether the sign that is told is another now.
    fn tell(&self, sign: Option<u64>) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *told, sign) != sign
    }

    fn is_main(&self, name: &[u8]) -> bool {
        matches!(self.pairs.half(name), Half::Main { .. })
    }

    /// What lies there now. Reads the file again only where it may have changed.
    pub(super) fn look(&self, name: &[u8]) -> io::Result<Option<Seen>> {
        let Ok(pair) = self.pair(name) else { return Ok(None) };
        match self.tree.try_lock() {
            Ok(mut looked) => looked.tree.refresh(name),
            // Somebody looks at everything, which may take longer than an agent waits.
            Err(_) => self.look_beside(&pair),
        }
    }

    /// What lies there now, and whether `text` is the digest of its main file. Rewinds it. Reads the main file only where
    /// it may have changed: whoever sends 32 bytes again and again costs no more than that.
    pub(super) fn look_with_md5(&self, name: &[u8], text: &mut File) -> io::Result<Option<(Seen, bool)>> {
        let mut said = Vec::new();
        text.take(MD5_MAX + 1).read_to_end(&mut said)?;
        text.rewind()?;
        let is_said = |md5: &[u8]| said.trim_ascii().eq_ignore_ascii_case(md5);
        let Ok(pair) = self.pair(name) else { return Ok(None) };
        if let Ok(mut looked) = self.tree.try_lock() {
            let seen = looked.tree.refresh(name)?;
            let is_its = looked.tree.md5_text(name).is_some_and(|md5| is_said(&md5));
            return Ok(seen.map(|seen| (seen, is_its)));
        }
        // Somebody looks at everything, as above.
        let (Some(seen), Found::File(file)) = (self.look_beside(&pair)?, find(&pair.file)?) else {
            return Ok(None);
        };
        Ok(Some((seen, is_said(&md5_text(&file)?))))
    }

    /// A pair was changed by this process.
    pub(super) fn touch(&self, name: &[u8]) {
        let mut touched = self.touched.lock().unwrap_or_else(PoisonError::into_inner);
        if touched.as_ref().is_some_and(|names| names.len() >= TOUCHED_MAX) {
            *touched = None;
        }
        if let Some(names) = &mut *touched {
            names.insert(name.into());
        }
    }

    /// What lies there: by a look at everything that is not older than that, and by all that this process has changed.
    fn looked(&self, age: Duration) -> io::Result<MutexGuard<'_, Looked>> {
        let mut looked = self.tree.lock().unwrap_or_else(PoisonError::into_inner);
        let touched = self.touched.lock().unwrap_or_else(PoisonError::into_inner).replace(BTreeSet::new());
        let is_recent = looked.at.is_some_and(|at| at.elapsed() < age);
        match touched {
            Some(names) if is_recent => {
                for name in names {
                    // One that cannot be read stays as it was seen, as in a look at everything.
                    let _ = looked.tree.refresh(&name);
                }
            }
            _ => {
                looked.at = None;
                looked.tree.scan()?;
                looked.at = Some(Instant::now());
            }
        }
        Ok(looked)
    }
}

impl Shared {
    /// Whether the sync server may keep the pairs here in step.
    pub(crate) fn is_synced(&self) -> bool {
        self.synced.is_some()
    }

    /// All pairs in one number, with what this process has changed in it; while somebody looks at everything, as it was
    /// before. `None` before the first look, and without `sync_shared`.
    pub(crate) fn sign(&self) -> Option<u64> {
        let synced = self.synced.as_ref()?;
        let Ok(mut looked) = synced.tree.try_lock() else {
            return *synced.told.lock().unwrap_or_else(PoisonError::into_inner);
        };
        looked.at?;
        let mut touched = synced.touched.lock().unwrap_or_else(PoisonError::into_inner);
        // Too many are found by the next look.
        let names = touched.as_mut().map(std::mem::take).unwrap_or_default();
        drop(touched);
        for name in names {
            // One that cannot be read stays as it was seen, as in a look at everything.
            let _ = looked.tree.refresh(&name);
        }
        let sign = Some(looked.tree.buckets().sign());
        synced.tell(sign);
        sign
    }

    /// Looks at everything for the next reports, unless somebody does or has just done so. What it finds is a change.
    pub(crate) fn look_around(&self) -> io::Result<()> {
        let Some(synced) = &self.synced else { return Ok(()) };
        if synced.is_looking.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let sign = synced.looked(REPORTED).map(|looked| looked.tree.buckets().sign());
        synced.is_looking.store(false, Ordering::Release);
        if synced.tell(sign.as_ref().ok().copied()) {
            synced.changed.send_replace(());
        }
        sign.map(drop)
    }

    /// Completes when an upload, or what was found, has changed a pair since the last time. Never without `sync_shared`.
    pub(crate) fn changes(&self) -> Option<watch::Receiver<()>> {
        self.synced.as_ref().map(|synced| synced.changed.subscribe())
    }

    /// All pairs in 1,024 sums.
    pub(crate) fn buckets(&self) -> io::Result<Buckets> {
        match &self.synced {
            Some(synced) => Ok(synced.looked(ASKED)?.tree.buckets().clone()),
            None => Ok(Buckets::new()),
        }
    }

    /// The pairs in some buckets, as they were last seen.
    pub(crate) fn items(&self, buckets: &[u16]) -> Vec<(Box<[u8]>, Seen)> {
        let Some(synced) = &self.synced else { return Vec::new() };
        let mut wanted = [false; tidegate_spool::shared::BUCKETS];
        for bucket in buckets {
            if let Some(wanted) = wanted.get_mut(usize::from(*bucket)) {
                *wanted = true;
            }
        }
        let looked = synced.tree.lock().unwrap_or_else(PoisonError::into_inner);
        let items = looked.tree.items().iter();
        let items = items.filter(|(name, _)| wanted[usize::from(Buckets::of(name))]);
        items.map(|(name, seen)| (name.clone(), *seen)).collect()
    }

    /// Opens the main file `name`, with its size, if it has that digest.
    pub(crate) fn open_main(&self, name: &[u8], digest: &Digest) -> io::Result<Option<(File, u64)>> {
        let Some(synced) = &self.synced else { return Ok(None) };
        let Ok(pair) = synced.pair(name) else { return Ok(None) };
        // Opened first: what comes to lie there afterwards is another file. An edit in place is found by who reads it.
        let Found::File(file) = find(&pair.file)? else { return Ok(None) };
        let is_it = synced.look(name)?.is_some_and(|seen| seen.digest == *digest);
        let size = file.metadata()?.len();
        Ok(is_it.then_some((file, size)))
    }

    /// An agent has proved that it read all of it.
    pub(crate) fn was_read(&self, reading: &Reading) {
        if let Some(synced) = &self.synced {
            synced.known.remember(&reading.name, reading.version);
        }
    }

    /// An agent has uploaded what lies there.
    pub(super) fn agents_have(&self, name: &[u8], version: Stamp) {
        let Some(synced) = &self.synced else { return };
        if synced.is_main(name) {
            synced.known.remember(name, version);
        }
    }

    /// What is to be remembered of a file once an agent has read it. Without `overwrite` it makes no difference.
    pub(super) fn reading(&self, name: &[u8], version: Stamp) -> Option<Reading> {
        let synced = self.synced.as_ref().filter(|_| self.overwrite)?;
        synced.is_main(name).then(|| Reading { name: name.into(), version })
    }

    /// An upload has changed `name`.
    pub(super) fn uploaded(&self, name: &[u8]) {
        let Some(synced) = &self.synced else { return };
        match synced.pairs.half(name) {
            Half::Main { .. } => synced.touch(name),
            Half::Md5 { of } => of.iter().for_each(|main| synced.touch(main)),
            Half::Neither => return,
        }
        synced.changed.send_replace(());
    }
}

/// Finishes what was half placed when the syncing was switched off: agents would have the two halves for ever.
pub(super) fn finish(root: &Path, filters: &Filters) -> io::Result<()> {
    match Pairs::of(filters) {
        Some(pairs) if layout::workshop(root).exists() => {
            open_workshop(root, Keep::Nothing, &pairs).map(drop)
        }
        _ => Ok(()),
    }
}

fn open_workshop(root: &Path, keep: Keep, pairs: &Pairs) -> io::Result<Workshop> {
    let pair_of = |name: &[u8]| pairs.halves(name).ok().map(|halves| pair(root, name, &halves));
    Workshop::open(&layout::workshop(root), keep, &pair_of)
}

fn pair(root: &Path, name: &[u8], halves: &Halves<'_>) -> Pair {
    Pair {
        file: layout::shared_file(root, halves.directory, name),
        md5: layout::shared_file(root, halves.md5_directory, &halves.md5_name),
    }
}
