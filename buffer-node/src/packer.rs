//! Packs answers to ZRECV.
//!
//! The size of an archive must be announced before its first byte goes out, so it lies on the disk until its reader has
//! it, and its reader may take its time. That room is not the spool's: compressed answers never take what senders
//! need. It has a bound of its own; whoever is over it hears a bare `ZRECV ERR`. Waiting would let readers that never
//! read lock out the others for good, and `file does not exist` would be a lie that an agent acts upon. RECV, which
//! needs no room, goes on working.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::archive;

/// Bytes that all packed answers may take, by the size of what is packed. Beyond it: `ZRECV ERR`.
const ROOM: u64 = 256 << 20;

/// What an answer takes of the room at least, so that there are at most 32. Also the unit of counting.
const SHARE: u64 = ROOM / 32;

/// Answers packed at the same time. Each takes CPU; beyond it the next ones wait.
const PACKING_MAX: usize = 4;

/// Makes archives.
pub(crate) struct Packer {
    /// Where the archives lie, without a name: nothing is left behind.
    directory: PathBuf,
    room: Arc<Semaphore>,
    turns: Semaphore,
}

/// An archive at its start. Its room is given back when it is dropped.
pub(crate) struct Packed {
    archive: File,
    _room: OwnedSemaphorePermit,
}

impl Packer {
    pub(crate) fn new(directory: PathBuf) -> Self {
        let room = Arc::new(Semaphore::new((ROOM / SHARE) as usize));
        Self { directory, room, turns: Semaphore::new(PACKING_MAX) }
    }

    /// Room for a packed file of that size, if there is any left.
    pub(crate) fn room(&self, size: u64) -> Option<OwnedSemaphorePermit> {
        let shares = u32::try_from(size.div_ceil(SHARE).max(1)).ok()?;
        self.room.clone().try_acquire_many_owned(shares).ok()
    }

    /// A turn to pack; kept until it is done.
    pub(crate) async fn turn(&self) -> impl Drop + '_ {
        self.turns.acquire().await.expect("the semaphore is never closed")
    }

    /// Packs. Blocks on the disk.
    pub(crate) fn pack(
        &self,
        name: &[u8],
        content: &mut impl Read,
        room: OwnedSemaphorePermit,
    ) -> io::Result<Packed> {
        let mut archive = tempfile::tempfile_in(&self.directory)?;
        archive::pack(name, content, BufWriter::new(&mut archive))?;
        archive.rewind()?;
        Ok(Packed { archive, _room: room })
    }
}

impl Packed {
    /// Its size in bytes.
    pub(crate) fn size(&self) -> io::Result<u64> {
        Ok(self.archive.metadata()?.len())
    }
}

impl Read for Packed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.archive.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_is_bounded_in_count_and_bytes_and_comes_back() {
        let packer = Packer::new(PathBuf::new());
        let small: Vec<_> = (0..32).map(|_| packer.room(1).expect("room")).collect();
        assert!(packer.room(1).is_none(), "32 answers are the most");
        drop(small);
        assert!(packer.room(ROOM + 1).is_none());
        let large = packer.room(ROOM - SHARE).expect("room");
        assert!(packer.room(SHARE + 1).is_none());
        let _last = packer.room(SHARE).expect("the last share");
        drop(large);
        assert!(packer.room(ROOM - SHARE).is_some());
    }
}
