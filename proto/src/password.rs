//! The password as it crosses the wire: `hex(md5(raw md5(password)))`, lower case, unsalted.
//!
//! The digest is all a peer needs to get in, so it is as secret as the password: it is compared in constant time,
//! and nothing prints it.

use core::fmt;

use md5::{Digest, Md5};

/// What stands behind `PASS`.
#[derive(Clone)]
pub struct PassDigest([u8; 32]);

impl PassDigest {
    /// The digest of a password.
    pub fn of(password: &[u8]) -> Self {
        const HEX: &[u8; 16] = b"0123456789abcdef";

        let mut text = [0; 32];
        let digest = Md5::digest(Md5::digest(password));
        for (pair, byte) in text.chunks_exact_mut(2).zip(digest) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 0x0f)];
        }
        PassDigest(text)
    }

    /// The 32 characters to send.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether a peer sent these very characters; takes the same time wherever they differ.
    pub(crate) fn matches(&self, sent: &[u8]) -> bool {
        sent.len() == self.0.len()
            && self.0.iter().zip(sent).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }
}

impl PartialEq for PassDigest {
    fn eq(&self, other: &Self) -> bool {
        self.matches(&other.0)
    }
}

impl Eq for PassDigest {}

impl fmt::Debug for PassDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PassDigest(…)")
    }
}
