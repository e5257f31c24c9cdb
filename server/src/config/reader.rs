//! Reads a TOML document key by key and collects every problem instead of stopping at the first.
//!
//! A derived deserializer reports one error and stops; an operator who mistyped three keys would have to
//! start the server three times. So the keys are taken one after another, and what nobody took is unknown.

use std::fmt;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Everything wrong with one configuration file.
#[derive(Debug)]
pub(crate) struct Problems {
    file: PathBuf,
    line_starts: Vec<usize>,
    found: Vec<Problem>,
}

/// `line` is absent for what concerns the whole file.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Problem {
    line: Option<usize>,
    text: String,
}

/// A position in the document, for problems found after reading.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place(Option<usize>);

impl Place {
    /// The file as a whole.
    pub(super) const FILE: Self = Self(None);
}

impl Problems {
    pub(super) fn new(file: &Path, text: &str) -> Self {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let line_starts = std::iter::once(0).chain(newlines).collect();
        Self { file: file.into(), line_starts, found: Vec::new() }
    }

    pub(super) fn unreadable(file: &Path, error: &std::io::Error) -> Self {
        let mut problems = Self::new(file, "");
        problems.add(Place::FILE, format!("cannot be read: {error}; check the path and its permissions"));
        problems
    }

    pub(super) fn add(&mut self, place: Place, text: impl Into<String>) {
        let line = place.0.map(|offset| self.line_starts.partition_point(|start| *start <= offset));
        self.found.push(Problem { line, text: text.into() });
    }

    /// Adds a problem that only counts if there is no other: it may follow from one.
    pub(super) fn or_add(&mut self, place: Place, text: impl Into<String>) {
        if self.found.is_empty() {
            self.add(place, text);
        }
    }

    /// The value, unless something is wrong.
    pub(super) fn or<T>(mut self, value: T) -> Result<T, Self> {
        self.found.sort();
        if self.found.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.found.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{}:", self.file.display())?;
            if let Some(line) = problem.line {
                write!(f, "{line}:")?;
            }
            write!(f, " {}", problem.text)?;
        }
        Ok(())
    }
}

/// A table from which keys are taken.
pub(super) struct Section<'i> {
    name: &'static str,
    entries: DeTable<'i>,
    asked: Vec<&'static str>,
    wrong: Vec<&'static str>,
}

impl<'i> Section<'i> {
    /// The document's root table. Syntax errors become problems, and what could be read goes on.
    pub(super) fn document(text: &'i str, problems: &mut Problems) -> Self {
        let (root, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let place = Place(error.span().map(|span| span.start));
            problems.add(place, format!("is not TOML here: {}", error.message()));
        }
        Self { name: "", entries: root.into_inner(), asked: Vec::new(), wrong: Vec::new() }
    }

    /// The tables `[[name]]`, each with its place.
    pub(super) fn tables(&mut self, name: &'static str, problems: &mut Problems) -> Vec<(Self, Place)> {
        let wrong =
            || format!("is not a list of tables; write `[[{name}]]` on a line of its own before each");
        let tables = self.take(name, problems, |value| {
            let items = value.as_array().ok_or_else(wrong)?;
            items
                .iter()
                .map(|item| Some((item.get_ref().as_table()?.clone(), Place(Some(item.span().start)))))
                .collect::<Option<Vec<_>>>()
                .ok_or_else(wrong)
        });
        let section = |entries| Self { name, entries, asked: Vec::new(), wrong: Vec::new() };
        let tables = tables.map(|(tables, _)| tables).unwrap_or_default();
        tables.into_iter().map(|(entries, place)| (section(entries), place)).collect()
    }

    /// The table `[name]`, empty if it is not there.
    pub(super) fn table(&mut self, name: &'static str, problems: &mut Problems) -> Self {
        let table = self.take(name, problems, |value| {
            let wrong = || format!("is no table; write `[{name}]` on a line of its own before its keys");
            value.as_table().cloned().ok_or_else(wrong)
        });
        let entries = table.map(|(table, _)| table).unwrap_or_default();
        Self { name, entries, asked: Vec::new(), wrong: Vec::new() }
    }

    /// Takes a key. `read` says what is wrong with the value and what to write instead.
    pub(super) fn take<T>(
        &mut self,
        key: &'static str,
        problems: &mut Problems,
        read: impl FnOnce(&DeValue<'i>) -> Result<T, String>,
    ) -> Option<(T, Place)> {
        self.asked.push(key);
        let value: Spanned<DeValue<'i>> = self.entries.remove(key)?;
        let place = Place(Some(value.span().start));
        match read(value.get_ref()) {
            Ok(value) => Some((value, place)),
            Err(wrong) => {
                problems.add(place, format!("`{}` {wrong}", self.full(key)));
                self.wrong.push(key);
                None
            }
        }
    }

    /// Like [`Section::take`], for keys with a default.
    pub(super) fn take_or<T>(
        &mut self,
        key: &'static str,
        default: T,
        problems: &mut Problems,
        read: impl FnOnce(&DeValue<'i>) -> Result<T, String>,
    ) -> T {
        self.take(key, problems, read).map_or(default, |(value, _)| value)
    }

    /// Whether a key that was asked for stood in the table with a wrong value: then that is the problem, not its
    /// absence.
    pub(super) fn was_asked_in_vain(&self, key: &str) -> bool {
        self.wrong.contains(&key)
    }

    /// Everything that was not taken is unknown.
    pub(super) fn finish(self, problems: &mut Problems) {
        for key in self.entries.keys() {
            let name: &str = key.get_ref();
            let known = self.asked.iter().min_by_key(|asked| distance(asked, name));
            let remedy = match known {
                Some(known) if distance(known, name) <= 1 + name.len() / 4 => {
                    format!("did you mean `{}`?", self.full(known))
                }
                _ => "remove it; the sample file lists every key".into(),
            };
            let place = Place(Some(key.span().start));
            problems.add(place, format!("unknown key `{}`; {remedy}", self.full(name)));
        }
    }

    fn full(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }
}

/// How many letters differ: inserted, removed or replaced.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in right.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_letters() {
        assert_eq!(distance("port", "prot"), 2);
        assert_eq!(distance("max_size", "maxsize"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("same", "same"), 0);
    }
}
