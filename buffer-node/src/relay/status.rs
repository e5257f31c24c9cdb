//! What the node tells its puller about itself: at once, then every ten seconds, and soon after an agent has changed a
//! shared file.

use std::future::pending;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use tidegate_proto::relay::Status;
use tidegate_spool::DeadLetters;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};
use tracing::warn;

use crate::layout;
use crate::node::Node;

/// The time between two reports.
const EVERY: Duration = Duration::from_secs(10);

/// How long after an upload of a shared file there is one more report. What comes meanwhile is in it.
const SOON: Duration = Duration::from_millis(500);

/// The reports of one stream.
pub(super) struct Reports {
    node: Arc<Node>,
    due: Interval,
    uploads: Option<watch::Receiver<()>>,
    /// When the report of an upload is due.
    uploaded: Option<Instant>,
    making: Option<JoinHandle<Status>>,
}

impl Reports {
    pub(super) fn new(node: Arc<Node>) -> Self {
        let mut due = interval(EVERY);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { due, uploads: node.shared.changes(), uploaded: None, making: None, node }
    }

    /// The next one. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Status {
        loop {
            if self.making.is_none() {
                tokio::select! {
                    _ = self.due.tick() => {}
                    () = soon_after(&mut self.uploads, &mut self.uploaded) => {}
                }
                self.uploaded = None;
                let (node, looking) = (self.node.clone(), self.node.clone());
                self.making = Some(spawn_blocking(move || of(&node)));
                // May take minutes, and no report waits for it: what it finds makes one more.
                drop(spawn_blocking(move || look_around(&looking)));
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

/// Completes a while after an upload. May be dropped and called again with the same two.
async fn soon_after(uploads: &mut Option<watch::Receiver<()>>, uploaded: &mut Option<Instant>) {
    let Some(uploads) = uploads else { return pending().await };
    let at = match *uploaded {
        Some(at) => at,
        None => match uploads.changed().await {
            Ok(()) => *uploaded.insert(Instant::now() + SOON),
            Err(_) => return pending().await,
        },
    };
    sleep_until(at).await;
}

fn look_around(node: &Node) {
    if let Err(error) = node.shared.look_around()
        && let Some(line) = node.repeats.admit("shared sign", IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    {
        let suppressed = line.suppressed;
        warn!(%error, suppressed, "shared files cannot be looked at, so they are not synced: check their directories");
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
        shared_sign: node.shared.sign(),
    }
}

fn since_1970(time: SystemTime) -> u64 {
    u64::try_from(super::millis(time)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    /// Long before the next regular one; and a wait that is given up, as a select does, loses nothing.
    #[tokio::test]
    async fn an_upload_is_reported_without_waiting_for_the_next_report() {
        let (uploads, receiver) = watch::channel(());
        let (mut receiver, mut uploaded) = (Some(receiver), None);
        let nothing = async |receiver: &mut _, uploaded: &mut _, patience| {
            tokio::select! {
                () = soon_after(receiver, uploaded) => false,
                () = sleep(patience) => true,
            }
        };
        assert!(nothing(&mut receiver, &mut uploaded, SOON * 2).await, "there was no upload");
        uploads.send_replace(());
        assert!(nothing(&mut receiver, &mut uploaded, Duration::ZERO).await);
        assert!(!nothing(&mut receiver, &mut uploaded, EVERY).await);
        uploaded = None;
        assert!(nothing(&mut receiver, &mut uploaded, SOON * 2).await, "it was reported");
        assert!(nothing(&mut None, &mut uploaded, SOON * 2).await, "without `sync_shared`");
    }
}
