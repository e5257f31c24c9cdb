//! What the node tells its puller about itself, at once and then every ten seconds.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use tidegate_proto::relay::Status;
use tidegate_spool::DeadLetters;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::layout;
use crate::node::Node;

/// The time between two reports.
const EVERY: Duration = Duration::from_secs(10);

/// The reports of one stream.
pub(super) struct Reports {
    node: Arc<Node>,
    due: Interval,
    making: Option<JoinHandle<Status>>,
}

impl Reports {
    pub(super) fn new(node: Arc<Node>) -> Self {
        let mut due = interval(EVERY);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { node, due, making: None }
    }

    /// The next one. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Status {
        loop {
            if self.making.is_none() {
                self.due.tick().await;
                let node = self.node.clone();
                self.making = Some(spawn_blocking(move || of(&node)));
            }
            let Some(making) = &mut self.making else { return pending().await };
            let made = making.await;
            self.making = None;
            if let Ok(status) = made {
                return status;
            }
        }
    }
}

/// As it is now. Asks the disk.
fn of(node: &Node) -> Status {
    let usage = node.spool.usage();
    let totals = node.totals.traffic();
    let rates = node.rates.until(totals);
    let free =
        rustix::fs::statvfs(&node.root).ok().map(|space| space.f_bavail.saturating_mul(space.f_frsize));
    let letters = DeadLetters::of(&layout::spool(&node.root)).count().ok();
    Status {
        packages: Some(usage.files),
        bytes: Some(usage.bytes),
        oldest_arrival: usage.oldest.map(since_1970),
        intake_packages: Some(totals.stored),
        intake_bytes: Some(totals.stored_bytes),
        drained_packages: Some(totals.deleted),
        drained_bytes: Some(totals.deleted_bytes),
        intake_rate: Some(rates.intake),
        drain_rate: Some(rates.drain),
        free_bytes: free,
        max_packages: Some(usage.max_files),
        max_bytes: Some(usage.max_bytes),
        reserve_bytes: Some(usage.reserve_bytes),
        refused: Some(totals.refused),
        dropped: Some(usage.dropped),
        held_back: letters,
        connections: Some(node.connections.load(Ordering::Relaxed)),
        max_connections: Some(node.max_connections),
        cert_expiry: node.cert_expiry,
        started: Some(since_1970(node.started)),
        clock: Some(since_1970(SystemTime::now())),
        limits_hit: Some(node.limits_hit.lately()),
        shared_sign: None,
    }
}

fn since_1970(time: SystemTime) -> u64 {
    u64::try_from(super::millis(time)).unwrap_or_default()
}
