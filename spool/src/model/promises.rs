//! Random life of a spool on the disk that forgets, against what its owner was told.
//!
//! - What was stored and not deleted is there, whole, once, with its time of arrival.
//! - What was deleted is gone.
//! - A repeat of either is recognised as long as it should be, and not longer.
//! - What was neither confirmed nor refused is there whole, or not at all.
//! - A loss that was recorded stays recorded, once.
//! - On a full disk only commits fail.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

use proptest::prelude::*;

use super::memory::{Fuse, Memory};
use super::steps::{Crash, Step, step};
use crate::clock::{Clock, Millis, millis};
use crate::draft::Draft;
use crate::parallel::lock;
use crate::{
    CommitError, DiskError, Duplicates, Lease, Loss, LossReason, Overflow, Package, Recovery, Settings,
    Spool, Stored, names, recover, seen,
};

pub(super) const MINUTE: Millis = 60_000;
/// A time further ahead is not believed.
const TOLERANCE: Millis = 60 * MINUTE;
/// A name without a number, one with a number, one with a time.
pub(super) const NAMES: [&[u8]; 3] = [b"status", b"host.0.data", b"web.1700000000.data"];
/// The last one does not fit a draft's memory.
pub(super) const SIZES: [usize; 3] = [1, 300, 70_000];

/// A name and the position of a content.
pub(super) type Sent = (&'static [u8], usize);
/// A package: what was sent, and its arrival.
pub(super) type Copy = (Sent, Millis);

/// What the owner knows of a package.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum State {
    Stored,
    /// The commit was not answered, or refused.
    Unsure,
    /// The deletion was not answered, or refused.
    Deleting {
        at: Millis,
    },
}

pub(super) struct Owner {
    pub(super) disk: Memory,
    time: Arc<AtomicU64>,
    threads: usize,
    spool: Option<Spool>,
    pub(super) states: BTreeMap<Copy, State>,
    /// Deletions.
    deleted: BTreeMap<Sent, Vec<Millis>>,
    /// The clock was set back: what lies ahead may have been forgotten, rightly.
    forgetful: bool,
    /// How the process ends when the fuse burns down; while there is one, calls may fail.
    fuse: Option<Crash>,
    /// Packages that the spool said were recorded as lost.
    lost: u64,
    /// Those that it did not say so of.
    pub(super) perhaps_lost: u64,
    /// Refused ones, which the next flush records as long as the process lives.
    perhaps_refused: u64,
}

impl Owner {
    /// The first start dies after so many calls; one long enough does not.
    pub(super) fn new(threads: usize, first_start: u32) -> Self {
        let mut owner = Self {
            disk: Memory::new(Path::new("/data")),
            time: Arc::new(AtomicU64::new(1_700_000_000_000)),
            threads,
            spool: None,
            states: BTreeMap::new(),
            deleted: BTreeMap::new(),
            forgetful: false,
            fuse: None,
            lost: 0,
            perhaps_lost: 0,
            perhaps_refused: 0,
        };
        owner.disk.light(Fuse::Death(first_start));
        drop(owner.open_spool());
        owner.crash(Crash::Process);
        owner
    }

    fn now(&self) -> Millis {
        self.time.load(Ordering::Relaxed)
    }

    pub(super) fn spool(&self) -> &Spool {
        self.spool.as_ref().expect("the spool is open between steps")
    }

    pub(super) fn take(&mut self, step: Step) {
        self.time.fetch_add(1, Ordering::Relaxed);
        match step {
            Step::Commit(batch) => self.commit(&batch),
            Step::Delete(places) => self.delete(&places),
            Step::Beside { batch, places, after, commit_within } => {
                self.beside(&batch, &places, after, commit_within)
            }
            Step::Back(time) => {
                self.time.fetch_sub(time, Ordering::Relaxed);
                self.forgetful = true;
            }
            Step::Wait(time) => _ = self.time.fetch_add(time, Ordering::Relaxed),
            Step::Crash(crash) => self.crash(crash),
            Step::Lose(packages) => self.lose_packages(packages),
            Step::Fill(full) => self.disk.fill(full && self.fuse.is_none()),
            Step::CrashTwice(crash, fuse) => {
                self.make_room_for(fuse);
                self.lose(crash);
                self.disk.light(fuse);
                drop(self.open_spool());
                self.crash(crash);
            }
            Step::Light(fuse, crash) => {
                self.make_room_for(fuse);
                self.disk.light(fuse);
                self.fuse = Some(crash);
            }
        }
        if let Some(reason) = self.spool().usage().poisoned {
            let results = self.spool().commit(vec![]);
            assert!(results.is_empty() && self.spool().begin(NAMES[0], 1).is_err(), "poisoned: {reason}");
        }
        match self.fuse {
            Some(crash) if self.disk.is_dead() || self.spool().usage().poisoned.is_some() => {
                self.crash(crash)
            }
            fuse => {
                // One that only let a call fail is over: from now on everything works again.
                self.fuse = fuse.filter(|_| self.disk.is_lit());
                self.check_listing()
            }
        }
    }

