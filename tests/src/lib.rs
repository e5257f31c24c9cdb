//! Harness of the end-to-end tests: real processes, real clients, real faults.
//!
//! A test starts the workspace's own binaries, stock clients and a stock server (or its double), puts a [`tap`] on any
//! connection it wants to see, cut or falsify, and lets the [`oracle`] decide: every acknowledged file arrives once,
//! whole; nothing else arrives.
//!
//! Rules: every process is ended by the guard that started it and nothing else is touched; everything listens on a
//! loopback address of its own, so tests run beside each other; anything random comes from a [`seed`] that a failure
//! prints; a missing program is a failure with words, never a skip.
//!
//! Environment: `TIDEGATE_SEED` repeats a seeded test, `TIDEGATE_FROM` and `TIDEGATE_RUNS` say which runs it makes,
//! `TIDEGATE_STOCK_SERVER=/path/to/tentacle_server` puts a real stock server in the double's place.

pub mod address;
pub mod agent;
pub mod backlog;
pub mod binary;
pub mod central;
pub mod certificates;
pub mod client;
pub mod clock;
pub mod corpus;
pub mod counts;
pub mod cutter;
pub mod exchange;
pub mod faults;
pub mod files;
pub mod fleet;
pub mod guest;
pub mod islands;
pub mod node;
pub mod oracle;
pub mod power;
pub mod process;
pub mod relay;
pub mod scenarios;
pub mod scene;
pub mod seed;
pub mod sender;
pub mod shelf;
pub mod small_disk;
pub mod stock;
pub mod tap;
pub mod transcript;
pub mod until;
pub mod wan;
