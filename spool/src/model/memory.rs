//! A file system in memory that behaves, at a power cut, as badly as a real one may.
//!
//! Bytes that were not fsynced may be there, be missing, or be there in part; names that were not fsynced may be as
//! before, as after, or as at any time between, each for itself. A failed fsync loses what it should have saved:
//! until the next boot it is still shown, and the next fsync succeeds and saves nothing. A fuse lets every call after the n-th fail without effect, as when the process dies.

mod calls;
mod names;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::parallel::lock;
use names::{Inode, Names, Node};

/// A choice among `0..n`, where a crash decides what it keeps; 0 is as little as possible.
pub(crate) type Dice<'a> = &'a mut dyn FnMut(usize) -> usize;

#[derive(Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<Disk>>);

#[derive(Default)]
struct Disk {
    files: Vec<Inode>,
    /// Every directory that exists, except above the root.
    directories: BTreeMap<PathBuf, Names>,
    fuse: Option<Fuse>,
    /// No room for anything that was not set aside.
    full: bool,
    interruption: Option<Interruption>,
    /// A call has failed: what is done about it may be done under locks that an interruption needs.
    failed: bool,
    /// Without it there is no end of room.
    space: Option<Space>,
}

#[derive(Clone, Copy)]
struct Space {
    bytes: u64,
    inodes: Option<u64>,
    /// Files and bytes that were used at one time and stay so, whatever is removed.
    held_back: Option<(u64, u64)>,
}

/// Something that another thread does just before the change after that many others.
type Interruption = (u32, Box<dyn FnOnce() + Send>);

/// What happens to a later call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fuse {
    /// Every call after that many changes fails, without effect.
    Death(u32),
    /// The fsync after that many others fails.
    FailedFsync(u32),
    /// The same, and so many changes later the process is dead.
    FailedThenDeath(u32, u32),
    /// The change after that many others fails once, without effect.
    FailedCall(u32),
    /// After that many things were opened, the next one is not: no descriptor is left. (But for reading: that is how
    /// a test looks.)
    NoDescriptor(u32),
}

fn error(kind: io::ErrorKind) -> io::Error {
    io::Error::new(kind, "the disk in memory says so")
}

fn split(path: &Path) -> (&Path, &OsStr) {
    (path.parent().expect("paths have a parent"), path.file_name().expect("paths have a name"))
}

impl Disk {
    fn alive(&self) -> io::Result<()> {
        match self.fuse {
            Some(Fuse::Death(0)) => Err(io::Error::other("the process is dead")),
            _ => Ok(()),
        }
    }

    /// A call that changes something.
    fn change(&mut self) -> io::Result<()> {
        self.alive()?;
        match &mut self.fuse {
            Some(Fuse::FailedCall(0)) => {
                (self.fuse, self.failed) = (None, true);
                return Err(io::Error::other("this call fails"));
            }
            Some(Fuse::Death(left) | Fuse::FailedCall(left)) => *left -= 1,
            _ => {}
        }
        Ok(())
    }

    /// An fsync: whether it works.
    fn sync(&mut self) -> io::Result<bool> {
        self.change()?;
        match &mut self.fuse {
            Some(Fuse::FailedFsync(0)) => {
                (self.fuse, self.failed) = (None, true);
                Ok(false)
            }
            Some(Fuse::FailedThenDeath(0, changes)) => {
                (self.fuse, self.failed) = (Some(Fuse::Death(*changes)), true);
                Ok(false)
            }
            Some(Fuse::FailedFsync(left) | Fuse::FailedThenDeath(left, _)) => {
                *left -= 1;
                Ok(true)
            }
            _ => Ok(true),
        }
    }

    /// Something that takes room.
    fn has_room(&self) -> io::Result<()> {
        if self.full { Err(error(io::ErrorKind::StorageFull)) } else { Ok(()) }
    }

    /// A call that needs a descriptor.
    fn open(&mut self) -> io::Result<()> {
        match &mut self.fuse {
            Some(Fuse::NoDescriptor(0)) => {
                self.fuse = None;
                Err(rustix::io::Errno::MFILE.into())
            }
            Some(Fuse::NoDescriptor(left)) => {
                *left -= 1;
                Ok(())
            }
            _ => self.alive(),
        }
    }

    fn names(&mut self, directory: &Path) -> io::Result<&mut Names> {
        self.directories.get_mut(directory).ok_or_else(|| error(io::ErrorKind::NotFound))
    }

    fn file(&mut self, path: &Path) -> io::Result<usize> {
        let (directory, name) = split(path);
        match self.names(directory)?.get(name) {
            Some(Node::File(inode)) => Ok(inode),
            Some(Node::Directory) => Err(error(io::ErrorKind::IsADirectory)),
            None => Err(error(io::ErrorKind::NotFound)),
        }
    }

    fn sync_inode(&mut self, inode: usize) -> io::Result<()> {
        let works = self.sync()?;
        let inode = &mut self.files[inode];
        if !works {
            inode.lost = true;
            return Err(io::Error::other("fsync failed"));
        }
        if !inode.lost {
            inode.durable = (inode.bytes.clone(), inode.modified);
            inode.room.1 = inode.room.0;
        }
        Ok(())
    }
}

