//! One package in the index: four numbers and its listed name in a single shared allocation.
//!
//! A backlog may be a million packages, so the numbers lie in front of the name instead of in the table: tables of hashes
//! are half empty at times, and an empty place then costs a pointer only. Listings share the allocation.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::clock::Millis;

/// Place in the order of arrival: position in `Index::runs`, then counter. Half the size of an [`Id`](crate::Id).
pub(crate) type Order = u64;

const ORDER: usize = 0;
const DIGEST: usize = 1;
const SIZE: usize = 2;
const ARRIVAL: usize = 3;
/// Bytes of the numbers.
const HEAD: usize = 4 * size_of::<u64>();

/// Equal to another when the listed names are.
#[derive(Clone)]
pub(crate) struct Entry(Arc<[u8]>);

impl Entry {
    /// Its order is 0 until [`Entry::place`].
    pub(crate) fn new(digest: u64, size: u64, arrival: Millis, listed_name: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(HEAD + listed_name.len());
        for number in [0, digest, size, arrival] {
            bytes.extend_from_slice(&u64::to_ne_bytes(number));
        }
        bytes.extend_from_slice(listed_name);
        Self(bytes.into())
    }

    /// Gives it its place. To be called before it is shared.
    pub(crate) fn place(&mut self, order: Order) {
        let bytes = Arc::get_mut(&mut self.0).expect("an entry is placed before it is shared");
        bytes[..size_of::<u64>()].copy_from_slice(&order.to_ne_bytes());
    }

    fn number(&self, position: usize) -> u64 {
        u64::from_ne_bytes(self.0.as_chunks().0[position])
    }

    pub(crate) fn order(&self) -> Order {
        self.number(ORDER)
    }

    pub(crate) fn digest(&self) -> u64 {
        self.number(DIGEST)
    }

    pub(crate) fn size(&self) -> u64 {
        self.number(SIZE)
    }

    pub(crate) fn arrival(&self) -> Millis {
        self.number(ARRIVAL)
    }

    pub(crate) fn listed_name(&self) -> &[u8] {
        &self.0[HEAD..]
    }
}

impl Borrow<[u8]> for Entry {
    fn borrow(&self) -> &[u8] {
        self.listed_name()
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.listed_name() == other.listed_name()
    }
}

impl Eq for Entry {}

impl Hash for Entry {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.listed_name().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_back_whole() {
        for name in [&b""[..], b"a", b"web.1700000000.data"] {
            let mut entry = Entry::new(2, 3, u64::MAX, name);
            entry.place(1);
            let numbers = [entry.order(), entry.digest(), entry.size(), entry.arrival()];
            assert_eq!((numbers, entry.listed_name()), ([1, 2, 3, u64::MAX], name));
        }
    }
}
