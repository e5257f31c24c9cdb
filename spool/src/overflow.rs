//! What happens when there is no room: classes of packages, each with a policy and limits, and the agents in them.
//!
//! Names say what a package is, so they decide its class; how is the owner's matter ([`Overflow::new`]). The agent of
//! a package is what the data server takes for it. Nothing of this stands on the disk: a start with other classes
//! sorts what is stored anew.

use std::fmt;
use std::sync::Arc;

/// The class of every package that no other class takes.
pub const DATA_CLASS: &str = "data";

/// Longest name of a class, in bytes: the room for it in a loss record.
pub const CLASS_NAME_MAX: usize = 32;

/// The most classes beside [`DATA_CLASS`]. Owners refuse more: each is looked at for every package.
pub const CLASSES_MAX: usize = 64;

/// What to do with a package for which there is no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Its sender is told, and keeps it.
    #[default]
    Refuse,
    /// The oldest packages of the class that nobody is pulling go, each with a loss record.
    DropOldest,
}

/// How much of something there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// As much as fits the next larger limit.
    Unlimited,
    /// So much.
    Exactly(u64),
    /// A part of the next larger limit; for bytes the free space of the file system is such a limit, too.
    Share {
        /// From 0 to 100.
        percent: u8,
        /// However small the part is.
        at_least: u64,
    },
}

impl Allowance {
    /// The limit it makes in a whole, if it is the narrower one.
    pub(crate) fn of(self, whole: u64) -> Option<u64> {
        let most = match self {
            Self::Unlimited => return None,
            Self::Exactly(most) => most,
            Self::Share { percent, at_least } => {
                let part = u128::from(whole) * u128::from(percent.min(100)) / 100;
                u64::try_from(part).unwrap_or(whole).max(at_least)
            }
        };
        (most < whole).then_some(most)
    }
}

/// A class of packages. The limits count packages being written, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// As loss records and logs show it.
    pub name: Box<str>,
    /// What happens at a limit.
    pub policy: Policy,
    /// Bytes of the class.
    pub max_bytes: Allowance,
    /// Packages of the class.
    pub max_files: Allowance,
    /// Bytes of each agent in the class.
    pub agent_max_bytes: Allowance,
    /// Packages of each agent in the class.
    pub agent_max_files: Allowance,
}

impl Class {
    /// One without limits that refuses.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            policy: Policy::Refuse,
            max_bytes: Allowance::Unlimited,
            max_files: Allowance::Unlimited,
            agent_max_bytes: Allowance::Unlimited,
            agent_max_files: Allowance::Unlimited,
        }
    }
}

/// Gives the class of a sent name.
type Classify = Arc<dyn Fn(&[u8]) -> Option<usize> + Send + Sync>;

/// All classes, and which names belong to which.
#[derive(Clone)]
pub struct Overflow {
    classes: Arc<[Class]>,
    classify: Classify,
}

impl Overflow {
    /// `classify` gives the position in `others` of the class of a sent name; what has none is `data`.
    pub fn new(
        data: Class,
        others: Vec<Class>,
        classify: impl Fn(&[u8]) -> Option<usize> + Send + Sync + 'static,
    ) -> Self {
        let classes = std::iter::once(data).chain(others).take(1 + CLASSES_MAX).collect();
        Self { classes, classify: Arc::new(classify) }
    }

    pub(crate) fn classes(&self) -> impl ExactSizeIterator<Item = &Class> {
        self.classes.iter()
    }

    pub(crate) fn class(&self, id: ClassId) -> &Class {
        &self.classes[usize::from(id.0)]
    }

    pub(crate) fn class_of(&self, sent_name: &[u8]) -> ClassId {
        let known = |position: &usize| *position < self.classes.len();
        let position = (self.classify)(sent_name).map(|position| position + 1).filter(known).unwrap_or(0);
        ClassId(u8::try_from(position).expect("there are at most CLASSES_MAX others"))
    }
}

const _: () = assert!(CLASSES_MAX < u8::MAX as usize);

/// One class that refuses, and no limit but the spool's own.
impl Default for Overflow {
    fn default() -> Self {
        Self::new(Class::new(DATA_CLASS), Vec::new(), |_| None)
    }
}

impl fmt::Debug for Overflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&*self.classes).finish()
    }
}

/// The place of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ClassId(u8);

impl ClassId {
    pub(crate) fn position(self) -> usize {
        usize::from(self.0)
    }
}

/// The agent of a sent name, as the data server reads it: `^(.*)[\._]\d+\.data$`; without that, the whole name.
pub(crate) fn agent(name: &[u8]) -> &[u8] {
    let prefix = || {
        let stem = name.strip_suffix(b".data")?;
        let start = stem.iter().rposition(|byte| !byte.is_ascii_digit())?;
        (start + 1 < stem.len() && matches!(stem[start], b'.' | b'_')).then(|| &stem[..start])
    };
    prefix().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_is_what_stands_before_the_number() {
        for (name, expected) in [
            ("web.1700000000.data", "web"),
            ("web_12.data", "web"),
            ("a.b_1.2.data", "a.b_1"),
            (".5.data", ""),
            ("web.data", "web.data"),
            ("web12.data", "web12.data"),
            ("12.data", "12.data"),
            ("web..data", "web..data"),
            ("web.5.xml", "web.5.xml"),
            ("", ""),
        ] {
            assert_eq!(agent(name.as_bytes()), expected.as_bytes(), "{name}");
        }
    }

    #[test]
    fn an_allowance_is_a_limit_where_it_is_narrower_than_the_whole() {
        let quarter = Allowance::Share { percent: 25, at_least: 10 };
        let of = |allowance: Allowance| [8, 30, 400].map(|whole| allowance.of(whole));
        assert_eq!(of(Allowance::Unlimited), [None; 3]);
        assert_eq!(of(Allowance::Exactly(30)), [None, None, Some(30)]);
        assert_eq!(of(quarter), [None, Some(10), Some(100)]);
        assert_eq!(quarter.of(u64::MAX), Some(u64::MAX / 4));
    }

    #[test]
    fn a_name_without_a_class_is_data() {
        let classify =
            |name: &[u8]| if name == b"lost" { Some(7) } else { name.starts_with(b"inv").then_some(0) };
        let overflow = Overflow::new(Class::new(DATA_CLASS), vec![Class::new("inventory")], classify);
        let of = |name: &[u8]| overflow.class(overflow.class_of(name)).name.to_string();
        assert_eq!((of(b"inv.1.data"), of(b"web.1.data")), ("inventory".into(), "data".into()));
        assert_eq!(of(b"lost"), "data", "no such class");
    }
}
