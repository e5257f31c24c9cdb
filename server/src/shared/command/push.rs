//! `shared push`: an operator wants what is here to be at a site, withheld or not, refused or not.

use std::time::SystemTime;

use serde_json::json;

use super::view::{Line, View};
use super::{Said, shown};
use crate::cli::Failure;
use crate::ledger::seconds;
use crate::shared::names::{Kind, kind_of};

pub(super) fn run(view: &View, names: &[Vec<u8>], site: &str, yes: bool) -> Result<Said, Failure> {
    view.check(site)?;
    let store = view.memory_of()?;
    let mut losing = Vec::new();
    for name in names {
        may_go(view, site, name)?;
        if let Some(words) = view.one(site, name)?.and_then(|line| loss(&line)) {
            losing.push(words);
        }
    }
    if !losing.is_empty() && !yes {
        return Err(Failure::Usage(format!(
            "{}: say --yes if that is to be (`shared diff` shows what differs; what is there is kept here)",
            losing.join("; ")
        )));
    }
    let now = seconds(SystemTime::now());
    store.write(|batch| names.iter().try_for_each(|name| batch.wish(site, name, now)))?;
    let document = |name: &Vec<u8>| json!({ "site": site, "name": shown(name), "outcome": "pushed" });
    let mut text: String = names.iter().map(|name| format!("{} ({site}): pushed\n", shown(name))).collect();
    text += "The server does it at its next look at shared files, as soon as the site can be reached; beside no running \
             server, its next start does.\n";
    let documents: Vec<_> = names.iter().map(document).collect();
    Ok(Said { text, document: json!({ "pairs": documents }) })
}

/// Whether a pair may go to the site at all.
fn may_go(view: &View, site: &str, name: &[u8]) -> Result<(), Failure> {
    let Some(kind) = kind_of(name) else {
        return Err(Failure::Usage(format!(
            "{} is no shared file's name; write <32 digits>.conf, <collection>.zip or <reference>.rcmd",
            shown(name)
        )));
    };
    if kind == Kind::Conf && !view.is_in_scope(site, name) {
        let owner = view.owner(name).map_or_else(String::new, |owner| format!(": it is {owner}'s"));
        return Err(Failure::Other(format!(
            "{} is no configuration of an agent of {site}{owner}. An agent's files go to one site, the one that sent its \
             data first, or that has it in `agents`",
            shown(name)
        )));
    }
    if view.here.is_ambiguous(name) {
        return Err(Failure::Other(format!(
            "{} has the same .md5 as another file here; rename one of the two",
            shown(name)
        )));
    }
    let agreed = view.one(site, name)?.is_some_and(|line| line.pair.agreed.is_some());
    if view.here.get(name).is_none() && !agreed {
        return Err(Failure::Other(format!("{} is not here: there is nothing to push", shown(name))));
    }
    Ok(())
}

/// What the site would lose.
fn loss(line: &Line) -> Option<String> {
    let there = line.pair.there?.digest;
    match line.here {
        Some(here) if here == there => None,
        Some(_) => Some(format!("{} of {} would be overwritten there", shown(&line.name), line.site)),
        None => Some(format!("{} of {} would be removed there", shown(&line.name), line.site)),
    }
}