    /// Where nothing can be left behind for the next start, a failed fsync is forgotten with the process.
    fn make_room_for(&self, fuse: Fuse) {
        if !matches!(fuse, Fuse::Death(_)) {
            self.disk.fill(false);
        }
    }

    fn commit(&mut self, batch: &[(usize, usize)]) {
        let (sent, drafts) = self.drafts(batch);
        let results = self.spool().commit(drafts);
        self.committed(sent, results, None);
    }

    fn drafts(&self, batch: &[(usize, usize)]) -> (Vec<Sent>, Vec<Draft>) {
        let sent: Vec<Sent> = batch.iter().map(|&(name, content)| (NAMES[name], content)).collect();
        let drafts = sent.iter().map(|sent| self.draft(*sent)).collect();
        (sent, drafts)
    }

    /// What became of a batch. `before` says what were repeats before a deletion that went on at the same time: where
    /// that changed it, both answers are right.
    fn committed(
        &mut self,
        sent: Vec<Sent>,
        results: Vec<Result<Stored, CommitError>>,
        before: Option<Vec<bool>>,
    ) {
        let now = self.now();
        assert_eq!(results.len(), sent.len());
        for (place, (sent, result)) in sent.into_iter().zip(results).enumerate() {
            // An equal one before it in the batch counts, if it was stored.
            let repeat = self.repeats(sent);
            let was_repeat = before.as_ref().map_or(repeat, |before| before[place]);
            let in_batch = self.states.get(&(sent, now)) == Some(&State::Stored);
            match result {
                Ok(Stored::New { package }) => {
                    let forgotten = self.forgetful && !in_batch;
                    assert!(!(repeat && was_repeat) || forgotten, "a repeat was stored again: {sent:?}");
                    assert!(!in_batch, "a repeat in one batch was stored again: {sent:?}");
                    assert_eq!(millis(package.arrival), now);
                    self.states.insert((sent, now), State::Stored);
                }
                Ok(Stored::Repeat) => {
                    assert!(repeat || was_repeat, "a new package was taken for a repeat: {sent:?}");
                }
                Err(error) => {
                    let may_fail = self.fuse.is_some() || self.disk.is_full();
                    assert!(may_fail && !matches!(error, CommitError::InvalidName), "{error}");
                    if !in_batch && (self.forgetful || !(repeat && was_repeat)) {
                        self.states.insert((sent, now), State::Unsure);
                    }
                }
            }
        }
    }

    fn beside(&mut self, batch: &[(usize, usize)], places: &[usize], after: u32, commit_within: bool) {
        let (sent, drafts) = self.drafts(batch);
        let before = sent.iter().map(|sent| self.repeats(*sent)).collect();
        let (copies, leases) = self.leases(places);
        let (spool, within) = (self.spool().clone(), self.spool().clone());
        let (committed, deleted) = if commit_within {
            let (tell, told) = mpsc::channel();
            self.disk.interrupt(after, move || tell.send(within.commit(drafts)).expect("awaited"));
            let deleted = spool.delete(leases);
            self.disk.catch_up();
            (told.recv().expect("it has happened"), deleted)
        } else {
            let (tell, told) = mpsc::channel();
            self.disk.interrupt(after, move || tell.send(within.delete(leases)).expect("awaited"));
            let committed = spool.commit(drafts);
            self.disk.catch_up();
            (committed, told.recv().expect("it has happened"))
        };
        self.deleted(copies, deleted);
        self.committed(sent, committed, Some(before));
    }

