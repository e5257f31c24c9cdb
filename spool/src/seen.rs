//! Which deleted packages are remembered, so that a repeat of one is recognised; and for how long one is.
//!
//! A sender that lost our final answer sends the same file again, and it may be pulled and deleted before that. So
//! name and bytes of a deleted package are remembered: long when the name carries a time, since only a repeat has
//! that name again; briefly otherwise, since some senders give all their files one name and may well report the
//! same bytes an hour later. So with such a name a package is soon a new one even while the last is not yet pulled.
//!
//! The listed names of deleted packages without a time are remembered as long as the others: a package that is new
//! although its like was deleted gets another one, so that no puller takes it for the one that it delivered before.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::clock::{Millis, millis_of};
use crate::names;

/// A deletion or an arrival may seem to lie this far ahead, after the clock was set back a little. One further ahead
/// was written under a wrong clock: it is not believed, because it could swallow packages for as long as the clock
/// was wrong.
const CLOCK_TOLERANCE: Millis = 60 * 60 * 1000;

/// How long a repeat of a package is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duplicates {
    /// For names whose number is a time (nine digits or more), after the deletion. While it is stored: always.
    pub timed: Duration,
    /// For all other names, after the newest arrival or deletion of an equal package. What comes later is a new one,
    /// also while older ones are stored: a sender may report the same all day while nobody pulls.
    pub other: Duration,
    /// Most deleted packages remembered; beyond it the oldest is forgotten.
    pub max_entries: usize,
}

impl Default for Duplicates {
    fn default() -> Self {
        Self {
            timed: Duration::from_secs(7 * 24 * 60 * 60),
            other: Duration::from_secs(15 * 60),
            max_entries: 1_000_000,
        }
    }
}

impl Duplicates {
    pub(crate) fn kept(&self, timed: bool) -> Millis {
        millis_of(if timed { self.timed } else { self.other })
    }

    /// How long a deletion is remembered at all. One without a time is so for its listed name's sake, too.
    pub(crate) fn kept_at_all(&self, timed: bool) -> Millis {
        self.kept(true).max(self.kept(timed))
    }
}

/// Stands for name as sent, digest and size of a package.
pub(crate) type Key = u64;

pub(crate) fn key(name: &[u8], digest: u64, size: u64) -> Key {
    let mut hasher = Sha256::new();
    hasher.update(digest.to_be_bytes());
    hasher.update(size.to_be_bytes());
    hasher.update(name);
    first_eight(hasher)
}

/// The first eight bytes of a SHA-256.
pub(crate) fn first_eight(hasher: Sha256) -> u64 {
    let digest: [u8; 32] = hasher.finalize().into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// Whether a deletion or an arrival at `time` is `kept` at `now`.
pub(crate) fn remembered(time: Millis, kept: Millis, now: Millis) -> bool {
    now.saturating_sub(time) < kept && time.saturating_sub(now) <= CLOCK_TOLERANCE
}

/// A deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deletion {
    pub(crate) key: Key,
    pub(crate) time: Millis,
    /// The name sent carries a time.
    pub(crate) timed: bool,
    /// A repeat of it is recognised: it went to somebody, and was not dropped.
    pub(crate) repeats: bool,
    /// The step whose name comes after the one it was listed by ([`names::step_after`]).
    pub(crate) next_step: u32,
}

/// What is remembered of the last deletion of equal packages. That an earlier one counted for repeats need not be: while
/// it did, nothing equal was stored that could be deleted.
#[derive(Clone, Copy)]
struct Deleted {
    time: Millis,
    repeats: bool,
    next_step: u32,
}

/// The deleted packages remembered, in memory.
pub(crate) struct Seen {
    duplicates: Duplicates,
    deleted: HashMap<Key, Deleted>,
    /// In the order of deletion; apart, because repeats are recognised for different times.
    timed: VecDeque<(Key, Millis)>,
    other: VecDeque<(Key, Millis)>,
}

