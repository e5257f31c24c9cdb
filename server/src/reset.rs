//! `ledger reset`: the way out when a ledger is damaged and no sound copy of the disk can be had.
//!
//! Nothing is thrown away: the damaged ledger is set aside, and whatever lies in the staging directory goes to the
//! quarantine of a new one, where an operator decides. What the old ledger can still say is taken over: whose a staged
//! file is, what was delivered and not yet deleted at its site, the sums of each site, and the losses.
//!
//! Everything is read before anything is changed, and a crash or an error at any point leaves a reset that can be run
//! again ([`Replacement`]).

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::SystemTime;

use tidegate_proto::Name;

use crate::body::{Digest, digest_of};
use crate::cli::Failure;
use crate::config::Incoming;
use crate::ledger::{DAMAGED, LossReason, Package, Replacement, State, fact, milliseconds, seconds};
use crate::staging::{ASIDE_ENDING, Staging, StagingError};

/// The site of staged files whose row cannot be read.
const UNKNOWN: &str = "unknown";

const COST: &str = "\
A new ledger does not know what the old one did. So these may reach the pipeline a second time:
 - packages that were delivered and not yet deleted at their sites, where their row cannot be read: as a rule the
   last batch of each site, and more at sites that could not be reached or could not delete;
 - packages that an agent sends again within 7 days because it did not see its answer;
 - what a node that is restored from a backup offers again, of packages that it had deleted.
Packages that were received and not delivered wait in quarantine (`tidegate-server quarantine`): deliver or purge each.
What lies there may be the only copy: a stock site deletes what it gave. One whose site is called \"unknown\" may come
from its site once more; compare before you deliver it.
Nodes and stock sites keep what was not received. What `find` showed of packages that are delivered and deleted is gone;
loss records, the sums of `status` and the epochs are taken over as far as they can be read; a site whose epoch cannot be
read refuses this server until `tidegate-server takeover --site NAME`. The last loss records of a site may count twice.
";

/// What a reset takes over, and how it is counted.
#[derive(Debug, Default)]
struct Adopted {
    rows: Vec<Package>,
    /// Of these the damage is certain, and was not recorded before.
    lost: Vec<Package>,
    staged: usize,
    unknown: usize,
    unreadable: usize,
    delivered: usize,
}

/// Replaces the ledger, if the operator really means it.
pub(crate) fn run(settings: &Incoming, yes: bool) -> Result<(), Failure> {
    if !yes {
        return Err(Failure::Usage(format!(
            "{COST}The damaged ledger is set aside, not deleted. To go on, stop the server and add --yes"
        )));
    }
    let replacement = Replacement::begin(&settings.state).map_err(|error| Failure::ledger(&error))?;
    let mut readable = replacement.readable();
    let adopted = adopt(&settings.staging, std::mem::take(&mut readable.packages))?;
    let mark = Staging::new_mark();
    let moved = replacement.put(
        &readable,
        |batch| {
            adopted.rows.iter().try_for_each(|package| batch.adopt(package))?;
            adopted.lost.iter().try_for_each(|package| batch.lost(package, LossReason::Damaged))?;
            batch.fact(fact::STAGING, &mark)
        },
        |id| Staging::tie(&settings.staging, id, &mark).map_err(|error| Failure::staging(&error)),
    )?;
    let mut text = String::new();
    for path in &moved {
        let _ = writeln!(text, "set aside: {}", path.display());
    }
    let Adopted { staged, unknown, unreadable, delivered, .. } = adopted;
    let _ = writeln!(
        text,
        "a new ledger is in {}: {staged} staged files are in its quarantine ({unknown} of unknown sites, {unreadable} \
         that cannot be read), {delivered} packages are known to be delivered and not yet deleted at their sites\n{COST}",
        settings.state.display(),
    );
    // Nobody reads it: no reason to fail.
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(())
}

