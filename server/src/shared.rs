//! Shared files: what agents fetch from their node, kept the same at both ends of a site's pull connection.
//!
//! A *pair* is a main file (`<key>.conf`, `<collection>.zip`, `<reference>.rcmd`) and its `.md5`, which says the MD5 of the
//! main file and nothing else. Only main files are compared, by SHA-256, and moved; whoever places one writes its `.md5`
//! after it.
//!
//! Nothing of one site ever goes to another: what may go to a site is what belongs to its agents, and they are known by
//! what the site has sent or by the configuration.
//!
//! - [`names`]: which files are pairs, and whose. [`learn`], [`scope`]: which of them are a site's.
//! - [`here`]: what lies in the central's directories. [`objects`]: contents on their way, and those that one end lost.
//! - [`store`]: what is remembered. [`decide`]: what becomes of a pair. [`command`]: what an operator sees and does.
//! - [`session`]: one sync of a site, over a [`remote`]. [`task`]: when each is synced; [`turn`]: how many at a time.

mod blocking;
pub(crate) mod command;
pub(crate) mod decide;
mod here;
mod learn;
pub(crate) mod names;
mod objects;
mod remote;
mod scope;
mod session;
pub(crate) mod store;
pub(crate) mod task;
#[cfg(test)]
mod tests;
mod turn;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use sha2::{Digest as _, Sha256};
use tidegate_proto::Escaped;
pub(crate) use tidegate_spool::shared::Digest;
use tidegate_spool::shared::{Keep, Pair, Workshop};

use crate::config::shared::{Give, Learn as Learning, SiteShared};
use crate::config::{self, Config};
use crate::crash::Crash;
use crate::ledger::seconds;
use decide::{End, Uploads};
use here::Here;
use learn::{Learn, News};
use names::{Key, Kind};
use objects::Objects;
use scope::{Grounds, Scope};
use store::claims::{Claimed, Terms};
use store::{Store, StoreError};
use task::Bells;
use turn::Turns;

/// Below the state directory: the memory, and the contents.
const MEMORY: &str = "shared";

/// Below the central's directory: where pairs are made ready, on the same file system.
const WORKSHOP: &str = ".tidegate-shared";

/// The largest configuration that is taken from a site, whatever `max_size` says: a node that is not what it should be
/// could claim many agents. A larger one is told as one that could not be moved.
const CONF_TAKEN_MAX: u64 = 1 << 20;

/// For how long a content is left that nobody needs: it may be on its way.
const UNNEEDED: Duration = Duration::from_secs(3_600);

/// How often is looked for contents that need not be kept any longer.
const SWEEP_INTERVAL: Duration = Duration::from_secs(600);

/// Why this end cannot do its part.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SharedError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{what}: {source}")]
    File { what: String, source: io::Error },
}

/// For `map_err`: what could not be done.
fn failed<E: Into<io::Error>>(what: &'static str, path: &Path) -> impl FnOnce(E) -> SharedError {
    let what = format!("{what} {}", path.display());
    move |error| SharedError::File { what, source: error.into() }
}

/// The SHA-256 of a content.
pub(crate) fn digest(content: &[u8]) -> Digest {
    Sha256::digest(content).into()
}

/// Where the memory and the contents lie.
pub(crate) fn memory(state: &Path) -> PathBuf {
    state.join(MEMORY)
}

/// The central's half of sharing files, for all sites.
pub(crate) struct Shared {
    settings: config::shared::Shared,
    rules: Rules,
    store: Store,
    objects: Arc<Objects>,
    here: Mutex<Here>,
    workshop: Workshop,
    learn: Learn,
    swept: Mutex<Option<Instant>>,
    bells: Bells,
    turns: Arc<Turns>,
    crash: Crash,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// What the configuration says of the sites.
#[derive(Debug)]
pub(crate) struct Rules {
    /// The sites that share files.
    sites: BTreeMap<String, SiteShared>,
    /// All sites of the configuration.
    configured: HashSet<String>,
    /// Agents that are bound to a site.
    bound: BTreeMap<Key, String>,
}

impl Rules {
    pub(crate) fn of(config: &Config) -> Self {
        let sites = || config.sites.iter().map(|site| (site.name.clone(), &site.sync.shared));
        let bound = sites()
            .flat_map(|(site, shared)| shared.agents.iter().map(move |agent| (agent.key, site.clone())));
        Self {
            bound: bound.collect(),
            configured: sites().map(|(site, _)| site).collect(),
            sites: sites()
                .filter(|(_, shared)| shared.on)
                .map(|(site, shared)| (site, shared.clone()))
                .collect(),
        }
    }

