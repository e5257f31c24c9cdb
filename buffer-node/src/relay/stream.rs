//! One puller's stream: what the feeder has read goes out as the puller's credit allows, what the puller acknowledges is
//! deleted, and in between the two ends tell each other how they are.
//!
//! All of it happens side by side: a slow disk, a slow deletion or a slow peer delays only its own part. What the puller
//! can make this end hold is bounded: claimed packages by a bound on what is in flight or waits to be deleted (it may
//! acknowledge faster than a disk deletes) and by what the feeder reads ahead, memory by the same reading ahead; an idle stream holds neither.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tidegate_net::shutdown::Shutdown;
use tidegate_net::{Link, LinkError};
use tidegate_proto::relay::limits::IN_FLIGHT_MAX;
use tidegate_proto::relay::{CloseCode, Farewell, Node as Machine, NodeEvent};
use tidegate_spool::sabotage::{self, Switch};
use tidegate_spool::{Id, Lease};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};
use tracing::error;

use super::deletions::Deletions;
use super::feeder::{Fed, Feeder};
use super::losses::Losses;
use super::number;
use super::pullers::Place;
use super::sending::Sending;
use super::status::Reports;
use crate::committer::StoreError;
use crate::node::Node;

/// Body bytes given to the machine before other work has its turn: about a millisecond of compression.
const SLICE: usize = 256 * 1024;

/// What a package costs of a slice beside its bytes.
const PACKAGE_COST: usize = 1024;

/// How long a stream that must end waits for acknowledgements of what was sent, and for deletions.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What one stream came to.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Figures {
    pub(super) sent: u64,
    pub(super) sent_bytes: u64,
    /// Larger than the puller takes.
    pub(super) skipped: u64,
    pub(super) acknowledged: u64,
}

/// Why a stream is over.
pub(super) enum End {
    Link(LinkError),
    /// A package cannot be read. It was told.
    Reading,
    Deletion(StoreError),
    Replaced,
    Stopping,
}

impl From<LinkError> for End {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

/// A stream on its way.
pub(super) struct Stream<'a, S> {
    link: &'a mut Link<S, Machine>,
    place: Place,
    feeder: Feeder,
    /// Read, and not begun.
    ready: VecDeque<Fed>,
    sending: Option<Sending>,
    /// Sent, and not acknowledged, in order.
    in_flight: VecDeque<Lease>,
    deletions: Deletions,
    losses: Losses,
    reports: Reports,
    figures: Figures,
    /// Nothing more can be sent; the stream ends when what was sent is gone, or then.
    ending: Option<Instant>,
}

/// Why nothing more is given to the machine.
#[derive(PartialEq, Eq)]
enum Pumped {
    /// Others have their turn.
    Slice,
    /// There is nothing, or no room for it.
    All,
}

