//! Streams, and a puller that keeps one mark for each run: whatever comes and goes, it never misses a package.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;
use crate::clock::Clock;
use crate::model::memory::Memory;
use crate::overflow::{Allowance, Class, DATA_CLASS, Policy};
use crate::{Damage, Duplicates, Id, Overflow, Settings, Stored, recover};

fn open(disk: &Memory, overflow: Overflow) -> Spool {
    let settings = Settings {
        root: PathBuf::from("/data/spool"),
        max_bytes: u64::MAX,
        max_files: u64::MAX,
        reserve_bytes: 0,
        duplicates: Duplicates::default(),
        sync_threads: 1,
        overflow,
    };
    let clock = Clock::new(|| 1_700_000_000_000);
    recover::open_on(Arc::new(disk.clone()), clock, None, &settings).unwrap().0
}

fn new_disk() -> Memory {
    Memory::new(Path::new("/data"))
}

fn new_spool() -> Spool {
    open(&new_disk(), Overflow::default())
}

/// A package of that name.
fn store(spool: &Spool, name: &str) {
    let mut draft = spool.begin_dropping(name.as_bytes(), 1, 1).unwrap().0;
    draft.write(b"x").unwrap();
    let stored = spool.commit(vec![draft]).remove(0).unwrap();
    assert!(matches!(stored, Stored::New { .. }));
}

fn names(leases: &[Lease]) -> String {
    let names = leases.iter().map(|lease| String::from_utf8_lossy(&lease.package().listed_name));
    names.collect::<Vec<_>>().join(" ")
}

/// What the next look gives, and the claims.
fn look(stream: &mut Stream, max: usize) -> (String, Vec<Lease>) {
    match stream.next(max) {
        Next::Packages(leases) => (names(&leases), leases),
        Next::Dry => ("dry".into(), vec![]),
        Next::Claimed => ("claimed".into(), vec![]),
    }
}

fn delete(spool: &Spool, leases: Vec<Lease>) {
    assert!(spool.delete(leases).iter().all(Result::is_ok));
}

#[test]
fn packages_come_in_the_order_of_their_arrival_then_those_that_arrive() {
    let spool = new_spool();
    assert_eq!(spool.oldest_number(), None);
    ["c", "a", "b"].iter().for_each(|name| store(&spool, name));
    let mut stream = spool.stream();
    let (first, claims) = look(&mut stream, 2);
    assert_eq!(first, "c a");
    assert_eq!(spool.oldest_number(), Some(claims[0].package().id), "claimed or not");
    store(&spool, "0");
    let (second, more) = look(&mut stream, 10);
    assert_eq!((&*second, &*look(&mut stream, 10).0), ("b 0", "dry"));
    delete(&spool, claims);
    assert_eq!(spool.oldest_number(), Some(more[0].package().id));
    store(&spool, "d");
    assert_eq!(look(&mut stream, 10).0, "d");
}

#[test]
fn one_that_another_has_claimed_is_waited_for() {
    let spool = new_spool();
    ["a", "b", "c"].iter().for_each(|name| store(&spool, name));
    let of_another = spool.lease(b"b").unwrap();
    let mut stream = spool.stream();
    let (first, _claims) = look(&mut stream, 10);
    assert_eq!((&*first, &*look(&mut stream, 10).0), ("a", "claimed"));
    drop(of_another);
    assert_eq!(look(&mut stream, 10).0, "b c");
}

#[test]
fn what_another_takes_away_does_not_come() {
    let spool = new_spool();
    ["a", "b", "c", "d", "e"].iter().for_each(|name| store(&spool, name));
    let mut stream = spool.stream();
    let claims = look(&mut stream, 1).1;
    delete(&spool, vec![spool.lease(b"b").unwrap(), spool.lease(b"d").unwrap()]);
    spool.set_aside(spool.lease(b"c").unwrap(), &Damage::Missing).unwrap();
    assert_eq!(look(&mut stream, 10).0, "e");
    delete(&spool, claims);
    assert_eq!(look(&mut stream, 10).0, "dry");
}

