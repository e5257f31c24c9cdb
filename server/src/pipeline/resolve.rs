//! What a stock site sent for `MV`, compared with what is held: the last word about a file before its delivery.
//!
//! | the body of `MV`, beside what is held | is delivered |
//! |---|---|
//! | equal | what is held |
//! | a continuation of it (it was still being written) | the body of `MV` |
//! | anything else (it was rewritten) | both, in order |
//! | cut short | nothing yet: what came is held too, unless it is only a start of what is held; the next listing decides |

use std::time::SystemTime;

use super::admit::begins_with;
use super::{Kept, Pipeline, Trouble};
use crate::body::{Arrived, Digest};
use crate::ledger::{NewPackage, Package, State};
use crate::staging::StagedFile;

/// A kept file after its `MV`.
#[derive(Debug)]
pub(crate) struct Moved {
    pub(crate) kept: Kept,
    /// What came, if it differs from what is kept.
    pub(crate) other: Option<Arrived>,
    /// Whether all that was announced came. Then the site deletes the file.
    pub(crate) whole: bool,
    pub(crate) modified: SystemTime,
}

/// A version that only the `MV` showed.
struct Version {
    digest: Digest,
    size: u64,
    file: StagedFile,
    continues: Option<Package>,
    modified: SystemTime,
}

impl Pipeline {
    /// Records what the `MV`s of a batch showed, and delivers what is complete.
    pub(crate) fn resolve(&self, site: &str, batch: Vec<Moved>) -> Result<(), Trouble> {
        let mut moved = Vec::with_capacity(batch.len());
        for Moved { kept, other, whole, modified } in batch {
            let version = match other {
                Some(body) => self.version(&kept, body, whole, modified)?,
                None => None,
            };
            let (held, mut replaced): (Vec<_>, Vec<_>) = self
                .ledger
                .open_packages(site, &kept.name)?
                .into_iter()
                .partition(|package| package.state == State::Held);
            // A site holds one file a name: with other bytes there it has the delivered ones no more.
            let other = |package: &Package| {
                package.is_done() && version.as_ref().is_some_and(|version| version.digest != package.digest)
            };
            replaced.retain(other);
            moved.push((kept, whole, version, held, replaced));
        }
        let versions = || moved.iter().filter_map(|(_, _, version, _, _)| version.as_ref());
        let files: Vec<_> = versions().map(|version| &version.file).collect();
        let committed = self.record(&files, |batch| {
            let mut committed = Vec::new();
            for (kept, whole, version, held, replaced) in &moved {
                let mut held = held.clone();
                replaced.iter().try_for_each(|package| batch.gone(package))?;
                if let Some(version) = version {
                    let Version { digest, size, file, continues, modified } = version;
                    let new = NewPackage {
                        site,
                        name: &kept.name,
                        digest,
                        size: *size,
                        staged: file.name(),
                        modified: *modified,
                    };
                    held.push(batch.hold(&new)?);
                    continues.iter().try_for_each(|package| batch.forget(package))?;
                    held.retain(|package| continues.as_ref() != Some(package));
                }
                if *whole {
                    held.iter().try_for_each(|package| batch.commit(package))?;
                    committed.append(&mut held);
                }
            }
            Ok(committed)
        })?;
        self.remove_continued(versions().filter_map(|version| version.continues.as_ref()));
        self.finish(committed).map(|_| ())
    }

    /// What came, if it is to be kept beside or instead of what is kept.
    fn version(
        &self,
        kept: &Kept,
        body: Arrived,
        whole: bool,
        modified: SystemTime,
    ) -> Result<Option<Version>, Trouble> {
        let (digest, size) = (body.digest.clone(), body.size);
        if size == 0 {
            return Ok(None);
        }
        let file = body.into_file(modified).map_err(Trouble::io("cannot write a staged file"))?;
        if !whole && begins_with(&kept.path, &file.path())? {
            return Ok(None);
        }
        let continues = if begins_with(&file.path(), &kept.path)? { kept.package.clone() } else { None };
        Ok(Some(Version { digest, size, file, continues, modified }))
    }
}
