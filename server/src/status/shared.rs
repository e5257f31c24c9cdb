//! How each site's shared files are, for people and for programs: what the last sync left behind.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::config::Config;
use crate::report::ago;
use crate::shared::memory;
use crate::shared::store::Store;
use crate::shared::store::sites::{Counts, SiteRow};

/// What is known of all sites.
#[derive(Debug, Default)]
pub(super) struct SharedFiles {
    /// The sites that share files.
    on: BTreeSet<String>,
    sites: BTreeMap<String, SiteRow>,
    /// Why nothing is known.
    error: Option<String>,
}

impl SharedFiles {
    /// Reads beside a running server. What cannot be read is told, and hides nothing else.
    pub(super) fn read(config: &Config) -> Self {
        let sharing = config.sites.iter().filter(|site| site.sync.shared.on);
        let on: BTreeSet<_> = sharing.map(|site| site.name.clone()).collect();
        if on.is_empty() {
            return Self::default();
        }
        let read = || match Store::beside(&memory(&config.incoming.state))? {
            Some(store) => store.sites(),
            None => Ok(Vec::new()),
        };
        match read() {
            Ok(sites) => Self {
                on,
                sites: sites.into_iter().map(|row| (row.name.clone(), row)).collect(),
                error: None,
            },
            Err(error) => Self { on, sites: BTreeMap::new(), error: Some(error.to_string()) },
        }
    }

    /// Whether there is anything to show.
    pub(super) fn is_on(&self) -> bool {
        !self.on.is_empty()
    }

    /// Why nothing is known.
    pub(super) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    fn of(&self, site: &str) -> Option<&SiteRow> {
        self.sites.get(site).filter(|_| self.on.contains(site))
    }

    /// In one cell: how many of its pairs are the same at both ends.
    pub(super) fn cell(&self, site: &str) -> String {
        match self.of(site) {
            Some(row) if row.synced.is_some() => format!("{} of {}", row.counts.in_sync, total(&row.counts)),
            _ if self.on.contains(site) => "new".into(),
            _ => "-".into(),
        }
    }

    /// What needs an operator's eye, a line each.
    pub(super) fn warnings(&self, site: &str, now: i64) -> Vec<String> {
        let Some(row) = self.of(site) else { return Vec::new() };
        let mut lines = Vec::new();
        if let (Some(error), Some(at)) = (&row.error, row.error_at) {
            lines.push(format!("its shared files could not be synced, {}: {error}", ago(now - at)));
        }
        let told = [
            (
                row.counts.withheld,
                "shared files withheld: `tidegate-server shared list` says why, `push` lets one go",
            ),
            (
                row.counts.refused,
                "shared files that could not be moved: `tidegate-server shared list` says why",
            ),
            (
                row.conflicts,
                "versions kept that lost a conflict: `tidegate-server shared list` and `restore`",
            ),
            (
                row.disputed,
                "agents that another site says are its own: `tidegate-server shared list`; `agents` of a site decides",
            ),
        ];
        lines.extend(
            told.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")),
        );
        if row.overfull {
            lines.push("it has sent data of more agents than `max_agents` in [shared]: further ones get no shared files".into());
        }
        lines
    }

    /// All of it, as pairs of a key and words.
    pub(super) fn details(&self, site: &str, now: i64) -> Vec<(&'static str, String)> {
        if !self.on.contains(site) {
            return Vec::new();
        }
        let Some(row) = self.of(site) else { return vec![("shared files", "never synced".into())] };
        let Counts { in_sync, under_way, waiting, withheld, left_there, refused } = row.counts;
        let parts = [
            (in_sync, "in sync"),
            (under_way, "on their way"),
            (waiting, "waiting"),
            (withheld, "withheld"),
            (left_there, "left there"),
            (refused, "refused"),
        ];
        let parts: Vec<_> = parts.iter().map(|(count, what)| format!("{count} {what}")).collect();
        vec![
            ("shared files", parts.join(", ")),
            ("last synced", row.synced.map_or_else(|| "never".into(), |at| ago(now - at))),
            ("kept", format!("{} versions, {} of them of conflicts", row.kept, row.conflicts)),
            ("agents", format!("{}, {} of them claimed elsewhere too", row.agents, row.disputed)),
        ]
    }

