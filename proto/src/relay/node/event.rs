//! What a listening end hears.

use crate::relay::{Hello, Number, SharedRequest};

/// What a node's end tells its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeEvent {
    /// Who dials and what it wants. Answer [`welcome`](super::Node::welcome) or [`refuse`](super::Node::refuse); until then nothing
    /// is read. ([`Node::hello`](super::Node::hello) keeps it.)
    Hello(Hello),
    /// There is room again, where [`room`](super::Node::room) was 0 or [`may_begin`](super::Node::may_begin) was false: also the
    /// first time after the welcome.
    Room,
    /// Everything sent up to this package may be deleted. Not what was only [`skip`](super::Node::skip)ped. Answer
    /// [`deleted`](super::Node::deleted) once it is gone, durably; one answer may cover several.
    Acked(Number),
    /// The loss records up to this one are durable at the central.
    LossesAcked(Number),
    /// A listing is wanted: answer [`listing`](super::Node::listing).
    List,
    /// Shared files are asked about, or to be changed: answer [`answer`](super::Node::answer). Until then nothing is read. A
    /// [`Part`](SharedRequest::Part) is always one of the file that is being placed, and no more than it lacks; any other
    /// request ends the placing: what came is worth keeping.
    Shared(SharedRequest),
}
