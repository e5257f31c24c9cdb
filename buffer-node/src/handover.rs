//! Gives files out: shared files to everybody, data packages to pullers. Decides nothing about rights; `session` does.
//!
//! A file is opened once, its size is taken from the open file, and exactly that many bytes are sent: what is
//! replaced meanwhile does not mix. Small files are read in the same trip to the disk that opens them.

use std::io::{self, Cursor, Read};
use std::sync::Arc;

use tidegate_proto::{Name, Packing};
use tidegate_spool::{Draft, Full, Lease};
use tokio::task::spawn_blocking;

use crate::archive;
use crate::draft_writer::DraftWriter;
use crate::node::Node;

/// Bytes read, and handed to the machine, at once.
const CHUNK: u64 = 32 * 1024;

/// What an archive may take over its content before it is no longer plausible.
const ARCHIVE_OVERHEAD: u64 = 4096;

/// A body that waits to be sent, and the announced size.
pub(crate) struct Source {
    size: u64,
    left: u64,
    next: Vec<u8>,
    reader: Box<dyn Read + Send>,
    /// The file behind `reader`, where it is temporary.
    _draft: Option<Draft>,
}

/// Why a file is not given out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandoverError {
    #[error("there is no such file")]
    NotFound,
    #[error("another connection is moving it")]
    Leased,
    #[error("no room to pack it: {0}")]
    Full(#[from] Full),
    #[error("the disk failed: {0}")]
    Disk(#[from] io::Error),
}

impl Source {
    /// The size to announce.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The next bytes; empty at the end.
    pub(crate) async fn chunk(&mut self) -> Result<Vec<u8>, HandoverError> {
        if self.left > 0 && self.next.is_empty() {
            let mut reader = std::mem::replace(&mut self.reader, Box::new(io::empty()));
            let want = self.left.min(CHUNK);
            let (reader, next) = blocking(move || {
                let next = read_exactly(&mut reader, want)?;
                Ok((reader, next))
            })
            .await?;
            (self.reader, self.next) = (reader, next);
        }
        self.left -= self.next.len() as u64;
        Ok(std::mem::take(&mut self.next))
    }

    /// A shared file.
    pub(crate) async fn shared(
        node: &Arc<Node>,
        directory: &str,
        name: Name,
        packing: Packing,
    ) -> Result<Self, HandoverError> {
        let (node, directory) = (node.clone(), directory.to_owned());
        give(node, name, packing, move |node, name| {
            let (file, size) =
                node.shared.get(&directory, name.as_bytes())?.ok_or(HandoverError::NotFound)?;
            Ok((Box::new(file) as Box<dyn Read + Send>, size))
        })
        .await
    }

    /// A data package, which stays.
    pub(crate) async fn package(
        node: &Arc<Node>,
        name: Name,
        packing: Packing,
    ) -> Result<Self, HandoverError> {
        give(node.clone(), name, packing, |node, name| {
            let package = node.spool.find(name.as_bytes()).ok_or(HandoverError::NotFound)?;
            Ok((Box::new(node.spool.open_package(&package)?) as Box<dyn Read + Send>, package.size))
        })
        .await
    }

    /// A data package and the exclusive claim on it, to be deleted once its reader has proved to have it.
    pub(crate) async fn leased(node: &Arc<Node>, name: Name) -> Result<(Self, Lease), HandoverError> {
        let node = node.clone();
        blocking(move || {
            let Some(lease) = node.spool.lease(name.as_bytes()) else {
                let found = node.spool.find(name.as_bytes()).is_some();
                return Err(if found { HandoverError::Leased } else { HandoverError::NotFound });
            };
            let file = node.spool.open_package(lease.package())?;
            Ok((Self::new(Box::new(file), lease.package().size, None)?, lease))
        })
        .await
    }

    /// The listing of the data packages, or of the shared files in a directory.
    pub(crate) async fn listing(node: &Arc<Node>, directory: Option<&str>) -> Result<Self, HandoverError> {
        let (node, directory) = (node.clone(), directory.map(str::to_owned));
        blocking(move || match directory {
            None => {
                let listing = node.spool.listing();
                let size = listing.total_bytes();
                Self::new(Box::new(listing), size, None)
            }
            Some(directory) => {
                let names = node.shared.listing(&directory)?;
                let size = names.len() as u64;
                Self::new(Box::new(Cursor::new(names)), size, None)
            }
        })
        .await
    }

    /// Reads the first bytes, so it blocks.
    fn new(mut reader: Box<dyn Read + Send>, size: u64, draft: Option<Draft>) -> Result<Self, HandoverError> {
        let next = read_exactly(&mut reader, size.min(CHUNK))?;
        Ok(Self { size, left: size, next, reader, _draft: draft })
    }
}

/// Opens a file and, if asked for, packs it.
async fn give(
    node: Arc<Node>,
    name: Name,
    packing: Packing,
    open: impl FnOnce(&Node, &Name) -> Result<(Box<dyn Read + Send>, u64), HandoverError> + Send + 'static,
) -> Result<Source, HandoverError> {
    match packing {
        Packing::Plain => {
            blocking(move || {
                let (reader, size) = open(&node, &name)?;
                Source::new(reader, size, None)
            })
            .await
        }
        Packing::Zip => {
            let packing = node.clone();
            let _place = packing.packing.acquire().await.expect("the semaphore is never closed");
            blocking(move || {
                let (reader, size) = open(&node, &name)?;
                pack(&node, &name, reader, size)
            })
            .await
        }
    }
}

/// Packs into a draft, which reserves the room and leaves nothing behind.
fn pack(node: &Node, name: &Name, reader: Box<dyn Read + Send>, size: u64) -> Result<Source, HandoverError> {
    let most = size + size / 100 + ARCHIVE_OVERHEAD;
    let mut draft = node.spool.begin(most)?;
    archive::pack(name.as_bytes(), &mut reader.take(size), DraftWriter(&mut draft))?;
    let (contents, size) = (draft.contents()?, draft.written());
    Source::new(Box::new(contents), size, Some(draft))
}

/// A file that became shorter than announced cannot be sent.
fn read_exactly(reader: &mut (impl Read + ?Sized), size: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(size).map_err(io::Error::other)?];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HandoverError> + Send + 'static,
) -> Result<T, HandoverError> {
    spawn_blocking(work).await.unwrap_or_else(|panic| Err(HandoverError::Disk(io::Error::other(panic))))
}
