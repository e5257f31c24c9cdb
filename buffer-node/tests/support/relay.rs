//! A puller for tests: the real machine over real TLS, with a store of what came.

use std::collections::VecDeque;

use tidegate_net::tls::{self, ALPN_RELAY, ClientFiles, Verify};
use tidegate_net::{Link, LinkError};
use tidegate_proto::relay::{
    Farewell, Head, Hello, LossRecord, Number, Puller as Machine, PullerEvent, Purpose, SharedAnswer, Status,
    Welcome,
};
use tidegate_proto::{Close, Time};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::pki::{Authority, Issued};
use super::{Node, PATIENCE, Root};

/// More than any test sends.
pub(crate) const PLENTY: u64 = 1 << 32;

/// A node with certificates, and those of two sync servers.
pub(crate) struct Site {
    pub(crate) authority: Authority,
    pub(crate) central: Issued,
    pub(crate) other: Issued,
    directory: tempfile::TempDir,
}

/// A connection by relay.
pub(crate) struct Puller {
    pub(crate) link: Link<TlsStream<TcpStream>, Machine>,
    pub(crate) packages: Vec<Package>,
    pub(crate) skipped: Vec<Head>,
    pub(crate) statuses: Vec<Status>,
    pub(crate) losses: Vec<LossRecord>,
    pub(crate) deleted: Option<Number>,
    pub(crate) names: Vec<u8>,
    /// About shared files.
    pub(crate) answers: VecDeque<SharedAnswer>,
    /// The package that is coming.
    coming: Option<Package>,
}

/// A package that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
}

/// What is worth stopping for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    Welcome(Welcome),
    Package,
    Skipped,
    Dry,
    Deleted(Number),
    Status,
    Losses,
    ListingEnd,
    Answer,
}

impl Site {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let authority = Authority::new(&directory.path().join("pki"));
        let central = authority.client("central-1", "server/central-1", false);
        let other = authority.client("central-2", "server/central-2", false);
        Self { authority, central, other, directory }
    }

    pub(crate) fn node(&self, extra: &str) -> Node {
        self.root(extra).start()
    }

    pub(crate) fn root(&self, extra: &str) -> Root {
        let Issued { cert, key } = self.authority.node();
        Root::new(&format!(
            "ssl_cert = {cert:?}\nssl_key = {key:?}\nssl_ca = {:?}\n{extra}",
            self.authority.ca
        ))
    }

    /// A connection by relay, with plenty of credit.
    pub(crate) async fn dial(&self, node: &Node, certificate: Option<&Issued>, hello: Hello) -> Puller {
        let config = tls::client_config(&ClientFiles {
            ca: Some(self.authority.ca.clone()),
            cert: certificate.map(|issued| issued.cert.clone()),
            key: certificate.map(|issued| issued.key.clone()),
            verify: Verify::Name { expected: "127.0.0.1".into() },
            protocols: vec![ALPN_RELAY],
        });
        let stream = TcpStream::connect(node.address).await.expect("connects");
        let stream = tls::connect(&config.expect("a configuration"), "127.0.0.1", stream).await;
        let stream = stream.unwrap_or_else(|error| panic!("{}", tls::explain(&error)));
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(ALPN_RELAY));
        Puller {
            link: Link::new(stream, Machine::new(hello, Time::ZERO), PATIENCE),
            packages: Vec::new(),
            skipped: Vec::new(),
            statuses: Vec::new(),
            losses: Vec::new(),
            deleted: None,
            names: Vec::new(),
            answers: VecDeque::new(),
            coming: None,
        }
    }

    /// The stream of the first sync server under epoch 1, with plenty of credit.
    pub(crate) async fn stream(&self, node: &Node) -> Puller {
        let mut puller = self.dial(node, Some(&self.central), stream(1)).await;
        puller.grant(PLENTY);
        puller.welcome().await;
        puller
    }
}

/// Asks for the stream.
pub(crate) fn stream(epoch: u64) -> Hello {
    Hello {
        purpose: Purpose::Stream,
        standing: true,
        epoch,
        keep_alive: PATIENCE,
        max_package: 64 << 20,
        rate: 0,
        clock: 0,
        name: "central".into(),
        software: "a test".into(),
    }
}

/// Asks for something else.
pub(crate) fn hello(purpose: Purpose, epoch: u64) -> Hello {
    Hello { purpose, standing: false, ..stream(epoch) }
}

