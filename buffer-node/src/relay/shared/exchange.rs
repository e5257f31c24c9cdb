//! Works on the requests of one puller. Everything here blocks on the disk.
//!
//! Before each request the epoch is decided on again, so that a connection does not outlive its own. A name is looked
//! up among those that the node shares, whatever the puller says of it; what it cannot have is refused with words, and costs
//! no other name anything.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use tidegate_proto::relay::limits::SHARED_PART;
use tidegate_proto::relay::{ContentState, SharedAnswer, SharedItem, SharedOutcome, SharedRequest};
use tidegate_proto::{Escaped, Name};
use tidegate_spool::shared::Digest;
use tracing::{debug, warn};

use crate::node::Node;
use crate::relay::pullers::{Hold, Rejected};
use crate::shared::{Begun, Coming, Order, Outcome, PlaceError};

/// The puller's side of the desk: what it has begun, and what it came to.
pub(super) struct Exchange {
    node: Arc<Node>,
    from: SocketAddr,
    epoch: u64,
    puller: String,
    coming: Option<Box<Coming>>,
    giving: Option<Giving>,
    figures: Figures,
    #[expect(dead_code, reason = "that it is dropped is what counts")]
    hold: Hold,
}

/// What one connection came to.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Figures {
    pub(super) placed: u64,
    pub(super) removed: u64,
    /// Read to their end.
    pub(super) given: u64,
    pub(super) refused: u64,
    /// Found other than the puller expected.
    pub(super) changed: u64,
}

/// What a request came to.
pub(super) enum Worked {
    Answer(SharedAnswer),
    Items(Vec<SharedItem>),
    Rejected(Rejected),
    /// Nobody can be answered any more.
    Trouble(String),
}

/// A file that is being given, in parts.
struct Giving {
    name: Name,
    digest: Digest,
    file: File,
    size: u64,
}

impl From<PlaceError> for Worked {
    fn from(error: PlaceError) -> Self {
        Self::Trouble(error.to_string())
    }
}

impl Exchange {
    pub(super) fn new(node: Arc<Node>, from: SocketAddr, epoch: u64, puller: String, hold: Hold) -> Self {
        Self { node, from, epoch, puller, coming: None, giving: None, figures: Figures::default(), hold }
    }

    pub(super) fn figures(&self) -> Figures {
        self.figures
    }

    pub(super) fn work(&mut self, request: SharedRequest) -> Worked {
        match self.node.pullers.admit(self.epoch, &self.puller) {
            Ok(accepted) if accepted.is_new => {
                let (epoch, puller) = (self.epoch, &self.puller);
                warn!(peer = %self.from, epoch, puller, "the epoch was reset while this puller was connected: it is listened to again");
            }
            Ok(_) => {}
            Err(rejected) => return Worked::Rejected(rejected),
        }
        // What has come of another one is gone on with when it is ordered again.
        let coming = self.coming.take().filter(|_| matches!(request, SharedRequest::Part(_)));
        let worked = match request {
            SharedRequest::Summary => Ok(self.summary()),
            SharedRequest::LookInto(buckets) => Ok(Worked::Items(self.items(&buckets))),
            SharedRequest::Fetch { name, digest, offset } => Ok(self.fetch(name, digest, offset)),
            SharedRequest::Place { name, expected, digest, size } => {
                self.begin(Order { name, expected, digest, size })
            }
            SharedRequest::Part(bytes) => self.part(coming, &bytes),
            SharedRequest::Remove { name, expected } => self.remove(&name, expected),
        };
        worked.unwrap_or_else(Worked::from)
    }

    fn summary(&self) -> Worked {
        match self.node.shared.buckets() {
            Ok(buckets) => Worked::Answer(SharedAnswer::Buckets(Box::new(*buckets.values()))),
            Err(error) => Worked::Trouble(error.to_string()),
        }
    }

    fn items(&self, buckets: &[u16]) -> Vec<SharedItem> {
        let items = self.node.shared.items(buckets).into_iter();
        // A name that the wire does not take is not in the sums either.
        let item = |(name, seen): (Box<[u8]>, tidegate_spool::shared::Seen)| {
            let name = Name::parse_listed(&name).ok()?;
            Some(SharedItem { name, digest: seen.digest, size: seen.size, fits: seen.fits })
        };
        items.filter_map(item).collect()
    }

