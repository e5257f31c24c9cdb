//! The values an operator writes. Every reader answers with the value, or with what is wrong and what to write
//! instead, as the end of a sentence that starts with the key.

use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

pub(super) fn text(value: &DeValue<'_>) -> Result<String, String> {
    match value.as_str() {
        Some(text) if !text.is_empty() => Ok(text.to_owned()),
        Some(_) => Err("is empty; write a value, or remove the key".into()),
        None => Err(format!("is {}; write a text in quotes", kind(value))),
    }
}

pub(super) fn absolute_path(value: &DeValue<'_>) -> Result<PathBuf, String> {
    let path = PathBuf::from(text(value)?);
    if path.is_absolute() {
        return Ok(path);
    }
    Err(format!("is the relative path {path:?}; write it from `/` on, a service has no directory of its own"))
}

pub(super) fn boolean(value: &DeValue<'_>) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| format!("is {}; write true or false", kind(value)))
}

/// A number from `least` to `most`.
pub(super) fn number(value: &DeValue<'_>, least: u64, most: u64) -> Result<u64, String> {
    let wrong = || format!("is {}; write a number from {least} to {most}", kind(value));
    let number = integer(value).ok_or_else(wrong)?;
    if (least..=most).contains(&number) { Ok(number) } else { Err(wrong()) }
}

/// A number of bytes: an integer, or a text such as "2MB" (decimal) or "2MiB".
pub(super) fn size(value: &DeValue<'_>) -> Result<u64, String> {
    const UNITS: [(&str, u64); 7] = [
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("kB", 1_000),
        ("B", 1),
    ];
    integer(value)
        .or_else(|| value.as_str().and_then(|text| with_unit(text, &UNITS)))
        .filter(|size| *size > 0)
        .ok_or_else(|| format!("is {}; write bytes as a number, or a text such as \"64MB\"", kind(value)))
}

/// A time span, not zero: a text such as "30s", or, as in pandora_server.conf, seconds.
pub(super) fn duration(value: &DeValue<'_>) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
    let seconds = integer(value).map(Duration::from_secs);
    let text = || value.as_str().and_then(|text| with_unit(text, &UNITS)).map(Duration::from_millis);
    seconds.or_else(text).filter(|duration| !duration.is_zero() && *duration <= LONGEST).ok_or_else(|| {
        format!("is {}; write seconds, or a text such as \"500ms\", \"30s\", \"15m\"", kind(value))
    })
}

/// A time span of hours or days: a text such as "30d", or seconds.
pub(super) fn long_duration(value: &DeValue<'_>) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 4] = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)];
    let text = || value.as_str().and_then(|text| with_unit(text, &UNITS));
    let seconds = integer(value).or_else(text).filter(|seconds| (1..=LONGEST_IN_DAYS).contains(seconds));
    seconds
        .map(Duration::from_secs)
        .ok_or_else(|| format!("is {}; write seconds, or a text such as \"36h\", \"30d\"", kind(value)))
}

/// Ten years: longer ones are mistakes too.
const LONGEST_IN_DAYS: u64 = 3_650 * 86_400;

/// Longer time spans are mistakes.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3_600);

/// A list of texts, or one text with commas.
pub(super) fn list(value: &DeValue<'_>) -> Result<Vec<String>, String> {
    let wrong = || format!("is {}; write a list of texts, as in [\"a\", \"b\"]", kind(value));
    let parts: Vec<&str> = match value {
        DeValue::String(text) => text.split(',').map(str::trim).collect(),
        DeValue::Array(items) => {
            items.iter().map(|item| item.get_ref().as_str()).collect::<Option<_>>().ok_or_else(wrong)?
        }
        _ => return Err(wrong()),
    };
    if parts.is_empty() || parts.iter().any(|part| part.is_empty()) {
        return Err("is empty or has an empty part; write every part, or remove the key".into());
    }
    Ok(parts.into_iter().map(str::to_owned).collect())
}

/// Permission bits, as chmod takes them: "0640".
pub(super) fn mode(value: &DeValue<'_>) -> Result<u32, String> {
    value
        .as_str()
        .and_then(|text| u32::from_str_radix(text, 8).ok())
        .filter(|mode| *mode <= 0o777 && mode & 0o400 != 0)
        .ok_or_else(|| {
            format!(
                "is {}; write octal permission bits in quotes that let the owner read: \"0640\"",
                kind(value)
            )
        })
}

/// One of several words.
pub(super) fn word<T: Copy>(value: &DeValue<'_>, words: &[(&str, T)]) -> Result<T, String> {
    let known = value.as_str().and_then(|text| words.iter().find(|(word, _)| *word == text));
    known.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let words: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        format!("is {}; write {}", kind(value), words.join(" or "))
    })
}

fn integer(value: &DeValue<'_>) -> Option<u64> {
    let integer = value.as_integer()?;
    u64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic() || letter == ' ');
    let unit = text[digits.len()..].trim();
    let factor = units.iter().find(|(name, _)| *name == unit)?.1;
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// What stands there. Texts are not quoted back: one may be a secret.
fn kind(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(_) => "a text that does not fit".into(),
        DeValue::Integer(number) => format!("the number {number}"),
        other => format!("of the type {}", other.type_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> DeValue<'_> {
        DeValue::parse(text).expect("a TOML value").into_inner()
    }

    #[test]
    fn durations_are_seconds_or_carry_a_unit() {
        for (text, milliseconds) in
            [("10", 10_000), ("\"10s\"", 10_000), ("\"50ms\"", 50), ("\"5m\"", 300_000)]
        {
            assert_eq!(duration(&value(text)), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["0", "\"0s\"", "-1", "1.5", "\"10\"", "\"s\"", "\"1y\"", "99999999999"] {
            duration(&value(text)).expect_err(text);
        }
    }

    #[test]
    fn long_durations_come_in_days() {
        for (text, seconds) in [("10", 10), ("\"36h\"", 129_600), ("\"30d\"", 2_592_000)] {
            assert_eq!(long_duration(&value(text)), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["0", "\"0d\"", "-1", "\"10\"", "\"4000d\"", "\"1y\"", "\"99999999999999999d\""] {
            long_duration(&value(text)).expect_err(text);
        }
    }

    #[test]
    fn sizes_take_units() {
        for (text, bytes) in [("7", 7), ("\"64MB\"", 64_000_000), ("\"1 KiB\"", 1024)] {
            assert_eq!(size(&value(text)), Ok(bytes), "{text}");
        }
        for text in ["0", "-1", "\"64 mb\"", "true"] {
            size(&value(text)).expect_err(text);
        }
    }

    #[test]
    fn modes_are_octal_and_readable() {
        assert_eq!(mode(&value("\"0640\"")), Ok(0o640));
        for text in ["640", "\"0088\"", "\"0040\"", "\"7777\""] {
            mode(&value(text)).expect_err(text);
        }
    }
}
