//! Taking in what a site sent: staged, durable, and in the ledger as held (stock sites) or committed (nodes).

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tidegate_proto::Name;
use tidegate_spool::sabotage::{self, Switch};

use super::{Pipeline, Trouble};
use crate::body::{Arrived, Digest, digest_of};
use crate::ledger::{Batch, NewPackage, Package, State};
use crate::names;
use crate::staging::StagedFile;

/// For how long the same name with the same bytes counts as a repeat after its delivery, if the name holds a time:
/// an agent sends a file again when it did not see the answer. Later, and for other names, it is a new package.
pub(crate) const REPEAT_WINDOW: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What may fail when a version may continue another.
const COMPARING: &str = "cannot compare two versions of a staged file";

/// A body and what it is called.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) name: Name,
    pub(crate) body: Arrived,
    /// What its modification time is to be.
    pub(crate) modified: SystemTime,
}

/// A name whose content is safe here: it may be moved away at the site.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) name: Name,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    /// A file with the content, while it is held.
    pub(super) path: PathBuf,
    /// Its row in the ledger; without one the content was delivered before.
    pub(super) package: Option<Package>,
    /// The file at `path`, if it is needed for nothing but comparing.
    _copy: Option<StagedFile>,
}

impl Kept {
    /// Whether it was delivered before, and only has to be deleted at the site.
    pub(crate) fn is_repeat(&self) -> bool {
        self.package.is_none()
    }
}

/// A received body, and what it turned out to be.
struct Admitted {
    name: Name,
    digest: Digest,
    size: u64,
    modified: SystemTime,
    what: What,
    /// The versions of the name that are held already and stay, in order.
    held: Vec<Package>,
    /// Delivered (or quarantined) versions with other bytes: a site holds one file a name, so it has them no more.
    replaced: Vec<Package>,
}

enum What {
    /// Delivered before. The file is here to be compared.
    Known(StagedFile),
    /// The last of the held versions.
    Same,
    /// New. It continues a held version that was still being written, or stands behind all of them.
    New { file: StagedFile, continues: Option<Box<Package>> },
}

impl Pipeline {
    /// Takes files of a stock site: held, not to be delivered before the site has deleted them.
    pub(crate) fn hold(&self, site: &str, batch: Vec<Received>) -> Result<Vec<Kept>, Trouble> {
        let (kept, _) = self.take_in(site, batch, State::Held)?;
        self.crash.point("after-held");
        Ok(kept)
    }

    /// Takes files of a Tidegate node, and delivers them: the node keeps each until its `MV`. What is not returned was
    /// damaged on this end's disk before it could be delivered: the node must keep it.
    pub(crate) fn accept(&self, site: &str, batch: Vec<Received>) -> Result<Vec<Kept>, Trouble> {
        let (kept, committed) = self.take_in(site, batch, State::Committed)?;
        let damaged = self.finish(committed)?;
        let is_damaged =
            |kept: &Kept| kept.package.as_ref().is_some_and(|package| damaged.contains(package.id));
        Ok(kept.into_iter().filter(|kept| !is_damaged(kept)).collect())
    }

    /// Whether the file of a held package still has the bytes that came. One that cannot be read has not: it must not
    /// stand in the way of the good copy that has just come.
    fn is_undamaged(&self, held: &Package) -> Result<bool, Trouble> {
        match digest_of(&self.staging.path(&held.staged)) {
            Ok((digest, _)) => Ok(digest == held.digest),
            Err(error) if self.is_one_files(&error) => {
                say_unreadable(held, &error);
                Ok(false)
            }
            Err(error) => Err(Trouble::io("cannot read a staged file that is held")(error)),
        }
    }

    /// Whether what came gives no reason to keep a held version. One that cannot be read stays, so that its delivery
    /// tells that it is lost; one that is not there would count as delivered.
    pub(super) fn continues(&self, came: &Path, held: &Package) -> Result<bool, Trouble> {
        match compare(came, &self.staging.path(&held.staged)) {
            Err(error) if self.is_one_files(&error) => {
                say_unreadable(held, &error);
                Ok(error.kind() == io::ErrorKind::NotFound)
            }
            compared => compared.map_err(Trouble::io(COMPARING)),
        }
    }

    /// Records a batch up to `state`. With `Committed` also returns what is to be delivered: the new versions, and
    /// what was held before under their names.
    fn take_in(
        &self,
        site: &str,
        batch: Vec<Received>,
        state: State,
    ) -> Result<(Vec<Kept>, Vec<Package>), Trouble> {
        let mut admitted = Vec::with_capacity(batch.len());
        for received in batch {
            admitted.push(self.admit(site, received)?);
        }
        let files: Vec<_> = admitted.iter().filter_map(Admitted::new_file).collect();
        let rows = self.record(&files, |batch| {
            admitted.iter().map(|one| one.record(site, state, batch)).collect::<rusqlite::Result<Vec<_>>>()
        })?;
        self.remove_continued(admitted.iter().filter_map(Admitted::continued));
        let mut kept = Vec::with_capacity(rows.len());
        let mut committed = Vec::new();
        for (one, versions) in admitted.into_iter().zip(rows) {
            kept.push(self.kept(one, versions.last()));
            committed.extend(versions);
        }
        Ok((kept, if state == State::Committed { committed } else { Vec::new() }))
    }

