//! The configuration file: raw TOML becomes a [`Config`], or everything that is wrong with it at once.
//!
//! Only this module and its children see raw strings. A password becomes its digest right here, so that nothing
//! can print it. Of other files only `sync_password_file` and the local accounts are read: whether certificates
//! and directories are usable is found out by using them (`validate` does, and so does the start).

mod account;
mod address;
mod reader;
pub(crate) mod shared;
mod site;
mod values;

pub(crate) use reader::Problems;
pub(crate) use site::{PullMode, Site, SyncKeys};

use std::path::{Path, PathBuf};

use reader::{Place, Section};
use shared::Shared;

use crate::ledger::Retention;
use crate::pipeline::REPEAT_WINDOW;

/// The hidden directory inside `incomingdir` where files wait until they are handed over.
const STAGING: &str = ".tidegate";

/// Where the ledger lies if nothing else is said: the state directory of the unit.
const STATE_DIRECTORY: &str = "/var/lib/tidegate/server";

/// Permission bits of delivered files if nothing else is said.
const MODE: u32 = 0o640;

/// How many sites' batches are written to disk at the same time if nothing else is said.
const CONCURRENCY: u64 = 8;

/// Everything the server was told.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) incoming: Incoming,
    /// How many sites' batches are written to disk at the same time.
    pub(crate) concurrency: usize,
    pub(crate) sites: Vec<Site>,
    pub(crate) shared: Shared,
}

/// Where packages go.
#[derive(Debug, Clone)]
pub(crate) struct Incoming {
    /// The pipeline's directory.
    pub(crate) directory: PathBuf,
    /// Where files wait before they are handed over, on the same file system.
    pub(crate) staging: PathBuf,
    /// Where the ledger lies.
    pub(crate) state: PathBuf,
    pub(crate) ownership: Ownership,
    /// With this many files in `incomingdir` nothing more is pulled.
    pub(crate) max_files: Option<u64>,
    /// How much the ledger remembers of what is delivered and gone.
    pub(crate) history: Retention,
    pub(crate) after_power_loss: AfterPowerLoss,
}

/// What becomes of packages that the pipeline may have had before the power was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterPowerLoss {
    /// They are delivered: a double is better than a loss.
    Deliver,
    /// An operator decides.
    Quarantine,
}

/// Who may read delivered files.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ownership {
    pub(crate) user: Option<u32>,
    pub(crate) group: Option<u32>,
    pub(crate) mode: u32,
}

impl Config {
    /// Reads and checks a file.
    pub(crate) fn load(file: &Path) -> Result<Self, Problems> {
        let text = std::fs::read_to_string(file).map_err(|error| Problems::unreadable(file, &error))?;
        Self::parse(file, &text)
    }

    fn parse(file: &Path, text: &str) -> Result<Self, Problems> {
        let mut problems = Problems::new(file, text);
        let mut root = Section::document(text, &mut problems);
        let concurrency = root.take_or("max_concurrent_sites", CONCURRENCY, &mut problems, |value| {
            values::number(value, 1, 1_000)
        });
        let incoming = incoming(&mut root, &mut problems);
        let config = Self {
            shared: Shared::read(&mut root, &incoming.directory, &mut problems),
            incoming,
            concurrency: usize::try_from(concurrency).unwrap_or(1),
            sites: site::read(&mut root, &mut problems),
        };
        root.finish(&mut problems);
        problems.or(config)
    }

    /// What works, but deserves a second look.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<_> = self.sites.iter().flat_map(Site::warnings).collect();
        let window = REPEAT_WINDOW.as_secs() / 86_400;
        if self.incoming.history.keep < REPEAT_WINDOW {
            warnings.push(format!(
                "history_keep is less than {window} days: what a stock site's agent sends again after it was forgotten \
                 arrives twice"
            ));
        }
        warnings
    }
}

fn incoming(root: &mut Section<'_>, problems: &mut Problems) -> Incoming {
    let directory = root.take("incomingdir", problems, values::absolute_path).map(|(path, _)| path);
    if directory.is_none() && !root.was_asked_in_vain("incomingdir") {
        problems.add(Place::FILE, "`incomingdir` is missing; write the directory that the pipeline reads");
    }
    let directory = directory.unwrap_or_default();
    let account = |read: fn(&str) -> Result<u32, String>| move |value: &_| read(&values::text(value)?);
    let kept = Retention::default();
    Incoming {
        staging: root.take_or("staging", directory.join(STAGING), problems, values::absolute_path),
        state: root.take_or("state_directory", STATE_DIRECTORY.into(), problems, values::absolute_path),
        ownership: Ownership {
            user: root.take("incoming_owner", problems, account(account::user)).map(|(id, _)| id),
            group: root.take("incoming_group", problems, account(account::group)).map(|(id, _)| id),
            mode: root.take_or("incoming_mode", MODE, problems, values::mode),
        },
        max_files: root
            .take("incoming_max_files", problems, |value| values::number(value, 1, 100_000_000))
            .map(|(max, _)| max),
        after_power_loss: root.take_or("after_power_loss", AfterPowerLoss::Deliver, problems, |value| {
            let words = [("deliver", AfterPowerLoss::Deliver), ("quarantine", AfterPowerLoss::Quarantine)];
            values::word(value, &words)
        }),
        history: Retention {
            max: root
                .take_or("history_max", kept.max, problems, |value| values::number(value, 1, 1_000_000_000)),
            keep: root.take_or("history_keep", kept.keep, problems, values::long_duration),
        },
        directory,
    }
}

#[cfg(test)]
mod tests;