impl Puller {
    /// The next sign; or why the connection is over.
    pub(crate) async fn next(&mut self) -> Result<Sign, LinkError> {
        let soon = timeout(PATIENCE, self.next_in_time());
        soon.await.unwrap_or_else(|_| panic!("nothing came: {} packages so far", self.packages.len()))
    }

    async fn next_in_time(&mut self) -> Result<Sign, LinkError> {
        loop {
            if let Some(sign) = self.event().await? {
                return Ok(sign);
            }
        }
    }

    /// One event of the machine.
    pub(crate) async fn event(&mut self) -> Result<Option<Sign>, LinkError> {
        match self.link.next().await? {
            PullerEvent::Welcome(welcome) => return Ok(Some(Sign::Welcome(welcome))),
            PullerEvent::DecoderNeeded => {
                let now = self.link.now();
                self.link.machine().decoder_granted(now);
            }
            PullerEvent::DecoderFreed => {}
            PullerEvent::Package(head) => self.coming = Some(Package { head, body: Vec::new() }),
            PullerEvent::Body(bytes) => self.coming.as_mut().expect("has begun").body.extend(bytes),
            PullerEvent::PackageEnd => {
                self.packages.push(self.coming.take().expect("has begun"));
                return Ok(Some(Sign::Package));
            }
            PullerEvent::Skipped(head) => {
                self.skipped.push(head);
                return Ok(Some(Sign::Skipped));
            }
            PullerEvent::Dry => return Ok(Some(Sign::Dry)),
            PullerEvent::Deleted(upto) => {
                self.deleted = Some(upto);
                return Ok(Some(Sign::Deleted(upto)));
            }
            PullerEvent::Status(status) => {
                self.statuses.push(*status);
                return Ok(Some(Sign::Status));
            }
            PullerEvent::Losses(records) => {
                self.losses.extend(records);
                return Ok(Some(Sign::Losses));
            }
            PullerEvent::Listing { names, last } => {
                if !self.names.is_empty() {
                    self.names.push(b'\n');
                }
                self.names.extend(names);
                return Ok(last.then_some(Sign::ListingEnd));
            }
            PullerEvent::Shared(answer) => {
                self.answers.push_back(answer);
                return Ok(Some(Sign::Answer));
            }
        }
        Ok(None)
    }

    /// Waits for one sign, whatever else comes before it.
    pub(crate) async fn until(&mut self, mut is_it: impl FnMut(&Self, &Sign) -> bool) -> Sign {
        loop {
            let sign = self.next().await.unwrap_or_else(|error| panic!("{error}"));
            if is_it(self, &sign) {
                return sign;
            }
        }
    }

    pub(crate) async fn welcome(&mut self) -> Welcome {
        match self.next().await {
            Ok(Sign::Welcome(welcome)) => welcome,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until everything has come.
    pub(crate) async fn dry(&mut self) {
        self.until(|_, sign| *sign == Sign::Dry).await;
    }

    /// Waits until so many packages have come.
    pub(crate) async fn packages(&mut self, count: usize) {
        while self.packages.len() < count {
            self.until(|_, sign| *sign == Sign::Package).await;
        }
    }

    /// Acknowledges everything that has come, and waits until it is gone.
    pub(crate) async fn take_all(&mut self) {
        let last = self.last();
        self.link.machine().ack(last);
        self.until(|_, sign| *sign == Sign::Deleted(last)).await;
    }

    /// The number of the last package that came.
    pub(crate) fn last(&self) -> Number {
        self.packages.last().expect("a package").head.number
    }

    pub(crate) fn grant(&mut self, total: u64) {
        self.link.machine().grant(total);
    }

    /// What the node says as it ends the connection.
    pub(crate) async fn farewell(&mut self) -> Farewell {
        loop {
            match self.next().await {
                Ok(_) => {}
                Err(LinkError::Closed(Close::Farewell(farewell))) => return farewell,
                Err(other) => panic!("{other}"),
            }
        }
    }

    /// The names and bytes of what has come.
    pub(crate) fn contents(&self) -> Vec<(String, Vec<u8>)> {
        let name =
            |package: &Package| String::from_utf8(package.head.name.as_bytes().to_vec()).expect("a name");
        self.packages.iter().map(|package| (name(package), package.body.clone())).collect()
    }

    /// Leaves in an orderly way.
    pub(crate) async fn leave(mut self) {
        self.link.machine().close(Farewell::new(tidegate_proto::relay::CloseCode::Done, ""));
        while self.link.next().await.is_ok() {}
        self.link.shutdown().await;
    }
}