    /// For programs; nothing for a site that does not share. Times are seconds since 1970.
    pub(super) fn document(&self, site: &str) -> Value {
        if !self.on.contains(site) {
            return Value::Null;
        }
        let row = self.of(site).cloned().unwrap_or_default();
        let Counts { in_sync, under_way, waiting, withheld, left_there, refused } = row.counts;
        json!({
            "in_sync": in_sync,
            "on_its_way": under_way,
            "waiting": waiting,
            "withheld": withheld,
            "left_there": left_there,
            "refused": refused,
            "kept": row.kept,
            "conflicts": row.conflicts,
            "agents": row.agents,
            "disputed": row.disputed,
            "overfull": row.overfull,
            "synced": row.synced,
            "last_error": row.error,
            "last_error_at": row.error_at,
        })
    }
}

fn total(counts: &Counts) -> u64 {
    let Counts { in_sync, under_way, waiting, withheld, left_there, refused } = counts;
    in_sync + under_way + waiting + withheld + left_there + refused
}

#[cfg(test)]
impl SharedFiles {
    /// One site that shares, for the table's test.
    pub(super) fn of_one(row: SiteRow) -> Self {
        Self {
            on: BTreeSet::from([row.name.clone()]),
            sites: BTreeMap::from([(row.name.clone(), row)]),
            error: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn synced() -> SiteRow {
        SiteRow {
            name: "a".into(),
            synced: Some(90),
            counts: Counts { in_sync: 12, under_way: 1, withheld: 2, refused: 3, ..Counts::default() },
            kept: 5,
            conflicts: 4,
            agents: 9,
            disputed: 1,
            overfull: true,
            error: Some("cannot connect".into()),
            error_at: Some(95),
        }
    }

    #[test]
    fn a_site_is_told_of_in_a_cell_in_lines_and_for_programs() {
        let shared = SharedFiles::of_one(synced());
        assert_eq!((shared.cell("a"), shared.cell("b")), ("12 of 18".into(), "-".into()));
        let warnings = shared.warnings("a", 100);
        assert_eq!(warnings[0], "its shared files could not be synced, 5 s ago: cannot connect");
        let starts = [
            "2 shared files withheld",
            "3 shared files that",
            "4 versions kept",
            "1 agents that",
            "it has sent",
        ];
        assert!(
            warnings[1..].iter().zip(starts).all(|(line, start)| line.starts_with(start)),
            "{warnings:?}"
        );
        assert_eq!(warnings.len(), 1 + starts.len());
        let details = shared.details("a", 100);
        let words = "12 in sync, 1 on their way, 0 waiting, 2 withheld, 0 left there, 3 refused";
        assert_eq!(details[0], ("shared files", words.into()));
        assert_eq!(details[1], ("last synced", "10 s ago".into()));
        let document = shared.document("a");
        assert_eq!((&document["in_sync"], &document["synced"]), (&12.into(), &90.into()));
        assert_eq!(shared.document("b"), Value::Null);
        assert!(shared.warnings("b", 100).is_empty() && shared.details("b", 100).is_empty());
    }

    #[test]
    fn before_the_first_sync_nothing_is_known() {
        let shared = SharedFiles { on: BTreeSet::from(["a".into()]), ..SharedFiles::default() };
        assert!(shared.is_on());
        assert_eq!(
            (shared.cell("a"), shared.details("a", 0)),
            ("new".into(), vec![("shared files", "never synced".into())])
        );
        assert_eq!(shared.document("a")["synced"], Value::Null);
        assert!(!SharedFiles::default().is_on());
    }
}
