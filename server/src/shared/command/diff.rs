//! `shared diff`: what differs between here, there, what was agreed, and the versions that are kept; of configurations
//! line by line, where both contents are at hand.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;

use serde_json::{Value, json};
use similar::TextDiff;

use super::view::{Line, State, View};
use super::{Said, shown, whole};
use crate::cli::Failure;
use crate::report::utc;
use crate::shared::names::{Kind, kind_of};
use crate::shared::store::kept::Kept;
use crate::shared::{Digest, digest, objects};

/// Larger configurations are not compared line by line.
const COMPARED_MAX: u64 = 1 << 20;

/// Lines around a change.
const CONTEXT: usize = 3;

pub(super) fn run(view: &View, names: &[Vec<u8>], site: Option<&str>) -> Result<Said, Failure> {
    let kept = view.kept(site)?;
    if names.is_empty() { all(view, site, kept.len()) } else { some(view, names, site, &kept) }
}

/// All that differs between the two ends.
fn all(view: &View, site: Option<&str>, kept: usize) -> Result<Said, Failure> {
    let mut lines = view.lines(site)?;
    lines.retain(|line| line.state != State::InSync);
    let mut said = Said { text: String::new(), document: json!({ "pairs": [] }) };
    for line in &lines {
        said.add(view, line, None);
    }
    if lines.is_empty() {
        said.text = "Nothing differs.\n".into();
    }
    match kept {
        0 => {}
        1 => {
            said.text +=
                "\n1 version is kept: `tidegate-server shared list`; `shared diff NAME` compares it.\n"
        }
        _ => {
            let _ = writeln!(
                said.text,
                "\n{kept} versions are kept: `tidegate-server shared list`; `shared diff NAME` compares those of a file."
            );
        }
    }
    Ok(said)
}

/// These, with the versions of them that are kept.
fn some(view: &View, names: &[Vec<u8>], site: Option<&str>, kept: &[Kept]) -> Result<Said, Failure> {
    let mut lines = view.lines(site)?;
    lines.retain(|line| names.iter().any(|name| **name == *line.name));
    let is_known = |name: &&Vec<u8>| {
        lines.iter().any(|line| *line.name == ***name) || kept.iter().any(|kept| *kept.name == ***name)
    };
    if let Some(unknown) = names.iter().find(|name| !is_known(name)) {
        return Err(Failure::Other(format!(
            "{} is no shared file that is here, at a site, or kept: `tidegate-server shared list` shows them",
            shown(unknown)
        )));
    }
    let mut said = Said { text: String::new(), document: json!({ "pairs": [] }) };
    for line in &lines {
        said.add(view, line, Some(kept));
    }
    // Of pairs of which nothing but these is left.
    for kept in kept {
        let is_asked = names.iter().any(|name| **name == *kept.name);
        let is_told = lines.iter().any(|line| (&line.site, &line.name) == (&kept.site, &kept.name));
        if is_asked && !is_told {
            let changes = against(view, kept);
            said.text += &format!("{}  {}\n", kept.site, shown(&kept.name));
            said.text += &version(kept, changes.as_deref());
            push(
                &mut said.document["pairs"],
                json!({
                    "site": kept.site,
                    "name": shown(&kept.name),
                    "kept": [kept_document(kept, changes)],
                }),
            );
        }
    }
    Ok(said)
}

impl Said {
    /// Adds a pair, and its kept versions.
    fn add(&mut self, view: &View, line: &Line, kept: Option<&[Kept]>) {
        let there = line.pair.there.map(|there| there.digest);
        let changes = changes(view, &line.name, ("there", there), line.here);
        card(&mut self.text, line, changes.as_deref());
        let mut document = document(line, changes);
        let is_of_it = |kept: &&Kept| (&kept.site, &kept.name) == (&line.site, &line.name);
        for kept in kept.unwrap_or_default().iter().filter(is_of_it) {
            let changes = against(view, kept);
            self.text += &version(kept, changes.as_deref());
            push(&mut document["kept"], kept_document(kept, changes));
        }
        push(&mut self.document["pairs"], document);
    }
}

/// Adds to a list in a document.
fn push(list: &mut Value, document: Value) {
    if let Value::Array(list) = list {
        list.push(document);
    }
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

/// A kept version, against what is here.
fn version(kept: &Kept, changes: Option<&str>) -> String {
    let line = format!(
        "  kept {}  {}, {}, since {}\n",
        kept.id,
        whole(kept.digest),
        kept.why.as_str(),
        utc(kept.at)
    );
    line + changes.unwrap_or_default()
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
        "kept": [],
    })
}

fn kept_document(kept: &Kept, changes: Option<String>) -> Value {
    json!({
        "id": kept.id,
        "why": kept.why.as_str(),
        "since": kept.at,
        "sha256": whole(kept.digest),
        "diff": changes,
    })
}

/// From a kept version to what is here.
fn against(view: &View, kept: &Kept) -> Option<String> {
    let here = view.here.get(&kept.name).map(|seen| seen.digest);
    changes(view, &kept.name, (&format!("kept {}", kept.id), Some(kept.digest)), here)
}

/// From one content to what is here, line by line.
fn changes(
    view: &View,
    name: &[u8],
    (label, old): (&str, Option<Digest>),
    here: Option<Digest>,
) -> Option<String> {
    if kind_of(name) != Some(Kind::Conf) || old == here {
        return None;
    }
    let old = objects::read(&view.memory, &old?, COMPARED_MAX).ok()??;
    let new = read_here(view, name, here?)?;
    let (old, new) = (printable(&old), printable(&new));
    let diff = TextDiff::from_lines(&old, &new);
    Some(diff.unified_diff().context_radius(CONTEXT).header(label, "here").to_string())
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
