//! What all connections of one node share, and how it is put together at start.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use tidegate_net::certificate::Certificate;
use tidegate_net::pem;
use tidegate_proto::{ResponderSettings, limits};
use tidegate_spool::{OpenError, Recovery, Spool};
use tokio::sync::Semaphore;

use crate::committer::Committer;
use crate::config::Config;
use crate::fatal::Fatal;
use crate::filters::Filters;
use crate::layout;
use crate::limits_hit::LimitsHit;
use crate::memory::Budget;
use crate::packer::Packer;
use crate::rates::Rates;
use crate::relay::Pullers;
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
    pub(crate) pullers: Pullers,
    /// How long a puller may take for its first word.
    pub(crate) greeting: Duration,
    /// The name in its certificate, if any.
    pub(crate) name: String,
    /// When its certificate expires, in seconds since 1970.
    pub(crate) cert_expiry: Option<u64>,
    /// The storage root.
    pub(crate) root: PathBuf,
    pub(crate) started: SystemTime,
    /// Open now.
    pub(crate) connections: AtomicU64,
    pub(crate) max_connections: u64,
    pub(crate) rates: Rates,
    pub(crate) limits_hit: LimitsHit,
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
        let (overwrite, sync) = (config.overwrite, config.sync_shared.as_ref());
        let shared =
            Shared::open(&config.directory, &config.filters, overwrite, config.shared, sync, fatal.clone())
                .map_err(StartError::Shared)?;
        let (committer, thread) =
            Committer::start(spool.clone(), fatal.clone()).map_err(StartError::Thread)?;
        let own = config.tls.as_ref().and_then(|files| certificate(&files.cert));
        let identity = own.as_ref().and_then(|own| own.identity.as_ref().ok().and_then(Option::as_ref));
        let node = Self {
            pullers: Pullers::new(layout::epoch(&config.directory), fatal.clone()),
            greeting: config.handshake,
            name: identity.map(|identity| identity.name().to_owned()).unwrap_or_default(),
            cert_expiry: own.as_ref().and_then(|own| own.not_after.0.try_into().ok()),
            root: config.directory.clone(),
            started: SystemTime::now(),
            connections: AtomicU64::new(0),
            max_connections: config.listen.limits.total as u64,
            rates: Rates::default(),
            limits_hit: LimitsHit::default(),
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

/// What the own certificate says. The handshakes find out whether it is any good.
fn certificate(file: &Path) -> Option<Certificate> {
    pem::certificates(file).ok().and_then(|chain| Certificate::read(chain.first()?).ok())
}
