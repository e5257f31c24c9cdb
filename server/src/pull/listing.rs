//! A site's listing: bounded while it arrives, then the names of packages, each once.

use tidegate_proto::Name;
use tidegate_proto::limits::LISTED_NAME_MAX;

use crate::names::NamePattern;

/// The most bytes of a listing; a site that announces more is not pulled.
pub(crate) const BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The most names kept of one listing, some 40 MB; the rest is read past, and waits for a later one. Such a listing
/// proves no absence.
const NAMES_MAX: usize = 200_000;

/// Names of files that nobody takes that are kept, to be shown.
const EXAMPLES_MAX: usize = 5;

/// A listing, while it arrives and after.
#[derive(Debug)]
pub(crate) struct Listing {
    pattern: NamePattern,
    names: Vec<Name>,
    /// Positions in `names`, sorted by name.
    sorted: Vec<usize>,
    /// Packages by their ending that cannot be taken: bad names.
    held_back: u64,
    left: Left,
    complete: bool,
    line: Vec<u8>,
    line_is_too_long: bool,
}

/// Names of data files that are never taken: the pattern does not match them, or they cannot be asked for.
#[derive(Debug, Default)]
pub(crate) struct Left {
    count: u64,
    examples: Vec<Box<[u8]>>,
}

impl Left {
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The first of them, as far as they are no longer than a name.
    pub(crate) fn examples(&self) -> impl Iterator<Item = &[u8]> {
        self.examples.iter().map(|name| &**name)
    }

    fn add(&mut self, name: &[u8]) {
        self.count += 1;
        if self.examples.len() < EXAMPLES_MAX && !name.is_empty() {
            self.examples.push(name.into());
        }
    }
}

impl Listing {
    pub(crate) fn new(pattern: NamePattern) -> Self {
        Self {
            pattern,
            names: Vec::new(),
            sorted: Vec::new(),
            held_back: 0,
            left: Left::default(),
            complete: true,
            line: Vec::new(),
            line_is_too_long: false,
        }
    }

