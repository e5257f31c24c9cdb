//! Many scenarios of one test: several at once, and every failure is told, not only the first.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

/// How many run beside each other: they mostly wait, for listings two seconds apart or for timeouts.
const BESIDE_EACH_OTHER: usize = 8;

/// Plays every scenario.
///
/// # Panics
/// When one of them does; each has said why by then.
pub fn each<T: Sync>(scenarios: &[T], play: impl Fn(&T) + Sync) {
    let next = Mutex::new(scenarios.iter());
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..BESIDE_EACH_OTHER.min(scenarios.len()) {
            scope.spawn(|| {
                loop {
                    let scenario = next.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(scenario) = scenario else { return };
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| play(scenario))) {
                        let words = panic.downcast_ref::<String>().cloned();
                        let words =
                            words.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
                        failed.lock().unwrap_or_else(PoisonError::into_inner).push(words.unwrap_or_default());
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(failed.is_empty(), "{} of {} failed:\n{}", failed.len(), scenarios.len(), failed.join("\n"));
}
