//! What happens to a pair in a random life.

use proptest::prelude::*;

use super::disk::Fuse;
use super::hand::{CONTENTS, Edit};

pub(super) type Edits = Vec<(u32, Edit)>;

#[derive(Clone, Debug)]
pub(super) enum Step {
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
pub(super) enum What {
    Place(usize),
    Remove,
    Complete,
}

/// What a change expects to find.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expect {
    /// What is there.
    Right,
    Content(usize),
    Nothing,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Crash {
    /// Of the process only.
    Process,
    /// Of the power, with a seed for what is lost.
    Power(u64),
    /// Of the power, and all is lost that was not made durable.
    Blackout,
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

pub(super) fn step() -> impl Strategy<Value = Step> {
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
