//! The password as it crosses the wire: `hex(md5(raw md5(password)))`, lower case, unsalted.
//!
//! The digest is all a peer needs to get in, so it is as secret as the password: it is compared in constant time,
//! and nothing prints it.

use core::fmt;

use md5::{Digest, Md5};

use crate::Close;

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

/// What a listening end lets nobody past without the password, and only once with it. Holds the password as long as
/// it is closed.
#[derive(Debug)]
pub(crate) struct Gate(Option<PassDigest>);

impl Gate {
    pub(crate) fn new(password: Option<PassDigest>) -> Self {
        Gate(password)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn unlock(&mut self, sent: &[u8]) -> Result<(), Close> {
        match &self.0 {
            Some(password) if password.matches(sent) => {
                self.0 = None;
                Ok(())
            }
            Some(_) => Err(Close::PasswordWrong),
            None => Err(Close::PasswordUnexpected),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    #[test]
    fn digests_are_those_of_the_reference() {
        assert_eq!(PassDigest::of(b"secret").as_bytes(), b"9e769017c85f064977fe6a658f207fa6");
        assert_eq!(PassDigest::of(b"").as_bytes(), b"59adb24ef3cdbe0297f05b395827453f");
    }

    #[test]
    fn only_the_very_characters_match() {
        let digest = PassDigest::of(b"secret");
        assert!(digest.matches(b"9e769017c85f064977fe6a658f207fa6"));
        for sent in ["", "9e769017c85f064977fe6a658f207fa", "9E769017C85F064977FE6A658F207FA6", "secret"] {
            assert!(!digest.matches(sent.as_bytes()), "{sent}");
        }
        assert_ne!(digest, PassDigest::of(b"Secret"));
    }

    #[test]
    fn nothing_prints_it() {
        assert_eq!(format!("{:?}", PassDigest::of(b"secret")), "PassDigest(…)");
    }
}