impl Seen {
    pub(crate) fn new(duplicates: Duplicates) -> Self {
        Self { duplicates, deleted: HashMap::new(), timed: VecDeque::new(), other: VecDeque::new() }
    }

    pub(crate) fn len(&self) -> u64 {
        self.deleted.len() as u64
    }

    /// Remembers a deleted package.
    pub(crate) fn remember(&mut self, deletion: &Deletion) {
        let Deletion { key, time, timed, repeats, next_step } = *deletion;
        let last = self.next_step(key).unwrap_or(next_step);
        let next_step = names::later_step(last, next_step);
        self.deleted.insert(key, Deleted { time, repeats, next_step });
        self.queue(timed).push_back((key, time));
    }

    /// The step whose name comes after those that equal packages had, if one is remembered.
    pub(crate) fn next_step(&self, key: Key) -> Option<u32> {
        self.deleted.get(&key).map(|deleted| deleted.next_step)
    }

    /// Whether a package sent as `name`, with this key, was deleted a while ago.
    pub(crate) fn repeats(&self, key: Key, name: &[u8], now: Millis) -> bool {
        let kept = self.duplicates.kept(names::timed(name));
        self.deleted.get(&key).is_some_and(|last| last.repeats && remembered(last.time, kept, now))
    }

    /// Whether a package sent as `name` is a repeat of an equal one that is stored since `arrival`.
    pub(crate) fn repeats_stored(&self, arrival: Millis, name: &[u8], now: Millis) -> bool {
        names::timed(name) || remembered(arrival, self.duplicates.kept(false), now)
    }

    /// Forgets what is too old, or too much.
    pub(crate) fn prune(&mut self, now: Millis) {
        for timed in [true, false] {
            let kept = self.duplicates.kept_at_all(timed);
            let old =
                |front: Option<&(Key, Millis)>| front.is_some_and(|&(_, time)| !remembered(time, kept, now));
            while old(self.queue(timed).front()) {
                self.forget_front(timed);
            }
        }
        let for_repeats = self.duplicates.kept(false);
        while self.timed.len() + self.other.len() > self.duplicates.max_entries {
            let timed = match (self.timed.front(), self.other.front()) {
                // What is kept for its name only goes first.
                (_, Some((_, other))) if !remembered(*other, for_repeats, now) => false,
                (Some((_, timed)), Some((_, other))) => timed <= other,
                (timed, _) => timed.is_some(),
            };
            self.forget_front(timed);
        }
    }

    fn queue(&mut self, timed: bool) -> &mut VecDeque<(Key, Millis)> {
        if timed { &mut self.timed } else { &mut self.other }
    }

