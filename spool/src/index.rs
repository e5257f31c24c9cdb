//! What is in `ready/`, in memory: by listed name, and in the order of arrival.
//!
//! A backlog may be a million packages, so each costs little: at most 128 bytes over its name, and 64 more when that
//! name is a made one. 32 of them at most are for the order (module `arrivals`): for these, streams and listings need
//! neither look through all packages nor sort them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::SystemTime;

use crate::arrivals::Arrivals;
use crate::clock::{Millis, system_time};
use crate::copies::{Copies, Group};
use crate::entry::{Entry, Order};
use crate::id::{COUNTER_BITS, Id};
use crate::names;
use crate::seen::{self, Key};

/// One stored package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its number.
    pub id: Id,
    /// The first eight bytes of the SHA-256 of its bytes.
    pub digest: u64,
    /// Its length in bytes.
    pub size: u64,
    /// When it was stored; its file's modification time.
    pub arrival: SystemTime,
    /// The name a puller sees.
    pub listed_name: Arc<[u8]>,
}

#[derive(Default)]
pub(crate) struct Index {
    /// Runs that packages have, in order.
    runs: Vec<u64>,
    entries: HashSet<Entry>,
    /// The same entries.
    arrivals: Arrivals,
    copies: Copies,
    leased: HashSet<Id>,
    bytes: u64,
}

impl Index {
    /// Adds a package; its name must be free, and its run not older than that of any added before.
    pub(crate) fn insert(&mut self, id: Id, mut entry: Entry) {
        if self.runs.last() != Some(&id.run) {
            self.runs.push(id.run);
        }
        let order = (self.runs.len() as u64 - 1) << COUNTER_BITS | id.counter;
        self.bytes += entry.size();
        if let Some((sent, step)) = names::made_from(entry.listed_name(), entry.digest()) {
            let key = seen::key(&sent, entry.digest(), entry.size());
            self.copies.insert(key, step, entry.arrival());
        }
        entry.place(order);
        let new = self.entries.insert(entry.clone());
        debug_assert!(new, "a listed name is given to one package");
        self.arrivals.push(entry);
    }

    pub(crate) fn get(&self, name: &[u8]) -> Option<Package> {
        self.entries.get(name).map(|entry| self.package(entry))
    }

    fn package(&self, entry: &Entry) -> Package {
        Package {
            id: self.id(entry),
            digest: entry.digest(),
            size: entry.size(),
            arrival: system_time(entry.arrival()),
            listed_name: entry.listed_name().into(),
        }
    }

    fn id(&self, entry: &Entry) -> Id {
        let run = self.runs[(entry.order() >> COUNTER_BITS) as usize];
        Id { run, counter: entry.order() & ((1 << COUNTER_BITS) - 1) }
    }

    pub(crate) fn holds(&self, name: &[u8]) -> bool {
        self.entries.contains(name)
    }

    /// Arrival of the package listed as `name`, if it was sent so and is the same.
    pub(crate) fn original(&self, name: &[u8], digest: u64, size: u64) -> Option<Millis> {
        let entry =
            self.entries.get(name).filter(|entry| (entry.digest(), entry.size()) == (digest, size))?;
        names::made_from(name, digest).is_none().then(|| entry.arrival())
    }

    /// The packages with made names that were sent with this name and these bytes.
    pub(crate) fn copies(&self, key: Key) -> Option<Group> {
        self.copies.get(key)
    }

    /// Claims a package, unless it is claimed.
    pub(crate) fn lease(&mut self, name: &[u8]) -> Option<Package> {
        let package = self.get(name)?;
        self.leased.insert(package.id).then_some(package)
    }

    /// Claims the first packages from this place on, in the order of arrival: at most so many, and none behind one that
    /// another has claimed. With the place behind the last one.
    pub(crate) fn lease_from(&mut self, order: Order, max: usize) -> (Vec<Package>, Order) {
        let (mut packages, mut next) = (Vec::new(), order);
        for entry in self.arrivals.from(order).take(max) {
            let package = self.package(entry);
            if !self.leased.insert(package.id) {
                break;
            }
            next = entry.order() + 1;
            packages.push(package);
        }
        (packages, next)
    }

    /// Whether there is a package at this place, or behind it.
    pub(crate) fn has_from(&self, order: Order) -> bool {
        self.arrivals.from(order).next().is_some()
    }

    pub(crate) fn is_leased(&self, id: Id) -> bool {
        self.leased.contains(&id)
    }

    /// Gives up a claim; `false` when the package is gone with it. It is kept by number: a later package may have the
    /// name by now.
    pub(crate) fn release(&mut self, id: Id) -> bool {
        self.leased.remove(&id)
    }

