//! What both ends do alike: signs of life, and the end of a connection.

use super::{Farewell, Violation, frame::Frame, pulse::Pulse};
use crate::Close;

/// An end of relay.
pub(crate) trait Either {
    fn pulse(&mut self) -> &mut Pulse;

    /// Says a frame, unless the connection is over.
    fn say(&mut self, frame: &Frame);

    fn is_over(&self) -> bool;

    /// The connection is over; nothing large is kept.
    fn end(&mut self, close: Close) -> Close;

    /// Obeys a frame that either end may send; there is nothing to tell the owner.
    fn obey_either(&mut self, frame: Frame) -> Result<(), Violation> {
        match frame {
            Frame::Ping(number) => self.say(&Frame::Pong(number)),
            Frame::Pong(number) => self.pulse().pong(number)?,
            Frame::Close(farewell) => drop(self.end(Close::Farewell(farewell))),
            frame => return Err(Violation::OutOfTurn(frame.kind().name)),
        }
        Ok(())
    }

    /// Says why it leaves.
    fn leave(&mut self, farewell: Farewell) {
        if !self.is_over() {
            self.say(&Frame::Close(farewell.clone()));
            self.end(Close::Closed(farewell));
        }
    }

    /// Tells the other end what it did, and leaves.
    fn violated(&mut self, violation: Violation) -> Close {
        self.say(&Frame::Close(violation.farewell()));
        self.end(Close::Violation(violation))
    }
}
