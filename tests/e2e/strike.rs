//! Every step of a pull, a rule that strikes at one of them, and what has to come of it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tidegate_tests::central::{Central, Site};
use tidegate_tests::certificates::Authority;
use tidegate_tests::scenarios::each;
use tidegate_tests::scene::{OPTIONS, SETTINGS, Scene};
use tidegate_tests::tap::{Chunk, From, Tap, Verdict};
use tidegate_tests::until;

/// What the dialler says, or the answer to it. The number tells the how-manieth of its kind.
pub(crate) type Step = (&'static str, From, &'static str, u32);

/// Every step of a pull.
pub(crate) const STEPS: [Step; 16] = [
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

#[derive(Debug, Clone, Copy)]
enum Fault {
    Cut,
    KillServer,
    KillStock,
}

/// Cuts the connection at each of these steps of a pull of so many files, and kills either end there: everything has to
/// come out right.
pub(crate) fn at_each(steps: impl IntoIterator<Item = Step>, files: usize) {
    let authority = Authority::new();
    let faults = |step| [Fault::Cut, Fault::KillServer, Fault::KillStock].map(|fault| (step, fault));
    let scenarios: Vec<(Step, Fault)> = steps.into_iter().flat_map(faults).collect();
    each(&scenarios, |&((what, from, request, occurrence), fault)| {
        let what = format!("{fault:?} at {what} ({from:?}, {request}, {occurrence})");
        let mut scene = Scene::with_data(files, &OPTIONS);
        let strike = Arc::new(Strike::new(from, request, occurrence));
        let rule = Arc::clone(&strike);
        let tap = Tap::new(scene.stock.address(), move |chunk| rule.rule(chunk));
        let mut central = Central::new(&authority, &[Site::plain("stock", tap.address())], SETTINGS);
        {
            // Held until the process is known: no message overtakes its fault.
            let mut also = strike.hold();
            central.run();
            match fault {
                Fault::Cut => {}
                Fault::KillServer => *also = Box::new(central.process().killer()),
                Fault::KillStock => *also = Box::new(scene.stock.process().killer()),
            }
        }
        until::holds(&format!("{what}: the step is reached"), || strike.has_struck());
        match fault {
            Fault::Cut => {}
            Fault::KillServer => central.run(),
            Fault::KillStock => scene.stock.restart(),
        }
        scene.comes_out_right(&what, &mut central);
    });
}

/// A tap's rule that cuts the connection once, at one step, and does something else just before.
struct Strike {
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
    fn new(from: From, request: &'static str, occurrence: u32) -> Strike {
        Strike {
            from,
            request,
            progress: Mutex::new(Progress { left: occurrence, asked: HashSet::new() }),
            also: Mutex::new(Box::new(|| {})),
            struck: AtomicBool::new(false),
        }
    }

    /// Holds the strike up until its other deed is known: no message overtakes it.
    fn hold(&self) -> MutexGuard<'_, Box<dyn Fn() + Send>> {
        self.also.lock().expect("no holder panics")
    }

    fn has_struck(&self) -> bool {
        self.struck.load(Ordering::SeqCst)
    }

    fn rule(&self, chunk: &Chunk<'_>) -> Verdict {
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
