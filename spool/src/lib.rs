//! Crash-safe package store.
//!
//! A spool is a directory in which one process keeps packages (buffered data files) until somebody has taken
//! them over. What it promises:
//!
//! - A package whose commit gave [`Stored::New`] is there, whole, after any crash or power cut, until its deletion.
//! - An upload that was not committed is never visible, not even in part.
//! - The same name with the same bytes is one package while it is there and for a while after its deletion; a name
//!   without a time is new sooner, also while it is there ([`Duplicates`]).
//! - Another package of the same name gets a listed name of its own (module `names`).
//!
//! State is the directory: `tmp/` while written, `ready/` when durable, then gone, or `corrupt/` for what does not
//! belong here; `seen/` is the record of deletions, `losses/` that of what did not get in or is gone otherwise, `lock` keeps a second process out. An operator can read all of
//! it with `ls` and `cat`, and rescue packages with `cp`.
//!
//! Everything here blocks on the disk: an async caller keeps [`Spool::commit`] and [`Spool::delete`] off its
//! reactor. [`Spool::begin`] and the writing of small drafts make no system call but an occasional `statvfs`.

pub mod durable;
pub mod parallel;
pub mod sabotage;
pub mod shared;

mod arrivals;
mod clock;
mod commit;
mod copies;
mod corrupt;
mod dead_letters;
mod draft;
mod entry;
mod error;
mod failed;
mod fs;
mod id;
mod index;
mod layout;
mod lease;
mod listing;
mod losses;
mod make_room;
#[cfg(test)]
mod model;
mod names;
mod oldest;
mod overflow;
mod poison;
mod quota;
mod recover;
mod seen;
mod seen_log;
mod segments;
mod store;
mod stream;
mod take_up;
mod verify;

pub use commit::Stored;
pub use corrupt::SetAside;
pub use dead_letters::{Condition, DeadLetter, DeadLetters, Stage};
pub use draft::Draft;
pub use error::{Bound, CommitError, DiskError, Full, OpenError};
pub use id::Id;
pub use index::Package;
pub use lease::Lease;
pub use listing::Listing;
pub use losses::{Loss, LossReason};
pub use make_room::Dropped;
pub use names::{LISTED_NAME_MAX, NAME_MAX, is_timed};
pub use overflow::{Allowance, CLASS_NAME_MAX, CLASSES_MAX, Class, DATA_CLASS, Overflow, Policy};
pub use recover::Recovery;
pub use seen::Duplicates;
pub use store::{SYNC_THREADS, Settings, Spool, Usage};
pub use stream::{Next, Stream};
pub use take_up::TakenUp;
pub use verify::{Damage, Unfit};
