//! Which names are shared files, and in which directory they lie.
//!
//! The filter string is the stock server's: `regexp:dir;regexp:dir`, the first match wins and a match
//! may lie anywhere in the name. A name that nothing matches is a data package. Names are bytes, so the
//! expressions work on bytes. This module decides only; it touches no file.

use regex::bytes::{Regex, RegexBuilder};

use crate::layout;

/// The set a stock installation comes with.
pub(crate) const INSTALLED: &str =
    r".*\.conf:conf;.*\.md5:md5;.*\.zip:collections;.*\.lock:trans;.*\.rcmd:commands";

/// Beyond this many bytes a compiled expression is refused: it is a mistake, not a filter.
const COMPILED_SIZE_MAX: usize = 1 << 20;

/// The ordered filters of a node.
#[derive(Debug, Clone)]
pub(crate) struct Filters(Vec<Filter>);

#[derive(Debug, Clone)]
struct Filter {
    pattern: Regex,
    directory: Box<str>,
}

impl Filters {
    /// Reads a filter string; every bad filter is reported.
    pub(crate) fn parse(text: &str) -> Result<Self, Vec<FilterError>> {
        let mut filters = Vec::new();
        let mut errors = Vec::new();
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            match Filter::parse(part) {
                Ok(filter) => filters.push(filter),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(Self(filters)) } else { Err(errors) }
    }

    /// The directory of the shared file `name`; `None` means that it is a data package.
    pub(crate) fn directory_of(&self, name: &[u8]) -> Option<&str> {
        self.0.iter().find(|filter| filter.pattern.is_match(name)).map(|filter| &*filter.directory)
    }

    /// Every directory once, in the order of the filters.
    pub(crate) fn directories(&self) -> Vec<&str> {
        let mut directories: Vec<&str> = Vec::new();
        for filter in &self.0 {
            if !directories.contains(&&*filter.directory) {
                directories.push(&filter.directory);
            }
        }
        directories
    }
}

/// Whether agents name data this way, `[._][0-9]+\.data$`: what a sync server pulls.
pub(crate) fn is_data_name(name: &[u8]) -> bool {
    let Some(stem) = name.strip_suffix(b".data") else { return false };
    let digits = stem.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    digits > 0 && matches!(stem[..stem.len() - digits].last(), Some(b'.' | b'_'))
}

impl Filter {
    fn parse(part: &str) -> Result<Self, FilterError> {
        let Some((pattern, directory)) = part.rsplit_once(':') else {
            return Err(FilterError::NoDirectory(part.into()));
        };
        if let Some(extension) = missing_dot(pattern) {
            return Err(FilterError::MissingDot { pattern: pattern.into(), extension: extension.into() });
        }
        check_directory(directory)?;
        let pattern = RegexBuilder::new(pattern)
            .unicode(false)
            .size_limit(COMPILED_SIZE_MAX)
            .build()
            .map_err(|error| FilterError::Pattern { pattern: pattern.into(), error })?;
        Ok(Self { pattern, directory: directory.into() })
    }
}

