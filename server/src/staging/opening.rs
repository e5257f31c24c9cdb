//! Opening the staging directory: whether it is the right one, on the right file system, and can be used.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::SystemTime;

use tidegate_spool::durable;

use super::Staging;
use super::owner::{OWNER, Owner, Tie};
use crate::config::Ownership;

/// Why a staging directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StagingError {
    /// Some step failed.
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    /// Wrong file system.
    #[error(
        "the staging directory {staging} is not on the file system of incomingdir {incoming}, so that a package \
         could not be handed over in one step: remove `staging`, or give a directory on the same file system"
    )]
    OtherFileSystem { staging: String, incoming: String },
    /// The ledger counts on files that cannot be here.
    #[error(
        "the ledger has {unfinished} packages whose files lie in the staging directory it used before, and {staging} \
         is not that directory. Is the file system of incomingdir mounted, or was `incomingdir` or `staging` \
         changed? Put it back, start the server once until it has delivered them (and empty the quarantine: \
         `tidegate-server quarantine`), then change it"
    )]
    Replaced { staging: String, unfinished: usize },
    /// What is staged is read again before it is handed over.
    #[error(
        "this server cannot read files with the owner, group and mode that it gives them (incoming_owner, \
         incoming_group, incoming_mode), and it must, to verify each before it is handed over: choose a group that it \
         is in and a mode that lets the group read (\"0640\"), or give it CAP_DAC_READ_SEARCH beside CAP_CHOWN"
    )]
    Unreadable,
    /// Two servers, or a ledger that was lost.
    #[error(
        "the staging directory {staging} belongs to another ledger. Two servers with one incomingdir need a `staging` \
         of their own each; if that other ledger is lost for good, move {staging} away (what is in it was received \
         and never handed on)"
    )]
    Foreign { staging: String },
}

impl Staging {
    /// Makes and checks the directory.
    pub(crate) fn open(
        directory: &Path,
        incoming: &Path,
        ownership: Ownership,
        tie: &Tie,
    ) -> Result<Arc<Self>, StagingError> {
        let unfinished = tie.unfinished;
        let shown = || directory.display().to_string();
        let failed = |what: String| move |source| StagingError::Io { what, source };
        let of_incoming = fs::metadata(incoming)
            .map_err(failed(format!("cannot use incomingdir {}", incoming.display())))?;
        let absent = !directory.exists();
        if absent && unfinished > 0 {
            return Err(StagingError::Replaced { staging: shown(), unfinished });
        }
        if absent {
            // The mode is given to mkdir, not set after it: a set-group-ID bit is inherited from incomingdir.
            DirBuilder::new()
                .mode(0o700)
                .create(directory)
                .and_then(|()| durable::sync_dir(directory.parent().unwrap_or(incoming)))
                .map_err(failed(format!("cannot make the staging directory {}", shown())))?;
        }
        let of_staging = fs::metadata(directory)
            .map_err(failed(format!("cannot use the staging directory {}", shown())))?;
        if of_staging.dev() != of_incoming.dev() {
            return Err(StagingError::OtherFileSystem {
                staging: shown(),
                incoming: incoming.display().to_string(),
            });
        }
        let owner_file = directory.join(OWNER);
        let start = Self::new_mark();
        let owner = match fs::read_to_string(&owner_file) {
            Ok(owner) => Owner::parse(&owner).filter(|owner| owner.ledger == tie.ledger),
            Err(error) if error.kind() == io::ErrorKind::NotFound && unfinished == 0 => {
                Self::tie(directory, &tie.ledger, &start)?;
                Some(Owner { ledger: tie.ledger.clone(), mark: start.clone(), starts: 0 })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StagingError::Replaced { staging: shown(), unfinished });
            }
            Err(error) => return Err(failed(format!("cannot read {}", owner_file.display()))(error)),
        };
        let Some(owner) = owner else {
            return Err(StagingError::Foreign { staging: shown() });
        };
        // Without unfinished packages any directory of this ledger will do.
        if unfinished > 0 && tie.mark.as_ref() != Some(&owner.mark) {
            return Err(StagingError::Replaced { staging: shown(), unfinished });
        }
        let staging = Arc::new(Self {
            directory: directory.to_owned(),
            ownership,
            owner,
            start,
            counter: AtomicU64::new(0),
        });
        if staging.can_read_back() { Ok(staging) } else { Err(StagingError::Unreadable) }
    }

    /// Whether a dressed file can be read. What keeps one from being made is told when the first is needed.
    fn can_read_back(self: &Arc<Self>) -> bool {
        let Ok(file) = self.create() else { return true };
        if file.dress(SystemTime::now()).is_err() {
            return true;
        }
        !File::open(file.path()).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    }
}
