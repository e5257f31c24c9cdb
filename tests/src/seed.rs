//! Everything random in the tests, from one number that a failure prints.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// A small generator (SplitMix64): repeatable, good enough to choose faults, of no cryptographic use.
#[derive(Debug, Clone)]
pub struct Seed(u64);

impl Seed {
    /// `TIDEGATE_SEED`, or one from the clock.
    pub fn from_environment() -> Seed {
        let chosen = number("TIDEGATE_SEED").unwrap_or_else(|| {
            static CALLS: AtomicU64 = AtomicU64::new(0);
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
            now.as_micros() as u64 % 1_000_000_000 + CALLS.fetch_add(1, Ordering::Relaxed)
        });
        // Shown only when the test fails.
        eprintln!("seed: repeat with TIDEGATE_SEED={chosen}");
        Seed(chosen)
    }

    /// A chosen one.
    pub fn of(number: u64) -> Seed {
        Seed(number)
    }

    /// A generator of its own for one run, so that each run can be repeated alone.
    pub fn run(&self, index: u64) -> Seed {
        // The mixed number, not the state: states of neighbouring runs are steps of one row, and a run would repeat what
        // another said a few steps later.
        Seed(Seed(self.0 ^ index.wrapping_mul(0x9E37_79B9_7F4A_7C15)).number())
    }

    /// The next 64 bits.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound
    }

    /// One of them.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }

    /// True once in `n`.
    pub fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Random bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.number() as u8).collect()
    }
}

/// Which runs a seeded test makes: as many as `TIDEGATE_RUNS` says, or `usual`, from number `TIDEGATE_FROM` on. A run
/// depends on the seed and its number, so that many runs can be made slice by slice.
pub fn runs(usual: u64) -> Range<u64> {
    let from = number("TIDEGATE_FROM").unwrap_or(0);
    from..from + number("TIDEGATE_RUNS").unwrap_or(usual)
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")))
}
