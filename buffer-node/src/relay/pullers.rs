//! Which puller has the stream: the newest one whose epoch is accepted. And which one keeps the shared files in step, in the
//! same way.
//!
//! A connection whose peer has gone without a word looks like one that is idle, so the newer one wins: it takes the
//! stream at once, and the older is told to leave. What the older one still does (packages it has claimed, deletions on
//! their way) is waited for, since a stream never passes over a claimed package anyway.
//!
//! Deciding on an epoch, remembering it and taking the stream are one step: else a puller that was refused a moment later
//! could throw out its successor. The file is read again each time, so a reset needs no restart.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::epoch::{self, Decision, Held, Refusal};
use crate::fatal::Fatal;

/// Listings held at the same time, each of one connection. Who asks beyond it is told to ask again (`busy`).
const LISTINGS_MAX: usize = 4;

/// The pullers of one node.
pub(crate) struct Pullers {
    file: PathBuf,
    fatal: Fatal,
    /// Grows whenever a puller is accepted; for sessions that must know whether relay is used since they began.
    accepted: AtomicU64,
    listings: Arc<Semaphore>,
    /// Held while an epoch is decided on.
    current: Mutex<Seats>,
}

/// Who has what only one may have at a time.
#[derive(Default)]
struct Seats {
    stream: Option<Current>,
    shared: Option<Current>,
}

/// Who has the stream or the shared files, or had them last.
struct Current {
    epoch: u64,
    puller: String,
    leave: CancellationToken,
    gone: watch::Receiver<()>,
}

/// The stream, or the shared files, until a newer connection takes them.
pub(super) struct Place {
    leave: CancellationToken,
    hold: Hold,
}

/// Kept by everything that still works for a stream: claims, and deletions on their way.
#[derive(Clone)]
pub(super) struct Hold(
    #[expect(dead_code, reason = "that it is dropped is what counts")] Arc<watch::Sender<()>>,
);

/// The connection before, which may still have claims.
pub(super) struct Predecessor(watch::Receiver<()>);

/// An accepted puller.
pub(super) struct Accepted {
    pub(super) held: Held,
    /// Whether its epoch, or its coming, is new.
    pub(super) is_new: bool,
}

/// Why a puller is not accepted.
pub(super) enum Rejected {
    Epoch(Refusal, Option<Held>),
    /// What is remembered cannot be read or written.
    File(io::Error),
}

impl Pullers {
    pub(crate) fn new(file: PathBuf, fatal: Fatal) -> Self {
        epoch::set_room_aside(&file);
        Self {
            file,
            fatal,
            accepted: AtomicU64::new(0),
            listings: Arc::new(Semaphore::new(LISTINGS_MAX)),
            current: Mutex::new(Seats::default()),
        }
    }

    /// What is remembered. Reads the disk.
    pub(crate) fn held(&self) -> io::Result<Option<Held>> {
        epoch::load(&self.file).map_err(|error| self.told(&error))
    }

    /// How often a puller was accepted since the start.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Acquire)
    }

    /// A place for a listing, if there is one.
    pub(super) fn listing(&self) -> Option<OwnedSemaphorePermit> {
        self.listings.clone().try_acquire_owned().ok()
    }

    /// Accepts a puller for something short.
    pub(super) fn admit(&self, epoch: u64, puller: &str) -> Result<Accepted, Rejected> {
        let seats = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        self.decide(&seats, epoch, puller)
    }

    /// Accepts a puller and gives it the stream. Reads, and may write, the disk.
    pub(super) fn take_stream(
        &self,
        epoch: u64,
        puller: &str,
    ) -> Result<(Accepted, Place, Option<Predecessor>), Rejected> {
        self.take(epoch, puller, |seats| &mut seats.stream)
    }

    /// The same with the shared files.
    pub(super) fn take_shared(
        &self,
        epoch: u64,
        puller: &str,
    ) -> Result<(Accepted, Place, Option<Predecessor>), Rejected> {
        self.take(epoch, puller, |seats| &mut seats.shared)
    }

    fn take(
        &self,
        epoch: u64,
        puller: &str,
        seat: fn(&mut Seats) -> &mut Option<Current>,
    ) -> Result<(Accepted, Place, Option<Predecessor>), Rejected> {
        let mut seats = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let accepted = self.decide(&seats, epoch, puller)?;
        let (sender, gone) = watch::channel(());
        let leave = CancellationToken::new();
        let place = Place { leave: leave.clone(), hold: Hold(Arc::new(sender)) };
        let before = seat(&mut seats).replace(Current { epoch, puller: puller.to_owned(), leave, gone });
        let before = before.map(|before| {
            before.leave.cancel();
            Predecessor(before.gone)
        });
        Ok((accepted, place, before))
    }

    fn decide(&self, seats: &Seats, epoch: u64, puller: &str) -> Result<Accepted, Rejected> {
        let held = self.held().map_err(Rejected::File)?;
        let accepted = match epoch::decide(held.as_ref(), epoch, puller) {
            Decision::Refused(refusal) => return Err(Rejected::Epoch(refusal, held)),
            Decision::Known => held.map(|held| Accepted { held, is_new: false }),
            Decision::New => {
                let held = epoch::save(&self.file, epoch, puller).map_err(|error| {
                    let told = self.told(&error);
                    // What a disk has that failed is not known; the next start finds out. A full one is only full.
                    if error.raw_os_error() == Some(Errno::IO.raw_os_error()) {
                        self.fatal.declare(&told);
                    }
                    Rejected::File(told)
                })?;
                Some(Accepted { held, is_new: true })
            }
        };
        let accepted = accepted.expect("only a remembered epoch is known");
        // A puller of an epoch that is over stops now, not when the new one asks for the stream. After a reset the new
        // holder's epoch may have the same number.
        let is_over = |current: &&Current| current.epoch != epoch || current.puller != puller;
        for current in [&seats.stream, &seats.shared].into_iter().flatten().filter(is_over) {
            current.leave.cancel();
        }
        self.accepted.fetch_add(1, Ordering::AcqRel);
        Ok(accepted)
    }

    fn told(&self, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{}: {error}", self.file.display()))
    }
}

