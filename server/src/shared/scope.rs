//! What may go to a site and come from it: the shared files of its agents, and what their configurations need.
//!
//! Nothing else of a site's pairs is ever asked for, given, overwritten or removed, whatever its node shows.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Digest;
use super::decide::Intent;
use super::here::Here;
use super::names::{Key, Kind, kind_of};
use super::store::pairs::Pair;

/// What is known of a site that decides about its scope.
pub(crate) struct Grounds<'a> {
    /// The agents that it claimed first, and whether it may be given what the central had before.
    pub(crate) claimed: Vec<(Key, bool)>,
    /// Its agents by the configuration.
    pub(crate) bound: HashSet<Key>,
    /// Other sites' agents by the configuration.
    pub(crate) bound_elsewhere: &'a HashSet<Key>,
    /// Main files that the configuration names.
    pub(crate) configured: HashSet<Vec<u8>>,
    pub(crate) pairs: &'a BTreeMap<Box<[u8]>, Pair>,
}

/// The pairs of a site.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    /// Whether the site may be given what it did not have.
    pairs: BTreeMap<Box<[u8]>, bool>,
    /// Those that would be its, if no other main file here had the same `.md5`.
    ambiguous: Vec<Box<[u8]>>,
}

impl Scope {
    /// Draws the line.
    pub(crate) fn of(grounds: &Grounds<'_>, here: &mut Here) -> Self {
        let mut scope = Self::default();
        let pair = |name: &[u8]| grounds.pairs.get(name);
        let had = |name: &[u8]| pair(name).is_some_and(|pair| pair.agreed.is_some() || pair.allowed);
        let mut mentioned: HashMap<Box<[u8]>, bool> = HashMap::new();
        let bound = grounds.bound.iter().map(|key| (*key, true));
        let claimed = grounds
            .claimed
            .iter()
            .copied()
            .filter(|(key, _)| !grounds.bound_elsewhere.contains(key) && !grounds.bound.contains(key));
        for (key, may_give) in bound.chain(claimed) {
            let name = key.conf();
            let may_give = may_give || had(&name);
            if scope.add(&name, may_give, here) && may_give {
                let content: Option<Digest> = here.get(&name).map(|seen| seen.digest);
                // What the site wrote itself must not open anything to it.
                let is_the_centrals = content
                    .is_some_and(|content| !pair(&name).is_some_and(|pair| is_the_sites(pair, content)));
                for file in here.mentions(&name).iter() {
                    *mentioned.entry(file.clone()).or_default() |= is_the_centrals;
                }
            }
        }
        let of_configuration = grounds.configured.iter().map(|name| (name.clone().into(), true));
        let allowed =
            grounds.pairs.iter().filter(|(_, pair)| pair.allowed).map(|(name, _)| (name.clone(), true));
        // What the central has removed is removed there, too, whoever named it.
        let removed =
            grounds.pairs.iter().filter(|(name, pair)| pair.agreed.is_some() && here.get(name).is_none());
        let removed: Vec<_> = removed.map(|(name, _)| (name.clone(), true)).collect();
        for (name, may_give) in of_configuration.chain(mentioned).chain(allowed).chain(removed) {
            let exists = here.get(&name).is_some() || pair(&name).is_some_and(|pair| pair.agreed.is_some());
            if exists && kind_of(&name).is_some_and(|kind| kind != Kind::Conf) {
                scope.add(&name, may_give || had(&name), here);
            }
        }
        scope
    }

    /// Whether the pair is the site's.
    pub(crate) fn contains(&self, name: &[u8]) -> bool {
        self.pairs.contains_key(name)
    }

    /// Whether the site may be given what it did not have of it.
    pub(crate) fn may_give(&self, name: &[u8]) -> bool {
        self.pairs.get(name).copied().unwrap_or(false)
    }

    /// All of them, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.pairs.keys().map(|name| &**name)
    }

    /// Those that cannot be shared, because another main file here has the same `.md5`.
    pub(crate) fn ambiguous(&self) -> &[Box<[u8]>] {
        &self.ambiguous
    }

    fn add(&mut self, name: &[u8], may_give: bool, here: &Here) -> bool {
        if here.is_ambiguous(name) {
            self.ambiguous.push(name.into());
            return false;
        }
        *self.pairs.entry(name.into()).or_default() |= may_give;
        true
    }
}

