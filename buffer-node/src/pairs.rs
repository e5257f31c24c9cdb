//! Which shared files are pairs: a main file, known by its extension, and the `.md5` of the same stem.
//!
//! Where they lie is the filters' business: a name is that of a main file only where the filters put it beside all others
//! of its extension, and the `.md5` of its stem beside all others of that. What an agent asks for by these names is
//! then what lies there. This module decides only; it touches no file.

use tidegate_proto::{InvalidName, Name};

use crate::filters::Filters;

/// The extensions of main files: configurations, collections, commands.
const MAIN: [&str; 3] = ["conf", "zip", "rcmd"];

/// The extension of the other half.
const MD5: &str = "md5";

/// A stem as agents make it, to ask the filters about an extension.
const STEM: &str = "0123456789abcdef0123456789abcdef";

/// The pairs of a node's filters.
#[derive(Debug, Clone)]
pub(crate) struct Pairs {
    filters: Filters,
    kinds: Vec<Kind>,
    md5_directory: Box<str>,
}

/// Main files of one extension.
#[derive(Debug, Clone)]
pub(crate) struct Kind {
    pub(crate) extension: &'static str,
    pub(crate) directory: Box<str>,
}

/// The two files of a pair, each with its directory.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Halves<'a> {
    pub(crate) directory: &'a str,
    pub(crate) md5_directory: &'a str,
    pub(crate) md5_name: Box<[u8]>,
}

/// What a shared file is to its pair.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Half {
    /// The main file; a configuration, if so.
    Main { is_conf: bool },
    /// The `.md5` of whichever of these names are there.
    Md5 { of: Vec<Box<[u8]>> },
    /// In no pair.
    Neither,
}

/// Why a name is not that of a main file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoPair {
    #[error("{0}")]
    Name(#[from] InvalidName),
    #[error("the name ends in none of .conf, .zip and .rcmd")]
    Extension,
    #[error("the node's `filters` do not put files of this name into a directory of their extension")]
    Directory,
}

impl Pairs {
    /// `None` where the filters leave no place for any pair.
    pub(crate) fn of(filters: &Filters) -> Option<Self> {
        let directory_of =
            |extension: &str| filters.directory_of(format!("{STEM}.{extension}").as_bytes()).map(Box::from);
        let kinds: Vec<Kind> = MAIN
            .into_iter()
            .filter_map(|extension| Some(Kind { extension, directory: directory_of(extension)? }))
            .collect();
        let md5_directory = directory_of(MD5)?;
        (!kinds.is_empty()).then(|| Self { filters: filters.clone(), kinds, md5_directory })
    }

    /// The extensions that have a place.
    pub(crate) fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// Where every `.md5` lies.
    pub(crate) fn md5_directory(&self) -> &str {
        &self.md5_directory
    }

    /// The pair of a main file. The name may come from anybody.
    pub(crate) fn halves(&self, name: &[u8]) -> Result<Halves<'_>, NoPair> {
        Name::parse(name)?;
        let (stem, extension) = split(name).ok_or(NoPair::Extension)?;
        if !MAIN.iter().any(|main| main.as_bytes() == extension) {
            return Err(NoPair::Extension);
        }
        let kind = self.kinds.iter().find(|kind| kind.extension.as_bytes() == extension);
        let kind = kind.ok_or(NoPair::Directory)?;
        let md5_name = with_extension(stem, MD5);
        let is_so = self.filters.directory_of(name) == Some(&kind.directory)
            && self.filters.directory_of(&md5_name) == Some(&self.md5_directory);
        if !is_so {
            return Err(NoPair::Directory);
        }
        Ok(Halves { directory: &kind.directory, md5_directory: &self.md5_directory, md5_name })
    }

    /// What the file `name` is to its pair.
    pub(crate) fn half(&self, name: &[u8]) -> Half {
        match split(name) {
            Some((stem, extension)) if extension == MD5.as_bytes() => {
                let mains = self.kinds.iter().map(|kind| with_extension(stem, kind.extension));
                let of: Vec<_> = mains.filter(|main| self.halves(main).is_ok()).collect();
                if of.is_empty() { Half::Neither } else { Half::Md5 { of } }
            }
            Some((_, extension)) if self.halves(name).is_ok() => Half::Main { is_conf: extension == b"conf" },
            _ => Half::Neither,
        }
    }
}

