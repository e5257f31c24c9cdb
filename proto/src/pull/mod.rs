//! Bodies on their way to the dialling end, `RECV`, `ZRECV`, `LS` and `MV`, seen from both ends.

pub(crate) mod fetch;
pub(crate) mod serve;
