//! What a package's name tells: whether it is one, when its data was made, and how to make it unique.

use std::time::{Duration, SystemTime};

use tidegate_proto::Name;

use crate::body::Digest;

/// Endings of shared files. They stay at the site, wherever they lie and whatever the configured pattern says.
const SHARED: [&[u8]; 5] = [b".conf", b".md5", b".zip", b".rcmd", b".lock"];

/// How old the time in a name may be; an older one is taken for a number that is no time.
const OLDEST_TIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// From this many digits on a number is taken for a time.
const TIME_DIGITS: usize = 9;

/// The digits that a node appends to keep two files of one name apart.
const APPENDED_DIGITS: usize = 10;

/// The names that are packages.
#[derive(Debug, Clone)]
pub(crate) struct NamePattern(regex::bytes::Regex);

impl NamePattern {
    /// What the pipeline reads: a number and `.data` at the end.
    pub(crate) const DEFAULT: &str = r"[._][0-9]+\.data$";

    pub(crate) fn parse(pattern: &str) -> Result<Self, regex::Error> {
        regex::bytes::Regex::new(pattern).map(Self)
    }

    /// Whether a listed name is that of a package.
    pub(crate) fn matches(&self, name: &[u8]) -> bool {
        self.0.is_match(name) && !SHARED.iter().any(|ending| name.ends_with(ending))
    }
}

/// The number before `.data`.
fn number(name: &Name) -> Option<&[u8]> {
    let stem = name.as_bytes().strip_suffix(b".data")?;
    let digits = stem.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (before, number) = stem.split_at(stem.len() - digits);
    (digits > 0 && matches!(before.last(), Some(b'.' | b'_'))).then_some(number)
}

/// The time in a name, if its number can be one: not after `now`, and not too long before.
pub(crate) fn time_in(name: &Name, now: SystemTime) -> Option<SystemTime> {
    let mut number = number(name)?;
    if number.len() == 2 * APPENDED_DIGITS {
        number = &number[..APPENDED_DIGITS];
    }
    let seconds = std::str::from_utf8(number).ok()?.parse().ok()?;
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?;
    let age = now.duration_since(time).ok()?;
    (age <= OLDEST_TIME).then_some(time)
}

/// Whether the number looks like a time: then a sender never gives the name to two different packages. Digits that a
/// node appended to tell equal names apart are known by the content's digest, and make no time of a plugin's `0`.
pub(crate) fn is_timed(name: &Name, digest: &Digest) -> bool {
    let (first, _) = digest.as_bytes().split_first_chunk().expect("a SHA-256 has more than eight bytes");
    tidegate_spool::is_timed(name.as_bytes(), u64::from_be_bytes(*first))
}

/// The same without the content, for a name alone: whether its number surely is a time, with digits appended or not.
pub(crate) fn surely_has_time(name: &Name) -> bool {
    let digits = number(name).map_or(0, <[u8]>::len);
    (TIME_DIGITS..=APPENDED_DIGITS).contains(&digits) || digits >= TIME_DIGITS + APPENDED_DIGITS
}

/// A name with `digits` behind its number, so that the part before the number, by which the pipeline knows the
/// agent, stays the same.
pub(crate) fn with_digits(name: &Name, digits: &str) -> Vec<u8> {
    let bytes = name.as_bytes();
    let end = bytes.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0).unwrap_or(bytes.len());
    [&bytes[..end], digits.as_bytes(), &bytes[end..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse_listed(text.as_bytes()).unwrap()
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn the_default_pattern_takes_data_files_and_no_shared_ones() {
        let pattern = NamePattern::parse(NamePattern::DEFAULT).unwrap();
        for taken in ["web01.1700000000.data", "host_5.data", "a b.0.data", ".5.data"] {
            assert!(pattern.matches(taken.as_bytes()), "{taken}");
        }
        for left in
            ["x.conf", "x.md5", "web01.data", "web01.5.data.tmp", ".", "..", "conf", "5.data", "x.5.zip"]
        {
            assert!(!pattern.matches(left.as_bytes()), "{left}");
        }
        assert!(pattern.matches(b"caf\xe9.5.data"), "names need not be UTF-8");
    }

    #[test]
    fn shared_files_stay_even_if_the_pattern_takes_all() {
        let pattern = NamePattern::parse("").unwrap();
        assert!(pattern.matches(b"anything"));
        assert!(!pattern.matches(b"0123.conf"));
        assert!(!pattern.matches(b"tools.zip"));
    }

    #[test]
    fn a_number_is_a_time_only_within_thirty_days() {
        let now = at(1_700_000_000);
        assert_eq!(time_in(&name("w.1699999999.data"), now), Some(at(1_699_999_999)));
        assert_eq!(time_in(&name("w.1700000000.data"), now), Some(now));
        assert_eq!(time_in(&name("w.1700000001.data"), now), None, "the future");
        assert_eq!(time_in(&name("w.1697408000.data"), now), Some(at(1_697_408_000)));
        assert_eq!(time_in(&name("w.1697407999.data"), now), None, "30 days and a second");
        assert_eq!(time_in(&name("w.32767.data"), now), None);
        assert_eq!(time_in(&name("w.99999999999999999999999.data"), now), None);
    }

    #[test]
    fn digits_that_a_node_appended_are_no_part_of_the_time() {
        assert_eq!(time_in(&name("w.16999999990123456789.data"), at(1_700_000_000)), Some(at(1_699_999_999)));
    }

    #[test]
    fn a_unique_name_keeps_what_stands_before_the_number() {
        assert_eq!(with_digits(&name("web_01.7.data"), "0042"), b"web_01.70042.data");
        assert_eq!(with_digits(&name("odd"), "0042"), b"odd0042");
        assert_eq!(with_digits(&name(".hidden"), "0042"), b".hidden0042");
    }

    #[test]
    fn a_plugin_that_always_counts_zero_is_not_timed() {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&123_456_789_u64.to_be_bytes());
        let is_timed = |text: &str| is_timed(&name(text), &Digest::from(bytes));
        assert!(!is_timed("host.0.data"));
        assert!(!is_timed("host.32767.data"));
        assert!(!is_timed("host.00123456789.data"), "digits that a node appended");
        assert!(is_timed("host.00123456788.data"), "digits that the sender chose");
        assert!(is_timed("host.17000000000123456789.data"));
        assert!(is_timed("host.1700000000123.data"), "milliseconds");
        assert!(is_timed("host.999999999.data"));
        assert!(is_timed("host_1700000000.data"));
        assert!(!is_timed("host1700000000.data"), "no number of its own");
    }

    #[test]
    fn a_name_alone_has_a_time_where_no_appended_digits_can_explain_its_number() {
        for text in ["h.170000000.data", "h_1700000000.data", "h.17000000000123456789.data"] {
            assert!(surely_has_time(&name(text)), "{text}");
        }
        for text in ["h.0.data", "h.00123456789.data", "h.1700000000123.data", "h1700000000.data"] {
            assert!(!surely_has_time(&name(text)), "{text}");
        }
    }
}
