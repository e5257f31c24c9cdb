//! A node that speaks relay by the real machine, with its pairs in memory.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tidegate_net::{Link, LinkError};
use tidegate_proto::relay::limits::SHARED_PART;
use tidegate_proto::relay::{
    CloseCode, ContentState, Digest, Farewell, Node as Machine, NodeEvent, Purpose, SharedAnswer, SharedItem,
    SharedOutcome, SharedRequest, Welcome,
};
use tidegate_proto::{Close, Name};
use tidegate_spool::shared::{Buckets, Seen};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

/// What the stream between the two ends holds.
const PIPE: usize = 16 * 1024;

/// A node's pairs, and what it does to a puller.
#[derive(Default)]
pub(super) struct Node {
    pub(super) pairs: RefCell<BTreeMap<Name, Vec<u8>>>,
    /// What came of a pair that is being placed, by digest: a cut leaves it.
    pub(super) partial: RefCell<BTreeMap<Digest, Vec<u8>>>,
    /// It has these bytes on the disk, whatever it says.
    pub(super) gives: RefCell<Option<Vec<u8>>>,
    pub(super) refuses: Cell<bool>,
    pub(super) offers: Cell<bool>,
    /// It hangs up after so many requests.
    pub(super) hangs_up_after: Cell<Option<u32>>,
    /// It never answers.
    pub(super) is_mute: Cell<bool>,
    pub(super) requests: RefCell<Vec<&'static str>>,
    pub(super) farewell: RefCell<Option<Farewell>>,
}

struct Placing {
    name: Name,
    expected: Option<Digest>,
    digest: Digest,
    size: u64,
}

