//! Whose an agent is, learned from the names of the packages that sites give.
//!
//! It is asked after each batch of packages, so it costs a look into memory for each and never waits for a disk: what is
//! new is put down here, and written by whoever has the time.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::names::agent_in;

/// How many new agents of a site wait to be written; further ones are noticed with their next package.
const WAITING_MAX: usize = 4_096;

/// The agents that are known.
#[derive(Debug, Default)]
pub(crate) struct Learn {
    sites: HashMap<String, Mutex<Known>>,
    /// How many of a site are remembered.
    max: usize,
}

#[derive(Debug, Default)]
struct Known {
    agents: HashSet<Box<[u8]>>,
    waiting: Vec<Box<[u8]>>,
    /// There was one too many.
    overfull: bool,
}

/// What is new of a site.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) agents: Vec<Box<[u8]>>,
    /// It has more agents than it may.
    pub(crate) overfull: bool,
}

impl Learn {
    /// Learns about these sites, of each at most `max` agents.
    pub(crate) fn new(sites: impl IntoIterator<Item = String>, max: usize) -> Self {
        Self { sites: sites.into_iter().map(|site| (site, Mutex::default())).collect(), max }
    }

    /// Agents of a site that are written down already.
    pub(crate) fn know(&self, site: &str, agents: impl IntoIterator<Item = Box<[u8]>>) {
        if let Some(mut known) = self.of(site) {
            known.agents.extend(agents);
        }
    }

    /// A site gave packages of these names. Returns whether there is something to be written.
    pub(crate) fn seen<'a>(&self, site: &str, packages: impl IntoIterator<Item = &'a [u8]>) -> bool {
        let Some(mut known) = self.of(site) else { return false };
        let before = known.waiting.len();
        for agent in packages.into_iter().filter_map(agent_in) {
            if known.agents.contains(agent) || known.waiting.len() >= WAITING_MAX {
                continue;
            }
            if known.agents.len() >= self.max {
                known.overfull = true;
                continue;
            }
            known.agents.insert(agent.into());
            known.waiting.push(agent.into());
        }
        known.waiting.len() > before
    }

    /// Takes what is new, of each site that has something.
    pub(crate) fn take(&self) -> Vec<(&str, News)> {
        let mut all = Vec::new();
        for (site, known) in &self.sites {
            let mut known = lock(known);
            let news = News {
                agents: std::mem::take(&mut known.waiting),
                overfull: std::mem::take(&mut known.overfull),
            };
            if news != News::default() {
                all.push((site.as_str(), news));
            }
        }
        all
    }

    /// What was taken could not be written: it is new again with its next package.
    pub(crate) fn unlearn(&self, site: &str, agents: &[Box<[u8]>]) {
        if let Some(mut known) = self.of(site) {
            agents.iter().for_each(|agent| {
                known.agents.remove(agent);
            });
        }
    }

    /// Nothing is written down any more.
    pub(crate) fn begin_anew(&self) {
        self.sites.values().for_each(|known| *lock(known) = Known::default());
    }

    fn of(&self, site: &str) -> Option<MutexGuard<'_, Known>> {
        self.sites.get(site).map(lock)
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    // Changed in single steps: sound even after a panic.
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(learn: &Learn, site: &str, packages: &[&str]) -> bool {
        learn.seen(site, packages.iter().map(|name| name.as_bytes()))
    }

    fn taken(learn: &Learn) -> Vec<(&str, Vec<String>, bool)> {
        let text = |agent: &[u8]| String::from_utf8(agent.to_vec()).unwrap();
        let of_one = |(site, news): (_, News)| {
            (site, news.agents.iter().map(|agent| text(agent)).collect(), news.overfull)
        };
        learn.take().into_iter().map(of_one).collect()
    }

    #[test]
    fn an_agent_is_news_once() {
        let learn = Learn::new(["a".to_owned(), "b".to_owned()], 10);
        learn.know("a", [b"old"[..].into()]);
        assert!(seen(&learn, "a", &["web01.1.data", "web01.2.data", "old.1.data", "x.conf"]));
        assert!(!seen(&learn, "a", &["web01.3.data"]));
        assert!(!seen(&learn, "elsewhere", &["web01.3.data"]));
        assert_eq!(taken(&learn), [("a", vec!["web01".to_owned()], false)]);
        assert_eq!(taken(&learn), []);
        assert!(seen(&learn, "b", &["web01.1.data"]), "another site may say the same");
        assert_eq!(taken(&learn).len(), 1);
        learn.unlearn("a", &[b"web01"[..].into()]);
        assert!(seen(&learn, "a", &["web01.4.data"]), "it could not be written");
        learn.begin_anew();
        assert!(seen(&learn, "a", &["old.5.data"]));
    }

    #[test]
    fn a_site_with_too_many_agents_is_told_and_costs_no_more_memory() {
        let learn = Learn::new(["a".to_owned()], 2);
        assert!(seen(&learn, "a", &["one.1.data", "two.1.data", "three.1.data"]));
        assert_eq!(taken(&learn), [("a", vec!["one".to_owned(), "two".to_owned()], true)]);
        assert!(!seen(&learn, "a", &["three.1.data", "one.1.data"]));
        assert_eq!(taken(&learn), [("a", vec![], true)]);
    }

    #[test]
    fn what_cannot_wait_is_noticed_again() {
        let learn = Learn::new(["a".to_owned()], usize::MAX);
        let names: Vec<_> = (0..=WAITING_MAX).map(|n| format!("agent{n}.1.data")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        assert!(seen(&learn, "a", &names));
        assert_eq!(taken(&learn)[0].1.len(), WAITING_MAX);
        assert!(seen(&learn, "a", &names));
        assert_eq!(taken(&learn)[0].1, [format!("agent{WAITING_MAX}")]);
    }
}
