//! What is to become of a pair: one pure function of what both ends have and what is remembered.
//!
//! Three contents decide: what is *here*, what is *there*, and what both ends had when they last agreed. Whoever still has
//! what was agreed has not changed anything, so the other one's change counts. Where both changed, the central wins and
//! the loser is kept. Times decide nothing.
//!
//! There is no journal. Every step names what it replaces and is refused by the end where it acts when something else is
//! there by then; the next round decides anew. Only this is written down before a step: what it is about to bring about
//! ([`Intent`]). Where that has come to pass when the next round looks, both ends had it, whatever happened in between to
//! the process that did it.

use super::Digest;
use super::names::{Kind, kind_of};

/// So many agreed pairs of a kind may be missing at an end, or one in so many of them: beyond both it has lost them, and
/// removed nothing.
const MISSING_MAX: usize = 3;
const MISSING_SHARE: usize = 10;

/// What a site may change at the central.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Uploads {
    /// Nothing.
    Off,
    /// A configuration that the central does not have: an agent's registration.
    #[default]
    First,
    /// Its configurations, also later.
    Changed,
}

/// A pair at one end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    /// What the main file holds; `None`: it is not there.
    pub(crate) digest: Option<Digest>,
    /// Its `.md5` says so.
    pub(crate) fits: bool,
    /// It has been so for long enough that nobody is in the middle of writing or replacing it.
    pub(crate) settled: bool,
}

impl End {
    /// Nothing there, and so for a while.
    pub(crate) const NONE: Self = Self { digest: None, fits: false, settled: true };

    /// A whole pair.
    #[cfg(test)]
    pub(crate) const fn whole(digest: Digest) -> Self {
        Self { digest: Some(digest), fits: true, settled: true }
    }
}

/// What a step that was begun, and of which nobody knows whether it ended, was to bring about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Intent {
    /// The site's content, here. `None`: that it is gone.
    Up(Option<Digest>),
    /// The central's content, there. `None`: that it is gone.
    Down(Option<Digest>),
}

/// All that decides.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) kind: Kind,
    /// What both ends had.
    pub(crate) agreed: Option<Digest>,
    pub(crate) intent: Option<Intent>,
    pub(crate) here: End,
    pub(crate) there: End,
    /// Whether the site may be given what it did not have before.
    pub(crate) may_give: bool,
    pub(crate) uploads: Uploads,
    /// What is there is a content that the pair had before: an old file come back is not a change.
    pub(crate) was_before: bool,
    /// What is here is such a content: a directory that was restored from a backup, perhaps.
    pub(crate) is_back: bool,
    /// An operator wants what is here to be there.
    pub(crate) pushed: bool,
    /// This end has lost what was agreed of this kind.
    pub(crate) lost_here: bool,
    /// The site has.
    pub(crate) lost_there: bool,
}

/// Why a content is kept that one end loses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// Both ends had changed it, and the central's counts.
    Conflict,
    /// The site had changed it, which its `shared_uploads` do not let it.
    NotTaken,
    /// The site had an old content again.
    Old,
    /// It was replaced here by what the site made of it.
    Replaced,
    /// It was removed, at one end and so at the other.
    Removed,
    /// An old content came back here, and went there.
    Reverted,
}

impl Why {
    const ALL: [(Self, &str); 6] = [
        (Self::Conflict, "conflict"),
        (Self::NotTaken, "not taken"),
        (Self::Old, "old"),
        (Self::Replaced, "replaced"),
        (Self::Removed, "removed"),
        (Self::Reverted, "reverted"),
    ];

    pub(crate) fn as_str(self) -> &'static str {
        Self::ALL.into_iter().find(|(why, _)| *why == self).expect("every reason has its word").1
    }

    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, known)| *known == word).map(|(why, _)| why)
    }
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// Somebody may be writing it here.
    Here,
    /// Somebody may be writing it there.
    There,
    /// Too much that was agreed is missing here: a directory that is not mounted, perhaps. An operator decides.
    LostHere,
}

/// What is done. `over` is what must be there for it to be done: nothing else is overwritten or removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing is to be done: both have the same, or both nothing.
    Rest,
    /// Both have it: that is remembered.
    Agree(Digest),
    /// Both have it, as the site says; but what it shows it may know by its digest alone, and it was not given to it.
    /// What is there is fetched first: then it is as [`Step::Agree`].
    Prove {
        digest: Digest,
    },
    /// Neither has it any more.
    Forget,
    /// The site may not have it, and what it has itself is left alone.
    Withhold,
    /// The site has something of its own that stays there.
    Leave,
    Wait(Waiting),
    /// What is here goes there. What is there is kept first, where that is said. With the same content on both ends
    /// only the `.md5` is written.
    Place {
        digest: Digest,
        over: Option<Digest>,
        keep: Option<Why>,
    },
    /// It is removed there, after it was kept.
    Remove {
        over: Digest,
        keep: Why,
    },
    /// What is there comes here. What is here is kept first.
    Take {
        digest: Digest,
        over: Option<Digest>,
    },
    /// It is removed here, after it was kept.
    Drop {
        over: Digest,
    },
}

