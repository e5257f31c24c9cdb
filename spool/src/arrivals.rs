//! The packages in the order of their arrival, for whoever goes through them from the oldest on.
//!
//! A backlog may be a million packages, and nobody may hold up commits while it is looked through or sorted. So the
//! order is kept at all times: new packages have greater numbers than all before them and go to the end, and each is
//! found by its place. They lie in pieces of [`PIECE`], so that one that goes moves few others.

use std::collections::VecDeque;

use crate::entry::{Entry, Order};

/// Packages of a piece. Neighbours that together have no more become one. Tests get there sooner.
const PIECE: usize = if cfg!(test) { 4 } else { 256 };

#[derive(Default)]
pub(crate) struct Arrivals {
    /// None is empty.
    pieces: VecDeque<Piece>,
}

struct Piece {
    /// No package in it is older, and each in the piece before is.
    first: Order,
    entries: Vec<Entry>,
}

impl Arrivals {
    /// Adds a package, the newest of all.
    pub(crate) fn push(&mut self, entry: Entry) {
        let order = entry.order();
        debug_assert!(self.newest() < Some(order), "a package is added after those that arrived before it");
        match self.pieces.back_mut().filter(|last| last.entries.len() < PIECE) {
            Some(last) => last.entries.push(entry),
            None => {
                let mut entries = Vec::with_capacity(PIECE);
                entries.push(entry);
                self.pieces.push_back(Piece { first: order, entries });
            }
        }
    }

    fn newest(&self) -> Option<Order> {
        Some(self.pieces.back()?.entries.last()?.order())
    }

    /// Removes the package at that place, if there is one.
    pub(crate) fn remove(&mut self, order: Order) {
        let position = self.piece_of(order);
        let Some(piece) = self.pieces.get_mut(position) else { return };
        let Ok(place) = piece.entries.binary_search_by_key(&order, Entry::order) else { return };
        piece.entries.remove(place);
        if piece.entries.is_empty() {
            self.pieces.remove(position);
        } else {
            self.join(position);
        }
        if let Some(before) = position.checked_sub(1) {
            self.join(before);
        }
    }

    /// Makes one of two neighbours that together are no more than one may be.
    fn join(&mut self, position: usize) {
        let length = |position: usize| self.pieces.get(position).map(|piece| piece.entries.len());
        let (Some(one), Some(other)) = (length(position), length(position + 1)) else { return };
        if one + other <= PIECE
            && let Some(next) = self.pieces.remove(position + 1)
        {
            self.pieces[position].entries.extend(next.entries);
        }
    }

    /// The piece that has this place, or would have it.
    fn piece_of(&self, order: Order) -> usize {
        self.pieces.partition_point(|piece| piece.first <= order).saturating_sub(1)
    }

    pub(crate) fn oldest(&self) -> Option<&Entry> {
        self.pieces.front()?.entries.first()
    }

    /// The packages from this place on, oldest first. Finding the first one takes few steps, however many there are.
    pub(crate) fn from(&self, order: Order) -> impl Iterator<Item = &Entry> {
        let mut pieces = self.pieces.range(self.piece_of(order).min(self.pieces.len())..);
        let first = pieces.next().map_or(&[][..], |piece| {
            &piece.entries[piece.entries.partition_point(|entry| entry.order() < order)..]
        });
        first.iter().chain(pieces.flat_map(|piece| &piece.entries))
    }

    /// Places that memory is taken for.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.pieces.iter().map(|piece| piece.entries.capacity()).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn entry(order: Order) -> Entry {
        let mut entry = Entry::new(0, 0, 0, b"x");
        entry.place(order);
        entry
    }

    fn orders<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<Order> {
        entries.map(Entry::order).collect()
    }

    proptest! {
        /// Whatever comes and goes, it is what a sorted set says, and no half of the memory is for nothing.
        #[test]
        fn it_is_a_sorted_set(steps in prop::collection::vec((1..4_u64, prop::option::of(0..40_u64)), 1..120)) {
            let (mut arrivals, mut set, mut newest) = (Arrivals::default(), BTreeSet::new(), 0);
            for (distance, gone) in steps {
                newest += distance;
                arrivals.push(entry(newest));
                set.insert(newest);
                for order in gone.into_iter().flat_map(|gone| gone * 3..gone * 3 + 5) {
                    arrivals.remove(order);
                    set.remove(&order);
                }
                prop_assert_eq!(arrivals.oldest().map(Entry::order), set.first().copied());
                prop_assert!(arrivals.capacity() <= 2 * set.len() + 2 * PIECE);
                for from in [0, newest / 2, newest, newest + 1] {
                    prop_assert_eq!(orders(arrivals.from(from)), set.range(from..).copied().collect::<Vec<_>>());
                }
            }
        }
    }

    #[test]
    fn one_that_is_not_there_is_not_removed() {
        let mut arrivals = Arrivals::default();
        arrivals.remove(1);
        arrivals.push(entry(5));
        arrivals.push(entry(7));
        [4, 6, 8].into_iter().for_each(|order| arrivals.remove(order));
        assert_eq!(orders(arrivals.from(0)), [5, 7]);
        arrivals.remove(5);
        arrivals.remove(7);
        assert_eq!((orders(arrivals.from(0)), arrivals.capacity()), (vec![], 0));
    }
}
