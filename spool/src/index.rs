//! What is in `ready/`, in memory: by listed name.
//!
//! A backlog may be a million packages, so each costs little: at most 96 bytes over its name, and 64 more when that
//! name is a made one. The order of arrival is kept in each entry and sorted out when a listing asks for it, instead
//! of in a second structure.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::SystemTime;

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
    copies: Copies,
    leased: HashSet<Id>,
    bytes: u64,
    /// Order and arrival of the oldest entry; `None` when it is not known.
    oldest: Option<(Order, Millis)>,
}

impl Index {
    /// Adds a package; its name must be free, and its run not older than that of any added before.
    pub(crate) fn insert(&mut self, id: Id, mut entry: Entry) {
        if self.runs.last() != Some(&id.run) {
            self.runs.push(id.run);
        }
        let order = (self.runs.len() as u64 - 1) << COUNTER_BITS | id.counter;
        if self.entries.is_empty() {
            self.oldest = Some((order, entry.arrival()));
        }
        self.bytes += entry.size();
        if let Some((sent, step)) = names::made_from(entry.listed_name(), entry.digest()) {
            let key = seen::key(&sent, entry.digest(), entry.size());
            self.copies.insert(key, step, entry.arrival());
        }
        entry.place(order);
        let new = self.entries.insert(entry);
        debug_assert!(new, "a listed name is given to one package");
    }

    pub(crate) fn get(&self, name: &[u8]) -> Option<Package> {
        let entry = self.entries.get(name)?;
        Some(Package {
            id: self.id(entry),
            digest: entry.digest(),
            size: entry.size(),
            arrival: system_time(entry.arrival()),
            listed_name: entry.listed_name().into(),
        })
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
            if self.oldest.is_some_and(|(order, _)| order == entry.order()) {
                self.oldest = None;
            }
        }
        true
    }

    pub(crate) fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Arrival of the oldest package. Looks through all of them when the oldest known one is gone.
    pub(crate) fn oldest(&mut self) -> Option<Millis> {
        if self.oldest.is_none() {
            self.oldest = self.entries.iter().map(|entry| (entry.order(), entry.arrival())).min();
        }
        self.oldest.map(|(_, arrival)| arrival)
    }

    /// All packages with their numbers, unsorted.
    pub(crate) fn packages(&self) -> impl Iterator<Item = (Id, &Entry)> {
        self.entries.iter().map(|entry| (self.id(entry), entry))
    }

    /// All entries, unsorted.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.entries.iter().cloned().collect()
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
    /// own allocation carries four numbers and two reference counts.
    #[test]
    fn a_package_costs_at_most_96_bytes_over_its_name() {
        let slot = size_of::<Entry>() + 1;
        assert!(slot * 16 / 7 + 4 * size_of::<u64>() + 2 * size_of::<usize>() <= 96);
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
        assert_eq!(index.oldest(), Some(703));
        remove(&mut index, b"a");
        insert(&mut index, 8, 0, b"c");
        assert_eq!(index.oldest(), Some(704));
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
