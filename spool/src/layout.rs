//! The one module that joins paths of a spool.
//!
//! A package is `ready/<run 16>-<counter 10>-<digest 16>-<listed name>`, all hexadecimal in lower case; a segment
//! of the record of deletions is `seen/<run 16>-<number 8>`, one of the loss records `losses/<run 16>-<number 8>`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::id::{COUNTER_BITS, Id};
use crate::names;

/// A spool's directories.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) root: PathBuf,
    pub(crate) tmp: PathBuf,
    pub(crate) ready: PathBuf,
    pub(crate) corrupt: PathBuf,
    /// Dead letters that are to be packages again.
    pub(crate) requeue: PathBuf,
    /// Dead letters that are to go.
    pub(crate) purge: PathBuf,
    pub(crate) seen: PathBuf,
    pub(crate) losses: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            tmp: root.join("tmp"),
            ready: root.join("ready"),
            corrupt: root.join("corrupt"),
            requeue: root.join("requeue"),
            purge: root.join("purge"),
            seen: root.join("seen"),
            losses: root.join("losses"),
        }
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// The marker of a failed write.
    pub(crate) fn failed(&self) -> PathBuf {
        self.root.join("failed")
    }

    /// A file that exists for a moment at a start.
    pub(crate) fn renewal(directory: &Path) -> PathBuf {
        directory.join("renewal")
    }

    /// The `number`th temporary file of a run.
    pub(crate) fn temporary(&self, run: u64, number: u64) -> PathBuf {
        self.tmp.join(format!("{run:016x}-{number:x}"))
    }

    pub(crate) fn package(&self, id: Id, digest: u64, listed_name: &[u8]) -> PathBuf {
        let mut file_name = format!("{id}-{digest:016x}-").into_bytes();
        file_name.extend_from_slice(listed_name);
        self.ready.join(OsString::from_vec(file_name))
    }

    /// A place for something that is no package; `number` tells things of one name apart.
    pub(crate) fn rejected(&self, name: &OsStr, number: u64) -> PathBuf {
        let name = original(name.as_bytes());
        if number == 0 {
            return self.corrupt.join(OsStr::from_bytes(name));
        }
        let renamed = [format!("{RENAMED}{number}-").as_bytes(), name].concat();
        let place = match renamed.len() {
            ..=FILE_NAME_MAX => renamed,
            // What lacks its end is not to be taken for what it was.
            _ => [format!("cut-{number}-").as_bytes(), name].concat()[..FILE_NAME_MAX].to_vec(),
        };
        self.corrupt.join(OsString::from_vec(place))
    }
}

/// How the name of a dead letter begins that could not keep its own; a number and `-` follow, and then its own.
const RENAMED: &str = "renamed-";

/// The longest name of a file.
const FILE_NAME_MAX: usize = 255;

/// A dead letter's name before it was renamed.
fn original(name: &[u8]) -> &[u8] {
    let digits = |rest: &[u8]| rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let rest = name.strip_prefix(RENAMED.as_bytes()).and_then(|rest| rest.get(digits(rest)..));
    match rest.and_then(|rest| rest.strip_prefix(b"-")) {
        Some(own) if parse_package(OsStr::from_bytes(own)).is_some() => own,
        _ => name,
    }
}

/// Number, digest and listed name of the package that a dead letter was.
pub(crate) fn parse_dead_letter(file_name: &OsStr) -> Option<(Id, u64, &[u8])> {
    parse_package(OsStr::from_bytes(original(file_name.as_bytes())))
}

/// A segment in the directory of its sort.
pub(crate) fn segment(directory: &Path, run: u64, number: u32) -> PathBuf {
    directory.join(format!("{run:016x}-{number:08x}"))
}

/// Number, digest and listed name of a file in `ready/`.
pub(crate) fn parse_package(file_name: &OsStr) -> Option<(Id, u64, &[u8])> {
    let (id, rest) = id_field(file_name.as_bytes())?;
    let (digest, rest) = hex_field(rest.strip_prefix(b"-")?, 16)?;
    let listed_name = rest.strip_prefix(b"-")?;
    names::valid_listed(listed_name).then_some((id, digest, listed_name))
}

