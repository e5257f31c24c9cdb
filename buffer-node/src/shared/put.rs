//! Takes an agent's upload: what it may replace, and how it becomes durable.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidegate_spool::durable;

use super::guard::{self, Guarded, Md5, SETTLING, Verdict};
use super::room::Held;
use super::stamp::Stamp;
use super::{Found, Shared, directory_of, find};
use crate::layout;
use crate::pairs::Half;

/// Bytes compared at once.
const COMPARE_BYTES: usize = 16 * 1024;

/// What became of a file that was put.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Put {
    Written,
    /// The same bytes were there already.
    Same,
    /// Other bytes are there, and stay.
    Taken,
    /// It would have spoilt a pair.
    Guarded(Guarded),
}

/// Why a file could not be put.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PutError {
    #[error("{0}")]
    Full(String),
    #[error("nothing is stored until the node has started again: {0}")]
    Stopping(Arc<str>),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Shared {
    /// Whether it is clear before the body that the name keeps its bytes. `size` is that of the offered file, where
    /// it is known.
    pub(crate) fn is_taken(&self, directory: &str, name: &[u8], size: Option<u64>) -> io::Result<bool> {
        // The bytes of its pair decide on half of one.
        let is_half = self.synced.as_ref().is_some_and(|synced| synced.pairs.half(name) != Half::Neither);
        if self.overwrite || is_half {
            return Ok(false);
        }
        match fs::symlink_metadata(layout::shared_file(&self.root, directory, name)) {
            Ok(there) => Ok(!there.is_file() || size.is_some_and(|size| size != there.len())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Puts `content`, which is at its start and has `size` bytes, in the place of `name`; durable on return.
    pub(crate) fn put(
        &self,
        directory: &str,
        name: &[u8],
        mut content: File,
        size: u64,
    ) -> Result<Put, PutError> {
        let path = layout::shared_file(&self.root, directory, name);
        let _alone = self.alone(name);
        if let Some(reason) = self.fatal.reason() {
            return Err(PutError::Stopping(reason));
        }

        let there = match find(&path)? {
            Found::Nothing => None,
            Found::Other => return Ok(Put::Taken),
            Found::File(there) => {
                let version = there.metadata()?;
                if version.len() == size && same_bytes(&there, &mut content)? {
                    self.make_durable(&path, &there)?;
                    self.agents_have(name, Stamp::of(&version));
                    return Ok(Put::Same);
                }
                content.rewind()?;
                Some(Stamp::of(&version))
            }
        };
        let replaces = match self.verdict(name, there, &mut content)? {
            Verdict::Refused(why) => return Ok(Put::Guarded(why)),
            Verdict::Replaces => true,
            Verdict::AsConfigured => self.overwrite,
        };
        if there.is_some() && !replaces {
            return Ok(Put::Taken);
        }
        let before = Held::by(&[&path]);
        let reserved = self.room.reserve_upload(Held { files: 1 - before.files, bytes: size })?;
        let put = self.write(&path, name, &mut content, replaces)?;
        if put == Put::Written {
            reserved.keep(before, Held { files: 1, bytes: size });
            self.uploaded(name);
        }
        Ok(put)
    }

    /// Whether an upload may take the place of what is there. Reads `content`, and rewinds it.
    fn verdict(&self, name: &[u8], there: Option<Stamp>, content: &mut File) -> io::Result<Verdict> {
        let Some(synced) = &self.synced else { return Ok(Verdict::AsConfigured) };
        match (synced.pairs.half(name), there) {
            (Half::Neither, _) => Ok(Verdict::AsConfigured),
            (Half::Main { is_conf }, None) => {
                // Agents register with a .conf and with nothing else.
                let is_foreign = if is_conf {
                    synced.owner_of_md5(name)?.is_some()
                } else {
                    synced.has_other_of_stem(name)
                };
                Ok(if is_foreign { Verdict::Refused(Guarded::Sibling) } else { Verdict::AsConfigured })
            }
            (Half::Main { is_conf }, Some(there)) => {
                let is_known = synced.known.holds(name, there);
                let md5 = if synced.has_md5(name) {
                    Md5::There
                } else {
                    Md5::Absent { is_settled: there.is_older(SETTLING) }
                };
                Ok(guard::over_main(md5, is_conf, self.overwrite, is_known))
            }
            (Half::Md5 { of }, _) => {
                let mut verdict = Verdict::Refused(Guarded::Lone);
                for main in &of {
                    match synced.look_with_md5(main, content)? {
                        None => {}
                        Some((seen, _)) if seen.fits => return Ok(Verdict::Refused(Guarded::OtherDigest)),
                        Some((_, true)) => verdict = Verdict::Replaces,
                        Some(_) if verdict == Verdict::Replaces => {}
                        Some(_) => verdict = Verdict::Refused(Guarded::OtherDigest),
                    }
                }
                Ok(verdict)
            }
        }
    }

    /// Written and fsynced aside first, so that readers see the old or the new bytes, never a part. The rename
    /// becomes durable with the directory's fsync.
    fn write(&self, path: &Path, name: &[u8], content: &mut File, replaces: bool) -> io::Result<Put> {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        // Unlike anything that an earlier process left and this one could not remove.
        let aside = layout::temporary(&self.root).join(format!("{}-{number}", std::process::id()));
        // Opened first: without descriptors, nothing is renamed that could not be made durable.
        let directory = directory_of(path)?;
        let renamed = self.copy_durably(content, &aside).and_then(|file| {
            // Where nothing may be replaced, what an operator has put there in the meantime wins.
            let rename = if replaces { fs::rename } else { durable::rename_noreplace };
            rename(&aside, path)?;
            file.metadata()
        });
        match renamed {
            Ok(placed) => {
                self.final_fsync(&directory, path)?;
                self.durable.remember(path, &placed);
                self.agents_have(name, Stamp::of(&placed));
                Ok(Put::Written)
            }
            Err(error) => {
                fs::remove_file(&aside).or_else(|error| match error.kind() {
                    ErrorKind::NotFound => Ok(()),
                    _ => Err(error),
                })?;
                if error.kind() == ErrorKind::AlreadyExists { Ok(Put::Taken) } else { Err(error) }
            }
        }
    }

    /// A failure harms nobody: what was written is thrown away.
    fn copy_durably(&self, content: &mut File, aside: &Path) -> io::Result<File> {
        let mut file = durable::create_new(aside)?;
        io::copy(content, &mut file)?;
        (self.fsync)(&file)?;
        Ok(file)
    }

    /// Makes durable what somebody else, or an earlier process, has put there.
    fn make_durable(&self, path: &Path, there: &File) -> io::Result<()> {
        let before = there.metadata()?;
        if self.durable.holds(path, &before) {
            return Ok(());
        }
        let directory = directory_of(path)?;
        self.final_fsync(there, path)?;
        self.final_fsync(&directory, path)?;
        self.durable.remember(path, &before);
        Ok(())
    }
}

fn same_bytes(mut left: impl Read, mut right: impl Read) -> io::Result<bool> {
    let (mut left_part, mut right_part) = (Vec::new(), Vec::new());
    loop {
        left_part.clear();
        right_part.clear();
        left.by_ref().take(COMPARE_BYTES as u64).read_to_end(&mut left_part)?;
        right.by_ref().take(COMPARE_BYTES as u64).read_to_end(&mut right_part)?;
        if left_part != right_part {
            return Ok(false);
        }
        if left_part.is_empty() {
            return Ok(true);
        }
    }
}
