//! The decision over many rounds, against a small world: edits, removals and old files come back at both ends, crashes
//! before and after every step, hands that are quicker than a step.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

/// Contents are numbered in the order in which they were made: a greater one is newer.
type Content = u32;

fn digest(content: Content) -> Digest {
    let mut digest = [0; 32];
    digest[..4].copy_from_slice(&content.to_be_bytes());
    digest
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Here,
    There,
}

/// How far a round gets before the process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Crash {
    Never,
    BeforeIntent,
    AfterIntent,
    AfterStep,
}

#[derive(Debug, Clone)]
enum Event {
    /// A new content; nobody is done writing it if `young`.
    Edit(At, bool),
    Remove(At),
    /// A content that this end had once.
    Old(At, prop::sample::Index),
    Round(Crash),
    /// A round in which somebody edits the end that a step is about to change.
    Raced(At),
    Push,
    /// The memory is lost, and begun anew.
    Forget,
    /// Whether so much else is missing here, and there, that the end has lost it.
    Lost([bool; 2]),
}

#[derive(Debug)]
struct World {
    uploads: Uploads,
    here: Option<Content>,
    there: Option<Content>,
    young: [bool; 2],
    /// What the central remembers.
    agreed: Option<Digest>,
    intent: Option<Intent>,
    had: HashSet<Digest>,
    may_give: bool,
    pushed: bool,
    lost: [bool; 2],
    kept: HashSet<Content>,
    /// What is true, whatever is remembered.
    newest: Content,
    seen: [Vec<Content>; 2],
    /// The site was allowed to have it, or has shown that it has it.
    entitled: bool,
}

impl World {
    fn new(uploads: Uploads, may_give: bool) -> Self {
        Self {
            uploads,
            here: None,
            there: None,
            young: [false; 2],
            agreed: None,
            intent: None,
            had: HashSet::new(),
            may_give,
            pushed: false,
            lost: [false; 2],
            kept: HashSet::new(),
            newest: 0,
            seen: [Vec::new(), Vec::new()],
            entitled: may_give,
        }
    }

    fn end(&mut self, at: At) -> &mut Option<Content> {
        match at {
            At::Here => &mut self.here,
            At::There => &mut self.there,
        }
    }

    fn put(&mut self, at: At, content: Option<Content>) {
        *self.end(at) = content;
        self.seen[at as usize].extend(content);
    }

    fn edit(&mut self, at: At) {
        self.newest += 1;
        let content = Some(self.newest);
        self.put(at, content);
    }

    fn has_seen(&self, at: At, content: Content) -> bool {
        self.seen[at as usize].contains(&content)
    }

    fn question(&self) -> Question {
        let end = |content: Option<Content>, young: bool| match content.map(digest) {
            None => End { settled: !young, ..End::NONE },
            Some(digest) => End { digest: Some(digest), fits: !young, settled: !young },
        };
        Question {
            kind: Kind::Conf,
            agreed: self.agreed,
            intent: self.intent,
            here: end(self.here, self.young[0]),
            there: end(self.there, self.young[1]),
            may_give: self.may_give || self.agreed.is_some(),
            uploads: self.uploads,
            was_before: self.there.is_some_and(|there| self.had.contains(&digest(there))),
            is_back: self.here.is_some_and(|here| self.had.contains(&digest(here))),
            pushed: self.pushed,
            lost_here: self.lost[0],
            lost_there: self.lost[1],
        }
    }

    fn round(&mut self, crash: Crash, race: Option<At>) -> Step {
        let question = self.question();
        let step = decide(&question);
        self.entitled |= self.here.is_some() && self.here == self.there || self.pushed;
        self.young = [false; 2];
        if crash == Crash::BeforeIntent {
            return step;
        }
        if let Some(intent) = step.intent() {
            self.had.extend(question.agreed());
            (self.agreed, self.intent) = (question.agreed(), Some(intent));
            if matches!(intent, Intent::Up(Some(_))) {
                (self.may_give, self.entitled) = (true, true);
            }
        }
        if crash == Crash::AfterIntent {
            return step;
        }
        if let Some(at) = race {
            self.edit(at);
        }
        if self.act(step) && crash != Crash::AfterStep {
            self.remember(step);
        }
        step
    }

    /// Does a step if what it replaces is still there. Checks what must never happen.
    fn act(&mut self, step: Step) -> bool {
        let (here, there) = (self.here, self.there);
        let is = |content: Option<Content>, digest_: Option<Digest>| content.map(digest) == digest_;
        match step {
            Step::Place { digest: what, over, keep } => {
                if !is(here, Some(what)) || !is(there, over) {
                    return false;
                }
                assert!(self.entitled || here == there, "what is withheld stays here");
                self.keep(keep.and(there));
                if let Some(there) = there.filter(|_| here != there && self.had.contains(&what)) {
                    assert!(self.kept.contains(&there), "{there} goes for an old content");
                }
                self.let_go(At::There, there);
                self.put(At::There, here);
            }
            Step::Remove { over, keep: _ } => {
                if !is(there, Some(over)) || here.is_some() {
                    return false;
                }
                assert!(self.pushed || !self.lost[0], "who lost it has not removed it");
                self.keep(there);
                self.put(At::There, None);
            }
            Step::Take { digest: what, over } => {
                if !is(there, Some(what)) || !is(here, over) {
                    return false;
                }
                assert_ne!(self.uploads, Uploads::Off);
                if let Some(here) = here {
                    assert_eq!(self.uploads, Uploads::Changed);
                    assert!(!self.had.contains(&what), "an old file over a newer one");
                    assert!(self.has_seen(At::There, here), "the site never saw what it would replace");
                }
                self.keep(here);
                self.put(At::Here, there);
            }
            Step::Drop { over } => {
                if !is(here, Some(over)) || there.is_some() {
                    return false;
                }
                assert_eq!(self.uploads, Uploads::Changed);
                assert!(!self.lost[1], "who lost it has not removed it");
                assert!(self.has_seen(At::There, here.unwrap()), "the site never saw what it would remove");
                self.keep(here);
                self.put(At::Here, None);
            }
            Step::Withhold => assert!(!self.pushed),
            Step::Prove { digest: what } => return is(here, Some(what)) && is(there, Some(what)),
            Step::Rest | Step::Agree(_) | Step::Forget | Step::Leave | Step::Wait(_) => {}
        }
        true
    }

