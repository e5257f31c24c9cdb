//! Both machines in memory, joined by a wire that gives portions of any size, and the smallest of owners.

use std::collections::VecDeque;

use tidegate_proto::relay::{Head, Hello, Node, NodeEvent, Number, Puller, PullerEvent, Purpose, Welcome};
use tidegate_proto::{Close, Machine, Name, Step, Time};

/// A package of the tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
}

pub(crate) fn number(counter: u64) -> Number {
    Number { run: 7, counter }
}

pub(crate) fn package(counter: u64, body: &[u8]) -> Package {
    let head = Head {
        number: number(counter),
        arrival: 1_700_000_000_000 + counter as i64,
        size: body.len() as u64,
        digest: counter.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        name: Name::parse(format!("agent-{counter}.data").as_bytes()).expect("a valid name"),
    };
    Package { head, body: body.into() }
}

pub(crate) fn hello(purpose: Purpose) -> Hello {
    Hello {
        purpose,
        standing: true,
        epoch: 3,
        keep_alive: Time::from_secs(10),
        max_package: 1_000_000,
        rate: 0,
        clock: 1_700_000_000_000,
        name: "central".into(),
        software: "test 1".into(),
    }
}

pub(crate) fn welcome() -> Welcome {
    Welcome {
        epoch: 3,
        oldest: Some(number(1)),
        clock: 1_700_000_000_001,
        name: "plant-7".into(),
        software: "test 2".into(),
    }
}

/// Steps a machine with its input until it wants more, and gives its events.
pub(crate) fn pump<M: Machine>(
    machine: &mut M,
    input: &mut Vec<u8>,
    chunk: usize,
    now: Time,
) -> (Vec<M::Event>, Option<Close>) {
    let mut events = Vec::new();
    loop {
        let given = chunk.min(input.len());
        match machine.step(&input[..given], now) {
            Err(close) => return (events, Some(close)),
            Ok(Step { used, event }) => {
                input.drain(..used);
                let quiet = event.is_none();
                events.extend(event);
                if quiet && (machine.blocked() || input.is_empty()) {
                    return (events, None);
                }
                assert!(!quiet || used == given, "a machine that is not blocked uses its input");
            }
        }
    }
}

/// The two ends, a node with packages and a puller that acknowledges all it gets.
pub(crate) struct Pair {
    pub(crate) puller: Puller,
    pub(crate) node: Node,
    pub(crate) now: Time,
    pub(crate) to_puller: Vec<u8>,
    pub(crate) to_node: Vec<u8>,
    pub(crate) chunk: usize,
    /// What the node has still to send, and where it stands in the first.
    pub(crate) store: VecDeque<Package>,
    begun: Option<usize>,
    /// What has come.
    pub(crate) got: Vec<Package>,
    pub(crate) skipped: Vec<Head>,
    pub(crate) seen: Vec<&'static str>,
    /// The credit beyond what has come.
    pub(crate) window: u64,
    pub(crate) wire: u64,
    pub(crate) deleted: Option<Number>,
    pub(crate) acking: bool,
    /// Whether credit is given as it is used up.
    pub(crate) granting: bool,
}

impl Pair {
    pub(crate) fn new(hello: Hello, store: Vec<Package>) -> Self {
        Pair {
            puller: Puller::new(hello, Time::ZERO),
            node: Node::new(Time::from_secs(5), Time::ZERO),
            now: Time::ZERO,
            to_puller: Vec::new(),
            to_node: Vec::new(),
            chunk: usize::MAX,
            store: store.into(),
            begun: None,
            got: Vec::new(),
            skipped: Vec::new(),
            seen: Vec::new(),
            window: 1 << 20,
            wire: 0,
            deleted: None,
            acking: true,
            granting: true,
        }
    }

    /// Goes on until neither end has anything to do at this time.
    pub(crate) fn run(&mut self) {
        self.grant();
        loop {
            let before = self.wire;
            self.node_turn();
            self.puller_turn();
            if self.wire == before && self.to_node.is_empty() && self.to_puller.is_empty() {
                return;
            }
        }
    }

    fn grant(&mut self) {
        if self.granting {
            self.puller.grant(self.puller.received() + self.window);
        }
    }

    pub(crate) fn node_turn(&mut self) {
        let (events, close) = pump(&mut self.node, &mut self.to_node, self.chunk, self.now);
        assert_eq!(close, None);
        for event in events {
            match event {
                NodeEvent::Hello(_) => self.node.welcome(welcome(), self.now),
                NodeEvent::Acked(number) => self.node.deleted(number),
                _ => {}
            }
        }
        self.send();
        self.wire += self.node.output().len() as u64;
        self.to_puller.append(self.node.output());
    }

    fn send(&mut self) {
        while let Some(package) = self.store.front() {
            match self.begun {
                None if !self.node.may_begin(self.now) => return,
                None if package.head.size > self.node.hello().expect("it was welcomed").max_package => {
                    self.node.skip(&package.head, self.now);
                    self.store.pop_front();
                    continue;
                }
                None => {
                    self.node.begin(&package.head, self.now);
                    self.begun = Some(0);
                }
                Some(_) => {}
            }
            let at = self.begun.expect("it has begun");
            let room = self.node.room(self.now);
            let end = (at + room).min(package.body.len());
            if end > at {
                self.node.write(&package.body[at..end], self.now);
                self.begun = Some(end);
            }
            if end == package.body.len() {
                self.begun = None;
                self.store.pop_front();
            } else if end == at {
                return;
            }
        }
        if self.node.may_begin(self.now) {
            self.node.dry(self.now);
        }
    }

    pub(crate) fn puller_turn(&mut self) {
        self.to_node.append(self.puller.output());
        let (events, close) = pump(&mut self.puller, &mut self.to_puller, self.chunk, self.now);
        assert_eq!(close, None);
        for event in events {
            match event {
                PullerEvent::DecoderNeeded => {
                    self.seen.push("needed");
                    self.puller.decoder_granted(self.now);
                }
                PullerEvent::DecoderFreed => self.seen.push("freed"),
                PullerEvent::Package(head) => self.got.push(Package { head, body: Vec::new() }),
                PullerEvent::Skipped(head) => self.skipped.push(head),
                PullerEvent::Body(bytes) => {
                    self.got.last_mut().expect("a body has a head").body.extend(bytes)
                }
                PullerEvent::PackageEnd if self.acking => {
                    self.puller.ack(self.got.last().expect("an end has a head").head.number);
                    self.grant();
                }
                PullerEvent::Dry => self.seen.push("dry"),
                PullerEvent::Deleted(number) => self.deleted = Some(number),
                _ => {}
            }
        }
        self.to_node.append(self.puller.output());
    }

    /// Lets time pass in steps.
    pub(crate) fn wait(&mut self, time: Time) {
        let end = self.now + time;
        while self.now < end {
            self.now = (self.now + Time::from_millis(10)).min(end);
            self.run();
        }
    }
}
