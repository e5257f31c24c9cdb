//! A stock Tentacle server as the other end: what can be done with `RECV` and `SEND` alone.
//!
//! What it cannot do, and what is made of it:
//! - It shows no digests. A pair is looked at by its `.md5`, which says which of the known contents the main file has; an
//!   unknown one is fetched. Its main file alone is not looked at while the `.md5` says what it said before.
//! - It changes nothing under a condition. A pair is looked at again before it is placed; an agent that uploads between the
//!   two is overwritten.
//! - It writes in place, and without `-o` not at all over what is there. The main file goes first, then the `.md5`: an agent
//!   that reads in between finds an old `.md5`, and comes again.
//! - It removes nothing. What is removed here stays there, and that is told.

mod client;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tidegate_proto::Name;
use tidegate_spool::shared::{Buckets, Digest, Seen};

use super::{Fetched, Known, Listing, Order, Remote, Reply, Wanted};
use crate::config::SyncKeys;
use crate::pull::Fault;
use crate::shared::Shared;
use crate::shared::blocking::blocking;
use crate::shared::names;
use crate::shared::objects::Objects;
use crate::shared::turn::Turn;
use client::{Client, Received};
pub(in crate::shared) use client::{SILENCE, Way, Wire};

/// Larger main files are neither taken nor given: both are held in memory, and a stock server takes 2 MB unless it is told
/// otherwise.
const SIZE_MAX: u64 = 16 * 1024 * 1024;

/// How many are remembered; then all are read again.
const MD5S_MAX: usize = 100_000;

/// More than this is no `.md5`.
const MD5_SIZE_MAX: u64 = 256;

/// What operators are told of what does not work.
const NO_OVERWRITE: &str = "the stock server runs without -o (overwrite), so it keeps the first version for good: start it \
                            with -o, or use a Tidegate node";
const NO_REMOVAL: &str =
    "a stock server removes nothing: remove it at the site by hand, or use a Tidegate node";
const EMPTY: &str = "it is empty, and a stock server takes no empty file";

/// What an `.md5` says.
type Md5 = [u8; 32];

/// It is there, and nobody knows what it is.
struct TooLarge;

/// A pair that may be there.
#[derive(Debug, Clone)]
pub(in crate::shared) struct Candidate {
    pub(in crate::shared) name: Name,
    /// The contents that it may have, and where they can be read: what is here, and what was there.
    pub(in crate::shared) contents: Vec<(Seen, PathBuf)>,
    /// What was there when it was seen last.
    pub(in crate::shared) there: Option<Seen>,
}

/// What is remembered of a site from one sync to the next. All of it may be lost.
#[derive(Debug, Default)]
pub(in crate::shared) struct StockMemory {
    md5s: HashMap<Digest, Md5>,
    /// The bucket with which the next listing begins.
    next: u16,
}

/// A stock server.
pub(in crate::shared) struct Stock<'a, W> {
    client: Client<W>,
    candidates: Vec<Candidate>,
    memory: &'a mut StockMemory,
    objects: Arc<Objects>,
    turn: Turn,
    max_size: u64,
}

impl<'a, W: Way> Stock<'a, W> {
    /// Nothing is said yet.
    pub(in crate::shared) fn new(
        way: W,
        sync: &SyncKeys,
        candidates: Vec<Candidate>,
        memory: &'a mut StockMemory,
        shared: &Shared,
        turn: &Turn,
    ) -> Self {
        let (objects, max_size) = (Arc::clone(shared.objects()), shared.max_size().min(SIZE_MAX));
        Self { client: Client::new(way, sync), candidates, memory, objects, turn: turn.clone(), max_size }
    }

    /// Takes leave.
    pub(in crate::shared) async fn close(mut self) {
        self.client.quit().await;
    }

    /// What a pair is.
    async fn look(&mut self, candidate: &Candidate) -> Result<Result<Option<Seen>, TooLarge>, Fault> {
        let md5 = match self.client.receive(&md5_name(&candidate.name)?, MD5_SIZE_MAX).await? {
            Received::File(bytes) => bytes.first_chunk::<32>().copied(),
            Received::None | Received::TooLarge(_) => None,
        };
        let md5 = md5.map(|md5: Md5| md5.map(|digit| digit.to_ascii_lowercase()));
        if let Some(md5) = &md5 {
            let max_size = self.max_size;
            for (seen, path) in candidate.contents.iter().filter(|(seen, _)| seen.size <= max_size) {
                if self.md5_of(&seen.digest, path).await?.is_some_and(|known| known == md5[..]) {
                    return Ok(Ok(Some(Seen { fits: true, ..*seen })));
                }
            }
        }
        let content = match self.client.receive(&candidate.name, self.max_size).await? {
            Received::File(content) => content,
            Received::None => return Ok(Ok(None)),
            Received::TooLarge(_) => return Ok(Err(TooLarge)),
        };
        let (digest, size): (Digest, _) = (Sha256::digest(&content).into(), content.len() as u64);
        let objects = Arc::clone(&self.objects);
        blocking(move || objects.keep(&digest, &content)).await?;
        let path = self.objects.path(&digest);
        let known = self.md5_of(&digest, &path).await?;
        let fits = known.is_some() && known == md5;
        Ok(Ok(Some(Seen { digest, size, fits })))
    }

