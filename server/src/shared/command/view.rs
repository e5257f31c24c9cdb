//! What the commands look at: both ends of every pair, and what is to become of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::cli::Failure;
use crate::config::Config;
use crate::ledger::milliseconds;
use crate::shared::decide::{Census, End, Question, Step, Waiting, decide};
use crate::shared::here::Here;
use crate::shared::names::{Key, Kind, kind_of};
use crate::shared::scope::Scope;
use crate::shared::store::Store;
use crate::shared::store::kept::Kept;
use crate::shared::store::pairs::Pair;
use crate::shared::{Digest, Rules, failed, memory};

/// Everything, as it is now.
pub(super) struct View {
    pub(super) rules: Rules,
    /// `None`: the server has not run yet with `sync_shared`.
    pub(super) store: Option<Store>,
    pub(super) here: Here,
    pub(super) memory: PathBuf,
    pub(super) directory: PathBuf,
    interval: Duration,
    sites: BTreeMap<String, SiteView>,
    lost_here: Census,
}

struct SiteView {
    scope: Scope,
    pairs: BTreeMap<Box<[u8]>, Pair>,
    lost_there: Census,
}

impl SiteView {
    fn new(scope: Scope, pairs: BTreeMap<Box<[u8]>, Pair>) -> Self {
        let mut of_site = Self { scope, pairs, lost_there: Census::default() };
        of_site.lost_there = Census::of(of_site.agreed().map(|(name, pair)| (name, pair.there.is_some())));
        of_site
    }

    /// What both ends had.
    fn agreed(&self) -> impl Iterator<Item = (&[u8], &Pair)> {
        let pairs = self.pairs.iter().map(|(name, pair)| (&**name, pair));
        pairs.filter(|(name, pair)| pair.agreed.is_some() && self.scope.contains(name))
    }
}

/// A pair at a site.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) site: String,
    pub(super) name: Box<[u8]>,
    /// The agent's name, if the site has sent a package of it.
    pub(super) agent: Option<Box<[u8]>>,
    pub(super) state: State,
    pub(super) remark: Option<String>,
    pub(super) here: Option<Digest>,
    pub(super) pair: Pair,
    /// Other sites that say that the agent is theirs.
    pub(super) too: Vec<String>,
}

/// How a pair is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    InSync,
    OnItsWay,
    Waiting,
    Withheld,
    /// The site's own, which its `shared_uploads` leave there.
    LeftThere,
    Refused,
    /// It shows a pair that is not the site's.
    Foreign,
    /// Another main file here has the same `.md5`.
    Ambiguous,
}

impl State {
    /// For programs.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::InSync => "in-sync",
            Self::OnItsWay => "on-its-way",
            Self::Waiting => "waiting",
            Self::Withheld => "withheld",
            Self::LeftThere => "left-there",
            Self::Refused => "refused",
            Self::Foreign => "foreign",
            Self::Ambiguous => "ambiguous",
        }
    }
}

impl View {
    /// Looks at everything.
    pub(super) fn open(config: &Config) -> Result<Self, Failure> {
        let rules = Rules::of(config);
        if rules.sites().next().is_none() {
            return Err(Failure::Setting(
                "no site shares files: write `sync_shared = true` at the top of the configuration, or in a [[site]]".into(),
            ));
        }
        let directory = config.shared.directory.clone();
        let memory = memory(&config.incoming.state);
        let store = Store::beside(&memory)?;
        let mut here = Here::of(&directory);
        here.scan().map_err(failed("cannot read the shared files in", &directory))?;
        let mut sites = BTreeMap::new();
        if let Some(store) = &store {
            for site in rules.sites() {
                let scope = rules.scope(site, store, &mut here)?;
                sites.insert(site.to_owned(), SiteView::new(scope, store.pairs(site)?));
            }
        }
        let agreed: BTreeSet<_> = sites.values().flat_map(SiteView::agreed).map(|(name, _)| name).collect();
        let lost_here = Census::of(agreed.iter().map(|name| (*name, here.get(name).is_some())));
        let interval = config.shared.interval;
        Ok(Self { rules, store, here, memory, directory, interval, sites, lost_here })
    }

    /// Whether a site shares files; words if not.
    pub(super) fn check(&self, site: &str) -> Result<(), Failure> {
        if self.rules.sites().any(|known| known == site) {
            return Ok(());
        }
        let known: Vec<_> = self.rules.sites().collect();
        Err(Failure::Usage(format!(
            "no site that shares files is called {site:?}; there are: {}",
            known.join(", ")
        )))
    }

    /// Whether the pair is one of the site's.
    pub(super) fn is_in_scope(&self, site: &str, name: &[u8]) -> bool {
        self.sites.get(site).is_some_and(|of_site| of_site.scope.contains(name))
    }

    /// Everything of a site or of all.
    pub(super) fn lines(&self, only: Option<&str>) -> Result<Vec<Line>, Failure> {
        if let Some(site) = only {
            self.check(site)?;
        }
        let mut lines = Vec::new();
        for (site, of_site) in self.sites.iter().filter(|(site, _)| only.is_none_or(|only| only == *site)) {
            let names = of_site.pairs.keys().map(|name| &**name).chain(of_site.scope.names());
            let names: BTreeSet<&[u8]> =
                names.chain(of_site.scope.ambiguous().iter().map(|name| &**name)).collect();
            for name in names {
                lines.extend(self.line(site, of_site, name)?);
            }
        }
        Ok(lines)
    }