#[test]
fn another_stream_begins_with_what_the_first_gives_up() {
    let spool = new_spool();
    ["a", "b", "c"].iter().for_each(|name| store(&spool, name));
    let (mut first, mut second) = (spool.stream(), spool.stream());
    let claims = look(&mut first, 2).1;
    assert_eq!(look(&mut second, 10).0, "claimed");
    assert_eq!(look(&mut first, 2).0, "c", "and gives it up again");
    drop((first, claims));
    assert_eq!(look(&mut second, 10).0, "a b c");
}

#[test]
fn the_order_outlives_the_process() {
    let disk = new_disk();
    for name in ["z", "y", "x"] {
        store(&open(&disk, Overflow::default()), name);
    }
    disk.power_cut(&mut |_| 0);
    let spool = open(&disk, Overflow::default());
    store(&spool, "w");
    let claims = look(&mut spool.stream(), 10).1;
    assert_eq!(names(&claims), "z y x w");
    assert!(claims.is_sorted_by(|a, b| a.package().id.run < b.package().id.run));
}

fn two_at_most() -> Overflow {
    let class =
        Class { policy: Policy::DropOldest, max_files: Allowance::Exactly(2), ..Class::new(DATA_CLASS) };
    Overflow::new(class, vec![], |_| None)
}

#[test]
fn what_is_dropped_for_newer_ones_does_not_come_and_what_is_claimed_is_not_dropped() {
    let spool = open(&new_disk(), two_at_most());
    ["a", "b"].iter().for_each(|name| store(&spool, name));
    let mut stream = spool.stream();
    let (first, claims) = look(&mut stream, 1);
    store(&spool, "c");
    assert_eq!((&*first, &*look(&mut stream, 10).0), ("a", "c"));
    delete(&spool, claims);
}

/// It is a number of its own, or the mark would swallow it.
#[test]
fn a_dead_letter_that_is_a_package_again_comes_last() {
    let disk = new_disk();
    let spool = open(&disk, Overflow::default());
    ["a", "b"].iter().for_each(|name| store(&spool, name));
    let mut stream = spool.stream();
    let mut claims = look(&mut stream, 10).1;
    spool.set_aside(claims.remove(0), &Damage::Changed { found: 1 }).unwrap();
    let layout = &spool.store.layout;
    for found in disk_list(&spool, &layout.corrupt) {
        let (from, to) = (layout.corrupt.join(&found), layout.requeue.join(&found));
        spool.store.fs.rename_noreplace(&from, &to).unwrap();
    }
    assert_eq!(spool.take_up_dead_letters(|| true).unwrap().requeued, 1);
    let (again, letter) = look(&mut stream, 10);
    assert_eq!(again, "a");
    assert!(letter[0].package().id > claims[0].package().id);
}

fn disk_list(spool: &Spool, directory: &Path) -> Vec<std::ffi::OsString> {
    spool.store.fs.list(directory).unwrap().into_iter().map(|found| found.name).collect()
}

/// It counts a package once by its number; one that is not above the mark of its run it takes for a repeat.
#[derive(Default)]
struct Puller {
    marks: BTreeMap<u64, u64>,
    has: BTreeSet<Id>,
}

