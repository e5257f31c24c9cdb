//! The thread that looks after the spool while packages come and go: makes loss records durable, takes up dead letters
//! that an operator sent on their way, and ends the node when the spool has stored its last package without anybody
//! noticing.
//!
//! A thread, because all of it waits for the disk; of its own, because senders wait for the committer.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tidegate_spool::{CommitError, Spool, TakenUp};
use tracing::{info, warn};

use crate::fatal::Fatal;

/// The time between two rounds. A crash forgets the refusals of that time at most.
const EVERY: Duration = Duration::from_secs(1);

/// Rounds between two log lines about the same failure.
const ROUNDS_BETWEEN_LINES: u32 = 60;

/// The running thread. Dropping it ends the thread after a last round.
pub(crate) struct Keeper {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    pub(crate) fn start(spool: Spool, fatal: Fatal) -> io::Result<Self> {
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new().name("keeper".into()).spawn(move || {
            let mut round = Round { spool, fatal, failed: 0 };
            loop {
                round.run();
                match stopped.recv_timeout(EVERY) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => break round.run(),
                }
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop = None;
        // A crash has been declared by the thread itself.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

struct Round {
    spool: Spool,
    fatal: Fatal,
    /// Rounds in a row in which something failed.
    failed: u32,
}

/// Without this thread nothing would record losses any more.
impl Drop for Round {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.fatal.declare("the thread that keeps loss records has crashed; see the log above");
        }
    }
}

impl Round {
    fn run(&mut self) {
        let flushed = self.spool.flush_losses().map_err(CommitError::from);
        let taken_up = self.spool.take_up_dead_letters();
        if let Some(reason) = self.spool.poisoned() {
            return self.fatal.declare(format_args!("the spool stores nothing more: {reason}"));
        }
        let outcome = flushed.and(taken_up);
        if let Ok(TakenUp { requeued, repeats, purged, returned, .. }) = outcome
            && requeued + repeats + purged + returned > 0
        {
            info!(requeued, repeats, purged, returned, "took up dead letters");
        }
        match outcome {
            Ok(TakenUp { waiting: 0, .. }) => self.failed = 0,
            outcome => {
                if self.failed.is_multiple_of(ROUNDS_BETWEEN_LINES) {
                    match outcome {
                        Err(error) => {
                            warn!(%error, "loss records or dead letters have to wait: see to the disk")
                        }
                        Ok(TakenUp { waiting, .. }) => {
                            warn!(waiting, "dead letters wait for room in the spool")
                        }
                    }
                }
                self.failed = self.failed.wrapping_add(1);
            }
        }
    }
}
