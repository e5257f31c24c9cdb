//! What a site lists, beside what the ledger says of it.
//!
//! The ledger is read before and after the listing: what was received or settled meanwhile is no contradiction.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tidegate_proto::{Escaped, Name};

use super::finding::{Finding, What};
use crate::cli::Failure;
use crate::config::Site;
use crate::ledger::{LedgerError, Package, Reader, Rows, Standing, State, seconds};
use crate::names;
use crate::pull::{Kind, Listing};
use crate::report;

/// How long a delivered package may still be listed: a busy site's turn, and a few that failed.
const LISTED_FOR: Duration = Duration::from_secs(10 * 60);

/// What the ledger said of a site before it was asked.
#[derive(Debug, Default)]
pub(super) struct Known {
    packages: Vec<Package>,
    held_back: u64,
}

/// One line for a site.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) site: String,
    /// `tidegate`, `stock`, `not asked` or `not reached`.
    asked: &'static str,
    /// Packages that the site lists, and those of them that the ledger does not have yet.
    listed: Option<usize>,
    waiting: Option<usize>,
    /// Held, or on their way to the pipeline.
    in_flight: usize,
    /// Delivered, and not proven to be deleted at the site.
    awaiting_deletion: usize,
    quarantined: usize,
}

impl Summary {
    fn new(site: &str, asked: &'static str, packages: &[Package]) -> Self {
        let count = |wanted: fn(&Package) -> bool| packages.iter().filter(|package| wanted(package)).count();
        Self {
            site: site.to_owned(),
            asked,
            listed: None,
            waiting: None,
            in_flight: count(|package| matches!(package.state, State::Held | State::Committed)),
            awaiting_deletion: count(|package| package.state == State::Delivered && package.on_site),
            quarantined: count(|package| package.state == State::Quarantined),
        }
    }

    /// Of a site that is not to be asked.
    pub(super) fn unasked(site: &str, known: &Known) -> Self {
        Self::new(site, "not asked", &known.packages)
    }
}

/// The summaries as a table.
pub(super) fn table(sites: &[Summary]) -> String {
    let header =
        ["SITE", "ASKED", "LISTED", "WAITING", "IN FLIGHT", "DELIVERED, NOT DELETED YET", "QUARANTINE"];
    let number = |number: Option<usize>| number.map_or_else(|| "-".into(), |number| number.to_string());
    report::table(
        header,
        sites.iter().map(|site| {
            [
                site.site.clone(),
                site.asked.to_owned(),
                number(site.listed),
                number(site.waiting),
                site.in_flight.to_string(),
                site.awaiting_deletion.to_string(),
                site.quarantined.to_string(),
            ]
        }),
    )
}

/// Reads what the ledger says of a site.
pub(super) fn known(state: &Path, site: &str) -> Result<Known, Failure> {
    let packages = unfinished(state, site)?;
    let held_back =
        match Reader::open(state).and_then(|reader| reader.map_or(Ok(0), |reader| reader.held_back(site))) {
            Ok(held_back) => held_back,
            Err(LedgerError::Damaged(_)) => 0,
            Err(error) => return Err(Failure::ledger(&error)),
        };
    Ok(Known { packages, held_back })
}

/// A damaged ledger is a finding of its own, and knows nothing here.
fn unfinished(state: &Path, site: &str) -> Result<Vec<Package>, Failure> {
    let rows = Reader::open(state)
        .and_then(|reader| reader.map_or(Ok(Rows::default()), |reader| reader.unfinished(site)));
    match rows {
        Ok(rows) => Ok(rows.packages),
        Err(LedgerError::Damaged(_)) => Ok(Vec::new()),
        Err(error) => Err(Failure::ledger(&error)),
    }
}

/// A site that did not answer.
pub(super) fn unreachable(site: &str, known: &Known, error: &str) -> (Summary, Vec<Finding>) {
    let finding = Finding::new(
        What::Unreachable,
        Some(site),
        format!("The site could not be asked: {error}"),
        "`tidegate-certs check --connect ADDRESS` tries the way there and says which step fails.",
    );
    (Summary::new(site, "not reached", &known.packages), vec![finding])
}

