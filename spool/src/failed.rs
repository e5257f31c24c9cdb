//! What a failed fsync leaves behind, and why a start does not believe what it can read.
//!
//! After a failed fsync the kernel counts the pages it could not write as clean. From then on until the next boot the
//! page cache may show bytes and names that the disk does not have, another fsync has nothing to do and succeeds, and
//! a process that starts again and looks would be deceived. So:
//!
//! - *Bytes of records* are always read past the cache at a start (`segments`), after an fsync: what is dropped from
//!   the cache is clean, so what is read then comes from the disk.
//! - *Names* are made durable by changing their directory first ([`renew`]), so that its next fsync has something to
//!   write. A journal commits in order: when it takes the new change it has taken the old ones, and one that has
//!   failed takes nothing any more. Every start does both; they cost next to nothing.
//! - *Bytes of packages* are all read once more past the cache, but only after a failure, because that takes long. A
//!   marker (`failed`) says that there was one. It needs no fsync of its own: it has to outlive the process, not the
//!   power, because without power the cache is gone and nothing deceives. A start that ends in a failed fsync leaves
//!   one, too. It goes when a start has come through.
//! - *The batch that failed* was refused, so it must not be there: not as packages, which its senders send again, nor as
//!   what a repeat is compared with. Its files are removed as it is refused; the marker names its packages for the case
//!   that the process was killed before.
//!
//! Where the marker cannot be written either, packages are still compared with their digests before they are handed
//! out, from the cache if they are in it.

use std::io::{self, Read};
use std::path::Path;

use crate::error::{CommitError, Context, DiskError, is_no_room};
use crate::fs::Fs;
use crate::id::Id;
use crate::layout::{Layout, parse_id, parse_package};
use crate::lease::Lease;
use crate::parallel;
use crate::store::Spool;
use crate::verify::{Damage, Unfit};

/// The most that is read of a marker.
const MARKER_MAX: u64 = 16 * 1024;

/// Packages verified before the next ones are looked up.
const CHUNK: usize = 1024;

/// How a [`DiskError`] names an fsync of everything; that of one file or directory is `fsync`.
pub(crate) const SYNC_ALL: &str = "sync the file system of";

/// Whether something could not be made durable, as opposed to not opened, made or read.
pub(crate) fn is_failed_sync(error: &DiskError) -> bool {
    error.action == "fsync" || error.action == SYNC_ALL
}

/// First and last number of a batch.
pub(crate) type Batch = (Id, Id);

/// What a marker says.
pub(crate) struct Failure {
    reason: String,
    batch: Option<Batch>,
}

/// Leaves the marker. Only the first counts: the others follow from it.
pub(crate) fn mark(fs: &dyn Fs, layout: &Layout, reason: &str, batch: Option<Batch>) {
    let path = layout.failed();
    let batch = batch.map_or_else(|| "-".to_owned(), |(first, last)| format!("{first} {last}"));
    let text = format!("batch {batch}\n{}\n", reason.replace('\n', " "));
    let written = fs.create_new(&path).and_then(|mut file| file.write_at(0, text.as_bytes()));
    match written {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            tracing::error!(path = %path.display(), %error, "the next start will not know of the failed write");
        }
        _ => {}
    }
}

/// Reads the marker, if there is one, and removes the batch that failed.
pub(crate) fn find(fs: &dyn Fs, layout: &Layout) -> Result<Option<Failure>, DiskError> {
    let path = layout.failed();
    let mut text = Vec::new();
    match fs.open(&path).and_then(|file| file.take(MARKER_MAX).read_to_end(&mut text)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.context("read", &path)?,
    };
    let failure = parse(&String::from_utf8_lossy(&text));
    let mut refused = 0;
    if let Some((first, last)) = failure.batch {
        for found in fs.list(&layout.ready).context("list", &layout.ready)? {
            if parse_package(&found.name).is_some_and(|(id, ..)| (first..=last).contains(&id)) {
                let path = layout.ready.join(&found.name);
                fs.remove(&path).context("remove", &path)?;
                refused += 1;
            }
        }
    }
    tracing::warn!(
        reason = failure.reason,
        refused,
        "a write failed before this start: every package is read once more, from the disk itself"
    );
    Ok(Some(failure))
}

