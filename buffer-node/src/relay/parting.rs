//! How a visit ends: what the puller hears, and what the log says about it.

use tidegate_net::{Link, LinkError};
use tidegate_proto::Close;
use tidegate_proto::relay::{CloseCode, Farewell, Hello, Node as Machine};
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::{debug, error, info, warn};

use super::epoch::Refusal;
use super::pullers::Rejected;
use super::stream::{End, Figures};
use super::{Left, Visit};

impl Visit<'_> {
    pub(super) fn reject<S>(&self, link: &mut Link<S, Machine>, epoch: u64, rejected: Rejected) -> Left
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (refusal, held) = match rejected {
            Rejected::Epoch(refusal, held) => (refusal, held),
            Rejected::File(error) => return self.trouble(link, &error),
        };
        let known = held.as_ref().map_or(0, |held| held.epoch);
        let holder = held.map_or_else(|| "nobody yet".to_owned(), |held| held.to_string());
        let (code, why, next) = match refusal {
            Refusal::TooLow => (
                CloseCode::EpochTooLow,
                "its epoch is over",
                "if it is to pull again, run `tidegate-server takeover --site NAME` there; else stop it",
            ),
            Refusal::OfAnother => (
                CloseCode::EpochOfAnother,
                "its epoch is another puller's",
                "if it is to pull from now on, run `tidegate-server takeover --site NAME` there; else stop it",
            ),
            Refusal::Jump => (
                CloseCode::EpochJump,
                "its epoch is more than one ahead",
                "if it is to pull, and nobody else, run `tidegate-buffer-node epoch reset` here",
            ),
        };
        self.node.totals.refused();
        if let Some(line) = self.node.repeats.admit("epoch", self.from.ip()) {
            warn!(
                peer = %self.from, puller = %self.puller, epoch, held = %holder, reason = why, next,
                suppressed = line.suppressed, "a puller was refused"
            );
        }
        link.machine().close(Farewell { code, number: known, text: String::new() });
        Left::Bidding
    }

    pub(super) fn refused(&self, reason: &dyn std::fmt::Display) {
        self.node.totals.refused();
        if let Some(line) = self.node.repeats.admit("refused", self.from.ip()) {
            warn!(peer = %self.from, %reason, suppressed = line.suppressed, "a puller was refused");
        }
    }

    pub(super) fn trouble<S>(&self, link: &mut Link<S, Machine>, error: &dyn std::fmt::Display) -> Left
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if let Some(line) = self.node.repeats.admit("storage", self.from.ip()) {
            error!(peer = %self.from, %error, suppressed = line.suppressed, "a puller cannot be served");
        }
        // Also of one that was welcomed.
        link.machine().close(Farewell::new(CloseCode::Trouble, "the node cannot serve pullers; see its log"));
        Left::Bidding
    }

    pub(super) fn busy<S>(&self, link: &mut Link<S, Machine>) -> Left
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        debug!(peer = %self.from, "too many listings at the same time");
        link.machine()
            .close(Farewell::new(CloseCode::Busy, "other listings are on their way; ask again later"));
        Left::Bidding
    }

    pub(super) fn stopping<S>(&self, link: &mut Link<S, Machine>) -> Left
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        link.machine().close(Farewell::new(CloseCode::Stopping, "the node is stopping"));
        Left::Bidding
    }

    pub(super) fn gone_before_hello(&self, reason: &LinkError) -> Left {
        debug!(peer = %self.from, %reason, "gone before a word of relay");
        Left::Gone
    }

    pub(super) fn gone(&self, reason: &LinkError) -> Left {
        debug!(peer = %self.from, %reason, "closed");
        Left::Gone
    }

    pub(super) fn ended(&self, hello: &Hello, end: &End, figures: Figures) {
        let Figures { sent, sent_bytes, skipped, acknowledged } = figures;
        let (peer, puller, epoch) = (self.from, &self.puller, hello.epoch);
        let (is_fine, reason) = match end {
            End::Link(LinkError::Closed(Close::Farewell(farewell))) => (
                farewell.code != CloseCode::Protocol && farewell.code != CloseCode::Trouble,
                farewell.to_string(),
            ),
            End::Link(LinkError::Closed(close)) => (close.is_clean(), close.to_string()),
            End::Link(error) => (false, error.to_string()),
            End::Reading => (false, "a package cannot be read".to_owned()),
            End::Deletion(error) => (false, format!("packages cannot be deleted: {error}")),
            End::Replaced => (true, "a newer connection has taken the stream".to_owned()),
            End::Stopping => (true, "the node is stopping".to_owned()),
        };
        if is_fine && !hello.standing {
            debug!(%peer, %puller, epoch, sent, sent_bytes, skipped, acknowledged, %reason, "pulled by relay");
        } else if is_fine {
            info!(%peer, %puller, epoch, sent, sent_bytes, skipped, acknowledged, %reason, "pulled by relay: the stream has ended");
        } else if let Some(line) = self.node.repeats.admit("stream", peer.ip()) {
            warn!(
                %peer, %puller, epoch, sent, sent_bytes, skipped, acknowledged, %reason, suppressed = line.suppressed,
                "pulled by relay: the stream has broken off; what was not acknowledged stays"
            );
        }
    }
}
