//! Signs of life: when to give one, and when their absence means that the link is dead.
//!
//! An owner may have been busy for longer than the keep-alive time while input was waiting. So silence is believed only
//! when the machine was called twice, without input, a tenth of the time apart: a driver looks for input in between.

use super::{
    Violation,
    limits::{KEEP_ALIVE_MAX, KEEP_ALIVE_MIN, PING_PART},
};
use crate::{Close, Time};

/// The keep-alive of one end.
#[derive(Debug)]
pub(crate) struct Pulse {
    keep_alive: Time,
    heard: Time,
    said: Time,
    /// Something was said since the last step, at a time that was not given.
    spoke: bool,
    suspect: Option<Time>,
    pings: u64,
    answered: u64,
}

impl Pulse {
    pub(crate) fn new(keep_alive: Time, now: Time) -> Self {
        let keep_alive = bounded(keep_alive);
        Pulse { keep_alive, heard: now, said: now, spoke: false, suspect: None, pings: 0, answered: 0 }
    }

    pub(crate) fn speak(&mut self) {
        self.spoke = true;
    }

    /// Something came, or nothing could because this end did not read.
    pub(crate) fn hear(&mut self, now: Time) {
        (self.heard, self.suspect) = (now, None);
    }

    /// A `PING` to send, if it is time.
    pub(crate) fn ping(&mut self, now: Time) -> Option<u64> {
        self.settle(now);
        let due = now >= self.ping_at();
        self.pings += u64::from(due);
        due.then_some(self.pings)
    }

    /// What was said since the last step counts as said now.
    pub(crate) fn settle(&mut self, now: Time) {
        if core::mem::take(&mut self.spoke) {
            self.said = now;
        }
    }

    pub(crate) fn pong(&mut self, number: u64) -> Result<(), Violation> {
        if number <= self.answered || number > self.pings {
            return Err(Violation::Pong);
        }
        self.answered = number;
        Ok(())
    }

    /// To be asked when a step had nothing to use and nothing to tell.
    pub(crate) fn check(&mut self, now: Time) -> Result<(), Close> {
        match self.suspect {
            Some(_) if now >= self.dead_at() => Err(Close::Silent(self.keep_alive)),
            None if now >= self.suspect_at() => {
                self.suspect = Some(now);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn deadline(&self) -> Time {
        let silent = if self.suspect.is_some() { self.dead_at() } else { self.suspect_at() };
        silent.min(self.ping_at())
    }

    fn ping_at(&self) -> Time {
        self.said.saturating_add(self.keep_alive / PING_PART)
    }

    fn suspect_at(&self) -> Time {
        self.heard.saturating_add(self.keep_alive - self.grace())
    }

    fn dead_at(&self) -> Time {
        let suspect = self.suspect.unwrap_or(self.heard).saturating_add(self.grace());
        suspect.max(self.heard.saturating_add(self.keep_alive))
    }

    fn grace(&self) -> Time {
        self.keep_alive / 10
    }
}

pub(crate) fn bounded(keep_alive: Time) -> Time {
    keep_alive.clamp(KEEP_ALIVE_MIN, KEEP_ALIVE_MAX)
}