    fn draft(&self, (name, content): Sent) -> Draft {
        let bytes = bytes(content);
        let mut draft = self.spool().begin(name, bytes.len() as u64).expect("there is room");
        // On a dead disk this fails, and then the commit must.
        let _ = bytes.chunks(40_000).try_for_each(|piece| draft.write(piece));
        draft
    }

    fn repeats(&self, sent: Sent) -> bool {
        let timed = names::timed(sent.0);
        let kept = Duplicates::default().kept(timed);
        let counts = |since: Millis| {
            self.now().saturating_sub(since) < kept && since.saturating_sub(self.now()) <= TOLERANCE
        };
        let stored =
            |(&(_, arrival), &state): (&Copy, &State)| state != State::Unsure && (timed || counts(arrival));
        self.copies(sent).any(stored)
            || self.deleted.get(&sent).is_some_and(|times| times.iter().any(|&at| counts(at)))
    }

    fn copies(&self, sent: Sent) -> impl Iterator<Item = (&Copy, &State)> {
        self.states.range((sent, 0)..=(sent, Millis::MAX))
    }

    fn delete(&mut self, places: &[usize]) {
        let (copies, leases) = self.leases(places);
        let results = self.spool().delete(leases);
        self.deleted(copies, results);
    }

    fn leases(&self, places: &[usize]) -> (Vec<Copy>, Vec<Lease>) {
        let listing = self.spool().listing();
        let listed: Vec<&[u8]> = listing.names().collect();
        let names = places.iter().filter_map(|&place| listed.get(place));
        let leases: Vec<_> = names.filter_map(|name| self.spool().lease(name)).collect();
        (leases.iter().map(|lease| identify(lease.package())).collect(), leases)
    }

    fn deleted(&mut self, copies: Vec<Copy>, results: Vec<Result<(), CommitError>>) {
        let at = self.now();
        assert_eq!(results.len(), copies.len());
        for (copy, result) in copies.into_iter().zip(results) {
            let state = self.states.get(&copy);
            assert!(state.is_some_and(|&state| state != State::Unsure), "listed, but not stored: {copy:?}");
            match result {
                Ok(()) => {
                    self.states.remove(&copy);
                    self.deleted.entry(copy.0).or_default().push(at);
                }
                Err(error) => {
                    assert!(self.fuse.is_some(), "{error}");
                    self.states.insert(copy, State::Deleting { at });
                }
            }
        }
    }

    /// Only what is acknowledged must be found again; a drop that is not acknowledged may be recorded all the same.
    fn lose_packages(&mut self, packages: u64) {
        let recorded = match packages {
            // What is dropped is recorded first.
            1 => {
                let loss = Loss::of("data", LossReason::Dropped, 1, self.now());
                self.spool().store.record_losses(&[loss])
            }
            _ => {
                (0..packages).for_each(|_| self.spool().refused("data", LossReason::Full, 1));
                self.spool().flush_losses()
            }
        };
        match recorded {
            Ok(()) if packages == 1 => self.lost += 1,
            Ok(()) => self.lost += packages + std::mem::take(&mut self.perhaps_refused),
            Err(error) => {
                assert!(self.fuse.is_some(), "{error}");
                let perhaps = if packages == 1 { &mut self.perhaps_lost } else { &mut self.perhaps_refused };
                *perhaps += packages;
            }
        }
        self.check_losses();
    }

    fn check_losses(&mut self) {
        let found: u64 = self.spool().losses().iter().map(|loss| loss.packages).sum();
        let most = self.lost + self.perhaps_lost + self.perhaps_refused;
        assert!((self.lost..=most).contains(&found), "{found} losses, but {} to {most}", self.lost);
    }

    fn crash(&mut self, crash: Crash) {
        self.lose(crash);
        self.open();
    }

