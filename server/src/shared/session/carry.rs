//! Carrying out what was decided, a batch at a time: what is needed is fetched, what one end loses is kept, then this end
//! is changed, then the other, and what both have is written down.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::iter::Peekable;
use std::path::Path;
use std::time::SystemTime;

use tidegate_proto::Name;
use tidegate_spool::shared::{Digest, Done, Ready, Seen, Unfinished};

use super::plan::Planned;
use super::{Did, Session};
use crate::ledger::{milliseconds, seconds};
use crate::pull::Fault;
use crate::shared::Shared;
use crate::shared::decide::{Step, Why};
use crate::shared::remote::{Fetched, Order, Remote, Reply, Wanted};
use crate::shared::store::StoreError;
use crate::shared::store::pairs::{Origin, Refusal};

/// How many steps are taken at once, and how many bytes of contents they move, but for one that is larger alone.
const BATCH_STEPS: usize = 64;
const BATCH_BYTES: u64 = 1024 * 1024;

/// How much of a content is copied at once.
const COPIED_AT_ONCE: usize = 64 * 1024;

/// Why this end could not do its part.
#[derive(Debug, thiserror::Error)]
enum CarryError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{what}: {source}")]
    File { what: &'static str, source: io::Error },
}

/// For `map_err`: what could not be done.
fn file<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> CarryError {
    move |error| CarryError::File { what, source: error.into() }
}

/// What this end did of a batch.
#[derive(Debug, Default)]
struct Prepared {
    /// What is to be done there.
    orders: Vec<(Planned, Order)>,
    did: Vec<(Did, Name)>,
    /// Something is another than it was.
    again: bool,
}

/// The next steps that are taken at once.
pub(super) fn next_batch(steps: &mut Peekable<impl Iterator<Item = Planned>>) -> Option<Vec<Planned>> {
    let mut batch: Vec<Planned> = Vec::new();
    let mut bytes = 0;
    while let Some(next) = steps.peek() {
        bytes += next.bytes();
        if batch.len() == BATCH_STEPS || (bytes > BATCH_BYTES && !batch.is_empty()) {
            break;
        }
        batch.extend(steps.next());
    }
    (!batch.is_empty()).then_some(batch)
}

impl Planned {
    fn bytes(&self) -> u64 {
        let size = |seen: Option<Seen>| seen.map_or(0, |seen| seen.size);
        size(self.here).saturating_add(size(self.there))
    }

    /// What the other end has, if it is needed here: to come here, or to be kept.
    fn wanted(&self) -> Option<Wanted> {
        let is_needed = match self.step {
            Step::Place { keep, .. } => keep.is_some(),
            Step::Remove { .. } | Step::Take { .. } => true,
            _ => false,
        };
        let there = self.there.filter(|_| is_needed)?;
        Some(Wanted { name: self.name.clone(), digest: there.digest, size: there.size })
    }

    /// What is lost there, and why.
    fn lost_there(&self) -> Option<(Seen, Why)> {
        let why = match self.step {
            Step::Place { keep, .. } => keep?,
            Step::Remove { keep, .. } => keep,
            _ => return None,
        };
        Some((self.there?, why))
    }

    /// What is lost here, and why.
    fn lost_here(&self) -> Option<(Seen, Why)> {
        let why = match self.step {
            Step::Take { over: Some(_), .. } => Why::Replaced,
            Step::Drop { .. } => Why::Removed,
            _ => return None,
        };
        Some((self.here?, why))
    }

    /// What goes there, if it has other bytes than what is there.
    fn given(&self) -> Option<Seen> {
        match self.step {
            Step::Place { digest, over, .. } if over != Some(digest) => self.here,
            _ => None,
        }
    }
}