    fn kept(&self, admitted: Admitted, package: Option<&Package>) -> Kept {
        let Admitted { name, digest, size, what, .. } = admitted;
        match (what, package) {
            (What::Known(copy), _) => {
                Kept { name, digest, size, path: copy.path(), package: None, _copy: Some(copy) }
            }
            (_, package) => {
                let package = package.expect("what is not known has a row");
                let path = self.staging.path(&package.staged);
                Kept { name, digest, size, path, package: Some(package.clone()), _copy: None }
            }
        }
    }

    /// Finds out what a body is, and writes it to its file if it is needed.
    fn admit(&self, site: &str, received: Received) -> Result<Admitted, Trouble> {
        let Received { name, body, modified } = received;
        let (digest, size) = (body.digest.clone(), body.size);
        let (mut held, others): (Vec<_>, Vec<_>) = self
            .ledger
            .open_packages(site, &name)?
            .into_iter()
            .partition(|package| package.state == State::Held);
        let known = !sabotage::breaks(Switch::ForgetDuplicates)
            && (self.is_known(&others, &digest)?
                || self.is_repeat(site, &name, &digest, SystemTime::now())?);
        let same = held.last().filter(|last| !known && last.digest == digest);
        let same = same.map(|last| self.is_undamaged(last)).transpose()?;
        let what = if same == Some(true) {
            What::Same
        } else {
            let file = body.into_file(modified).map_err(Trouble::io("cannot write a staged file"))?;
            if known {
                tracing::info!(site, package = %name, "delivered before; only deleting it at the site");
                What::Known(file)
            } else {
                let continues =
                    held.last().filter(|_| same.is_none()).map(|last| self.continues(&file.path(), last));
                // A damaged copy gives way to a good one as well.
                let gives_way = same == Some(false) || continues.transpose()? == Some(true);
                let continues = if gives_way { held.pop().map(Box::new) } else { None };
                What::New { file, continues }
            }
        };
        let mut replaced = others;
        replaced.retain(|package| package.is_done() && package.digest != digest);
        Ok(Admitted { name, digest, size, modified, what, held, replaced })
    }

    /// Whether one of these has this content for sure. What is committed was not compared since it was written, and
    /// may prove damaged when it is handed over: then the copy that came is the good one.
    fn is_known(&self, others: &[Package], digest: &Digest) -> Result<bool, Trouble> {
        for package in others.iter().filter(|package| package.digest == *digest && !package.is_damaged()) {
            if package.state != State::Committed {
                return Ok(true);
            }
            match digest_of(&self.staging.path(&package.staged)) {
                Ok((found, _)) if found == *digest => return Ok(true),
                // It was handed over.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(Trouble::io("cannot read a staged file that is committed")(error));
                }
                _ => {}
            }
        }
        Ok(false)
    }

    fn is_repeat(&self, site: &str, name: &Name, digest: &Digest, now: SystemTime) -> Result<bool, Trouble> {
        let since = now.checked_sub(REPEAT_WINDOW).unwrap_or(SystemTime::UNIX_EPOCH);
        Ok(names::is_timed(name, digest) && self.ledger.was_delivered(site, name, digest, since)?)
    }
}

impl Admitted {
    fn new_file(&self) -> Option<&StagedFile> {
        if let What::New { file, .. } = &self.what { Some(file) } else { None }
    }

    fn continued(&self) -> Option<&Package> {
        if let What::New { continues, .. } = &self.what { continues.as_deref() } else { None }
    }

    /// Brings the ledger up to `state`. Returns the held versions of the name, the received one last if it is held.
    fn record(&self, site: &str, state: State, batch: &Batch<'_>) -> rusqlite::Result<Vec<Package>> {
        let mut versions = self.held.clone();
        self.replaced.iter().try_for_each(|package| batch.gone(package))?;
        match &self.what {
            What::Known(_) => batch.repeated(site, 1)?,
            What::Same => {}
            What::New { file, continues } => {
                let Self { name, digest, size, modified, .. } = self;
                versions.push(batch.hold(&NewPackage {
                    site,
                    name,
                    digest,
                    size: *size,
                    staged: file.name(),
                    modified: *modified,
                })?);
                continues.iter().try_for_each(|package| batch.forget(package))?;
            }
        }
        if state == State::Committed {
            versions.iter().try_for_each(|package| batch.commit(package))?;
        }
        Ok(versions)
    }
}

/// Whether the file at `whole` begins with all that the one at `start` holds.
pub(super) fn begins_with(whole: &Path, start: &Path) -> Result<bool, Trouble> {
    compare(whole, start).map_err(Trouble::io(COMPARING))
}

fn compare(whole: &Path, start: &Path) -> io::Result<bool> {
    let (whole, start) = (File::open(whole)?, File::open(start)?);
    let length = start.metadata()?.len();
    if whole.metadata()?.len() < length {
        return Ok(false);
    }
    let mut pairs = BufReader::new(whole).take(length).bytes().zip(BufReader::new(start).bytes());
    pairs.try_fold(true, |same, (a, b)| Ok(same && a? == b?))
}

fn say_unreadable(held: &Package, error: &io::Error) {
    tracing::error!(site = held.site, package = %held.name, file = held.staged, %error, "the copy held here cannot be read");
}
