//! On a real file system, with real hands that edit and read at the same time.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use super::*;

const ROUNDS: u64 = 300;

/// A main file that says who wrote it, long enough to be caught half written.
fn text(by: &str, round: u64) -> Vec<u8> {
    format!("{by} {round}\n").into_bytes().repeat(2_000)
}

/// The hand edits when the new main file waits for its exchange, or right away. Whichever is first: the edit is what is
/// there in the end, because nobody has seen it.
#[test]
fn an_edit_in_the_moment_of_a_change_is_never_lost() {
    let place = Place::new();
    let (shop, pair) = (place.open(), place.pair("web"));
    let (barrier, is_over) = (Barrier::new(2), AtomicBool::new(false));
    let is_waiting = || {
        let mut left = fs::read_dir(place.path("workshop")).unwrap();
        left.any(|entry| entry.unwrap().file_name().as_bytes().starts_with(SWAP.as_bytes()))
    };
    let mut results = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..ROUNDS {
                fs::write(place.path("edited"), text("hand", round)).unwrap();
                barrier.wait();
                while round % 3 != 2 && !is_waiting() && !is_over.load(Ordering::SeqCst) {
                    std::hint::spin_loop();
                }
                fs::rename(place.path("edited"), &pair.file).unwrap();
                barrier.wait();
                barrier.wait();
            }
        });
        for round in 0..ROUNDS {
            let there = look(&pair).unwrap().map(|seen| seen.digest);
            let ready = ready(&shop, &text("central", round));
            is_over.store(false, Ordering::SeqCst);
            barrier.wait();
            let done = match there.filter(|_| round % 3 == 2) {
                Some(there) => shop.remove(&pair, there, Md5::Goes),
                None => shop.place(b"web.conf", &pair, there, ready),
            };
            is_over.store(true, Ordering::SeqCst);
            barrier.wait();
            results.push((done, fs::read(&pair.file).is_ok_and(|there| there == text("hand", round))));
            barrier.wait();
        }
    });
    for (round, (done, is_kept)) in results.into_iter().enumerate() {
        assert_ne!(done.unwrap(), Done::Already);
        assert!(is_kept, "the edit of round {round} was lost");
    }
}

/// An agent reads the `.md5`, and then the main file.
#[test]
fn readers_find_whole_files_and_always_an_md5() {
    let place = Place::new();
    let (shop, pair) = (place.open(), place.pair("web"));
    let put = |expected: Option<u64>, round| {
        let expected = expected.map(|round| digest(&text("central", round)));
        let ready = ready(&shop, &text("central", round));
        assert_eq!(shop.place(b"web.conf", &pair, expected, ready).unwrap(), Done::Done);
    };
    put(None, 0);
    let (is_over, placed) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let before = placed.load(Ordering::SeqCst);
                assert_eq!(fs::read(&pair.md5).unwrap().len(), 32);
                let main = fs::read(&pair.file).unwrap();
                let after = placed.load(Ordering::SeqCst) + 1;
                let whole = (before..=after).any(|round| main == text("central", round));
                assert!(whole, "half a file, or an old one: {:?}", main.get(..30));
            }
        });
        let _over = Over(&is_over);
        for round in 1..ROUNDS {
            put(Some(round - 1), round);
            placed.store(round, Ordering::SeqCst);
        }
    });
}

/// Also after a panic, or the reader would go on for ever.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