impl Step {
    /// What it is to bring about, to be remembered before it is done.
    pub(crate) fn intent(&self) -> Option<Intent> {
        match *self {
            Self::Place { digest, over, .. } if over != Some(digest) => Some(Intent::Down(Some(digest))),
            Self::Remove { .. } => Some(Intent::Down(None)),
            Self::Take { digest, .. } => Some(Intent::Up(Some(digest))),
            Self::Drop { .. } => Some(Intent::Up(None)),
            _ => None,
        }
    }
}

/// What an end shows of what was agreed, by kind: a folder may be a mount point of its own.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Census([(usize, usize); Kind::ALL.len()]);

impl Census {
    /// Counts agreed pairs: their names, and whether the end has them.
    pub(crate) fn of<'a>(agreed: impl Iterator<Item = (&'a [u8], bool)>) -> Self {
        let mut census = Self::default();
        for (name, is_there) in agreed {
            if let Some(kind) = kind_of(name) {
                census.count(kind, is_there);
            }
        }
        census
    }

    fn count(&mut self, kind: Kind, is_there: bool) {
        let (agreed, missing) = &mut self.0[kind as usize];
        *agreed += 1;
        *missing += usize::from(!is_there);
    }

    /// Whether more of a kind is missing than anybody removes at once. As what is missing stays agreed while it is waited
    /// for, that holds until enough of it is back.
    pub(crate) fn has_lost(&self, kind: Kind) -> bool {
        let (agreed, missing) = self.0[kind as usize];
        missing > MISSING_MAX.max(agreed / MISSING_SHARE)
    }
}

/// Decides.
pub(crate) fn decide(question: &Question) -> Step {
    let (here, there) = (question.here.digest, question.there.digest);
    let agreed = question.agreed();
    if here == there {
        return equal(question);
    }
    if here.is_some() && question.is_withheld() {
        return Step::Withhold;
    }
    if !question.here.settled {
        return Step::Wait(Waiting::Here);
    }
    let has_something_to_say = here.is_some() || agreed.is_some();
    if question.pushed && has_something_to_say {
        return down(question, question.loser(agreed));
    }
    if here.is_none() && agreed.is_some() && question.lost_here {
        return Step::Wait(Waiting::LostHere);
    }
    if here == agreed {
        return changed_there(question, agreed);
    }
    down(question, question.loser(agreed))
}

impl Question {
    /// What both ends have had: what a step was to bring about counts if that has come to pass.
    pub(crate) fn agreed(&self) -> Option<Digest> {
        match self.intent {
            Some(Intent::Up(target)) if self.here.digest == target => target,
            Some(Intent::Down(target)) if self.there.digest == target => target,
            _ => self.agreed,
        }
    }

    /// Whether what is here must not go there yet.
    fn is_withheld(&self) -> bool {
        self.agreed().is_none() && !self.may_give && !self.pushed
    }

    /// Why what is there is worth keeping when it goes for what is here.
    fn loser(&self, agreed: Option<Digest>) -> Option<Why> {
        match self.there.digest {
            None => None,
            there if there == agreed => self.is_back.then_some(Why::Reverted),
            Some(_) if self.was_before => Some(Why::Old),
            Some(_) => Some(Why::Conflict),
        }
    }
}

/// Both ends have the same.
fn equal(question: &Question) -> Step {
    let there = question.there;
    match there.digest {
        None if question.agreed.is_some() || question.intent.is_some() => Step::Forget,
        None => Step::Rest,
        Some(digest) if question.is_withheld() => Step::Prove { digest },
        Some(digest) if !there.fits && there.settled => {
            Step::Place { digest, over: Some(digest), keep: None }
        }
        Some(digest) if question.agreed == Some(digest) && question.intent.is_none() => Step::Rest,
        Some(digest) => Step::Agree(digest),
    }
}

/// What is here goes there; the two differ.
fn down(question: &Question, keep: Option<Why>) -> Step {
    match (question.here.digest, question.there.digest) {
        (Some(digest), over) => Step::Place { digest, over, keep },
        (None, Some(over)) => Step::Remove { over, keep: keep.unwrap_or(Why::Removed) },
        (None, None) => Step::Rest,
    }
}

/// Only the site changed it.
fn changed_there(question: &Question, agreed: Option<Digest>) -> Step {
    let may_change = question.kind == Kind::Conf && question.uploads == Uploads::Changed;
    match (agreed, question.there.digest) {
        (None, Some(_)) if question.kind != Kind::Conf || question.uploads == Uploads::Off => Step::Leave,
        (None, Some(digest)) => take(question, digest, None),
        (Some(over), Some(digest)) if may_change && !question.was_before => {
            take(question, digest, Some(over))
        }
        (Some(_), Some(_)) if question.was_before => down(question, Some(Why::Old)),
        (Some(_), Some(_)) => down(question, Some(Why::NotTaken)),
        (Some(over), None) if may_change && !question.lost_there => Step::Drop { over },
        (_, None) => down(question, None),
    }
}

fn take(question: &Question, digest: Digest, over: Option<Digest>) -> Step {
    if question.there.settled { Step::Take { digest, over } } else { Step::Wait(Waiting::There) }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