    /// Whether a site's claims give it anything. The others only keep others from what is theirs.
    fn goes_by_claims(&self, site: &str) -> bool {
        self.sites.get(site).is_some_and(|shared| shared.learn == Learning::FromData)
    }

    /// The sites that share files, in order.
    pub(crate) fn sites(&self) -> impl Iterator<Item = &str> {
        self.sites.keys().map(String::as_str)
    }

    pub(crate) fn uploads(&self, site: &str) -> Uploads {
        self.sites.get(site).map_or(Uploads::Off, |shared| shared.uploads)
    }

    /// What may go to a site and come from it.
    pub(crate) fn scope(&self, site: &str, store: &Store, here: &mut Here) -> Result<Scope, StoreError> {
        let Some(shared) = self.sites.get(site) else { return Ok(Scope::default()) };
        let pairs = store.pairs(site)?;
        let claimed = if self.goes_by_claims(site) { store.claimed(site)? } else { Vec::new() };
        let elsewhere = self.bound.iter().filter(|(_, owner)| *owner != site).map(|(key, _)| *key).collect();
        let grounds = Grounds {
            claimed,
            bound: shared.agents.iter().map(|agent| agent.key).collect(),
            bound_elsewhere: &elsewhere,
            configured: shared.files().collect(),
            pairs: &pairs,
        };
        Ok(Scope::of(&grounds, here))
    }
}

impl Shared {
    /// Opens it; `None`: no site shares files.
    pub(crate) fn open(config: &Config) -> Result<Option<Arc<Self>>, SharedError> {
        Self::open_with(config, Crash::from_environment())
    }

    fn open_with(config: &Config, crash: Crash) -> Result<Option<Arc<Self>>, SharedError> {
        let rules = Rules::of(config);
        if rules.sites.is_empty() {
            return Ok(None);
        }
        let settings = config.shared.clone();
        let directory = &settings.directory;
        let here = Here::open(directory).map_err(failed(
            "`sync_shared` is on; correct `directory` in [shared], or mount or make it as the console does:",
            directory,
        ))?;
        let workshop = directory.join(WORKSHOP);
        store::make_private(&workshop)?;
        let workshop = Workshop::open(&workshop, Keep::Recent, &|name| here.pair(name))
            .map_err(failed("cannot work on shared files in", &workshop))?;
        let memory = memory(&config.incoming.state);
        let store = Store::open(&memory)?;
        let objects = Objects::open(&memory).map_err(failed("cannot use", &memory))?;
        // Those that share nothing claim, too: what is theirs must not become another's.
        let learn = Learn::new(rules.configured.iter().cloned(), settings.max_agents);
        for site in &rules.configured {
            learn.know(site, store.agents(site)?);
        }
        let bells = Bells::new(rules.sites());
        Ok(Some(Arc::new(Self {
            settings,
            rules,
            store,
            objects: Arc::new(objects),
            here: Mutex::new(here),
            workshop,
            learn,
            swept: Mutex::default(),
            bells,
            turns: Arc::default(),
            crash,
        })))
    }

    /// A site gave packages of these names. Costs no disk; what is new is written at the next [`Shared::scan`].
    pub(crate) fn learned<'a>(&self, site: &str, packages: impl IntoIterator<Item = &'a [u8]>) {
        self.learn.seen(site, packages);
    }