/// The pasted form `.*\conf`, in which the backslash was meant for a dot that is not there: returns `conf`.
fn missing_dot(pattern: &str) -> Option<&str> {
    let word = pattern.strip_prefix(r".*\")?.trim_end_matches('$');
    (word.len() >= 2 && word.bytes().all(|byte| byte.is_ascii_alphanumeric())).then_some(word)
}

fn check_directory(directory: &str) -> Result<(), FilterError> {
    let plain = directory.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    if directory.is_empty() || directory.starts_with('.') || !plain {
        Err(FilterError::Directory(directory.into()))
    } else if layout::RESERVED.contains(&directory) {
        Err(FilterError::Reserved(directory.into()))
    } else {
        Ok(())
    }
}

/// Why a filter cannot be used, and what to write instead.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilterError {
    #[error("filter `{0}` names no directory; write `regexp:directory`, as in `.*\\.conf:conf`")]
    NoDirectory(Box<str>),
    #[error(
        "filter `{pattern}` lacks a dot and matches no `.{extension}` file: a stock server reads `\\{0}` as a \
         special character, so such files lie beside its data; write `.*\\.{extension}`",
        .extension.chars().next().unwrap_or_default()
    )]
    MissingDot { pattern: Box<str>, extension: Box<str> },
    #[error("filter `{pattern}` is not a regular expression: {error}")]
    Pattern { pattern: Box<str>, error: regex::Error },
    #[error(
        "filter directory `{0}` is not a plain name; write letters, digits, `_`, `-` or `.`, without a slash \
         and not starting with a dot"
    )]
    Directory(Box<str>),
    #[error("filter directory `{0}` is one the node itself uses; choose another name")]
    Reserved(Box<str>),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> Vec<String> {
        Filters::parse(text).expect_err(text).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_installed_set_sorts_names_as_a_stock_server_does() {
        let filters = Filters::parse(INSTALLED).expect("the installed set");
        let cases: [(&[u8], Option<&str>); 9] = [
            (b"web01.conf", Some("conf")),
            (b"web01.md5", Some("md5")),
            (b"fc_1.zip", Some("collections")),
            (b"a.lock", Some("trans")),
            (b"7.rcmd", Some("commands")),
            (b"host.conf.internal.5.data", Some("conf")),
            (b"web01.1700000000.data", None),
            (b"xconf", None),
            (b"caf\xe9.conf", Some("conf")),
        ];
        for (name, directory) in cases {
            assert_eq!(filters.directory_of(name), directory, "{}", String::from_utf8_lossy(name));
        }
        assert_eq!(filters.directories(), ["conf", "md5", "collections", "trans", "commands"]);
    }

    #[test]
    fn data_is_known_by_its_number_and_extension() {
        for name in ["web01.1700000000.data", "host_0.data", "host.conf.internal.5.data", ".5.data"] {
            assert!(is_data_name(name.as_bytes()), "{name}");
        }
        for name in ["web01.conf", "5.data", "web01.data", "web01.5.data.conf", "web01.x5.data", ""] {
            assert!(!is_data_name(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn the_first_match_wins_and_a_colon_may_stand_in_the_expression() {
        let filters = Filters::parse(r"a(?:b|c):first;a.*:second;").expect("filters");
        assert_eq!(filters.directory_of(b"xab"), Some("first"));
        assert_eq!(filters.directory_of(b"ad"), Some("second"));
        assert_eq!(Filters::parse("").expect("no filter at all").directory_of(b"x.conf"), None);
    }

    #[test]
    fn the_pasted_forms_without_a_dot_are_explained_all_at_once() {
        let errors = errors(r".*\conf:conf;.*\md5:md5;.*\zip:collections");
        assert_eq!(errors.len(), 3);
        assert!(errors[0].contains(r"write `.*\.conf`"), "{}", errors[0]);
        assert!(errors[1].contains(r"write `.*\.md5`"), "{}", errors[1]);
        assert!(errors[2].contains(r"reads `\z` as a special character"), "{}", errors[2]);
        Filters::parse(r".*\d:numbered").expect("a class is not a missing dot");
    }

    #[test]
    fn a_directory_is_a_plain_name_and_none_of_the_nodes_own() {
        for directory in ["", "..", ".", "a/b", "/etc", ".hidden", "a\\b", "a\u{e9}"] {
            assert!(errors(&format!("x:{directory}"))[0].contains("plain name"), "{directory}");
        }
        assert!(errors("x:spool;y:tmp").iter().all(|text| text.contains("the node itself uses")));
        Filters::parse("x:workshop").expect("what the node has of this name is hidden");
        assert!(errors("xyz")[0].contains("names no directory"));
        assert!(errors("x(:conf")[0].contains("not a regular expression"));
    }
}
