//! Loss records on their way to the puller: what it has not acknowledged when it comes, then what is new.
//!
//! Each is told once on a connection, and told again on the next one until the puller has acknowledged it. The
//! acknowledgement is durable here before anything forgets the record.

use std::sync::Arc;
use std::time::Duration;

use tidegate_proto::relay::{LossRecord, Number};
use tidegate_spool::{DiskError, Id, Loss};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::warn;

use super::{millis, number};
use crate::node::Node;

/// Records told and not acknowledged. The rest waits.
const IN_FLIGHT_MAX: usize = 256;

/// The time between two looks for new ones.
const EVERY: Duration = Duration::from_secs(2);

/// The losses of one stream.
pub(super) struct Losses {
    node: Arc<Node>,
    due: Interval,
    /// Told, and not acknowledged.
    told: Vec<Number>,
    /// The last that was told.
    last: Option<Number>,
    /// Acknowledged, and not yet durably so.
    acknowledged: Option<Number>,
    looking: Option<Looking>,
    /// The disk's refusal was told.
    complained: bool,
}

/// What is being made durable, and what was found then.
struct Looking {
    acknowledged: Option<Number>,
    found: JoinHandle<Found>,
}

/// The records that are not acknowledged, or why an acknowledgement could not be recorded.
type Found = (Result<(), DiskError>, Vec<Loss>);

impl Losses {
    pub(super) fn new(node: Arc<Node>) -> Self {
        let mut due = interval(EVERY);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { node, due, told: Vec::new(), last: None, acknowledged: None, looking: None, complained: false }
    }

    /// The next records to tell, at most `room`. May be dropped and called again.
    pub(super) async fn next(&mut self, room: usize) -> Vec<LossRecord> {
        loop {
            if self.looking.is_none() {
                self.due.tick().await;
                let (node, acknowledged) = (self.node.clone(), self.acknowledged.take());
                let found = spawn_blocking(move || look(&node, acknowledged));
                self.looking = Some(Looking { acknowledged, found });
            }
            let Some(looking) = &mut self.looking else { continue };
            let (asked, found) = (looking.acknowledged, (&mut looking.found).await);
            self.looking = None;
            let Ok((recorded, found)) = found else {
                self.acknowledged = self.acknowledged.max(asked);
                continue;
            };
            match recorded {
                Ok(()) => self.complained = false,
                Err(error) => {
                    // Once more with the next look. What came meanwhile covers it.
                    self.acknowledged = self.acknowledged.max(asked);
                    if !std::mem::replace(&mut self.complained, true) {
                        unrecorded(&error);
                    }
                }
            }
            let records = self.choose(&found, room);
            if !records.is_empty() {
                return records;
            }
        }
    }

    /// The puller has made everything up to that record durable.
    pub(super) fn acknowledged(&mut self, upto: Number) {
        self.told.retain(|told| *told > upto);
        self.acknowledged = Some(upto);
        // There may be more than were told.
        self.due.reset_immediately();
    }

    /// Makes durable what was acknowledged.
    pub(super) async fn finish(self) {
        let mut acknowledged = self.acknowledged;
        if let Some(looking) = self.looking
            && !matches!(looking.found.await, Ok((Ok(()), _)))
        {
            acknowledged = acknowledged.max(looking.acknowledged);
        }
        if acknowledged.is_some() {
            let looked = spawn_blocking(move || look(&self.node, acknowledged)).await;
            if let Ok((Err(error), _)) = looked
                && !self.complained
            {
                unrecorded(&error);
            }
        }
    }

    fn choose(&mut self, found: &[Loss], room: usize) -> Vec<LossRecord> {
        let room = room.min(IN_FLIGHT_MAX.saturating_sub(self.told.len()));
        let new = found.iter().map(record).filter(|record| Some(record.number) > self.last);
        let records: Vec<LossRecord> = new.take(room).collect();
        self.last = records.last().map(|record| record.number).or(self.last);
        self.told.extend(records.iter().map(|record| record.number));
        records
    }
}

/// Blocks on the disk.
fn look(node: &Node, acknowledged: Option<Number>) -> Found {
    let recorded = match acknowledged {
        Some(upto) => node.spool.acknowledge_losses(Id { run: upto.run, counter: upto.counter }),
        None => Ok(()),
    };
    (recorded, node.spool.unacknowledged_losses(usize::MAX))
}

/// What is not recorded by the end of the connection is told again on the next one.
fn unrecorded(error: &DiskError) {
    warn!(%error, "that losses were pulled cannot be recorded yet: see to the disk");
}

fn record(loss: &Loss) -> LossRecord {
    LossRecord {
        number: number(loss.id),
        class: loss.class.to_string(),
        reason: loss.reason.code(),
        packages: loss.packages,
        bytes: loss.bytes,
        first: millis(loss.first),
        last: millis(loss.last),
    }
}
