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

use super::disk::{Fuse, ModelFiles};
use super::hand::{View, bytes, digest};
use super::pending::{Main, Pending};
use super::steps::{Crash, Edits, Expect, Step, What, step};
use crate::shared::files::Files;
use crate::shared::partial::Parts;
use crate::shared::{Done, Failed, Keep, Md5, Pair, Ready, Unfinished, Workshop};

const NAME: &[u8] = b"web.conf";

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
        Workshop::open_on(Arc::new(self.files.clone()), &Self::directory(), Keep::Recent, &move |name| {
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
        let mut pending = Pending::new(what, (expected, target), before, last);
        self.files.watch(&edits);
        let result = match (what, ready) {
            (What::Place(_), Some(ready)) => self.shop().place(NAME, &self.pair, expected_digest, ready),
            (What::Remove, _) => {
                self.shop().remove(&self.pair, expected_digest.unwrap_or_default(), Md5::Goes)
            }
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
                let is_removed = what == What::Remove && view.main.is_none();
                let is_whole = !matches!(what, What::Place(_)) || pending.has_acted || view == pending.before;
                assert!(view.main == pending.last && is_whole || is_removed, "{failed:?}: {view:?}");
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
            Pending::new(What::Complete, (main.clone(), main.clone()), before, main)
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
