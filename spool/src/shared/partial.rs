//! Bytes on their way into a pair. What has come stays when the way is cut, and is gone on with under its digest.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::Digest;
use super::failed::{Failed, unsure};
use super::files::Files;
use super::look::{Contents, Hashing, Md5Text, hex, io_error};
use crate::durable;
use crate::error::Context;
use crate::fs::Written;
use crate::parallel::lock;

/// Files that may lie unfinished. When one more begins, the one that was written to first goes.
const KEPT: usize = 4;

/// How the name of an unfinished file begins that is gone on with; its digest follows.
const PART: &str = "part.";

/// The same of one that is not: another of the same digest is on its way already.
pub(super) const SPARE: &str = "spare.";

/// The unfinished files of a workshop.
pub(super) struct Parts {
    files: Arc<dyn Files>,
    directory: PathBuf,
    /// Those that somebody holds.
    held: Mutex<BTreeSet<Digest>>,
    counter: AtomicU64,
}

impl Parts {
    pub(super) fn new(files: Arc<dyn Files>, directory: &Path) -> Arc<Self> {
        let (held, counter) = (Mutex::default(), AtomicU64::new(0));
        Arc::new(Self { files, directory: directory.to_owned(), held, counter })
    }

    pub(super) fn is_part(name: &[u8]) -> bool {
        name.starts_with(PART.as_bytes())
    }

    pub(super) fn begin(self: &Arc<Self>, digest: Digest, size: u64) -> io::Result<Partial> {
        let slot = self.hold(digest);
        if slot.is_kept {
            self.make_room()?;
        }
        let (file, hashing) = self.open(&slot, size)?;
        Ok(Partial { slot, digest, size, file, hashing })
    }

    /// The same from its first byte: what has come of it before goes.
    pub(super) fn begin_anew(self: &Arc<Self>, digest: Digest, size: u64) -> io::Result<Partial> {
        let slot = self.hold(digest);
        match self.files.remove(&slot.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            removed => removed.context("remove", &slot.path).map_err(io_error)?,
        }
        if slot.is_kept {
            self.make_room()?;
        }
        let (file, hashing) = self.open(&slot, size)?;
        Ok(Partial { slot, digest, size, file, hashing })
    }

    fn hold(self: &Arc<Self>, digest: Digest) -> Slot {
        let is_kept = lock(&self.held).insert(digest);
        let name = if is_kept {
            part_name(&digest)
        } else {
            format!("{SPARE}{}", self.counter.fetch_add(1, Ordering::Relaxed)).into()
        };
        Slot { path: self.directory.join(name), parts: Arc::clone(self), digest, is_kept }
    }

    /// Removes those beyond [`KEPT`] that nobody holds.
    fn make_room(&self) -> io::Result<()> {
        let held: Vec<_> = lock(&self.held).iter().map(part_name).collect();
        let listed = self.files.list(&self.directory).context("list", &self.directory).map_err(io_error)?;
        let is_idle = |name: &OsString| Self::is_part(name.as_bytes()) && !held.contains(name);
        let mut idle: Vec<_> = listed.into_iter().filter(|(name, _)| is_idle(name)).collect();
        idle.sort_by_key(|(_, written)| *written);
        let too_many = (idle.len() + 1).saturating_sub(KEPT);
        for (name, _) in idle.into_iter().take(too_many) {
            let path = self.directory.join(name);
            self.files.remove(&path).context("remove", &path).map_err(io_error)?;
        }
        Ok(())
    }

    /// Opens what has come of it before, or begins.
    fn open(&self, slot: &Slot, size: u64) -> io::Result<(Box<dyn Written>, Hashing)> {
        let path = &slot.path;
        let there = self.files.identify(path).context("look at", path).map_err(io_error)?;
        if let Some(there) = there {
            // One with a second name lies in its place already, after a crash in the middle of a rename.
            let is_begun = there.is_file && there.links == 1 && there.stamp.size() <= size;
            if let Some(begun) = is_begun.then(|| self.go_on(path)).flatten() {
                return Ok(begun);
            }
            self.files.remove(path).context("remove", path).map_err(io_error)?;
        }
        let file = self.files.create(path).context("create", path).map_err(io_error)?;
        Ok((file, Hashing::default()))
    }

