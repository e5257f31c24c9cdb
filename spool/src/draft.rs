//! A package while it is being written.
//!
//! Most packages are a few kilobytes and are committed together with others. So a draft keeps its bytes in memory
//! until there are [`BUFFER_BYTES`] of them; the file of a smaller one is made by the commit, in one of the threads
//! that work for the whole batch.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::clock::Millis;
use crate::error::{Context, DiskError, Full};
use crate::fs::Written;
use crate::make_room::Dropped;
use crate::quota::{Room, Scope};
use crate::seen::first_eight;
use crate::store::Store;

/// Bytes of a draft held in memory. Beyond it they go to its temporary file.
const BUFFER_BYTES: usize = 64 * 1024;

/// A package being written. Dropping it removes what was written and gives its room back.
pub struct Draft {
    store: Arc<Store>,
    /// As sent; empty where there is to be no package.
    name: Box<[u8]>,
    /// `None` once the package is stored.
    room: Option<Room>,
    hasher: Sha256,
    written: u64,
    buffer: Vec<u8>,
    temporary: Option<Temporary>,
    /// A write failed, so bytes are missing.
    broken: bool,
}

struct Temporary {
    path: PathBuf,
    /// Closed when the bytes are durable.
    file: Option<Box<dyn Written>>,
}

impl Draft {
    pub(crate) fn new(store: Arc<Store>, room: Room, name: &[u8]) -> Self {
        Self {
            store,
            name: name.into(),
            room: Some(room),
            hasher: Sha256::new(),
            written: 0,
            buffer: Vec::new(),
            temporary: None,
            broken: false,
        }
    }

    /// Makes sure that there is room for so many more bytes than were written. Nothing is lost when there is not.
    pub fn reserve(&mut self, more: u64) -> Result<(), Full> {
        let bytes = self.written.saturating_add(more);
        let Some(room) = &mut self.room else { return Ok(()) };
        let scope = room.scope();
        room.grow_to(bytes).map_err(|shortage| self.store.quota.full(shortage, scope, &self.name, bytes))
    }

    /// [`Draft::reserve`], but where its class allows it the oldest packages go to make room. Blocks on the disk.
    pub fn reserve_dropping(&mut self, more: u64) -> Result<Dropped, Full> {
        let bytes = self.written.saturating_add(more);
        let Some((room, scope)) = self.room.as_mut().and_then(|room| room.scope().map(|scope| (room, scope)))
        else {
            return self.reserve(more).map(|()| Dropped::default());
        };
        let made = self.store.make_room(scope, || room.grow_to(bytes));
        let ((), dropped) = made.map_err(|error| error.full(&self.store, scope, &self.name, bytes))?;
        Ok(dropped)
    }

    /// Appends bytes. `StorageFull` when they are more than was announced and the spool has no room for them. After
    /// an error the draft can only be dropped.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let result = self.try_write(bytes);
        self.broken |= result.is_err();
        result
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.written + bytes.len() as u64;
        self.reserve(bytes.len() as u64).map_err(|full| io::Error::new(io::ErrorKind::StorageFull, full))?;
        if self.buffer.len() + bytes.len() > BUFFER_BYTES {
            self.spill()?;
        }
        if bytes.len() > BUFFER_BYTES {
            let offset = self.written;
            self.write_at(offset, bytes)?;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        self.hasher.update(bytes);
        self.written = written;
        Ok(())
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// A readable file, at its start, of what was written so far.
    pub fn contents(&mut self) -> io::Result<File> {
        let spilt = self.spill();
        self.broken |= spilt.is_err();
        spilt?;
        self.file()?;
        let temporary = self.temporary.as_ref().expect("`file` makes the temporary file");
        self.store.fs.open(&temporary.path)
    }

    /// What was written so far, in a file without a name, at its start. The draft begins anew with the room it has, so
    /// those bytes count no more: the reserve of the file system holds them until the file is closed.
    pub fn start_over(&mut self) -> io::Result<File> {
        let contents = self.contents()?;
        if let Some(temporary) = self.temporary.take() {
            self.store.fs.remove(&temporary.path)?;
        }
        if let Some(room) = &mut self.room {
            room.start_over();
        }
        (self.hasher, self.written) = (Sha256::new(), 0);
        Ok(contents)
    }

    /// Moves the buffered bytes to the temporary file, and gives their memory back: an owner that has this done to
    /// save memory counts on it.
    fn spill(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            let buffer = std::mem::take(&mut self.buffer);
            let offset = self.written - buffer.len() as u64;
            self.write_at(offset, &buffer)?;
        }
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file()?.write_at(offset, bytes)?;
        if let Some(room) = &mut self.room {
            room.wrote(bytes.len() as u64);
        }
        Ok(())
    }