/// One that is cut, or empty, names no batch.
fn parse(text: &str) -> Failure {
    let (batch, reason) = text.split_once('\n').unwrap_or((text, ""));
    let mut words = batch.split(' ').skip(1).map(parse_id);
    let batch = match (words.next().flatten(), words.next().flatten()) {
        (Some(first), Some(last)) if first.run == last.run => Some((first, last)),
        _ => None,
    };
    let reason = reason.lines().next().filter(|reason| !reason.is_empty());
    Failure { reason: reason.unwrap_or("unknown").to_owned(), batch }
}

/// Changes a directory, so that its next fsync has something to write.
pub(crate) fn renew(fs: &dyn Fs, directory: &Path) -> Result<(), DiskError> {
    let path = Layout::renewal(directory);
    match fs.create_new(&path) {
        // Left behind by a start that was killed just here. Removing it is a change as well.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        // Then what follows says whether the spool can be opened; packages that are pulled make room.
        Err(error) if is_no_room(&error) => return Ok(()),
        created => drop(created.context("create", &path)?),
    }
    fs.remove(&path).context("remove", &path)
}

/// Compares every package with its digest, past the cache, and sets aside what differs. Then the failure is over.
pub(crate) fn verify_all(spool: &Spool) -> Result<(), DiskError> {
    let (store, listing) = (&*spool.store, spool.listing());
    let names: Vec<&[u8]> = listing.names().collect();
    let (mut verified, mut damaged) = (0_u64, 0_u64);
    for names in names.chunks(CHUNK) {
        let mut leases: Vec<(Lease, Option<Unfit>)> =
            names.iter().filter_map(|name| spool.lease(name)).map(|lease| (lease, None)).collect();
        parallel::for_each(&mut leases, store.threads, |(lease, unfit)| {
            *unfit = spool.verify_on_disk(lease.package()).err();
        });
        for (lease, unfit) in leases {
            verified += 1;
            match unfit {
                None => {}
                Some(Unfit::Disk(error)) => {
                    let package = lease.package();
                    let path = store.layout.package(package.id, package.digest, &package.listed_name);
                    return Err(error).context("verify", &path);
                }
                Some(Unfit::Damaged(damage)) => {
                    damaged += 1;
                    set_aside(spool, lease, &damage)?;
                }
            }
        }
    }
    tracing::warn!(verified, damaged, "every package was read once more after a failed write");
    let path = store.layout.failed();
    store.fs.remove(&path).context("remove", &path)?;
    store.fs.sync_dir(&store.layout.root)
}

fn set_aside(spool: &Spool, lease: Lease, damage: &Damage) -> Result<(), DiskError> {
    let (id, root) = (lease.package().id, &spool.store.layout.root);
    match spool.set_aside(lease, damage) {
        Ok(outcome) => {
            tracing::error!(%id, %damage, ?outcome, "a package did not survive a failed write");
            Ok(())
        }
        Err(CommitError::Disk(error)) => Err(error),
        Err(error) => Err(io::Error::other(error)).context("set a damaged package aside in", root),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_reads_back_and_a_cut_one_names_no_batch() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        std::fs::create_dir(&layout.ready).unwrap();
        let batch = Some((Id { run: 7, counter: 1 }, Id { run: 7, counter: 300 }));
        mark(&crate::fs::Disk, &layout, "the disk\nis gone", batch);
        mark(&crate::fs::Disk, &layout, "another", None);
        let text = std::fs::read_to_string(layout.failed()).unwrap();
        let failure = parse(&text);
        assert_eq!((&*failure.reason, failure.batch), ("the disk is gone", batch));
        for end in 0..text.find('\n').unwrap() {
            assert_eq!(parse(&text[..end]).batch, None);
        }
        assert_eq!(parse("batch -\nreason\n").batch, None);
    }
}
