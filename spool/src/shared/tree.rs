//! What lies in some folders, looked at again and again.
//!
//! A file is read only when something shows that it may have changed: its inode, size or one of its times. A change in
//! the same tick of the file system's clock as the one before shows nothing, so what was changed less than two seconds
//! before it was read is read once more. The time that counts is the one that nobody can set.
//!
//! What cannot be read keeps what was last seen in it, and is counted: it is there, so it must not look removed. Links,
//! pipes and directories are not there. A file that is larger than allowed is not read at all, and counts as unreadable.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::look::{Contents, Md5Text, io_error, open_regular, read_contents, read_md5, seen};
use super::stamp::Stamp;
use super::{Buckets, Pair, Seen};
use crate::error::Context;
use crate::names;

/// A directory of main files of one kind, and where their `.md5` lie.
#[derive(Clone, Debug)]
pub struct Folder {
    /// Where the main files lie.
    pub directory: PathBuf,
    /// What their names end in, without the dot.
    pub extension: &'static str,
    /// Where their `.md5` lie.
    pub md5_directory: PathBuf,
}

impl Folder {
    /// Where a pair of this folder lies; `None` for a name that is none of its main files.
    #[must_use]
    pub fn pair(&self, name: &[u8]) -> Option<Pair> {
        let stem = name.strip_suffix(self.extension.as_bytes())?.strip_suffix(b".")?;
        (!stem.is_empty() && names::valid_listed(name)).then(|| Pair {
            file: self.directory.join(OsStr::from_bytes(name)),
            md5: self.md5_directory.join(OsStr::from_bytes(&[stem, b".md5"].concat())),
        })
    }
}

/// Which names count; the others are as if they were not there.
pub type Wanted = Box<dyn Fn(&[u8]) -> bool + Send + Sync>;

type Clock = Box<dyn Fn() -> SystemTime + Send + Sync>;

/// What was seen in some folders.
pub struct Tree {
    folders: Vec<Folder>,
    wanted: Wanted,
    largest: u64,
    clock: Clock,
    known: HashMap<Box<[u8]>, Known>,
    items: BTreeMap<Box<[u8]>, Seen>,
    buckets: Buckets,
    unreadable: HashSet<Box<[u8]>>,
    opened: u64,
}

/// What was read of a pair.
#[derive(Default)]
struct Known {
    file: Option<LastRead<Contents>>,
    md5: Option<LastRead<Option<Md5Text>>>,
}

/// What was read of a file, when it looked like this.
struct LastRead<T> {
    stamp: Stamp,
    is_settled: bool,
    content: T,
}

impl Tree {
    /// One that has not looked yet. No two folders may take the same name. A main file of more than `largest` bytes is
    /// taken for unreadable: hashing it would take longer than anybody waits.
    #[must_use]
    pub fn new(folders: Vec<Folder>, wanted: Wanted, largest: u64) -> Self {
        Self {
            folders,
            wanted,
            largest,
            clock: Box::new(SystemTime::now),
            known: HashMap::new(),
            items: BTreeMap::new(),
            buckets: Buckets::new(),
            unreadable: HashSet::new(),
            opened: 0,
        }
    }

    /// Looks. Gives the names of which something else is seen than before, sorted. When a folder itself cannot be read
    /// (or is not there: something may not be mounted), nothing changes.
    pub fn scan(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let listed = self.list()?;
        let gone: Vec<_> = self.known.keys().filter(|name| !listed.contains_key(*name)).cloned().collect();
        let mut changed = Vec::new();
        self.opened = 0;
        for (name, pair) in &listed {
            match self.look(name, pair) {
                Ok(true) => changed.push(name.to_vec()),
                Ok(false) => {}
                Err(error) => self.complain(name, &error),
            }
        }
        changed.extend(gone.into_iter().filter(|name| self.forget(name)).map(Vec::from));
        changed.sort_unstable();
        Ok(changed)
    }

    /// Looks at one pair, as a scan does.
    pub fn refresh(&mut self, name: &[u8]) -> io::Result<Option<Seen>> {
        if let Some(pair) = self.pair(name) {
            self.look(name, &pair).inspect_err(|error| self.complain(name, error))?;
        }
        Ok(self.get(name))
    }

    /// Where a pair lies; `None` for a name that does not count.
    #[must_use]
    pub fn pair(&self, name: &[u8]) -> Option<Pair> {
        self.folders.iter().find_map(|folder| folder.pair(name)).filter(|_| (self.wanted)(name))
    }

    fn list(&self) -> io::Result<BTreeMap<Box<[u8]>, Pair>> {
        let mut listed = BTreeMap::new();
        for folder in &self.folders {
            let mut take = |name: &[u8]| {
                if let Some(pair) = folder.pair(name).filter(|_| (self.wanted)(name)) {
                    listed.insert(name.into(), pair);
                }
            };
            let read = fs::read_dir(&folder.directory).and_then(|mut entries| {
                entries.try_for_each(|entry| entry.map(|entry| take(entry.file_name().as_bytes())))
            });
            read.context("list", &folder.directory).map_err(io_error)?;
        }
        Ok(listed)
    }