pub(super) fn digest_of(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

impl Node {
    pub(super) fn offering() -> Rc<Self> {
        let node = Self::default();
        node.offers.set(true);
        Rc::new(node)
    }

    pub(super) fn put(&self, name: &Name, content: &[u8]) {
        self.pairs.borrow_mut().insert(name.clone(), content.to_vec());
    }

    pub(super) fn seen(&self) -> BTreeMap<Name, Seen> {
        let pairs = self.pairs.borrow();
        let seen =
            |content: &Vec<u8>| Seen { digest: digest_of(content), size: content.len() as u64, fits: true };
        pairs.iter().map(|(name, content)| (name.clone(), seen(content))).collect()
    }

    fn buckets(&self) -> Buckets {
        let mut buckets = Buckets::new();
        self.seen().iter().for_each(|(name, seen)| buckets.add(name.as_bytes(), seen));
        buckets
    }

    fn digest(&self, name: &Name) -> Option<Digest> {
        self.pairs.borrow().get(name).map(|content| digest_of(content))
    }

    /// Serves one connection until it ends.
    pub(super) async fn serve(&self, stream: DuplexStream) {
        let patience = Duration::from_secs(10);
        let mut link = Link::new(stream, Machine::new(patience, Duration::ZERO), patience);
        let mut placing = None;
        loop {
            match link.next().await {
                Ok(NodeEvent::Hello(hello)) => {
                    let now = link.now();
                    if hello.purpose != Purpose::Shared || !self.offers.get() {
                        link.machine().refuse(Farewell::new(CloseCode::NotOffered, ""));
                        continue;
                    }
                    let (name, software) = ("node".into(), "test".into());
                    let welcome = Welcome { epoch: hello.epoch, oldest: None, clock: 0, name, software };
                    link.machine().welcome(welcome, now);
                }
                Ok(NodeEvent::Shared(request)) => {
                    if self.hangs_up_after.get() == Some(0) {
                        return;
                    }
                    self.hangs_up_after.set(self.hangs_up_after.get().map(|left| left - 1));
                    if !self.is_mute.get() {
                        let answer = self.answer(request, &mut placing);
                        link.machine().answer(answer);
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    if let LinkError::Closed(Close::Farewell(farewell)) = error {
                        *self.farewell.borrow_mut() = Some(farewell);
                    }
                    return link.shutdown().await;
                }
            }
        }
    }

    fn answer(&self, request: SharedRequest, placing: &mut Option<Placing>) -> SharedAnswer {
        let (word, answer) = match request {
            SharedRequest::Summary => ("summary", SharedAnswer::Buckets(Box::new(*self.buckets().values()))),
            SharedRequest::LookInto(buckets) => {
                let is_asked = |name: &Name| buckets.contains(&Buckets::of(name.as_bytes()));
                let seen = self.seen().into_iter().filter(|(name, _)| is_asked(name));
                let item = |(name, seen): (Name, Seen)| SharedItem {
                    name,
                    digest: seen.digest,
                    size: seen.size,
                    fits: seen.fits,
                };
                ("look", SharedAnswer::Items { items: seen.map(item).collect(), last: true })
            }
            SharedRequest::Fetch { name, digest, offset } => ("fetch", self.content(&name, digest, offset)),
            SharedRequest::Place { name, expected, digest, size } => {
                let outcome = self.begin(Placing { name, expected, digest, size }, placing);
                ("place", SharedAnswer::Outcome(outcome))
            }
            SharedRequest::Part(bytes) => ("part", SharedAnswer::Outcome(self.part(&bytes, placing))),
            SharedRequest::Remove { name, expected } => {
                let there = self.digest(&name);
                let outcome = if there == Some(expected) || there.is_none() {
                    self.pairs.borrow_mut().remove(&name);
                    SharedOutcome::done()
                } else {
                    SharedOutcome::changed(there)
                };
                ("remove", SharedAnswer::Outcome(outcome))
            }
        };
        self.requests.borrow_mut().push(word);
        answer
    }

    fn content(&self, name: &Name, digest: Digest, offset: u64) -> SharedAnswer {
        let pairs = self.pairs.borrow();
        let Some(content) = pairs.get(name).filter(|content| digest_of(content) == digest) else {
            return SharedAnswer::Content { state: ContentState::Another, bytes: Vec::new() };
        };
        let lie = self.gives.borrow();
        let content = lie.as_ref().unwrap_or(content);
        let rest = content.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
        let state = if rest.len() > SHARED_PART { ContentState::More } else { ContentState::End };
        SharedAnswer::Content { state, bytes: rest[..rest.len().min(SHARED_PART)].to_vec() }
    }

    fn begin(&self, wanted: Placing, placing: &mut Option<Placing>) -> SharedOutcome {
        let there = self.digest(&wanted.name);
        if self.refuses.get() {
            return SharedOutcome::refused("no room");
        }
        if there == Some(wanted.digest) || (wanted.size == 0 && there == wanted.expected) {
            self.pairs.borrow_mut().entry(wanted.name).or_default();
            return SharedOutcome::done();
        }
        if there != wanted.expected {
            return SharedOutcome::changed(there);
        }
        let mut partial = self.partial.borrow_mut();
        let have = partial.entry(wanted.digest).or_default();
        if wanted.size <= super::super::SMALL {
            have.clear();
        }
        let offset = have.len() as u64;
        *placing = Some(wanted);
        SharedOutcome::go_on(offset)
    }

    fn part(&self, bytes: &[u8], placing: &mut Option<Placing>) -> SharedOutcome {
        let under_way = placing.as_ref().expect("the machine hands on no other parts");
        let mut partial = self.partial.borrow_mut();
        let have = partial.get_mut(&under_way.digest).expect("it was begun");
        have.extend_from_slice(bytes);
        if (have.len() as u64) < under_way.size {
            return SharedOutcome::go_on(have.len() as u64);
        }
        let Placing { name, expected, digest, .. } = placing.take().expect("it is under way");
        let content = partial.remove(&digest).expect("it was begun");
        if digest_of(&content) != digest {
            return SharedOutcome::damaged();
        }
        let there = self.digest(&name);
        if there != expected {
            return SharedOutcome::changed(there);
        }
        self.put(&name, &content);
        SharedOutcome::done()
    }
}

/// The two ends of a connection, of which the first counts what passes.
pub(super) fn connection() -> (Counted, DuplexStream, Rc<Cell<usize>>) {
    let (here, there) = tokio::io::duplex(PIPE);
    let bytes = Rc::new(Cell::new(0));
    (Counted { stream: here, bytes: Rc::clone(&bytes) }, there, bytes)
}

/// A stream that counts bytes, both ways.
#[derive(Debug)]
pub(super) struct Counted {
    stream: DuplexStream,
    bytes: Rc<Cell<usize>>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.bytes.set(self.bytes.get() + buffer.filled().len() - before);
        result
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = &result {
            self.bytes.set(self.bytes.get() + count);
        }
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
