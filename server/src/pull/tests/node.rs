//! A node in memory that speaks relay by the real machine, over a stream that can be cut at any byte.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tidegate_net::Link;
use tidegate_proto::Name;
use tidegate_proto::relay::{
    CloseCode, Farewell, Head, LossRecord, Node as Machine, NodeEvent, Number, Purpose, Status, Welcome,
};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::Notify;

/// When the first package arrived, in milliseconds since 1970.
pub(super) const ARRIVAL: i64 = 1_700_000_000_000;

/// What the stream between the two ends holds.
const PIPE: usize = 64 * 1024;

/// A node's spool, and what it does to a puller.
#[derive(Debug, Default)]
pub(super) struct Spool {
    packages: RefCell<BTreeMap<Number, Package>>,
    count: Cell<u64>,
    more: Notify,
    losses: RefCell<Vec<LossRecord>>,
    /// It answers every `HELLO` with this.
    pub(super) refuses: RefCell<Option<Farewell>>,
    /// What the last puller said when it left.
    pub(super) farewell: RefCell<Option<Farewell>>,
    pub(super) connections: Cell<u32>,
    /// The sign of its shared files, if it offers them.
    pub(super) sign: Cell<Option<u64>>,
    /// The rate that the last puller asked for.
    pub(super) rate: Cell<u64>,
}

#[derive(Debug, Clone)]
struct Package {
    head: Head,
    body: Vec<u8>,
}

impl Spool {
    pub(super) fn put(&self, name: &str, body: &[u8]) -> Number {
        let digest = Sha256::digest(body);
        let digest = u64::from_be_bytes(*digest.first_chunk().expect("it has more than eight bytes"));
        self.put_as(name, body, digest)
    }

    /// The same under a digest that may be wrong.
    pub(super) fn put_as(&self, name: &str, body: &[u8], digest: u64) -> Number {
        let counter = self.count.get();
        self.count.set(counter + 1);
        let number = Number { run: 7, counter };
        let name = Name::parse_listed(name.as_bytes()).unwrap();
        // Two at a time in one millisecond.
        let arrival = ARRIVAL + i64::try_from(counter / 2).unwrap();
        let head = Head { number, arrival, size: body.len() as u64, digest, name };
        self.packages.borrow_mut().insert(number, Package { head, body: body.to_vec() });
        self.more.notify_one();
        number
    }

    pub(super) fn lose(&self, counter: u64, packages: u64) {
        let number = Number { run: 7, counter };
        let (bytes, first, last) = (packages * 10, ARRIVAL, ARRIVAL);
        let record = LossRecord { number, class: "data".into(), reason: 1, packages, bytes, first, last };
        self.losses.borrow_mut().push(record);
    }

    /// What it still holds.
    pub(super) fn left(&self) -> Vec<String> {
        self.packages.borrow().values().map(|package| package.head.name.to_string()).collect()
    }

    pub(super) fn losses_left(&self) -> usize {
        self.losses.borrow().len()
    }

    fn after(&self, last: Option<Number>) -> Option<Package> {
        let packages = self.packages.borrow();
        packages.values().find(|package| Some(package.head.number) > last).cloned()
    }

    fn status(&self) -> Status {
        let packages = self.packages.borrow();
        let bytes: u64 = packages.values().map(|package| package.head.size).sum();
        Status {
            packages: Some(packages.len() as u64),
            bytes: Some(bytes),
            shared_sign: self.sign.get(),
            ..Status::default()
        }
    }

    /// Serves one connection until it ends.
    pub(super) async fn serve(&self, stream: DuplexStream) {
        self.connections.set(self.connections.get() + 1);
        let patience = Duration::from_secs(10);
        let link = Link::new(stream, Machine::new(patience, Duration::ZERO), patience);
        let mut server = Server { spool: self, link, last: None, body: None, max: None };
        server.run().await;
        server.link.shutdown().await;
    }
}

struct Server<'a> {
    spool: &'a Spool,
    link: Link<DuplexStream, Machine>,
    /// The last package that was begun, and what of its body is still to go.
    last: Option<Number>,
    body: Option<Vec<u8>>,
    /// What a puller takes that was welcomed to the stream.
    max: Option<u64>,
}

