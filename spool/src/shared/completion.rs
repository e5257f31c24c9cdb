//! The `.md5` of a main file that is in place.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::Digest;
use super::aside::Thing;
use super::change::Change;
use super::failed::{Failed, unsure};
use super::files::Files;
use super::look::{Md5Text, io_error, read_md5};
use super::stamp::Stamp;
use super::workshop::Done;
use crate::error::Context;
use crate::failed::is_failed_sync;

impl Change<'_> {
    pub(super) fn complete(&self, expected: Digest) -> Result<Done, Failed> {
        match self.look()? {
            Some(thing) if thing.digest() == Some(expected) => self.settle(&thing),
            _ => Ok(Done::Changed(self.seen()?)),
        }
    }

    /// The main file is there: makes it durable, and gives it its `.md5`.
    pub(super) fn settle(&self, there: &Thing) -> Result<Done, Failed> {
        let Some(contents) = there.contents else { return Ok(Done::Changed(None)) };
        if !self.sync_main()? {
            return Ok(Done::Changed(self.seen()?));
        }
        let md5 = &self.pair.md5;
        if self.md5_in_place()? == Some(contents.md5) && sync_in_place(&*self.shop.files, md5)? {
            self.md5_directory.sync().map_err(unsure)?;
            return Ok(Done::Already);
        }
        let staged = self.stage_md5(&contents.md5)?;
        self.place_md5(&staged, &there.stamp).inspect_err(|_| self.discard(&staged))
    }

    /// Makes a main file durable that somebody has put there. Whether it is still there.
    pub(super) fn sync_main(&self) -> Result<bool, Failed> {
        let is_there = sync_in_place(&*self.shop.files, &self.pair.file)?;
        self.file_directory.sync().map_err(unsure)?;
        Ok(is_there)
    }

    /// Writes an `.md5` in the workshop.
    pub(super) fn stage_md5(&self, text: &Md5Text) -> Result<PathBuf, Failed> {
        let files = &self.shop.files;
        let staged = self.shop.staged_md5(self.name);
        self.remove_leftover(&staged)?;
        let write = || -> Result<(), Failed> {
            let mut file = files.create(&staged).context("create", &staged)?;
            file.write_at(0, text).context("write", &staged)?;
            files.dress(&staged, &self.pair.md5).context("set mode and owner of", &staged)?;
            file.sync().context("fsync", &staged)?;
            Ok(())
        };
        write().inspect_err(|_| self.discard(&staged))?;
        Ok(staged)
    }

    /// Puts the waiting `.md5` in place, over what is there, if the main file still is the one it was made for: else
    /// whoever put another one writes its `.md5` too. When that fails it waits on.
    pub(super) fn place_md5(&self, staged: &Path, main: &Stamp) -> Result<Done, Failed> {
        let (files, md5) = (&self.shop.files, &self.pair.md5);
        let there = files.identify(&self.pair.file).context("look at", &self.pair.file)?;
        if !there.is_some_and(|there| there.stamp.is_unwritten(main)) {
            self.discard(staged);
            return Ok(Done::Changed(self.seen()?));
        }
        files.rename(staged, md5).context("replace", md5)?;
        self.md5_directory.sync().map_err(unsure)?;
        Ok(Done::Done)
    }

    pub(super) fn md5_in_place(&self) -> Result<Option<Md5Text>, Failed> {
        Ok(md5_at(&*self.shop.files, &self.pair.md5)?)
    }
}

/// What the `.md5` at `path` holds, if it is there and can be one.
pub(super) fn md5_at(files: &dyn Files, path: &Path) -> io::Result<Option<Md5Text>> {
    match files.open(path)? {
        Some(opened) => read_md5(opened.bytes).context("read", path).map_err(io_error),
        None => Ok(None),
    }
}

/// Whether it is still there. To have no descriptor for its fsync is harmless.
fn sync_in_place(files: &dyn Files, path: &Path) -> Result<bool, Failed> {
    match files.sync_file(path) {
        Ok(()) => Ok(true),
        Err(error) if is_failed_sync(&error) => Err(unsure(error)),
        Err(error) if error.source.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}
