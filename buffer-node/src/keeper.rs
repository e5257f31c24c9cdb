//! The thread that looks after the spool while packages come and go: makes loss records durable, takes up dead letters
//! that an operator sent on their way, and ends the node when the spool has stored its last package without anybody
//! noticing.
//!
//! A thread, because all of it waits for the disk; of its own, because senders wait for the committer. There may be many
//! dead letters: between two batches of them losses are recorded, and a stop is heeded.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tidegate_spool::{CommitError, Spool, TakenUp};
use tracing::{info, warn};

use crate::committer::News;
use crate::fatal::Fatal;

/// The time between two rounds. A crash forgets the refusals of that time at most.
const EVERY: Duration = Duration::from_secs(1);

/// Rounds between two looks at dead letters when some of them had to wait: each is looked at again.
const ROUNDS_OF_WAITING: u32 = 5;

/// Rounds between two log lines about the same failure.
const ROUNDS_BETWEEN_LINES: u32 = 60;

/// The running thread. Dropping it ends the thread after a last round.
pub(crate) struct Keeper {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Takes up dead letters for the spool, and tells the news of them.
    pub(crate) fn start(spool: Spool, news: News, fatal: Fatal) -> io::Result<Self> {
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new().name("keeper".into()).spawn(move || {
            let mut round = Round { spool, news, fatal, stopped, quiet: 0, waited: 0 };
            loop {
                round.run();
                match round.stopped.recv_timeout(EVERY) {
                    Err(RecvTimeoutError::Timeout) => {}
                    // What is left of the dead letters is for the next start.
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => break round.flush(),
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
    news: News,
    fatal: Fatal,
    stopped: Receiver<()>,
    /// Rounds until what fails is said again.
    quiet: u32,
    /// Rounds in which dead letters are not looked at again.
    waited: u32,
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
        self.quiet = self.quiet.saturating_sub(1);
        let flushed = self.spool.flush_losses();
        let taken_up = self.take_up();
        if self.is_over() {
            return;
        }
        match flushed.map_err(CommitError::from).and(taken_up) {
            Err(error) => {
                self.failing(|| warn!(%error, "loss records or dead letters have to wait: see to the disk"));
            }
            Ok(Some(TakenUp { waiting, first_waiting: Some(first), .. })) => {
                self.waited = ROUNDS_OF_WAITING;
                self.failing(|| warn!(waiting, first, "dead letters have to wait"));
            }
            Ok(Some(_)) => self.quiet = 0,
            Ok(None) => {}
        }
    }

    /// The last of them.
    fn flush(&self) {
        if let Err(error) = self.spool.flush_losses() {
            warn!(%error, "refusals of the last second are not recorded");
        }
        self.is_over();
    }

    fn is_over(&self) -> bool {
        let reason = self.spool.poisoned();
        if let Some(reason) = &reason {
            self.fatal.declare(format_args!("the spool stores nothing more: {reason}"));
        }
        reason.is_some()
    }

    /// `None` when it is not yet time to look again.
    fn take_up(&mut self) -> Result<Option<TakenUp>, CommitError> {
        if self.waited > 0 {
            self.waited -= 1;
            return Ok(None);
        }
        let (spool, stopped) = (&self.spool, &self.stopped);
        let mut flushed = Ok(());
        let go_on = || {
            flushed = spool.flush_losses();
            matches!(stopped.try_recv(), Err(TryRecvError::Empty))
        };
        let taken_up = spool.take_up_dead_letters(go_on);
        // Of an error nobody knows how many there were before it.
        if !matches!(taken_up, Ok(TakenUp { requeued: 0, .. })) {
            self.news.tell();
        }
        let taken_up = taken_up?;
        let TakenUp { requeued, repeats, purged, returned, waiting, .. } = taken_up;
        if requeued + repeats + purged + returned > 0 {
            info!(requeued, repeats, purged, returned, waiting, "took up dead letters");
        }
        flushed?;
        Ok(Some(taken_up))
    }

    /// Says so now and then.
    fn failing(&mut self, say: impl FnOnce()) {
        if self.quiet == 0 {
            say();
            self.quiet = ROUNDS_BETWEEN_LINES;
        }
    }
}
