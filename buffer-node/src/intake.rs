//! Takes one offered file: body bytes into a draft of the spool, then to where the file belongs.
//!
//! Every body goes through a draft, also that of a shared file or an archive: so room is reserved, limits and the
//! free-space reserve hold for all of them, and a crash leaves nothing but what the spool removes at its start. Nothing here
//! answers the peer; `session` turns an [`Outcome`] into a reply.

use std::io;
use std::sync::Arc;

use tidegate_proto::{Name, Packing, Reason};
use tidegate_spool::sabotage::{self, Switch};
use tidegate_spool::{Bound, CommitError, Draft, Full, LossReason, Stored};
use tokio::task::spawn_blocking;

use crate::archive::{Archive, BadArchive};
use crate::committer::{Package, StoreError};
use crate::draft_writer::DraftWriter;
use crate::memory::Claim;
use crate::node::Node;
use crate::room;
use crate::shared::{Guarded, Put, PutError};

/// What an offer reserves before its body has come. More room is taken as bytes arrive, or slow senders could fill the
/// spool with promises.
const RESERVED_AHEAD: u64 = 64 * 1024;

/// An upload whose body is arriving.
pub(crate) struct Upload {
    name: Name,
    /// As announced.
    size: u64,
    packing: Packing,
    /// Absent only while a blocking task has it, and after a failed write.
    draft: Option<Draft>,
    memory: Claim,
}

/// What became of a whole body.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Durable now.
    Stored,
    /// Durable before, the same name and bytes.
    Repeat,
}

/// Why an upload is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IntakeError {
    #[error("no room: {0}")]
    Full(#[from] Full),
    #[error("no room for another shared file: {0}")]
    SharedFull(String),
    #[error("a shared file of this name holds other bytes, and `overwrite` is off")]
    Exists,
    #[error("{0}")]
    Guarded(Guarded),
    #[error("{0}")]
    Archive(BadArchive),
    #[error("the disk failed: {0}")]
    Disk(io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl IntakeError {
    /// What the sender hears. A failing disk is no room to the sender: it keeps the file and comes back.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Exists | Self::Guarded(_) => Reason::Exists,
            Self::Full(Full::TooLarge { .. }) => Reason::TooBig,
            Self::Archive(_) => Reason::Bare,
            Self::Full(_) | Self::SharedFull(_) | Self::Disk(_) | Self::Store(_) => Reason::StorageFull,
        }
    }

    /// Whether the node itself is at fault, which an operator must see.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(
            self,
            Self::Disk(_) | Self::Store(_) | Self::Full(Full::Poisoned { .. } | Full::NotDropped { .. })
        )
    }

    /// As what the refusal is recorded. Whoever may not replace a shared file has lost nothing.
    pub(crate) fn loss(&self) -> Option<LossReason> {
        match self {
            Self::Exists | Self::Guarded(_) => None,
            Self::Full(Full::Agent { .. }) => Some(LossReason::AgentQuota),
            Self::Full(Full::Class { .. }) => Some(LossReason::ClassQuota),
            Self::Full(Full::TooLarge { .. }) | Self::Archive(BadArchive::TooBig { .. }) => {
                Some(LossReason::TooBig)
            }
            Self::Full(Full::Poisoned { .. } | Full::NotDropped { .. }) | Self::Disk(_) => {
                Some(LossReason::Disk)
            }
            Self::Full(_) | Self::SharedFull(_) => Some(LossReason::Full),
            Self::Archive(_) => Some(LossReason::BadArchive),
            Self::Store(StoreError::Commit(CommitError::InvalidName)) => Some(LossReason::BadName),
            Self::Store(StoreError::Commit(CommitError::NoFreeName)) => Some(LossReason::Full),
            Self::Store(_) => Some(LossReason::Disk),
        }
    }

    /// What an operator can do about it, to be read after the error.
    pub(crate) fn remedy(&self) -> Option<&'static str> {
        let Self::Full(full) = self else { return None };
        let limit = if let Full::TooLarge { limit, .. } = full { limit } else { full };
        match limit {
            Full::Agent { limit: Bound::Bytes(_), .. } => {
                Some("raise `agent_max_bytes` of [spool] or of the class if this agent is not running wild")
            }
            Full::Agent { limit: Bound::Files(_), .. } => {
                Some("raise `agent_max_files` of [spool] or of the class if this agent is not running wild")
            }
            Full::Class { limit: Bound::Bytes(_), .. } => {
                Some("pull more often, or raise `max_bytes` of the class")
            }
            Full::Class { limit: Bound::Files(_), .. } => {
                Some("pull more often, or raise `max_files` of the class")
            }
            Full::Bytes { .. } => Some("pull more often, or raise `spool.max_bytes`"),
            Full::Files { .. } => Some("pull more often, or raise `spool.max_files`"),
            Full::FreeSpace { .. } => Some("make room on the disk, or lower `spool.reserve`"),
            Full::Inodes { .. } => Some("remove files from the disk, or pull more often"),
            _ => None,
        }
    }
}

