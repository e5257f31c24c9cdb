//! A long, narrow link: a relay that lets bytes through as late and as slowly as a wide-area network would.
//!
//! The kernel offers no delay here, so this one is made in user space, by two threads for each direction of a
//! connection:
//!
//! - Each byte arrives half a round trip after it has left, and at most `rate` bytes a second leave in each direction,
//!   those of all connections one behind another. Waiting threads sleep: it costs no core, and a byte is as late as the
//!   machine is at waking a thread, which is some tenths of a millisecond.
//! - What is under way is bounded, as on a real link, by the bandwidth-delay product and a buffer (`BUFFER`), or, on a
//!   link without a rate, by what a Linux receiver offers (`WINDOW`). Beyond it nothing more is read, and the sender
//!   feels it. (Its own kernel still takes what its socket buffers hold, here as in the field.)
//! - A connection is made in one round trip, begins with ten packets under way and doubles them each round trip, and begins
//!   so again after a pause: TCP's slow start. Nothing is lost, so there is nothing else of TCP in it.
//! - Bytes that count are those of TCP's payload: headers of packets, 3 or 4 in 100 on a real link, take no time here.

mod schedule;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::address;
use crate::tap::From;
use schedule::{FIRST_WINDOW, Line, PACKET, Room, Way};

/// What waits before a narrow link beyond its bandwidth-delay product: as much as leaves it in this time.
const BUFFER: Duration = Duration::from_millis(50);

/// What may be under way on a link that only the distance slows down: about what Linux's default buffers allow.
const WINDOW: u64 = 3 * 1024 * 1024;

/// Bytes that the kernel takes before the link has room for them. Less would be below loopback's own packets.
const SOCKET_BUFFER: usize = 256 * 1024;

/// Bytes that travel together: a thousandth of what passes in a second, at least a packet, at most so many.
const PIECE_PER_SECOND: u64 = 1_000;
const PIECE_MAX: u64 = 64 * 1024;

/// What a link is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// From a byte's sending until an answer to it is there.
    pub round_trip: Duration,
    /// Bytes a second in each direction.
    pub rate: Option<u64>,
}

/// The relay. Ends with the guard.
pub struct Wan {
    address: SocketAddr,
    link: Arc<Link>,
}

struct Link {
    target: SocketAddr,
    path: Path,
    origin: Instant,
    over: AtomicBool,
    connections: AtomicU64,
    /// Of the dialler, of the listener.
    lines: [Mutex<Line>; 2],
    passed: [AtomicU64; 2],
}

/// One direction of one connection.
struct Direction {
    link: Arc<Link>,
    from: From,
    source: TcpStream,
    sink: TcpStream,
    state: Mutex<State>,
    entered: Condvar,
    delivered: Condvar,
}

struct State {
    way: Way,
    /// What is under way, with the moment of its arrival.
    queue: VecDeque<(Duration, Piece)>,
    over: bool,
}

enum Piece {
    Bytes(Vec<u8>),
    /// Nothing more comes in this direction.
    End,
    /// The connection broke.
    Break,
}

impl Wan {
    /// Leads to `target`, from an address of its own.
    pub fn new(target: SocketAddr, path: Path) -> Wan {
        Wan::at(address::unused_socket(), target, path)
    }

    /// Leads from `address` to `target`.
    ///
    /// # Panics
    /// When the address is taken.
    pub fn at(address: SocketAddr, target: SocketAddr, path: Path) -> Wan {
        let listener =
            TcpListener::bind(address).unwrap_or_else(|error| panic!("link on {address}: {error}"));
        small_buffer(&listener);
        let link = Arc::new(Link {
            target,
            path,
            origin: Instant::now(),
            over: AtomicBool::new(false),
            connections: AtomicU64::new(0),
            lines: [(); 2].map(|()| Mutex::new(Line::new(path.rate))),
            passed: Default::default(),
        });
        let accepting = Arc::clone(&link);
        std::thread::spawn(move || accepting.accept(&listener));
        Wan { address, link }
    }

    /// Where to dial.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections came so far.
    pub fn connections(&self) -> u64 {
        self.link.connections.load(Ordering::SeqCst)
    }

    /// How many bytes of one side have entered so far, all connections together.
    pub fn passed(&self, from: From) -> u64 {
        self.link.passed[from as usize].load(Ordering::SeqCst)
    }
}

impl Drop for Wan {
    fn drop(&mut self) {
        self.link.over.store(true, Ordering::SeqCst);
        // Wakes the accepting thread; connections under way end with their peers.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
    }
}