impl<'a, S> Stream<'a, S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// Begins with the oldest package.
    pub(super) fn new(
        node: &Arc<Node>,
        link: &'a mut Link<S, Machine>,
        place: Place,
        max_package: u64,
    ) -> Self {
        Self {
            feeder: Feeder::start(node.clone(), max_package, place.hold()),
            deletions: Deletions::new(node.clone(), place.hold()),
            losses: Losses::new(node.clone()),
            reports: Reports::new(node.clone()),
            ready: VecDeque::new(),
            sending: None,
            in_flight: VecDeque::new(),
            figures: Figures::default(),
            ending: None,
            place,
            link,
        }
    }

    /// Runs until something ends it. What was acknowledged is deleted when it returns, and nothing is claimed.
    pub(super) async fn run(mut self, shutdown: &Shutdown) -> (End, Figures) {
        let end = loop {
            if let Err(end) = self.turn(shutdown).await {
                break end;
            }
        };
        let farewell = match &end {
            End::Link(_) => None,
            End::Reading => Some((CloseCode::Trouble, "a package cannot be read; see the node's log")),
            End::Deletion(_) => Some((CloseCode::Trouble, "packages cannot be deleted; see the node's log")),
            End::Replaced => Some((CloseCode::Replaced, "a newer connection has taken the stream")),
            End::Stopping => Some((CloseCode::Stopping, "the node is stopping")),
        };
        // A peer that takes nothing any more must not keep the claims: they go first, the farewell comes last.
        let Self { feeder, ready, sending, mut in_flight, mut deletions, losses, link, figures, .. } = self;
        if sabotage::breaks(Switch::DeleteUnacknowledged)
            && farewell.is_none()
            && let Some(last) = in_flight.back().map(|lease| lease.package().id)
        {
            deletions.add(in_flight.drain(..), last);
        }
        drop((feeder, ready, sending, in_flight));
        while !deletions.is_idle() {
            match deletions.done().await {
                Ok(upto) if farewell.is_some() => link.machine().deleted(number(upto)),
                Ok(_) => {}
                Err(error) => error!(%error, "acknowledged packages could not be deleted, they stay"),
            }
        }
        losses.finish().await;
        if let Some((code, text)) = farewell {
            link.machine().close(Farewell::new(code, text));
        }
        (end, figures)
    }

    /// Does what there is to do, and waits for one thing to happen.
    async fn turn(&mut self, shutdown: &Shutdown) -> Result<(), End> {
        let pumped = self.pump();
        let hungry = self.ready.is_empty() && self.ending.is_none();
        let losses_room = self.link.machine().losses_room();
        tokio::select! {
            biased;
            () = shutdown.draining() => return Err(End::Stopping),
            () = self.place.taken() => return Err(End::Replaced),
            done = self.deletions.done() => {
                let upto = done.map_err(End::Deletion)?;
                self.link.machine().deleted(number(upto));
            }
            event = self.link.next() => self.handle(event?),
            fed = self.feeder.next(), if hungry => self.ready.extend(fed),
            read = Sending::read_on(self.sending.as_mut()) => read.map_err(|error| {
                error!(%error, "a package that is being pulled cannot be read on: check the disk");
                End::Reading
            })?,
            report = self.reports.next() => self.link.machine().status(&report),
            records = self.losses.next(losses_room) => self.link.machine().losses(&records),
            () = sleep_until(self.ending.unwrap_or_else(Instant::now)), if self.ending.is_some() => {
                return Err(End::Reading);
            }
            () = yield_now(), if pumped == Pumped::Slice => {}
        }
        match self.ending {
            Some(_) if self.in_flight.is_empty() && self.deletions.is_idle() => Err(End::Reading),
            _ => Ok(()),
        }
    }

    fn handle(&mut self, event: NodeEvent) {
        match event {
            NodeEvent::Acked(upto) => {
                let upto = Id { run: upto.run, counter: upto.counter };
                let acked = self.in_flight.partition_point(|lease| lease.package().id <= upto);
                self.figures.acknowledged += acked as u64;
                self.deletions.add(self.in_flight.drain(..acked), upto);
            }
            NodeEvent::LossesAcked(upto) => self.losses.acknowledged(upto),
            // What can be sent is looked at anyway; the others are not for a stream that has begun.
            NodeEvent::Room | NodeEvent::Hello(_) | NodeEvent::List | NodeEvent::Shared(_) => {}
        }
    }

    /// Gives the machine what it takes now.
    fn pump(&mut self) -> Pumped {
        let mut left = SLICE;
        while left > 0 {
            let now = self.link.now();
            match &mut self.sending {
                Some(sending) if !sending.is_done() => {
                    let machine = self.link.machine();
                    let part = sending.unsent().len().min(machine.room(now)).min(left);
                    if part == 0 {
                        return Pumped::All;
                    }
                    machine.write(&sending.unsent()[..part], now);
                    sending.sent(part);
                    left -= part;
                }
                Some(_) => self.finish(),
                None => {
                    if !self.begin() {
                        return Pumped::All;
                    }
                    left = left.saturating_sub(PACKAGE_COST);
                }
            }
        }
        // What went whole may be acknowledged as soon as the link is driven again.
        if self.sending.as_ref().is_some_and(Sending::is_done) {
            self.finish();
        }
        Pumped::Slice
    }

    /// All of a package was given to the machine.
    fn finish(&mut self) {
        if let Some(sent) = self.sending.take() {
            let lease = sent.into_lease();
            self.figures.sent += 1;
            self.figures.sent_bytes += lease.package().size;
            self.in_flight.push_back(lease);
        }
    }

    /// Begins with what is ready; `false` when there is nothing, or no room.
    fn begin(&mut self) -> bool {
        let now = self.link.now();
        let machine = self.link.machine();
        let may_begin = match self.ready.front() {
            None => return false,
            Some(Fed::Whole(..) | Fed::Large(..) | Fed::TooLarge(_)) => {
                self.in_flight.len() + self.deletions.waiting() < IN_FLIGHT_MAX && machine.may_begin(now)
            }
            Some(Fed::Dry | Fed::Paused | Fed::Failed) => true,
        };
        if !may_begin {
            return false;
        }
        match self.ready.pop_front() {
            None => return false,
            Some(Fed::Whole(head, lease, bytes)) => {
                machine.begin(&head, now);
                self.sending = Some(Sending::whole(lease, bytes));
            }
            Some(Fed::Large(head, lease, file)) => {
                machine.begin(&head, now);
                self.sending = Some(Sending::large(lease, file));
            }
            Some(Fed::TooLarge(head)) => {
                machine.skip(&head, now);
                self.figures.skipped += 1;
            }
            Some(Fed::Dry) => machine.dry(now),
            Some(Fed::Paused) => machine.pause(now),
            Some(Fed::Failed) => {
                machine.pause(now);
                self.ready.clear();
                self.ending = Some(Instant::now() + LAST_WORDS);
            }
        }
        true
    }
}
