//! What does not add up, and in which words.

use std::fmt;

use serde::Serialize;

/// The kinds of findings, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum What {
    /// SQLite finds its file damaged, or a row does not have its sum.
    LedgerDamaged,
    /// The staging directory is not the one that the ledger counts on.
    StagingMark,
    /// A package that is not delivered has no file.
    StagedMissing,
    /// Its file does not have the bytes that were received.
    StagedChanged,
    /// A file that no row knows.
    StagedUnknown,
    /// A site deleted a package, and lists it.
    DeletedButListed,
    /// A site should have a package, and does not list it.
    NotListed,
    /// A package was delivered long ago, and is still listed.
    ListedForLong,
    /// Unfinished packages of a site that nobody pulls.
    NotConfigured,
    /// Files that are no packages by their names.
    NeverTaken,
    /// Packages that cannot be taken as they are.
    HeldBack,
    /// Packages that could not be delivered.
    Quarantine,
    /// A site that could not be asked.
    Unreachable,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LedgerDamaged => "ledger-damaged",
            Self::StagingMark => "staging-mark",
            Self::StagedMissing => "staged-missing",
            Self::StagedChanged => "staged-changed",
            Self::StagedUnknown => "staged-unknown",
            Self::DeletedButListed => "deleted-but-listed",
            Self::NotListed => "not-listed",
            Self::ListedForLong => "listed-for-long",
            Self::NotConfigured => "not-configured",
            Self::NeverTaken => "never-taken",
            Self::HeldBack => "held-back",
            Self::Quarantine => "quarantine",
            Self::Unreachable => "unreachable",
        })
    }
}

/// One finding.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Finding {
    pub(super) what: What,
    pub(super) site: Option<String>,
    /// A package, escaped, or a file.
    pub(super) name: Option<String>,
    /// The package's number in the ledger: versions of one name are several findings.
    pub(super) sequence: Option<i64>,
    pub(super) means: String,
    #[serde(rename = "do")]
    pub(super) advice: &'static str,
}

/// What makes a finding the same at the second look.
pub(super) type Key = (What, Option<String>, Option<String>, Option<i64>);

impl Finding {
    /// About no package in particular.
    pub(super) fn new(what: What, site: Option<&str>, means: String, advice: &'static str) -> Self {
        Self { what, site: site.map(str::to_owned), name: None, sequence: None, means, advice }
    }

    /// About a file or a package.
    pub(super) fn of(self, name: String, sequence: Option<i64>) -> Self {
        Self { name: Some(name), sequence, ..self }
    }

    pub(super) fn key(&self) -> Key {
        (self.what, self.site.clone(), self.name.clone(), self.sequence)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        for part in [&self.site, &self.name].into_iter().flatten() {
            write!(f, "  {part}")?;
        }
        if let Some(sequence) = self.sequence {
            write!(f, "  (sequence {sequence})")?;
        }
        writeln!(f, "\n    {}\n    Do: {}", self.means, self.advice)
    }
}
