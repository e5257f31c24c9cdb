//! One sync of a site: what differs is found, decided and carried out, round by round until nothing has changed meanwhile.
//!
//! ```text
//!  list ─▶ write down what is there ─▶ plan ─▶ (fetch ─▶ keep ─▶ take, drop here ─▶ place, remove there ─▶ agree)…
//!    ▲                                                                                                     │
//!    └──────────────────────────── something had changed meanwhile ◀──────────────────────────────────────┘
//! ```
//!
//! Constraints, before the design:
//! - There is no journal. What one end is about to lose is kept, and what a step is to bring about is written down, before
//!   the step; what both ends have, after it. A crash anywhere costs repetition.
//! - Every step names what it replaces, at either end. What is something else by then is left for the next round.
//! - A node is believed nothing: what is not the site's is never asked for, what is too large is refused by its announced
//!   size, and what comes counts only with its digest.
//! - What is held in memory is the names and digests of the site's pairs, and the small contents of one batch.

mod carry;
mod plan;
mod say;

use std::collections::HashSet;
use std::fmt::Display;
use std::pin::pin;
use std::sync::Arc;
use std::time::SystemTime;

use tidegate_net::shutdown::Shutdown;
use tidegate_proto::Name;
use tidegate_spool::shared::{Buckets, Seen};

use super::Shared;
use super::blocking::blocking;
use super::remote::{Known, Listing, Remote};
use super::store::StoreError;
use super::turn::Turn;
use crate::ledger::{milliseconds, seconds};
use crate::pull::Fault;
use plan::{Ending, Plan};
pub(super) use say::{Did, Told};

/// How often a sync looks again because something changed meanwhile. What changes faster waits for the next sync.
const ROUNDS: u32 = 3;

/// How many names that are none of the site's are remembered of it, so that their buckets compare: agents that have still
/// to send a data file, and files that an operator put there. Of more only a look at the next sync tells: a node must not
/// make the memory grow for ever.
const FOREIGN_MAX: usize = 50_000;

/// What a sync came to.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) told: Told,
    /// The sign of what is known of the other end.
    pub(super) sign: u64,
    /// Something is decided only when it has been so for a while.
    pub(super) waits: bool,
    /// Something could not be done, and may be possible later.
    pub(super) refused: bool,
    /// Something changed meanwhile, or others wait for their turn: there may be more to do.
    pub(super) unfinished: bool,
    /// It is the others' turn.
    pub(super) gave_way: bool,
    /// Pairs there that are none of the site's.
    pub(super) foreign: u64,
}

/// A sync that is under way.
pub(super) struct Session<'a, R> {
    site: &'a str,
    shared: &'a Arc<Shared>,
    remote: &'a mut R,
    turn: &'a Turn,
    stop: &'a Shutdown,
    /// What is withheld, and has been told.
    withheld: &'a mut HashSet<Name>,
    report: Report,
}

impl<'a, R: Remote> Session<'a, R> {
    pub(super) fn new(
        site: &'a str,
        shared: &'a Arc<Shared>,
        remote: &'a mut R,
        turn: &'a Turn,
        stop: &'a Shutdown,
        withheld: &'a mut HashSet<Name>,
    ) -> Self {
        Self { site, shared, remote, turn, stop, withheld, report: Report::default() }
    }

    /// Syncs. What was done before a fault stays done.
    pub(super) async fn run(mut self) -> Result<Report, Fault> {
        for _ in 0..ROUNDS {
            self.report.unfinished = self.round().await?;
            if !self.report.unfinished || self.is_over() {
                break;
            }
        }
        self.conclude().await?;
        self.report.gave_way = self.turn.is_over();
        self.report.told.sum_up(self.site);
        Ok(self.report)
    }

    fn is_over(&self) -> bool {
        self.turn.is_over() || self.stop.is_draining()
    }

    /// Whether there may be more to do.
    async fn round(&mut self) -> Result<bool, Fault> {
        if self.look().await? {
            return Ok(true);
        }
        let Plan { steps, endings, withheld, .. } = self.work(plan::plan).await?;
        self.say_withheld(withheld);
        if !endings.is_empty() {
            self.work(move |shared, site| settle(shared, site, &endings)).await?;
        }
        let mut again = false;
        let mut steps = steps.into_iter().peekable();
        while let Some(batch) = carry::next_batch(&mut steps) {
            if self.is_over() {
                return Ok(true);
            }
            again |= self.carry_out(batch).await?;
        }
        Ok(again)
    }

    /// Looks at what the other end has, as far as it differs from what is known of it. Whether some of it waits.
    async fn look(&mut self) -> Result<bool, Fault> {
        let (known, here) = self.work(known).await?;
        let listing = self.remote.list(&known).await?;
        let more = listing.more;
        if !listing.buckets.is_empty() || !listing.as_here.is_empty() {
            let all =
                self.work(move |shared, site| write_down(shared, site, &listing, &here, FOREIGN_MAX)).await?;
            if !all {
                tracing::warn!(
                    site = self.site,
                    "the site shows more than {FOREIGN_MAX} shared files that are none of its own: further ones are not remembered; \
                     look at the directories of its node"
                );
            }
            self.report.refused |= !all;
        }
        self.shared.crash().point("shared-listed");
        Ok(more)
    }

