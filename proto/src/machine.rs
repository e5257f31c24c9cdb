//! The one small trait between a state machine and whatever drives it.
//!
//! A driver owns the stream and the clock. It repeats: write out [`output`](Machine::output), call
//! [`step`](Machine::step) with what it has read and not yet seen used, hand the event to the owner; without an
//! event, and unless the machine is [`blocked`](Machine::blocked), wait for more input or the
//! [`deadline`](Machine::deadline). `step` is always worth a call before waiting, also with nothing to give: an event
//! may be due that needs no further byte. And at a deadline input that has already arrived counts: a driver looks for
//! it before it calls `step` with nothing.

use alloc::vec::Vec;

use crate::{Close, limits::LINE_MAX};

/// A moment, as the time since an origin that the driver chose. This crate never reads a clock.
pub type Time = core::time::Duration;

/// What one step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step<E> {
    /// How many bytes of the input were used up. The rest is given again.
    pub used: usize,
    /// What happened, at most one thing a step.
    pub event: Option<E>,
}

impl<E> Step<E> {
    /// The machine took `used` bytes and waits, for more of them or for its owner.
    pub(crate) fn quiet(used: usize) -> Self {
        Step { used, event: None }
    }

    /// The machine took `used` bytes and has something to say.
    pub(crate) fn event(used: usize, event: E) -> Self {
        Step { used, event: Some(event) }
    }

    /// The machine took `used` bytes and waits for more of them, but not beyond `by`.
    pub(crate) fn waiting(used: usize, now: Time, by: Time, late: Close) -> Result<Self, Close> {
        if now < by { Ok(Step::quiet(used)) } else { Err(late) }
    }
}

/// The deadline of a machine that has something to say without any further input.
pub(crate) const AT_ONCE: Time = Time::ZERO;

/// An owner answered what was not asked: its bug. Nothing is sent, for the peer waits for something else.
pub(crate) fn out_of_turn(call: &str) {
    debug_assert!(false, "{call} was called out of turn");
}

/// Gives back the room that a body took in the output, once it is written: thousands of connections are idle.
pub(crate) fn slim(out: &mut Vec<u8>) {
    if out.is_empty() && out.capacity() > LINE_MAX {
        *out = Vec::new();
    }
}

/// One end of a connection, without the connection.
pub trait Machine {
    /// What it tells its owner.
    type Event;

    /// Uses up some of `input` and gives at most one event. Without an event either all of `input` was used, or the
    /// machine is [`blocked`](Self::blocked). With a body event the bytes of the body are `input[..used]`. Also to be
    /// called, with empty input, once [`deadline`](Self::deadline) has passed.
    ///
    /// # Errors
    /// Why the connection is over. What is left in [`output`](Self::output) may still be written.
    fn step(&mut self, input: &[u8], now: Time) -> Result<Step<Self::Event>, Close>;

    /// The peer has ended its sending side, and all it sent has been used: a last event, or why the connection is
    /// over. Neither, while the machine waits for its owner; to be called again after the owner's answer.
    ///
    /// # Errors
    /// Why the connection is over.
    fn end_of_input(&mut self, now: Time) -> Result<Step<Self::Event>, Close>;

    /// When to call [`step`](Self::step) even if no input has arrived.
    fn deadline(&self) -> Option<Time>;

    /// The bytes to write. The driver drains them, or takes the vector.
    fn output(&mut self) -> &mut Vec<u8>;

    /// Whether the machine cannot use input before its owner answers, or its output is written. Drivers then stop
    /// reading: back-pressure.
    fn blocked(&self) -> bool;
}
