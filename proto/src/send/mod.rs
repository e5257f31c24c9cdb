//! Files on their way to the listening end, `SEND` and `ZSEND`, seen from both ends.

pub(crate) mod accept;
pub(crate) mod offer;