impl Server<'_> {
    async fn run(&mut self) {
        loop {
            if let Some(max) = self.max {
                self.pump(max);
            }
            let event = tokio::select! {
                event = self.link.next() => event,
                () = self.spool.more.notified(), if self.max.is_some() => continue,
            };
            match event {
                Ok(event) => self.handle(event),
                Err(error) => {
                    if let tidegate_net::LinkError::Closed(tidegate_proto::Close::Farewell(farewell)) = error
                    {
                        *self.spool.farewell.borrow_mut() = Some(farewell);
                    }
                    return;
                }
            }
        }
    }

    fn handle(&mut self, event: NodeEvent) {
        let now = self.link.now();
        match event {
            NodeEvent::Hello(hello) => {
                self.spool.rate.set(hello.rate);
                if let Some(farewell) = self.spool.refuses.borrow().clone() {
                    return self.link.machine().refuse(farewell);
                }
                let oldest = self.spool.after(None).map(|package| package.head.number);
                let welcome = Welcome {
                    epoch: hello.epoch,
                    oldest,
                    clock: ARRIVAL,
                    name: "node".into(),
                    software: "test".into(),
                };
                let machine = self.link.machine();
                machine.welcome(welcome, now);
                if hello.purpose == Purpose::Stream {
                    machine.status(&self.spool.status());
                    let losses = self.spool.losses.borrow();
                    if !losses.is_empty() {
                        machine.losses(&losses);
                    }
                    self.max = Some(hello.max_package);
                }
            }
            NodeEvent::Acked(upto) => {
                let max = self.max.expect("it was welcomed");
                let mut packages = self.spool.packages.borrow_mut();
                packages.retain(|number, package| *number > upto || package.head.size > max);
                drop(packages);
                self.link.machine().deleted(upto);
            }
            NodeEvent::LossesAcked(upto) => {
                self.spool.losses.borrow_mut().retain(|record| record.number > upto);
            }
            NodeEvent::List => {
                let names = self.spool.left().join("\n");
                self.link.machine().listing(names.as_bytes(), true);
            }
            NodeEvent::Room | NodeEvent::Shared(_) => {}
        }
    }

    fn pump(&mut self, max: u64) {
        let now = self.link.now();
        loop {
            while let Some(body) = self.body.take() {
                let room = self.link.machine().room(now).min(body.len());
                if room == 0 && !body.is_empty() {
                    self.body = Some(body);
                    return;
                }
                self.link.machine().write(&body[..room], now);
                self.body = Some(body[room..].to_vec()).filter(|rest| !rest.is_empty());
            }
            let Some(package) = self.spool.after(self.last) else {
                return self.link.machine().dry(now);
            };
            let machine = self.link.machine();
            if !machine.may_begin(now) {
                return;
            }
            self.last = Some(package.head.number);
            if package.head.size > max {
                machine.skip(&package.head, now);
            } else {
                machine.begin(&package.head, now);
                self.body = Some(package.body).filter(|body| !body.is_empty());
            }
        }
    }
}

/// A node's farewell with a code.
pub(super) fn refusal(code: CloseCode, number: u64, text: &str) -> Option<Farewell> {
    Some(Farewell { code, number, text: text.into() })
}

/// The two ends of a connection, of which the first is cut after so many bytes, read and written.
pub(super) fn connection(read: usize, written: usize) -> (Cut, DuplexStream) {
    let (here, there) = tokio::io::duplex(PIPE);
    (Cut { stream: here, read, written }, there)
}

/// A stream that ends after so many bytes.
#[derive(Debug)]
pub(super) struct Cut {
    stream: DuplexStream,
    read: usize,
    written: usize,
}

impl AsyncRead for Cut {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read == 0 {
            return Poll::Ready(Ok(()));
        }
        let mut bytes = [0; 4096];
        let most = self.read.min(buffer.remaining()).min(bytes.len());
        let mut part = ReadBuf::new(&mut bytes[..most]);
        let result = Pin::new(&mut self.stream).poll_read(cx, &mut part);
        buffer.put_slice(part.filled());
        self.read -= part.filled().len();
        result
    }
}

impl AsyncWrite for Cut {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.written == 0 {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let most = self.written.min(bytes.len());
        let result = Pin::new(&mut self.stream).poll_write(cx, &bytes[..most]);
        if let Poll::Ready(Ok(count)) = &result {
            self.written -= count;
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
