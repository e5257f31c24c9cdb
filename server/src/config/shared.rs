//! Shared files: the keys of a site, and the table `[shared]` for all of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::reader::{Place, Problems, Section};
use super::site::Site;
use super::values;
use crate::shared::decide::Uploads;
use crate::shared::names::{self, Key, Kind, MD5_FOLDER};

/// Longest name of an agent; one of its data files could not carry more.
const AGENT_MAX: usize = 200;

/// Shared files of all sites.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    /// What holds `conf`, `md5`, `collections` and `commands`.
    pub(crate) directory: PathBuf,
    /// Between two looks at the directory, and the least time between two syncs of a site.
    pub(crate) interval: Duration,
    /// How long versions are kept that one end lost.
    pub(crate) keep: Duration,
    /// Larger files stay where they are.
    pub(crate) max_size: u64,
    /// How many agents are learned of a site; of more nothing goes to it.
    pub(crate) max_agents: usize,
}

/// Shared files of a site.
#[derive(Debug, Clone, Default)]
pub(crate) struct SiteShared {
    pub(crate) on: bool,
    pub(crate) uploads: Uploads,
    pub(crate) give: Give,
    /// Agents that are the site's own, whatever was sent from where.
    pub(crate) agents: Vec<Agent>,
    /// Whether others are learned from what the site sends.
    pub(crate) learn: Learn,
    /// Main files of collections and commands that go there, whether a configuration names them or not: both for each
    /// word, since the word does not say which it is.
    pub(crate) collections: Vec<String>,
}

/// Whether a claimed agent's site is given what the central had before the claim.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Give {
    /// Not before it has shown that it has the same, or an operator says so: a claim may be a lie.
    #[default]
    Own,
    /// At once.
    Claimed,
}

/// Whether a site's agents are learned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Learn {
    #[default]
    FromData,
    Never,
}

/// An agent that is bound to a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Agent {
    /// As it was written.
    pub(crate) name: String,
    pub(crate) key: Key,
}

impl Shared {
    /// Reads the table. Without one, the pipeline's directory holds the files.
    pub(super) fn read(root: &mut Section<'_>, incoming: &Path, problems: &mut Problems) -> Self {
        let mut section = root.table("shared", problems);
        let shared = Self {
            directory: section.take_or("directory", incoming.to_owned(), problems, values::absolute_path),
            interval: section.take_or("interval", Duration::from_secs(10), problems, values::duration),
            keep: section.take_or("keep", Duration::from_secs(7 * 86_400), problems, values::long_duration),
            max_size: section.take_or("max_size", 100_000_000, problems, values::size),
            max_agents: usize::try_from(
                section.take_or("max_agents", 20_000, problems, |value| values::number(value, 1, 1_000_000)),
            )
            .unwrap_or(usize::MAX),
        };
        section.finish(problems);
        shared
    }

    /// The directories that the console makes: without them, this is the wrong directory, or it is not mounted. The
    /// others are made when they are missing.
    pub(crate) fn folders(&self) -> [PathBuf; 2] {
        [Kind::Conf.folder(), MD5_FOLDER].map(|name| self.directory.join(name))
    }
}

impl SiteShared {
    /// Reads what may stand at the top of the file or in a site.
    pub(super) fn read(section: &mut Section<'_>, base: Self, problems: &mut Problems) -> Self {
        const UPLOADS: [(&str, Uploads); 3] =
            [("off", Uploads::Off), ("first", Uploads::First), ("changed", Uploads::Changed)];
        const GIVE: [(&str, Give); 2] = [("own", Give::Own), ("claimed", Give::Claimed)];
        Self {
            on: section.take_or("sync_shared", base.on, problems, values::boolean),
            uploads: section
                .take_or("shared_uploads", base.uploads, problems, |value| values::word(value, &UPLOADS)),
            give: section.take_or("shared_give", base.give, problems, |value| values::word(value, &GIVE)),
            ..base
        }
    }

    /// The main files that `collections` may mean.
    pub(crate) fn files(&self) -> impl Iterator<Item = Vec<u8>> {
        self.collections.iter().flat_map(|word| files_of(word))
    }

    /// Reads what only a site can say.
    pub(super) fn read_own(&mut self, section: &mut Section<'_>, problems: &mut Problems) {
        self.agents = section.take_or("agents", Vec::new(), problems, |value| {
            values::list(value)?.into_iter().map(Agent::parse).collect()
        });
        let learn = section.take_or("agents_learn", true, problems, values::boolean);
        self.learn = if learn { Learn::FromData } else { Learn::Never };
        self.collections = section.take_or("collections", Vec::new(), problems, |value| {
            let words = values::list(value)?;
            match words.iter().find(|word| files_of(word).is_empty()) {
                None => Ok(words),
                Some(word) => Err(format!(
                    "holds {word:?}, which is no name of a collection or command; write it without its ending"
                )),
            }
        });
    }
}

/// The main files that a collection's or command's word may mean.
fn files_of(word: &str) -> Vec<Vec<u8>> {
    let files = [Kind::Collection, Kind::Command].map(|kind| format!("{word}.{}", kind.extension()));
    files.into_iter().map(String::into_bytes).filter(|name| names::kind_of(name).is_some()).collect()
}

impl Agent {
    fn parse(name: String) -> Result<Self, String> {
        if name.len() > AGENT_MAX || name.chars().any(char::is_control) {
            return Err(format!(
                "holds {name:?}, which is no agent's name: it is too long or has control characters"
            ));
        }
        let key = Key::parse(name.as_bytes()).unwrap_or_else(|| Key::of_agent(name.as_bytes()));
        Ok(Self { name, key })
    }
}

/// What cannot be in one configuration.
pub(super) fn check(sites: &[(Site, Place)], problems: &mut Problems) {
    let mut owners: BTreeMap<Key, &str> = BTreeMap::new();
    for (site, place) in sites {
        for agent in &site.sync.shared.agents {
            if let Some(other) = owners.insert(agent.key, &site.name).filter(|other| *other != site.name) {
                problems.add(
                    *place,
                    format!(
                        "the agent {:?} is in the `agents` of {other:?} and of {:?}, and its files belong to one site; \
                         remove it from one (a key of 32 digits and the name it was made of are the same agent)",
                        agent.name, site.name
                    ),
                );
            }
        }
    }
}
