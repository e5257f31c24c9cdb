//! Sums over many shared files, from which two ends find what differs.
//!
//! Each name falls into one of [`BUCKETS`] buckets. A bucket's value is the wrapping sum of one number for each pair in
//! it, so it does not depend on any order and a change costs two additions. Different pairs have equal values by one chance
//! in 2^64. Who sets out to make some that have can hide a change of files that it may change anyway, and nothing else.

use sha2::{Digest, Sha256};

use super::Seen;
use crate::seen::first_eight;

/// How many buckets there are.
pub const BUCKETS: usize = 1024;

/// The bits of a name's digest that choose its bucket.
const BUCKET_BITS: u32 = BUCKETS.ilog2();

/// The sums over some pairs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buckets(Box<[u64; BUCKETS]>);

impl Default for Buckets {
    fn default() -> Self {
        Self::new()
    }
}

impl Buckets {
    /// Those of no pair.
    #[must_use]
    pub fn new() -> Self {
        Self(Box::new([0; BUCKETS]))
    }

    /// Adds a pair.
    pub fn add(&mut self, name: &[u8], seen: &Seen) {
        let value = self.value(name);
        *value = value.wrapping_add(number(name, seen));
    }

    /// Takes out a pair that was added.
    pub fn take(&mut self, name: &[u8], seen: &Seen) {
        let value = self.value(name);
        *value = value.wrapping_sub(number(name, seen));
    }

    fn value(&mut self, name: &[u8]) -> &mut u64 {
        &mut self.0[usize::from(Self::of(name))]
    }

    /// The sums.
    #[must_use]
    pub fn values(&self) -> &[u64; BUCKETS] {
        &self.0
    }

    /// The sums in one number: the first eight bytes of the SHA-256 of all of them, big-endian.
    #[must_use]
    pub fn sign(&self) -> u64 {
        let mut hasher = Sha256::new();
        self.0.iter().for_each(|value| hasher.update(value.to_be_bytes()));
        first_eight(hasher)
    }

    /// The bucket of a name: the first ten bits of its SHA-256.
    #[must_use]
    pub fn of(name: &[u8]) -> u16 {
        let first = first_eight(Sha256::new_with_prefix(name));
        (first >> (u64::BITS - BUCKET_BITS)) as u16
    }

    /// The buckets with other sums there.
    #[must_use]
    pub fn differing(&self, other: &[u64; BUCKETS]) -> Vec<u16> {
        let pairs = (0..).zip(self.0.iter().zip(other));
        pairs.filter_map(|(bucket, (here, there))| (here != there).then_some(bucket)).collect()
    }
}

/// The first eight bytes of the SHA-256 of name, NUL, digest, size and whether the `.md5` fits.
fn number(name: &[u8], seen: &Seen) -> u64 {
    let mut hasher = Sha256::new_with_prefix(name);
    hasher.update([0]);
    hasher.update(seen.digest);
    hasher.update(seen.size.to_be_bytes());
    hasher.update([u8::from(seen.fits)]);
    first_eight(hasher)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SEEN: Seen = Seen { digest: [7; 32], size: 300, fits: true };

    /// The example of proto/PROTOCOL.md, whose numbers were worked out by other means than this code.
    #[test]
    fn the_numbers_are_those_of_the_protocol() {
        let seen = |bytes: &[u8], fits| Seen {
            digest: Sha256::digest(bytes).into(),
            size: bytes.len() as u64,
            fits,
        };
        let mut buckets = Buckets::new();
        assert_eq!(buckets.sign(), 0x9f1d_cbc3_5c35_0d60);
        buckets.add(b"a.conf", &seen(b"abc", true));
        buckets.add(b"b.zip", &seen(b"", false));
        assert_eq!((Buckets::of(b"a.conf"), Buckets::of(b"b.zip")), (114, 829));
        assert_eq!(buckets.values()[114], 0x2b32_a83f_62c5_d398);
        assert_eq!(buckets.values()[829], 0x8731_5e57_ef2c_05a9);
        assert_eq!(buckets.sign(), 0xa308_de3a_af63_89f7);
    }

    #[test]
    fn every_part_of_a_pair_counts() {
        let sign = |name: &[u8], seen: Seen| {
            let mut buckets = Buckets::new();
            buckets.add(name, &seen);
            buckets.sign()
        };
        let mut signs = vec![
            Buckets::new().sign(),
            sign(b"a", SEEN),
            sign(b"b", SEEN),
            sign(b"a", Seen { digest: [8; 32], ..SEEN }),
            sign(b"a", Seen { size: 301, ..SEEN }),
            sign(b"a", Seen { fits: false, ..SEEN }),
        ];
        signs.sort_unstable();
        signs.dedup();
        assert_eq!(signs.len(), 6);
    }

    proptest! {
        /// Whatever the order, and whatever came and went.
        #[test]
        fn sums_are_those_of_what_is_left(
            left in prop::collection::btree_map("[a-z]{1,3}", (any::<[u8; 32]>(), any::<u64>()), 0..20),
            gone in prop::collection::btree_map("[a-z]{1,3}", (any::<[u8; 32]>(), any::<u64>()), 0..20),
        ) {
            let seen = |&(digest, size): &([u8; 32], u64)| Seen { digest, size, fits: size % 2 == 0 };
            let (mut one, mut other) = (Buckets::new(), Buckets::default());
            gone.iter().for_each(|(name, it)| one.add(name.as_bytes(), &seen(it)));
            left.iter().for_each(|(name, it)| one.add(name.as_bytes(), &seen(it)));
            gone.iter().for_each(|(name, it)| one.take(name.as_bytes(), &seen(it)));
            left.iter().rev().for_each(|(name, it)| other.add(name.as_bytes(), &seen(it)));
            prop_assert_eq!(&one, &other);
            prop_assert_eq!(one.differing(other.values()), Vec::<u16>::new());

            let mut expected: Vec<u16> = left.keys().map(|name| Buckets::of(name.as_bytes())).collect();
            expected.sort_unstable();
            expected.dedup();
            prop_assert_eq!(one.differing(Buckets::new().values()), expected);
        }
    }
}