/// A number as it is displayed.
pub(crate) fn parse_id(text: &str) -> Option<Id> {
    id_field(text.as_bytes()).filter(|(_, rest)| rest.is_empty()).map(|(id, _)| id)
}

fn id_field(bytes: &[u8]) -> Option<(Id, &[u8])> {
    let (run, rest) = hex_field(bytes, 16)?;
    let (counter, rest) = hex_field(rest.strip_prefix(b"-")?, COUNTER_BITS as usize / 4)?;
    Some((Id { run, counter }, rest))
}

/// Run and number of a segment.
pub(crate) fn parse_segment(file_name: &OsStr) -> Option<(u64, u32)> {
    let (run, rest) = hex_field(file_name.as_bytes(), 16)?;
    let (number, rest) = hex_field(rest.strip_prefix(b"-")?, 8)?;
    rest.is_empty().then_some((run, u32::try_from(number).ok()?))
}

fn hex_field(bytes: &[u8], width: usize) -> Option<(u64, &[u8])> {
    let (digits, rest) = bytes.split_at_checked(width)?;
    let value = digits.iter().try_fold(0, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })?;
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_s_path_reads_back() {
        let id = Id { run: 0x0000_2a9f_31c0_4be7, counter: 0x12 };
        let path = Layout::new(Path::new("/s")).package(id, 0xfeed, b"web-1.17.data\xff");
        let file_name = path.file_name().unwrap();
        assert!(file_name.as_bytes().starts_with(b"00002a9f31c04be7-0000000012-000000000000feed-web-1.17"));
        assert_eq!(parse_package(file_name), Some((id, 0xfeed, b"web-1.17.data\xff".as_slice())));
    }

    #[test]
    fn the_longest_listed_name_fits_a_file_name() {
        let path = Layout::new(Path::new("/s")).package(Id { run: 0, counter: 0 }, 0, &[b'a'; 210]);
        assert_eq!(path.file_name().unwrap().len(), 255);
    }

    #[test]
    fn what_is_renamed_keeps_what_it_was() {
        let layout = Layout::new(Path::new("/s"));
        let package = layout.package(Id { run: 7, counter: 1 }, 0xfeed, b"web.17.data");
        let own = package.file_name().unwrap();
        assert_eq!(layout.rejected(own, 0), layout.corrupt.join(own));
        let second = layout.rejected(own, 1);
        let name = second.file_name().unwrap();
        assert_eq!(name.len(), own.len() + "renamed-1-".len());
        assert_eq!(parse_dead_letter(name), parse_package(own));
        assert_eq!(layout.rejected(name, 1), second, "renamed once only");

        let longest = layout.package(Id { run: 7, counter: 1 }, 0xfeed, &[b'a'; 210]);
        let places: Vec<_> =
            [1, 2].map(|number| layout.rejected(longest.file_name().unwrap(), number)).into();
        assert!(places.iter().all(|place| place.file_name().unwrap().len() <= FILE_NAME_MAX));
        assert!(places[0] != places[1] && parse_dead_letter(places[0].file_name().unwrap()).is_none());
        assert_eq!(layout.rejected(OsStr::new("notes"), 3), layout.corrupt.join("renamed-3-notes"));
        assert_eq!(parse_dead_letter(OsStr::new("renamed-3-notes")), None);
    }

    #[test]
    fn what_is_no_package_is_not_taken_for_one() {
        for name in [
            "",
            "web.17.data",
            "00002a9f31c04be7-0000000012-000000000000feed-",
            "00002A9f31c04be7-0000000012-000000000000feed-web",
            "00002a9f31c04be70000000012-000000000000feed-web",
            "+0002a9f31c04be7-0000000012-000000000000feed-web",
        ] {
            assert_eq!(parse_package(OsStr::new(name)), None, "{name}");
        }
        assert_eq!(parse_segment(OsStr::new("00002a9f31c04be7-0000000a")), Some((0x2a9f_31c0_4be7, 10)));
        assert_eq!(parse_segment(OsStr::new("00002a9f31c04be7-0000000a.bak")), None);
    }
}
