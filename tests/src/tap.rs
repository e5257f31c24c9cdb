//! A wire tap: a relay in front of a listener that sees every chunk of bytes, in both directions, before it goes on.
//!
//! A test's rule may look, wait, change the bytes, do something elsewhere first (rewrite a file, kill a process) or cut
//! the connection. The peers keep lock-step, so on a plain connection one chunk is one command, one reply or a piece of
//! one body. That puts every fault between exactly the two messages the test names, with no hook inside any server.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::address;

/// Whose bytes they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// Of the side that dialled.
    Dialler,
    /// Of the side that listens.
    Listener,
}

/// What becomes of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on, as the rule left it.
    Pass,
    /// It goes on, and then both sides see the connection end.
    PassAndCut,
    /// It is swallowed, and both sides see the connection end.
    Cut,
}

/// One chunk on its way.
#[derive(Debug)]
pub struct Chunk<'a> {
    /// The number of the connection, from 0.
    pub connection: u64,
    /// Whose bytes.
    pub from: From,
    /// The bytes; a rule may change them.
    pub bytes: &'a mut Vec<u8>,
    /// How many bytes of this side passed before this chunk, all connections together.
    pub before: u64,
}

impl Chunk<'_> {
    /// Whether the dialler says something that starts so.
    pub fn asks(&self, start: &str) -> bool {
        self.from == From::Dialler && self.bytes.starts_with(start.as_bytes())
    }

    /// Whether the listener says something that starts so.
    pub fn answers(&self, start: &str) -> bool {
        self.from == From::Listener && self.bytes.starts_with(start.as_bytes())
    }
}

type Rule = dyn Fn(&mut Chunk<'_>) -> Verdict + Send + Sync;

/// Something that happens once, when so many bytes have passed: an exact and repeatable "any moment".
#[derive(Default)]
pub struct Fuse(Mutex<Option<Lit>>);

struct Lit {
    from: From,
    at: u64,
    then: Box<dyn FnOnce() + Send>,
}

impl Fuse {
    /// Lights it: `then` happens just before byte number `at` of one side passes.
    pub fn light(&self, from: From, at: u64, then: impl FnOnce() + Send + 'static) {
        *self.lock() = Some(Lit { from, at, then: Box::new(then) });
    }

    /// Whether nothing has happened yet.
    pub fn is_lit(&self) -> bool {
        self.lock().is_some()
    }

    /// Puts it out; says whether it was still burning. Afterwards nothing will happen any more.
    pub fn put_out(&self) -> bool {
        self.lock().take().is_some()
    }

    /// Lets a chunk pass, or stops it at the fuse's byte: what lies before that byte still goes on.
    pub fn pass(&self, chunk: &mut Chunk<'_>) -> Verdict {
        let mut lit = self.lock();
        let end = chunk.before + chunk.bytes.len() as u64;
        if lit.as_ref().is_none_or(|lit| lit.from != chunk.from || end <= lit.at) {
            return Verdict::Pass;
        }
        let Lit { at, then, .. } = lit.take().expect("just seen");
        then();
        chunk.bytes.truncate(at.saturating_sub(chunk.before) as usize);
        Verdict::PassAndCut
    }

    fn lock(&self) -> MutexGuard<'_, Option<Lit>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Fuse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Fuse").field(&self.lock().as_ref().map(|lit| lit.at)).finish()
    }
}

/// A relay with a rule. Ends with the guard.
pub struct Tap {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    target: SocketAddr,
    rule: Box<Rule>,
    over: AtomicBool,
    connections: AtomicU64,
    /// Of the dialler, of the listener.
    passed: [AtomicU64; 2],
}

impl Tap {
    /// Relays to `target`, on an address of its own.
    pub fn new(target: SocketAddr, rule: impl Fn(&mut Chunk<'_>) -> Verdict + Send + Sync + 'static) -> Tap {
        Tap::at(address::unused_socket(), target, rule)
    }

    /// Relays from `address` to `target`.
    ///
    /// # Panics
    /// When the address is taken.
    pub fn at(
        address: SocketAddr,
        target: SocketAddr,
        rule: impl Fn(&mut Chunk<'_>) -> Verdict + Send + Sync + 'static,
    ) -> Tap {
        let listener = TcpListener::bind(address).unwrap_or_else(|error| panic!("tap on {address}: {error}"));
        let shared = Arc::new(Shared {
            target,
            rule: Box::new(rule),
            over: AtomicBool::new(false),
            connections: AtomicU64::new(0),
            passed: Default::default(),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || accepting.accept(&listener));
        Tap { address, shared }
    }

    /// Where to dial.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections came so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many bytes of one side passed so far.
    pub fn passed(&self, from: From) -> u64 {
        self.shared.passed[from as usize].load(Ordering::SeqCst)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        // Wakes the accepting thread; relays in flight end with their peers.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
    }
}

impl Shared {
    fn accept(self: &Arc<Shared>, listener: &TcpListener) {
        for dialler in listener.incoming() {
            if self.over.load(Ordering::SeqCst) {
                return;
            }
            let Ok(dialler) = dialler else { continue };
            let connection = self.connections.fetch_add(1, Ordering::SeqCst);
            // A target that is down (killed, say) looks to the dialler like a connection that ends at once.
            let Ok(listener) = TcpStream::connect(self.target) else { continue };
            for stream in [&dialler, &listener] {
                let _ = stream.set_nodelay(true);
            }
            let (Ok(dialler_too), Ok(listener_too)) = (dialler.try_clone(), listener.try_clone()) else {
                continue;
            };
            let shared = Arc::clone(self);
            std::thread::spawn(move || shared.relay(connection, From::Dialler, dialler, listener));
            let shared = Arc::clone(self);
            std::thread::spawn(move || shared.relay(connection, From::Listener, listener_too, dialler_too));
        }
    }

    fn relay(&self, connection: u64, from: From, mut source: TcpStream, mut sink: TcpStream) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read) = source.read(&mut buffer) {
            if read == 0 {
                // An end of one direction is passed on as just that.
                let _ = sink.shutdown(Shutdown::Write);
                return;
            }
            let mut bytes = buffer[..read].to_vec();
            let before = self.passed[from as usize].fetch_add(read as u64, Ordering::SeqCst);
            let mut chunk = Chunk { connection, from, bytes: &mut bytes, before };
            let verdict = (self.rule)(&mut chunk);
            if verdict == Verdict::Cut || sink.write_all(&bytes).is_err() || verdict == Verdict::PassAndCut {
                break;
            }
        }
        let _ = source.shutdown(Shutdown::Both);
        let _ = sink.shutdown(Shutdown::Both);
    }
}

impl std::fmt::Debug for Tap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tap").field("address", &self.address).field("target", &self.shared.target).finish()
    }
}
