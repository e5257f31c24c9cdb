//! The names of all packages at one moment, as a stream.

use std::io;

use crate::entry::Entry;

/// The listed names in arrival order, joined by line ends: read it as a stream of [`Listing::total_bytes`] bytes.
///
/// It shows one moment: packages that come or go while it is read change nothing in it. The names are shared with
/// the spool, not copied.
pub struct Listing {
    entries: Vec<Entry>,
    total_bytes: u64,
    /// The name to give next, and how much of it (its line end included) was given.
    next: (usize, usize),
}

impl Listing {
    /// Of entries in the order of arrival.
    pub(crate) fn new(entries: Vec<Entry>) -> Self {
        let line_ends = entries.len().saturating_sub(1) as u64;
        let total_bytes =
            entries.iter().map(|entry| entry.listed_name().len() as u64).sum::<u64>() + line_ends;
        Self { entries, total_bytes, next: (0, 0) }
    }

    /// Bytes the stream gives in all.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// The names themselves, in arrival order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.entries.iter().map(Entry::listed_name)
    }
}

impl io::Read for Listing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut given = 0;
        while given < buffer.len() && self.next.0 < self.entries.len() {
            let (position, offset) = self.next;
            let name = self.entries[position].listed_name();
            let free = &mut buffer[given..];
            if let Some(rest) = name.get(offset..).filter(|rest| !rest.is_empty()) {
                let count = rest.len().min(free.len());
                free[..count].copy_from_slice(&rest[..count]);
                given += count;
                self.next.1 += count;
            } else {
                self.next = (position + 1, 0);
                if self.next.0 < self.entries.len() {
                    free[0] = b'\n';
                    given += 1;
                }
            }
        }
        Ok(given)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn it_gives_the_names_in_order_in_pieces_of_any_size() {
        let entries = || [&b"first"[..], b"2", b"third"].map(|name| Entry::new(0, 0, 0, name)).to_vec();
        for piece in [1, 2, 3, 7, 100] {
            let mut listing = Listing::new(entries());
            let (mut text, mut buffer) = (Vec::new(), vec![0; piece]);
            loop {
                let count = listing.read(&mut buffer).unwrap();
                if count == 0 {
                    break;
                }
                text.extend_from_slice(&buffer[..count]);
            }
            assert_eq!(text, b"first\n2\nthird");
            assert_eq!(listing.total_bytes(), text.len() as u64);
        }
    }

    #[test]
    fn an_empty_spool_lists_nothing() {
        let mut listing = Listing::new(Vec::new());
        assert_eq!((listing.total_bytes(), listing.read(&mut [0; 8]).unwrap()), (0, 0));
    }
}