    fn keep(&mut self, content: Option<Content>) {
        self.kept.extend(content);
    }

    /// Nothing goes that the other end never had and nobody kept.
    fn let_go(&self, at: At, content: Option<Content>) {
        let other = if at == At::Here { At::There } else { At::Here };
        if let Some(content) = content {
            assert!(
                self.has_seen(other, content) || self.kept.contains(&content),
                "{content} is gone for good from {at:?}"
            );
        }
    }

    fn remember(&mut self, step: Step) {
        let agreed = match step {
            Step::Agree(digest)
            | Step::Prove { digest }
            | Step::Take { digest, .. }
            | Step::Place { digest, .. } => Some(digest),
            Step::Forget | Step::Remove { .. } | Step::Drop { .. } => None,
            Step::Rest | Step::Withhold | Step::Leave | Step::Wait(_) => return,
        };
        self.had.extend(agreed);
        self.may_give |= agreed.is_some();
        self.entitled |= agreed.is_some();
        (self.agreed, self.intent, self.pushed) = (agreed, None, false);
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::Edit(at, young) => {
                self.edit(*at);
                self.young[*at as usize] = *young;
            }
            Event::Remove(at) => self.put(*at, None),
            Event::Old(at, index) => {
                let seen = &self.seen[*at as usize];
                if !seen.is_empty() {
                    let old = *index.get(seen);
                    self.put(*at, Some(old));
                }
            }
            Event::Round(crash) => {
                self.round(*crash, None);
            }
            Event::Raced(at) => {
                self.round(Crash::Never, Some(*at));
            }
            Event::Push => self.pushed = true,
            Event::Lost(lost) => self.lost = *lost,
            Event::Forget => {
                (self.agreed, self.intent, self.pushed) = (None, None, false);
                self.had.clear();
                // The claim is made anew, and the central has the file already.
                self.may_give = self.here.is_none();
                self.entitled = self.may_give;
            }
        }
    }

    /// Without further edits, and once what was lost is back, both ends come to rest.
    fn converges(&mut self) {
        self.lost = [false; 2];
        let steps: Vec<_> = (0..6).map(|_| self.round(Crash::Never, None)).collect();
        let last = steps[5];
        assert_eq!(steps[4], last, "at rest: {steps:?}");
        match last {
            Step::Rest => assert_eq!(self.here, self.there),
            Step::Withhold => assert!(!self.may_give && self.agreed.is_none()),
            Step::Leave => assert!(self.uploads == Uploads::Off && self.here.is_none()),
            other => panic!("{other:?} for ever"),
        }
    }
}

fn event() -> impl Strategy<Value = Event> {
    let at = || prop_oneof![Just(At::Here), Just(At::There)];
    let crash = prop_oneof![
        4 => Just(Crash::Never),
        1 => Just(Crash::BeforeIntent),
        2 => Just(Crash::AfterIntent),
        2 => Just(Crash::AfterStep),
    ];
    prop_oneof![
        4 => (at(), any::<bool>()).prop_map(|(at, young)| Event::Edit(at, young)),
        2 => at().prop_map(Event::Remove),
        2 => (at(), any::<prop::sample::Index>()).prop_map(|(at, index)| Event::Old(at, index)),
        6 => crash.prop_map(Event::Round),
        2 => at().prop_map(Event::Raced),
        1 => Just(Event::Push),
        1 => Just(Event::Forget),
        1 => any::<[bool; 2]>().prop_map(Event::Lost),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_ends_converge_and_nothing_newer_is_lost_to_something_older(
        uploads in prop_oneof![Just(Uploads::Off), Just(Uploads::First), Just(Uploads::Changed)],
        may_give in any::<bool>(),
        events in prop::collection::vec(event(), 0..40),
    ) {
        let mut world = World::new(uploads, may_give);
        for event in &events {
            world.apply(event);
        }
        world.converges();
    }

    #[test]
    fn what_the_central_changed_last_is_what_both_have(
        uploads in prop_oneof![Just(Uploads::Off), Just(Uploads::First), Just(Uploads::Changed)],
        events in prop::collection::vec(event(), 0..20),
    ) {
        let mut world = World::new(uploads, true);
        for event in &events {
            world.apply(event);
        }
        world.entitled = true;
        world.may_give = true;
        world.edit(At::Here);
        let newest = world.here;
        world.converges();
        prop_assert_eq!((world.here, world.there), (newest, newest));
    }
}