    fn fetch(&mut self, name: Name, digest: Digest, offset: u64) -> Worked {
        let (state, bytes) = match self.read(name, digest, offset) {
            Ok(Some(part)) => part,
            Ok(None) => {
                self.figures.changed += 1;
                (ContentState::Another, Vec::new())
            }
            Err(error) => {
                self.giving = None;
                self.warn("a shared file cannot be given to the sync server", None, &error);
                (ContentState::Another, Vec::new())
            }
        };
        Worked::Answer(SharedAnswer::Content { state, bytes })
    }

    fn read(
        &mut self,
        name: Name,
        digest: Digest,
        offset: u64,
    ) -> io::Result<Option<(ContentState, Vec<u8>)>> {
        let same = |giving: &Giving| giving.name == name && giving.digest == digest;
        let giving = match self.giving.take().filter(same) {
            Some(giving) => giving,
            None => match self.node.shared.open_main(name.as_bytes(), &digest)? {
                Some((file, size)) => Giving { name, digest, file, size },
                None => return Ok(None),
            },
        };
        let left = giving.size.saturating_sub(offset);
        let mut bytes = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(SHARED_PART)];
        giving.file.read_exact_at(&mut bytes, offset)?;
        if left > bytes.len() as u64 {
            self.giving = Some(giving);
            return Ok(Some((ContentState::More, bytes)));
        }
        self.figures.given += 1;
        Ok(Some((ContentState::End, bytes)))
    }

    fn begin(&mut self, order: Order) -> Result<Worked, PlaceError> {
        let name = order.name.clone();
        match self.node.shared.begin(order)? {
            Begun::Coming(coming) => {
                let number = coming.came();
                self.coming = Some(coming);
                Ok(Worked::Answer(SharedAnswer::Outcome(SharedOutcome::go_on(number))))
            }
            Begun::Over(outcome) => Ok(self.placed(&name, outcome)),
        }
    }

    fn part(&mut self, coming: Option<Box<Coming>>, bytes: &[u8]) -> Result<Worked, PlaceError> {
        // The machine gives a part only after bytes were asked for.
        let Some(mut coming) = coming else {
            return Ok(Worked::Trouble("a part of nothing came".to_owned()));
        };
        let name = coming.name().clone();
        if let Err(outcome) = self.node.shared.take(&mut coming, bytes) {
            return Ok(self.placed(&name, outcome));
        }
        if coming.is_whole() {
            let outcome = self.node.shared.place(*coming)?;
            return Ok(self.placed(&name, outcome));
        }
        let number = coming.came();
        self.coming = Some(coming);
        Ok(Worked::Answer(SharedAnswer::Outcome(SharedOutcome::go_on(number))))
    }

    fn placed(&mut self, name: &Name, outcome: Outcome) -> Worked {
        if outcome == Outcome::Done {
            self.figures.placed += 1;
            debug!(peer = %self.from, %name, "the sync server has placed a shared file");
        }
        self.outcome(name, outcome)
    }

    fn remove(&mut self, name: &Name, expected: Digest) -> Result<Worked, PlaceError> {
        let outcome = self.node.shared.remove(name, expected)?;
        if outcome == Outcome::Done {
            self.figures.removed += 1;
            debug!(peer = %self.from, %name, "the sync server has removed a shared file");
        }
        Ok(self.outcome(name, outcome))
    }

    fn outcome(&mut self, name: &Name, outcome: Outcome) -> Worked {
        let outcome = match outcome {
            Outcome::Done => SharedOutcome::done(),
            Outcome::Changed(there) => {
                self.figures.changed += 1;
                SharedOutcome::changed(there)
            }
            Outcome::Refused(why) => {
                self.figures.refused += 1;
                self.warn("a shared file of the sync server was refused", Some(name), &why);
                SharedOutcome::refused(why)
            }
            Outcome::Damaged => SharedOutcome::damaged(),
        };
        Worked::Answer(SharedAnswer::Outcome(outcome))
    }

    fn warn(&self, what: &str, name: Option<&Name>, reason: &dyn std::fmt::Display) {
        if let Some(line) = self.node.repeats.admit("shared by relay", self.from.ip()) {
            let name = name.map(|name| Escaped(name.as_bytes()).to_string());
            warn!(peer = %self.from, name, %reason, suppressed = line.suppressed, "{what}");
        }
    }
}
