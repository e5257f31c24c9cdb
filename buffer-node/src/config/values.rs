//! The values an operator writes: durations, sizes, lists, addresses. Every reader answers with the value or with
//! what is wrong and what to write instead, as the end of a sentence that starts with the key.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use tidegate_spool::{Allowance, Policy};
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
        Ok(path)
    } else {
        Err(format!(
            "is the relative path {path:?}; write it from `/` on, a service has no directory of its own"
        ))
    }
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
    const UNITS: [(&str, u64); 9] = [
        ("TiB", 1 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
        ("TB", 1_000_000_000_000),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("kB", 1_000),
        ("B", 1),
    ];
    integer(value).or_else(|| value.as_str().and_then(|text| with_unit(text, &UNITS))).ok_or_else(|| {
        format!("is {}; write bytes as a number, or a text such as \"2MB\" or \"2MiB\"", kind(value))
    })
}

/// A number of bytes, at least one.
pub(super) fn positive_size(value: &DeValue<'_>) -> Result<u64, String> {
    match size(value)? {
        0 => Err("is zero; write a larger size".into()),
        size => Ok(size),
    }
}

/// How many bytes of the next larger limit: a size, a part such as "25%", or "off".
pub(super) fn bytes_allowed(value: &DeValue<'_>) -> Result<Allowance, String> {
    allowance(value, size, 0).map_err(|()| {
        format!("is {}; write a size such as \"5GB\", a part such as \"25%\", or \"off\"", kind(value))
    })
}

/// How many files of the next larger limit: a number, a part such as "25%", or "off".
pub(super) fn files_allowed(value: &DeValue<'_>) -> Result<Allowance, String> {
    // A part of a small number is none at all, and then nothing ever got in.
    allowance(value, |value| number(value, 1, u64::MAX), 1)
        .map_err(|()| format!("is {}; write a number, a part such as \"25%\", or \"off\"", kind(value)))
}

fn allowance(
    value: &DeValue<'_>,
    exactly: impl Fn(&DeValue<'_>) -> Result<u64, String>,
    at_least: u64,
) -> Result<Allowance, ()> {
    match value.as_str() {
        Some("off") => return Ok(Allowance::Unlimited),
        Some(text) if text.ends_with('%') => {
            let percent = text.trim_end_matches('%').parse().map_err(drop)?;
            let part = Allowance::Share { percent, at_least };
            return if (1..=100).contains(&percent) { Ok(part) } else { Err(()) };
        }
        _ => {}
    }
    match exactly(value) {
        Ok(0) | Err(_) => Err(()),
        Ok(most) => Ok(Allowance::Exactly(most)),
    }
}

/// What happens at a limit.
pub(super) fn policy(value: &DeValue<'_>) -> Result<Policy, String> {
    match value.as_str() {
        Some("refuse") => Ok(Policy::Refuse),
        Some("drop_oldest") => Ok(Policy::DropOldest),
        _ => Err(format!("is {}; write \"refuse\" or \"drop_oldest\"", kind(value))),
    }
}

/// A time span: a text such as "30s".
pub(super) fn duration(value: &DeValue<'_>) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 5] =
        [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    value.as_str().and_then(|text| with_unit(text, &UNITS)).map(Duration::from_millis).ok_or_else(|| {
        format!("is {}; write a text with a unit: \"500ms\", \"30s\", \"15m\", \"1h\", \"7d\"", kind(value))
    })
}

/// A time span of at least one millisecond.
pub(super) fn positive_duration(value: &DeValue<'_>) -> Result<Duration, String> {
    match duration(value)? {
        Duration::ZERO => Err("is zero; write a longer time".into()),
        duration => Ok(duration),
    }
}

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

pub(super) fn addresses(value: &DeValue<'_>) -> Result<Vec<IpAddr>, String> {
    let read = |part: String| {
        part.trim_matches(['[', ']']).parse().map_err(|_| {
            format!("holds {part:?}, which is no IP address; write the host's own, or \"0.0.0.0\" and \"::\" for all")
        })
    };
    list(value)?.into_iter().map(read).collect()
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

/// What stands there. Texts are not quoted back here: one may be a secret.
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
    fn sizes_take_decimal_and_binary_units() {
        let cases = [
            ("2000000", 2_000_000),
            ("\"2MB\"", 2_000_000),
            ("\"2 MiB\"", 2 << 20),
            ("\"7B\"", 7),
            ("0x10", 16),
        ];
        for (text, bytes) in cases {
            assert_eq!(size(&value(text)), Ok(bytes), "{text}");
        }
        for text in ["-1", "\"2 mb\"", "\"MB\"", "\"99999999TiB\"", "true", "1.5", "\"1.5MB\""] {
            size(&value(text)).expect_err(text);
        }
    }

    #[test]
    fn an_allowance_is_a_size_a_part_or_off() {
        assert_eq!(bytes_allowed(&value("\"5GB\"")), Ok(Allowance::Exactly(5_000_000_000)));
        assert_eq!(files_allowed(&value("500000")), Ok(Allowance::Exactly(500_000)));
        assert_eq!(bytes_allowed(&value("\"25%\"")), Ok(Allowance::Share { percent: 25, at_least: 0 }));
        assert_eq!(files_allowed(&value("\"25%\"")), Ok(Allowance::Share { percent: 25, at_least: 1 }));
        assert_eq!(bytes_allowed(&value("\"off\"")), Ok(Allowance::Unlimited));
        for text in ["0", "\"0%\"", "\"101%\"", "\"%\"", "\"5.5%\"", "\"none\"", "true", "\"25 %\""] {
            bytes_allowed(&value(text)).expect_err(text);
            files_allowed(&value(text)).expect_err(text);
        }
        files_allowed(&value("\"5GB\"")).expect_err("bytes");
    }

    #[test]
    fn durations_need_a_unit() {
        let cases = [("\"30s\"", 30_000), ("\"500ms\"", 500), ("\"15m\"", 900_000), ("\"7d\"", 604_800_000)];
        for (text, milliseconds) in cases {
            assert_eq!(duration(&value(text)), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["30", "\"30\"", "\"s\"", "\"-3s\"", "\"1y\""] {
            duration(&value(text)).expect_err(text);
        }
        positive_duration(&value("\"0s\"")).expect_err("zero");
    }

    #[test]
    fn lists_are_arrays_or_stock_style_texts() {
        assert_eq!(list(&value("[\"a\", \"b\"]")), list(&value("\"a, b\"")));
        for text in ["[]", "\"\"", "\"a,,b\"", "[1]", "3"] {
            list(&value(text)).expect_err(text);
        }
        let both = addresses(&value("[\"0.0.0.0\", \"[::1]\"]")).expect("addresses");
        assert_eq!(both, [IpAddr::from([0, 0, 0, 0]), "::1".parse().expect("IPv6")]);
        assert!(addresses(&value("\"node.example\"")).expect_err("a name").contains("no IP address"));
    }
}
