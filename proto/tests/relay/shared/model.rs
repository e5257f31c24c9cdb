//! A node's shared files in memory, its owner, and both machines joined.

use std::collections::{BTreeMap, VecDeque};

use sha2::{Digest as _, Sha256};
use tidegate_proto::relay::limits::{SHARED_AT_ONCE, SHARED_PART};
use tidegate_proto::relay::{
    ContentState, Digest, Hello, Node, NodeEvent, Puller, PullerEvent, SharedAnswer, SharedItem,
    SharedOutcome, SharedRequest,
};
use tidegate_proto::{Machine, Name, Time};

use super::buckets;
use crate::pair::{pump, welcome};

pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

/// A file, and whether its `.md5` fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) bytes: Vec<u8>,
    pub(crate) fits: bool,
}

impl File {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        File { bytes: bytes.into(), fits: true }
    }
}

/// A file that is being placed.
#[derive(Clone, Debug)]
struct Placing {
    name: Name,
    expected: Option<Digest>,
    digest: Digest,
    size: u64,
}

/// The files of a node, and what has come of others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shelf {
    pub(crate) files: BTreeMap<Name, File>,
    kept: BTreeMap<Digest, Vec<u8>>,
    placing: Option<Placing>,
}

impl Shelf {
    pub(crate) fn of(files: BTreeMap<Name, File>) -> Self {
        Shelf { files, ..Shelf::default() }
    }

    pub(crate) fn there(&self, name: &Name) -> Option<Digest> {
        self.files.get(name).map(|file| sha256(&file.bytes))
    }

    pub(crate) fn items(&self) -> Vec<SharedItem> {
        let item = |(name, file): (&Name, &File)| SharedItem {
            name: name.clone(),
            digest: sha256(&file.bytes),
            size: file.bytes.len() as u64,
            fits: file.fits,
        };
        self.files.iter().map(item).collect()
    }

    /// What an honest owner answers; items in one part.
    pub(crate) fn answer(&mut self, request: &SharedRequest) -> SharedAnswer {
        let before = self.placing.take();
        let outcome = match request {
            SharedRequest::Summary => return SharedAnswer::Buckets(buckets::values(&self.items())),
            SharedRequest::LookInto(wanted) => {
                let mut items = self.items();
                items.retain(|item| wanted.contains(&buckets::of(&item.name)));
                return SharedAnswer::Items { items, last: true };
            }
            SharedRequest::Fetch { name, digest, offset } => return self.content(name, digest, *offset),
            SharedRequest::Place { name, expected, digest, size } => {
                let (name, expected, digest, size) = (name.clone(), *expected, *digest, *size);
                self.place(Placing { name, expected, digest, size })
            }
            SharedRequest::Part(bytes) => match before {
                Some(placing) => {
                    self.kept.entry(placing.digest).or_default().extend(bytes);
                    self.go_on(placing)
                }
                None => panic!("a part of nothing is not for the owner"),
            },
            SharedRequest::Remove { name, expected } => match self.there(name) {
                Some(there) if there != *expected => SharedOutcome::changed(Some(there)),
                _ => {
                    self.files.remove(name);
                    SharedOutcome::done()
                }
            },
        };
        SharedAnswer::Outcome(outcome)
    }

    fn content(&self, name: &Name, digest: &Digest, offset: u64) -> SharedAnswer {
        let Some(file) = self.files.get(name).filter(|file| sha256(&file.bytes) == *digest) else {
            return SharedAnswer::Content { state: ContentState::Another, bytes: Vec::new() };
        };
        let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(file.bytes.len());
        let rest = &file.bytes[offset..];
        let bytes: Vec<u8> = rest.iter().take(SHARED_PART).copied().collect();
        let state = if bytes.len() < rest.len() { ContentState::More } else { ContentState::End };
        SharedAnswer::Content { state, bytes }
    }

    fn place(&mut self, placing: Placing) -> SharedOutcome {
        let there = self.there(&placing.name);
        if there == Some(placing.digest) {
            self.files.get_mut(&placing.name).expect("it is there").fits = true;
            return SharedOutcome::done();
        }
        if there != placing.expected {
            return SharedOutcome::changed(there);
        }
        if placing.size <= SHARED_AT_ONCE {
            self.kept.remove(&placing.digest);
        }
        self.go_on(placing)
    }

    fn go_on(&mut self, placing: Placing) -> SharedOutcome {
        let have = self.kept.get(&placing.digest).map_or(0, Vec::len) as u64;
        if have < placing.size {
            self.placing = Some(placing);
            return SharedOutcome::go_on(have);
        }
        let bytes = self.kept.remove(&placing.digest).unwrap_or_default();
        let there = self.there(&placing.name);
        if sha256(&bytes) != placing.digest {
            SharedOutcome::damaged()
        } else if there != placing.expected {
            SharedOutcome::changed(there)
        } else {
            self.files.insert(placing.name, File { bytes, fits: true });
            SharedOutcome::done()
        }
    }
}

/// What sequential answers would be, the machine's own included.
pub(crate) fn answers(shelf: &mut Shelf, requests: &[SharedRequest]) -> Vec<SharedAnswer> {
    let mut all = Vec::new();
    for request in requests {
        let orphan = matches!(request, SharedRequest::Part(_)) && shelf.placing.is_none();
        all.push(if orphan {
            SharedAnswer::Outcome(SharedOutcome {
                code: tidegate_proto::relay::OutcomeCode::Ignored,
                ..SharedOutcome::done()
            })
        } else {
            shelf.answer(request)
        });
    }
    all
}