    /// Takes the next bytes.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.extend_line(&bytes[..end]);
            self.end_line();
            bytes = &bytes[end + 1..];
        }
        self.extend_line(bytes);
    }

    /// No more bytes will come: names that stand twice are dropped.
    pub(crate) fn finish(mut self) -> Self {
        self.end_line();
        let mut sorted: Vec<usize> = (0..self.names.len()).collect();
        sorted.sort_by_key(|&at| &self.names[at]);
        let mut repeated = vec![false; self.names.len()];
        for pair in sorted.windows(2) {
            repeated[pair[1]] = self.names[pair[0]] == self.names[pair[1]];
        }
        if repeated.contains(&true) {
            let mut at = repeated.iter();
            self.names.retain(|_| !*at.next().expect("one flag a name"));
            sorted = (0..self.names.len()).collect();
            sorted.sort_by_key(|&at| &self.names[at]);
        }
        self.sorted = sorted;
        self
    }

    /// The packages, as the site lists them.
    pub(crate) fn names(&self) -> &[Name] {
        &self.names
    }

    pub(crate) fn contains(&self, name: &Name) -> bool {
        self.sorted.binary_search_by_key(&name, |&at| &self.names[at]).is_ok()
    }

    /// Whether a name that is not here is not at the site either.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// How many packages have names that cannot be asked for.
    pub(crate) fn held_back(&self) -> u64 {
        self.held_back
    }

    /// What is never taken of it.
    pub(crate) fn left(&self) -> &Left {
        &self.left
    }

    fn extend_line(&mut self, bytes: &[u8]) {
        // A name that is too long is not collected either.
        self.line_is_too_long |= self.line.len() + bytes.len() > LISTED_NAME_MAX;
        if !self.line_is_too_long {
            self.line.extend_from_slice(bytes);
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.line_is_too_long) {
            self.held_back += 1;
            self.left.add(b"");
        } else if self.pattern.matches(&line) {
            match Name::parse_listed(&line) {
                Ok(_) if self.names.len() == NAMES_MAX => self.complete = false,
                Ok(name) => self.names.push(name),
                Err(_) => {
                    self.held_back += 1;
                    self.left.add(&line);
                }
            }
        } else if line.ends_with(b".data") {
            self.left.add(&line);
        }
        self.line = line;
        self.line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(chunks: &[&[u8]]) -> Listing {
        let mut listing = Listing::new(NamePattern::parse(NamePattern::DEFAULT).unwrap());
        chunks.iter().for_each(|chunk| listing.push(chunk));
        listing.finish()
    }

    fn shown(listing: &Listing) -> Vec<String> {
        listing.names().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn packages_are_taken_in_order_and_everything_else_is_left() {
        let listing = listing(&[b".\n..\nconf\nb.2.data\nx.md5\na.1.data\nnotes.txt\nx.conf"]);
        assert_eq!(shown(&listing), ["b.2.data", "a.1.data"]);
        assert_eq!(listing.held_back(), 0);
    }

    #[test]
    fn lines_may_come_in_pieces() {
        let bytes = b"a.1.data\nb.2.data\n";
        let pieces: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(shown(&listing(&pieces)), ["a.1.data", "b.2.data"]);
    }

    #[test]
    fn a_name_that_stands_twice_counts_once_at_its_first_place() {
        let listing = listing(&[b"b.2.data\na.1.data\nb.2.data\nb.2.data\nc.3.data"]);
        assert_eq!(shown(&listing), ["b.2.data", "a.1.data", "c.3.data"]);
        for name in listing.names() {
            assert!(listing.contains(name));
        }
        assert!(!listing.contains(&Name::parse(b"d.4.data").unwrap()));
    }

    #[test]
    fn names_that_cannot_be_asked_for_are_counted() {
        let long = [&[b'x'; 300][..], b".1.data"].concat();
        let listing = listing(&[b"../../etc/cron.d/x.1.data\n", &long, b"\nok.1.data\n"]);
        assert_eq!(shown(&listing), ["ok.1.data"]);
        assert_eq!(listing.held_back(), 2);
        assert_eq!(listing.left().count(), 2);
        assert_eq!(listing.left().examples().collect::<Vec<_>>(), [&b"../../etc/cron.d/x.1.data"[..]]);
    }

    #[test]
    fn data_files_that_nobody_takes_are_counted_and_some_of_them_named() {
        let listing =
            listing(&[b"web01.data\nx.conf\nnotes.txt\nok.1.data\nconf\n", &b"plain.data\n".repeat(9)]);
        assert_eq!((listing.left().count(), listing.held_back()), (10, 0));
        assert_eq!(listing.left().examples().count(), EXAMPLES_MAX);
        assert_eq!(listing.left().examples().next(), Some(&b"web01.data"[..]));
    }

    #[test]
    fn of_a_very_long_listing_a_part_is_kept_and_known_to_be_a_part() {
        let mut listing = Listing::new(NamePattern::parse(NamePattern::DEFAULT).unwrap());
        for n in 0..NAMES_MAX {
            listing.push(format!("x.{n}.data\n").as_bytes());
        }
        assert!(listing.is_complete());
        listing.push(b"y.1.data\nz.1.data\n");
        let listing = listing.finish();
        assert_eq!((listing.names().len(), listing.is_complete()), (NAMES_MAX, false));
        assert!(!listing.contains(&Name::parse(b"y.1.data").unwrap()));
    }

    #[test]
    fn an_endless_line_takes_no_memory() {
        let mut listing = Listing::new(NamePattern::parse("").unwrap());
        for _ in 0..10_000 {
            listing.push(&[b'x'; 1000]);
        }
        assert!(listing.line.capacity() <= 2 * LISTED_NAME_MAX);
    }
}