    /// Whether something else is seen than before.
    fn look(&mut self, name: &[u8], pair: &Pair) -> io::Result<bool> {
        if !self.known.contains_key(name) {
            self.known.insert(name.into(), Known::default());
        }
        let known = self.known.get_mut(name).expect("it was put there just now");
        let seen = known.look(pair, self.largest, &self.clock, &mut self.opened)?;
        self.unreadable.remove(name);
        if known.file.is_none() {
            self.known.remove(name);
        }
        Ok(self.note(name, seen))
    }

    /// Whether there was something to forget.
    fn forget(&mut self, name: &[u8]) -> bool {
        self.known.remove(name);
        self.unreadable.remove(name);
        self.note(name, None)
    }

    fn complain(&mut self, name: &[u8], error: &io::Error) {
        if self.unreadable.insert(name.into()) {
            tracing::warn!(%error, "a shared file cannot be read and is taken for unchanged: look at its rights and size");
        }
    }

    fn note(&mut self, name: &[u8], now: Option<Seen>) -> bool {
        let before = self.items.get(name).copied();
        if before == now {
            return false;
        }
        if let Some(before) = before {
            self.buckets.take(name, &before);
            self.items.remove(name);
        }
        if let Some(now) = now {
            self.buckets.add(name, &now);
            self.items.insert(name.into(), now);
        }
        true
    }

    /// Every pair, as it was seen last.
    #[must_use]
    pub fn items(&self) -> &BTreeMap<Box<[u8]>, Seen> {
        &self.items
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<Seen> {
        self.items.get(name).copied()
    }

    /// What the `.md5` of one of them must hold. `None` also of one that could not be read when it was looked at last.
    #[must_use]
    pub fn md5_text(&self, name: &[u8]) -> Option<Md5Text> {
        let seen = self.get(name)?;
        let contents = self.known.get(name)?.file.as_ref()?.content;
        (contents.digest == seen.digest).then_some(contents.md5)
    }

    /// The sums over all of them.
    #[must_use]
    pub fn buckets(&self) -> &Buckets {
        &self.buckets
    }

    /// How many files are there and could not be read by the last scan.
    #[must_use]
    pub fn unreadable(&self) -> u64 {
        self.unreadable.len() as u64
    }

    /// Whether this one is among those: if it is not among the items either, nobody knows what is in it.
    #[must_use]
    pub fn is_unreadable(&self, name: &[u8]) -> bool {
        self.unreadable.contains(name)
    }

    /// How many files were opened by the last scan, and since.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.opened
    }
}

impl Known {
    fn look(
        &mut self,
        pair: &Pair,
        largest: u64,
        clock: &Clock,
        opened: &mut u64,
    ) -> io::Result<Option<Seen>> {
        let read = |file: &fs::File| read_up_to(file, largest);
        let Some(contents) = refresh(&mut self.file, &pair.file, clock, opened, read)? else {
            return Ok(None);
        };
        let text = refresh(&mut self.md5, &pair.md5, clock, opened, |file| read_md5(file))?.flatten();
        Ok(Some(seen(&contents, text.as_ref())))
    }
}

/// Reads a main file that is not larger than that, and does not become so meanwhile.
fn read_up_to(file: &fs::File, largest: u64) -> io::Result<Contents> {
    let is_larger = |size: u64| size > largest;
    if !is_larger(file.metadata()?.len()) {
        let contents = read_contents(file.take(largest.saturating_add(1)))?;
        if !is_larger(contents.size) {
            return Ok(contents);
        }
    }
    let words = format!("it is larger than the {largest} bytes that are allowed");
    Err(io::Error::new(ErrorKind::FileTooLarge, words))
}

/// Gives what is in a file, read again where it may have changed; `None` when there is no regular file.
fn refresh<T: Copy>(
    known: &mut Option<LastRead<T>>,
    path: &Path,
    clock: &Clock,
    opened: &mut u64,
    read: impl FnOnce(&fs::File) -> io::Result<T>,
) -> io::Result<Option<T>> {
    let there = match fs::symlink_metadata(path) {
        Ok(there) if there.is_file() => there,
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).context("look at", path).map_err(io_error);
        }
        _ => {
            *known = None;
            return Ok(None);
        }
    };
    match known {
        Some(known) if known.is_settled && known.stamp == Stamp::of(&there) => {
            return Ok(Some(known.content));
        }
        _ => *known = None,
    }
    let Some(file) = open_regular(path)? else { return Ok(None) };
    *opened += 1;
    // Both before the first byte: what changes behind them shows, or is read again.
    let now = clock();
    let stamp = Stamp::of(&file.metadata().context("look at", path).map_err(io_error)?);
    let content = read(&file).context("read", path).map_err(io_error)?;
    *known = Some(LastRead { stamp, is_settled: stamp.is_settled(now), content });
    Ok(Some(content))
}

#[cfg(test)]
mod tests;
