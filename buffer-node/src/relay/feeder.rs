//! Packages on their way from the disk to a stream: claimed in the order of arrival, read and compared with their digests
//! off the runtime's threads, several ahead of the one that is being sent.
//!
//! Small packages are read whole, a group of them by one thread and several groups at the same time, so that the latency
//! of a disk does not add up. A larger one is compared first, in one pass, and then read again as it is sent. What is
//! damaged leaves the spool as it does in `handover`, and nothing is said of it: the numbers go on behind it. What cannot
//! be looked at ends the stream, because a puller would take a package that comes later for one it has.
//!
//! The order is kept by the channel: it carries the groups as they were begun, read or not. It also bounds what is in
//! memory, to [`GROUPS_AHEAD`] and two more groups of [`GROUP_BYTES`], give or take a package. A feeder that has come to
//! the end holds nothing.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tidegate_proto::relay::Head;
use tidegate_proto::{Escaped, Name};
use tidegate_spool::{Lease, Next, Package};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;
use tracing::{debug, error};

use super::pullers::Hold;
use super::{millis, number};
use crate::handover::{HandoverError, open_claimed, read_claimed};
use crate::node::Node;

/// A package of at most this size is read whole.
const WHOLE_MAX: u64 = 256 * 1024;

/// Bytes and packages that one thread reads at a time. A group of more than either ends with the package that is over it.
const GROUP_BYTES: u64 = 256 * 1024;
const GROUP_MAX: usize = 32;

/// Groups that are read, or wait to be sent. Beyond it nothing more is claimed.
const GROUPS_AHEAD: usize = 8;

/// Packages claimed at once.
const CLAIM_MAX: usize = 256;

/// Between two looks at a package that another connection has claimed.
const CLAIMED_PAUSE: Duration = Duration::from_millis(50);

/// What comes next.
pub(super) enum Fed {
    /// A package with its bytes.
    Whole(Head, Lease, Vec<u8>),
    /// A package that was compared, to be read.
    Large(Head, Lease, File),
    /// A package that is larger than the puller takes. It is not claimed any more.
    TooLarge(Head),
    /// That was all for now.
    Dry,
    /// There are more, but not at the moment.
    Paused,
    /// The next package cannot be looked at: nothing follows. It was told.
    Failed,
}

/// What comes next, or is being read. What keeps the stream is dropped after the claims.
enum Ahead {
    Group(JoinHandle<(Vec<Fed>, Hold)>),
    Dry,
    Paused,
}

/// Feeds one stream. Dropping it gives up what was not taken.
pub(super) struct Feeder {
    ahead: mpsc::Receiver<Ahead>,
    next: Option<Ahead>,
}

impl Feeder {
    /// Begins with the oldest package.
    pub(super) fn start(node: Arc<Node>, max_package: u64, hold: Hold) -> Self {
        let (groups, ahead) = mpsc::channel(GROUPS_AHEAD);
        tokio::spawn(feed(node, max_package, groups, hold));
        Self { ahead, next: None }
    }

    /// What comes next; nothing where all of a group was damaged. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Vec<Fed> {
        if self.next.is_none() {
            self.next = self.ahead.recv().await;
        }
        let fed = match &mut self.next {
            Some(Ahead::Group(reading)) => {
                reading.await.map_or_else(|_| vec![Fed::Failed], |(fed, _hold)| fed)
            }
            Some(Ahead::Dry) => vec![Fed::Dry],
            Some(Ahead::Paused) => vec![Fed::Paused],
            // A thread that reads has crashed, and said so.
            None => vec![Fed::Failed],
        };
        self.next = None;
        fed
    }
}

/// Ends when nobody takes anything any more.
async fn feed(node: Arc<Node>, max_package: u64, groups: mpsc::Sender<Ahead>, hold: Hold) {
    tokio::select! {
        () = claim_all(&node, max_package, &groups, &hold) => {}
        () = groups.closed() => {}
    }
}

async fn claim_all(node: &Arc<Node>, max_package: u64, groups: &mpsc::Sender<Ahead>, hold: &Hold) {
    let mut stream = node.spool.stream();
    let mut news = node.committer.news();
    let mut pausing = false;
    loop {
        // Seen before the look at the spool, so that what is stored after that look is news.
        news.borrow_and_update();
        let held = hold.clone();
        let claimed = spawn_blocking(move || {
            let next = stream.next(CLAIM_MAX);
            (next, stream, held)
        });
        let Ok((next, same, _held)) = claimed.await else { return };
        stream = same;
        let told = match next {
            Next::Packages(leases) => {
                pausing = false;
                for group in in_groups(leases) {
                    // The place first: what waits for one is not read yet.
                    let Ok(place) = groups.reserve().await else { return };
                    let (node, hold) = (node.clone(), hold.clone());
                    let reading = spawn_blocking(move || (read(&node, group, max_package), hold));
                    place.send(Ahead::Group(reading));
                }
                continue;
            }
            Next::Dry => {
                pausing = false;
                groups.send(Ahead::Dry).await.is_ok() && news.changed().await.is_ok()
            }
            Next::Claimed if pausing => {
                sleep(CLAIMED_PAUSE).await;
                continue;
            }
            Next::Claimed => {
                debug!("the next package is claimed by another connection");
                pausing = true;
                groups.send(Ahead::Paused).await.is_ok()
            }
        };
        if !told {
            return;
        }
    }
}

/// Consecutive packages that one thread reads.
fn in_groups(leases: Vec<Lease>) -> Vec<Vec<Lease>> {
    let mut groups: Vec<Vec<Lease>> = Vec::new();
    let mut bytes = GROUP_BYTES;
    for lease in leases {
        let size = lease.package().size;
        match groups.last_mut() {
            Some(group) if bytes < GROUP_BYTES && group.len() < GROUP_MAX => {
                bytes += size;
                group.push(lease);
            }
            _ => {
                bytes = size;
                groups.push(vec![lease]);
            }
        }
    }
    groups
}

/// Blocks on the disk.
fn read(node: &Node, group: Vec<Lease>, max_package: u64) -> Vec<Fed> {
    let mut fed = Vec::with_capacity(group.len());
    for lease in group {
        let (name, id) = (lease.package().listed_name.clone(), lease.package().id);
        match read_one(node, lease, max_package) {
            Ok(it) => fed.push(it),
            // It was told as it was set aside.
            Err(HandoverError::Damaged | HandoverError::NotFound) => {}
            Err(error) => {
                error!(
                    name = %Escaped(&name), %id, %error,
                    "a package cannot be read, and those behind it have to wait: check the disk, and that the node's user \
                     may read the file"
                );
                fed.push(Fed::Failed);
                break;
            }
        }
    }
    fed
}

fn read_one(node: &Node, lease: Lease, max_package: u64) -> Result<Fed, HandoverError> {
    let head = head(lease.package())?;
    if head.size > max_package {
        return Ok(Fed::TooLarge(head));
    }
    if head.size <= WHOLE_MAX {
        return read_claimed(node, lease).map(|(bytes, lease)| Fed::Whole(head, lease, bytes));
    }
    open_claimed(node, lease).map(|(file, lease)| Fed::Large(head, lease, file))
}

fn head(package: &Package) -> Result<Head, HandoverError> {
    let name = Name::parse_listed(&package.listed_name)
        .map_err(|error| HandoverError::Disk(io::Error::other(format!("its name: {error}"))))?;
    Ok(Head {
        number: number(package.id),
        arrival: millis(package.arrival),
        size: package.size,
        digest: package.digest,
        name,
    })
}