impl Puller {
    fn take(&mut self, id: Id) {
        let mark = self.marks.entry(id.run).or_default();
        // Counters begin with 0, which the mark of a new run is not to cover.
        assert!(id.counter + 1 > *mark || self.has.contains(&id), "{id} would be swallowed");
        *mark = (id.counter + 1).max(*mark);
        self.has.insert(id);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Store,
    /// The stream gives so many.
    Pull(usize),
    /// So many of what it gave are acknowledged.
    Acknowledge(usize),
    /// The connection breaks.
    Begin,
    /// Another claims the package at this place of the listing.
    Claim(usize),
    GiveUp,
    DeleteClaimed,
    SetAside,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Store),
        4 => (1..4_usize).prop_map(Step::Pull),
        3 => (1..4_usize).prop_map(Step::Acknowledge),
        1 => Just(Step::Begin),
        2 => (0..6_usize).prop_map(Step::Claim),
        2 => Just(Step::GiveUp),
        1 => Just(Step::DeleteClaimed),
        1 => Just(Step::SetAside),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #[test]
    fn a_puller_with_marks_misses_nothing(steps in prop::collection::vec(step(), 1..80)) {
        let disk = new_disk();
        let mut spool = open(&disk, Overflow::default());
        let (mut stream, mut given, mut claims) = (spool.stream(), Vec::new(), Vec::<Lease>::new());
        let (mut puller, mut last, mut number) = (Puller::default(), None, 0);
        for step in steps {
            match step {
                Step::Store => {
                    number += 1;
                    store(&spool, &format!("{number}"));
                }
                Step::Pull(max) => match stream.next(max) {
                    Next::Packages(leases) => {
                        prop_assert!(!leases.is_empty() && leases.len() <= max);
                        for lease in leases {
                            let id = lease.package().id;
                            prop_assert!(last < Some(id));
                            last = Some(id);
                            puller.take(id);
                            given.push(lease);
                        }
                    }
                    Next::Claimed => {
                        let state = lock(&spool.store.state);
                        let behind = state.index.packages().map(|(id, _)| id).find(|id| Some(*id) > last);
                        prop_assert!(behind.is_some_and(|id| claims.iter().any(|claim| claim.package().id == id)));
                    }
                    Next::Dry => prop_assert!(
                        lock(&spool.store.state).index.packages().all(|(id, _)| Some(id) <= last)
                    ),
                },
                Step::Acknowledge(count) => {
                    let rest = given.split_off(count.min(given.len()));
                    delete(&spool, std::mem::replace(&mut given, rest));
                }
                Step::Begin => {
                    given.clear();
                    (stream, last) = (spool.stream(), None);
                }
                Step::Claim(place) => {
                    let listing = spool.listing();
                    claims.extend(listing.names().nth(place).and_then(|name| spool.lease(name)));
                }
                Step::GiveUp => _ = claims.pop(),
                // Another puller, of the old protocol, has it.
                Step::DeleteClaimed => claims.pop().into_iter().for_each(|claim| {
                    puller.has.insert(claim.package().id);
                    delete(&spool, vec![claim]);
                }),
                Step::SetAside => claims.pop().into_iter().for_each(|claim| {
                    puller.has.insert(claim.package().id);
                    spool.set_aside(claim, &Damage::Missing).unwrap();
                }),
                Step::Reopen => {
                    given.clear();
                    claims.clear();
                    drop((stream, spool));
                    disk.power_cut(&mut |_| 0);
                    spool = open(&disk, Overflow::default());
                    (stream, last) = (spool.stream(), None);
                }
            }
        }
        drop((given, claims));
        while let Next::Packages(leases) = spool.stream().next(3) {
            leases.iter().for_each(|lease| puller.take(lease.package().id));
            delete(&spool, leases);
        }
        prop_assert_eq!((puller.has.len(), spool.usage().files), (number, 0));
    }
}

/// Several threads store, and one pulls and deletes all the while.
#[test]
fn what_arrives_while_it_is_pulled_comes_too() {
    const THREADS: usize = 3;
    const EACH: usize = 100;
    let (spool, stored) = (new_spool(), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (spool, stored) = (&spool, &stored);
            scope.spawn(move || {
                for number in 0..EACH {
                    store(spool, &format!("{thread}.{number}"));
                    stored.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let (mut stream, mut last, mut pulled) = (spool.stream(), None, 0);
        loop {
            let all = stored.load(Ordering::SeqCst) == THREADS * EACH;
            match stream.next(7) {
                Next::Packages(leases) => {
                    for lease in &leases {
                        assert!(last < Some(lease.package().id));
                        last = Some(lease.package().id);
                    }
                    pulled += leases.len();
                    delete(&spool, leases);
                }
                Next::Claimed => unreachable!("nobody else claims"),
                Next::Dry if all => break,
                Next::Dry => std::thread::yield_now(),
            }
        }
        assert_eq!((pulled, spool.usage().files), (THREADS * EACH, 0));
    });
}

/// It is a place: however many packages there are.
#[test]
fn a_stream_costs_two_words() {
    assert_eq!(size_of::<Stream>(), 2 * size_of::<usize>());
}
