//! A thousand sites in one process: real TLS connections, the real listening end of relay, and packages in memory instead
//! of a spool, so that the sync server can be looked at alone.
//!
//! Every site listens on a port of its own at one address, and all show one certificate.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::ServerConfig;
use tidegate_net::tls::{self, ServerFiles};
use tidegate_net::{Link, LinkError};
use tidegate_proto::relay::{Head, Node, NodeEvent, Number, Purpose, Welcome};
use tidegate_proto::{Name, Time};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;

use crate::address;
use crate::certificates::Authority;
use crate::oracle::digest;

/// The epoch that every site holds.
const EPOCH: u64 = 1;

/// The run that every site's packages are of.
const RUN: u64 = 1 << 40;

/// Longest handshake, wait for a `HELLO`, and stall of a write.
const PATIENCE: Duration = Duration::from_secs(60);

/// The sites. They end with the guard.
#[derive(Debug)]
pub struct Fleet {
    sites: Vec<Arc<Source>>,
    addresses: Vec<SocketAddr>,
    /// Ends the tasks.
    _runtime: Runtime,
}

/// One site's packages.
#[derive(Debug, Default)]
struct Source {
    packages: Mutex<Packages>,
    news: Notify,
    connections: AtomicUsize,
}

#[derive(Debug, Default)]
struct Packages {
    last: u64,
    /// Offered and not yet deleted, oldest first.
    held: VecDeque<Arc<Package>>,
}

#[derive(Debug)]
struct Package {
    head: Head,
    body: Vec<u8>,
}

/// How far a connection has come.
#[derive(Default)]
struct Stream {
    /// Whether packages were asked for.
    wanted: bool,
    last: Option<Number>,
    /// The package on its way, and how much of it has been written.
    current: Option<(Arc<Package>, usize)>,
}

type Tls = tokio_rustls::server::TlsStream<TcpStream>;

impl Fleet {
    /// Starts so many, with a certificate from `authority`.
    ///
    /// # Panics
    /// When the machine does not allow so many sockets.
    pub fn start(authority: &Authority, sites: usize) -> Fleet {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("the system gives a thread");
        let ip = address::unused();
        let config = server_config(authority, ip);
        let sites: Vec<_> = (0..sites).map(|_| Arc::new(Source::default())).collect();
        let addresses = sites.iter().map(|source| {
            let bound = runtime.block_on(TcpListener::bind((ip, 0)));
            let listener = bound.unwrap_or_else(|error| panic!("a port for each site: {error}"));
            let address = listener.local_addr().expect("it is bound");
            runtime.spawn(Arc::clone(source).listen(listener, Arc::clone(&config)));
            address
        });
        Fleet { addresses: addresses.collect(), sites, _runtime: runtime }
    }

    /// Where the sites listen.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// A package arrives at a site.
    ///
    /// # Panics
    /// When the name is none.
    pub fn offer(&self, site: usize, name: &str, body: Vec<u8>) {
        let source = &self.sites[site];
        let mut packages = source.lock();
        packages.last += 1;
        let short: [u8; 8] = digest(&body)[..8].try_into().expect("eight bytes of more");
        let head = Head {
            number: Number { run: RUN, counter: packages.last },
            arrival: now(),
            size: body.len() as u64,
            digest: u64::from_be_bytes(short),
            name: Name::parse(name.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}")),
        };
        packages.held.push_back(Arc::new(Package { head, body }));
        source.news.notify_one();
    }

    /// Packages that are not deleted yet.
    pub fn held(&self) -> usize {
        self.sites.iter().map(|source| source.lock().held.len()).sum()
    }

    /// Connections that came and were welcomed so far.
    pub fn connections(&self) -> usize {
        self.sites.iter().map(|source| source.connections.load(Ordering::SeqCst)).sum()
    }
}

impl Source {
    fn lock(&self) -> MutexGuard<'_, Packages> {
        self.packages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn listen(self: Arc<Source>, listener: TcpListener, config: Arc<ServerConfig>) {
        while let Ok((socket, _)) = listener.accept().await {
            let _ = socket.set_nodelay(true);
            if let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, tls::accept(&config, socket)).await {
                // How it ends is the sync server's business.
                tokio::spawn(Arc::clone(&self).serve(stream));
            }
        }
    }

    async fn serve(self: Arc<Source>, stream: Tls) -> Result<(), LinkError> {
        let mut link = Link::new(stream, Node::new(PATIENCE, Time::ZERO), PATIENCE);
        let mut stream = Stream::default();
        loop {
            if stream.wanted {
                self.send(&mut link, &mut stream);
            }
            let event = tokio::select! {
                event = link.next() => event?,
                () = self.news.notified(), if stream.wanted => continue,
            };
            match event {
                NodeEvent::Hello(hello) => {
                    self.connections.fetch_add(1, Ordering::SeqCst);
                    stream.wanted = hello.purpose == Purpose::Stream;
                    let welcome = self.welcome();
                    let now = link.now();
                    link.machine().welcome(welcome, now);
                }
                NodeEvent::Acked(upto) => {
                    self.lock().held.retain(|package| package.head.number > upto);
                    link.machine().deleted(upto);
                }
                NodeEvent::List => link.machine().listing(b"", true),
                NodeEvent::Room | NodeEvent::LossesAcked(_) | NodeEvent::Shared(_) => {}
            }
        }
    }

    fn welcome(&self) -> Welcome {
        let oldest = self.lock().held.front().map(|package| package.head.number);
        Welcome { epoch: EPOCH, oldest, clock: now(), name: "fleet".into(), software: "fleet".into() }
    }

    /// Gives what there is and the connection has room for.
    fn send(&self, link: &mut Link<Tls, Node>, stream: &mut Stream) {
        loop {
            let now = link.now();
            if let Some((package, written)) = &mut stream.current {
                let room = link.machine().room(now).min(package.body.len() - *written);
                link.machine().write(&package.body[*written..][..room], now);
                *written += room;
                if *written < package.body.len() {
                    return;
                }
                stream.current = None;
            }
            let next =
                self.lock().held.iter().find(|package| Some(package.head.number) > stream.last).cloned();
            let Some(package) = next else { return link.machine().dry(now) };
            if !link.machine().may_begin(now) {
                return;
            }
            link.machine().begin(&package.head, now);
            stream.last = Some(package.head.number);
            stream.current = Some((package, 0));
        }
    }
}

fn server_config(authority: &Authority, ip: Ipv4Addr) -> Arc<ServerConfig> {
    let pair = authority.node("fleet", &[ip]);
    let files = ServerFiles {
        cert: pair.certificate,
        key: pair.key,
        ca: Some(authority.certificate()),
        require_client_cert: true,
        pinned: Vec::new(),
    };
    tls::server_config(&files).expect("the authority's files are good")
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    since.as_millis() as i64
}
