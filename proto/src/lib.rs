//! The protocols of Tidegate as pure state machines.
//!
//! Both ends of Tentacle: the [`Responder`] listens (a buffer node), the [`Initiator`] dials (a sync server, or a
//! sender); and both ends of our own pull protocol, [`relay`]. A machine is fed bytes and the time, and gives bytes to write, events for its owner and the time of its
//! next deadline; see [`Machine`]. It touches no file, no socket and no clock: what it does depends on nothing but
//! what it was given, so the same code runs under a runtime, under a byte-level test and under a fuzzer.
//!
//! Bodies stream through and are never held whole; what a peer can make a machine hold is one line of
//! [`limits::LINE_MAX`] bytes. After an unexpected byte the connection is over ([`Close`]): there is no
//! resynchronising.
//!
//! # Answers out of turn
//!
//! An owner that answers what was not asked (`confirm` without a `BodyEnd`) has a bug. The machines say so with a
//! `debug_assert` and otherwise ignore the call: they never send a reply, least of all an `OK`, that the peer is not
//! waiting for.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod body;
mod close;
mod command;
mod initiator;
pub mod limits;
mod line;
mod machine;
mod name;
mod password;
mod pull;
pub mod relay;
mod reply;
mod responder;
mod send;

pub use body::BodyRate;
pub use close::Close;
pub use command::{Packing, Verb};
pub use initiator::{Initiator, InitiatorEvent, InitiatorSettings};
pub use machine::{Machine, Step, Time};
pub use name::{Escaped, InvalidName, Name, Quoted};
pub use password::PassDigest;
pub use reply::{Reason, Refusal};
pub use responder::{Responder, ResponderEvent, ResponderSettings};
