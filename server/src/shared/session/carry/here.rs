//! What carrying out means on this end's disks. What is wrong with one pair holds no other up.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::SystemTime;

use tidegate_proto::Name;
use tidegate_spool::shared::{Digest, Done, Md5, Ready, Unfinished};

use super::super::Did;
use super::super::plan::Planned;
use crate::body;
use crate::ledger::seconds;
use crate::shared::Shared;
use crate::shared::decide::Step;
use crate::shared::remote::Order;
use crate::shared::store::StoreError;
use crate::shared::store::pairs::Origin;

/// How much of a content is copied at once.
const COPIED_AT_ONCE: usize = 64 * 1024;

/// Why this end could not do its part, for any pair.
#[derive(Debug, thiserror::Error)]
pub(super) enum CarryError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{what} {name}: {source}")]
    File { what: &'static str, name: Name, source: io::Error },
}

/// What this end did of a batch.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    /// What is to be done there.
    pub(super) orders: Vec<(Planned, Order)>,
    pub(super) did: Vec<(Did, Name)>,
    /// What cannot be done, and why.
    pub(super) refused: Vec<(Planned, String)>,
    /// Something is another than it was.
    pub(super) again: bool,
}

/// What came of one pair.
enum Came {
    Done,
    /// It is another than was decided about.
    Another,
    /// That cannot be done with this one.
    Refused(String),
}

/// What came of it, where a file could not be read or written: without room the next pair has none, either.
fn or_refused(result: io::Result<Came>, what: &'static str, planned: &Planned) -> Result<Came, CarryError> {
    result.or_else(|source| match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::ReadOnlyFilesystem => {
            Err(CarryError::File { what, name: planned.name.clone(), source })
        }
        _ => Ok(Came::Refused(format!("{what} it here: {source}"))),
    })
}

/// Keeps what one end is about to lose, changes this end, and says what is to be done at the other.
pub(super) fn prepare(shared: &Shared, site: &str, batch: Vec<Planned>) -> Result<Prepared, CarryError> {
    let mut prepared = Prepared::default();
    let mut ready = Vec::with_capacity(batch.len());
    for planned in batch {
        let came = or_refused(copied(shared, &planned), "cannot copy", &planned)?;
        prepared.sort(came, planned, &mut ready);
    }
    begin(shared, site, &ready)?;
    shared.crash().point("shared-kept");
    let mut settled = Vec::new();
    for planned in ready {
        let what = match planned.step {
            Step::Take { .. } => "cannot take up",
            Step::Drop { .. } => "cannot remove",
            // It has come, so the site has it.
            Step::Prove { .. } => {
                settled.push(planned);
                continue;
            }
            _ => {
                let order = order(shared, &planned);
                prepared.orders.extend(order.map(|order| (planned, order)));
                continue;
            }
        };
        let came = or_refused(change_here(shared, &planned), what, &planned)?;
        prepared.sort(came, planned, &mut settled);
        shared.crash().point("shared-taken");
    }
    agree(shared, site, &settled)?;
    for planned in settled {
        // Its `.md5` there is still to come.
        prepared.again |= planned.there.is_some_and(|there| !there.fits);
        let did = match planned.step {
            Step::Prove { .. } => continue,
            Step::Drop { .. } => Did::Dropped,
            _ => Did::TakenUp,
        };
        prepared.did.push((did, planned.name));
    }
    Ok(prepared)
}

impl Prepared {
    fn sort(&mut self, came: Came, planned: Planned, done: &mut Vec<Planned>) {
        match came {
            Came::Done => done.push(planned),
            Came::Another => self.again = true,
            Came::Refused(words) => self.refused.push((planned, words)),
        }
    }
}

/// Copies what this end gives or loses among the objects: a file that is being rewritten never goes half.
fn copied(shared: &Shared, planned: &Planned) -> io::Result<Came> {
    let lost = planned.lost_here().map(|(seen, _)| seen);
    let Some(seen) = planned.given().or(lost) else { return Ok(Came::Done) };
    let Some(pair) = shared.pair(planned.name.as_bytes()) else { return Ok(Came::Another) };
    if shared.objects().copy(&pair.file, &seen.digest, seen.size)? {
        return Ok(Came::Done);
    }
    shared.here().refresh(planned.name.as_bytes())?;
    Ok(Came::Another)
}

