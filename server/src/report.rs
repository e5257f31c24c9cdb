//! What the operator's commands print: texts, tables, times and names, never a byte of a peer unescaped.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt;

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Prints a text. A reader that went away (`| head`) is no failure.
pub(crate) fn say(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

/// Prints a document for programs.
pub(crate) fn say_json(document: &Value) {
    say(&(serde_json::to_string_pretty(document).expect("numbers and texts are JSON") + "\n"));
}

/// Lines of cells below each other, the first line being the header.
pub(crate) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let lines: Vec<[String; N]> = [header.map(str::to_owned)].into_iter().chain(rows).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells: Vec<_> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// How long ago something was.
pub(crate) fn ago(seconds: i64) -> String {
    match seconds {
        ..60 => format!("{} s ago", seconds.max(0)),
        60..7_200 => format!("{} min ago", seconds / 60),
        7_200..172_800 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

/// A length of time, never rounded up.
pub(crate) fn lasting(seconds: u64) -> String {
    match seconds {
        ..60 => format!("{seconds} s"),
        60..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} hours", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// A time of the ledger, in UTC.
pub(crate) fn utc(seconds: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok().and_then(|time| time.format(&Rfc3339).ok());
    time.unwrap_or_else(|| format!("{seconds} s after 1970"))
}

/// The same, or a dash.
pub(crate) fn utc_or_dash(seconds: Option<i64>) -> String {
    seconds.map_or_else(|| "-".into(), utc)
}

/// A name as an operator gives it: as it is, or as these commands print it, with `\xNN` for bytes that are no plain
/// text. No name holds a backslash, so that the two cannot be taken for each other.
pub(crate) fn unescape(text: &OsStr) -> Vec<u8> {
    let mut rest = text.as_bytes();
    let mut name = Vec::with_capacity(rest.len());
    while let Some((first, after)) = rest.split_first() {
        match escaped_byte(rest) {
            Some((byte, after)) => {
                name.push(byte);
                rest = after;
            }
            None => {
                name.push(*first);
                rest = after;
            }
        }
    }
    name
}

fn escaped_byte(text: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, after) = text.strip_prefix(b"\\x")?.split_at_checked(2)?;
    let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
    Some((u8::from_str_radix(digits, 16).ok()?, after))
}

#[cfg(test)]
mod tests {
    use tidegate_proto::Escaped;

    use super::*;

    #[test]
    fn what_is_printed_can_be_given_back() {
        for name in [&b"web01.1.data"[..], b"caf\xe9_5.data", b"\xff\x00 x", b""] {
            let printed = Escaped(name).to_string();
            assert_eq!(unescape(OsStr::new(&printed)), name, "{printed}");
            assert_eq!(unescape(OsStr::from_bytes(name)), name, "as it is");
        }
        assert_eq!(unescape(OsStr::new("\\x+1\\xg0\\x")), b"\\x+1\\xg0\\x", "no bytes of two digits");
    }

    #[test]
    fn half_a_day_is_not_no_day() {
        assert_eq!([59, 3_600, 43_200, 2_592_000].map(lasting), ["59 s", "60 min", "12 hours", "30 days"]);
    }

    #[test]
    fn times_are_utc() {
        assert_eq!(utc(1_700_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(utc(i64::MAX), "9223372036854775807 s after 1970");
    }
}
