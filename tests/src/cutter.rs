//! A relay that cuts: each connection gets a plan, which says after how many of its bytes what happens to it.
//!
//! Beside [`crate::tap`], whose rules look at what is said, this one knows connections: a plan belongs to one of them, bytes are
//! counted from its start, connections can be held up until there is a plan for them, and one direction can end or
//! pause while the other goes on.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::address;
use crate::tap::From;
use crate::until::{self, PATIENCE};

/// How long a connection may go on after it was cut: longer than anybody bears silence, or a pause lasts.
const LONGEST_AFTERWARDS: Duration = Duration::from_secs(6);

/// How a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Both sides see it end.
    End,
    /// Both sides see it reset.
    Reset,
    /// The receiver of this direction sees its end and the sender nothing, whose further bytes are swallowed. The other
    /// direction goes on.
    HalfEnd,
    /// Nothing more comes through in this direction and nobody is told. The other goes on.
    Silence,
    /// This direction pauses, and then goes on.
    Stall(Duration),
}

/// What is to happen to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// The direction whose bytes count.
    pub from: From,
    /// So many of them pass before it happens.
    pub at: u64,
    /// What.
    pub how: How,
}

/// What became of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// Whether it was cut. If not, it ended before the byte came.
    pub cut: bool,
    /// Bytes that went through: of the dialler, of the listener.
    pub bytes: [u64; 2],
}

/// The relay. Ends with the guard.
pub struct Cutter {
    address: SocketAddr,
    gate: Arc<Gate>,
}

/// What waits for connections, and the other way round.
struct Gate {
    target: SocketAddr,
    over: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Connections without a plan wait for one.
    held: bool,
    next: Option<Planned>,
    under_way: Vec<Arc<Way>>,
}

struct Planned {
    cut: Option<Cut>,
    tell: Option<Sender<Passed>>,
}

/// One connection under way.
struct Way {
    /// Of the dialler, of the listener.
    ends: [TcpStream; 2],
    planned: Option<Cut>,
    cut: AtomicBool,
    bytes: [AtomicU64; 2],
}

impl Cutter {
    /// Relays to `target`, on an address of its own.
    pub fn new(target: SocketAddr) -> Cutter {
        Cutter::at(address::unused_socket(), target)
    }

