//! Loss records on their way to the puller: what it has not acknowledged when it comes, then what is new.
//!
//! Each is told once on a connection, and told again on the next one until the puller has acknowledged it. The
//! acknowledgement is durable here before anything forgets the record.

use std::sync::Arc;
use std::time::Duration;

use tidegate_proto::relay::{LossRecord, Number};
use tidegate_spool::{Id, Loss};
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
    looking: Option<JoinHandle<Vec<Loss>>>,
}

impl Losses {
    pub(super) fn new(node: Arc<Node>) -> Self {
        let mut due = interval(EVERY);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { node, due, told: Vec::new(), last: None, acknowledged: None, looking: None }
    }

    /// The next records to tell, at most `room`. May be dropped and called again.
    pub(super) async fn next(&mut self, room: usize) -> Vec<LossRecord> {
        loop {
            if self.looking.is_none() {
                self.due.tick().await;
                let (node, acknowledged) = (self.node.clone(), self.acknowledged.take());
                self.looking = Some(spawn_blocking(move || look(&node, acknowledged)));
            }
            let Some(looking) = &mut self.looking else { continue };
            let found = looking.await;
            self.looking = None;
            let records = self.choose(&found.unwrap_or_default(), room);
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
        if let Some(looking) = self.looking {
            let _ = looking.await;
        }
        if let Some(acknowledged) = self.acknowledged {
            let _ = spawn_blocking(move || look(&self.node, Some(acknowledged))).await;
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

/// Blocks on the disk. What cannot be recorded as acknowledged is told again on the next connection.
fn look(node: &Node, acknowledged: Option<Number>) -> Vec<Loss> {
    if let Some(upto) = acknowledged
        && let Err(error) = node.spool.acknowledge_losses(Id { run: upto.run, counter: upto.counter })
    {
        warn!(%upto, %error, "that losses were pulled cannot be recorded: see to the disk");
    }
    node.spool.unacknowledged_losses(usize::MAX)
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
