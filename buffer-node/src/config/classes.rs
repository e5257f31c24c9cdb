//! Classes of packages: which names belong to them, and what happens when there is no room.

use regex::bytes::{Regex, RegexBuilder};
use tidegate_spool::{Allowance, CLASS_NAME_MAX, CLASSES_MAX, Class, DATA_CLASS, Overflow};

use super::reader::{Place, Problems, Section};
use super::values;
use crate::report::SHARED_CLASS;

/// What an agent may take of the spool, or of its class, in percent: so one that runs wild leaves three quarters to the
/// others.
const AGENT_PERCENT: u8 = 25;

/// A part of a small spool would be too small to be of use, so an agent has at least this many bytes.
const AGENT_BYTES_LEAST: u64 = 16 << 20;

/// And this many packages.
const AGENT_FILES_LEAST: u64 = 1_000;

/// Beyond this many bytes a compiled expression is refused: it is a mistake, not a class.
const COMPILED_SIZE_MAX: usize = 1 << 20;

/// Reads `[[class]]`. The limits of agents and the policy in `[spool]` hold for `data`; the limits also where a class
/// has none of its own.
pub(super) fn overflow(
    spool: &mut Section<'_>,
    root: &mut Section<'_>,
    max_size: u64,
    problems: &mut Problems,
) -> Overflow {
    let part = |at_least| Allowance::Share { percent: AGENT_PERCENT, at_least };
    let agent_max_bytes = spool.take("agent_max_bytes", problems, values::bytes_allowed);
    let room_for_one = |name: &str, limit: Option<(Allowance, Place)>, problems: &mut Problems| {
        if let Some((Allowance::Exactly(most), place)) = limit
            && most < max_size
        {
            let text = format!("`{name}` is below `max_size`; there must be room for at least one file");
            problems.add(place, text);
        }
        limit.map(|(most, _)| most)
    };
    let agent_max_bytes = room_for_one("spool.agent_max_bytes", agent_max_bytes, problems);
    let data = Class {
        policy: spool.take_or("overflow", Default::default(), problems, values::policy),
        agent_max_bytes: agent_max_bytes.unwrap_or(part(AGENT_BYTES_LEAST)),
        agent_max_files: spool.take_or(
            "agent_max_files",
            part(AGENT_FILES_LEAST),
            problems,
            values::files_allowed,
        ),
        ..Class::new(DATA_CLASS)
    };
    let mut classes: Vec<Class> = Vec::new();
    let mut patterns: Vec<Regex> = Vec::new();
    for (mut section, place) in root.tables("class", problems) {
        let name = section.take("name", problems, class_name);
        let pattern = section.take("names", problems, pattern);
        for key in ["name", "names"] {
            if !section.was_given(key) {
                let text = format!(
                    "a `[[class]]` lacks `{key}`; give it a `name` and the regular expression `names`"
                );
                problems.add(place, text);
            }
        }
        let max_bytes = section.take("max_bytes", problems, values::bytes_allowed);
        let agent_max_bytes = section.take("agent_max_bytes", problems, values::bytes_allowed);
        let class = Class {
            policy: section.take_or("overflow", Default::default(), problems, values::policy),
            max_bytes: room_for_one("class.max_bytes", max_bytes, problems).unwrap_or(Allowance::Unlimited),
            max_files: section.take_or("max_files", Allowance::Unlimited, problems, values::files_allowed),
            agent_max_bytes: room_for_one("class.agent_max_bytes", agent_max_bytes, problems)
                .unwrap_or(data.agent_max_bytes),
            agent_max_files: section.take_or(
                "agent_max_files",
                data.agent_max_files,
                problems,
                values::files_allowed,
            ),
            ..Class::new("")
        };
        section.finish(problems);
        let (Some((name, place)), Some((pattern, _))) = (name, pattern) else { continue };
        if classes.iter().any(|other| *other.name == *name) {
            problems.add(
                place,
                format!("`class.name` {name:?} stands here a second time; give each class its own"),
            );
        } else if classes.len() == CLASSES_MAX {
            problems.add(place, format!("there are more than {CLASSES_MAX} classes; join some"));
        } else {
            classes.push(Class { name: name.into(), ..class });
            patterns.push(pattern);
        }
    }
    Overflow::new(data, classes, move |name| patterns.iter().position(|pattern| pattern.is_match(name)))
}

fn class_name(value: &toml::de::DeValue<'_>) -> Result<String, String> {
    let name = values::text(value)?;
    let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if !plain || name.len() > CLASS_NAME_MAX {
        Err(format!("is {name:?}; write at most {CLASS_NAME_MAX} small letters, digits and `-`"))
    } else if name == DATA_CLASS {
        Err(format!("is {DATA_CLASS:?}, the class of all other names; its keys stand in `[spool]`"))
    } else if name == SHARED_CLASS {
        Err(format!("is {SHARED_CLASS:?}, which loss records call shared files; choose another"))
    } else {
        Ok(name)
    }
}

/// Matches anywhere in a name, as the filters do.
fn pattern(value: &toml::de::DeValue<'_>) -> Result<Regex, String> {
    RegexBuilder::new(&values::text(value)?)
        .unicode(false)
        .size_limit(COMPILED_SIZE_MAX)
        .build()
        .map_err(|error| format!("is not a regular expression: {error}"))
}
