//! What all connections of one node share, and how it is put together at start.

use std::io;
use std::thread::JoinHandle;

use tidegate_proto::{ResponderSettings, limits};
use tidegate_spool::{OpenError, Recovery, Spool};
use tokio::sync::Semaphore;

use crate::committer::Committer;
use crate::config::Config;
use crate::fatal::Fatal;
use crate::filters::Filters;
use crate::layout;
use crate::memory::Budget;
use crate::packer::Packer;
use crate::repeats::Repeats;
use crate::shared::Shared;
use crate::totals::Totals;

/// Archives unpacked at the same time. Each takes CPU and some memory; beyond it senders wait.
const UNPACKING_MAX: usize = 4;

/// Shared files put at the same time. Beyond it their senders wait, and not on the threads that everybody needs.
const SHARING_MAX: usize = 8;

/// Uploads for which packages are dropped at the same time: room is looked for by one after the other.
const DROPPING_MAX: usize = 1;

// The two crates know nothing of each other, and a name that one takes must not be one that the other refuses.
const _: () = assert!(limits::NAME_MAX == tidegate_spool::NAME_MAX);
const _: () = assert!(limits::LISTED_NAME_MAX == tidegate_spool::LISTED_NAME_MAX);

/// The shared state.
pub(crate) struct Node {
    pub(crate) filters: Filters,
    pub(crate) spool: Spool,
    pub(crate) shared: Shared,
    pub(crate) committer: Committer,
    pub(crate) budget: Budget,
    pub(crate) unpacking: Semaphore,
    pub(crate) packer: Packer,
    pub(crate) sharing: Semaphore,
    pub(crate) dropping: Semaphore,
    pub(crate) session: ResponderSettings,
    pub(crate) insecure: bool,
    pub(crate) repeats: Repeats,
    pub(crate) totals: Totals,
    pub(crate) fatal: Fatal,
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Spool(#[from] OpenError),
    #[error("cannot prepare the directories of shared files: {0}")]
    Shared(io::Error),
    #[error("cannot start the thread that stores packages: {0}")]
    Thread(io::Error),
}

impl Node {
    /// Opens the storage. The spool comes first: its lock keeps a second process away from everything else.
    /// The thread ends once the node and all its sessions are gone.
    pub(crate) fn open(
        config: &Config,
        fatal: Fatal,
    ) -> Result<(Self, Recovery, JoinHandle<()>), StartError> {
        let (spool, recovery) = Spool::open(config.spool.clone())?;
        let directories = config.filters.directories();
        let shared =
            Shared::open(&config.directory, &directories, config.overwrite, config.shared, fatal.clone())
                .map_err(StartError::Shared)?;
        let (committer, thread) =
            Committer::start(spool.clone(), fatal.clone()).map_err(StartError::Thread)?;
        let node = Self {
            filters: config.filters.clone(),
            spool,
            shared,
            committer,
            budget: Budget::new(config.buffered_bytes),
            unpacking: Semaphore::new(UNPACKING_MAX),
            packer: Packer::new(layout::temporary(&config.directory)),
            sharing: Semaphore::new(SHARING_MAX),
            dropping: Semaphore::new(DROPPING_MAX),
            session: config.session.clone(),
            insecure: config.insecure,
            repeats: Repeats::default(),
            totals: Totals::default(),
            fatal,
        };
        Ok((node, recovery, thread))
    }
}
