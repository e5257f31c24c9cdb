//! Carrying out what was decided, a batch at a time: what is needed is fetched, what one end loses is kept, then this end
//! is changed, then the other, and what both have is written down. [`here`] is the part on this end's disks.

mod here;

use std::collections::HashMap;
use std::iter::Peekable;
use std::time::SystemTime;

use tidegate_spool::shared::Seen;

use super::plan::Planned;
use super::{Did, Session};
use crate::ledger::{milliseconds, seconds};
use crate::pull::Fault;
use crate::shared::decide::{Step, Why};
use crate::shared::remote::{Fetched, Remote, Reply, Wanted};
use crate::shared::store::pairs::{Origin, Refusal};
use here::{Prepared, drop_if_damaged, prepare};

/// How many steps are taken at once, and how many bytes of contents they move, but for one that is larger alone.
const BATCH_STEPS: usize = 64;
const BATCH_BYTES: u64 = 1024 * 1024;

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
            Step::Prove { .. } | Step::Remove { .. } | Step::Take { .. } => true,
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
        let Prepared { orders, did, refused, again: changed_here } =
            self.work(|shared, site| prepare(shared, site, batch)).await?;
        again |= changed_here;
        did.iter().for_each(|(did, name)| self.report.told.tell(*did, self.site, name, ""));
        for (planned, words) in refused {
            self.refuse(planned, words).await?;
        }
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
        let (max, shared) = (self.shared.max_size(), self.shared);
        let too_large = |planned: &Planned| {
            let wanted =
                planned.wanted().map(|wanted| (wanted.size, shared.max_taken(wanted.name.as_bytes())));
            let given = planned.given().map(|seen| (seen.size, max));
            [wanted, given].into_iter().flatten().find(|(size, max)| size > max)
        };
        let (large, batch): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|planned| too_large(planned).is_some());
        for planned in large {
            let (size, max) = too_large(&planned).unwrap_or_default();
            let words =
                format!("it has {size} bytes, more than is moved that way ({max}; `max_size` in [shared])");
            self.refuse(planned, words).await?;
        }
        let objects = self.shared.objects();
        // An object stands in for what the site has only where that is known to be the pair's: who knows the digest of
        // another's file has not got the file.
        let is_here = |planned: &Planned, one: &Wanted| planned.is_own && objects.has(&one.digest);
        let wanted: Vec<_> = batch
            .iter()
            .filter_map(|planned| planned.wanted().filter(|one| !is_here(planned, one)))
            .collect();
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
                if step.refused.as_deref() != Some(DAMAGED) {
                    told.tell(Did::Refused, self.site, &step.name, DAMAGED);
                }
            }
            _ => {}
        }
    }

    /// Writes down what became of the orders.
    async fn record(&mut self, steps: Vec<Planned>, replies: Vec<Reply>) -> Result<(), Fault> {
        self.work(move |shared, site| {
            let now = milliseconds(SystemTime::now());
            let damaged = steps.iter().zip(&replies).filter(|(_, reply)| **reply == Reply::Damaged);
            damaged.for_each(|(planned, _)| drop_if_damaged(shared, planned));
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