/// Both ends; the node's owner has a shelf.
pub(crate) struct Joined {
    pub(crate) puller: Puller,
    pub(crate) node: Node,
    pub(crate) shelf: Shelf,
    pub(crate) now: Time,
    /// The sizes of the portions in which bytes arrive, over and over.
    portions: VecDeque<usize>,
    to_node: Vec<u8>,
    to_puller: Vec<u8>,
    /// Items that wait for room, a part each.
    later: VecDeque<SharedAnswer>,
    /// How many items are told at a time.
    pub(crate) part: usize,
    /// What has come: a whole answer each.
    pub(crate) got: VecDeque<SharedAnswer>,
    coming: Vec<SharedItem>,
    /// What has crossed the wire, to the node and from it.
    pub(crate) wire: [u64; 2],
    /// How many bytes it carries in both directions before it is cut.
    pub(crate) budget: u64,
}

/// The connection was cut.
#[derive(Debug)]
pub(crate) struct Cut;

impl Joined {
    pub(crate) fn new(hello: Hello, shelf: Shelf, portions: Vec<usize>) -> Self {
        Joined {
            puller: Puller::new(hello, Time::ZERO),
            node: Node::new(Time::from_secs(5), Time::ZERO),
            shelf,
            now: Time::ZERO,
            portions: portions.into(),
            to_node: Vec::new(),
            to_puller: Vec::new(),
            later: VecDeque::new(),
            part: usize::MAX,
            got: VecDeque::new(),
            coming: Vec::new(),
            wire: [0, 0],
            budget: u64::MAX,
        }
    }

    /// One portion in each direction, and what follows from it. Whether anything moved.
    pub(crate) fn turn(&mut self) -> Result<bool, Cut> {
        self.portions.rotate_left(1);
        let portion = self.portions[0];
        let mut moved = false;
        for direction in [0, 1] {
            let (output, input) = match direction {
                0 => (self.puller.output(), &mut self.to_node),
                _ => (self.node.output(), &mut self.to_puller),
            };
            // A machine that reads nothing leaves the bytes on the wire.
            let count = if input.len() / 4 > portion { 0 } else { portion.min(output.len()) };
            input.extend(output.drain(..count));
            self.wire[direction] += count as u64;
            moved |= count > 0;
        }
        if self.wire.iter().sum::<u64>() > self.budget {
            return Err(Cut);
        }
        moved |= self.node_turn();
        moved |= self.puller_turn();
        Ok(moved || !self.puller.output().is_empty() || !self.node.output().is_empty())
    }

    fn node_turn(&mut self) -> bool {
        let before = self.to_node.len();
        let (events, close) = pump(&mut self.node, &mut self.to_node, usize::MAX, self.now);
        assert_eq!(close, None);
        for event in &events {
            match event {
                NodeEvent::Hello(_) => self.node.welcome(welcome(), self.now),
                NodeEvent::Shared(request) => match self.shelf.answer(request) {
                    SharedAnswer::Items { items, .. } => {
                        let mut parts: VecDeque<_> = items
                            .chunks(self.part)
                            .map(|items| SharedAnswer::Items { items: items.into(), last: false })
                            .collect();
                        parts.push_back(SharedAnswer::Items { items: Vec::new(), last: true });
                        self.later = parts;
                    }
                    answer => self.node.answer(answer),
                },
                NodeEvent::Room => {}
                event => panic!("{event:?} on a connection for shared files"),
            }
        }
        while self.node.answer_room()
            && let Some(part) = self.later.pop_front()
        {
            self.node.answer(part);
        }
        assert!(self.node.output().len() < 400_000, "{} bytes wait", self.node.output().len());
        !events.is_empty() || self.to_node.len() != before
    }

    fn puller_turn(&mut self) -> bool {
        let before = self.to_puller.len();
        let (events, close) = pump(&mut self.puller, &mut self.to_puller, usize::MAX, self.now);
        assert_eq!(close, None);
        for event in &events {
            match event {
                PullerEvent::Welcome(_) => {}
                PullerEvent::Shared(SharedAnswer::Items { items, last }) => {
                    self.coming.extend_from_slice(items);
                    if *last {
                        let items = std::mem::take(&mut self.coming);
                        self.got.push_back(SharedAnswer::Items { items, last: true });
                    }
                }
                PullerEvent::Shared(answer) => self.got.push_back(answer.clone()),
                event => panic!("{event:?} on a connection for shared files"),
            }
        }
        assert!(self.puller.output().len() < 80_000, "{} bytes wait", self.puller.output().len());
        !events.is_empty() || self.to_puller.len() != before
    }

    /// Asks as soon as it may, and waits for all the answers.
    pub(crate) fn ask(&mut self, requests: &[SharedRequest]) -> Result<Vec<SharedAnswer>, Cut> {
        let (mut rest, mut all) = (requests.iter(), Vec::new());
        let mut next = rest.next();
        while all.len() < requests.len() {
            while let Some(request) = next
                && self.puller.may_request(request)
            {
                self.puller.request(request.clone());
                next = rest.next();
            }
            let moved = self.turn()?;
            all.extend(self.got.drain(..));
            assert!(
                moved || all.len() == requests.len(),
                "both ends wait: {} of {}",
                all.len(),
                requests.len()
            );
        }
        assert_eq!(self.puller.outstanding(), 0);
        Ok(all)
    }
}
