//! Buckets and the sign, as `PROTOCOL.md` defines them.

use sha2::{Digest as _, Sha256};
use tidegate_proto::Name;
use tidegate_proto::relay::SharedItem;

use super::model::sha256;

/// The bucket of a name.
pub(crate) fn of(name: &Name) -> u16 {
    let [a, b, ..] = sha256(name.as_bytes());
    u16::from_be_bytes([a, b]) >> 6
}

fn share(item: &SharedItem) -> u64 {
    let mut hash = Sha256::new();
    hash.update(item.name.as_bytes());
    hash.update([0]);
    hash.update(item.digest);
    hash.update(item.size.to_be_bytes());
    hash.update([u8::from(item.fits)]);
    first_eight(&hash.finalize().into())
}

fn first_eight(digest: &[u8; 32]) -> u64 {
    u64::from_be_bytes(*digest.first_chunk().expect("digests have 32 bytes"))
}

pub(crate) fn values(items: &[SharedItem]) -> Box<[u64; 1024]> {
    let mut values = Box::new([0; 1024]);
    for item in items {
        let value: &mut u64 = &mut values[usize::from(of(&item.name))];
        *value = value.wrapping_add(share(item));
    }
    values
}

pub(crate) fn sign(values: &[u64; 1024]) -> u64 {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_be_bytes()).collect();
    first_eight(&sha256(&bytes))
}
