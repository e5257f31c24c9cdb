//! `quarantine list|show|requeue|purge`: what an operator sees of packages that could not be delivered, and does.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io;
use std::time::SystemTime;

use serde_json::{Value, json};
use tidegate_proto::Escaped;

use super::{Outcome, Quarantine};
use crate::body::digest_of;
use crate::cli::{Failure, QuarantineCommand, Selection};
use crate::config::Config;
use crate::find;
use crate::ledger::{LedgerError, Package, seconds};
use crate::report::{self, utc_or_dash};

/// Does what the command says.
pub(crate) fn run(config: &Config, command: &QuarantineCommand) -> Result<(), Failure> {
    let mut quarantine = Quarantine::open(&config.incoming).map_err(|error| Failure::ledger(&error))?;
    match command {
        QuarantineCommand::List { site, json, .. } => {
            let packages = match &quarantine {
                None => Vec::new(),
                Some(quarantine) => listed(quarantine, site.as_deref())?,
            };
            if *json {
                let packages: Vec<_> = packages.iter().map(find::document).collect();
                report::say_json(&json!({ "packages": packages }));
            } else {
                report::say(&list(&packages));
            }
            Ok(())
        }
        QuarantineCommand::Show(selection) => {
            let quarantine = some(quarantine.as_ref(), selection)?;
            let packages = selected(quarantine, selection)?;
            show(quarantine, &packages, selection.json);
            Ok(())
        }
        QuarantineCommand::Requeue(selection) => {
            let quarantine = some(quarantine.as_mut(), selection)?;
            let packages = selected(quarantine, selection)?;
            decide(&packages, selection.json, "requeued", |id| quarantine.requeue(id))
        }
        QuarantineCommand::Purge { selection, yes } => {
            let quarantine = some(quarantine.as_mut(), selection)?;
            let packages = selected(quarantine, selection)?;
            if !*yes {
                return Err(Failure::Usage(format!(
                    "{} packages would be lost to the pipeline for good; say --yes if that is to be (`quarantine show` \
                     says what they are)",
                    packages.len()
                )));
            }
            decide(&packages, selection.json, "purged", |id| quarantine.purge(id))
        }
    }
}

fn listed(quarantine: &Quarantine, site: Option<&str>) -> Result<Vec<Package>, Failure> {
    quarantine.list(site).map_err(|error| Failure::ledger(&error))
}

/// Without a ledger there is nothing of any name.
fn some<T>(quarantine: Option<T>, selection: &Selection) -> Result<T, Failure> {
    quarantine.ok_or_else(|| nothing(selection))
}

fn nothing(selection: &Selection) -> Failure {
    let which = selection.which.as_ref().map_or_else(|| "anything".into(), shown);
    let site = selection.site.as_ref().map_or_else(String::new, |site| format!(" of the site {site:?}"));
    Failure::Other(format!(
        "{which}{site} is not in quarantine (any more): `tidegate-server quarantine list` shows what is, \
         `tidegate-server find` where a package is"
    ))
}

fn shown(which: &OsString) -> String {
    Escaped(&report::unescape(which)).to_string()
}

/// The packages that are meant: at least one.
fn selected(quarantine: &Quarantine, selection: &Selection) -> Result<Vec<Package>, Failure> {
    let mut packages = listed(quarantine, selection.site.as_deref())?;
    if let Some(which) = &selection.which {
        let name = report::unescape(which);
        let id: Option<i64> = which.to_str().and_then(|text| text.parse().ok());
        packages.retain(|package| Some(package.id) == id || package.name.as_bytes() == name);
        if packages.len() > 1 {
            let ids: Vec<_> =
                packages.iter().map(|package| format!("{} ({})", package.id, package.site)).collect();
            return Err(Failure::Usage(format!(
                "{} are called {}; say which by its number: {}",
                packages.len(),
                shown(which),
                ids.join(", ")
            )));
        }
    }
    if packages.is_empty() { Err(nothing(selection)) } else { Ok(packages) }
}

