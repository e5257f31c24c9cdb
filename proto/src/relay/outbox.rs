//! What waits to be written, and at what rate it may.
//!
//! Without a rate, frames go straight to the output. With one they are held, and released byte by byte as the rate allows:
//! a block of the compressor is larger than what a thin line carries in a second.

use alloc::vec::Vec;

use super::{
    Hello, Purpose,
    limits::{BURST, BURST_MIN, OUTPUT_SOFT, SHARED_BURST_MIN},
};
use crate::Time;

const SECOND: u128 = 1_000_000_000;

/// The output of an end; a puller's has a rate only where it sends more than a few words.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// What the driver may write.
    pub(crate) out: Vec<u8>,
    /// What the rate holds back, behind what is released of it already.
    held: Vec<u8>,
    released: usize,
    bucket: Option<Bucket>,
}

/// A token bucket, counted in bytes.
#[derive(Debug)]
struct Bucket {
    rate: u64,
    burst: u64,
    tokens: u64,
    /// Up to when tokens have been given.
    at: Time,
}

impl Outbox {
    /// From now on at most the rate of this connection; 0: as many as the driver takes.
    pub(crate) fn limit(&mut self, hello: &Hello, now: Time) {
        let rate = hello.rate;
        let least = if hello.purpose == Purpose::Shared { SHARED_BURST_MIN } else { BURST_MIN };
        let burst = within(rate, BURST).max(least);
        self.bucket = (rate > 0).then_some(Bucket { rate, burst, tokens: burst, at: now });
    }

    /// Where frames are appended.
    pub(crate) fn end(&mut self) -> &mut Vec<u8> {
        if self.bucket.is_some() { &mut self.held } else { &mut self.out }
    }

    pub(crate) fn waiting(&self) -> usize {
        self.out.len() + self.held.len() - self.released
    }

    /// Whether more should be put in.
    pub(crate) fn has_room(&self) -> bool {
        let soft = self.bucket.as_ref().map_or(OUTPUT_SOFT, |bucket| {
            usize::try_from(bucket.burst).unwrap_or(OUTPUT_SOFT).min(OUTPUT_SOFT)
        });
        self.waiting() < soft
    }

    /// Releases what the rate allows by now.
    pub(crate) fn release(&mut self, now: Time) {
        let Some(bucket) = &mut self.bucket else { return };
        bucket.fill(now);
        let rest = &self.held[self.released..];
        let count = usize::try_from(bucket.tokens).unwrap_or(usize::MAX).min(rest.len());
        bucket.tokens -= count as u64;
        self.out.extend_from_slice(&rest[..count]);
        self.released += count;
        if self.released == self.held.len() {
            (self.held, self.released) = (Vec::new(), 0);
        } else if self.released > OUTPUT_SOFT {
            self.held.drain(..self.released);
            self.released = 0;
        }
    }

    /// When there is something to release: as much as a twentieth of a second allows, or the rest.
    pub(crate) fn next_release(&self) -> Option<Time> {
        let bucket = self.bucket.as_ref()?;
        let rest = (self.held.len() - self.released) as u64;
        let share = (bucket.rate / 20).max(1).min(rest);
        (rest > 0).then(|| bucket.when(share))
    }

    /// No rate any more: the connection ends, and what is held would be cut inside a frame.
    pub(crate) fn unlimit(&mut self) {
        self.out.extend_from_slice(&self.held[self.released..]);
        (self.held, self.released, self.bucket) = (Vec::new(), 0, None);
    }
}

impl Bucket {
    /// Gives the tokens of the time since, and keeps the fraction of a byte as time.
    fn fill(&mut self, now: Time) {
        let elapsed = now.saturating_sub(self.at).as_nanos();
        let tokens = u64::try_from(elapsed * u128::from(self.rate) / SECOND).unwrap_or(u64::MAX);
        if self.burst - self.tokens <= tokens {
            (self.tokens, self.at) = (self.burst, now);
        } else {
            self.tokens += tokens;
            self.at += time_of(tokens, self.rate);
        }
    }

    fn when(&self, tokens: u64) -> Time {
        self.at.saturating_add(time_of(tokens.saturating_sub(self.tokens), self.rate))
    }
}

/// The bytes of a time, at a rate.
fn within(rate: u64, time: Time) -> u64 {
    u64::try_from(u128::from(rate) * time.as_nanos() / SECOND).unwrap_or(u64::MAX)
}

/// How long a rate takes for so many bytes, rounded up: never a token too many.
fn time_of(tokens: u64, rate: u64) -> Time {
    let nanos = (u128::from(tokens) * SECOND).div_ceil(u128::from(rate));
    Time::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
