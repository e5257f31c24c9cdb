//! Relay: our own pull protocol, for both ends. The wire is described in `PROTOCOL.md`.
//!
//! The [`Puller`] dials (a sync server), the [`Node`] listens. Packages come back to back in the order of arrival under
//! a byte credit that the puller grants, compressed across packages; the puller acknowledges cumulatively what it has
//! delivered, the node deletes that and says so. Shared files are looked at and changed on a connection of their own, by
//! requests that are answered one by one.
//!
//! What a peer can make an end hold is bounded by the constants in [`limits`]; what it can make it believe, by the
//! checks behind [`Violation`].

mod answer;
mod dialogue;
mod either;
mod farewell;
pub mod frame;
mod frames;
mod hello;
mod inflow;
pub mod limits;
mod losses;
mod node;
mod number;
mod outbox;
mod outflow;
mod puller;
mod pulse;
mod record;
mod request;
mod sending;
mod status;
mod violation;
mod wire;

pub use answer::{ContentState, OutcomeCode, SharedAnswer, SharedItem, SharedOutcome};
pub use farewell::{CloseCode, Farewell};
pub use hello::{Hello, Purpose, Welcome};
pub use losses::LossRecord;
pub use node::{Node, NodeEvent};
pub use number::Number;
pub use puller::{Puller, PullerEvent};
pub use record::Head;
pub use request::{Digest, SharedRequest};
pub use status::Status;
pub use violation::Violation;
