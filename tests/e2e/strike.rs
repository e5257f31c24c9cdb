//! Every step of a pull, and a rule that strikes at one of them.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use tidegate_tests::tap::{Chunk, From, Verdict};

/// Every step of a pull: what the dialler says, and the answer to it. The number tells the how-manieth of its kind.
pub(crate) const STEPS: [(&str, From, &str, u32); 16] = [
    ("first LS", From::Dialler, "LS <", 1),
    ("its size", From::Listener, "LS <", 1),
    ("its OK", From::Dialler, "LS OK", 1),
    ("its listing", From::Listener, "LS OK", 1),
    ("second LS", From::Dialler, "LS <", 2),
    ("second listing", From::Listener, "LS OK", 2),
    ("RECV", From::Dialler, "RECV <", 1),
    ("its size", From::Listener, "RECV <", 1),
    ("its OK", From::Dialler, "RECV OK", 1),
    ("its body", From::Listener, "RECV OK", 1),
    ("second RECV", From::Dialler, "RECV <", 2),
    ("MV", From::Dialler, "MV <", 1),
    ("its size", From::Listener, "MV <", 1),
    ("its OK", From::Dialler, "MV OK", 1),
    ("its body", From::Listener, "MV OK", 1),
    ("second MV", From::Dialler, "MV <", 2),
];

/// A tap's rule that cuts the connection once, at one step, and does something else just before.
pub(crate) struct Strike {
    from: From,
    request: &'static str,
    progress: Mutex<Progress>,
    /// What else happens, e.g. a kill. Whoever holds it holds every message up.
    also: Mutex<Box<dyn Fn() + Send>>,
    struck: AtomicBool,
}

struct Progress {
    /// How often the step is still to come before it is the one.
    left: u32,
    /// The connections whose dialler's last message is the request in question.
    asked: HashSet<u64>,
}

impl Strike {
    /// At the `occurrence`-th time that `from` is about to say `request`, or to answer it.
    pub(crate) fn new(from: From, request: &'static str, occurrence: u32) -> Strike {
        Strike {
            from,
            request,
            progress: Mutex::new(Progress { left: occurrence, asked: HashSet::new() }),
            also: Mutex::new(Box::new(|| {})),
            struck: AtomicBool::new(false),
        }
    }

    /// Holds the strike up until its other deed is known: no message overtakes it.
    pub(crate) fn hold(&self) -> MutexGuard<'_, Box<dyn Fn() + Send>> {
        self.also.lock().expect("no holder panics")
    }

    pub(crate) fn has_struck(&self) -> bool {
        self.struck.load(Ordering::SeqCst)
    }

    pub(crate) fn rule(&self, chunk: &Chunk<'_>) -> Verdict {
        if self.has_struck() || !self.is_here(chunk) {
            return Verdict::Pass;
        }
        (self.hold())();
        self.struck.store(true, Ordering::SeqCst);
        Verdict::Cut
    }

    fn is_here(&self, chunk: &Chunk<'_>) -> bool {
        let mut progress = self.progress.lock().expect("no holder panics");
        let matches = match chunk.from {
            From::Dialler => {
                let asks = chunk.asks(self.request);
                if asks {
                    progress.asked.insert(chunk.connection);
                } else {
                    progress.asked.remove(&chunk.connection);
                }
                asks && self.from == From::Dialler
            }
            // The first chunk of the answer only.
            From::Listener => progress.asked.remove(&chunk.connection) && self.from == From::Listener,
        };
        progress.left -= u32::from(matches && progress.left > 0);
        matches && progress.left == 0
    }
}
