//! Bodies: how much is still to come or to go, and whether it moves fast enough. The bytes themselves pass by.

use alloc::vec::Vec;

use crate::{Close, Time};

/// The least a peer must send of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyRate {
    /// On average over each window, and at least one byte in it. A slower body closes the connection.
    pub bytes_per_second: u64,
    /// How long that is measured.
    pub window: Time,
}

impl BodyRate {
    /// The bytes that must come in one window.
    fn least(self) -> u128 {
        (u128::from(self.bytes_per_second).saturating_mul(self.window.as_millis()) / 1000).max(1)
    }
}

/// A body that comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incoming {
    remaining: u64,
    rate: BodyRate,
    /// When the current window began, and what has come in it.
    since: Time,
    got: u128,
}

impl Incoming {
    pub(crate) fn new(size: u64, rate: BodyRate, now: Time) -> Self {
        Incoming { remaining: size, rate, since: now, got: 0 }
    }

    pub(crate) fn remaining(&self) -> u64 {
        self.remaining
    }

    /// When the current window ends; the last byte ends the last one.
    pub(crate) fn deadline(&self) -> Time {
        self.since.saturating_add(self.rate.window)
    }

    /// How many bytes of `input` are body.
    pub(crate) fn take(&mut self, input: &[u8], now: Time) -> Result<usize, Close> {
        let used = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(input.len());
        self.remaining -= used as u64;
        self.got += used as u128;
        if self.remaining > 0 && now >= self.deadline() {
            if self.got < self.rate.least() {
                return Err(Close::TooSlow { missing: self.remaining });
            }
            (self.since, self.got) = (now, 0);
        }
        Ok(used)
    }
}

/// A body that goes.
#[derive(Debug)]
pub(crate) struct Outgoing {
    remaining: u64,
}

impl Outgoing {
    pub(crate) fn new(size: u64) -> Self {
        Outgoing { remaining: size }
    }

    pub(crate) fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Passes the next bytes on. What is over the announced size would be read as a line: it is an owner's bug, and
    /// left out.
    pub(crate) fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let fits = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(bytes.len());
        debug_assert_eq!(fits, bytes.len(), "the body is longer than its announced size");
        out.extend_from_slice(&bytes[..fits]);
        self.remaining -= fits as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: BodyRate = BodyRate { bytes_per_second: 2, window: Time::from_secs(5) };

    fn at(seconds: u64) -> Time {
        Time::from_secs(seconds)
    }

    #[test]
    fn only_the_announced_bytes_are_body() {
        let mut body = Incoming::new(5, RATE, at(0));
        assert_eq!(body.take(b"abc", at(0)), Ok(3));
        assert_eq!(body.take(b"deQUIT\n", at(0)), Ok(2));
        assert_eq!(body.remaining(), 0);
        assert_eq!(body.take(b"QUIT\n", at(0)), Ok(0));
    }

    #[test]
    fn every_window_must_bring_its_share() {
        let mut body = Incoming::new(100, RATE, at(0));
        assert_eq!(body.take(b"123456789", at(4)), Ok(9));
        assert_eq!(body.deadline(), at(5));
        assert_eq!(body.take(b"0", at(5)), Ok(1));
        assert_eq!(body.deadline(), at(10));
        assert_eq!(body.take(b"123456789", at(9)), Ok(9));
        assert_eq!(body.take(b"", at(10)), Err(Close::TooSlow { missing: 81 }));
    }

    #[test]
    fn a_whole_body_is_never_too_slow() {
        let mut body = Incoming::new(2, RATE, at(0));
        assert_eq!(body.take(b"1", at(4)), Ok(1));
        assert_eq!(body.take(b"2", at(6)), Ok(1));
        assert_eq!(body.take(b"", at(60)), Ok(0));
    }

    #[test]
    fn a_rate_of_nothing_still_asks_for_a_byte() {
        let mut body = Incoming::new(9, BodyRate { bytes_per_second: 0, ..RATE }, at(0));
        assert_eq!(body.take(b"1", at(1)), Ok(1));
        assert_eq!(body.take(b"", at(5)), Ok(0));
        assert_eq!(body.take(b"", at(10)), Err(Close::TooSlow { missing: 8 }));
    }

    #[test]
    fn what_goes_is_counted() {
        let (mut body, mut out) = (Outgoing::new(5), Vec::new());
        body.write(b"abc", &mut out);
        assert_eq!((body.remaining(), out.as_slice()), (2, &b"abc"[..]));
        body.write(b"de", &mut out);
        assert_eq!((body.remaining(), out.as_slice()), (0, &b"abcde"[..]));
    }
}
