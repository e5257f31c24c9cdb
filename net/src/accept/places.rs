//! Who holds how many of the places under a listener's limits.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many connections may be open at once. One more is closed at once, unread.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// All peers together.
    pub total: usize,
    /// One peer address; of IPv6 one /64 network, the least that anybody is given, since a host may take any of its
    /// addresses. A site with more senders than that in one network raises the limit.
    pub per_address: usize,
}

/// Which limit a refused connection met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// [`Limits::total`].
    Total,
    /// [`Limits::per_address`].
    PerAddress,
}

/// A connection's place under the limits.
#[derive(Debug)]
pub struct Permit {
    places: Places,
    origin: Origin,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.places.lock().give_back(self.origin);
    }
}

/// The places; clones share them.
#[derive(Debug, Clone)]
pub(super) struct Places(Arc<Mutex<Taken>>);

impl Places {
    pub(super) fn new(limits: Limits) -> Self {
        Self(Arc::new(Mutex::new(Taken { limits, open: 0, by_origin: HashMap::new() })))
    }

    pub(super) fn open(&self) -> usize {
        self.lock().open
    }

    pub(super) fn take(&self, peer: IpAddr) -> Result<Permit, Limit> {
        let origin = Origin::of(peer);
        self.lock().take(origin)?;
        Ok(Permit { places: self.clone(), origin })
    }

    /// The places are plain counts and right after every call, so a panic elsewhere does not spoil them.
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What counts as one peer address: an IPv4 address, or an IPv6 network of 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Origin(IpAddr);

impl Origin {
    fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
            address => address,
        })
    }
}

#[derive(Debug)]
struct Taken {
    limits: Limits,
    open: usize,
    by_origin: HashMap<Origin, usize>,
}

impl Taken {
    fn take(&mut self, origin: Origin) -> Result<(), Limit> {
        if self.open >= self.limits.total {
            return Err(Limit::Total);
        }
        let held = self.by_origin.get(&origin).copied().unwrap_or(0);
        if held >= self.limits.per_address {
            return Err(Limit::PerAddress);
        }
        self.by_origin.insert(origin, held + 1);
        self.open += 1;
        Ok(())
    }

    fn give_back(&mut self, origin: Origin) {
        self.open -= 1;
        if let Entry::Occupied(mut held) = self.by_origin.entry(origin) {
            *held.get_mut() -= 1;
            if *held.get() == 0 {
                held.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let places = Places::new(Limits { total: 100, per_address: 1 });
        let take = |text: &str| places.take(text.parse().unwrap());
        let first = take("2001:db8:0:7::1").unwrap();
        assert_eq!(take("2001:db8:0:7:ffff::2").unwrap_err(), Limit::PerAddress);
        let _others = ["2001:db8:0:8::1", "192.0.2.1", "192.0.2.2"].map(|other| take(other).unwrap());
        assert_eq!(take("::ffff:192.0.2.1").unwrap_err(), Limit::PerAddress, "IPv4 as mapped IPv6");
        drop(first);
        take("2001:db8:0:7::2").unwrap();
        assert_eq!(places.open(), 3);
    }
}