/// Compares a site's listing with the ledger.
pub(super) fn compare(
    state: &Path,
    site: &Site,
    kind: Kind,
    listing: &Listing,
    known: &Known,
) -> Result<(Summary, Vec<Finding>), Failure> {
    let now = seconds(SystemTime::now());
    let packages = unfinished(state, &site.name)?;
    let mut findings = Vec::new();
    // Both before and after the listing: what came or went meanwhile proves nothing.
    let before: HashSet<i64> = known.packages.iter().map(|package| package.id).collect();
    let lasting = packages.iter().filter(|package| package.on_site && before.contains(&package.id));
    for package in lasting {
        if !listing.contains(&package.name) {
            findings.extend(listing.is_complete().then(|| not_listed(package)));
        } else if package.state == State::Delivered {
            let delivered = package.delivered.unwrap_or(now);
            if now - delivered > seconds(SystemTime::UNIX_EPOCH + LISTED_FOR) {
                findings.push(listed_for_long(package, now - delivered));
            }
        }
    }
    let expected: HashSet<&Name> = packages.iter().map(|package| &package.name).collect();
    let mut waiting = 0;
    let reader = Reader::open(state).ok().flatten();
    for name in listing.names().iter().filter(|name| !expected.contains(name)) {
        waiting += 1;
        let standing = match &reader {
            Some(reader) => reader.standing(&site.name, name),
            None => Ok(Standing::Unknown),
        };
        match standing {
            Ok(Standing::Deleted) if names::surely_has_time(name) => {
                findings.push(came_back(&site.name, name))
            }
            Ok(_) | Err(LedgerError::Damaged(_)) => {}
            Err(error) => return Err(Failure::ledger(&error)),
        }
    }
    findings.extend(never_taken(&site.name, listing));
    if known.held_back > 0 && !(listing.names().is_empty() && listing.left().count() == 0) {
        findings.push(held_back(&site.name, known.held_back));
    }
    let summary = Summary {
        listed: Some(listing.names().len()),
        waiting: Some(waiting),
        ..Summary::new(&site.name, kind.as_str(), &packages)
    };
    Ok((summary, findings))
}

fn not_listed(package: &Package) -> Finding {
    let (means, advice) = match package.state {
        State::Held => (
            "Received and held until the site is known to have deleted it; the site lists it no more, so that what is \
             here is the only copy",
            "nothing: the next pull of the site delivers it. If none comes, see `status`.",
        ),
        State::Committed => (
            "On its way to the pipeline, and the site lists it no more: what is here is the only copy",
            "nothing: the next pull of the site delivers it. If none comes, see `status`.",
        ),
        State::Delivered => (
            "Delivered; the ledger waits for the proof that the site deleted it, and the site lists it no more",
            "nothing: the next pull of the site records it. If this stays, see `status` for why it is not pulled.",
        ),
        State::Quarantined => (
            "In quarantine, and the site lists it no more: what is here is the only copy",
            "`tidegate-server quarantine show` says why; mend it, then requeue or purge it.",
        ),
    };
    Finding::new(What::NotListed, Some(&package.site), means.into(), advice)
        .of(package.name.to_string(), Some(package.id))
}

fn listed_for_long(package: &Package, since: i64) -> Finding {
    let means = format!("Delivered {} and still listed: the site does not delete it", report::ago(since));
    let advice = "is the site pulled (see `status`)? Else look at the site's log: its spool may be read-only or full, or \
                  it gives this server no right to MV. Nothing arrives twice meanwhile.";
    Finding::new(What::ListedForLong, Some(&package.site), means, advice)
        .of(package.name.to_string(), Some(package.id))
}

fn came_back(site: &str, name: &Name) -> Finding {
    let means = "The ledger has it as delivered and deleted there, and the site lists it: its spool was restored from an \
                 older copy, or the sender sent it again";
    let advice = "nothing: the next pull compares it. The same bytes are only deleted there, others are a new package.";
    Finding::new(What::DeletedButListed, Some(site), means.into(), advice).of(name.to_string(), None)
}

fn never_taken(site: &str, listing: &Listing) -> Option<Finding> {
    let left = listing.left();
    let examples: Vec<_> = left.examples().map(|name| Escaped(name).to_string()).collect();
    (left.count() > 0).then(|| {
        let means = format!(
            "{} files end in .data, and nobody takes them: their names do not match `names`, or cannot be asked for; \
             among them {}",
            left.count(),
            if examples.is_empty() { "overlong ones".into() } else { examples.join(", ") }
        );
        let advice = "rename or remove them at the site, or let `names` in the configuration match them.";
        Finding::new(What::NeverTaken, Some(site), means, advice)
    })
}

fn held_back(site: &str, count: u64) -> Finding {
    let means = format!(
        "At the last pull {count} packages were left at the site: larger than max_size, empty, or with names that \
         cannot be asked for"
    );
    let advice = "the server's log names them; raise max_size, or remove them at the site.";
    Finding::new(What::HeldBack, Some(site), means, advice)
}
