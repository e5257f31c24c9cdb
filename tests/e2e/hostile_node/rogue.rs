//! A node's end in a rogue's hands.

use std::io;
use std::net::TcpStream;
use std::time::Duration;

use tidegate_proto::relay::frame::Frame;
use tidegate_proto::relay::{Hello, Number, Welcome};
use tidegate_tests::relay::{Blocks, End, Package, packed};

/// How long the server may take to end a connection: a few times what it says it waits.
const END_WITHIN: Duration = Duration::from_secs(20);

/// What a case says things with. Packages that it makes are new ones, in order.
pub(crate) struct Rogue {
    end: End,
    site: Ids,
    run: u64,
    counter: u64,
    hello: Option<Hello>,
    credit: u64,
    /// Sent as it should be.
    honest: Vec<Package>,
    /// Those of them that must arrive.
    must: Vec<String>,
    /// For the case's next connection.
    kept: Vec<Package>,
}

/// What a rogue knows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ids {
    /// The run of its packages.
    pub(crate) run: u64,
    /// A number that the good site has used.
    pub(crate) good: Number,
    /// The size of the largest package that the server takes.
    pub(crate) max_size: u64,
}

impl Rogue {
    pub(crate) fn new(end: End, site: Ids, counter: u64, kept: Vec<Package>) -> Rogue {
        let (honest, must) = (Vec::new(), Vec::new());
        Rogue { end, site, run: site.run, counter, hello: None, credit: 0, honest, must, kept }
    }

    pub(crate) fn counter(&self) -> u64 {
        self.counter
    }

    pub(crate) fn honest(&self) -> (Vec<(String, Vec<u8>)>, Vec<String>) {
        let honest = self.honest.iter().map(|package| (package.name.clone(), package.bytes.clone()));
        (honest.collect(), self.must.clone())
    }

    pub(crate) fn keep(&mut self, package: Package) {
        self.kept.push(package);
    }

    /// What the case's connections before this one have kept.
    pub(crate) fn kept(&self) -> Vec<Package> {
        self.kept.clone()
    }

    /// The end of this connection.
    pub(crate) fn into_kept(self) -> Vec<Package> {
        self.kept
    }

    pub(crate) fn hear_hello(&mut self) -> io::Result<()> {
        let hello = self.end.hear_until(|frame| match frame {
            Frame::Hello(hello) => Some(hello),
            _ => None,
        })?;
        self.hello = Some(hello);
        Ok(())
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        self.end.socket()
    }

    pub(crate) fn say(&mut self, frame: &Frame) -> io::Result<()> {
        self.end.say(frame)
    }

    pub(crate) fn raw(&mut self, kind: u8, payload: &[u8]) -> io::Result<()> {
        self.end.raw(kind, payload)
    }

    pub(crate) fn bytes(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.end.bytes(bytes)
    }

    pub(crate) fn data(&mut self, compressed: &[u8]) -> io::Result<()> {
        self.end.data(compressed)
    }

    /// What a good node answers.
    pub(crate) fn good_welcome(&self) -> Welcome {
        let epoch = self.hello.as_ref().map_or(1, |hello| hello.epoch);
        Welcome {
            epoch,
            oldest: None,
            clock: 1_700_000_000_000,
            name: "rogue".into(),
            software: "rogue 1".into(),
        }
    }

    pub(crate) fn welcome(&mut self) -> io::Result<()> {
        let welcome = Frame::Welcome(self.good_welcome());
        self.say(&welcome)
    }

    pub(crate) fn max_size(&self) -> u64 {
        self.site.max_size
    }

    pub(crate) fn good_number(&self) -> Number {
        self.site.good
    }

    pub(crate) fn next_number(&mut self) -> Number {
        self.counter += 1;
        Number { run: self.run, counter: self.counter }
    }

    pub(crate) fn skip_numbers(&mut self, count: u64) {
        self.counter += count;
    }

    /// From now on numbers are above all that were used.
    pub(crate) fn later_runs(&mut self) {
        self.run = (self.run << 32) + (self.counter << 12) + (1 << 11);
    }

    /// A new package that nobody has sent yet.
    pub(crate) fn package(&mut self) -> Package {
        let number = self.next_number();
        self.package_of(number)
    }

    /// The same under a number of one's choice.
    pub(crate) fn package_of(&mut self, number: Number) -> Package {
        self.counter += 1;
        let name = format!("rogue-{:x}-{}.{}.data", self.run, self.counter, 1_700_000_000 + self.counter);
        let bytes = format!("{name} holds this").repeat(20).into_bytes();
        Package { number, name, bytes }
    }

    /// From now on this one may arrive, once.
    pub(crate) fn may_arrive(&mut self, package: &Package) {
        self.honest.push(package.clone());
    }

    /// This one must.
    pub(crate) fn must_arrive(&mut self, package: &Package) {
        self.honest.push(package.clone());
        self.must.push(package.name.clone());
    }

    /// A package as it should be, sent whole.
    pub(crate) fn send_honest(&mut self) -> io::Result<Package> {
        let package = self.package();
        self.may_arrive(&package);
        self.data(&packed(&package.record()))?;
        Ok(package)
    }

    /// The same, and waits for its acknowledgement.
    pub(crate) fn delivered(&mut self) -> io::Result<Package> {
        let package = self.send_honest()?;
        self.must.push(package.name.clone());
        self.until_acked(package.number)?;
        Ok(package)
    }

    pub(crate) fn until_acked(&mut self, number: Number) -> io::Result<()> {
        self.end.hear_until(|frame| match frame {
            Frame::Ack(upto) if upto >= number => Some(()),
            _ => None,
        })
    }

    /// The connection is as good as before: a package goes through, and its deletion is taken.
    pub(crate) fn still_works(&mut self) -> io::Result<()> {
        let works = (|| {
            let package = self.delivered()?;
            self.say(&Frame::Deleted(package.number))?;
            self.say(&Frame::Dry)?;
            self.ponged()
        })();
        works
            .map_err(|error: io::Error| io::Error::other(format!("the connection does not live on: {error}")))
    }

    /// Says that nothing more comes, and still listens.
    pub(crate) fn hang_up(&mut self) -> io::Result<()> {
        self.socket().shutdown(std::net::Shutdown::Write)
    }

    /// The server is there.
    pub(crate) fn ponged(&mut self) -> io::Result<()> {
        self.say(&Frame::Ping(0xA11CE))?;
        self.end.hear_until(|frame| matches!(frame, Frame::Pong(0xA11CE)).then_some(()))
    }

    /// The server ends the connection.
    pub(crate) fn is_ended(&mut self) -> io::Result<()> {
        self.end.patience(END_WITHIN)?;
        match self.end.rest() {
            Ok(_) => Ok(()),
            Err(error) => Err(io::Error::other(format!("the server does not end the connection: {error}"))),
        }
    }

    /// A credit of at least so much has come.
    pub(crate) fn until_credit(&mut self, least: u64) -> io::Result<u64> {
        while self.credit < least {
            self.credit = self.end.hear_until(|frame| match frame {
                Frame::Credit(total) => Some(total),
                _ => None,
            })?;
        }
        Ok(self.credit)
    }

    /// An open compressed frame with this in it.
    pub(crate) fn open(bytes: &[u8]) -> Vec<u8> {
        Blocks::new(17).raw(bytes).open()
    }
}
