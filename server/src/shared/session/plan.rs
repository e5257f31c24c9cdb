//! What a round has to do: every pair that this server and the site could share, decided.

use std::collections::BTreeSet;
use std::time::SystemTime;

use tidegate_proto::Name;
use tidegate_spool::shared::{Digest, Seen};

use crate::ledger::milliseconds;
use crate::shared::Shared;
use crate::shared::decide::{Census, Intent, Question, Step, Waiting, decide};
use crate::shared::names::kind_of;
use crate::shared::store::StoreError;
use crate::shared::store::pairs::{Origin, Pair, There};
use crate::shared::store::sites::Counts;

/// A step that changes something at one end.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    pub(super) name: Name,
    pub(super) step: Step,
    /// What the decision took for agreed.
    pub(super) agreed: Option<Digest>,
    pub(super) here: Option<Seen>,
    pub(super) there: Option<Seen>,
    /// What is there has been this pair's before, at either end.
    pub(super) is_own: bool,
    /// What the site said last when it did not take it.
    pub(super) refused: Option<String>,
}

/// What is only to be remembered.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ending {
    Agree(Digest, Origin),
    Forget,
    /// There is nothing to push.
    NoWish,
}

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) steps: Vec<Planned>,
    pub(super) endings: Vec<(Name, Ending)>,
    pub(super) withheld: Vec<Name>,
    /// Something is decided only when it has been so for a while.
    pub(super) waits: bool,
    /// Pairs at the other end that are none of the site's.
    pub(super) foreign: u64,
    pub(super) counts: Counts,
}

/// Decides about all pairs of a site.
pub(super) fn plan(shared: &Shared, site: &str) -> Result<Plan, StoreError> {
    let pairs = shared.store().pairs(site)?;
    let scope = shared.scope(site)?;
    let uploads = shared.uploads(site);
    let agreed = || pairs.iter().filter(|(name, pair)| pair.agreed.is_some() && scope.contains(name));
    let lost_there = Census::of(agreed().map(|(name, pair)| (&**name, pair.there.is_some())));
    let lost_here = lost_here(shared, site, agreed().map(|(name, _)| name.clone()).collect())?;
    let here = shared.here();
    let now = milliseconds(SystemTime::now());
    let mut plan = Plan::default();
    let names: BTreeSet<&[u8]> = pairs.keys().map(|name| &**name).chain(scope.names()).collect();
    for name in names {
        let pair = pairs.get(name).cloned().unwrap_or_default();
        let (true, Some(kind), Ok(parsed)) = (scope.contains(name), kind_of(name), Name::parse_listed(name))
        else {
            plan.foreign += u64::from(pair.there.is_some());
            if pair.wished.is_some() {
                plan.endings.extend(Name::parse_listed(name).map(|name| (name, Ending::NoWish)));
            }
            continue;
        };
        let old = shared.store().old(site, name, &pair, here.get(name).map(|seen| seen.digest))?;
        let question = Question {
            kind,
            agreed: pair.agreed,
            intent: pair.intent,
            here: here.end(name),
            there: pair.there_end(now, shared.interval()),
            may_give: scope.may_give(name),
            uploads,
            was_before: old.there,
            is_back: old.here,
            pushed: pair.wished.is_some(),
            lost_here: lost_here.has_lost(kind),
            lost_there: lost_there.has_lost(kind),
        };
        let step = decide(&question);
        if question.here.digest.is_some() || question.there.digest.is_some() {
            plan.counts.add(&step, pair.refused.is_some());
        }
        plan.add(parsed, &question, step, here.get(name), pair);
    }
    Ok(plan)
}

impl Plan {
    fn add(&mut self, name: Name, question: &Question, step: Step, here: Option<Seen>, pair: Pair) {
        let ending = match step {
            Step::Agree(digest) => Ending::Agree(digest, from(question, digest)),
            Step::Forget => Ending::Forget,
            Step::Rest | Step::Leave if question.pushed => Ending::NoWish,
            Step::Rest | Step::Leave => return,
            Step::Withhold => return self.withheld.push(name),
            // Only an operator knows.
            Step::Wait(Waiting::LostHere) => return,
            Step::Wait(Waiting::Here | Waiting::There) => {
                self.waits = true;
                return;
            }
            Step::Prove { .. }
            | Step::Place { .. }
            | Step::Remove { .. }
            | Step::Take { .. }
            | Step::Drop { .. } => {
                let (agreed, there) = (question.agreed(), pair.there.as_ref().map(There::seen));
                let refused = pair.refused.map(|refusal| refusal.words);
                // That the digest is the same proves nothing where it is to be proven.
                let is_own = question.is_own() && !matches!(step, Step::Prove { .. });
                return self.steps.push(Planned { name, step, agreed, here, there, is_own, refused });
            }
        };
        self.endings.push((name, ending));
    }
}

/// What this end shows of what was agreed with any site; a file that many share counts once. `agreed` is what was agreed
/// with this one: where all of that is here, nothing waits, and no other is looked at.
fn lost_here(shared: &Shared, site: &str, mut agreed: BTreeSet<Box<[u8]>>) -> Result<Census, StoreError> {
    if agreed.iter().all(|name| shared.here().get(name).is_some()) {
        return Ok(Census::default());
    }
    for other in shared.sites().into_iter().filter(|other| *other != site) {
        let scope = shared.scope(other)?;
        let pairs = shared.store().pairs(other)?.into_iter();
        agreed.extend(
            pairs.filter(|(name, pair)| pair.agreed.is_some() && scope.contains(name)).map(|(name, _)| name),
        );
    }
    let here = shared.here();
    Ok(Census::of(agreed.iter().map(|name| (&**name, here.get(name).is_some()))))
}

impl Question {
    /// Whether what is there has been the pair's, or came from the site before.
    fn is_own(&self) -> bool {
        let there = self.there.digest;
        let came = matches!(self.intent, Some(Intent::Up(target)) if target == there);
        self.was_before || came || there == self.agreed || there == self.here.digest
    }
}

/// Whose content both ends have: a step that was begun says so. Where nothing is remembered, it may be the site's.
fn from(question: &Question, digest: Digest) -> Origin {
    match question.intent {
        Some(Intent::Up(Some(target))) if target == digest => Origin::There,
        Some(Intent::Down(Some(target))) if target == digest => Origin::Here,
        _ if question.agreed.is_none() => Origin::There,
        _ => Origin::Here,
    }
}