impl Place {
    /// Completes when a newer connection has taken it, or a newer epoch the node.
    pub(super) async fn taken(&self) {
        self.leave.cancelled().await;
    }

    /// For work that outlives the session.
    pub(super) fn hold(&self) -> Hold {
        self.hold.clone()
    }
}

impl Predecessor {
    /// Waits until it has let go of everything, or for so long; `false` when it has not.
    pub(super) async fn gone(&mut self, patience: Duration) -> bool {
        let gone = async { while self.0.changed().await.is_ok() {} };
        timeout(patience, gone).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "tidegate:server/a";
    const B: &str = "tidegate:server/b";

    fn pullers(directory: &tempfile::TempDir) -> Pullers {
        Pullers::new(directory.path().join("epoch"), Fatal::default())
    }

    #[tokio::test]
    async fn the_newest_takes_the_stream_and_waits_for_what_the_older_one_still_does() {
        let directory = tempfile::tempdir().expect("a directory");
        let pullers = pullers(&directory);
        let Ok((accepted, first, None)) = pullers.take_stream(1, A) else { panic!("the first") };
        assert!(accepted.is_new);
        let deletion = first.hold();
        let Ok((accepted, second, Some(mut before))) = pullers.take_stream(1, A) else {
            panic!("the second")
        };
        assert!(!accepted.is_new);
        first.taken().await;
        assert!(!second.leave.is_cancelled());
        drop(first);
        assert!(!before.gone(Duration::from_millis(10)).await, "a deletion is on its way");
        let Ok((_, _third, Some(mut before))) = pullers.take_stream(1, A) else { panic!("the third") };
        drop((second, deletion));
        assert!(before.gone(Duration::from_secs(60)).await);
        assert_eq!(pullers.accepted(), 3);
    }

    #[tokio::test]
    async fn who_is_refused_disturbs_nobody_and_a_newer_epoch_ends_the_older() {
        let directory = tempfile::tempdir().expect("a directory");
        let pullers = pullers(&directory);
        let Ok((_, stream, _)) = pullers.take_stream(4, A) else { panic!("the first") };
        for (epoch, puller) in [(4, B), (3, A), (6, A)] {
            assert!(matches!(pullers.take_stream(epoch, puller), Err(Rejected::Epoch(_, Some(_)))));
        }
        assert!(!stream.leave.is_cancelled());
        assert!(pullers.admit(4, A).is_ok_and(|accepted| !accepted.is_new));
        assert!(!stream.leave.is_cancelled(), "a listing takes no stream");
        assert!(pullers.admit(5, B).is_ok_and(|accepted| accepted.is_new));
        stream.taken().await;
        assert!(
            pullers.held().is_ok_and(|held| held.is_some_and(|held| held.epoch == 5 && held.puller == B))
        );
    }

    #[tokio::test]
    async fn a_new_holder_of_the_same_number_ends_the_stream_from_before_the_reset() {
        let directory = tempfile::tempdir().expect("a directory");
        let pullers = pullers(&directory);
        let Ok((_, stream, _)) = pullers.take_stream(1, A) else { panic!("the first") };
        std::fs::remove_file(directory.path().join("epoch")).expect("a reset");
        assert!(pullers.admit(1, A).is_ok_and(|accepted| accepted.is_new));
        assert!(!stream.leave.is_cancelled(), "it is the holder's");
        std::fs::remove_file(directory.path().join("epoch")).expect("a reset");
        assert!(pullers.admit(1, B).is_ok_and(|accepted| accepted.is_new));
        stream.taken().await;
    }

    #[tokio::test]
    async fn the_shared_files_are_taken_beside_the_stream_and_end_with_the_epoch_too() {
        let directory = tempfile::tempdir().expect("a directory");
        let pullers = pullers(&directory);
        let Ok((_, stream, None)) = pullers.take_stream(4, A) else { panic!("the first") };
        let Ok((_, first, None)) = pullers.take_shared(4, A) else { panic!("nobody was before") };
        let Ok((_, second, Some(mut before))) = pullers.take_shared(4, A) else { panic!("the second") };
        first.taken().await;
        drop(first);
        assert!(before.gone(Duration::from_secs(60)).await);
        assert!(!stream.leave.is_cancelled() && !second.leave.is_cancelled());
        assert!(pullers.take_shared(4, B).is_err());
        assert!(pullers.admit(5, B).is_ok());
        stream.taken().await;
        second.taken().await;
    }

    #[test]
    fn listings_have_few_places_and_give_them_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let pullers = pullers(&directory);
        let mut places: Vec<_> = std::iter::from_fn(|| pullers.listing()).collect();
        assert_eq!(places.len(), LISTINGS_MAX);
        places.pop();
        assert!(pullers.listing().is_some());
    }

    #[test]
    fn an_epoch_that_cannot_be_read_lets_nobody_in() {
        let directory = tempfile::tempdir().expect("a directory");
        let pullers = pullers(&directory);
        std::fs::write(directory.path().join("epoch"), "nonsense").expect("writes");
        let Err(Rejected::File(error)) = pullers.take_stream(1, A) else { panic!("let in") };
        assert!(error.to_string().contains("epoch reset"), "{error}");
        assert_eq!(pullers.accepted(), 0);
    }
}
