//! Bodies: how much is still to come or to go, and whether it moves fast enough. The bytes themselves pass by.

use crate::Time;

/// The least a peer must send of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyRate {
    /// On average over each window, and at least one byte in it. A slower body closes the connection.
    pub bytes_per_second: u64,
    /// How long that is measured.
    pub window: Time,
}
