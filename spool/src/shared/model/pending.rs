//! What one change may lead to, with another hand at work and crashes in between.

use super::hand::{CONTENTS, Edit, View, bytes, digest, shown};
use super::steps::What;
use crate::shared::Done;

pub(super) type Main = Option<Vec<u8>>;

/// A change that has neither succeeded nor failed.
pub(super) struct Pending {
    pub(super) what: What,
    /// What it was made on top of.
    pub(super) expected: Main,
    pub(super) target: Main,
    pub(super) before: View,
    /// What the other hand knows to be there.
    pub(super) last: Main,
    /// Whether that hand did anything since.
    pub(super) has_acted: bool,
    /// Whether a start may be ending an earlier removal.
    pub(super) is_start: bool,
    /// It died, and that hand had put the very bytes there that were to be placed: nothing tells the two apart then.
    is_ambiguous: bool,
    /// That hand has put something where one was aside to be removed, and removed that: nothing tells afterwards, and
    /// what was aside may come back.
    has_come: bool,
    has_come_and_gone: bool,
}

impl Pending {
    /// One of the pair `before`, in which the other hand knows `last` to be there.
    pub(super) fn new(what: What, (expected, target): (Main, Main), before: View, last: Main) -> Self {
        let (has_acted, is_start) = (false, false);
        let (is_ambiguous, has_come, has_come_and_gone) = (false, false, false);
        Self {
            what,
            expected,
            target,
            before,
            last,
            has_acted,
            is_start,
            is_ambiguous,
            has_come,
            has_come_and_gone,
        }
    }

    /// Takes in what was seen, and looks at each step of it.
    pub(super) fn follow(&mut self, views: &[(View, Option<Edit>)]) {
        for (position, (view, by)) in views.iter().enumerate() {
            if let Some(main) = &view.main {
                assert!((0..CONTENTS.len()).any(|content| bytes(content) == *main), "half a main file");
            }
            let Some((before, _)) = position.checked_sub(1).map(|before| &views[before]) else { continue };
            match by {
                Some(edit) => {
                    self.has_acted = true;
                    match edit {
                        Edit::Put(content) => self.last = Some(bytes(*content)),
                        Edit::Rewrite(content) if before.main.is_some() => self.last = Some(bytes(*content)),
                        Edit::Remove if before.main.is_some() => self.last = None,
                        _ => {}
                    }
                    self.has_come |= matches!(edit, Edit::Put(_));
                    self.has_come_and_gone |=
                        self.has_come && self.last.is_none() && self.what == What::Remove;
                    self.is_ambiguous |= self.last.is_some() && self.last == self.target;
                }
                None => self.check_step(before, view),
            }
        }
    }

    fn check_step(&self, before: &View, after: &View) {
        let is_removal = self.what == What::Remove;
        // One that was placed where none was is taken back when its `.md5` cannot be placed.
        let may_be_taken_back = self.before.main.is_none() && before.main == self.target;
        assert!(
            after.main.is_some() || before.main.is_none() || is_removal || may_be_taken_back,
            "the main file was missing"
        );
        // No call removes one name on condition of another: a hand that puts a pair there in that moment may see it.
        let may_miss = self.has_acted && (is_removal || self.is_start);
        if before.main.is_some() && after.main.is_some() && !may_miss {
            assert!(after.md5.is_some() || before.md5.is_none(), "the md5 was missing");
        }
        // Back from aside it may be the one from before.
        if after.md5 != before.md5 && after.md5.is_some() && !self.has_acted {
            let is_old = before.md5.is_none() && after.md5 == self.before.md5;
            assert!(after.fits() || is_old, "an md5 of something else appeared");
        }
    }

    /// Once it is over, one way or the other.
    pub(super) fn check_end(&self, view: &View, has_died: bool) {
        let may_be_made = self.what != What::Complete && self.last == self.expected;
        assert!(
            view.main == self.last
                || may_be_made && view.main == self.target
                || has_died && self.is_ambiguous
                || self.has_come_and_gone,
            "an edit was lost: {} is there, the last was {}",
            shown(&view.main),
            shown(&self.last)
        );
        if self.has_acted {
            return;
        }
        match self.what {
            What::Place(_) if view.main == self.target && self.target != self.before.main => {
                assert!(view.fits(), "a main file was placed without its md5");
            }
            What::Remove if view.main.is_none() => {
                let may_stay = self.before.main.is_none() && view.md5 == self.before.md5;
                assert!(view.md5.is_none() || may_stay, "an md5 was left behind");
            }
            // One without a main file may go with the rest of an earlier removal, or come back with what failed of it.
            _ => {
                let is_alone = view.main.is_none();
                assert!(view.fits() || view.md5 == self.before.md5 || is_alone, "an md5 was lost");
            }
        }
    }

    /// A call that failed may count as an edit.
    pub(super) fn check_answer(&self, done: &Done, view: &View, has_failed: bool) {
        self.check_end(view, false);
        if self.has_acted {
            return;
        }
        match done {
            Done::Done | Done::Already => {
                assert!(view.main == self.target, "{done:?}: {view:?}");
                assert!(view.fits() || self.what == What::Remove && view.md5.is_none(), "{done:?}: {view:?}");
            }
            Done::Changed(there) => {
                assert_eq!(*view, self.before, "{done:?}");
                assert_eq!(there.map(|seen| seen.digest), view.main.as_deref().map(digest));
                assert_eq!(there.is_some_and(|seen| seen.fits), view.fits());
                let is_nothing = self.what == What::Complete && self.expected.is_none();
                assert!(self.before.main != self.expected || is_nothing || has_failed, "nothing had changed");
            }
        }
    }
}
