//! What lies here: the ledger in itself, and the staging directory beside it.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tidegate_proto::Escaped;

use super::finding::{Finding, What};
use crate::body::digest_of;
use crate::cli::Failure;
use crate::config::Config;
use crate::ledger::{LedgerError, Package, Reader, State, fact, seconds};
use crate::staging;

/// A file without a row is on its way to get one, unless nothing has been written to it for so long.
const UNKNOWN_FOR: Duration = Duration::from_secs(60);

/// Looks at everything here; the packages of one site only, if one is given.
pub(super) fn look(config: &Config, only: Option<&str>, now: SystemTime) -> Result<Vec<Finding>, Failure> {
    let mut findings = Vec::new();
    let looked = Reader::open(&config.incoming.state).and_then(|reader| {
        let Some(reader) = reader else { return Ok(None) };
        damage(&reader, &mut findings)?;
        Ok(Some(reader))
    });
    let reader = match looked {
        Ok(reader) => reader,
        Err(LedgerError::Damaged(what)) => {
            findings.push(damaged(what));
            return Ok(findings);
        }
        Err(error) => return Err(Failure::ledger(&error)),
    };
    let directory = &config.incoming.staging;
    let compared = match &reader {
        Some(reader) => with_ledger(config, reader, only, now, &mut findings),
        // Before the first start there may be a directory, but none with a mark.
        None => match staging::owner_of(directory) {
            Ok(None) => Ok(()),
            Ok(Some(_)) => {
                findings.push(Finding::new(
                    What::StagingMark,
                    None,
                    format!(
                        "The staging directory {} belongs to a ledger that is not in {}",
                        directory.display(),
                        config.incoming.state.display()
                    ),
                    "is the file system of state_directory mounted? Start no server before it is.",
                ));
                Ok(())
            }
            Err(error) => Err(Trouble::Io(error)),
        },
    };
    match compared {
        Ok(()) => Ok(findings),
        Err(Trouble::Ledger(LedgerError::Damaged(what))) => {
            findings.push(damaged(what));
            Ok(findings)
        }
        Err(Trouble::Ledger(error)) => Err(Failure::ledger(&error)),
        Err(Trouble::Io(error)) => {
            let text = format!("cannot look at the staging directory {}: {error}", directory.display());
            Err(Failure::io(text, &error))
        }
    }
}

/// Why a look ended early.
enum Trouble {
    Ledger(LedgerError),
    Io(io::Error),
}

