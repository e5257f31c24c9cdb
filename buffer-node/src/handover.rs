//! Gives files out: shared files to everybody, data packages to pullers. Decides nothing about rights; `session` does.
//!
//! A file is opened once, its size is taken from the open file, and exactly that many bytes are sent: what is
//! replaced meanwhile does not mix. Nothing is read before the peer wants it, so an answer that nobody takes holds no
//! memory.
//!
//! A package's bytes are compared with the digest made at its intake before they are announced, in one pass, off the
//! runtime's threads; that of a `MV` right after a `RECV` repeats the comparison, because nothing says that the file is
//! still the same. A damaged package leaves the spool and is answered like one that is not there, so it blocks nothing
//! behind it; its bytes are kept.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::sync::Arc;

use tidegate_proto::{Escaped, Name, Packing, Reason};
use tidegate_spool::{Damage, Lease, Package, SetAside, Unfit};
use tokio::task::spawn_blocking;
use tracing::error;

use crate::node::Node;
use crate::shared::{Given, Reading};

/// Bytes read, and handed to the machine, at once.
const CHUNK: u64 = 32 * 1024;

/// A body that waits to be sent, and the announced size.
pub(crate) struct Source {
    size: u64,
    left: u64,
    reader: Box<dyn Read + Send>,
    reading: Option<Reading>,
}

/// Why a file is not given out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandoverError {
    #[error("there is no such file")]
    NotFound,
    #[error("another connection is moving it")]
    Leased,
    #[error(
        "too many compressed answers wait for their readers, or the file is too large for one; RECV has no such limit"
    )]
    NotPacked,
    #[error("it is damaged, and was set aside")]
    Damaged,
    #[error("the disk failed: {0}")]
    Disk(#[from] io::Error),
}

impl HandoverError {
    /// What a reader hears; after LS and MV it is a bare refusal in any case. A failing disk is no missing file: an agent
    /// would act upon that.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::NotFound | Self::Damaged => Reason::NotFound,
            Self::Leased | Self::NotPacked | Self::Disk(_) => Reason::Bare,
        }
    }
}

impl Source {
    /// The size to announce.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// For [`crate::shared::Shared::was_read`], once its reader has proved to have it.
    pub(crate) fn reading(&mut self) -> Option<Reading> {
        self.reading.take()
    }

    /// The next bytes; empty at the end.
    pub(crate) async fn chunk(&mut self) -> Result<Vec<u8>, HandoverError> {
        if self.left == 0 {
            return Ok(Vec::new());
        }
        let mut reader = std::mem::replace(&mut self.reader, Box::new(io::empty()));
        let want = self.left.min(CHUNK);
        let (reader, bytes) = blocking(move || {
            let bytes = read_exactly(&mut reader, want)?;
            Ok((reader, bytes))
        })
        .await?;
        self.reader = reader;
        self.left -= bytes.len() as u64;
        Ok(bytes)
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
            node.shared.get(&directory, name.as_bytes())?.ok_or(HandoverError::NotFound)
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
            let (file, _) = open_verified(node, &package, None)?;
            Ok(Given { file, size: package.size, reading: None })
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
            let package = lease.package().clone();
            let (file, lease) = open_verified(&node, &package, Some(lease))?;
            let lease = lease.ok_or(HandoverError::NotFound)?;
            Ok((Self::new(file, package.size), lease))
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
                Ok(Self::new(listing, size))
            }
            Some(directory) => {
                let names = node.shared.listing(&directory)?;
                let size = names.len() as u64;
                Ok(Self::new(Cursor::new(names), size))
            }
        })
        .await
    }

    fn new(reader: impl Read + Send + 'static, size: u64) -> Self {
        Self { size, left: size, reader: Box::new(reader), reading: None }
    }
}

