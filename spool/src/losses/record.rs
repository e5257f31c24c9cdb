//! One loss record: what it says, and how it lies on the disk.

use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

use crate::clock::{Millis, millis, system_time};
use crate::id::Id;
use crate::overflow::CLASS_NAME_MAX;
use crate::segments;

pub(super) const RECORD_BYTES: usize = 96;

/// Stands for all classes where there are too many to tell them apart.
pub(super) const ANY_CLASS: &str = "any";

/// Classes and reasons that merged records tell apart. Beyond it the classes become [`ANY_CLASS`].
pub(super) const GROUPS_MAX: usize = if cfg!(test) { 4 } else { 256 };

/// Why packages did not get in, or are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum LossReason {
    /// Refused: the spool, or the file system, was full.
    Full,
    /// Refused: the class had reached its share.
    ClassQuota,
    /// Refused: the agent had reached its share.
    AgentQuota,
    /// Stored, and dropped to make room for newer ones.
    Dropped,
    /// Stored, and found changed, cut or missing; what is left of it lies among the dead letters.
    Corrupt,
    /// Removed by an operator.
    Purged,
    /// Refused: larger than what is taken.
    TooBig,
    /// Refused: the name cannot be stored.
    BadName,
    /// Refused: a write to the disk failed.
    Disk,
    /// Refused: what was sent as an archive is none.
    BadArchive,
}

impl LossReason {
    const ALL: [(Self, u8, &str); 10] = [
        (Self::Full, 1, "full"),
        (Self::ClassQuota, 2, "class_quota"),
        (Self::AgentQuota, 3, "agent_quota"),
        (Self::Dropped, 4, "dropped"),
        (Self::Corrupt, 5, "corrupt"),
        (Self::Purged, 6, "purged"),
        (Self::TooBig, 7, "too_big"),
        (Self::BadName, 8, "bad_name"),
        (Self::Disk, 9, "disk"),
        (Self::BadArchive, 10, "bad_archive"),
    ];

    /// Stands for it on disk and on the wire; never changes.
    pub fn code(self) -> u8 {
        Self::ALL.iter().find(|(reason, ..)| *reason == self).map_or(0, |(_, code, _)| *code)
    }

    /// What that stands for; `None` in the records of a later version.
    pub fn of_code(code: u8) -> Option<Self> {
        Self::ALL.iter().find(|(_, it, _)| *it == code).map(|(reason, ..)| *reason)
    }
}

/// The word that listings and logs use.
impl fmt::Display for LossReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = Self::ALL.iter().find(|(reason, ..)| reason == self).map_or("unknown", |(.., word)| word);
        f.pad(word)
    }
}

/// Packages that did not get in, or are gone, for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The record's number, of the run that wrote it. Never used twice; later records have greater ones.
    pub id: Id,
    /// What sort of packages; at most 32 bytes.
    pub class: Box<str>,
    /// Why.
    pub reason: LossReason,
    /// How many.
    pub packages: u64,
    /// Their bytes; of refused ones as announced.
    pub bytes: u64,
    /// The earliest of their times: of the refusal, or of the arrival of what had been stored.
    pub first: SystemTime,
    /// The latest.
    pub last: SystemTime,
}

impl Loss {
    /// What happened to one package, without a number yet.
    pub(crate) fn of(class: &str, reason: LossReason, bytes: u64, time: Millis) -> Self {
        let id = Id { run: 0, counter: 0 };
        let time = system_time(time);
        Self { id, class: short(class).into(), reason, packages: 1, bytes, first: time, last: time }
    }

    /// Counts the packages of `other` as well; the greater number stays.
    pub(crate) fn add(&mut self, other: &Self) {
        self.id = self.id.max(other.id);
        self.packages = self.packages.saturating_add(other.packages);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }

    pub(super) fn encode(&self) -> [u8; RECORD_BYTES] {
        let class = short(&self.class);
        let mut bytes = fields([
            self.id.run,
            self.id.counter,
            self.reason.code().into(),
            self.packages,
            self.bytes,
            millis(self.first),
            millis(self.last),
        ]);
        bytes[CLASS_AT..][..class.len()].copy_from_slice(class.as_bytes());
        segments::seal(bytes)
    }

    /// Of a whole record; `None` for one of another version.
    pub(super) fn decode(bytes: &[u8; RECORD_BYTES]) -> Option<Self> {
        let class = &bytes[CLASS_AT..][..CLASS_NAME_MAX];
        let end = class.iter().position(|&byte| byte == 0).unwrap_or(CLASS_NAME_MAX);
        Some(Self {
            id: id_of(bytes),
            class: String::from_utf8_lossy(&class[..end]).into(),
            reason: u8::try_from(field(bytes, 2)).ok().and_then(LossReason::of_code)?,
            packages: field(bytes, 3),
            bytes: field(bytes, 4),
            first: system_time(field(bytes, 5)),
            last: system_time(field(bytes, 6)),
        })
    }
}

