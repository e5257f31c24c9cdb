//! The calls of the spool on a disk in memory.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};

use super::names::{Inode, Names, Node};
use super::{Memory, error, split};
use crate::clock::Millis;
use crate::error::{Context, DiskError};
use crate::failed::SYNC_ALL;
use crate::fs::{Directory, Found, Free, Fs, Written};
use crate::parallel::lock;

impl Fs for Memory {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.changing();
        disk.change()?;
        let (directory, name) = split(path);
        let names = disk.names(directory)?;
        if names.get(name).is_some() {
            return Err(error(io::ErrorKind::AlreadyExists));
        }
        disk.has_room()?;
        let names = disk.names(directory)?;
        names.set(name, Some(Node::Directory));
        disk.directories.insert(path.to_owned(), Names::default());
        Ok(())
    }

    fn is_dir(&self, path: &Path) -> bool {
        lock(&self.0).directories.contains_key(path)
    }

    fn visit(&self, directory: &Path, _: usize, visitor: &mut dyn FnMut(Found)) -> io::Result<()> {
        let mut disk = lock(&self.0);
        disk.alive()?;
        let names = disk.names(directory)?.clone();
        let found = |(name, history): (&OsString, &Vec<Option<Node>>)| {
            let inode = match history.last().copied().flatten()? {
                Node::File(inode) => Some(&disk.files[inode]),
                Node::Directory => None,
            };
            Some(Found {
                name: name.clone(),
                is_file: inode.is_some(),
                size: inode.map_or(0, |inode| inode.bytes.len() as u64),
                modified: inode.map_or(0, |inode| inode.modified),
            })
        };
        let found: Vec<Found> = names.history.iter().filter_map(found).collect();
        drop(disk);
        found.into_iter().for_each(visitor);
        Ok(())
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn Written>> {
        let mut disk = self.changing();
        disk.open()?;
        disk.change()?;
        let inode = disk.files.len();
        let (directory, name) = split(path);
        let names = disk.names(directory)?;
        if names.get(name).is_some() {
            return Err(error(io::ErrorKind::AlreadyExists));
        }
        disk.has_room()?;
        let names = disk.names(directory)?;
        names.set(name, Some(Node::File(inode)));
        disk.files.push(Inode::default());
        Ok(Box::new(Handle { memory: self.clone(), inode }))
    }

    fn open_to_append(&self, path: &Path) -> io::Result<(Box<dyn Written>, u64)> {
        let mut disk = lock(&self.0);
        disk.open()?;
        let inode = disk.file(path)?;
        let length = disk.files[inode].bytes.len() as u64;
        Ok((Box::new(Handle { memory: self.clone(), inode }), length))
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        let mut disk = lock(&self.0);
        disk.alive()?;
        let inode = disk.file(path)?;
        let mut file = File::from(rustix::fs::memfd_create("package", rustix::fs::MemfdFlags::CLOEXEC)?);
        file.write_all(&disk.files[inode].bytes)?;
        file.rewind()?;
        Ok(file)
    }

    fn open_uncached(&self, path: &Path) -> io::Result<File> {
        let mut disk = lock(&self.0);
        let inode = disk.file(path)?;
        let inode = &mut disk.files[inode];
        if std::mem::take(&mut inode.lost) {
            inode.bytes.clone_from(&inode.durable.0);
        }
        drop(disk);
        self.open(path)
    }

    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.changing();
        disk.change()?;
        let inode = disk.file(from)?;
        let (directory, name) = split(to);
        let names = disk.names(directory)?;
        if names.get(name).is_some() {
            return Err(error(io::ErrorKind::AlreadyExists));
        }
        names.set(name, Some(Node::File(inode)));
        let (directory, name) = split(from);
        disk.names(directory)?.set(name, None);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        // An unfinished upload may be removed under a lock that what else happens needs.
        let unfinished = path.parent().is_some_and(|above| above.ends_with("tmp"));
        let mut disk = if unfinished { lock(&self.0) } else { self.changing() };
        disk.change()?;
        disk.file(path)?;
        let (directory, name) = split(path);
        disk.names(directory)?.set(name, None);
        Ok(())
    }

    fn sync_file(&self, path: &Path) -> Result<(), DiskError> {
        let mut disk = self.changing();
        let inode = disk.open().and_then(|()| disk.file(path)).context("open", path)?;
        disk.sync_inode(inode).context("fsync", path)
    }

    /// Only the files: names wait for the fsync of their directory here, as the spool may not rely on more.
    fn sync_everything(&self, directory: &Path) -> Result<(), DiskError> {
        let mut disk = lock(&self.0);
        disk.open().and_then(|()| disk.names(directory).map(drop)).context("open", directory)?;
        let works = disk.sync().context(SYNC_ALL, directory)?;
        for inode in &mut disk.files {
            match works {
                true if !inode.lost => inode.durable = (inode.bytes.clone(), inode.modified),
                true => {}
                false => inode.lost |= inode.bytes != inode.durable.0,
            }
        }
        let synced = if works { Ok(()) } else { Err(io::Error::other("syncfs failed")) };
        synced.context(SYNC_ALL, directory)
    }

    fn open_dir(&self, path: &Path) -> io::Result<Box<dyn Directory>> {
        let mut disk = lock(&self.0);
        disk.open()?;
        disk.names(path)?;
        Ok(Box::new(DirectoryHandle { memory: self.clone(), path: path.to_owned() }))
    }

    fn free(&self, _: &Path) -> io::Result<Free> {
        let disk = lock(&self.0);
        let Some(space) = disk.space else { return Ok(Free { bytes: u64::MAX, inodes: None }) };
        let (files, bytes) = disk.used();
        let held_back = |used: u64, then: Option<u64>| then.map_or(used, |then| used.max(then));
        let files = held_back(files, space.held_back.map(|(files, _)| files));
        let bytes = held_back(bytes, space.held_back.map(|(_, bytes)| bytes));
        Ok(Free {
            bytes: space.bytes.saturating_sub(bytes),
            inodes: space.inodes.map(|inodes| inodes.saturating_sub(files)),
        })
    }
}

