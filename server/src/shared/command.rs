//! `shared list|diff|push|restore`: what an operator sees of shared files, and does about them.
//!
//! All of it works beside a running server, and without one. What lies here is looked at anew; what lies at a site is what
//! its node showed at the last sync. Nothing is moved by a command but what `restore` puts into the central's directory:
//! a `push` is a wish, which the server fulfils at its next look.

mod diff;
mod list;
mod push;
mod restore;
#[cfg(test)]
mod tests;
mod view;

use std::ffi::OsString;
use std::io;

use serde_json::Value;
use tidegate_proto::Escaped;

use super::store::StoreError;
use super::{Digest, SharedError};
use crate::body;
use crate::cli::{Failure, SharedCommand};
use crate::config::Config;
use crate::report;
use view::View;

/// How many of a digest's digits are shown in a table.
const DIGITS: usize = 12;

/// What a command answers: for people, and for programs.
#[derive(Debug)]
struct Said {
    text: String,
    document: Value,
}

/// Does what the command says, and says it.
pub(crate) fn run(config: &Config, command: &SharedCommand) -> Result<(), Failure> {
    let said = answer(config, command)?;
    match command {
        SharedCommand::List { json: true, .. }
        | SharedCommand::Diff { json: true, .. }
        | SharedCommand::Push { json: true, .. }
        | SharedCommand::Restore { json: true, .. } => report::say_json(&said.document),
        _ => report::say(&said.text),
    }
    Ok(())
}

fn answer(config: &Config, command: &SharedCommand) -> Result<Said, Failure> {
    let view = View::open(config)?;
    match command {
        SharedCommand::List { site, .. } => list::run(&view, site.as_deref()),
        SharedCommand::Diff { names, site, .. } => diff::run(&view, &bytes_of(names), site.as_deref()),
        SharedCommand::Push { names, site, yes, .. } => push::run(&view, &bytes_of(names), site, *yes),
        SharedCommand::Restore { which, site, yes, .. } => restore::run(&view, which, site.as_deref(), *yes),
    }
}

fn bytes_of(names: &[OsString]) -> Vec<Vec<u8>> {
    names.iter().map(|name| report::unescape(name)).collect()
}

/// The beginning of a digest, or a dash.
fn short(digest: Option<Digest>) -> String {
    digest.map_or_else(|| "-".into(), |digest| whole(digest)[..DIGITS].to_owned())
}

fn whole(digest: Digest) -> String {
    body::Digest::from(digest).to_string()
}

fn shown(name: &[u8]) -> String {
    Escaped(name).to_string()
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let text = error.to_string();
        match &error {
            StoreError::File { source, .. } => Self::io(text, source),
            StoreError::Newer { .. } => Self::Setting(text),
            StoreError::Older | StoreError::BegunAnew(_) => Self::Temporary(text),
            StoreError::Sql(_) if error.is_busy() => Self::Temporary(text),
            StoreError::Sql(_) => Self::Other(text),
        }
    }
}

impl From<SharedError> for Failure {
    fn from(error: SharedError) -> Self {
        let text = error.to_string();
        match error {
            SharedError::Store(error) => error.into(),
            // Waiting mounts nothing that the configuration names wrongly, but it may be mounted late.
            SharedError::File { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Self::Setting(text)
            }
            SharedError::File { source, .. } => Self::io(text, &source),
        }
    }
}