/// Where the class stands: after the seven numbers.
const CLASS_AT: usize = 7 * 8;
const _: () = assert!(CLASS_AT + CLASS_NAME_MAX + 8 == RECORD_BYTES);

pub(super) fn fields(numbers: [u64; 7]) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_be_bytes());
    }
    bytes
}

pub(super) fn field(bytes: &[u8; RECORD_BYTES], number: usize) -> u64 {
    u64::from_be_bytes(bytes.as_chunks::<8>().0[number])
}

pub(super) fn id_of(bytes: &[u8; RECORD_BYTES]) -> Id {
    Id { run: field(bytes, 0), counter: field(bytes, 1) }
}

/// What stands at the head of a segment: how many records, carried over from older ones, follow.
pub(super) fn head(carried: usize) -> [u8; RECORD_BYTES] {
    segments::seal(fields([0, 0, HEAD, carried as u64, 0, 0, 0]))
}

/// The reason's place in a head.
const HEAD: u64 = u64::MAX;

pub(super) fn head_of(bytes: &[u8; RECORD_BYTES]) -> Option<usize> {
    (field(bytes, 2) == HEAD).then(|| usize::try_from(field(bytes, 3)).unwrap_or(usize::MAX))
}

fn short(class: &str) -> &str {
    let end = (0..=class.len().min(CLASS_NAME_MAX)).rev().find(|&end| class.is_char_boundary(end));
    &class[..end.unwrap_or(0)]
}

/// Merges records by class and reason. Each keeps the number of the newest one in it, so they stay in order.
pub(super) fn merge(records: &mut Vec<Loss>) {
    let mut merged = group(std::mem::take(records));
    if merged.len() > GROUPS_MAX {
        merged = group(merged.into_iter().map(|loss| Loss { class: ANY_CLASS.into(), ..loss }));
    }
    merged.sort_unstable_by_key(|loss| loss.id);
    *records = merged;
}

/// One record for each class and reason.
pub(super) fn group(records: impl IntoIterator<Item = Loss>) -> Vec<Loss> {
    let mut groups = BTreeMap::<_, Loss>::new();
    for loss in records {
        let group = groups.entry((loss.class.clone(), loss.reason));
        group.and_modify(|sum| sum.add(&loss)).or_insert(loss);
    }
    groups.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(counter: u64, class: &str, reason: LossReason) -> Loss {
        Loss { id: Id { run: 7, counter }, ..Loss::of(class, reason, 10 * counter, 1_000 + counter) }
    }

    #[test]
    fn every_record_reads_back() {
        for (reason, ..) in LossReason::ALL {
            for class in ["", "data", "é".repeat(16).as_str()] {
                let loss = loss(3, class, reason);
                let bytes = loss.encode();
                assert_eq!((Loss::decode(&bytes), head_of(&bytes)), (Some(loss), None));
            }
        }
        assert_eq!((head_of(&head(5)), Loss::decode(&head(5))), (Some(5), None));
    }

    #[test]
    fn a_long_class_is_cut_between_characters() {
        assert_eq!(&*loss(1, &"é".repeat(17), LossReason::Full).class, "é".repeat(16));
        assert_eq!(loss(1, &format!("x{}", "é".repeat(16)), LossReason::Full).class.len(), 31);
    }

    #[test]
    fn merging_forgets_no_package() {
        let mut records: Vec<_> = (0..10)
            .map(|counter| {
                loss(counter, "data", [LossReason::Full, LossReason::Dropped][counter as usize % 2])
            })
            .collect();
        records.truncate(6);
        merge(&mut records);
        let shown: Vec<_> = records.iter().map(|loss| (loss.id.counter, loss.packages, loss.bytes)).collect();
        assert_eq!(shown, [(4, 3, 60), (5, 3, 90)]);
        assert_eq!((millis(records[0].first), millis(records[0].last)), (1_000, 1_004));
    }

    #[test]
    fn too_many_classes_become_one() {
        let mut records: Vec<_> =
            (0..9).map(|counter| loss(counter, &counter.to_string(), LossReason::Full)).collect();
        merge(&mut records);
        let shown: Vec<_> = records.iter().map(|loss| (&*loss.class, loss.packages)).collect();
        assert_eq!(shown, [(ANY_CLASS, 9)]);
    }
}