    fn forget_front(&mut self, timed: bool) {
        if let Some((key, time)) = self.queue(timed).pop_front()
            // A later deletion under the same key has its own place in the queue.
            && self.deleted.get(&key).is_some_and(|last| last.time == time)
        {
            self.deleted.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Millis = 60_000;
    const DAY: Millis = 24 * 60 * MINUTE;
    const NOW: Millis = 1_700_000_000_000;

    fn seen(max_entries: usize) -> Seen {
        Seen::new(Duplicates { max_entries, ..Duplicates::default() })
    }

    fn remember(seen: &mut Seen, key: Key, timed: bool, time: Millis) {
        seen.remember(&Deletion { key, time, timed, repeats: true, next_step: 0 });
    }

    #[test]
    fn names_with_a_time_are_kept_for_days_others_for_minutes() {
        let mut seen = seen(10);
        remember(&mut seen, 1, true, NOW);
        assert!(seen.repeats(1, b"web.1700000000.data", NOW + 7 * DAY - 1));
        assert!(!seen.repeats(1, b"web.1700000000.data", NOW + 7 * DAY));
        assert!(seen.repeats(1, b"host.0.data", NOW + 15 * MINUTE - 1));
        assert!(!seen.repeats(1, b"host.0.data", NOW + 15 * MINUTE));
        assert!(!seen.repeats(2, b"web.1700000000.data", NOW));
    }

    #[test]
    fn what_is_old_is_forgotten() {
        let mut seen = seen(10);
        remember(&mut seen, 1, true, NOW);
        remember(&mut seen, 2, false, NOW);
        seen.prune(NOW + 15 * MINUTE);
        assert_eq!(seen.len(), 2, "for its name's sake");
        seen.prune(NOW + 7 * DAY);
        assert_eq!((seen.len(), seen.timed.len(), seen.other.len()), (0, 0, 0));
    }

    #[test]
    fn beyond_the_limit_the_oldest_goes_first() {
        let mut seen = seen(2);
        remember(&mut seen, 1, false, NOW);
        remember(&mut seen, 2, true, NOW + 1);
        remember(&mut seen, 3, false, NOW + 2);
        seen.prune(NOW + 3);
        let left = [1, 2, 3].map(|key| seen.repeats(key, b"host.0.data", NOW + 3));
        assert_eq!(left, [false, true, true]);
    }

    #[test]
    fn what_is_kept_for_its_name_only_goes_before_that() {
        let mut seen = seen(1);
        remember(&mut seen, 1, true, NOW);
        remember(&mut seen, 2, false, NOW + MINUTE);
        seen.prune(NOW + 16 * MINUTE);
        assert!(seen.repeats(1, b"web.1700000000.data", NOW + 16 * MINUTE));
        assert_eq!(seen.next_step(2), None);
    }

    #[test]
    fn names_go_on_after_the_last_one_and_a_dropped_one_is_no_repeat() {
        let mut seen = seen(10);
        let deletion = Deletion { key: 1, time: NOW, timed: false, repeats: true, next_step: 6 };
        seen.remember(&deletion);
        seen.remember(&Deletion { time: NOW + 1, repeats: false, next_step: 5, ..deletion });
        assert!(!seen.repeats(1, b"host.0.data", NOW + 2));
        assert_eq!(seen.next_step(1), Some(6), "the later of the two");
    }

    #[test]
    fn a_second_deletion_outlives_the_first() {
        let mut seen = seen(10);
        remember(&mut seen, 1, false, NOW);
        remember(&mut seen, 1, false, NOW + 14 * MINUTE);
        seen.prune(NOW + 16 * MINUTE);
        assert!(seen.repeats(1, b"host.0.data", NOW + 16 * MINUTE));
    }

    #[test]
    fn deletions_from_a_wrong_future_are_not_believed() {
        let mut seen = seen(10);
        remember(&mut seen, 1, true, NOW + 30 * MINUTE);
        remember(&mut seen, 2, true, NOW + 365 * DAY);
        remember(&mut seen, 3, true, Millis::MAX);
        assert!(seen.repeats(1, b"host.0.data", NOW), "the clock was set back half an hour");
        assert!(!seen.repeats(2, b"host.0.data", NOW));
        assert!(!seen.repeats(3, b"host.0.data", NOW));
        seen.prune(0);
        assert_eq!(seen.len(), 0);
    }

    #[test]
    fn while_stored_a_name_with_a_time_is_a_repeat_and_another_for_minutes() {
        let repeats = |name: &[u8], now| seen(10).repeats_stored(NOW, name, now);
        assert!(repeats(b"web.1700000000.data", NOW + 365 * DAY) && repeats(b"web.1700000000.data", 0));
        assert!(
            repeats(b"host.0.data", NOW + 15 * MINUTE - 1) && !repeats(b"host.0.data", NOW + 15 * MINUTE)
        );
        assert!(repeats(b"host.0.data", NOW - 60 * MINUTE), "the clock was set back an hour");
        assert!(!repeats(b"host.0.data", NOW - 61 * MINUTE), "it arrived under a wrong clock");
    }

    #[test]
    fn a_key_depends_on_name_bytes_and_size() {
        let keys = [key(b"a", 1, 2), key(b"b", 1, 2), key(b"a", 2, 2), key(b"a", 1, 3)];
        for (position, one) in keys.iter().enumerate() {
            assert!(!keys[..position].contains(one));
        }
    }
}