/// Whether what is here came from the site, or may have: it was taken up and that is not written down yet, or the site
/// shows the same and nobody remembers whose it was.
fn is_the_sites(pair: &Pair, content: Digest) -> bool {
    let content = Some(content);
    let shows_it = pair.there.is_some_and(|there| Some(there.digest) == content);
    let is_of_nobody = pair.agreed.is_none() && pair.intent != Some(Intent::Down(content));
    pair.taken == content || pair.intent == Some(Intent::Up(content)) || (shows_it && is_of_nobody)
}

#[cfg(test)]
mod tests {
    use super::super::here::tests::{directory, put};
    use super::super::store::pairs::There;
    use super::*;
    use crate::shared::digest;

    const CONF: &str = "2f527604e1deff1329720282d8d3cfa1.conf";

    fn key() -> Key {
        Key::of_conf(CONF.as_bytes()).unwrap()
    }

    struct Case {
        directory: tempfile::TempDir,
        claimed: Vec<(Key, bool)>,
        bound: HashSet<Key>,
        bound_elsewhere: HashSet<Key>,
        configured: HashSet<Vec<u8>>,
        pairs: BTreeMap<Box<[u8]>, Pair>,
    }

    impl Case {
        /// One agent, claimed, whose configuration names a collection.
        fn new(may_give: bool) -> Self {
            let directory = directory();
            put(directory.path(), CONF, "file_collection fc_1\n", true);
            put(directory.path(), "fc_1.zip", "one", true);
            put(directory.path(), "fc_2.zip", "two", true);
            Self {
                directory,
                claimed: vec![(key(), may_give)],
                bound: HashSet::new(),
                bound_elsewhere: HashSet::new(),
                configured: HashSet::new(),
                pairs: BTreeMap::new(),
            }
        }

        fn pair(mut self, name: &str, pair: Pair) -> Self {
            self.pairs.insert(name.as_bytes().into(), pair);
            self
        }

        /// Each pair in the scope, with `?` behind it if it is withheld.
        fn names(&self) -> Vec<String> {
            let scope = self.scope();
            let shown = |name: &[u8]| {
                let mark = if scope.may_give(name) { "" } else { "?" };
                format!("{}{mark}", String::from_utf8(name.to_vec()).unwrap())
            };
            scope.names().map(shown).collect()
        }

        fn scope(&self) -> Scope {
            let mut here = Here::of(self.directory.path());
            here.scan().unwrap();
            let grounds = Grounds {
                claimed: self.claimed.clone(),
                bound: self.bound.clone(),
                bound_elsewhere: &self.bound_elsewhere,
                configured: self.configured.clone(),
                pairs: &self.pairs,
            };
            Scope::of(&grounds, &mut here)
        }
    }

    fn agreed(content: &[u8]) -> Pair {
        Pair { agreed: Some(digest(content)), ..Pair::default() }
    }

    #[test]
    fn a_site_has_its_agents_configurations_and_what_they_name() {
        let case = Case::new(true);
        assert_eq!(case.names(), [CONF, "fc_1.zip"]);
        assert!(!case.scope().contains(b"fc_2.zip"));
        let nobody = Case { claimed: Vec::new(), ..Case::new(true) };
        assert_eq!(nobody.names(), [""; 0]);
    }

    #[test]
    fn what_a_claim_alone_would_open_is_withheld() {
        let withheld = format!("{CONF}?");
        assert_eq!(Case::new(false).names(), [withheld.as_str()], "nor is it read for what it names");
        let shown = Case::new(false).pair(CONF, agreed(b"anything"));
        assert_eq!(shown.names(), [CONF, "fc_1.zip"], "it was at both ends");
        let allowed = Case::new(false).pair(CONF, Pair { allowed: true, ..Pair::default() });
        assert_eq!(allowed.names(), [CONF, "fc_1.zip"], "an operator said so");
        let bound = Case { bound: HashSet::from([key()]), ..Case::new(false) };
        assert_eq!(bound.names(), [CONF, "fc_1.zip"], "the configuration says so");
    }

