//! A tentacle_client work-alike.
fn main() {}
