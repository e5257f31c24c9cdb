//! Buffer node.
fn main() {}