    #[test]
    fn what_the_configuration_gives_to_another_site_is_not_this_ones() {
        let case = Case { bound_elsewhere: HashSet::from([key()]), ..Case::new(true) };
        assert_eq!(case.names(), [""; 0]);
    }

    #[test]
    fn a_configuration_that_came_from_the_site_opens_nothing_to_it() {
        let taken = || Pair { taken: Some(digest(b"file_collection fc_1\n")), ..Pair::default() };
        let case = Case::new(true).pair(CONF, taken());
        assert_eq!(case.names(), [CONF, "fc_1.zip?"]);
        let had = Case::new(true).pair(CONF, taken()).pair("fc_1.zip", agreed(b"older"));
        assert_eq!(had.names(), [CONF, "fc_1.zip"], "it was given before");
        let edited = Case::new(true).pair(CONF, Pair { taken: Some(digest(b"other")), ..Pair::default() });
        assert_eq!(edited.names(), [CONF, "fc_1.zip"], "the central has written it since");
    }

    #[test]
    fn nor_does_one_that_may_have_come_from_it() {
        let content = digest(b"file_collection fc_1\n");
        let there = Some(There { digest: content, size: 21, fits: true, unfit_since: None });
        let withheld = [CONF, "fc_1.zip?"];
        let taken_up = Pair { intent: Some(Intent::Up(Some(content))), ..Pair::default() };
        assert_eq!(Case::new(true).pair(CONF, taken_up).names(), withheld, "nobody wrote down that it was");
        let shown = Pair { there, ..Pair::default() };
        assert_eq!(Case::new(true).pair(CONF, shown.clone()).names(), withheld, "nobody knows");
        let placed = Pair { intent: Some(Intent::Down(Some(content))), ..shown.clone() };
        assert_eq!(Case::new(true).pair(CONF, placed).names(), [CONF, "fc_1.zip"], "the central gave it");
        let both = Pair { agreed: Some(content), ..shown };
        assert_eq!(Case::new(true).pair(CONF, both).names(), [CONF, "fc_1.zip"], "it is known whose it was");
    }

    #[test]
    fn the_configuration_file_and_operators_add_collections() {
        let case = Case {
            configured: HashSet::from([b"fc_2.zip".to_vec(), b"fc_2.rcmd".to_vec()]),
            ..Case::new(true)
        };
        assert_eq!(case.names(), [CONF, "fc_1.zip", "fc_2.zip"], "what does not exist is nothing");
        let case = Case::new(true).pair("fc_2.zip", Pair { allowed: true, ..Pair::default() });
        assert_eq!(case.names(), [CONF, "fc_1.zip", "fc_2.zip"]);
        let other = "00000000000000000000000000000000.conf";
        let case = Case::new(true).pair(other, Pair { allowed: true, ..agreed(b"x") });
        assert_eq!(case.names(), [CONF, "fc_1.zip"], "an agent's files belong to its site alone");
    }

    #[test]
    fn what_the_central_removed_is_removed_there_too_and_what_nobody_names_is_left() {
        let case = Case::new(true).pair("gone.zip", agreed(b"x")).pair("fc_2.zip", agreed(b"two"));
        assert_eq!(case.names(), [CONF, "fc_1.zip", "gone.zip"]);
    }

    #[test]
    fn what_shares_its_md5_with_another_is_told_and_not_shared() {
        let case = Case::new(true);
        put(case.directory.path(), "fc_1.rcmd", "x", true);
        let scope = case.scope();
        assert_eq!(scope.names().collect::<Vec<_>>(), [CONF.as_bytes()]);
        assert_eq!(scope.ambiguous(), [b"fc_1.zip"[..].into()]);
        put(case.directory.path(), &CONF.replace("conf", "rcmd"), "x", true);
        assert_eq!(case.names(), [""; 0], "nor does a claim reach a command's file");
    }
}
