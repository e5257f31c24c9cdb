//! A random life of one pair, against what it must look like.
//!
//! - Whoever looks at it at any moment finds a main file that somebody wrote, whole; none only while one is removed.
//! - No edit of the other hand is lost: what it did last is there, unless a change was made on top of exactly that.
//! - An `.md5` that was there is never missing beside a main file, and none appears that does not fit.
//! - After a crash the pair is as it was or as it was to become, and what was confirmed has happened.
//! - After each start the workshop is empty but for bytes on their way in, and the next change succeeds.

use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::disk::{Fuse, ModelFiles};
use super::hand::{CONTENTS, Edit, View, bytes, shown};
use crate::shared::files::Files;
use crate::shared::partial::Parts;
use crate::shared::{Digest, Done, Failed, Pair, Ready, Unfinished, Workshop};

const NAME: &[u8] = b"web.conf";

type Edits = Vec<(u32, Edit)>;
type Main = Option<Vec<u8>>;

#[derive(Clone, Debug)]
enum Step {
    Change(What, Expect, Edits),
    /// Some bytes come, and no more.
    Upload(usize, usize),
    Edit(Edit),
    Crash(Crash),
    /// A crash, and another one at the next start.
    CrashTwice(Crash, u32, Edits),
    /// Something goes wrong after some more calls; a process that dies of it ends in that way, and the next one
    /// perhaps too, after so many calls.
    Light(Fuse, Crash, Option<u32>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    Place(usize),
    Remove,
    Complete,
}

/// What a change expects to find.
#[derive(Clone, Copy, Debug)]
enum Expect {
    /// What is there.
    Right,
    Content(usize),
    Nothing,
}

#[derive(Clone, Copy, Debug)]
enum Crash {
    /// Of the process only.
    Process,
    /// Of the power, with a seed for what is lost.
    Power(u64),
    /// Of the power, and all is lost that was not made durable.
    Blackout,
}

/// A change that has neither succeeded nor failed.
struct Pending {
    what: What,
    /// What it was made on top of.
    expected: Main,
    target: Main,
    before: View,
    /// What the other hand knows to be there.
    last: Main,
    /// Whether that hand did anything since.
    has_acted: bool,
    /// Whether a start may be ending an earlier removal.
    is_start: bool,
    /// It died, and that hand had put the very bytes there that were to be placed: nothing tells the two apart then.
    is_ambiguous: bool,
    /// That hand has put something where one was aside to be removed, and removed that: nothing tells afterwards, and
    /// what was aside may come back.
    has_come: bool,
    has_come_and_gone: bool,
}

struct Life {
    files: ModelFiles,
    pair: Pair,
    shop: Option<Workshop>,
    /// On a file system without it, the hand does not edit during a change.
    knows_exchange: bool,
    /// The main file, and the whole pair where a change of it was confirmed.
    main: Main,
    promised: Option<View>,
    crash: Option<Crash>,
    second_death: Option<u32>,
}

fn digest(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

impl Pending {
    /// Takes in what was seen, and looks at each step of it.
    fn follow(&mut self, views: &[(View, Option<Edit>)]) {
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
        assert!(after.main.is_some() || before.main.is_none() || is_removal, "the main file was missing");
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
    fn check_end(&self, view: &View, has_died: bool) {
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
    fn check_answer(&self, done: &Done, view: &View, has_failed: bool) {
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

impl Life {
    fn new(knows_exchange: bool) -> Self {
        let pair = Pair { file: "/pairs/conf/web.conf".into(), md5: "/pairs/md5/web.md5".into() };
        let files = ModelFiles::new(pair.clone(), knows_exchange);
        let (shop, main, promised, crash, second_death) = (None, None, None, None, None);
        let mut life = Self { files, pair, shop, knows_exchange, main, promised, crash, second_death };
        life.open();
        life
    }

    fn open(&mut self) {
        self.shop = Some(self.try_open().expect("it opens"));
    }

    fn try_open(&self) -> std::io::Result<Workshop> {
        let pair = self.pair.clone();
        Workshop::open_on(Arc::new(self.files.clone()), &Self::directory(), &move |name| {
            (name == NAME).then(|| pair.clone())
        })
    }

    fn directory() -> PathBuf {
        "/pairs/workshop".into()
    }

    fn shop(&self) -> &Workshop {
        self.shop.as_ref().expect("it is open between steps")
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Change(what, expect, edits) => self.change(what, expect, edits),
            Step::Upload(content, size) => drop(self.upload(content, size)),
            Step::Edit(edit) => {
                self.files.edit_now(edit);
                (self.main, self.promised) = (self.files.view().main, None);
            }
            Step::Crash(crash) => self.die(crash, None, vec![]),
            Step::CrashTwice(crash, calls, edits) => {
                self.second_death = Some(calls);
                self.die(crash, None, edits);
            }
            Step::Light(fuse, crash, second_death) => {
                self.files.light(fuse);
                (self.crash, self.second_death) = (Some(crash), second_death);
            }
        }
        if self.files.is_dead() {
            let crash = self.crash.expect("it was lit");
            self.die(crash, None, vec![]);
        }
    }

    /// What has come before is gone on with.
    fn upload(&mut self, content: usize, size: usize) -> Option<Ready> {
        let bytes = bytes(content);
        for _ in 0..3 {
            let mut partial = self.may_fail(self.shop().begin(digest(&bytes), bytes.len() as u64))?;
            let offset = partial.offset() as usize;
            let some = &bytes[offset..bytes.len().min(size).max(offset)];
            self.may_fail(some.chunks(4_000).try_for_each(|piece| partial.write(piece)))?;
            match partial.finish() {
                // Some of it did not survive a power cut, and perhaps could not be removed at once.
                Err(Unfinished::Damaged) => {}
                Err(Unfinished::Short { .. }) if size < bytes.len() => return None,
                result => return self.may_fail(result),
            }
        }
        panic!("it is damaged for ever");
    }

    fn may_fail<T, E: std::fmt::Debug>(&self, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                assert!(self.crash.is_some(), "{error:?}");
                None
            }
        }
    }

    fn change(&mut self, what: What, expect: Expect, mut edits: Edits) {
        if !self.knows_exchange {
            edits.clear();
        }
        let expected = match expect {
            Expect::Right => self.main.clone(),
            Expect::Content(content) => Some(bytes(content)),
            Expect::Nothing => None,
        };
        let expected_digest = expected.as_deref().map(digest);
        let (target, ready) = match what {
            What::Place(content) => {
                let Some(ready) = self.upload(content, usize::MAX) else { return };
                (Some(bytes(content)), Some(ready))
            }
            What::Remove => (None, None),
            What::Complete => (expected.clone(), None),
        };
        let (before, last) = (self.files.view(), self.main.clone());
        let mut pending = Pending {
            what,
            expected,
            target,
            before,
            last,
            has_acted: false,
            is_start: false,
            is_ambiguous: false,
            has_come: false,
            has_come_and_gone: false,
        };
        self.files.watch(&edits);
        let result = match (what, ready) {
            (What::Place(_), Some(ready)) => self.shop().place(NAME, &self.pair, expected_digest, ready),
            (What::Remove, _) => self.shop().remove(&self.pair, expected_digest.unwrap_or_default()),
            _ => self.shop().complete(NAME, &self.pair, expected_digest.unwrap_or_default()),
        };
        pending.follow(&self.files.seen());
        let view = self.files.view();
        match result {
            Ok(done) => {
                pending.check_answer(&done, &view, self.crash.is_some());
                let is_made = !matches!(done, Done::Changed(_)) && !pending.has_acted;
                (self.main, self.promised) = (view.main.clone(), is_made.then_some(view));
            }
            Err(failed) => {
                let crash = self.crash.unwrap_or_else(|| panic!("{failed:?}"));
                if self.files.is_dead() || matches!(failed, Failed::Unsure(_)) {
                    // The cache may show what the disk has not: only without power the truth comes out.
                    let crash = if self.files.is_dead() { crash } else { Crash::Power(1) };
                    return self.die(crash, Some(pending), edits);
                }
                (self.main, self.promised) = (view.main.clone(), None);
                assert!(view.main == pending.last || view.main == pending.target, "{failed:?}: {view:?}");
            }
        }
        if !self.files.is_lit() {
            self.crash = None;
        }
    }

    fn lose(&mut self, crash: Crash) {
        self.shop = None;
        self.files.kill();
        self.crash = None;
        match crash {
            Crash::Process => {}
            Crash::Blackout => self.files.power_cut(&mut |_| 0),
            Crash::Power(seed) => {
                let mut state = seed | 1;
                self.files.power_cut(&mut |choices| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    (state >> 33) as usize % choices
                });
            }
        }
    }

    /// A crash, and a start during which the hand goes on.
    fn die(&mut self, crash: Crash, pending: Option<Pending>, mut edits: Edits) {
        if !self.knows_exchange {
            edits.clear();
        }
        let is_pending = pending.is_some();
        let mut pending = pending.unwrap_or_else(|| {
            let (main, before) = (self.main.clone(), self.files.view());
            let (expected, target, last) = (main.clone(), main.clone(), main);
            Pending {
                what: What::Complete,
                expected,
                target,
                before,
                last,
                has_acted: false,
                is_start: false,
                is_ambiguous: false,
                has_come: false,
                has_come_and_gone: false,
            }
        });
        pending.is_start = true;
        self.lose(crash);
        if let Some(calls) = self.second_death.take() {
            self.files.light(Fuse::Death(calls));
            self.files.watch(&edits);
            drop(self.try_open());
            pending.follow(&self.files.seen());
            self.lose(crash);
        }
        self.files.watch(&edits);
        self.open();
        pending.follow(&self.files.seen());
        let view = self.files.view();
        pending.check_end(&view, is_pending);
        if let Some(promised) = self.promised.take().filter(|_| !is_pending && !pending.has_acted) {
            assert_eq!(view, promised, "what was confirmed has not happened");
            self.promised = Some(promised);
        }
        self.main = view.main;
        let left = self.files.list(&Self::directory()).expect("nothing is lit");
        let is_part = |name: &std::ffi::OsString| Parts::is_part(name.as_encoded_bytes());
        assert!(left.iter().all(|(name, _)| is_part(name)), "left behind: {left:?}");
        assert!(left.len() <= 5, "too much is kept: {left:?}");
    }

    /// Whatever has happened, one more change succeeds and stays.
    fn end(mut self) {
        self.die(Crash::Power(7), None, vec![]);
        self.change(What::Place(1), Expect::Right, vec![]);
        self.die(Crash::Blackout, None, vec![]);
        assert!(self.files.view().main == Some(bytes(1)));
        assert!(self.files.view().fits());
    }
}

fn edits() -> impl Strategy<Value = Edits> {
    let some = prop::collection::vec((0..12_u32, edit()), 0..4);
    prop_oneof![2 => Just(vec![]), 3 => some]
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        4 => (0..CONTENTS.len()).prop_map(Edit::Put),
        3 => (0..CONTENTS.len()).prop_map(Edit::Rewrite),
        2 => Just(Edit::Remove),
        3 => Just(Edit::Md5),
        1 => Just(Edit::WrongMd5),
        1 => Just(Edit::RemoveMd5),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let content = || 0..CONTENTS.len();
    let what = prop_oneof![
        5 => content().prop_map(What::Place),
        2 => Just(What::Remove),
        1 => Just(What::Complete),
    ];
    let expect = prop_oneof![
        6 => Just(Expect::Right),
        1 => content().prop_map(Expect::Content),
        1 => Just(Expect::Nothing),
    ];
    let crash = || {
        prop_oneof![
            3 => Just(Crash::Process),
            4 => any::<u64>().prop_map(Crash::Power),
            1 => Just(Crash::Blackout),
        ]
    };
    let fuse = prop_oneof![
        6 => (0..45_u32).prop_map(Fuse::Death),
        2 => (0..9_u32).prop_map(Fuse::FailedFsync),
        3 => (0..45_u32).prop_map(Fuse::FailedCall),
    ];
    prop_oneof![
        8 => (what, expect, edits()).prop_map(|(what, expect, edits)| Step::Change(what, expect, edits)),
        1 => (content(), 0..6_000_usize).prop_map(|(content, size)| Step::Upload(content, size)),
        3 => edit().prop_map(Step::Edit),
        1 => crash().prop_map(Step::Crash),
        2 => (crash(), 0..20_u32, edits())
            .prop_map(|(crash, calls, edits)| Step::CrashTwice(crash, calls, edits)),
        4 => (fuse, crash(), prop::option::of(0..30_u32))
            .prop_map(|(fuse, crash, second_death)| Step::Light(fuse, crash, second_death)),
    ]
}

/// As many cases as `PROPTEST_CASES` says, else the campaign's number.
fn config() -> ProptestConfig {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => config,
        None => ProptestConfig { cases: 10_000, ..config },
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_was_promised_holds(
        knows_exchange in prop_oneof![4 => Just(true), 1 => Just(false)],
        steps in prop::collection::vec(step(), 1..20),
    ) {
        let mut life = Life::new(knows_exchange);
        steps.into_iter().for_each(|step| life.take(step));
        life.end();
    }
}
