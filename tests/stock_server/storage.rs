//! The storage directory: filters that map a name to a sub-directory, and files that are rewritten in place.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use anyhow::Context as _;
use regex::bytes::Regex;

/// Characters the reference refuses in a name.
const REFUSED: &[u8] = b"?[]/\\=+<>:;',*~";

/// A directory and its filters.
pub(crate) struct Storage {
    directory: PathBuf,
    filters: Vec<(Regex, String)>,
}

impl Storage {
    pub(crate) fn new(directory: PathBuf, filters: &str) -> anyhow::Result<Storage> {
        let filters = filters
            .split(';')
            .filter_map(|filter| filter.split_once(':'))
            .map(|(pattern, folder)| {
                let regex = Regex::new(&from_perl(pattern)).with_context(|| format!("filter {pattern}"))?;
                Ok((regex, folder.trim_end_matches('/').to_owned()))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Storage { directory, filters })
    }

    pub(crate) fn refuses(name: &[u8]) -> bool {
        name.iter().any(|byte| REFUSED.contains(byte))
    }

    /// The directory that the first matching filter gives; not anchored, so `host.conf.5.data` lands in `conf`.
    fn folder(&self, name: &[u8]) -> PathBuf {
        match self.filters.iter().find(|(pattern, _)| pattern.is_match(name)) {
            Some((_, folder)) => self.directory.join(folder),
            None => self.directory.clone(),
        }
    }

    pub(crate) fn path(&self, name: &[u8]) -> PathBuf {
        self.folder(name).join(OsStr::from_bytes(name))
    }

    /// Every entry of the directory that the filters give for `filter`, in no order, each followed by a newline:
    /// sub-directories, dotfiles, `.` and `..` included.
    pub(crate) fn listing(&self, filter: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut names = vec![b".".to_vec(), b"..".to_vec()];
        for entry in std::fs::read_dir(self.folder(filter))? {
            names.push(entry?.file_name().into_vec());
        }
        names.retain(|name| !Storage::refuses(name));
        Ok(names.into_iter().flat_map(|name| [name, b"\n".to_vec()].concat()).collect())
    }
}

/// Perl's reading of a pattern where this regex library differs: `\cX` is a control character (so the widely pasted
/// `.*\conf` matches nothing), and a backslash before a letter without a meaning stands for the letter (`.*\md5`).
fn from_perl(pattern: &str) -> String {
    const MEANINGFUL: &str = "aAbBdDefnpPrsStuUvwWxz";
    let mut translated = String::new();
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('c') => {
                    let control =
                        characters.next().map_or(0, |letter| letter.to_ascii_uppercase() as u32 ^ 0x40);
                    translated.push_str(&format!("\\x{{{control:x}}}"));
                }
                Some(letter) if letter.is_ascii_alphabetic() && !MEANINGFUL.contains(letter) => {
                    translated.push(letter)
                }
                Some(other) => translated.extend(['\\', other]),
                None => translated.push_str("\\\\"),
            },
            other => translated.push(other),
        }
    }
    translated
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_of(filters: &str, name: &str) -> String {
        let storage = Storage::new(PathBuf::from("/root"), filters).expect("the filters parse");
        storage.folder(name.as_bytes()).display().to_string()
    }

    #[test]
    fn the_installed_filters_are_not_anchored() {
        let filters = r".*\.conf:conf;.*\.md5:md5;.*\.zip:collections";
        assert_eq!(folder_of(filters, "a.conf"), "/root/conf");
        assert_eq!(folder_of(filters, "host.conf.internal.5.data"), "/root/conf");
        assert_eq!(folder_of(filters, "a.zip"), "/root/collections");
        assert_eq!(folder_of(filters, "web01.1700000000.data"), "/root");
    }

    #[test]
    fn of_the_pasted_filters_only_md5_matches() {
        let filters = r".*\conf:conf;.*\md5:md5;.*\zip:collections";
        assert_eq!(folder_of(filters, "a.conf"), "/root");
        assert_eq!(folder_of(filters, "a.zip"), "/root");
        assert_eq!(folder_of(filters, "a.md5"), "/root/md5");
    }
}