struct DirectoryHandle {
    memory: Memory,
    path: PathBuf,
}

impl Directory for DirectoryHandle {
    fn sync(&self) -> io::Result<()> {
        let mut disk = self.memory.changing();
        let works = disk.sync()?;
        let names = disk.names(&self.path)?;
        if !works {
            names.lost = true;
            return Err(io::Error::other("fsync failed"));
        }
        if !names.lost {
            names.settle(|history| history.len() - 1);
        }
        Ok(())
    }
}

struct Handle {
    memory: Memory,
    inode: usize,
}

impl Written for Handle {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.memory.changing();
        disk.change()?;
        let end = offset + bytes.len() as u64;
        let inode = &disk.files[self.inode];
        if end > inode.room.0.max(inode.bytes.len() as u64) {
            disk.has_room()?;
        }
        let inode = &mut disk.files[self.inode];
        let offset = offset as usize;
        assert!(offset >= inode.durable.0.len(), "what is durable is never written over");
        assert!(!inode.lost, "nothing is written where an fsync has failed");
        let end = inode.bytes.len().max(offset + bytes.len());
        inode.bytes.resize(end, 0);
        inode.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn allocate(&mut self, length: u64) -> io::Result<()> {
        let mut disk = self.memory.changing();
        disk.change()?;
        if length > disk.files[self.inode].room.0 {
            disk.has_room()?;
            disk.files[self.inode].room.0 = length;
        }
        Ok(())
    }

    fn set_modified(&mut self, time: Millis) -> io::Result<()> {
        let mut disk = self.memory.changing();
        disk.change()?;
        disk.files[self.inode].modified = time;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut disk = self.memory.changing();
        disk.sync_inode(self.inode)
    }
}
