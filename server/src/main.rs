//! Sync server.
fn main() {}