impl Link {
    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn accept(self: &Arc<Link>, listener: &TcpListener) {
        for dialler in listener.incoming() {
            if self.over.load(Ordering::SeqCst) {
                return;
            }
            let Ok(dialler) = dialler else { continue };
            // A target that is down looks to the dialler like a connection that ends at once.
            let Ok(listener) = TcpStream::connect(self.target) else { continue };
            small_buffer(&listener);
            self.connections.fetch_add(1, Ordering::SeqCst);
            let (Ok(dialler_too), Ok(listener_too)) = (dialler.try_clone(), listener.try_clone()) else {
                continue;
            };
            self.join(From::Dialler, dialler, listener);
            self.join(From::Listener, listener_too, dialler_too);
        }
    }

    fn join(self: &Arc<Link>, from: From, source: TcpStream, sink: TcpStream) {
        let _ = sink.set_nodelay(true);
        let Path { round_trip, rate } = self.path;
        let window = rate.map_or(WINDOW, |rate| per(rate, round_trip + BUFFER).max(FIRST_WINDOW));
        // The dialler hears that it is connected after a round trip, the listener half of one later.
        let opens =
            self.now() + round_trip + if from == From::Listener { round_trip / 2 } else { Duration::ZERO };
        let direction = Arc::new(Direction {
            link: Arc::clone(self),
            from,
            source,
            sink,
            state: Mutex::new(State {
                way: Way::new(round_trip / 2, window, opens),
                queue: VecDeque::new(),
                over: false,
            }),
            entered: Condvar::new(),
            delivered: Condvar::new(),
        });
        let taking = Arc::clone(&direction);
        std::thread::spawn(move || taking.take());
        std::thread::spawn(move || direction.give());
    }
}

impl Direction {
    /// Reads what the link has room for.
    fn take(&self) {
        let piece = self.link.path.rate.map_or(PIECE_MAX, |rate| rate / PIECE_PER_SECOND);
        let mut buffer = vec![0; piece.clamp(PACKET, PIECE_MAX) as usize];
        while let Some(room) = self.room() {
            let most = buffer.len().min(room);
            let read = (&self.source).read(&mut buffer[..most]);
            let mut state = self.lock();
            let now = self.link.now();
            let mut line = self.link.lines[self.from as usize].lock().unwrap_or_else(PoisonError::into_inner);
            let bytes = read.as_ref().map_or(0, |read| *read);
            let arrives = state.way.enter(bytes as u64, &mut line, now);
            drop(line);
            self.link.passed[self.from as usize].fetch_add(bytes as u64, Ordering::SeqCst);
            let piece = match read {
                Ok(0) => Piece::End,
                Ok(read) => Piece::Bytes(buffer[..read].to_vec()),
                Err(_) => Piece::Break,
            };
            let last = !matches!(piece, Piece::Bytes(_));
            state.queue.push_back((arrives, piece));
            self.entered.notify_one();
            if last {
                return;
            }
        }
    }

    /// Waits until something may enter; `None` when nobody takes it any more.
    fn room(&self) -> Option<usize> {
        let mut state = self.lock();
        while !state.over {
            state = match state.way.room(self.link.now()) {
                Room::Bytes(room) => return Some(room as usize),
                Room::At(moment) => self.wait_until(moment, &self.delivered, state),
                Room::Never => self.delivered.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
        None
    }

    /// Writes what has arrived.
    fn give(&self) {
        loop {
            match self.arrived() {
                Piece::Bytes(bytes) => {
                    let given = (&self.sink).write_all(&bytes);
                    self.lock().way.delivered(bytes.len() as u64, self.link.now());
                    self.delivered.notify_one();
                    if given.is_err() {
                        return self.part();
                    }
                }
                // An end of one direction is passed on as just that.
                Piece::End => return drop(self.sink.shutdown(Shutdown::Write)),
                Piece::Break => return self.part(),
            }
        }
    }

    /// Waits for what comes next.
    fn arrived(&self) -> Piece {
        let mut state = self.lock();
        loop {
            state = match state.queue.front() {
                None => self.entered.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some((arrives, _)) if *arrives > self.link.now() => {
                    let arrives = *arrives;
                    self.wait_until(arrives, &self.entered, state)
                }
                Some(_) => return state.queue.pop_front().expect("there is a first one").1,
            };
        }
    }

    /// Ends both sides.
    fn part(&self) {
        self.lock().over = true;
        self.delivered.notify_one();
        for end in [&self.source, &self.sink] {
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    fn wait_until<'a>(
        &self,
        moment: Duration,
        changed: &Condvar,
        state: MutexGuard<'a, State>,
    ) -> MutexGuard<'a, State> {
        let rest = moment.saturating_sub(self.link.now());
        changed.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What passes at this rate in this time.
fn per(rate: u64, time: Duration) -> u64 {
    (u128::from(rate) * time.as_micros() / 1_000_000) as u64
}

fn small_buffer(socket: &impl std::os::fd::AsFd) {
    rustix::net::sockopt::set_socket_recv_buffer_size(socket, SOCKET_BUFFER)
        .expect("a socket has the option");
}

impl std::fmt::Debug for Wan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wan").field("address", &self.address).field("path", &self.link.path).finish()
    }
}
