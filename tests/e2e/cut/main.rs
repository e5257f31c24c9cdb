//! The link is cut at every byte of a pull and of a send, and at random bytes in random ways: every acknowledged file
//! arrives once, whole, and nothing else arrives.
//!
//! A sweep first measures a session that nobody cuts, and then makes that session again for each of its bytes, of both
//! directions: so many bytes pass, and the connection ends (a reset comes at every other byte). Afterwards the parties go
//! on unaided; who had no answer repeats.
//!
//! A run is one cut. `TIDEGATE_FROM` and `TIDEGATE_RUNS` choose a slice of each sweep and of the random cuts,
//! `TIDEGATE_SEED` repeats the contents and the random cuts.

mod pull;
mod random;
mod send;
mod standing;
mod stock;

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use tidegate_tests::cutter::{Cut, Cutter, How};
use tidegate_tests::seed::runs;
use tidegate_tests::sender::Sender;
use tidegate_tests::tap::From;
use tidegate_tests::until;

/// A server that comes again at once, after a cut too.
const EAGER: &str =
    "sync_interval = \"1ms\"\nsync_backoff_max = \"1ms\"\nsync_retries = 1\nsync_quiet = \"1ms\"";

/// A session's length may differ by a few bytes (signatures do): so far the sweep goes beyond the one that was measured.
const BEYOND: u64 = 8;

/// The bytes of a session, one after the other: first those of the dialler, then those of the listener.
#[derive(Debug, Clone, Copy)]
struct Session {
    /// Of the dialler, of the listener.
    bytes: [u64; 2],
    /// So many of them are left out, because another sweep cuts there.
    before: [u64; 2],
}

impl Session {
    fn new(bytes: [u64; 2]) -> Session {
        Session::after([0; 2], bytes)
    }

    /// Only what comes after so many bytes.
    fn after(before: [u64; 2], bytes: [u64; 2]) -> Session {
        let left = |side: usize| bytes[side].saturating_sub(before[side]) + BEYOND;
        Session { bytes: [left(0), left(1)], before }
    }

    /// How many cuts a sweep makes.
    fn cuts(&self) -> u64 {
        self.bytes.iter().sum()
    }

    fn cut(&self, run: u64) -> Cut {
        let how = if run.is_multiple_of(2) { How::End } else { How::Reset };
        match run.checked_sub(self.bytes[0]) {
            None => Cut { from: From::Dialler, at: self.before[0] + run, how },
            Some(at) => Cut { from: From::Listener, at: self.before[1] + at, how },
        }
    }
}

/// Makes those cuts of a session that the environment asks for, in all lanes. `run` says whether its cut was made: nearly
/// all must be, or this was no sweep.
fn sweep<L: Send>(
    session: &Session,
    lanes: Vec<L>,
    run: impl Fn(&mut L, u64, Cut) -> bool + Sync,
    end: impl Fn(L) + Sync,
) {
    let asked_for = runs(session.cuts());
    let all = asked_for.start..asked_for.end.min(session.cuts());
    let missed = AtomicU64::new(0);
    let one = |lane: &mut L, number: u64| {
        let cut = run(lane, number, session.cut(number));
        missed.fetch_add(u64::from(!cut), Ordering::Relaxed);
    };
    share(lanes, all.clone(), one, end);
    let missed = missed.into_inner();
    eprintln!("cuts {all:?} of a session of {:?} bytes, {missed} after its end", session.bytes);
    // Over relay a session varies: what is acknowledged together, or told between two packages.
    let most = 4 * BEYOND + session.cuts() / 20;
    assert!(missed <= most, "{missed} cuts were not made");
}

/// Shares the runs between the lanes: each takes the next one when it is done.
fn share<L: Send>(lanes: Vec<L>, runs: Range<u64>, run: impl Fn(&mut L, u64) + Sync, end: impl Fn(L) + Sync) {
    let next = AtomicU64::new(runs.start);
    std::thread::scope(|scope| {
        for mut lane in lanes {
            let (next, run, end) = (&next, &run, &end);
            let until = runs.end;
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= until {
                        return end(lane);
                    }
                    run(&mut lane, number);
                }
            });
        }
    });
}

/// What an agent sends, and how.
struct Offer<'a> {
    tls: bool,
    verb: &'a str,
    name: &'a str,
    /// As it travels.
    body: &'a [u8],
}

impl Offer<'_> {
    /// One attempt; whether it was acknowledged. What follows the acknowledgement proves nothing any more.
    fn attempt(&self, cutter: &Cutter) -> bool {
        let Offer { tls, verb, name, body } = self;
        let sender = match tls {
            true => Sender::connect_tls(cutter.address(), None, &[]),
            false => Sender::connect(cutter.address()),
        };
        let Ok(mut sender) = sender else { return false };
        // Who hears nothing gives up sooner than the test.
        let _ = sender.patience(random::PATIENCE);
        match sender.offer(verb, name, body).as_deref() {
            Ok(reply) if reply == format!("{verb} OK") => {
                let _ = sender.say("QUIT\n").and_then(|()| sender.rest());
                true
            }
            Ok(refusal) => panic!("{name} is refused: {refusal}"),
            Err(_) => false,
        }
    }

    /// What a patient agent does.
    fn until_stored(&self, cutter: &Cutter) {
        until::holds(&format!("{} is stored", self.name), || self.attempt(cutter));
    }
}