    /// Removes a package, if it is there: a later one may have its name by now.
    pub(crate) fn remove(&mut self, package: &Package) -> bool {
        self.leased.remove(&package.id);
        if self.get(&package.listed_name).is_none_or(|there| there.id != package.id) {
            return false;
        }
        if let Some(entry) = self.entries.take(&*package.listed_name) {
            self.bytes -= entry.size();
            if let Some((sent, _)) = names::made_from(entry.listed_name(), entry.digest()) {
                self.copies.remove(seen::key(&sent, entry.digest(), entry.size()));
            }
            self.arrivals.remove(entry.order());
        }
        true
    }

    pub(crate) fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Number and arrival of the oldest package.
    pub(crate) fn oldest(&self) -> Option<(Id, Millis)> {
        self.arrivals.oldest().map(|entry| (self.id(entry), entry.arrival()))
    }

    /// All packages with their numbers, in the order of arrival.
    pub(crate) fn packages(&self) -> impl Iterator<Item = (Id, &Entry)> {
        self.packages_from(0)
    }

    /// Those from this place on.
    pub(crate) fn packages_from(&self, order: Order) -> impl Iterator<Item = (Id, &Entry)> {
        self.arrivals.from(order).map(|entry| (self.id(entry), entry))
    }

    /// All entries, in the order of arrival.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::with_capacity(self.entries.len());
        entries.extend(self.arrivals.from(0).cloned());
        entries
    }

    /// Makes room for that many packages at once: a table that grows is in memory twice.
    pub(crate) fn reserve(&mut self, packages: usize) {
        self.entries.reserve(packages);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(index: &mut Index, run: u64, counter: u64, name: &[u8]) {
        index.insert(Id { run, counter }, Entry::new(1, 10, run * 100 + counter, name));
    }

    fn remove(index: &mut Index, name: &[u8]) {
        let package = index.get(name).unwrap();
        assert!(index.remove(&package));
        assert!(!index.remove(&package));
    }

    /// A slot is an entry and one control byte; a table is at least 7/16 full just after it has grown. The entry's
    /// own allocation carries four numbers and two reference counts. The pieces of the order are at least half full.
    #[test]
    fn a_package_costs_at_most_128_bytes_over_its_name() {
        let slot = size_of::<Entry>() + 1;
        let order = 2 * size_of::<Entry>();
        assert!(slot * 16 / 7 + 4 * size_of::<u64>() + 2 * size_of::<usize>() + order <= 128);
    }

    #[test]
    fn entries_read_back_whole() {
        let mut index = Index::default();
        insert(&mut index, 7, 3, b"a");
        insert(&mut index, 9, (1 << COUNTER_BITS) - 1, b"b");
        assert_eq!(index.get(b"a").unwrap().id, Id { run: 7, counter: 3 });
        let package = index.get(b"b").unwrap();
        assert_eq!(package.id, Id { run: 9, counter: (1 << COUNTER_BITS) - 1 });
        assert_eq!((package.digest, package.size, &*package.listed_name), (1, 10, b"b".as_slice()));
        assert_eq!((index.len(), index.bytes()), (2, 20));
    }

    #[test]
    fn the_oldest_is_found_again_when_it_goes() {
        let mut index = Index::default();
        assert_eq!(index.oldest(), None);
        insert(&mut index, 7, 3, b"a");
        insert(&mut index, 7, 4, b"b");
        assert_eq!(index.oldest(), Some((Id { run: 7, counter: 3 }, 703)));
        remove(&mut index, b"a");
        insert(&mut index, 8, 0, b"c");
        assert_eq!(index.oldest(), Some((Id { run: 7, counter: 4 }, 704)));
        remove(&mut index, b"b");
        remove(&mut index, b"c");
        assert_eq!((index.oldest(), index.bytes()), (None, 0));
    }

    #[test]
    fn made_names_are_found_by_what_was_sent_until_they_go() {
        let mut index = Index::default();
        let key = seen::key(b"a", 1, 10);
        insert(&mut index, 7, 3, b"a");
        assert_eq!((index.original(b"a", 1, 10), index.copies(key)), (Some(703), None));
        insert(&mut index, 7, 4, b"a.000000001");
        assert_eq!(index.copies(key).map(|group| (group.newest, group.next_step)), Some((704, 1)));
        assert_eq!(index.original(b"a.000000001", 1, 10), None, "it was sent as `a`");
        remove(&mut index, b"a.000000001");
        assert_eq!(index.copies(key), None);
    }

    #[test]
    fn one_puller_at_a_time() {
        let mut index = Index::default();
        insert(&mut index, 7, 3, b"a");
        assert!(index.lease(b"a").is_some());
        assert!(index.lease(b"a").is_none());
        index.release(Id { run: 7, counter: 2 });
        assert!(index.lease(b"a").is_none(), "another package's claim was given up");
        index.release(Id { run: 7, counter: 3 });
        assert!(index.lease(b"a").is_some());
        assert!(index.lease(b"missing").is_none());
    }
}