    /// One of a site's pairs; `None`: there is nothing to be said of it.
    pub(super) fn one(&self, site: &str, name: &[u8]) -> Result<Option<Line>, Failure> {
        self.check(site)?;
        self.sites.get(site).map_or(Ok(None), |of_site| self.line(site, of_site, name))
    }

    fn line(&self, site: &str, of_site: &SiteView, name: &[u8]) -> Result<Option<Line>, Failure> {
        let Some(store) = &self.store else { return Ok(None) };
        let pair = of_site.pairs.get(name).cloned().unwrap_or_default();
        let here = self.here.get(name).map(|seen| seen.digest);
        let claim = Key::of_conf(name).map(|key| store.claimant(key)).transpose()?.flatten();
        let (state, remark) = if of_site.scope.ambiguous().iter().any(|other| **other == *name) {
            let words = "another file here has the same .md5: rename one of the two";
            (State::Ambiguous, Some(words.into()))
        } else if let (true, Some(kind)) = (of_site.scope.contains(name), kind_of(name)) {
            let there = pair.there.map(|there| there.digest);
            if here.is_none() && there.is_none() && pair.agreed.is_none() && pair.refused.is_none() {
                return Ok(None);
            }
            let question = self.question(site, of_site, name, kind, &pair, store)?;
            state(&decide(&question), &pair)
        } else if pair.there.is_some() {
            let words = match &claim {
                Some(claim) if claim.site != site => format!("the site shows it; it is {}'s", claim.site),
                _ => "the site shows it; it is none of its agents', or no configuration from here names it"
                    .into(),
            };
            (State::Foreign, Some(words))
        } else {
            return Ok(None);
        };
        let claim = claim.filter(|claim| claim.site == site);
        let (agent, too) = claim.map_or((None, Vec::new()), |claim| (Some(claim.agent), claim.too));
        Ok(Some(Line { site: site.to_owned(), name: name.into(), agent, state, remark, here, pair, too }))
    }

    fn question(
        &self,
        site: &str,
        of_site: &SiteView,
        name: &[u8],
        kind: Kind,
        pair: &Pair,
        store: &Store,
    ) -> Result<Question, Failure> {
        let here = self.here.end(name);
        let old = store.old(site, name, pair, here.digest)?;
        Ok(Question {
            kind,
            agreed: pair.agreed,
            intent: pair.intent,
            // It has been looked at only once: whether it is being written is for the server to see.
            here: End { settled: here.fits || here.digest.is_none(), ..here },
            there: pair.there_end(milliseconds(SystemTime::now()), self.interval),
            may_give: of_site.scope.may_give(name),
            uploads: self.rules.uploads(site),
            was_before: old.there,
            is_back: old.here,
            pushed: pair.wished.is_some(),
            lost_here: self.lost_here.has_lost(kind),
            lost_there: of_site.lost_there.has_lost(kind),
        })
    }

    /// Versions that are kept, newest first.
    pub(super) fn kept(&self, site: Option<&str>) -> Result<Vec<Kept>, Failure> {
        Ok(self.store.as_ref().map_or(Ok(Vec::new()), |store| store.kept(site))?)
    }

    /// The memory; words if there is none yet.
    pub(super) fn memory_of(&self) -> Result<&Store, Failure> {
        self.store.as_ref().ok_or_else(|| {
            Failure::Temporary("the server has not run yet with `sync_shared`; start it first".into())
        })
    }

    /// Of which site a pair is.
    pub(super) fn owner(&self, name: &[u8]) -> Option<&str> {
        self.sites.iter().find(|(_, of_site)| of_site.scope.contains(name)).map(|(site, _)| site.as_str())
    }
}

/// The state that an operator is told, and a remark.
fn state(step: &Step, pair: &Pair) -> (State, Option<String>) {
    let pushed = pair.wished.map(|_| "pushed");
    let on_its_way = |words: &str| {
        (State::OnItsWay, Some(pushed.map_or(words.to_owned(), |pushed| format!("{words}, {pushed}"))))
    };
    let is_settled = matches!(step, Step::Rest | Step::Agree(_) | Step::Forget);
    match &pair.refused {
        Some(refusal) if !is_settled => return (State::Refused, Some(refusal.words.clone())),
        _ => {}
    }
    match step {
        Step::Rest | Step::Agree(_) | Step::Forget => (State::InSync, None),
        Step::Prove { .. } => on_its_way("it is compared with what the site says it has"),
        Step::Place { digest, over, .. } if *over == Some(*digest) => on_its_way("its .md5 there"),
        Step::Place { .. } => on_its_way("to the site"),
        Step::Remove { .. } => on_its_way("to be removed there"),
        Step::Take { .. } => on_its_way("from the site"),
        Step::Drop { .. } => on_its_way("to be removed here"),
        Step::Leave => (State::LeftThere, Some("`shared_uploads` does not let it come".into())),
        Step::Withhold => (
            State::Withheld,
            Some("it was here before the site spoke of it: `tidegate-server shared push` lets it go there".into()),
        ),
        Step::Wait(Waiting::Here) => (State::Waiting, Some("for its .md5 here".into())),
        Step::Wait(Waiting::There) => (State::Waiting, Some("for its .md5 there".into())),
        Step::Wait(Waiting::LostHere) => (
            State::Waiting,
            Some("much that was shared is missing here at once: is the directory mounted? `shared push` removes it there".into()),
        ),
    }
}