    /// What cannot be read, or not be written to with the mode of the file that it was to replace, is sent again.
    fn go_on(&self, path: &Path) -> Option<(Box<dyn Written>, Hashing)> {
        let mut hashing = Hashing::default();
        hashing.update_from(self.files.open(path).ok()??.bytes).ok()?;
        let (file, length) = self.files.append(path).ok()?;
        (length == hashing.size()).then_some((file, hashing))
    }
}

fn part_name(digest: &Digest) -> OsString {
    OsString::from_vec([PART.as_bytes(), &hex(digest)].concat())
}

/// Where an unfinished file lies, held as long as this lives.
pub(super) struct Slot {
    pub(super) path: PathBuf,
    parts: Arc<Parts>,
    digest: Digest,
    /// Whether it is gone on with later.
    is_kept: bool,
}

impl Slot {
    pub(super) fn discard(&self) {
        // What stays is found damaged again, or swept at the next start.
        let _ = self.parts.files.remove(&self.path);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.is_kept {
            lock(&self.parts.held).remove(&self.digest);
        } else {
            self.discard();
        }
    }
}

/// A file of which not all bytes have come. Dropping it keeps what came.
pub struct Partial {
    slot: Slot,
    digest: Digest,
    size: u64,
    file: Box<dyn Written>,
    hashing: Hashing,
}

/// Why a [`Partial`] cannot be finished.
#[derive(Debug, thiserror::Error)]
pub enum Unfinished {
    /// A file-system call failed. What came is thrown away.
    #[error(transparent)]
    Io(io::Error),
    /// The bytes are others than those announced. They are thrown away.
    #[error("its bytes are not those that were announced")]
    Damaged,
    /// Bytes are missing. What came is kept.
    #[error("only {offset} of {size} bytes have come")]
    Short {
        /// So many have come.
        offset: u64,
        /// Of so many.
        size: u64,
    },
}

impl Partial {
    /// How many bytes have come.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.hashing.size()
    }

    /// Takes the bytes that follow; `InvalidInput` when they are more than were announced.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let offset = self.offset();
        if self.size.saturating_sub(offset) < bytes.len() as u64 {
            let words = format!("more than the {} bytes that were announced", self.size);
            return Err(io::Error::new(ErrorKind::InvalidInput, words));
        }
        self.file.write_at(offset, bytes).context("write", &self.slot.path).map_err(io_error)?;
        self.hashing.update(bytes);
        Ok(())
    }

    /// Compares what came with its digest and fsyncs it.
    pub fn finish(mut self) -> Result<Ready, Unfinished> {
        let (offset, size) = (self.offset(), self.size);
        if offset < size {
            return Err(Unfinished::Short { offset, size });
        }
        let contents = self.hashing.contents();
        if contents.digest != self.digest {
            self.slot.discard();
            return Err(Unfinished::Damaged);
        }
        if let Err(error) = self.file.sync().context("fsync", &self.slot.path) {
            // The system may have forgotten some of its bytes and shows them all the same.
            self.slot.discard();
            return Err(Unfinished::Io(io_error(error)));
        }
        Ok(Ready { digest: contents.digest, size, contents, slot: self.slot })
    }
}

/// A file of which all bytes have come and are durable. Dropping it keeps them, as of a [`Partial`].
pub struct Ready {
    /// Its SHA-256.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    pub(super) contents: Contents,
    pub(super) slot: Slot,
}

impl Ready {
    /// Makes it the file at `path`, over what is there; durable on return.
    pub fn keep_as(self, path: &Path) -> Result<(), Failed> {
        let files = &self.slot.parts.files;
        let directory = durable::parent(path).context("find the directory of", path)?;
        let opened = files.open_dir(&directory).context("open", &directory)?;
        files.rename(&self.slot.path, path).context("rename a file to", path)?;
        opened.sync().context("fsync", &directory).map_err(unsure)
    }

    pub(super) fn md5(&self) -> &Md5Text {
        &self.contents.md5
    }
}
