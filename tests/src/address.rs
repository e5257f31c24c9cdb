//! Loopback addresses that nobody else uses.
//!
//! A fixed port on an address of one's own beats a free port on 127.0.0.1: a killed process comes back to it, and no
//! outgoing connection can have taken it meanwhile.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};

/// The port that everything listens on, each on its own address.
pub const PORT: u16 = 41121;

/// An address of 127/8 that this process hands out once, and other test processes of the moment do not.
pub fn unused() -> Ipv4Addr {
    static HANDED_OUT: AtomicU32 = AtomicU32::new(0);
    let index = HANDED_OUT.fetch_add(1, Ordering::Relaxed);
    assert!(index < 60_000, "one test process used up its share of 127/8");
    // Up to 250 neighbouring process ids get disjoint ranges of 60,000 addresses below 127.240/12.
    let offset = (std::process::id() % 250) * 60_000 + index;
    Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 1)) + offset)
}

/// The same with [`PORT`].
pub fn unused_socket() -> SocketAddr {
    SocketAddr::from((unused(), PORT))
}