/// Opens a file and, if asked for, packs it.
async fn give(
    node: Arc<Node>,
    name: Name,
    packing: Packing,
    open: impl FnOnce(&Node, &Name) -> Result<Given, HandoverError> + Send + 'static,
) -> Result<Source, HandoverError> {
    match packing {
        Packing::Plain => {
            blocking(move || {
                let Given { file, size, reading } = open(&node, &name)?;
                Ok(Source { reading, ..Source::new(file, size) })
            })
            .await
        }
        Packing::Zip => {
            let packing = node.clone();
            let _turn = packing.packer.turn().await;
            blocking(move || {
                let Given { file, size, reading } = open(&node, &name)?;
                let room = node.packer.room(size).ok_or(HandoverError::NotPacked)?;
                let packed = node.packer.pack(name.as_bytes(), &mut file.take(size), room)?;
                let size = packed.size()?;
                Ok(Source { reading, ..Source::new(packed, size) })
            })
            .await
        }
    }
}

/// Opens a package whose bytes are those that arrived, and sets any other aside. `lease` is the caller's claim on it.
fn open_verified(
    node: &Node,
    package: &Package,
    lease: Option<Lease>,
) -> Result<(File, Option<Lease>), HandoverError> {
    fit(node, package, lease, node.spool.open_verified(package))
}

/// Opens a claimed package, in the same way. Blocks on the disk.
pub(crate) fn open_claimed(node: &Node, lease: Lease) -> Result<(File, Lease), HandoverError> {
    let looked_at = node.spool.open_verified(lease.package());
    claimed_and_fit(node, lease, looked_at)
}

/// Reads all of a claimed package, in the same way.
pub(crate) fn read_claimed(node: &Node, lease: Lease) -> Result<(Vec<u8>, Lease), HandoverError> {
    let looked_at = node.spool.read_verified(lease.package());
    claimed_and_fit(node, lease, looked_at)
}

fn claimed_and_fit<T>(
    node: &Node,
    lease: Lease,
    looked_at: Result<T, Unfit>,
) -> Result<(T, Lease), HandoverError> {
    let package = lease.package().clone();
    let (found, lease) = fit(node, &package, Some(lease), looked_at)?;
    Ok((found, lease.ok_or(HandoverError::NotFound)?))
}

/// What a look at a package gave, unless the package is damaged: then it is set aside.
fn fit<T>(
    node: &Node,
    package: &Package,
    lease: Option<Lease>,
    looked_at: Result<T, Unfit>,
) -> Result<(T, Option<Lease>), HandoverError> {
    match looked_at {
        Ok(found) => Ok((found, lease)),
        Err(Unfit::Disk(error)) => Err(error.into()),
        Err(Unfit::Damaged(damage)) => {
            let claimed = lease.or_else(|| node.spool.lease(&package.listed_name));
            match claimed {
                Some(lease) if lease.package().id == package.id => Err(set_aside(node, lease, &damage)),
                // It is gone, or on its way out.
                _ => Err(HandoverError::NotFound),
            }
        }
    }
}

fn set_aside(node: &Node, lease: Lease, damage: &Damage) -> HandoverError {
    let (name, id) = (Escaped(&lease.package().listed_name).to_string(), lease.package().id);
    match node.spool.set_aside(lease, damage) {
        Ok(SetAside::Deleted) => HandoverError::NotFound,
        Ok(SetAside::Moved(file)) => {
            node.totals.set_aside();
            error!(
                %name, %id, %damage, file = %file.display(),
                "a package is damaged: it was set aside and recorded as lost; look at it with \
                 `tidegate-buffer-node dead-letter show`, check the disk, and requeue or purge it"
            );
            HandoverError::Damaged
        }
        Ok(SetAside::Gone) => {
            node.totals.set_aside();
            error!(
                %name, %id, %damage,
                "a package is missing: it was recorded as lost; find out who removes files from the spool"
            );
            HandoverError::Damaged
        }
        Err(error) => {
            error!(%name, %id, %damage, %error, "a damaged package could not be set aside, it stays: check the disk");
            HandoverError::Disk(io::Error::other(error))
        }
    }
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