    /// Records how all pairs are now.
    async fn conclude(&mut self) -> Result<(), Fault> {
        let (plan, sign) = self
            .work(|shared, site| {
                let plan = plan::plan(shared, site)?;
                let now = seconds(SystemTime::now());
                shared.store().write(|batch| batch.synced(site, &plan.counts, now))?;
                Ok::<_, StoreError>((plan, known(shared, site)?.0.there.sign()))
            })
            .await?;
        let report = &mut self.report;
        (report.sign, report.waits, report.foreign) = (sign, plan.waits, plan.foreign);
        // What this end or the site did meanwhile.
        report.unfinished |= plan.steps.iter().any(|planned| planned.refused.is_none());
        Ok(())
    }

    fn say_withheld(&mut self, names: Vec<Name>) {
        for name in names {
            if !self.withheld.contains(&name) {
                self.report.told.tell(Did::Withheld, self.site, &name, "");
                self.withheld.insert(name);
            }
        }
    }

    /// Works on the disk, while the other end is given signs of life.
    async fn work<T, E>(
        &mut self,
        work: impl FnOnce(&Shared, &str) -> Result<T, E> + Send + 'static,
    ) -> Result<T, Fault>
    where
        T: Send + 'static,
        E: Display + Send + 'static,
    {
        let (shared, site) = (Arc::clone(self.shared), self.site.to_owned());
        let mut working = pin!(blocking(move || work(&shared, &site)));
        tokio::select! {
            biased;
            done = &mut working => done,
            fault = self.remote.idle() => {
                // The next sync must not meet it.
                working.await?;
                Err(fault)
            }
        }
    }
}

/// What is known of the other end, and what this one has of the site's pairs.
fn known(shared: &Shared, site: &str) -> Result<(Known, Vec<(Name, Seen)>), StoreError> {
    let mut known = Known::default();
    for (name, pair) in shared.store().pairs(site)? {
        if let Some(there) = pair.there {
            known.there.add(&name, &there.seen());
        }
    }
    let scope = shared.scope(site)?;
    let here = shared.here();
    let whole = scope.names().filter_map(|name| {
        let seen = here.get(name)?;
        Some((Name::parse_listed(name).ok()?, Seen { fits: true, ..seen }))
    });
    let whole: Vec<_> = whole.collect();
    whole.iter().for_each(|(name, seen)| known.here.add(name.as_bytes(), seen));
    Ok((known, whole))
}

/// Writes down what the other end showed: of the buckets that were looked into it is all there is. Returns whether all of
/// it found room.
fn write_down(
    shared: &Shared,
    site: &str,
    listing: &Listing,
    here: &[(Name, Seen)],
    foreign_max: usize,
) -> Result<bool, StoreError> {
    let as_here: HashSet<u16> = listing.as_here.iter().copied().collect();
    let looked: HashSet<u16> = listing.buckets.iter().chain(&listing.as_here).copied().collect();
    let is_as_here = |name: &Name| as_here.contains(&Buckets::of(name.as_bytes()));
    let shown = || listing.items.iter().chain(here.iter().filter(|(name, _)| is_as_here(name)));
    let names: HashSet<&[u8]> = shown().map(|(name, _)| name.as_bytes()).collect();
    let scope = shared.scope(site)?;
    let (gone, kept): (Vec<_>, Vec<_>) = shared
        .store()
        .pairs(site)?
        .into_iter()
        .filter(|(_, pair)| pair.there.is_some())
        .partition(|(name, _)| !names.contains(&**name) && looked.contains(&Buckets::of(name)));
    let known: HashSet<&[u8]> = kept.iter().map(|(name, _)| &**name).collect();
    let foreign = known.iter().filter(|name| !scope.contains(name)).count();
    let mut room = foreign_max.saturating_sub(foreign);
    let mut has_room = |name: &[u8]| {
        let counts = !scope.contains(name) && !known.contains(name);
        let fits = !counts || room > 0;
        room -= usize::from(counts && fits);
        fits
    };
    let (written, left): (Vec<_>, Vec<_>) = shown().partition(|(name, _)| has_room(name.as_bytes()));
    let now = milliseconds(SystemTime::now());
    shared.store().write(|batch| {
        gone.iter().try_for_each(|(name, _)| batch.saw(site, name, None, now))?;
        written.iter().try_for_each(|(name, Seen { digest, size, fits })| {
            batch.saw(site, name.as_bytes(), Some((*digest, *size, *fits)), now)
        })
    })?;
    Ok(left.is_empty())
}

/// Remembers what needs no step.
fn settle(shared: &Shared, site: &str, endings: &[(Name, Ending)]) -> Result<(), StoreError> {
    shared.store().write(|batch| {
        endings.iter().try_for_each(|(name, ending)| match *ending {
            Ending::Agree(digest, from) => batch.agree(site, name.as_bytes(), digest, from),
            Ending::Forget => batch.forget(site, name.as_bytes()),
            Ending::NoWish => batch.unwish(site, name.as_bytes()),
        })
    })
}

#[cfg(test)]
mod tests;
