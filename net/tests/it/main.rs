//! Links, handshakes and files as an operator meets them: real sockets, real certificates, the real OpenSSL.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod files;
mod handshake;
mod link;
mod pki;
