//! How often peers may cause a log line of one kind.
//!
//! Each peer has its share, and all peers together have one, or many of them could fill the disk. What is not written
//! is counted: the next line of that peer names the number, and the node's totals name the rest.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(10);

/// Lines of one kind from one peer in one window. Beyond it they are counted.
const PEER_MAX: u64 = 10;

/// Lines of one kind from all peers in one window. Beyond it they are counted.
const ALL_MAX: u64 = 100;

/// Beyond this many kinds and peers all peers are forgotten: [`ALL_MAX`] holds on.
const REMEMBERED: usize = 4096;

/// Decides which lines are written.
#[derive(Debug, Default)]
pub(crate) struct Repeats(Mutex<Windows>);

#[derive(Debug, Default)]
struct Windows {
    peers: HashMap<(&'static str, IpAddr), Window>,
    kinds: HashMap<&'static str, Window>,
    suppressed: u64,
}

#[derive(Debug)]
struct Window {
    start: Instant,
    lines: u64,
    suppressed: u64,
}

/// The right to write one line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Lines of this kind and peer that were not written since the last one.
    pub(crate) suppressed: Option<u64>,
}

impl Repeats {
    /// Whether a line of this kind may be written now.
    pub(crate) fn admit(&self, kind: &'static str, from: IpAddr) -> Option<Line> {
        self.admit_at(kind, from, Instant::now())
    }

    /// Lines that were not written since the start.
    pub(crate) fn suppressed(&self) -> u64 {
        self.windows().suppressed
    }

    fn admit_at(&self, kind: &'static str, from: IpAddr, now: Instant) -> Option<Line> {
        let mut windows = self.windows();
        let Windows { peers, kinds, suppressed } = &mut *windows;
        if peers.len() >= REMEMBERED {
            peers.clear();
        }
        let peer = peers.entry((kind, network(from))).or_insert_with(|| Window::new(now));
        let all = kinds.entry(kind).or_insert_with(|| Window::new(now));
        let admitted = peer.has_room(PEER_MAX, now) && all.has_room(ALL_MAX, now);
        if !admitted {
            peer.suppressed += 1;
            *suppressed += 1;
            return None;
        }
        peer.lines += 1;
        all.lines += 1;
        let unwritten = std::mem::take(&mut peer.suppressed);
        Some(Line { suppressed: (unwritten > 0).then_some(unwritten) })
    }

    fn windows(&self) -> MutexGuard<'_, Windows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    fn new(start: Instant) -> Self {
        Self { start, lines: 0, suppressed: 0 }
    }

    fn has_room(&mut self, most: u64, now: Instant) -> bool {
        if now.duration_since(self.start) >= WINDOW {
            (self.start, self.lines) = (now, 0);
        }
        self.lines < most
    }
}

/// Who counts as one peer: an IPv6 host commands at least the 2^64 addresses of its network.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted_for_each_peer() {
        let repeats = Repeats::default();
        let (noisy, quiet) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let start = Instant::now();
        let written = (0..100).filter(|_| repeats.admit_at("refused", noisy, start).is_some()).count();
        assert_eq!(written, 10);
        assert_eq!(repeats.admit_at("refused", quiet, start), Some(Line { suppressed: None }));
        assert_eq!(repeats.admit_at("closed", noisy, start), Some(Line { suppressed: None }));
        let later = start + WINDOW;
        assert_eq!(repeats.admit_at("refused", noisy, later), Some(Line { suppressed: Some(90) }));
        assert_eq!(repeats.admit_at("refused", noisy, later), Some(Line { suppressed: None }));
        assert_eq!(repeats.suppressed(), 90);
    }

    #[test]
    fn many_peers_share_a_limit_and_nothing_suppressed_is_lost() {
        let repeats = Repeats::default();
        let start = Instant::now();
        let peers = (0..10_000u32).map(|n| IpAddr::from((0x0a00_0000 + n).to_be_bytes()));
        let written = peers.filter(|peer| repeats.admit_at("refused", *peer, start).is_some()).count();
        assert_eq!(written, 100);
        assert_eq!(repeats.suppressed(), 9_900, "also of peers that are forgotten");
        assert!(repeats.admit_at("refused", IpAddr::from([10, 0, 0, 1]), start + WINDOW).is_some());
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_are_one_peer() {
        let repeats = Repeats::default();
        let start = Instant::now();
        let address =
            |network: u16, host| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, network, host, 0, 0, 1));
        let written =
            (0..50).filter(|host| repeats.admit_at("refused", address(1, *host), start).is_some()).count();
        assert_eq!(written, 10);
        assert!(repeats.admit_at("refused", address(2, 1), start).is_some());
    }
}