impl<R: Remote> Session<'_, R> {
    /// Takes some steps. Whether something had changed meanwhile, or waits.
    pub(super) async fn carry_out(&mut self, batch: Vec<Planned>) -> Result<bool, Fault> {
        let (batch, mut again) = self.fetch(batch).await?;
        self.shared.crash().point("shared-fetched");
        let Prepared { orders, did, again: changed_here } =
            self.work(|shared, site| prepare(shared, site, batch)).await?;
        again |= changed_here;
        did.iter().for_each(|(did, name)| self.report.told.tell(*did, self.site, name, ""));
        if orders.is_empty() {
            return Ok(again);
        }
        let (steps, orders): (Vec<_>, Vec<_>) = orders.into_iter().unzip();
        let mut replies = Vec::with_capacity(orders.len());
        let result = self.remote.carry_out(&orders, &mut replies).await;
        self.shared.crash().point("shared-carried-out");
        for (step, reply) in steps.iter().zip(&replies) {
            again |= matches!(reply, Reply::Changed | Reply::Later);
            self.tell(step, reply);
        }
        let recorded = self.record(steps, replies).await;
        self.shared.crash().point("shared-agreed");
        // On a connection that is over, that is the reason for whatever went wrong after it.
        result.and(recorded).map(|()| again)
    }

    /// Fetches what is needed of the other end. Returns the steps for which it is here, and whether others are to be
    /// looked at again.
    async fn fetch(&mut self, batch: Vec<Planned>) -> Result<(Vec<Planned>, bool), Fault> {
        let max = self.shared.max_size();
        let too_large = |planned: &Planned| {
            let sizes = [planned.wanted().map(|wanted| wanted.size), planned.given().map(|seen| seen.size)];
            sizes.into_iter().flatten().find(|size| *size > max)
        };
        let (large, batch): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|planned| too_large(planned).is_some());
        for planned in large {
            let size = too_large(&planned).unwrap_or(0);
            let words = format!("it has {size} bytes, more than `max_size` in [shared] allows ({max})");
            self.refuse(planned, words).await?;
        }
        let objects = self.shared.objects();
        let wanted: Vec<_> =
            batch.iter().filter_map(Planned::wanted).filter(|one| !objects.has(&one.digest)).collect();
        if wanted.is_empty() {
            return Ok((batch, false));
        }
        let mut came = Vec::with_capacity(wanted.len());
        self.remote.fetch(objects, &wanted, &mut came).await?;
        let fetched: HashMap<_, _> = wanted.into_iter().map(|one| one.name).zip(came).collect();
        let (mut here, mut again) = (Vec::with_capacity(batch.len()), false);
        for planned in batch {
            match fetched.get(&planned.name).copied() {
                None | Some(Fetched::Here) => here.push(planned),
                Some(Fetched::Another | Fetched::Later) => again = true,
                Some(Fetched::Damaged) => {
                    let words =
                        "its bytes, as the site gives them, do not have the digest that the site says";
                    self.refuse(planned, words.into()).await?;
                }
            }
        }
        Ok((here, again))
    }

    /// A step that cannot be taken. It is told when the reason is another than the last.
    async fn refuse(&mut self, planned: Planned, words: String) -> Result<(), Fault> {
        self.report.refused = true;
        if planned.refused.as_ref() == Some(&words) {
            return Ok(());
        }
        self.report.told.tell(Did::Refused, self.site, &planned.name, &words);
        self.work(move |shared, site| {
            let refusal = refusal(&planned, words);
            shared.store().write(|batch| batch.refused(site, planned.name.as_bytes(), &refusal))
        })
        .await
    }

    fn tell(&mut self, step: &Planned, reply: &Reply) {
        let told = &mut self.report.told;
        match (reply, &step.step) {
            (Reply::Done, Step::Remove { keep, .. }) => {
                told.tell(Did::Removed, self.site, &step.name, "");
                if *keep != Why::Removed {
                    told.tell(Did::Kept, self.site, &step.name, keep.as_str());
                }
            }
            (Reply::Done, Step::Place { keep, .. }) => {
                told.tell(Did::Placed, self.site, &step.name, "");
                if let Some(why) = keep {
                    told.tell(Did::Kept, self.site, &step.name, why.as_str());
                }
            }
            (Reply::Refused(words), _) => {
                self.report.refused = true;
                if step.refused.as_ref() != Some(words) {
                    told.tell(Did::Refused, self.site, &step.name, words);
                }
            }
            (Reply::Damaged, _) => {
                self.report.refused = true;
                told.tell(Did::Refused, self.site, &step.name, DAMAGED);
            }
            _ => {}
        }
    }

    /// Writes down what became of the orders.
    async fn record(&mut self, steps: Vec<Planned>, replies: Vec<Reply>) -> Result<(), Fault> {
        self.work(move |shared, site| {
            let now = milliseconds(SystemTime::now());
            shared.store().write(|batch| {
                for (planned, reply) in steps.iter().zip(replies) {
                    let name = planned.name.as_bytes();
                    match (reply, planned.step) {
                        (Reply::Done, Step::Place { digest, .. }) => {
                            let size = planned.here.map_or(0, |here| here.size);
                            batch.saw(site, name, Some((digest, size, true)), now)?;
                            batch.agree(site, name, digest, Origin::Here)?;
                        }
                        (Reply::Done, _) => {
                            batch.saw(site, name, None, now)?;
                            batch.forget(site, name)?;
                        }
                        (Reply::Refused(words), _) => batch.refused(site, name, &refusal(planned, words))?,
                        (Reply::Damaged, _) => {
                            batch.refused(site, name, &refusal(planned, DAMAGED.into()))?
                        }
                        (Reply::Changed | Reply::Later, _) => {}
                    }
                }
                Ok(())
            })
        })
        .await
    }
}

/// What is told of bytes that came to harm.
const DAMAGED: &str = "its bytes were damaged on the way, or in the memory of one of the two ends";