    fn file(&mut self) -> io::Result<&mut dyn Written> {
        let temporary = match self.temporary.take() {
            Some(temporary) => temporary,
            None => {
                let path = self.store.next_temporary();
                let file = self.store.fs.create_new(&path)?;
                Temporary { path, file: Some(file) }
            }
        };
        let file = self.temporary.insert(temporary).file.as_mut();
        Ok(&mut **file.expect("a temporary file is closed only after the last write"))
    }

    /// The name it began with.
    pub(crate) fn name(&self) -> &[u8] {
        &self.name
    }

    /// Whose room it takes.
    pub(crate) fn scope(&self) -> Option<Scope> {
        self.room.as_ref().and_then(Room::scope)
    }

    /// First eight bytes of the SHA-256 of what was written.
    pub(crate) fn digest(&self) -> u64 {
        first_eight(self.hasher.clone())
    }

    /// Whether all bytes were taken.
    pub(crate) fn check_complete(&self) -> Result<(), DiskError> {
        let earlier =
            if self.broken { Err(io::Error::other("an earlier write to it failed")) } else { Ok(()) };
        earlier.context("store", &self.path())
    }

    fn path(&self) -> PathBuf {
        self.temporary
            .as_ref()
            .map_or_else(|| self.store.layout.tmp.clone(), |temporary| temporary.path.clone())
    }

    /// Makes the temporary file and its bytes durable, with the time of arrival as modification time.
    pub(crate) fn seal(&mut self, arrival: Millis) -> Result<(), DiskError> {
        let path = self.path();
        self.spill().and_then(|()| self.file()?.set_modified(arrival)).context("write in", &path)?;
        let Temporary { path, file } = self.temporary.as_mut().expect("`file` makes the temporary file");
        let mut file = file.take().expect("a draft is sealed once");
        self.store.poison.fsynced(file.sync(), path)
    }

    /// Gives the sealed file its name.
    pub(crate) fn rename(&mut self, to: PathBuf) -> Result<(), DiskError> {
        let temporary = self.temporary.as_mut().expect("a sealed draft has its file");
        self.store.fs.rename_noreplace(&temporary.path, &to).context("rename a temporary file to", &to)?;
        temporary.path = to;
        Ok(())
    }

    /// The renamed file is durable: it stays, and its room stays taken.
    pub(crate) fn keep(mut self) {
        self.temporary = None;
        if let Some(room) = self.room.take() {
            room.settle(self.written);
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(temporary) = self.temporary.take()
            && let Err(error) = self.store.fs.remove(&temporary.path)
        {
            tracing::warn!(path = %temporary.path.display(), %error, "cannot remove an unfinished upload");
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Duplicates, Overflow, Settings, Spool};

    #[test]
    fn what_is_on_disk_takes_no_memory() {
        let root = tempfile::tempdir().unwrap();
        let settings = Settings {
            root: root.path().join("spool"),
            max_bytes: 1_000,
            max_files: 10,
            reserve_bytes: 0,
            duplicates: Duplicates::default(),
            sync_threads: 1,
            overflow: Overflow::default(),
        };
        let (spool, _) = Spool::open(settings).unwrap();
        let mut draft = spool.begin(b"a.1.data", 300).unwrap();
        draft.write(&[b'a'; 300]).unwrap();
        assert_eq!(draft.buffer.len(), 300);
        draft.contents().unwrap();
        assert_eq!(draft.buffer.capacity(), 0);
    }
}