/// Writes down what is kept, and what the steps are to bring about.
fn begin(shared: &Shared, site: &str, batch: &[Planned]) -> Result<(), StoreError> {
    let now = seconds(SystemTime::now());
    shared.store().write(|transaction| {
        for planned in batch {
            let name = planned.name.as_bytes();
            for (seen, why) in [planned.lost_there(), planned.lost_here()].into_iter().flatten() {
                transaction.keep((site, name), (seen.digest, seen.size), why, now)?;
            }
            if let Some(intent) = planned.step.intent() {
                transaction.intend(site, name, planned.agreed, intent)?;
            }
        }
        Ok(())
    })
}

/// Takes up what came, or removes what the site has removed.
fn change_here(shared: &Shared, planned: &Planned) -> io::Result<Came> {
    let name = planned.name.as_bytes();
    let Some(pair) = shared.pair(name) else { return Ok(Came::Another) };
    let done = match planned.step {
        Step::Take { digest, over } => {
            let object = shared.objects().path(&digest);
            let size = planned.there.map_or(0, |there| there.size);
            let Some(ready) = from_object(shared, &object, &digest, size)? else {
                // It is fetched again.
                fs::remove_file(object)?;
                return Ok(Came::Another);
            };
            shared.workshop().place(name, &pair, over, ready)?
        }
        Step::Drop { over } => shared.workshop().remove(&pair, over, Md5::Goes)?,
        _ => return Ok(Came::Done),
    };
    if let Done::Changed(_) = done {
        shared.here().refresh(name)?;
        return Ok(Came::Another);
    }
    shared.here().refresh_own(name)?;
    Ok(Came::Done)
}

/// A copy of an object on the file system of the central's directories; `None`: it is damaged.
fn from_object(shared: &Shared, path: &Path, digest: &Digest, size: u64) -> io::Result<Option<Ready>> {
    let mut partial = shared.workshop().begin(*digest, size)?;
    let mut object = File::open(path)?;
    object.seek(SeekFrom::Start(partial.offset()))?;
    let mut bytes = vec![0; COPIED_AT_ONCE];
    loop {
        match object.read(&mut bytes)? {
            0 => break,
            read if partial.offset() + read as u64 > size => return Ok(None),
            read => partial.write(&bytes[..read])?,
        }
    }
    match partial.finish() {
        Ok(ready) => Ok(Some(ready)),
        Err(Unfinished::Io(error)) => Err(error),
        Err(Unfinished::Damaged | Unfinished::Short { .. }) => Ok(None),
    }
}

/// The other end did not find the digest in what was given: where the object is damaged, it is made anew.
pub(super) fn drop_if_damaged(shared: &Shared, planned: &Planned) {
    let Some(seen) = planned.given() else { return };
    let path = shared.objects().path(&seen.digest);
    if body::digest_of(&path).is_ok_and(|(digest, _)| digest.as_bytes() != seen.digest) {
        // What stays is found damaged again.
        let _ = fs::remove_file(path);
    }
}

/// What is to be done at the other end.
fn order(shared: &Shared, planned: &Planned) -> Option<Order> {
    let name = planned.name.clone();
    match planned.step {
        Step::Place { digest, over, .. } => {
            let size = planned.here?.size;
            let is_given = planned.given().is_some();
            // With the same bytes on both ends none are asked for.
            let content =
                if is_given { shared.objects().path(&digest) } else { shared.pair(name.as_bytes())?.file };
            Some(Order::Place { name, expected: over, digest, size, content })
        }
        Step::Remove { over, .. } => Some(Order::Remove { name, expected: over }),
        _ => None,
    }
}

/// What this end has taken up or removed, both ends have.
fn agree(shared: &Shared, site: &str, settled: &[Planned]) -> Result<(), StoreError> {
    if settled.is_empty() {
        return Ok(());
    }
    shared.store().write(|batch| {
        settled.iter().try_for_each(|planned| match planned.step {
            // Nobody remembers whose the proven one was.
            Step::Take { digest, .. } | Step::Prove { digest } => {
                batch.agree(site, planned.name.as_bytes(), digest, Origin::There)
            }
            _ => batch.forget(site, planned.name.as_bytes()),
        })
    })
}