    /// Looks at the central's directories, and writes what was learned. Returns the sites for which there may be
    /// something to do; where this fails, nothing that was seen is forgotten. Blocks.
    pub(crate) fn scan(&self) -> Result<Vec<String>, SharedError> {
        let directory = &self.settings.directory;
        self.here().scan().map_err(failed("cannot read the shared files in", directory))?;
        let mut sites: BTreeSet<String> = self.write_learned()?.into_iter().collect();
        let concerned = self.complete().and_then(|completed| self.concerned(completed));
        match concerned {
            Ok(concerned) => sites.extend(concerned),
            Err(error) => {
                sites.iter().for_each(|site| self.bells.ring(site));
                return Err(error);
            }
        }
        sites.retain(|site| self.rules.sites.contains_key(site));
        if let Err(error) = self.sweep() {
            tracing::warn!(%error, "contents of shared files that nobody needs stay for now");
        }
        Ok(sites.into_iter().collect())
    }

    /// The sites that a wish concerns, or what was seen to be another, or is whole now.
    fn concerned(&self, completed: Vec<Box<[u8]>>) -> Result<BTreeSet<String>, SharedError> {
        let mut changed = self.here().take_untold();
        changed.extend(completed);
        let concerned = || {
            let mut sites: BTreeSet<String> = self.store.wished_sites()?.into_iter().collect();
            for site in self.rules.sites().filter(|_| !changed.is_empty()) {
                let scope = self.scope(site)?;
                if changed.iter().any(|name| scope.contains(name)) {
                    sites.insert(site.to_owned());
                }
            }
            Ok::<_, StoreError>(sites)
        };
        let concerned = concerned();
        if concerned.is_err() {
            self.here().tell_again(changed);
        }
        Ok(concerned?)
    }

    /// Writes down what was learned. Returns the sites that have an agent more.
    fn write_learned(&self) -> Result<Vec<String>, StoreError> {
        if self.store.was_begun_anew() {
            self.learn.begin_anew();
        }
        let mut sites = Vec::new();
        let mut result = Ok(());
        for (site, news) in self.learn.take() {
            match self.claim(site, &news) {
                Ok(true) => sites.push(site.to_owned()),
                Ok(false) => {}
                Err(error) => {
                    self.learn.unlearn(site, &news.agents);
                    result = Err(error);
                }
            }
        }
        result.map(|()| sites)
    }

    /// Whether the site has an agent more.
    fn claim(&self, site: &str, news: &News) -> Result<bool, StoreError> {
        let give = self.rules.sites.get(site).map(|shared| shared.give).unwrap_or_default();
        let here = self.here();
        // What cannot be read, or has just vanished, is here.
        let may_give = |key: Key| give == Give::Claimed || here.end(&key.conf()) == End::NONE;
        let terms = Terms {
            configured: &|site| self.rules.configured.contains(site),
            may_give: &may_give,
            max: self.settings.max_agents,
            now: seconds(SystemTime::now()),
        };
        let claims = self.store.write(|batch| {
            let claims = batch.claim(site, &news.agents, &terms)?;
            if news.overfull || claims.iter().any(|(_, _, claim)| *claim == Claimed::Full) {
                batch.overfull(site)?;
            }
            Ok(claims)
        })?;
        let counts = self.rules.goes_by_claims(site);
        let mut more = false;
        for (agent, key, claim) in claims {
            let is_now = matches!(claim, Claimed::Now { .. });
            more |= is_now && counts;
            if counts || !is_now {
                say_claim(site, agent, key, &claim);
            }
        }
        Ok(more)
    }

    /// Writes the `.md5` of what has none that fits and is a site's, after two looks. Returns what is whole now.
    fn complete(&self) -> Result<Vec<Box<[u8]>>, SharedError> {
        let unfit = self.here().unfit();
        let mut completed = Vec::new();
        if unfit.is_empty() {
            return Ok(completed);
        }
        let scopes = self.rules.sites().map(|site| self.scope(site)).collect::<Result<Vec<_>, _>>()?;
        for (name, digest) in unfit {
            let Some(pair) = self.pair(&name).filter(|_| scopes.iter().any(|scope| scope.contains(&name)))
            else {
                continue;
            };
            match self.workshop.complete(&name, &pair, digest) {
                Ok(_) => {
                    self.here().refresh(&name).map_err(failed("cannot read", &pair.file))?;
                    completed.push(name);
                }
                Err(error) => {
                    let error = io::Error::from(error);
                    let file = pair.md5.display();
                    tracing::warn!(%file, %error, "a shared file's .md5 is missing or wrong, and cannot be written");
                }
            }
        }
        Ok(completed)
    }

