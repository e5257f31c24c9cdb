//! `dead-letter …` and `losses`: what an operator sees of packages that nobody will pull, and can do about them.
//!
//! Works beside a running node and without one: it reads, and moves files inside the spool, and the node that runs, or
//! the next one, takes them up from there. A name on the command line is compared with the names that `list` shows; no
//! path is made from it.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Value, json};
use tidegate_proto::Escaped;
use tidegate_spool::{Condition, DeadLetter, DeadLetters, DiskError, Loss, Spool, Stage};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::cli::{DeadLetterCommand, Failure, Selection};
use crate::layout;

/// Does what the command says with the dead letters of the node in that directory.
pub(crate) fn run(directory: &Path, command: &DeadLetterCommand) -> Result<(), Failure> {
    let spool = spool(directory)?;
    let dead_letters = DeadLetters::of(&spool);
    let letters = dead_letters.list().map_err(|error| failure(&error))?;
    match command {
        DeadLetterCommand::List { json: false, .. } => say(&list(&letters)),
        DeadLetterCommand::List { json: true, .. } => {
            say_json(&json!({ "dead_letters": letters.iter().map(document).collect::<Vec<_>>() }));
        }
        DeadLetterCommand::Show { name, json, .. } => {
            let letter = find(&letters, name)?;
            if *json { say_json(&document(letter)) } else { say(&show(letter)) }
        }
        DeadLetterCommand::Requeue(selection) => {
            let can_go = |letter: &DeadLetter| letter.sent_name.is_some();
            let stages = [Stage::SetAside, Stage::Requeued].as_slice();
            let letters = Going::of(selected(&letters, selection, stages)?, can_go);
            dead_letters.requeue(letters.going.iter().copied()).map_err(|error| failure(&error))?;
            letters.say("back")?;
        }
        DeadLetterCommand::Purge(selection) => {
            let can_go = |letter: &DeadLetter| !matches!(letter.condition, Condition::NotAFile);
            let stages = [Stage::SetAside, Stage::Requeued, Stage::Purged].as_slice();
            let letters = Going::of(selected(&letters, selection, stages)?, can_go);
            dead_letters.purge(letters.going.iter().copied()).map_err(|error| failure(&error))?;
            letters.say("out")?;
        }
    }
    Ok(())
}

/// Those that can be sent on their way, and those that cannot.
struct Going<'a> {
    going: Vec<&'a DeadLetter>,
    staying: Vec<&'a DeadLetter>,
}

impl<'a> Going<'a> {
    fn of(letters: Vec<&'a DeadLetter>, can_go: impl Fn(&DeadLetter) -> bool) -> Self {
        let (going, staying) = letters.into_iter().partition(|letter| can_go(letter));
        Self { going, staying }
    }

    /// It is a failure when one has to stay.
    fn say(&self, way: &str) -> Result<(), Failure> {
        if !self.going.is_empty() || self.staying.is_empty() {
            let count = self.going.len();
            say(&format!(
                "{count} on the way {way}; a running node sees to it within seconds, else its next start\n"
            ));
        }
        match self.staying.as_slice() {
            [] => Ok(()),
            [first, ..] => Err(Failure::Other(format!(
                "{} cannot go: they can be no packages; rescue what is in them by hand, first {}",
                self.staying.len(),
                Escaped(first.path.as_os_str().as_encoded_bytes())
            ))),
        }
    }
}

/// The spool, which must be there: an empty answer about the wrong place would be a comfort and no truth.
fn spool(directory: &Path) -> Result<PathBuf, Failure> {
    let spool = layout::spool(directory);
    match std::fs::metadata(&spool) {
        Ok(_) => Ok(spool),
        Err(error) => Err(Failure::io(
            format_args!("no spool at {}: check `directory`, or let the node run once", spool.display()),
            &error,
        )),
    }
}

/// Prints the loss records.
pub(crate) fn losses(directory: &Path, json: bool) -> Result<(), Failure> {
    let losses = Spool::read_losses(&spool(directory)?).map_err(|error| failure(&error))?;
    if json {
        let document = |loss: &Loss| {
            json!({
                "id": loss.id.to_string(),
                "class": &*loss.class,
                "reason": loss.reason.to_string(),
                "packages": loss.packages,
                "bytes": loss.bytes,
                "first_ms": millis(loss.first),
                "last_ms": millis(loss.last),
            })
        };
        say_json(&json!({ "losses": losses.iter().map(document).collect::<Vec<_>>() }));
    } else {
        let header = ["ID", "CLASS", "REASON", "PACKAGES", "BYTES", "FIRST", "LAST"];
        let row = |loss: &Loss| {
            [
                loss.id.to_string(),
                Escaped(loss.class.as_bytes()).to_string(),
                loss.reason.to_string(),
                loss.packages.to_string(),
                loss.bytes.to_string(),
                utc(loss.first),
                utc(loss.last),
            ]
        };
        say(&table(header, losses.iter().map(row)));
    }
    Ok(())
}