    /// The MD5 of a content that can be read at `path`, if it still can.
    async fn md5_of(&mut self, digest: &Digest, path: &Path) -> Result<Option<Md5>, Fault> {
        if let Some(known) = self.memory.md5s.get(digest) {
            return Ok(Some(*known));
        }
        let (path, digest) = (path.to_owned(), *digest);
        let read = move || match fs::read(path) {
            Ok(content) => {
                Ok((<Digest>::from(Sha256::digest(&content)) == digest).then(|| md5_text(&content)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        let md5 = blocking(read).await?;
        if self.memory.md5s.len() >= MD5S_MAX {
            self.memory.md5s.clear();
        }
        self.memory.md5s.extend(md5.map(|md5| (digest, md5)));
        Ok(md5)
    }

    /// Places a pair: the main file first.
    async fn place(&mut self, order: &Order) -> Result<Reply, Fault> {
        let Order::Place { name, expected, digest, size, content } = order else {
            return Ok(Reply::Refused(NO_REMOVAL.into()));
        };
        if *size == 0 {
            return Ok(Reply::Refused(EMPTY.into()));
        }
        if *size > self.max_size {
            let most = self.max_size;
            return Ok(Reply::Refused(format!("it has {size} bytes; to a stock server go at most {most}")));
        }
        let Some(candidate) = self.candidates.iter().find(|candidate| candidate.name == *name).cloned()
        else {
            return Ok(Reply::Changed);
        };
        let Ok(there) = self.look(&candidate).await? else {
            let most = self.max_size;
            return Ok(Reply::Refused(format!(
                "what is there has more than {most} bytes, and is left alone"
            )));
        };
        let is_whole = there.is_some_and(|there| there.digest == *digest);
        if !is_whole && there.map(|there| there.digest) != *expected {
            return Ok(Reply::Changed);
        }
        let Some(md5) = self.md5_of(digest, content).await? else { return Ok(Reply::Damaged) };
        if !is_whole {
            let path = content.clone();
            let bytes = blocking(move || fs::read(path)).await?;
            if let Some(why) = self.client.send(name, &bytes).await? {
                return Ok(Reply::Refused(explained(why)));
            }
        }
        if there.is_none_or(|there| !is_whole || !there.fits)
            && let Some(why) = self.client.send(&md5_name(name)?, &md5).await?
        {
            return Ok(Reply::Refused(explained(why)));
        }
        Ok(Reply::Done)
    }
}

impl<W: Way> Remote for Stock<'_, W> {
    async fn list(&mut self, _known: &Known) -> Result<Listing, Fault> {
        let mut by_bucket: BTreeMap<u16, Vec<Candidate>> = BTreeMap::new();
        for candidate in &self.candidates {
            by_bucket.entry(Buckets::of(candidate.name.as_bytes())).or_default().push(candidate.clone());
        }
        // It takes long, and others wait: it goes on where the last one ended.
        let first = by_bucket.split_off(&std::mem::take(&mut self.memory.next));
        let mut listing = Listing::default();
        for (bucket, candidates) in first.into_iter().chain(by_bucket) {
            if !listing.buckets.is_empty() && self.turn.is_over() {
                self.memory.next = bucket;
                break;
            }
            listing.buckets.push(bucket);
            for candidate in candidates {
                match self.look(&candidate).await? {
                    Ok(seen) => listing.items.extend(seen.map(|seen| (candidate.name, seen))),
                    // As it was seen there last: it must not look removed. What was never seen is left out; placing over
                    // it is refused.
                    Err(TooLarge) => {
                        listing.items.extend(candidate.there.map(|seen| (candidate.name, seen)));
                    }
                }
            }
        }
        Ok(listing)
    }

    async fn fetch(
        &mut self,
        objects: &Arc<Objects>,
        wanted: &[Wanted],
        came: &mut Vec<Fetched>,
    ) -> Result<(), Fault> {
        for one in wanted {
            let fetched = match self.client.receive(&one.name, self.max_size).await? {
                Received::File(content) => {
                    let (objects, digest) = (Arc::clone(objects), one.digest);
                    let is_kept = blocking(move || objects.keep(&digest, &content)).await?;
                    if is_kept { Fetched::Here } else { Fetched::Another }
                }
                _ => Fetched::Another,
            };
            came.push(fetched);
        }
        Ok(())
    }

    async fn carry_out(&mut self, orders: &[Order], replies: &mut Vec<Reply>) -> Result<(), Fault> {
        for order in orders {
            let reply = if self.turn.is_over() { Reply::Later } else { self.place(order).await? };
            replies.push(reply);
        }
        Ok(())
    }

    async fn idle(&mut self) -> Fault {
        // There is nothing to say; after a long time a new connection is made.
        std::future::pending().await
    }
}

fn md5_name(name: &Name) -> Result<Name, Fault> {
    let text = [names::stem(name.as_bytes()), b".md5"].concat();
    Name::parse_listed(&text).map_err(|error| Fault::Site(error.to_string()))
}

/// What the `.md5` of this content says.
fn md5_text(content: &[u8]) -> Md5 {
    let mut text = [0; 32];
    for (digits, byte) in text.chunks_exact_mut(2).zip(md5::Md5::digest(content)) {
        digits.copy_from_slice(format!("{byte:02x}").as_bytes());
    }
    text
}

/// A refusal, and what to do about it.
fn explained(said: String) -> String {
    if said.contains("already exists") { format!("{said}: {NO_OVERWRITE}") } else { said }
}

#[cfg(test)]
mod tests;
