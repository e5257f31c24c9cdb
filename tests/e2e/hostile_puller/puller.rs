//! A puller's end in the wrong hands.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use tidegate_proto::Time;
use tidegate_proto::relay::frame::Frame;
use tidegate_proto::relay::{Hello, Number, Purpose};
use tidegate_tests::certificates::Pair;
use tidegate_tests::relay::{End, Package, Unpacker};

/// How long the node may take to end a connection.
const END_WITHIN: Duration = Duration::from_secs(20);

/// What a case says things with.
pub(crate) struct Misuser {
    address: SocketAddr,
    certificate: Pair,
    end: Option<End>,
    unpacker: Unpacker,
    /// What came whole, in order.
    received: Vec<Package>,
    /// What the node may have deleted.
    acknowledged: Vec<Vec<u8>>,
}

impl Misuser {
    pub(crate) fn new(address: SocketAddr, certificate: &Pair) -> Misuser {
        Misuser {
            address,
            certificate: certificate.clone(),
            end: None,
            unpacker: Unpacker::new(),
            received: Vec::new(),
            acknowledged: Vec::new(),
        }
    }

    pub(crate) fn connect(&mut self) -> io::Result<()> {
        self.end = Some(End::dial(self.address, &self.certificate)?);
        self.unpacker = Unpacker::new();
        self.received.clear();
        Ok(())
    }

    /// One more connection of the same puller, beside this one.
    pub(crate) fn another(&self) -> io::Result<Misuser> {
        let mut another = Misuser::new(self.address, &self.certificate);
        another.connect()?;
        Ok(another)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn acknowledged(&self) -> &[Vec<u8>] {
        &self.acknowledged
    }

    pub(crate) fn end(&mut self) -> &mut End {
        self.end.as_mut().expect("it is connected")
    }

    pub(crate) fn say(&mut self, frame: &Frame) -> io::Result<()> {
        self.end().say(frame)
    }

    pub(crate) fn raw(&mut self, kind: u8, payload: &[u8]) -> io::Result<()> {
        self.end().raw(kind, payload)
    }

    pub(crate) fn bytes(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.end().bytes(bytes)
    }

    pub(crate) fn hello() -> Hello {
        Hello {
            purpose: Purpose::Stream,
            standing: true,
            epoch: 1,
            keep_alive: Time::from_secs(5),
            max_package: 64_000_000,
            rate: 0,
            clock: 1_700_000_000_000,
            name: "misuser".into(),
            software: "misuser 1".into(),
        }
    }

    /// `HELLO`, and the welcome to it.
    pub(crate) fn greet(&mut self) -> io::Result<()> {
        self.greet_as(Misuser::hello())
    }

    pub(crate) fn greet_as(&mut self, hello: Hello) -> io::Result<()> {
        self.say(&Frame::Hello(hello))?;
        self.end().hear_until(|frame| matches!(frame, Frame::Welcome(_)).then_some(()))
    }

    /// Grants this much, and takes packages until so many came whole.
    pub(crate) fn take(&mut self, credit: u64, packages: usize) -> io::Result<Vec<Number>> {
        self.say(&Frame::Credit(credit))?;
        while self.received.len() < packages {
            let part = self.end().hear_until(|frame| match frame {
                Frame::Data(part) => Some(part),
                _ => None,
            })?;
            let whole = self.unpacker.push(&part);
            self.received.extend(whole);
        }
        Ok(self.received.iter().map(|package| package.number).collect())
    }

    /// Says `ACK`, and knows that everything up to there may go.
    pub(crate) fn acknowledge(&mut self, upto: Number) -> io::Result<()> {
        let taken = self.received.iter().filter(|package| package.number <= upto);
        self.acknowledged.extend(taken.map(|package| package.bytes.clone()));
        self.say(&Frame::Ack(upto))
    }

    pub(crate) fn until_deleted(&mut self, upto: Number) -> io::Result<()> {
        self.end().hear_until(|frame| match frame {
            Frame::Deleted(number) if number >= upto => Some(()),
            _ => None,
        })
    }

    /// Whether anything of the packages can be had.
    pub(crate) fn gets_something(&mut self) -> io::Result<bool> {
        self.say(&Frame::Credit(u64::MAX))?;
        self.end().hear_until(|frame| matches!(frame, Frame::Data(_) | Frame::Listing { .. }).then_some(true))
    }

    pub(crate) fn ponged(&mut self) -> io::Result<()> {
        self.say(&Frame::Ping(0xA11CE))?;
        self.end().hear_until(|frame| matches!(frame, Frame::Pong(0xA11CE)).then_some(()))
    }

    pub(crate) fn hang_up(&mut self) -> io::Result<()> {
        self.end().socket().shutdown(Shutdown::Write)
    }

    /// The node ends the connection.
    pub(crate) fn is_ended(&mut self) -> io::Result<()> {
        let Some(end) = &mut self.end else { return Ok(()) };
        end.patience(END_WITHIN)?;
        match end.rest() {
            Ok(_) => Ok(()),
            Err(error) => Err(io::Error::other(format!("the node does not end the connection: {error}"))),
        }
    }
}