fn failure(error: &DiskError) -> Failure {
    Failure::io(format_args!("cannot {} {}", error.action, error.path.display()), &error.source)
}

fn find<'a>(letters: &'a [DeadLetter], wanted: &str) -> Result<&'a DeadLetter, Failure> {
    letters.iter().find(|letter| name(letter) == wanted).ok_or_else(|| {
        let wanted = Escaped(wanted.as_bytes());
        Failure::Other(format!(
            "there is no dead letter {wanted}: give a name as `dead-letter list` shows it"
        ))
    })
}

fn selected<'a>(
    letters: &'a [DeadLetter],
    selection: &Selection,
    stages: &[Stage],
) -> Result<Vec<&'a DeadLetter>, Failure> {
    match &selection.name {
        Some(name) => Ok(vec![find(letters, name)?]),
        None => Ok(letters.iter().filter(|letter| stages.contains(&letter.stage)).collect()),
    }
}

fn state(letter: &DeadLetter) -> &'static str {
    match letter.stage {
        Stage::SetAside => "set_aside",
        Stage::Requeued => "requeued",
        Stage::Purged => "purged",
    }
}

fn name(letter: &DeadLetter) -> String {
    Escaped(letter.file_name.as_encoded_bytes()).to_string()
}

fn list(letters: &[DeadLetter]) -> String {
    let row = |letter: &DeadLetter| {
        [
            name(letter),
            state(letter).into(),
            letter.size.to_string(),
            utc(letter.modified),
            utc(letter.changed),
            why(letter),
        ]
    };
    table(["NAME", "STATE", "BYTES", "ARRIVED", "MOVED", "WHY"], letters.iter().map(row))
}

fn why(letter: &DeadLetter) -> String {
    match &letter.condition {
        Condition::Changed { .. } => "its bytes are not those that arrived".into(),
        Condition::Whole { .. } => "whole, but another package had its listed name".into(),
        Condition::Unreadable(error) => format!("it cannot be read: {error}"),
        Condition::Foreign { .. } => "not the name of a package".into(),
        Condition::NotAFile => "not a file".into(),
    }
}

/// Digests of what arrived and of what is there, as far as they are known.
fn digests(letter: &DeadLetter) -> (Option<u64>, Option<u64>) {
    match letter.condition {
        Condition::Changed { expected, found } => (Some(expected), Some(found)),
        Condition::Whole { digest } => (Some(digest), Some(digest)),
        Condition::Foreign { found } => (None, Some(found)),
        Condition::Unreadable(_) | Condition::NotAFile => (None, None),
    }
}

fn show(letter: &DeadLetter) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: &dyn std::fmt::Display| {
        writeln!(text, "{key:<16} {value}").expect("a string takes all");
    };
    let hex = |digest: Option<u64>| digest.map_or_else(|| "unknown".into(), |it| format!("{it:016x}"));
    let (expected, found) = digests(letter);
    line("name", &name(letter));
    line("file", &Escaped(letter.path.as_os_str().as_encoded_bytes()));
    line("state", &state(letter));
    line("bytes", &letter.size);
    line("arrived", &utc(letter.modified));
    line("moved", &utc(letter.changed));
    line("why", &why(letter));
    line("digest expected", &hex(expected));
    line("digest found", &hex(found));
    match &letter.sent_name {
        Some(sent) => line("requeued as", &Escaped(sent)),
        None => line("requeued as", &"impossible: no package can have this name"),
    }
    text
}

fn document(letter: &DeadLetter) -> Value {
    let hex = |digest: Option<u64>| digest.map(|it| format!("{it:016x}"));
    let (expected, found) = digests(letter);
    let condition = match &letter.condition {
        Condition::Changed { .. } => "changed",
        Condition::Whole { .. } => "whole",
        Condition::Unreadable(_) => "unreadable",
        Condition::Foreign { .. } => "foreign",
        Condition::NotAFile => "not_a_file",
    };
    json!({
        "name": name(letter),
        "file": Escaped(letter.path.as_os_str().as_encoded_bytes()).to_string(),
        "state": state(letter),
        "bytes": letter.size,
        "arrived_ms": millis(letter.modified),
        "moved_ms": millis(letter.changed),
        "condition": condition,
        "why": why(letter),
        "digest_expected": hex(expected),
        "digest_found": hex(found),
        "requeued_as": letter.sent_name.as_deref().map(|sent| Escaped(sent).to_string()),
    })
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// To the second. A clock may have been anywhere, so a time may be beyond what can be written.
fn utc(time: SystemTime) -> String {
    let seconds = millis(time) / 1000;
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("@{seconds}"))
}

fn table<const N: usize>(header: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let lines: Vec<_> = std::iter::once(header.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for line in &lines {
        let cells: Vec<_> = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn say_json(document: &Value) {
    say(&format!("{document:#}\n"));
}

/// A reader that went away (`| head`) is no failure.
fn say(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}
