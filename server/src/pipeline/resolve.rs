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
}

impl Pipeline {
    /// Records what the `MV`s of a batch showed, and delivers what is complete.
    pub(crate) fn resolve(&self, site: &str, batch: Vec<Moved>) -> Result<(), Trouble> {
        let open = self.open_by_name(site)?;
        let mut moved = Vec::with_capacity(batch.len());
        let mut files = Vec::new();
        for Moved { kept, other, whole, modified } in batch {
            let version = match other {
                Some(body) => self.version(&kept, body, whole, modified)?,
                None => None,
            };
            let row = version.map(|version| {
                let row = (version.digest, version.size, version.file.name().to_owned(), version.continues);
                files.push(version.file);
                row
            });
            moved.push((kept, whole, row));
        }

        let committed = self.record(files, |batch| {
            let mut committed = Vec::new();
            for (kept, whole, row) in &moved {
                let mut versions: Vec<Package> = open.get(&kept.name).cloned().unwrap_or_default();
                versions.retain(|package| package.state == State::Held);
                if let Some((digest, size, staged, continues)) = row {
                    let new = NewPackage { site, name: &kept.name, digest, size: *size, staged };
                    versions.push(batch.hold(&new)?);
                    if let Some(started) = continues {
                        batch.forget(started)?;
                        versions.retain(|package| package.id != started.id);
                    }
                }
                if *whole {
                    versions.iter().try_for_each(|package| batch.commit(package))?;
                    committed.append(&mut versions);
                }
            }
            Ok(committed)
        })?;
        let replaced = moved.iter().filter_map(|(_, _, row)| row.as_ref()?.3.as_ref());
        replaced.for_each(|package| self.staging.remove(&package.staged));
        self.finish(committed)
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
        let file = body.into_file().map_err(Trouble::io("cannot write a staged file"))?;
        if !whole && begins_with(&kept.path, &file.path())? {
            return Ok(None);
        }
        let continues = begins_with(&file.path(), &kept.path)?;
        file.seal(modified).map_err(Trouble::io("cannot make a staged file durable"))?;
        let continues = kept.held.clone().filter(|_| continues);
        Ok(Some(Version { digest, size, file, continues }))
    }
}
