//! The names of shared files: which are a pair's main file, of which kind, and which agents a package's name speaks of.

use std::fmt;

use md5::{Digest as _, Md5};
use tidegate_proto::Name;

/// The longest name of a main file, in bytes: the wire's. A longer one stays where it is.
const NAME_MAX: usize = 200;

/// The directory of all the `.md5`.
pub(crate) const MD5_FOLDER: &str = "md5";

/// What a pair is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    /// An agent's configuration, `<key>.conf`. The only kind that sites give, too.
    Conf,
    /// `<collection>.zip`, which a configuration names.
    Collection,
    /// `<reference>.rcmd`, likewise.
    Command,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Conf, Self::Collection, Self::Command];

    /// The ending of the main file, without the dot.
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::Conf => "conf",
            Self::Collection => "zip",
            Self::Command => "rcmd",
        }
    }

    /// The directory of the main file.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::Conf => "conf",
            Self::Collection => "collections",
            Self::Command => "commands",
        }
    }

    /// What operators are told.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Conf => "conf",
            Self::Collection => "collection",
            Self::Command => "command",
        }
    }
}

/// What a pair with this main file is for; `None`: it is no shared file's name.
pub(crate) fn kind_of(name: &[u8]) -> Option<Kind> {
    // What begins with a dot is somebody's temporary file.
    if name.len() > NAME_MAX || name.starts_with(b".") || Name::parse_listed(name).is_err() {
        return None;
    }
    let (stem, ending) = split(name)?;
    let kind = Kind::ALL.into_iter().find(|kind| kind.extension().as_bytes() == ending)?;
    (kind != Kind::Conf || Key::parse(stem).is_some()).then_some(kind)
}

/// The part before the ending, which the pair's `.md5` has as well.
pub(crate) fn stem(name: &[u8]) -> &[u8] {
    split(name).map_or(name, |(stem, _)| stem)
}

fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    let dot = name.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0)?;
    Some((&name[..dot], &name[dot + 1..]))
}

/// What an agent's files are called: the MD5 of its name, as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key([u8; 32]);

impl Key {
    /// The key of an agent of this name.
    pub(crate) fn of_agent(name: &[u8]) -> Self {
        let mut key = [0; 32];
        for (digits, byte) in key.chunks_exact_mut(2).zip(Md5::digest(name)) {
            digits[0] = HEX[usize::from(byte >> 4)];
            digits[1] = HEX[usize::from(byte & 15)];
        }
        Self(key)
    }

    /// A key as it is written.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let key: [u8; 32] = text.try_into().ok()?;
        key.iter().all(|digit| HEX.contains(digit)).then_some(Self(key))
    }

    /// The key in the name of a configuration.
    pub(crate) fn of_conf(name: &[u8]) -> Option<Self> {
        Self::parse(name.strip_suffix(b".conf")?)
    }

    /// The name of the agent's configuration.
    pub(crate) fn conf(self) -> Vec<u8> {
        [&self.0[..], b".conf"].concat()
    }

    #[cfg(test)]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

const HEX: [u8; 16] = *b"0123456789abcdef";

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.0).expect("a key is hexadecimal digits"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The agent that a package's name speaks of: what stands before its number.
pub(crate) fn agent_in(package: &[u8]) -> Option<&[u8]> {
    let rest = package.strip_suffix(b".data")?;
    let digits = rest.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (agent, separator) = rest.split_at(rest.len() - digits).0.split_last_chunk::<1>()?;
    (digits > 0 && !agent.is_empty() && matches!(separator, b"." | b"_")).then_some(agent)
}

/// The keys that are an agent's. Newer agents name their packages by their key, older ones by themselves, and nobody can
/// tell the two apart.
pub(crate) fn keys_of(agent: &[u8]) -> impl Iterator<Item = Key> {
    Key::parse(agent).into_iter().chain([Key::of_agent(agent)])
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB01: &str = "2f527604e1deff1329720282d8d3cfa1";

    #[test]
    fn a_main_file_is_known_by_its_name() {
        for (name, kind) in [
            (format!("{WEB01}.conf"), Some(Kind::Conf)),
            ("fc_1.zip".into(), Some(Kind::Collection)),
            ("0123.rcmd".into(), Some(Kind::Command)),
            ("a.b.zip".into(), Some(Kind::Collection)),
            ("web01.conf".into(), None),
            (format!("{}.conf", WEB01.to_uppercase()), None),
            (format!("{WEB01}0.conf"), None),
            (format!("{WEB01}.md5"), None),
            (".zip".into(), None),
            (".part.zip".into(), None),
            ("a/b.zip".into(), None),
            ("zip".into(), None),
            ("a.ZIP".into(), None),
            (String::new(), None),
            (format!("{}.zip", "x".repeat(NAME_MAX)), None),
        ] {
            assert_eq!(kind_of(name.as_bytes()), kind, "{name}");
        }
        let words = Kind::ALL.map(|kind| (kind.as_str(), kind.folder(), kind.extension()));
        let [conf, collection, command] = words;
        assert_eq!(conf, ("conf", "conf", "conf"));
        assert_eq!(collection, ("collection", "collections", "zip"));
        assert_eq!(command, ("command", "commands", "rcmd"));
        assert_eq!(stem(b"a.b.zip"), b"a.b");
        assert_eq!(stem(b"none"), b"none");
    }

    #[test]
    fn a_key_is_the_md5_of_the_agents_name() {
        // printf %s web01 | md5sum
        let key = Key::of_agent(b"web01");
        assert_eq!(key.to_string(), WEB01);
        assert_eq!(Key::parse(key.as_bytes()), Some(key));
        assert_eq!(Key::of_conf(&key.conf()), Some(key));
        assert_eq!(Key::of_conf(b"fc_1.zip"), None);
    }

    #[test]
    fn a_package_speaks_of_what_stands_before_its_number() {
        for (package, agent) in [
            ("web01.1700000000.data", Some("web01")),
            ("web01_0.data", Some("web01")),
            ("a.b_c.7.data", Some("a.b_c")),
            ("web01..7.data", Some("web01.")),
            ("web01.data", None),
            ("web017.data", None),
            (".7.data", None),
            ("7.data", None),
            ("web01.7.xml", None),
        ] {
            assert_eq!(agent_in(package.as_bytes()), agent.map(str::as_bytes), "{package}");
        }
    }

    #[test]
    fn an_agent_that_is_called_like_a_key_has_both() {
        assert_eq!(keys_of(b"web01").collect::<Vec<_>>(), [Key::of_agent(b"web01")]);
        let (key, of_key) = (Key::of_agent(b"web01"), Key::of_agent(Key::of_agent(b"web01").as_bytes()));
        assert_eq!(keys_of(key.as_bytes()).collect::<Vec<_>>(), [key, of_key]);
    }
}
