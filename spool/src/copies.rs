//! The stored packages that have a made name, by what was sent: which of its names come next, and when the newest
//! copy arrived.
//!
//! A sender that gives all its reports one name may send the same bytes all day while nobody pulls. Finding the
//! newest of a hundred equal packages name by name would cost every commit a hundred looks; here it is one. It is
//! all in the listed names, so a start makes it anew.

use std::collections::HashMap;

use crate::clock::Millis;
use crate::seen::Key;

/// Equal packages (name and bytes) with a made name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// Arrival of the last one added. It may be deleted while others are not: then its deletion is remembered, and
    /// that is the later time.
    pub(crate) newest: Millis,
    /// The step after the one of the last added: with older ones pulled first, free for longest.
    pub(crate) next_step: u32,
    stored: u32,
}

#[derive(Default)]
pub(crate) struct Copies(HashMap<Key, Group>);

impl Copies {
    /// To be called in the order of arrival. `key` is of the name sent.
    pub(crate) fn insert(&mut self, key: Key, step: u32, arrival: Millis) {
        let stored = self.0.get(&key).map_or(0, |group| group.stored) + 1;
        self.0.insert(key, Group { newest: arrival, next_step: step + 1, stored });
    }

    pub(crate) fn remove(&mut self, key: Key) {
        if let Some(group) = self.0.get_mut(&key) {
            group.stored -= 1;
            if group.stored == 0 {
                self.0.remove(&key);
            }
        }
    }

    pub(crate) fn get(&self, key: Key) -> Option<Group> {
        self.0.get(&key).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_lasts_as_long_as_one_of_it() {
        let mut copies = Copies::default();
        copies.insert(7, 0, 100);
        copies.insert(7, 1, 200);
        copies.insert(8, 5, 300);
        copies.remove(7);
        assert_eq!(copies.get(7), Some(Group { newest: 200, next_step: 2, stored: 1 }));
        copies.remove(7);
        assert_eq!((copies.get(7), copies.get(8).map(|group| group.next_step)), (None, Some(6)));
    }

    /// The clock was ahead when the first one arrived: the last one is the newest all the same.
    #[test]
    fn the_newest_is_the_last_added() {
        let mut copies = Copies::default();
        copies.insert(7, 0, Millis::MAX);
        copies.insert(7, 1, 100);
        assert_eq!(copies.get(7).map(|group| group.newest), Some(100));
    }

    /// One control byte each, and a table at least 7/16 full.
    #[test]
    fn a_group_costs_at_most_64_bytes() {
        assert!((size_of::<(Key, Group)>() + 1) * 16 / 7 <= 64);
    }
}
