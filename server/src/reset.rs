//! `ledger reset`: the way out when a ledger is damaged and no sound copy of the disk can be had.
//!
//! Nothing is thrown away: the damaged ledger is moved aside, and whatever lies in the staging directory goes to the
//! quarantine of a new one, where an operator decides. What the old ledger can still say with a sound row sum is taken
//! over: whose a staged file is, and what was delivered and not yet deleted at its site.
//!
//! The staging directory is tied to the new ledger last. A crash before that leaves a server that refuses to start
//! and a reset that can be run again.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::SystemTime;

use tidegate_proto::Name;

use crate::body::digest_of;
use crate::cli::Failure;
use crate::config::Incoming;
use crate::ledger::{DAMAGED, Ledger, Package, State, fact, milliseconds, seconds};
use crate::staging::{Staging, StagingError};

/// The site of staged files whose row cannot be read.
const UNKNOWN: &str = "unknown";

const COST: &str = "\
A new ledger does not know what the old one did. So these may reach the pipeline a second time:
 - packages that were delivered and not yet deleted at their sites, where their row cannot be read: as a rule the
   last batch of each site, and more at sites that could not be reached or could not delete;
 - packages that an agent sends again within 7 days because it did not see its answer.
Packages that were received and not delivered wait in quarantine (`tidegate-server quarantine`): deliver or purge each.
One whose site is called \"unknown\" may come from its site once more; compare before you deliver it.
Nothing is lost: sites keep what was not delivered.
";

/// Replaces the ledger, if the operator really means it.
pub(crate) fn run(settings: &Incoming, yes: bool) -> Result<(), Failure> {
    if !yes {
        return Err(Failure::Usage(format!(
            "{COST}The damaged ledger is moved aside, not deleted. To go on, stop the server and add --yes"
        )));
    }
    let staged = Staging::files(&settings.staging).map_err(|source| {
        let what = format!(
            "cannot read the staging directory {} (is the file system of incomingdir mounted?)",
            settings.staging.display()
        );
        Failure::staging(&StagingError::Io { what, source })
    })?;
    let replaced = Ledger::replace(&settings.state).map_err(|error| Failure::ledger(&error))?;
    let mut known: HashMap<String, Package> = HashMap::new();
    let mut rows = Vec::new();
    for package in replaced.readable {
        if staged.contains(&package.staged) {
            known.insert(package.staged.clone(), package);
        } else if package.on_site && matches!(package.state, State::Delivered | State::Committed) {
            // Committed and no longer staged was handed over.
            rows.push(Package { state: State::Delivered, ..package });
        }
    }
    let delivered = rows.len();
    let mut unknown = 0;
    for name in &staged {
        let row = known.remove(name);
        unknown += usize::from(row.is_none());
        rows.push(adopted(settings, name, row)?);
    }
    let ledger = replaced.ledger;
    let id = ledger.id().map_err(|error| Failure::ledger(&error))?;
    let mark = Staging::new_mark();
    ledger
        .write(|batch| {
            rows.iter().try_for_each(|package| batch.adopt(package))?;
            batch.fact(fact::STAGING, &mark)
        })
        .map_err(|error| Failure::ledger(&error))?;
    Staging::tie(&settings.staging, &id, &mark).map_err(|error| Failure::staging(&error))?;
    let mut text = String::new();
    for path in &replaced.moved {
        let _ = writeln!(text, "moved aside: {}", path.display());
    }
    let _ = writeln!(
        text,
        "a new ledger is in {}: {} staged files are in its quarantine ({unknown} of unknown sites), {delivered} \
         packages are known to be delivered and not yet deleted at their sites\n{COST}",
        settings.state.display(),
        staged.len(),
    );
    // Nobody reads it: no reason to fail.
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(())
}

/// A staged file as a row in quarantine.
fn adopted(settings: &Incoming, staged: &str, row: Option<Package>) -> Result<Package, Failure> {
    let path = settings.staging.join(staged);
    let read = || Ok((digest_of(&path)?, std::fs::metadata(&path)?.modified()?));
    let ((digest, size), modified) = read().map_err(|source: io::Error| {
        Failure::staging(&StagingError::Io { what: format!("cannot read {}", path.display()), source })
    })?;
    let now = Some(seconds(SystemTime::now()));
    let Some(row) = row else {
        let name = format!("{UNKNOWN}-{}.0.data", staged.trim_end_matches(".staged"));
        return Ok(Package {
            id: 0,
            site: UNKNOWN.into(),
            target: name.as_bytes().to_vec(),
            name: Name::parse_listed(name.as_bytes())
                .map_err(|error| Failure::Other(format!("{}: {error}", path.display())))?,
            digest,
            size,
            state: State::Quarantined,
            staged: staged.to_owned(),
            on_site: false,
            reason: Some("the ledger was reset: nobody knows whose it is".into()),
            modified: Some(milliseconds(modified)),
            received: seconds(modified),
            delivered: now,
        });
    };
    let reason = if row.digest == digest {
        format!("the ledger was reset: it was {} before", row.state.as_str())
    } else {
        format!("{DAMAGED} on this server's disk, and the ledger was reset")
    };
    Ok(Package { state: State::Quarantined, reason: Some(reason), delivered: now, ..row })
}