    fn lose(&mut self, crash: Crash) {
        // Before the disk lives again: a dead process tidies nothing up.
        self.spool = None;
        self.disk.kill();
        self.fuse = None;
        match crash {
            Crash::Process => {}
            Crash::Blackout => self.disk.power_cut(&mut |_| 0),
            Crash::Power(seed) => {
                let mut state = seed | 1;
                self.disk.power_cut(&mut |choices| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    (state >> 33) as usize % choices
                });
            }
        }
    }

    fn open(&mut self) {
        let (spool, recovery) = self.open_spool().expect("it opens");
        assert!(recovery.corrupt.is_empty(), "nothing doubled, nothing scrambled: {recovery:?}");
        self.spool = Some(spool);
        self.learn();
        self.check_losses();
        self.lost = self.spool().losses().iter().map(|loss| loss.packages).sum();
        (self.perhaps_lost, self.perhaps_refused) = (0, 0);
    }

    fn open_spool(&self) -> Result<(Spool, Recovery), DiskError> {
        let clock = {
            let time = Arc::clone(&self.time);
            Clock::new(move || time.load(Ordering::Relaxed))
        };
        let settings = Settings {
            root: PathBuf::from("/data/spool"),
            max_bytes: u64::MAX,
            max_files: u64::MAX,
            reserve_bytes: 0,
            duplicates: Duplicates::default(),
            sync_threads: self.threads,
            overflow: Overflow::default(),
        };
        recover::open_on(Arc::new(self.disk.clone()), clock, None, &settings)
    }

    /// What was unsure shows after a start.
    fn learn(&mut self) {
        let mut found = self.found();
        let mut back = Vec::new();
        for (copy, state) in std::mem::take(&mut self.states) {
            match (found.remove(&copy), state) {
                (Some(_), State::Stored | State::Unsure) => _ = self.states.insert(copy, State::Stored),
                (None, State::Stored) => panic!("a stored package was lost or changed: {copy:?}"),
                (None, State::Unsure) => {}
                (Some(package), State::Deleting { .. }) => back.push((copy, package)),
                (None, State::Deleting { at }) => self.deleted.entry(copy.0).or_default().push(at),
            }
        }
        // Once all deletions that took place are known: that of an equal package may be remembered rightly.
        for (copy, package) in back {
            assert!(
                self.deletion_is_forgotten(copy.0, &package),
                "its deletion is recorded, but it is back: {copy:?}"
            );
            self.states.insert(copy, State::Stored);
        }
        assert!(found.is_empty(), "a deleted package came back: {found:?}");
    }

    fn deletion_is_forgotten(&self, sent: Sent, package: &Package) -> bool {
        let key = seen::key(sent.0, package.digest, package.size);
        let state = lock(&self.spool().store.state);
        // One deleted before that may be remembered rightly.
        self.deleted.contains_key(&sent) || !state.seen.repeats(key, sent.0, self.now())
    }

    /// While the process lives, the listing shows exactly what is stored.
    fn check_listing(&self) {
        let found = self.found();
        let stored = self.states.iter().filter(|(_, state)| **state != State::Unsure);
        assert!(found.keys().eq(stored.map(|(copy, _)| copy)), "{found:?} but {:?}", self.states);
    }

    /// What the spool lists, read to the last byte.
    fn found(&self) -> BTreeMap<Copy, Package> {
        let mut found = BTreeMap::new();
        for name in self.spool().listing().names() {
            let package = self.spool().find(name).expect("what is listed is found");
            let copy = identify(&package);
            let mut read = Vec::new();
            self.spool()
                .open_package(&package)
                .and_then(|mut file| file.read_to_end(&mut read))
                .expect("is readable");
            assert!(read == bytes(copy.0.1), "a package is not whole: {copy:?}");
            let before = found.insert(copy, package);
            assert_eq!(before, None, "a package is there twice: {copy:?}");
        }
        found
    }
}

pub(super) fn bytes(content: usize) -> Vec<u8> {
    vec![b'a' + content as u8; SIZES[content]]
}

/// Which package of ours it is: the sizes tell the contents apart.
fn identify(package: &Package) -> Copy {
    let content = SIZES.iter().position(|&size| size as u64 == package.size).expect("a package is not whole");
    let given =
        |name: &&[u8]| names::candidates(name, package.digest, None).any(|it| it[..] == *package.listed_name);
    let name = NAMES.into_iter().find(given).expect("the listed name comes from the sent one");
    ((name, content), millis(package.arrival))
}

/// As many cases as `PROPTEST_CASES` says, else the campaign's number.
fn config() -> ProptestConfig {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => config,
        None => ProptestConfig { cases: 10_000, ..config },
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_was_promised_holds(
        threads in prop_oneof![9 => Just(1_usize), 1 => Just(4_usize)],
        first_start in 0..60_u32,
        steps in prop::collection::vec(step(), 1..25),
    ) {
        let mut owner = Owner::new(threads, first_start);
        steps.into_iter().for_each(|step| owner.take(step));
        owner.crash(Crash::Blackout);
    }
}
