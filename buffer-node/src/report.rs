//! What the log says about one connection: who, what, why, and not more often than [`crate::repeats`] allows.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;

use tidegate_proto::{Escaped, Quoted, Reason, Verb};
use tidegate_spool::LossReason;
use tracing::{debug, error, info, warn};

use crate::handover::HandoverError;
use crate::intake::IntakeError;
use crate::node::Node;

/// The class of shared files in loss records.
pub(crate) const SHARED_CLASS: &str = "shared";

/// The log's view of a connection.
pub(crate) struct Report {
    node: Arc<Node>,
    pub(crate) peer: SocketAddr,
}

impl Report {
    pub(crate) fn new(node: Arc<Node>, peer: SocketAddr) -> Self {
        Self { node, peer }
    }

    /// The peer was told no.
    pub(crate) fn refused(&self, verb: Verb, name: &[u8], reason: &dyn Display) {
        self.node.totals.refused();
        if let Some(line) = self.node.repeats.admit("refused", self.peer.ip()) {
            let (name, suppressed) = (Quoted(name), line.suppressed);
            warn!(peer = %self.peer, %verb, %name, %reason, suppressed, "refused");
        }
    }

    /// A file could not be taken: the log says so, and a loss record.
    pub(crate) fn not_taken(&self, verb: Verb, name: &[u8], size: u64, error: &IntakeError) {
        if error.is_ours() {
            self.storage_failed(verb, name, error);
        } else if let Some(remedy) = error.remedy() {
            self.refused(verb, name, &format_args!("{error}; {remedy}"));
        } else {
            self.refused(verb, name, error);
        }
        if let Some(reason) = error.loss() {
            self.lost(name, size, reason);
        }
    }

    /// The protocol has refused something. If it was a file, that is a loss.
    pub(crate) fn lost_offer(&self, verb: Verb, name: &[u8], size: Option<u64>, reason: Reason) {
        let reason = match reason {
            Reason::TooBig => LossReason::TooBig,
            Reason::InvalidName => LossReason::BadName,
            Reason::Exists | Reason::NotFound | Reason::StorageFull | Reason::Bare => return,
        };
        if matches!(verb, Verb::Send | Verb::ZSend) {
            self.lost(name, size.unwrap_or(0), reason);
        }
    }

    fn lost(&self, name: &[u8], size: u64, reason: LossReason) {
        let shared = self.node.filters.directory_of(name).is_some();
        let class = if shared { SHARED_CLASS } else { self.node.spool.class_of(name) };
        self.node.limits_hit.hit(reason.code());
        self.node.spool.refused(class, reason, size);
    }

    /// A name that looks like data was kept as a shared file. The stock server does so too, but nobody pulls it.
    pub(crate) fn data_kept_as_shared(&self, name: &[u8], directory: &str) {
        if let Some(line) = self.node.repeats.admit("data kept as shared", self.peer.ip()) {
            let (name, suppressed) = (Escaped(name), line.suppressed);
            warn!(
                peer = %self.peer, %name, directory, suppressed,
                "a data file became a shared file and will not reach the pipeline: a filter matches inside its name; \
                 end the expression with `$`, as in `.*\\.conf$:conf`"
            );
        }
    }

    /// A file could not be given out.
    pub(crate) fn not_given(&self, verb: Verb, name: &[u8], error: &HandoverError) {
        match error {
            // Agents ask at every interval for files that nobody has written yet.
            // What is damaged was logged as it was set aside.
            HandoverError::NotFound | HandoverError::Damaged => {
                debug!(peer = %self.peer, %verb, name = %Escaped(name), reason = %error, "no such file");
            }
            HandoverError::Disk(_) => self.storage_failed(verb, name, error),
            HandoverError::Leased | HandoverError::NotPacked => self.refused(verb, name, error),
        }
    }

    /// The connection ended where it should not; `name` is the file that was in flight.
    pub(crate) fn broken_off(&self, name: Option<&[u8]>, reason: &dyn Display) {
        if let Some(line) = self.node.repeats.admit("broken off", self.peer.ip()) {
            let name = name.map(|name| Escaped(name).to_string());
            warn!(peer = %self.peer, name, %reason, suppressed = line.suppressed, "connection broken off");
        }
    }

    /// The connection ended before its peer had proved that it read a moved package.
    pub(crate) fn moved_package_stays(&self, name: &[u8], reason: &dyn Display) {
        if let Some(line) = self.node.repeats.admit("moved package stays", self.peer.ip()) {
            let (name, suppressed) = (Escaped(name), line.suppressed);
            warn!(
                peer = %self.peer, %name, %reason, suppressed,
                "a moved package stays: its reader did not prove that it has it"
            );
        }
    }

    /// The peer said nothing for too long. Agents that keep a connection open for later do so all day.
    pub(crate) fn idle(&self, reason: &dyn Display) {
        if let Some(line) = self.node.repeats.admit("idle", self.peer.ip()) {
            info!(peer = %self.peer, %reason, suppressed = line.suppressed, "closed");
        }
    }

    fn storage_failed(&self, verb: Verb, name: &[u8], error: &dyn Display) {
        self.node.totals.refused();
        if let Some(line) = self.node.repeats.admit("storage", self.peer.ip()) {
            let (name, suppressed) = (Escaped(name), line.suppressed);
            error!(peer = %self.peer, %verb, %name, %error, suppressed, "the storage failed");
        }
    }
}
