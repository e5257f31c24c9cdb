//! Crash points: named places between two durable steps at which a test can kill the process.
//!
//! A debug build reads `TIDEGATE_CRASH_AT=<step>:<n>` once and aborts, without any cleaning up, at the n-th
//! passing of that step. Unit tests arm a [`Crash`] that panics instead. A release build passes them all.
//!
//! The steps, in the order in which a package passes them:
//!
//! | step | the moment just after |
//! |---|---|
//! | `after-recv` | a body has arrived, nothing of it is durable |
//! | `after-recv-staged` | a batch of bodies is durable in the staging directory |
//! | `after-held` | the ledger says *held* (stock sites) |
//! | `after-mv` | the body of a `MV` has arrived and nothing was sent after it |
//! | `after-committed` | the ledger knows the target names |
//! | `after-rename` | one package has its target name |
//! | `after-dirsync` | the target names of a batch are durable |
//! | `after-delivered` | the ledger says *delivered* |
//! | `after-relayed-staged` | a batch that came by relay is durable in the staging directory |
//! | `after-relayed-committed` | the ledger knows its target names |
//! | `after-relayed-renamed` | all of it has its target names; then comes `after-dirsync` |
//! | `after-relayed-delivered` | its target names are durable; the ledger says *delivered* with its next transaction |
//! | `after-released` | the ledger knows what a listing, or a node that has sent all, no longer shows |
//! | `shared-listed` | what a site shows of its shared files is written down |
//! | `shared-fetched` | the contents that a batch of them needs are here |
//! | `shared-kept` | what one end is about to lose is kept, and what the batch is to bring about is written down |
//! | `shared-taken` | one pair is taken up or removed here |
//! | `shared-carried-out` | the site has answered, and nothing of it is written down |
//! | `shared-agreed` | what both ends have is written down |
//! | `before-swept` | a start has read what the ledger knows of the staging directory |

#[cfg(debug_assertions)]
use std::sync::atomic::{AtomicU32, Ordering};

/// The variable that arms a crash point in debug builds.
#[cfg(debug_assertions)]
const VARIABLE: &str = "TIDEGATE_CRASH_AT";

/// Where this process is to die, if anywhere.
#[derive(Debug, Default)]
pub(crate) struct Crash {
    #[cfg(debug_assertions)]
    armed: Option<Armed>,
}

#[cfg(debug_assertions)]
#[derive(Debug)]
struct Armed {
    step: String,
    passings_left: AtomicU32,
    act: Act,
}

/// What happens there.
#[cfg(debug_assertions)]
struct Act(Box<dyn Fn() + Send + Sync>);

#[cfg(debug_assertions)]
impl std::fmt::Debug for Act {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Act")
    }
}

impl Crash {
    /// What the environment asks for; a value that cannot be read ends the process, lest a test pass by mistake.
    pub(crate) fn from_environment() -> Self {
        #[cfg(debug_assertions)]
        if let Ok(value) = std::env::var(VARIABLE) {
            let (step, n) = value.split_once(':').expect("TIDEGATE_CRASH_AT is <step>:<n>");
            let n = n.parse().expect("TIDEGATE_CRASH_AT ends in a count");
            return Self::armed(step, n, || std::process::abort());
        }
        Self::default()
    }

    /// Panics at the n-th passing of `step`.
    #[cfg(test)]
    pub(crate) fn panicking_at(step: &str, n: u32) -> Self {
        Self::armed(step, n, || panic!("crash point"))
    }

    /// Does something at the n-th passing of `step`, and goes on.
    #[cfg(test)]
    pub(crate) fn doing_at(step: &str, n: u32, act: impl Fn() + Send + Sync + 'static) -> Self {
        Self::armed(step, n, act)
    }

    #[cfg(debug_assertions)]
    fn armed(step: &str, n: u32, act: impl Fn() + Send + Sync + 'static) -> Self {
        let act = Act(Box::new(act));
        Self { armed: Some(Armed { step: step.to_owned(), passings_left: AtomicU32::new(n), act }) }
    }

    /// Passes a step.
    pub(crate) fn point(&self, step: &str) {
        #[cfg(debug_assertions)]
        if let Some(armed) = self.armed.as_ref().filter(|armed| armed.step == step)
            && armed.passings_left.fetch_sub(1, Ordering::Relaxed) == 1
        {
            (armed.act.0)();
        }
        #[cfg(not(debug_assertions))]
        let _ = step;
    }
}
