//! What operators do with the server, beside letting it run.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod find_and_verify;
mod quarantine;
mod reset;
mod shared;