    /// Lets go, now and then, of what need not be kept any longer.
    fn sweep(&self) -> Result<(), SharedError> {
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        if swept.is_some_and(|at| at.elapsed() < SWEEP_INTERVAL) {
            return Ok(());
        }
        *swept = Some(Instant::now());
        let (now, keep) = (SystemTime::now(), self.settings.keep);
        let then = seconds(now).saturating_sub(i64::try_from(keep.as_secs()).unwrap_or(i64::MAX));
        self.store.write(|batch| batch.expire(then))?;
        let needed = self.store.kept_digests()?;
        let directory = &self.settings.directory;
        self.objects
            .sweep(&needed, UNNEEDED, now)
            .map_err(failed("cannot remove old contents of", directory))?;
        Ok(())
    }

    /// What rings for a sync.
    pub(crate) fn bells(&self) -> &Bells {
        &self.bells
    }

    fn turns(&self) -> &Arc<Turns> {
        &self.turns
    }

    fn crash(&self) -> &Crash {
        &self.crash
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn objects(&self) -> &Arc<Objects> {
        &self.objects
    }

    pub(crate) fn workshop(&self) -> &Workshop {
        &self.workshop
    }

    /// What lies here, until the guard is dropped.
    pub(crate) fn here(&self) -> MutexGuard<'_, Here> {
        // It is looked at again.
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What may go to a site and come from it.
    pub(crate) fn scope(&self, site: &str) -> Result<Scope, StoreError> {
        self.rules.scope(site, &self.store, &mut self.here())
    }

    /// Where a pair lies here.
    pub(crate) fn pair(&self, name: &[u8]) -> Option<Pair> {
        self.here().pair(name)
    }

    /// The sites that share files.
    pub(crate) fn sites(&self) -> Vec<&str> {
        self.rules.sites().collect()
    }

    pub(crate) fn uploads(&self, site: &str) -> Uploads {
        self.rules.uploads(site)
    }

    pub(crate) fn interval(&self) -> Duration {
        self.settings.interval
    }

    pub(crate) fn max_size(&self) -> u64 {
        self.settings.max_size
    }

    /// The largest content that is taken from a site, for a main file of this name.
    pub(crate) fn max_taken(&self, name: &[u8]) -> u64 {
        match names::kind_of(name) {
            Some(Kind::Conf) => self.settings.max_size.min(CONF_TAKEN_MAX),
            _ => self.settings.max_size,
        }
    }
}

/// Tells the log about a claim, where it is news.
fn say_claim(site: &str, agent: &[u8], key: Key, claim: &Claimed) {
    let agent = Escaped(agent);
    match claim {
        Claimed::Now { may_give: true } => {
            tracing::info!(site, %agent, %key, "an agent's shared files are this site's from now on");
        }
        Claimed::Now { may_give: false } => {
            tracing::warn!(
                site, %agent, %key,
                "a site sent data of an agent whose configuration is here already; it gets it when it shows that it has \
                 the same, or after `tidegate-server shared push`, or when `agents` of the site has it"
            );
        }
        Claimed::Others { site: owner, new: true } => {
            tracing::warn!(
                site, owner, %agent, %key,
                "a site sent data of an agent that is another site's; its shared files stay that one's (`agents` of a \
                 site says otherwise)"
            );
        }
        Claimed::Full => {
            tracing::debug!(site, %agent, "the site has more agents than max_agents; this one's files stay here");
        }
        Claimed::Before | Claimed::Others { new: false, .. } => {}
    }
}
