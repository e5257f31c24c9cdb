//! The file-system calls of the workshop on the disk of the model.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, Cursor, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use super::hand::{self, Edit, View};
use super::power::{Dice, Disk, Effect};
use crate::clock::Millis;
use crate::error::{Context, DiskError};
use crate::fs::{Directory, Written};
use crate::parallel::lock;
use crate::shared::Pair;
use crate::shared::files::{Files, Opened, There};
use crate::shared::stamp::Stamp;

/// The disk's time begins ahead of every clock, so that nothing is old.
const AHEAD: Duration = Duration::from_secs(1 << 40);

/// What happens to a later call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fuse {
    /// Every call after that many fails, without effect.
    Death(u32),
    /// The fsync after that many others fails.
    FailedFsync(u32),
    /// The call after that many others fails once, without effect.
    FailedCall(u32),
    /// After that many calls nothing can be opened any more.
    NoDescriptors(u32),
}

/// Files on it.
#[derive(Clone)]
pub(super) struct ModelFiles {
    inner: Arc<Mutex<Inner>>,
    pair: Pair,
}

struct Inner {
    disk: Disk,
    fuse: Option<Fuse>,
    knows_exchange: bool,
    /// Edits of the other hand, each after that many calls from the one before.
    edits: VecDeque<(u32, Edit)>,
    /// The main file that the hand has opened.
    held: Option<usize>,
    /// What there was to see after each change, and whose it was.
    views: Vec<(View, Option<Edit>)>,
}

impl Inner {
    fn look(&mut self, pair: &Pair, by: Option<Edit>) {
        let view = View::of(&self.disk, pair);
        self.views.push((view, by));
    }
}

fn failure(kind: ErrorKind) -> io::Error {
    io::Error::new(kind, "the disk of the model says so")
}

impl ModelFiles {
    pub(super) fn new(pair: Pair, knows_exchange: bool) -> Self {
        let (disk, edits) = (Disk::default(), VecDeque::new());
        let inner = Inner { disk, fuse: None, knows_exchange, edits, held: None, views: Vec::new() };
        Self { inner: Arc::new(Mutex::new(inner)), pair }
    }

    pub(super) fn light(&self, fuse: Fuse) {
        lock(&self.inner).fuse = Some(fuse);
    }

    pub(super) fn is_lit(&self) -> bool {
        lock(&self.inner).fuse.is_some()
    }

    pub(super) fn is_dead(&self) -> bool {
        matches!(lock(&self.inner).fuse, Some(Fuse::Death(0)))
    }

    pub(super) fn view(&self) -> View {
        View::of(&lock(&self.inner).disk, &self.pair)
    }

    pub(super) fn edit_now(&self, edit: Edit) {
        hand::edit(&mut lock(&self.inner).disk, &self.pair, edit);
    }

    /// An edit that a power cut takes back.
    pub(super) fn edit_carelessly(&self, edit: Edit) {
        let mut inner = lock(&self.inner);
        hand::edit(&mut inner.disk, &self.pair, edit);
        inner.disk.forget_durability();
    }

    /// From now on the hand edits, and every change is seen.
    pub(super) fn watch(&self, edits: &[(u32, Edit)]) {
        let mut inner = lock(&self.inner);
        inner.edits = edits.iter().copied().collect();
        inner.held = inner.disk.now.names.get(&self.pair.file).copied();
        inner.views.clear();
        inner.look(&self.pair, None);
    }

    /// What there was to see since then, each with the edit that led to it. The hand stops.
    pub(super) fn seen(&self) -> Vec<(View, Option<Edit>)> {
        let mut inner = lock(&self.inner);
        inner.edits.clear();
        std::mem::take(&mut inner.views)
    }

    /// The process is gone.
    pub(super) fn kill(&self) {
        lock(&self.inner).fuse = None;
    }

    pub(super) fn power_cut(&self, dice: Dice<'_>) {
        let mut inner = lock(&self.inner);
        inner.fuse = None;
        inner.disk.power_cut(dice);
    }

    /// A call: what was to happen before it happens.
    fn call(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let mut inner = lock(&self.inner);
        while let Some((left, edit)) = inner.edits.front().copied() {
            if left > 0 {
                inner.edits[0].0 -= 1;
                break;
            }
            inner.edits.pop_front();
            match (edit, inner.held) {
                (Edit::Late(content), Some(inode)) => hand::rewrite(&mut inner.disk, inode, content),
                _ => hand::edit(&mut inner.disk, &self.pair, edit),
            }
            inner.look(&self.pair, Some(edit));
        }
        match &mut inner.fuse {
            Some(Fuse::Death(0)) => return Err(failure(ErrorKind::Other)),
            Some(Fuse::FailedCall(0)) => {
                inner.fuse = None;
                return Err(failure(ErrorKind::Other));
            }
            Some(Fuse::Death(left) | Fuse::FailedCall(left)) => *left -= 1,
            Some(Fuse::NoDescriptors(left)) => *left = left.saturating_sub(1),
            _ => {}
        }
        Ok(inner)
    }

    /// One that needs a descriptor.
    fn call_to_open(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let inner = self.call()?;
        if let Some(Fuse::NoDescriptors(0)) = inner.fuse { Err(failure(ErrorKind::Other)) } else { Ok(inner) }
    }

    fn rename_all(&self, inner: &mut Inner, names: Vec<(PathBuf, Option<usize>)>) {
        inner.disk.change(Effect::Names(names));
        inner.look(&self.pair, None);
    }