/// What both halves of a pair have in common: the name without its extension.
pub(crate) fn stem(name: &[u8]) -> &[u8] {
    split(name).map_or(name, |(stem, _)| stem)
}

fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    let dot = name.iter().rposition(|byte| *byte == b'.')?;
    (dot > 0).then(|| (&name[..dot], &name[dot + 1..]))
}

fn with_extension(stem: &[u8], extension: &str) -> Box<[u8]> {
    [stem, b".", extension.as_bytes()].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::INSTALLED;

    fn pairs(filters: &str) -> Option<Pairs> {
        Pairs::of(&Filters::parse(filters).expect("filters"))
    }

    #[test]
    fn main_files_are_known_by_extension_and_directory() {
        let pairs = pairs(INSTALLED).expect("pairs");
        let halves =
            |name: &str| pairs.halves(name.as_bytes()).map(|halves| (halves.directory, halves.md5_name));
        for (name, directory, md5) in [
            ("0f.conf", "conf", "0f.md5"),
            ("fc_1.zip", "collections", "fc_1.md5"),
            ("7.rcmd", "commands", "7.md5"),
            ("a.b.conf", "conf", "a.b.md5"),
        ] {
            assert_eq!(halves(name), Ok((directory, Box::from(md5.as_bytes()))), "{name}");
        }
        for name in ["a.md5", "a.lock", "a.data", "conf", ".conf", "a.conf.", "a", "a.CONF"] {
            assert_eq!(halves(name), Err(NoPair::Extension), "{name}");
        }
        // An earlier filter takes the name, or its digest's.
        for name in ["host.conf.zip", "a.zip.rcmd", "x.conf.y.rcmd"] {
            assert_eq!(halves(name), Err(NoPair::Directory), "{name}");
        }
        for name in ["../a.conf", "a/b.conf", "..", "", "a\0.conf", "a\n.conf", " a.conf"] {
            assert!(matches!(halves(name), Err(NoPair::Name(_))), "{name}");
        }
    }

    #[test]
    fn a_digest_belongs_to_every_main_file_of_its_stem() {
        let pairs = pairs(INSTALLED).expect("pairs");
        let of: Vec<Box<[u8]>> = ["a.conf", "a.zip", "a.rcmd"].map(|name| Box::from(name.as_bytes())).into();
        assert_eq!(pairs.half(b"a.md5"), Half::Md5 { of });
        assert_eq!(pairs.half(b"a.conf"), Half::Main { is_conf: true });
        assert_eq!(pairs.half(b"a.zip"), Half::Main { is_conf: false });
        for name in [&b"a.lock"[..], b".md5", b"a.conf.md5", b"a"] {
            assert_eq!(pairs.half(name), Half::Neither, "{}", String::from_utf8_lossy(name));
        }
    }

    #[test]
    fn filters_decide_what_has_a_place() {
        let only_configurations = pairs(r"^[0-9a-f]{32}\.(conf|md5)$:agents").expect("pairs");
        assert_eq!(only_configurations.kinds().len(), 1);
        let name = format!("{STEM}.conf");
        let halves = only_configurations.halves(name.as_bytes()).expect("a pair");
        assert_eq!((halves.directory, halves.md5_directory), ("agents", "agents"));
        assert_eq!(only_configurations.halves(b"web01.conf"), Err(NoPair::Directory));
        assert_eq!(only_configurations.halves(b"a.zip"), Err(NoPair::Directory));
        assert!(pairs(r".*\.conf:conf").is_none(), "no place for digests");
        assert!(pairs(r".*\.md5:md5").is_none(), "for nothing but digests");
    }
}
