//! `shared diff`: what differs between here, there and what was agreed; of configurations line by line, where both
//! contents are at hand.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;

use serde_json::{Value, json};
use similar::TextDiff;

use super::view::{Line, State, View};
use super::{Said, shown, whole};
use crate::cli::Failure;
use crate::shared::names::{Kind, kind_of};
use crate::shared::{Digest, digest, objects};

/// Larger configurations are not compared line by line.
const COMPARED_MAX: u64 = 1 << 20;

/// Lines around a change.
const CONTEXT: usize = 3;

pub(super) fn run(view: &View, names: &[Vec<u8>], site: Option<&str>) -> Result<Said, Failure> {
    let mut lines = view.lines(site)?;
    let is_asked = |line: &Line| names.iter().any(|name| **name == *line.name);
    if names.is_empty() {
        lines.retain(|line| line.state != State::InSync);
    } else {
        lines.retain(is_asked);
        if let Some(unknown) = names.iter().find(|name| !lines.iter().any(|line| *line.name == ***name)) {
            return Err(Failure::Other(format!(
                "{} is no shared file that is here or there: `tidegate-server shared list` shows them",
                shown(unknown)
            )));
        }
    }
    let mut documents = Vec::new();
    let mut text = String::new();
    for line in &lines {
        let changes = changes(view, line);
        card(&mut text, line, changes.as_deref());
        documents.push(document(line, changes));
    }
    if text.is_empty() {
        text = "Nothing differs.\n".into();
    }
    Ok(Said { text, document: json!({ "pairs": documents }) })
}

fn card(text: &mut String, line: &Line, changes: Option<&str>) {
    let end = |content: Option<Digest>| content.map_or_else(|| "nothing".into(), whole);
    if !text.is_empty() {
        text.push('\n');
    }
    let there = line.pair.there.map(|there| there.digest);
    let _ = write!(
        text,
        "{}  {}: {}\n  here    {}\n  there   {}\n  agreed  {}\n",
        line.site,
        shown(&line.name),
        line.state.word().replace('-', " "),
        end(line.here),
        end(there),
        end(line.pair.agreed),
    );
    match changes {
        Some(changes) => text.push_str(changes),
        None if line.here == there || line.here.is_none() || there.is_none() => {}
        None => text.push_str(
            "  (what is there has not been fetched, or is no text: only the digests can be compared)\n",
        ),
    }
}

fn document(line: &Line, changes: Option<String>) -> Value {
    json!({
        "site": line.site,
        "name": shown(&line.name),
        "state": line.state.word(),
        "here": line.here.map(whole),
        "there": line.pair.there.map(|there| whole(there.digest)),
        "agreed": line.pair.agreed.map(whole),
        "diff": changes,
    })
}

/// From what is there to what is here, line by line. Where one end has nothing, from what was agreed.
fn changes(view: &View, line: &Line) -> Option<String> {
    if kind_of(&line.name) != Some(Kind::Conf) {
        return None;
    }
    let there = line.pair.there?.digest;
    let here = line.here.filter(|here| *here != there)?;
    let old = objects::read(&view.memory, &there, COMPARED_MAX).ok()??;
    let new = read_here(view, &line.name, here)?;
    let (old, new) = (printable(&old), printable(&new));
    let diff = TextDiff::from_lines(&old, &new);
    Some(diff.unified_diff().context_radius(CONTEXT).header("there", "here").to_string())
}

fn read_here(view: &View, name: &[u8], content: Digest) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(view.here.pair(name)?.file).ok()?;
    file.take(COMPARED_MAX).read_to_end(&mut bytes).ok()?;
    (digest(&bytes) == content).then_some(bytes)
}

/// A text that does nothing to a terminal.
fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for letter in String::from_utf8_lossy(bytes).chars() {
        if letter.is_control() && !matches!(letter, '\n' | '\t') {
            text.extend(letter.escape_default());
        } else {
            text.push(letter);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_bytes_do_nothing_to_a_terminal() {
        assert_eq!(printable(b"a\tb\r\n\x1b[31mred \xc3\xa9 \xff\n"), "a\tb\\r\n\\u{1b}[31mred é \u{fffd}\n");
    }
}