fn list(packages: &[Package]) -> String {
    let row = |package: &Package| {
        [
            package.id.to_string(),
            package.site.clone(),
            package.name.to_string(),
            package.size.to_string(),
            utc_or_dash(package.delivered),
            reason(package),
        ]
    };
    report::table(["ID", "SITE", "NAME", "BYTES", "SINCE", "WHY"], packages.iter().map(row))
}

fn reason(package: &Package) -> String {
    package.reason.clone().unwrap_or_else(|| "unknown".into())
}

/// What is in the file now, in words and for programs.
fn content(quarantine: &Quarantine, package: &Package) -> (String, Value) {
    match digest_of(&quarantine.path(package)) {
        Ok((digest, size)) if (&digest, size) == (&package.digest, package.size) => {
            ("as it was received".into(), "whole".into())
        }
        Ok((digest, size)) => (format!("changed: {size} bytes, digest {digest}"), "changed".into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => ("gone".into(), "gone".into()),
        Err(error) => (format!("cannot be read: {error}"), "unreadable".into()),
    }
}

fn show(quarantine: &Quarantine, packages: &[Package], json: bool) {
    let now = seconds(SystemTime::now());
    let mut text = String::new();
    let mut documents = Vec::new();
    for package in packages {
        let path = Escaped(quarantine.path(package).as_os_str().as_encoded_bytes()).to_string();
        let (words, word) = content(quarantine, package);
        if !text.is_empty() {
            text.push('\n');
        }
        let _ = write!(
            text,
            "{}  {:<13} {path}\n  {:<13} {words}\n",
            find::card(package, now),
            "file",
            "its content"
        );
        let mut document = find::document(package);
        document["file"] = path.into();
        document["content"] = word;
        documents.push(document);
    }
    if json {
        report::say_json(&json!({ "packages": documents }));
    } else {
        report::say(&text);
    }
}

/// Decides about each package on its own: what is done is done, whatever happens to the next.
fn decide(
    packages: &[Package],
    json: bool,
    done_word: &str,
    mut decide: impl FnMut(i64) -> Result<Outcome, LedgerError>,
) -> Result<(), Failure> {
    let (mut documents, mut failed) = (Vec::new(), 0);
    // Line by line as it goes: a long one may be interrupted.
    let tell = |line: &str| {
        if !json {
            report::say(line);
        }
    };
    for package in packages {
        let outcome = decide(package.id).map_err(|error| Failure::ledger(&error));
        let (word, remark) = match &outcome {
            Ok(Outcome::Done(_)) if done_word == "purged" && package.on_site => {
                (done_word, "; the site may still have it, and then gives it again")
            }
            Ok(Outcome::Done(_)) => (done_word, ""),
            Ok(Outcome::Unknown) => ("left", ": it is not in quarantine any more"),
            Ok(Outcome::FileMissing(_)) => ("left", ": its file is gone; put it back, or purge it"),
            Ok(Outcome::Changed(package)) if package.on_site => (
                "left",
                ": its file does not have the bytes that came; it is pulled again while the site has it",
            ),
            Ok(Outcome::Changed(_)) => (
                "left",
                ": its file does not have the bytes that came; put a good copy in its place, or purge it",
            ),
            Ok(Outcome::GoodCopyDelivered(_)) => {
                ("left", ": the same bytes came again and were delivered; purge it")
            }
            Err(_) => ("failed", ""),
        };
        failed += usize::from(word != done_word);
        tell(&format!("{} {} ({}): {word}{remark}\n", package.id, package.name, package.site));
        documents.push(json!({
            "sequence": package.id,
            "name": package.name.to_string(),
            "site": package.site,
            "outcome": word,
        }));
        if let Err(failure) = outcome {
            say_documents(json, &documents);
            return Err(failure);
        }
    }
    if done_word == "requeued" && failed < packages.len() {
        tell(
            "The server delivers them at the next turn of their site; beside no running server, its next start does.\n",
        );
    }
    say_documents(json, &documents);
    match failed {
        0 => Ok(()),
        _ => Err(Failure::Other(format!("{failed} of {} packages were not {done_word}", packages.len()))),
    }
}

fn say_documents(json: bool, documents: &[Value]) {
    if json {
        report::say_json(&json!({ "packages": documents }));
    }
}
