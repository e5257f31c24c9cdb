//! Removing a pair: the main file first, then its `.md5`, if that is not the one of another main file too.

use std::io::ErrorKind;
use std::path::Path;

use super::Digest;
use super::change::Change;
use super::failed::{Failed, unsure};
use super::files::Files;
use super::workshop::{Done, GONE, Md5, OUT, in_name};
use crate::error::Context;

impl Change<'_> {
    pub(super) fn remove(&self, expected: Digest, md5: Md5) -> Result<Done, Failed> {
        let (files, file) = (&self.shop.files, &self.pair.file);
        match self.look()? {
            None => {}
            Some(thing) if thing.digest() == Some(expected) => {
                let prefix = match md5 {
                    Md5::Goes => GONE,
                    Md5::Stays => OUT,
                };
                let gone = self.shop.aside(prefix, &in_name(&expected), self.name);
                self.remove_leftover(&gone)?;
                match files.rename_noreplace(file, &gone) {
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    result => {
                        result.context("move aside", file)?;
                        return self.finish_removal(&gone, &expected, md5);
                    }
                }
            }
            Some(_) => return Ok(Done::Changed(self.seen()?)),
        }
        self.end_md5_of_none(md5)?;
        Ok(Done::Already)
    }

    /// The main file is aside.
    fn finish_removal(&self, gone: &Path, expected: &Digest, md5: Md5) -> Result<Done, Failed> {
        // In this order: a crash finds the main file in place, or in the workshop and its `.md5` still to go.
        let directories = [&self.shop.directory, &self.file_directory];
        if self.is_verified(gone, expected, &directories)? {
            self.end_md5_of_none(md5)?;
            self.discard(gone);
            return Ok(Done::Done);
        }
        put_back(&*self.shop.files, gone, &self.pair.file)?;
        self.file_directory.sync().map_err(unsure)?;
        // What came back with the power would be put back once more.
        self.remove_leftover(gone).map_err(Failed::into_unsure)?;
        self.shop.directory.sync().map_err(unsure)?;
        Ok(Done::Changed(self.seen()?))
    }

    fn end_md5_of_none(&self, md5: Md5) -> Result<(), Failed> {
        match md5 {
            Md5::Goes => self.remove_md5(),
            Md5::Stays => Ok(()),
        }
    }

    /// Removes an `.md5` that no main file is beside. It waits aside until it is clear that none was put there
    /// meanwhile, with this `.md5`.
    pub(super) fn remove_md5(&self) -> Result<(), Failed> {
        let (files, md5) = (&self.shop.files, &self.pair.md5);
        let is_there = |path: &Path| files.identify(path).context("look at", path);
        if is_there(&self.pair.file)?.is_some() || !is_there(md5)?.is_some_and(|there| there.is_file) {
            return Ok(());
        }
        let aside = self.shop.staged_md5(self.name);
        match files.rename(md5, &aside) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            result => result.context("move aside", md5)?,
        }
        let main = is_there(&self.pair.file);
        if !matches!(main, Ok(None)) {
            // Another one that is there by now is the better one.
            let _ = files.rename_noreplace(&aside, md5);
        }
        self.discard(&aside);
        self.md5_directory.sync().map_err(unsure)?;
        main?;
        Ok(())
    }
}

/// Puts back a main file that was moved aside, unless there is a newer one.
pub(super) fn put_back(files: &dyn Files, gone: &Path, file: &Path) -> Result<(), Failed> {
    match files.rename_noreplace(gone, file) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(error).context("put back", file).map_err(unsure)
        }
        _ => Ok(()),
    }
}
