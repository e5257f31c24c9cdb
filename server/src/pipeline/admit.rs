//! Taking in what a site sent: staged, durable, and in the ledger as held (stock sites) or committed (nodes).

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tidegate_proto::Name;

use super::{Pipeline, Trouble};
use crate::body::{Arrived, Digest};
use crate::ledger::{NewPackage, Package, State};
use crate::names;
use crate::staging::StagedFile;

/// For how long the same name with the same bytes counts as a repeat after its delivery, if the name holds a time:
/// an agent sends a file again when it did not see the answer. Later, and for other names, it is a new package.
const REPEAT_WINDOW: Duration = Duration::from_secs(7 * 24 * 60 * 60);

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
    /// A file with the content.
    pub(super) path: PathBuf,
    /// The row in the ledger, if the content is held; without one it was delivered before.
    pub(super) held: Option<Package>,
    /// The file at `path`, if it is needed for nothing but comparing.
    _copy: Option<StagedFile>,
}

/// What a received body turned out to be.
enum Admitted {
    /// Delivered before: only to be deleted at the site.
    Known { name: Name, digest: Digest, copy: StagedFile },
    /// Held already.
    Same(Package),
    /// New. It `continues` a held version that was still being written, or stands behind all earlier ones.
    New { name: Name, digest: Digest, size: u64, file: StagedFile, continues: Option<Package> },
}

impl Pipeline {
    /// Takes files of a stock site: held, not to be delivered before the site has deleted them.
    pub(crate) fn hold(&self, site: &str, batch: Vec<Received>) -> Result<Vec<Kept>, Trouble> {
        let (kept, _) = self.take_in(site, batch, State::Held)?;
        self.crash.point("after-held");
        Ok(kept)
    }

    /// Takes files of a Tidegate node, and delivers them: the node keeps each until its `MV`.
    pub(crate) fn accept(&self, site: &str, batch: Vec<Received>) -> Result<Vec<Kept>, Trouble> {
        let (kept, committed) = self.take_in(site, batch, State::Committed)?;
        self.finish(committed)?;
        Ok(kept)
    }

    /// Records a batch up to `state`. With `Committed` also returns what is to be delivered: the new versions, and
    /// what was held before under their names.
    fn take_in(
        &self,
        site: &str,
        batch: Vec<Received>,
        state: State,
    ) -> Result<(Vec<Kept>, Vec<Package>), Trouble> {
        let open = self.open_by_name(site)?;
        let mut admitted = Vec::with_capacity(batch.len());
        for received in batch {
            let versions = open.get(&received.name).map_or(&[][..], Vec::as_slice);
            admitted.push(self.admit(site, received, versions)?);
        }

        let mut kept = Vec::with_capacity(admitted.len());
        let mut files = Vec::new();
        let mut rows = Vec::new();
        for one in admitted {
            match one {
                Admitted::Known { name, digest, copy } => {
                    tracing::info!(site, package = %name, "delivered before; only deleting it at the site");
                    kept.push(Kept { name, digest, path: copy.path(), held: None, _copy: Some(copy) });
                }
                Admitted::Same(package) => kept.push(self.kept(package)),
                Admitted::New { name, digest, size, file, continues } => {
                    rows.push((name, digest, size, file.name().to_owned(), continues));
                    files.push(file);
                }
            }
        }
        let repeats = kept.iter().filter(|kept| kept.held.is_none()).count();
        let (new, committed) = self.record(files, |batch| {
            let mut new = Vec::with_capacity(rows.len());
            for (name, digest, size, staged, continues) in &rows {
                new.push(batch.hold(&NewPackage { site, name, digest, size: *size, staged })?);
                continues.iter().try_for_each(|package| batch.forget(package))?;
            }
            (0..repeats).try_for_each(|_| batch.repeated(site))?;
            let mut committed = Vec::new();
            if state == State::Committed {
                let dropped =
                    |id| rows.iter().any(|row| row.4.as_ref().is_some_and(|package| package.id == id));
                let names = rows.iter().map(|row| &row.0).chain(kept.iter().map(|kept| &kept.name));
                committed.extend(names.filter_map(|name| open.get(name)).flatten().cloned());
                committed.retain(|package| package.state == State::Held && !dropped(package.id));
                committed.extend(new.iter().cloned());
                committed.iter().try_for_each(|package| batch.commit(package))?;
            }
            Ok((new, committed))
        })?;
        for package in rows.iter().filter_map(|row| row.4.as_ref()) {
            self.staging.remove(&package.staged);
        }
        kept.extend(new.into_iter().map(|package| self.kept(package)));
        Ok((kept, committed))
    }

    fn kept(&self, package: Package) -> Kept {
        Kept {
            name: package.name.clone(),
            digest: package.digest.clone(),
            path: self.staging.path(&package.staged),
            held: Some(package),
            _copy: None,
        }
    }

    /// Finds out what a body is, beside the open `versions` of its name, and makes it durable if it is new.
    fn admit(&self, site: &str, received: Received, versions: &[Package]) -> Result<Admitted, Trouble> {
        let Received { name, body, modified } = received;
        let digest = body.digest.clone();
        let size = body.size;
        let staged = |body: Arrived| body.into_file().map_err(Trouble::io("cannot write a staged file"));
        let delivered =
            versions.iter().any(|package| package.state != State::Held && package.digest == digest);
        let repeat = || {
            let since = SystemTime::now().checked_sub(REPEAT_WINDOW).unwrap_or(SystemTime::UNIX_EPOCH);
            Ok::<_, Trouble>(
                names::is_timed(&name) && self.ledger.was_delivered(site, &name, &digest, since)?,
            )
        };
        if delivered || repeat()? {
            return Ok(Admitted::Known { name, digest, copy: staged(body)? });
        }
        let last = versions.iter().rfind(|package| package.state == State::Held);
        if let Some(same) = last.filter(|package| package.digest == digest) {
            return Ok(Admitted::Same(same.clone()));
        }
        let file = staged(body)?;
        let continues = match last {
            Some(last) if begins_with(&file.path(), &self.staging.path(&last.staged))? => Some(last.clone()),
            _ => None,
        };
        file.seal(modified).map_err(Trouble::io("cannot make a staged file durable"))?;
        Ok(Admitted::New { name, digest, size, file, continues })
    }
}

/// Whether the file at `whole` begins with all that the one at `start` holds.
pub(super) fn begins_with(whole: &Path, start: &Path) -> Result<bool, Trouble> {
    let compare = || -> io::Result<bool> {
        let (whole, start) = (File::open(whole)?, File::open(start)?);
        let length = start.metadata()?.len();
        if whole.metadata()?.len() < length {
            return Ok(false);
        }
        let mut pairs = BufReader::new(whole).take(length).bytes().zip(BufReader::new(start).bytes());
        pairs.try_fold(true, |same, (a, b)| Ok(same && a? == b?))
    };
    compare().map_err(Trouble::io("cannot compare two versions of a staged file"))
}
