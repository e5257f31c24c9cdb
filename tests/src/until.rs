//! Waiting for something that another process does.

use std::time::{Duration, Instant};

/// Longest wait for anything that should simply happen. Generous: it decides nothing but when a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Polls until `happened` gives something.
///
/// # Panics
/// After [`PATIENCE`], naming `what`.
pub fn some<T>(what: &str, mut happened: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = happened() {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: did not happen within {PATIENCE:?}");
        pause(Duration::from_millis(10));
    }
}

/// Polls until `happened` says so.
pub fn holds(what: &str, mut happened: impl FnMut() -> bool) {
    some(what, || happened().then_some(()));
}

/// Sleeps: for polling, and where a test needs time to pass.
#[expect(clippy::disallowed_methods, reason = "test threads may block; there is no runtime here")]
pub fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