impl From<io::Error> for IntakeError {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl From<BadArchive> for IntakeError {
    fn from(bad: BadArchive) -> Self {
        match bad {
            BadArchive::Sink(error) => Self::Disk(error),
            bad => Self::Archive(bad),
        }
    }
}

impl From<PutError> for IntakeError {
    fn from(error: PutError) -> Self {
        match error {
            PutError::Full(limit) => Self::SharedFull(limit),
            PutError::Stopping(_) => Self::Disk(io::Error::other(error)),
            PutError::Io(error) => Self::Disk(error),
        }
    }
}

impl Upload {
    /// Decides about an offer before its body comes.
    pub(crate) async fn begin(
        node: &Arc<Node>,
        name: Name,
        size: u64,
        packing: Packing,
    ) -> Result<Self, IntakeError> {
        if let Some(directory) = node.filters.directory_of(name.as_bytes()) {
            let plain_size = (packing == Packing::Plain).then_some(size);
            let (node, directory, name) = (node.clone(), directory.to_owned(), name.clone());
            let taken =
                blocking(move || Ok(node.shared.is_taken(&directory, name.as_bytes(), plain_size)?));
            if taken.await? {
                return Err(IntakeError::Exists);
            }
        }
        // Room for all of it now is no promise, but without it there is no point in taking the body.
        let ahead = size.min(RESERVED_AHEAD);
        let draft = match node.filters.directory_of(name.as_bytes()) {
            Some(_) => {
                drop(node.spool.begin_scratch(size)?);
                node.spool.begin_scratch(ahead)?
            }
            None => room::begin(node, name.as_bytes(), size, ahead).await?,
        };
        Ok(Self { name, size, packing, draft: Some(draft), memory: Claim::nothing(&node.budget) })
    }

    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn packing(&self) -> Packing {
        self.packing
    }

    /// Makes sure that there is room for a piece of the body.
    pub(crate) async fn make_room(&mut self, node: &Arc<Node>, more: u64) -> Result<(), IntakeError> {
        match self.draft.as_mut().ok_or_else(lost_draft)?.reserve(more) {
            Err(full) if room::may_help(&full) && self.is_droppable(node) => {}
            reserved => return Ok(reserved?),
        }
        let draft = self.draft.take().ok_or_else(lost_draft)?;
        self.draft = Some(room::grow(node, self.name.as_bytes(), draft, more).await?);
        Ok(())
    }

    fn is_droppable(&self, node: &Node) -> bool {
        let name = self.name.as_bytes();
        node.filters.directory_of(name).is_none() && node.spool.may_drop(name)
    }

    /// Takes a piece of the body into memory. `false`: there is no room there, and [`Upload::write_out`] takes it.
    pub(crate) fn hold(&mut self, bytes: &[u8]) -> Result<bool, IntakeError> {
        let held = self.memory.grow(bytes.len());
        if held {
            self.draft.as_mut().ok_or_else(lost_draft)?.write(bytes)?;
        }
        Ok(held)
    }

    /// Takes a piece of the body, and writes it to disk with all that came before.
    pub(crate) async fn write_out(&mut self, bytes: Vec<u8>) -> Result<(), IntakeError> {
        let mut draft = self.draft.take().ok_or_else(lost_draft)?;
        let draft = blocking(move || {
            draft.write(&bytes)?;
            draft.contents()?;
            Ok(draft)
        });
        self.draft = Some(draft.await?);
        self.memory.release();
        Ok(())
    }

    /// The body is whole: makes the file durable where it belongs.
    pub(crate) async fn finish(self, node: &Arc<Node>) -> Result<Outcome, IntakeError> {
        let draft = self.draft.ok_or_else(lost_draft)?;
        let package = Package { draft, memory: self.memory, name: self.name.as_bytes().to_vec() };
        let package = match self.packing {
            Packing::Plain => package,
            Packing::Zip => unpack(node, package).await?,
        };
        match node.filters.directory_of(&package.name) {
            Some(directory) => share(node, directory.to_owned(), package).await,
            None if sabotage::breaks(Switch::AckEarly) => {
                let node = node.clone();
                tokio::spawn(async move { node.committer.store(package).await.map(drop) });
                Ok(Outcome::Stored)
            }
            None => match node.committer.store(package).await? {
                Stored::New { package } => {
                    node.totals.stored(package.size);
                    Ok(Outcome::Stored)
                }
                Stored::Repeat => Ok(Outcome::Repeat),
            },
        }
    }
}

/// Exchanges an archive for its content, which is claimed as the bytes of any upload are, or goes to disk. The content
/// takes the archive's room: if each had its own, a class of one package would have none for it.
async fn unpack(node: &Arc<Node>, package: Package) -> Result<Package, IntakeError> {
    let place = node.unpacking.acquire().await.expect("the semaphore is never closed");
    let unpacking = node.clone();
    let unpacked = blocking(move || {
        let Package { mut draft, memory: _archive_memory, name } = package;
        let archive = Archive::open(draft.start_over()?, unpacking.session.max_size)?;
        let size = archive.size();
        room::grow_now(&unpacking, &name, &mut draft, size)?;
        archive.inflate(&mut DraftWriter(&mut draft))?;
        let mut memory = Claim::nothing(&unpacking.budget);
        if !memory.grow(usize::try_from(size).unwrap_or(usize::MAX)) {
            draft.contents()?;
        }
        Ok(Package { draft, memory, name })
    })
    .await;
    drop(place);
    unpacked
}

/// Puts a whole draft in the place of a shared file.
async fn share(node: &Arc<Node>, directory: String, package: Package) -> Result<Outcome, IntakeError> {
    let _place = node.sharing.acquire().await.expect("the semaphore is never closed");
    let node = node.clone();
    blocking(move || {
        let Package { mut draft, memory: _memory, name } = package;
        match node.shared.put(&directory, &name, draft.contents()?, draft.written())? {
            Put::Written => Ok(Outcome::Stored),
            Put::Same => Ok(Outcome::Repeat),
            Put::Taken => Err(IntakeError::Exists),
            Put::Guarded(why) => Err(IntakeError::Guarded(why)),
        }
    })
    .await
}

fn lost_draft() -> IntakeError {
    IntakeError::Disk(io::Error::other("an earlier write failed"))
}

/// Disk work, away from the runtime's own threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, IntakeError> + Send + 'static,
) -> Result<T, IntakeError> {
    spawn_blocking(work).await.unwrap_or_else(|panic| Err(IntakeError::Disk(io::Error::other(panic))))
}