impl Memory {
    /// A disk on which only `root` exists, and what it lies in.
    pub(crate) fn new(root: &Path) -> Self {
        let memory = Self::default();
        let mut disk = lock(&memory.0);
        for directory in root.ancestors() {
            disk.directories.entry(directory.to_owned()).or_default();
            if let Some((above, name)) = directory.parent().zip(directory.file_name()) {
                let names = disk.directories.entry(above.to_owned()).or_default();
                names.history.insert(name.to_owned(), vec![Some(Node::Directory)]);
            }
        }
        drop(disk);
        memory
    }

    /// The disk, for a change: what was to happen before it has happened.
    fn changing(&self) -> MutexGuard<'_, Disk> {
        let mut disk = lock(&self.0);
        if disk.failed || disk.alive().is_err() {
            return disk;
        }
        match disk.interruption.take() {
            Some((0, then)) => {
                drop(disk);
                then();
                return lock(&self.0);
            }
            later => disk.interruption = later.map(|(left, then)| (left - 1, then)),
        }
        disk
    }

    /// `then` happens just before the change after that many others, or at [`Self::catch_up`].
    pub(crate) fn interrupt(&self, after: u32, then: impl FnOnce() + Send + 'static) {
        let mut disk = lock(&self.0);
        disk.failed = false;
        disk.interruption = Some((after, Box::new(then)));
    }

    /// What was to happen and has not yet, happens now.
    pub(crate) fn catch_up(&self) {
        let left = lock(&self.0).interruption.take();
        left.into_iter().for_each(|(_, then)| then());
    }

    /// So much is free, beside what the files that there are now use; inodes where they are counted.
    pub(crate) fn set_free(&self, bytes: u64, inodes: Option<u64>) {
        let mut disk = lock(&self.0);
        let used = disk.used();
        disk.space = Some(Space {
            bytes: used.1 + bytes,
            inodes: inodes.map(|inodes| used.0 + inodes),
            held_back: None,
        });
    }

    /// What is removed from now on is not free until this is over.
    pub(crate) fn hold_space_back(&self, hold: bool) {
        let mut disk = lock(&self.0);
        let used = disk.used();
        disk.space.as_mut().expect("there is an end of room").held_back = hold.then_some(used);
    }

    pub(crate) fn light(&self, fuse: Fuse) {
        lock(&self.0).fuse = Some(fuse);
    }

    /// Nothing more goes in than what room was set aside for; or it does again.
    pub(crate) fn fill(&self, full: bool) {
        lock(&self.0).full = full;
    }

    pub(crate) fn is_full(&self) -> bool {
        lock(&self.0).full
    }

    /// Whether something is still to go wrong, or goes wrong all the time.
    pub(crate) fn is_lit(&self) -> bool {
        lock(&self.0).fuse.is_some()
    }

    /// Whether the fuse has burnt down and the process cannot do anything any more.
    pub(crate) fn is_dead(&self) -> bool {
        lock(&self.0).alive().is_err()
    }

    /// The disk forgets a file's bytes; the cache goes on showing them.
    pub(crate) fn lose_behind_the_cache(&self, path: &Path) {
        let mut disk = lock(&self.0);
        let inode = disk.file(path).expect("exists");
        disk.files[inode].durable.0.clear();
        disk.files[inode].lost = true;
    }

    /// The process is gone, the system is not: everything written is there, durable or not.
    pub(crate) fn kill(&self) {
        lock(&self.0).fuse = None;
    }

    /// The power is gone: what was not made durable is there, or not, as the dice fall.
    pub(crate) fn power_cut(&self, dice: Dice<'_>) {
        let mut disk = lock(&self.0);
        disk.fuse = None;
        for inode in &mut disk.files {
            let cached = inode.bytes.len();
            let kept = inode.durable.0.len();
            match dice(4) {
                0 => inode.bytes.truncate(kept),
                1 => inode.bytes.truncate(kept + dice(cached - kept + 1)),
                // The length arrived, the bytes did not.
                2 => inode.bytes[kept..].fill(0),
                _ => {}
            }
            inode.modified = if dice(2) == 0 { inode.durable.1 } else { inode.modified };
            inode.durable = (inode.bytes.clone(), inode.modified);
            inode.room.0 = inode.room.1;
            inode.lost = false;
        }
        for names in disk.directories.values_mut() {
            names.settle(|history| dice(history.len()));
            names.lost = false;
        }
        let lost: Vec<_> = disk.directories.keys().filter(|path| !disk.reachable(path)).cloned().collect();
        for path in lost {
            disk.directories.remove(&path);
        }
    }
}

impl Disk {
    /// Files that have a name, and their bytes.
    fn used(&self) -> (u64, u64) {
        let nodes = self.directories.values().flat_map(|names| names.history.values());
        let inodes = nodes.filter_map(|history| match history.last() {
            Some(Some(Node::File(inode))) => Some(*inode),
            _ => None,
        });
        inodes.fold((0, 0), |(files, bytes), inode| (files + 1, bytes + self.files[inode].bytes.len() as u64))
    }

    /// Whether the names of a directory and of those above it are there.
    fn reachable(&self, path: &Path) -> bool {
        let (above, name) = match path.parent().zip(path.file_name()) {
            Some(parts) if self.directories.contains_key(parts.0) => parts,
            _ => return true,
        };
        self.directories[above].get(name) == Some(Node::Directory) && self.reachable(above)
    }
}
