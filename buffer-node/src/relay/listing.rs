//! The names of the packages, for a puller that asks: in parts, as fast as it takes them.
//!
//! Names are cut apart at their line ends, so a part holds whole names and is never larger than [`PART_MAX`]. Nothing is
//! read before the puller has room for it. A listing shares its entries with the spool, but keeps those of packages that
//! are gone for as long as its puller takes, so only a few are held at the same time.

use std::io::{self, Read};
use std::sync::Arc;

use tidegate_spool::Listing;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_blocking;

use crate::node::Node;

/// Bytes of one part. More are in the next.
const PART_MAX: usize = 32 * 1024;

/// A listing on its way.
pub(super) struct Names<R = Listing> {
    listing: R,
    /// The beginning of a name whose end is not read yet.
    begun: Vec<u8>,
    /// One of the few.
    _place: OwnedSemaphorePermit,
}

/// Whole names, joined by line ends, and whether they are the last.
pub(super) struct Part {
    pub(super) names: Vec<u8>,
    pub(super) last: bool,
}

impl Names {
    /// As they are now.
    pub(super) async fn of(node: &Arc<Node>, place: OwnedSemaphorePermit) -> io::Result<Self> {
        let node = node.clone();
        let listing = spawn_blocking(move || node.spool.listing()).await.map_err(io::Error::other)?;
        Ok(Self { listing, begun: Vec::new(), _place: place })
    }
}

impl<R: Read + Send + 'static> Names<R> {
    /// The next part, and the rest.
    pub(super) async fn part(mut self) -> io::Result<(Part, Self)> {
        let read = move || {
            let part = self.read()?;
            Ok((part, self))
        };
        spawn_blocking(read).await.map_err(io::Error::other)?
    }

    fn read(&mut self) -> io::Result<Part> {
        let mut names = std::mem::take(&mut self.begun);
        let begun = names.len();
        names.resize(PART_MAX, 0);
        let mut filled = begun;
        while filled < names.len() {
            match self.listing.read(&mut names[filled..])? {
                0 => break,
                read => filled += read,
            }
        }
        let last = filled < names.len();
        names.truncate(filled);
        if !last && let Some(end) = names.iter().rposition(|byte| *byte == b'\n') {
            self.begun = names.split_off(end + 1);
            names.pop();
        }
        Ok(Part { names, last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn parts_of(listing: Vec<u8>) -> Vec<Vec<u8>> {
        let places = Arc::new(tokio::sync::Semaphore::new(1));
        let place = places.try_acquire_owned().expect("there is one");
        let mut names = Names { listing: io::Cursor::new(listing), begun: Vec::new(), _place: place };
        let mut parts = Vec::new();
        loop {
            let (part, rest) = names.part().await.expect("reads");
            parts.push(part.names);
            if part.last {
                return parts;
            }
            names = rest;
        }
    }

    #[tokio::test]
    async fn parts_hold_whole_names_and_together_all_of_them() {
        let listing = |count: usize| {
            let names: Vec<String> =
                (0..count).map(|number| format!("web{number}.1700000000.data")).collect();
            names.join("\n").into_bytes()
        };
        assert_eq!(parts_of(Vec::new()).await, [Vec::<u8>::new()]);
        for count in [1, 1000, 5000] {
            let parts = parts_of(listing(count)).await;
            assert!(parts.join(&b'\n') == listing(count), "{count} names");
            assert!(parts.iter().all(|part| part.len() <= PART_MAX && part.ends_with(b".data")));
        }
        // A part that ends with a name, and one that ends with its line end.
        for size in [PART_MAX - 1, PART_MAX, PART_MAX + 1] {
            let mut names = listing(5000);
            names.truncate(size - 2);
            let whole = names.iter().rposition(|byte| *byte == b'\n').expect("a line end");
            names[whole + 1..].fill(b'x');
            names.extend_from_slice(b"\ny");
            assert!(parts_of(names.clone()).await.join(&b'\n') == names, "{size} bytes");
        }
    }
}
