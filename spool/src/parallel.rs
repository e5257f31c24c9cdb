//! The same work on many items, by a few threads that end before the call does.
//!
//! Meant for fsyncs: the file system joins those that wait at the same time into one journal commit.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

/// Does `work` on every item. The caller's thread takes part, so it all gets done even when the system gives no
/// further thread.
pub fn for_each<T: Send>(items: &mut [T], threads: usize, work: impl Fn(&mut T) + Sync) {
    let helpers = threads.min(items.len()).saturating_sub(1);
    let queue = Mutex::new(items.iter_mut());
    let worker = || {
        let next = || lock(&queue).next();
        while let Some(item) = next() {
            work(item);
        }
    };
    thread::scope(|scope| {
        for _ in 0..helpers {
            let _ = thread::Builder::new().spawn_scoped(scope, worker);
        }
        worker();
    });
}

/// Locks. The state behind the spool's locks is changed in single steps, so it is sound even after a panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_gets_its_turn_once() {
        for threads in [0, 1, 8] {
            let mut items: Vec<u32> = (0..100).collect();
            for_each(&mut items, threads, |item| *item += 1);
            assert_eq!(items, (1..101).collect::<Vec<_>>());
        }
        for_each(&mut [] as &mut [u32], 8, |_| unreachable!());
    }
}