    fn sync(&self, what: impl FnOnce(&mut Disk, bool)) -> io::Result<()> {
        let mut inner = self.call()?;
        let works = match &mut inner.fuse {
            Some(Fuse::FailedFsync(0)) => {
                inner.fuse = None;
                false
            }
            Some(Fuse::FailedFsync(left)) => {
                *left -= 1;
                true
            }
            _ => true,
        };
        what(&mut inner.disk, works);
        if works { Ok(()) } else { Err(failure(ErrorKind::Other)) }
    }
}

fn inode(inner: &Inner, path: &Path) -> io::Result<usize> {
    inner.disk.now.names.get(path).copied().ok_or_else(|| failure(ErrorKind::NotFound))
}

fn stamp(inner: &Inner, inode: usize) -> Stamp {
    let file = &inner.disk.now.inodes[inode];
    Stamp::of_model(inode as u64, file.bytes.len() as u64, file.modified)
}

impl Files for ModelFiles {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        self.call().map(drop)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<(OsString, SystemTime)>> {
        let inner = self.call_to_open()?;
        let world = &inner.disk.now;
        let entry = |(path, inode): (&PathBuf, &usize)| {
            let written = SystemTime::UNIX_EPOCH + AHEAD + Duration::from_secs(world.inodes[*inode].modified);
            Some((path.file_name()?.to_owned(), written))
        };
        let inside = world.names.iter().filter(|(path, _)| path.parent() == Some(directory));
        Ok(inside.filter_map(entry).collect())
    }

    fn open(&self, path: &Path) -> io::Result<Option<Opened>> {
        let inner = self.call_to_open()?;
        let Ok(inode) = inode(&inner, path) else { return Ok(None) };
        let bytes = Cursor::new(inner.disk.now.inodes[inode].bytes.clone());
        Ok(Some(Opened { bytes: Box::new(bytes), stamp: stamp(&inner, inode) }))
    }

    fn identify(&self, path: &Path) -> io::Result<Option<There>> {
        let inner = self.call()?;
        let Ok(inode) = inode(&inner, path) else { return Ok(None) };
        let links = inner.disk.now.names.values().filter(|it| **it == inode).count() as u64;
        Ok(Some(There { stamp: stamp(&inner, inode), is_file: true, links }))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Written>> {
        let mut inner = self.call_to_open()?;
        if inode(&inner, path).is_ok() {
            return Err(failure(ErrorKind::AlreadyExists));
        }
        let inode = inner.disk.new_inode();
        self.rename_all(&mut inner, vec![(path.to_owned(), Some(inode))]);
        Ok(Box::new(Handle { files: self.clone(), inode }))
    }

    fn append(&self, path: &Path) -> io::Result<(Box<dyn Written>, u64)> {
        let inner = self.call_to_open()?;
        let inode = inode(&inner, path)?;
        let length = inner.disk.now.inodes[inode].bytes.len() as u64;
        Ok((Box::new(Handle { files: self.clone(), inode }), length))
    }

    fn dress(&self, path: &Path, _: &Path) -> io::Result<()> {
        inode(&*self.call()?, path).map(drop)
    }

    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        let mut inner = self.call()?;
        if !inner.knows_exchange {
            return Err(failure(ErrorKind::Unsupported));
        }
        let (a, b) = (inode(&inner, one)?, inode(&inner, other)?);
        self.rename_all(&mut inner, vec![(one.to_owned(), Some(b)), (other.to_owned(), Some(a))]);
        Ok(())
    }

    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.call()?;
        let moved = inode(&inner, from)?;
        if inode(&inner, to).is_ok() {
            return Err(failure(ErrorKind::AlreadyExists));
        }
        self.rename_all(&mut inner, vec![(from.to_owned(), None), (to.to_owned(), Some(moved))]);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.call()?;
        let moved = inode(&inner, from)?;
        self.rename_all(&mut inner, vec![(from.to_owned(), None), (to.to_owned(), Some(moved))]);
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.call()?;
        let linked = inode(&inner, from)?;
        if inode(&inner, to).is_ok() {
            return Err(failure(ErrorKind::AlreadyExists));
        }
        self.rename_all(&mut inner, vec![(to.to_owned(), Some(linked))]);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.call()?;
        inode(&inner, path)?;
        self.rename_all(&mut inner, vec![(path.to_owned(), None)]);
        Ok(())
    }

    fn sync_file(&self, path: &Path) -> Result<(), DiskError> {
        let found = inode(&lock(&self.inner), path).context("open", path)?;
        if let Some(Fuse::NoDescriptors(0)) = lock(&self.inner).fuse {
            return Err(failure(ErrorKind::Other)).context("open", path);
        }
        self.sync(|disk, works| disk.sync_file(found, works)).context("fsync", path)
    }

    fn open_dir(&self, path: &Path) -> io::Result<Box<dyn Directory>> {
        drop(self.call_to_open()?);
        Ok(Box::new(DirectoryHandle { files: self.clone(), path: path.to_owned() }))
    }
}

struct DirectoryHandle {
    files: ModelFiles,
    path: PathBuf,
}

impl Directory for DirectoryHandle {
    fn sync(&self) -> io::Result<()> {
        self.files.sync(|disk, works| disk.sync_dir(&self.path, works))
    }
}

struct Handle {
    files: ModelFiles,
    inode: usize,
}

impl Written for Handle {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let effect = Effect::Write { inode: self.inode, offset: offset as usize, bytes: bytes.to_vec() };
        self.files.call()?.disk.change(effect);
        Ok(())
    }

    fn allocate(&mut self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn set_modified(&mut self, _: Millis) -> io::Result<()> {
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.files.sync(|disk, works| disk.sync_file(self.inode, works))
    }
}
