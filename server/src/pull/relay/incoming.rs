//! From what a node sends to packages that can be handed to the pipeline: each body is put together, and compared with
//! the digest that the node announced it with.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tidegate_proto::relay::limits::RECORD_COST;
use tidegate_proto::relay::{Head, Number};

use super::Fault;
use crate::body::{Arrived, Arriving, Digest};
use crate::names::NamePattern;
use crate::pipeline::{Relayed, Trouble, What};
use crate::staging::Staging;

/// A batch ends with the first of these. They bound how long the other sites wait for their turn.
const BATCH_PACKAGES: usize = 1_024;
const BATCH_BYTES: u64 = 16 * 1024 * 1024;

/// What may wait here for its turn, in memory and in the staging directory. Beyond it the bytes of a large body no longer
/// make room for others while they come.
const WAITING_BYTES: u64 = 64 * 1024 * 1024;

/// Times after the year 9999 are mistakes, and a file system may not take them.
const TIME_MAX: Duration = Duration::from_secs(253_402_300_799);

/// Between the modification times of packages that arrived in the same millisecond.
const TIME_STEP: Duration = Duration::from_micros(1);

/// A package that came whole, or is only announced.
#[derive(Debug)]
struct Came {
    relayed: Relayed,
    size: u64,
    /// The credit that is still taken up.
    charge: u64,
}

/// What is handed to the pipeline at once.
#[derive(Debug, Default)]
pub(super) struct Batch {
    came: Vec<Came>,
    /// The credit that it takes up.
    pub(super) charge: u64,
    /// Of the packages that came whole.
    pub(super) count: u64,
    pub(super) bytes: u64,
}

impl Batch {
    pub(super) fn last(&self) -> Option<Number> {
        self.came.last().map(|came| came.relayed.number)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.came.is_empty()
    }

    /// What its packages are called.
    pub(super) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.came.iter().map(|came| came.relayed.name.as_bytes())
    }

    /// Its packages, for the pipeline. What they cost stays.
    pub(super) fn packages(&mut self) -> Vec<Relayed> {
        std::mem::take(&mut self.came).into_iter().map(|came| came.relayed).collect()
    }
}

/// The package that is arriving.
#[derive(Debug)]
struct Current {
    head: Head,
    body: Arriving,
    /// What of its body takes up no credit any more.
    freed: u64,
}

/// What has come and is not in the pipeline yet.
#[derive(Debug)]
pub(super) struct Incoming {
    names: NamePattern,
    staging: Arc<Staging>,
    current: Option<Current>,
    waiting: VecDeque<Came>,
    waiting_bytes: u64,
    /// What was taken for delivery and is not delivered yet.
    leaving_bytes: u64,
    /// How many packages came, and how many of them were taken for delivery.
    came: u64,
    taken: u64,
    /// The last arrival time, and how many packages share it.
    arrival: (i64, u32),
}

impl Incoming {
    pub(super) fn new(names: NamePattern, staging: Arc<Staging>) -> Self {
        Self {
            names,
            staging,
            current: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            leaving_bytes: 0,
            came: 0,
            taken: 0,
            arrival: (i64::MIN, 0),
        }
    }

    pub(super) fn begin(&mut self, head: Head) {
        self.current = Some(Current { head, body: Arriving::new(Arc::clone(&self.staging)), freed: 0 });
    }

    /// Takes the next bytes of the body.
    pub(super) async fn body(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let current = self.current.as_mut().expect("a body has a head before it");
        current.body.write(bytes).await.map_err(unwritten)
    }

    /// The credit of bytes that have gone to their file, unless too much waits already.
    pub(super) fn freed(&mut self) -> u64 {
        let Some(current) = &mut self.current else { return 0 };
        if self.waiting_bytes + self.leaving_bytes > WAITING_BYTES {
            return 0;
        }
        let written = current.body.size() - current.body.in_memory();
        let freed = written - current.freed;
        current.freed = written;
        freed
    }

