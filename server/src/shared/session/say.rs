//! What operators are told of a sync: the first few of each sort by name, the others counted.

use std::fmt;

use tidegate_proto::Name;

/// How many of a sort a sync names; beyond it they are counted in one line.
const NAMED: u64 = 5;

/// What may be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::shared) enum Did {
    TakenUp,
    Dropped,
    Placed,
    Removed,
    Kept,
    Withheld,
    Refused,
}

impl Did {
    const COUNT: usize = 7;
}

/// What was done in a sync.
#[derive(Debug, Default)]
pub(in crate::shared) struct Told([u64; Did::COUNT]);

impl Told {
    pub(in crate::shared) fn count(&self, did: Did) -> u64 {
        self.0[did as usize]
    }

    /// Counts, and says it with `why`, if there is anything to say.
    pub(super) fn tell(&mut self, did: Did, site: &str, name: &Name, why: &str) {
        let count = &mut self.0[did as usize];
        *count += 1;
        if *count > NAMED {
            return;
        }
        let file = name;
        match did {
            Did::TakenUp => tracing::info!(site, %file, "took up a shared file from the site"),
            Did::Dropped => tracing::info!(
                site,
                %file,
                "removed a shared file here, as the site did; it is kept: \
                 tidegate-server shared restore --site {site} {name}"
            ),
            Did::Placed => tracing::info!(site, %file, "placed a shared file at the site"),
            Did::Removed => tracing::info!(site, %file, "removed a shared file at the site"),
            Did::Kept => tracing::warn!(
                site,
                %file,
                "the site had another version ({why}), which the central's has replaced; it is kept: \
                 tidegate-server shared diff --site {site} {name}"
            ),
            Did::Withheld => tracing::info!(
                site,
                %file,
                "not given to the site: it was here before the site claimed it. If the agent is the site's own: \
                 tidegate-server shared push --site {site} {name}"
            ),
            Did::Refused => tracing::warn!(site, %file, "a shared file cannot travel: {why}"),
        }
    }

    /// Says how many were not named.
    pub(super) fn sum_up(&self, site: &str) {
        let more = Self(self.0.map(|count| count.saturating_sub(NAMED)));
        if more.0 != [0; Did::COUNT] {
            tracing::info!(site, "and more shared files: {more}");
        }
    }
}

/// All that was done, in words.
impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [
            (Did::TakenUp, "taken up"),
            (Did::Dropped, "removed here"),
            (Did::Placed, "placed"),
            (Did::Removed, "removed there"),
            (Did::Kept, "kept"),
            (Did::Withheld, "withheld"),
            (Did::Refused, "that cannot travel"),
        ];
        let done = words.into_iter().filter(|(did, _)| self.count(*did) > 0);
        let done: Vec<_> = done.map(|(did, word)| format!("{} {word}", self.count(did))).collect();
        if done.is_empty() { f.write_str("nothing to do") } else { f.write_str(&done.join(", ")) }
    }
}