fn refusal(planned: &Planned, words: String) -> Refusal {
    let digest = if let Step::Place { digest, .. } = planned.step { Some(digest) } else { None };
    Refusal { words, digest, at: seconds(SystemTime::now()) }
}

/// Keeps what one end is about to lose, changes this end, and says what is to be done at the other.
fn prepare(shared: &Shared, site: &str, mut batch: Vec<Planned>) -> Result<Prepared, CarryError> {
    let mut prepared = Prepared::default();
    let before = batch.len();
    let mut failed = None;
    batch.retain(|planned| {
        let is_here = is_copied(shared, planned);
        is_here.unwrap_or_else(|error| {
            failed.get_or_insert(error);
            false
        })
    });
    if let Some(error) = failed {
        return Err(error);
    }
    prepared.again = batch.len() < before;
    begin(shared, site, &batch)?;
    shared.crash().point("shared-kept");
    let mut settled = Vec::new();
    for planned in batch {
        match planned.step {
            Step::Take { .. } | Step::Drop { .. } => {
                if change_here(shared, &planned)? {
                    // Its `.md5` there is still to come.
                    prepared.again |= planned.there.is_some_and(|there| !there.fits);
                    settled.push(planned);
                } else {
                    prepared.again = true;
                }
                shared.crash().point("shared-taken");
            }
            _ => {
                let order = order(shared, &planned);
                prepared.orders.extend(order.map(|order| (planned, order)));
            }
        }
    }
    agree(shared, site, &settled)?;
    prepared.did = settled
        .into_iter()
        .map(|planned| {
            let did = if let Step::Drop { .. } = planned.step { Did::Dropped } else { Did::TakenUp };
            (did, planned.name)
        })
        .collect();
    Ok(prepared)
}

/// Copies what this end gives or loses among the objects: a file that is being rewritten never goes half. Whether it is
/// still what was decided about.
fn is_copied(shared: &Shared, planned: &Planned) -> Result<bool, CarryError> {
    let Some(seen) = planned.given().or(planned.lost_here().map(|(seen, _)| seen)) else { return Ok(true) };
    let Some(pair) = shared.pair(planned.name.as_bytes()) else { return Ok(false) };
    let copied = shared.objects().copy(&pair.file, &seen.digest, seen.size);
    let is_same = copied.map_err(file("cannot keep a shared file"))?;
    if !is_same {
        shared.here().refresh(planned.name.as_bytes()).map_err(file("cannot read a shared file"))?;
    }
    Ok(is_same)
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

/// Takes up what came, or removes what the site has removed. Whether it was still what was decided about.
fn change_here(shared: &Shared, planned: &Planned) -> Result<bool, CarryError> {
    let name = planned.name.as_bytes();
    let Some(pair) = shared.pair(name) else { return Ok(false) };
    let done = match planned.step {
        Step::Take { digest, over } => {
            let ready = from_objects(shared, &digest, planned.there.map_or(0, |there| there.size))?;
            let Some(ready) = ready else { return Ok(false) };
            shared.workshop().place(name, &pair, over, ready).map_err(file("cannot take up a shared file"))?
        }
        Step::Drop { over } => {
            shared.workshop().remove(&pair, over).map_err(file("cannot remove a shared file"))?
        }
        _ => return Ok(true),
    };
    shared.here().refresh(name).map_err(file("cannot read a shared file"))?;
    Ok(matches!(done, Done::Done | Done::Already))
}

/// A copy of an object on the file system of the central's directories; `None`: it is damaged.
fn from_objects(shared: &Shared, digest: &Digest, size: u64) -> Result<Option<Ready>, CarryError> {
    let copied = copy(shared, &shared.objects().path(digest), digest, size);
    match copied.map_err(file("cannot copy a shared file"))? {
        Ok(ready) => Ok(Some(ready)),
        Err(Unfinished::Io(error)) => Err(file("cannot copy a shared file")(error)),
        Err(Unfinished::Damaged | Unfinished::Short { .. }) => Ok(None),
    }
}

fn copy(shared: &Shared, path: &Path, digest: &Digest, size: u64) -> io::Result<Result<Ready, Unfinished>> {
    let mut partial = shared.workshop().begin(*digest, size)?;
    let mut object = File::open(path)?;
    object.seek(SeekFrom::Start(partial.offset()))?;
    let mut bytes = vec![0; COPIED_AT_ONCE];
    loop {
        match object.read(&mut bytes)? {
            0 => return Ok(partial.finish()),
            read => partial.write(&bytes[..read])?,
        }
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
            Step::Take { digest, .. } => batch.agree(site, planned.name.as_bytes(), digest, Origin::There),
            _ => batch.forget(site, planned.name.as_bytes()),
        })
    })
}
