//! Shared files: what agents fetch from their node, kept the same at both ends of a site's pull connection.
//!
//! A *pair* is a main file (`<key>.conf`, `<collection>.zip`, `<reference>.rcmd`) and its `.md5`, which says the MD5 of the
//! main file and nothing else. Only main files are compared, by SHA-256, and moved; whoever places one writes its `.md5`
//! after it.
//!
//! Nothing of one site ever goes to another: what may go to a site is what belongs to its agents, and they are known by
//! what the site has sent or by the configuration.

#![cfg_attr(not(test), expect(dead_code, reason = "the sync that uses it is being joined to it"))]

pub(crate) mod decide;
pub(crate) mod names;
mod store;

/// The SHA-256 of a content.
pub(crate) type Digest = [u8; 32];