/// What is to be in the new ledger: in the order of arrival as far as it is known, then by the names of the files, which
/// sort by the moment of their making.
fn adopt(directory: &Path, old: Vec<Package>) -> Result<Adopted, Failure> {
    let mut staged = waiting_files(directory).map_err(|source| {
        let what = format!(
            "cannot read the staging directory {} (is the file system of incomingdir mounted?)",
            directory.display()
        );
        Failure::staging(&StagingError::Io { what, source })
    })?;
    let mut adopted = Adopted { staged: staged.len(), ..Adopted::default() };
    for package in old {
        if staged.remove(&package.staged) {
            adopted.add_file(directory, &package.staged.clone(), Some(package))?;
        } else if package.on_site && matches!(package.state, State::Delivered | State::Committed) {
            // Committed and no longer staged was handed over.
            adopted.delivered += 1;
            adopted.rows.push(Package { state: State::Delivered, ..package });
        } else if package.state == State::Quarantined {
            // Its file was missing before.
            adopted.rows.push(package);
        }
    }
    for name in &staged {
        adopted.add_file(directory, name, None)?;
    }
    Ok(adopted)
}

/// The files that wait in the staging directory for a row: those that a start set aside as well.
fn waiting_files(directory: &Path) -> io::Result<BTreeSet<String>> {
    let mut files: BTreeSet<String> = Staging::files(directory)?.into_iter().collect();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        files.extend(name.to_str().filter(|name| name.ends_with(ASIDE_ENDING)).map(str::to_owned));
    }
    Ok(files)
}

impl Adopted {
    /// Takes over a file, as a package in quarantine.
    fn add_file(&mut self, directory: &Path, staged: &str, row: Option<Package>) -> Result<(), Failure> {
        let path = directory.join(staged);
        let read = || Ok::<_, io::Error>((digest_of(&path)?, fs::metadata(&path)?.modified()?));
        let content = match read() {
            Ok(content) => Ok(content),
            // Another user reads them all: run by the wrong one this would make packages look damaged.
            Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
                let what = format!("cannot read {}", path.display());
                return Err(Failure::staging(&StagingError::Io { what, source }));
            }
            Err(error) => {
                self.unreadable += 1;
                Err(error)
            }
        };
        self.unknown += usize::from(row.as_ref().is_none_or(|row| row.site == UNKNOWN));
        let counted = row.as_ref().is_some_and(|row| row.is_damaged() && !row.on_site);
        let package = match row {
            Some(row) => known(row, content.map(|((digest, _), _)| digest)),
            None => unknown(staged, content)
                .map_err(|error| Failure::Other(format!("{}: {error}", path.display())))?,
        };
        if package.is_damaged() && !package.on_site && !counted {
            self.lost.push(package.clone());
        }
        self.rows.push(package);
        Ok(())
    }
}

/// A file whose row the old ledger had.
fn known(row: Package, content: io::Result<Digest>) -> Package {
    let reason = match content {
        Err(error) => format!("{DAMAGED} on this server's disk: it cannot be read: {error}"),
        Ok(digest) if digest != row.digest => {
            format!("{DAMAGED} on this server's disk, and the ledger was reset")
        }
        Ok(_) if row.state == State::Quarantined => return row,
        Ok(_) => format!("the ledger was reset: it was {} before", row.state.as_str()),
    };
    // Damage that was told before keeps its words, which may say more.
    let reason = row.reason.clone().filter(|_| row.is_damaged()).unwrap_or(reason);
    let delivered = row.delivered.filter(|_| row.is_damaged()).or_else(|| Some(seconds(SystemTime::now())));
    Package { state: State::Quarantined, reason: Some(reason), delivered, ..row }
}

/// A file that nobody knows.
fn unknown(
    staged: &str,
    content: io::Result<((Digest, u64), SystemTime)>,
) -> Result<Package, impl std::fmt::Display> {
    let now = SystemTime::now();
    let (digest, size, modified, reason) = match content {
        Ok(((digest, size), modified)) => {
            (digest, size, modified, "the ledger was reset: nobody knows whose it is".to_owned())
        }
        // No file has this digest: it is never delivered.
        Err(error) => (
            Digest::from([0; 32]),
            0,
            now,
            format!(
                "{DAMAGED} on this server's disk, and nobody knows whose it is: it cannot be read: {error}"
            ),
        ),
    };
    let stem = staged.split('.').next().unwrap_or(staged);
    let name = format!("{UNKNOWN}-{stem}.0.data");
    Name::parse_listed(name.as_bytes()).map(|parsed| Package {
        id: 0,
        site: UNKNOWN.into(),
        target: name.as_bytes().to_vec(),
        name: parsed,
        digest,
        size,
        state: State::Quarantined,
        staged: staged.to_owned(),
        on_site: false,
        reason: Some(reason),
        modified: Some(milliseconds(modified)),
        received: seconds(modified),
        delivered: Some(seconds(now)),
        number: None,
    })
}