    /// The body is complete. What differs from its announcement is damaged: it must not be taken for the package.
    pub(super) async fn end(&mut self) -> Result<(), Fault> {
        let Current { head, mut body, freed } = self.current.take().expect("an end has a head before it");
        // Very many may wait, of very many sites.
        body.rest().await.map_err(unwritten)?;
        let body = body.finish();
        if short(&body.digest) != head.digest {
            return Err(Fault::Site(format!(
                "{} ({}) came with other bytes than the node announced ({}): nothing of it was kept, and the node keeps \
                 it. If this comes again, look for damage at the node: tidegate-buffer-node verify",
                head.name, head.number, body.digest
            )));
        }
        let charge = RECORD_COST + head.size - freed;
        let size = head.size;
        let what = self.what(&head, body);
        self.push(head, size, charge, what);
        Ok(())
    }

    /// A package that stays at the node.
    pub(super) fn skipped(&mut self, head: Head) {
        let what = What::Skipped { size: head.size };
        self.push(head, 0, RECORD_COST, what);
    }

    fn what(&self, head: &Head, body: Arrived) -> What {
        if self.names.matches(head.name.as_bytes()) {
            return What::Body(body);
        }
        let reason = "its name is not that of a package here (`names`); the site has deleted it".to_owned();
        What::Unwanted(body, reason)
    }

    fn push(&mut self, head: Head, size: u64, charge: u64, what: What) {
        let modified = self.modified(head.arrival);
        let relayed = Relayed { number: head.number, name: head.name, modified, what };
        self.waiting.push_back(Came { relayed, size, charge });
        self.waiting_bytes += size;
        self.came += 1;
    }

    /// The arrival as modification time, so that packages of one millisecond keep their order.
    fn modified(&mut self, arrival: i64) -> SystemTime {
        let (last, count) = self.arrival;
        self.arrival = (arrival, if last == arrival { (count + 1).min(999) } else { 0 });
        // The same each time it comes, whatever the node's clock shows: by its arrival, too, a repeat is recognised.
        let since = Duration::from_millis(u64::try_from(arrival).unwrap_or(0)).min(TIME_MAX);
        SystemTime::UNIX_EPOCH + since + self.arrival.1 * TIME_STEP
    }

    /// The next batch: what has come so far.
    pub(super) fn take(&mut self) -> Batch {
        let mut batch = Batch::default();
        while batch.came.len() < BATCH_PACKAGES && batch.bytes < BATCH_BYTES {
            let Some(came) = self.waiting.pop_front() else { break };
            batch.count += u64::from(!matches!(came.relayed.what, What::Skipped { .. }));
            batch.bytes += came.size;
            batch.charge += came.charge;
            batch.came.push(came);
            self.taken += 1;
        }
        if self.waiting.is_empty() {
            // An idle site keeps no memory of a busy time.
            self.waiting = VecDeque::new();
        }
        self.waiting_bytes -= batch.bytes;
        self.leaving_bytes = batch.bytes;
        batch
    }

    /// There was no room for a batch: it waits, before what has come since.
    pub(super) fn put_back(&mut self, batch: Batch) {
        self.waiting_bytes += batch.bytes;
        self.taken -= batch.came.len() as u64;
        batch.came.into_iter().rev().for_each(|came| self.waiting.push_front(came));
    }

    /// The last batch that was taken is delivered.
    pub(super) fn delivered(&mut self) {
        self.leaving_bytes = 0;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many packages have come, and how many of them were taken.
    pub(super) fn came(&self) -> u64 {
        self.came
    }

    pub(super) fn taken(&self) -> u64 {
        self.taken
    }
}

fn unwritten(error: io::Error) -> Fault {
    Fault::Here(Trouble::io("cannot write a staged file")(error))
}

/// What a node says of a body.
fn short(digest: &Digest) -> u64 {
    let (first, _) = digest.as_bytes().split_first_chunk().expect("a SHA-256 has more than eight bytes");
    u64::from_be_bytes(*first)
}