    /// Relays from `address` to `target`.
    ///
    /// # Panics
    /// When the address is taken.
    pub fn at(address: SocketAddr, target: SocketAddr) -> Cutter {
        let listener =
            TcpListener::bind(address).unwrap_or_else(|error| panic!("cutter on {address}: {error}"));
        let gate = Arc::new(Gate {
            target,
            over: AtomicBool::new(false),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let accepting = Arc::clone(&gate);
        std::thread::spawn(move || {
            for dialler in listener.incoming() {
                if accepting.over.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(dialler) = dialler else { continue };
                let gate = Arc::clone(&accepting);
                std::thread::spawn(move || gate.serve(dialler));
            }
        });
        Cutter { address, gate }
    }

    /// Where to dial.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on connections wait until [`Cutter::next`] has a plan for them.
    pub fn hold(&self) {
        self.gate.lock().held = true;
    }

    /// Lets connections pass unless there is a plan.
    pub fn open(&self) {
        self.gate.lock().held = false;
        self.gate.changed.notify_all();
    }

    /// A plan for the next connection; `None` lets it pass. What became of it is told when it is over.
    pub fn next(&self, cut: Option<Cut>) -> Receiver<Passed> {
        let (tell, told) = mpsc::channel();
        self.gate.lock().next = Some(Planned { cut, tell: Some(tell) });
        self.gate.changed.notify_all();
        told
    }

    /// The same, and waits until that connection is over.
    ///
    /// # Panics
    /// When patience ends first.
    pub fn serve(&self, cut: Option<Cut>) -> Passed {
        let told = self.next(cut);
        told.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no connection came and went for {cut:?}"))
    }

    /// The same for a dialler that keeps its connection: the one under way is ended first, and the next one too, when
    /// nothing has cut it within `patience`, or when it goes on long after the cut.
    ///
    /// # Panics
    /// When no connection comes.
    pub fn serve_standing(&self, cut: Option<Cut>, patience: Duration) -> Passed {
        let told = self.next(cut);
        self.end_under_way();
        if let Ok(passed) = told.recv_timeout(patience) {
            return passed;
        }
        if self.under_way().iter().any(|passed| passed.cut)
            && let Ok(passed) = told.recv_timeout(LONGEST_AFTERWARDS)
        {
            return passed;
        }
        until::some(&format!("a connection comes and goes for {cut:?}"), || {
            self.end_under_way();
            told.try_recv().ok()
        })
    }

    /// What has become of the connections under way so far.
    pub fn under_way(&self) -> Vec<Passed> {
        self.gate.lock().under_way.iter().map(|way| way.passed()).collect()
    }

    /// Ends them.
    pub fn end_under_way(&self) {
        self.gate.lock().under_way.iter().for_each(|way| way.end());
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.gate.over.store(true, Ordering::SeqCst);
        self.open();
        // Wakes the accepting thread; relays in flight end with their peers.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
    }
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the connection's turn.
    fn plan(&self) -> Planned {
        let mut state = self.lock();
        loop {
            if let Some(planned) = state.next.take() {
                return planned;
            }
            if !state.held {
                return Planned { cut: None, tell: None };
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn serve(&self, dialler: TcpStream) {
        let planned = self.plan();
        // A target that is down looks to the dialler like a connection that ends at once.
        let Ok(listener) = TcpStream::connect(self.target) else { return };
        for end in [&dialler, &listener] {
            let _ = end.set_nodelay(true);
        }
        let Planned { cut, tell } = planned;
        let way = Arc::new(Way {
            ends: [dialler, listener],
            planned: cut,
            cut: AtomicBool::new(false),
            bytes: Default::default(),
        });
        self.lock().under_way.push(Arc::clone(&way));
        std::thread::scope(|scope| {
            scope.spawn(|| way.relay(From::Listener));
            way.relay(From::Dialler);
        });
        self.lock().under_way.retain(|other| !Arc::ptr_eq(other, &way));
        let passed = way.passed();
        // Closed before anybody is told.
        drop(way);
        if let Some(tell) = tell {
            let _ = tell.send(passed);
        }
    }
}

impl Way {
    fn relay(&self, from: From) {
        let (mut source, mut sink) = match from {
            From::Dialler => (&self.ends[0], &self.ends[1]),
            From::Listener => (&self.ends[1], &self.ends[0]),
        };
        let mut to_go = self.planned.filter(|cut| cut.from == from).map(|cut| (cut.at, cut.how));
        let mut swallowing = false;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            // A cut before the next byte happens now, not when that byte comes.
            if let Some((_, how)) = to_go.take_if(|(at, _)| *at == 0) {
                self.cut.store(true, Ordering::SeqCst);
                match how {
                    How::End => return self.end(),
                    How::Reset => return self.reset(),
                    How::HalfEnd => {
                        let _ = sink.shutdown(Shutdown::Write);
                        swallowing = true;
                    }
                    How::Silence => swallowing = true,
                    How::Stall(pause) => until::pause(pause),
                }
            }
            let most = to_go.map_or(buffer.len(), |(at, _)| buffer.len().min(at as usize));
            match source.read(&mut buffer[..most]) {
                Ok(0) => {
                    // An end of one direction is passed on as just that; behind a swallowed one nobody waits for more.
                    return if swallowing { self.end() } else { drop(sink.shutdown(Shutdown::Write)) };
                }
                Err(_) => return self.end(),
                Ok(_) if swallowing => {}
                Ok(read) => {
                    self.bytes[from as usize].fetch_add(read as u64, Ordering::SeqCst);
                    if let Some((at, _)) = &mut to_go {
                        *at -= read as u64;
                    }
                    if sink.write_all(&buffer[..read]).is_err() {
                        return self.end();
                    }
                }
            }
        }
    }

    fn passed(&self) -> Passed {
        let bytes = [0, 1].map(|side| self.bytes[side].load(Ordering::SeqCst));
        Passed { cut: self.cut.load(Ordering::SeqCst), bytes }
    }

    fn end(&self) {
        for end in &self.ends {
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    /// The last holder's closing resets both connections; until then nothing is sent, and nobody waits in a read.
    fn reset(&self) {
        for end in &self.ends {
            rustix::net::sockopt::set_socket_linger(end, Some(Duration::ZERO))
                .expect("a socket has the option");
            let _ = end.shutdown(Shutdown::Read);
        }
    }
}

impl std::fmt::Debug for Cutter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cutter").field("address", &self.address).field("target", &self.gate.target).finish()
    }
}