impl From<LedgerError> for Trouble {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(error)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn damaged(what: String) -> Finding {
    Finding::new(
        What::LedgerDamaged,
        None,
        format!("The ledger is not what was written: {what}"),
        "stop the server, check the disk, and restore the disk's state if it can be had; else `tidegate-server ledger reset` \
         says what a new ledger costs, and makes one. The sites keep what they have.",
    )
}

fn damage(reader: &Reader, findings: &mut Vec<Finding>) -> Result<(), LedgerError> {
    let complaints = reader.complaints()?;
    // In a damaged file the rows are not worth a second question.
    let lines = if complaints.is_empty() { reader.damaged_rows()? } else { complaints };
    findings.extend(lines.into_iter().map(|line| damaged(line.clone()).of(line, None)));
    Ok(())
}

fn with_ledger(
    config: &Config,
    reader: &Reader,
    only: Option<&str>,
    now: SystemTime,
    findings: &mut Vec<Finding>,
) -> Result<(), Trouble> {
    let directory = config.incoming.staging.as_path();
    for site in reader.unfinished_sites()? {
        if only.is_none() && !config.sites.iter().any(|known| known.name == site) {
            findings.push(not_configured(reader, &site)?);
        }
    }
    // Files before rows: the row of a file is written after it.
    let files = if directory.exists() { old_files(directory, now)? } else { Vec::new() };
    let everything = reader.staged(None)?;
    if let Some(finding) = mark(directory, reader, everything.packages.len())? {
        // The wrong directory: nothing in it can be compared.
        findings.push(finding);
        return Ok(());
    }
    let known: HashSet<&str> = everything.packages.iter().map(|package| package.staged.as_str()).collect();
    // A damaged row may be the one that knows a file.
    if only.is_none() && everything.damaged.is_empty() {
        let unknown = files.iter().filter(|name| !known.contains(name.as_str()));
        findings.extend(unknown.map(|name| unknown_file(name)));
    }
    for package in &everything.packages {
        if only.is_none_or(|only| only == package.site) {
            findings.extend(staged(directory, package)?);
        }
    }
    quarantine(&everything.packages, only, findings);
    Ok(())
}

fn not_configured(reader: &Reader, site: &str) -> Result<Finding, LedgerError> {
    let count = reader.unfinished(site)?.packages.len();
    Ok(Finding::new(
        What::NotConfigured,
        Some(site),
        format!(
            "{count} packages of this site are not finished (held, on their way, in quarantine, or perhaps still at the \
             site), and no site of the configuration is called that"
        ),
        "if it was renamed, give its [[site]] the old `name`: the name is its identity in the ledger. If it is gone for \
         good, `tidegate-server find` and `quarantine list --site` show what is left of it.",
    ))
}

/// The files of the staging directory that have not been touched for a while.
fn old_files(directory: &Path, now: SystemTime) -> io::Result<Vec<String>> {
    let horizon = seconds(now.checked_sub(UNKNOWN_FOR).unwrap_or(SystemTime::UNIX_EPOCH));
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == staging::OWNER {
            continue;
        }
        match entry.metadata() {
            // Not the modification time: that is the package's, and old at once.
            Ok(file) if file.ctime() < horizon => files.push(Escaped(name.as_encoded_bytes()).to_string()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(files)
}

fn mark(directory: &Path, reader: &Reader, unfinished: usize) -> Result<Option<Finding>, Trouble> {
    let (Some(id), Some(mark)) = (reader.fact("id")?, reader.fact(fact::STAGING)?) else { return Ok(None) };
    let shown = directory.display();
    let means = match staging::owner_of(directory)? {
        // Without unfinished packages any directory of this ledger will do.
        Some((ledger, found)) if ledger == id && (found == mark || unfinished == 0) => return Ok(None),
        Some((ledger, _)) if ledger == id => {
            format!(
                "The staging directory {shown} is one that this ledger used before, not the one where the files of \
                 {unfinished} packages lie"
            )
        }
        Some(_) => format!("The staging directory {shown} belongs to another ledger"),
        None => format!(
            "The staging directory {shown} is gone, or does not carry the mark of this ledger, which has {unfinished} \
             packages with files in it"
        ),
    };
    let advice = "is the file system of incomingdir mounted, was `incomingdir` or `staging` changed, do two servers \
                  share one? Put the right directory back before the server starts again.";
    Ok(Some(Finding::new(What::StagingMark, None, means, advice)))
}

fn unknown_file(name: &str) -> Finding {
    if name.ends_with(staging::ASIDE_ENDING) {
        return Finding::new(
            What::StagedUnknown,
            None,
            "Set aside by a start that found the ledger's last transaction torn: a package that was received and perhaps \
             recorded by it, and nobody knows its name. It may be the only copy"
                .into(),
            "compare its `sha256sum` with what `find` shows of packages that came since. If one is the same, remove the \
             file. Else move it into incomingdir as AGENT.NUMBER.data (its content names the agent); or `ledger reset` \
             takes it into quarantine.",
        )
        .of(name.to_owned(), None);
    }
    Finding::new(
        What::StagedUnknown,
        None,
        "A file in the staging directory that no row of the ledger knows: left by a crash while it was received (the \
         site still has it), or put there by somebody"
            .into(),
        "the next start of the server removes what it made itself (*.staged); look at anything else, and remove it.",
    )
    .of(name.to_owned(), None)
}

/// Compares a package's file with its row.
fn staged(directory: &Path, package: &Package) -> Result<Option<Finding>, Trouble> {
    let path = directory.join(&package.staged);
    let about = |what, means, advice| {
        Finding::new(what, Some(&package.site), means, advice).of(package.name.to_string(), Some(package.id))
    };
    let found = match digest_of(&path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let (means, advice) = missing(package);
            return Ok(Some(about(What::StagedMissing, means, advice)));
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error.into()),
        Err(error) => {
            let means = format!("Its file {} cannot be read: {error}", path.display());
            return Ok(Some(about(What::StagedChanged, means, CHANGED)));
        }
    };
    if found == (package.digest.clone(), package.size) {
        return Ok(None);
    }
    let means = format!(
        "Its file {} has {} bytes of digest {}, received were {} bytes of digest {}",
        path.display(),
        found.1,
        found.0,
        package.size,
        package.digest
    );
    Ok(Some(about(What::StagedChanged, means, CHANGED)))
}

const CHANGED: &str = "check the disk. A changed file is never delivered: the server puts it into quarantine. If the \
                       site still has the package, let it be pulled again.";

fn missing(package: &Package) -> (String, &'static str) {
    let file = &package.staged;
    match package.state {
        State::Held => (
            format!("Received and not delivered yet, and its file {file} is gone from the staging directory"),
            "while the site still lists it, the next pull fetches it again; else it is lost unless a backup has the \
             file: put it back before the server starts again.",
        ),
        State::Quarantined => (
            format!("In quarantine, and its file {file} is gone from the staging directory"),
            "put the file back from a backup, or purge it: that records the loss.",
        ),
        State::Committed | State::Delivered => (
            format!(
                "It was to become {} in incomingdir, and its file {file} is gone from the staging directory: it was \
                 handed over and the server ended before it wrote that down, or somebody took the file",
                Escaped(&package.target)
            ),
            "look for it in incomingdir, or in what the pipeline has processed; the server's next start counts it as \
             delivered.",
        ),
    }
}

fn quarantine(packages: &[Package], only: Option<&str>, findings: &mut Vec<Finding>) {
    let in_quarantine = |package: &&Package| {
        package.state == State::Quarantined && only.is_none_or(|only| only == package.site)
    };
    let mut sites: Vec<&str> =
        packages.iter().filter(in_quarantine).map(|package| package.site.as_str()).collect();
    sites.sort_unstable();
    for same in sites.chunk_by(|a, b| a == b) {
        findings.push(Finding::new(
            What::Quarantine,
            same.first().copied(),
            format!("{} packages could not be delivered and wait in quarantine", same.len()),
            "`tidegate-server quarantine list` says why; mend it, then requeue or purge them.",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Ledger, fact};

    #[test]
    fn a_file_without_a_row_is_on_its_way_until_nothing_happened_to_it_for_a_minute() {
        let root = tempfile::tempdir().unwrap();
        let text = format!(
            "incomingdir = {0:?}\nstate_directory = {0:?}\n[[site]]\naddress = \"a\"\ntls = \"off\"\n",
            root.path()
        );
        let file = root.path().join("server.toml");
        fs::write(&file, text).unwrap();
        let config = Config::load(&file).unwrap();
        let ledger = Ledger::open(&config.incoming.state).unwrap();
        ledger.write(|batch| batch.fact(fact::STAGING, "1")).unwrap();
        fs::create_dir(&config.incoming.staging).unwrap();
        let owner = format!("{} 1", ledger.id().unwrap());
        fs::write(config.incoming.staging.join(staging::OWNER), owner).unwrap();
        fs::write(config.incoming.staging.join("stranger\x1b"), "x").unwrap();
        let after = |wait| {
            let findings = look(&config, None, SystemTime::now() + Duration::from_secs(wait)).unwrap();
            findings.into_iter().map(|finding| (finding.what, finding.name)).collect::<Vec<_>>()
        };
        assert_eq!(after(0), []);
        assert_eq!(after(UNKNOWN_FOR.as_secs() + 2), [(What::StagedUnknown, Some("stranger\\x1b".into()))]);
    }
}
