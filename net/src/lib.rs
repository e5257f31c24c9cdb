//! The async plumbing that both daemons share: who the peer is (TLS and identity), the one loop that drives a
//! protocol machine over a stream, accepting with limits, backoff and shutdown.
//!
//! Constraints: no protocol knowledge (a machine from `tidegate-proto` is driven, never interpreted), no
//! configuration files, no package storage. The only files read are certificates and keys.

pub mod accept;
pub mod backoff;
pub mod certificate;
pub mod identity;
pub mod link;
pub mod pem;
pub mod shutdown;
pub mod tls;

pub use link::{Link, LinkError};
