//! Main files that change places with what is in the workshop, and go back when something else came out.

use std::io::{self, ErrorKind};
use std::path::Path;

use super::failed::{Failed, unsure};
use super::files::Files;
use super::look::{Contents, Hashing, io_error};
use super::stamp::Stamp;
use super::{Digest, Pair};
use crate::error::Context;

/// What a name stands for, down to its bytes.
#[derive(Clone, Copy)]
pub(super) struct Thing {
    pub(super) stamp: Stamp,
    /// `None` of what is no regular file, or was [not read](Thing::at_best).
    pub(super) contents: Option<Contents>,
}

impl Thing {
    /// What lies there, if anything.
    pub(super) fn at(files: &dyn Files, path: &Path) -> io::Result<Option<Self>> {
        if let Some(opened) = files.open(path)? {
            let mut hashing = Hashing::default();
            hashing.update_from(opened.bytes).context("read", path).map_err(io_error)?;
            return Ok(Some(Self { stamp: opened.stamp, contents: Some(hashing.contents()) }));
        }
        let there = files.identify(path).context("look at", path).map_err(io_error)?;
        Ok(there.map(|there| Self { stamp: there.stamp, contents: None }))
    }

    /// The same, but one that cannot be read is told by its stamp alone.
    fn at_best(files: &dyn Files, path: &Path) -> io::Result<Option<Self>> {
        Self::at(files, path).or_else(|_| {
            let there = files.identify(path).context("look at", path).map_err(io_error)?;
            Ok(there.map(|there| Self { stamp: there.stamp, contents: None }))
        })
    }

    pub(super) fn digest(&self) -> Option<Digest> {
        self.contents.map(|contents| contents.digest)
    }

    /// Whether it is the same file and nobody has written to it.
    fn is(&self, other: &Self) -> bool {
        let digests = self.digest().zip(other.digest());
        self.stamp.is_unwritten(&other.stamp) && digests.is_none_or(|(one, other)| one == other)
    }
}

/// Where two files change places.
pub(super) struct Exchange<'a> {
    pub(super) files: &'a dyn Files,
    pub(super) pair: &'a Pair,
    /// In the workshop.
    pub(super) swap: &'a Path,
    /// In the workshop too, for a file system that knows no exchange.
    pub(super) held: &'a Path,
}

impl Exchange<'_> {
    /// Lets the two change places. `NotFound` when no main file is there (any more).
    ///
    /// Where the file system cannot do it in one step, the main file gets a second name, the other one is renamed over
    /// it, and the second name takes that one's place: readers never miss the file, but what is put there between the
    /// first two calls is lost.
    pub(super) fn exchange(&self) -> Result<(), Failed> {
        let file = &self.pair.file;
        match self.files.exchange(self.swap, file) {
            Err(error) if error.kind() == ErrorKind::Unsupported => {}
            result => return Ok(result.context("exchange", file)?),
        }
        self.files.link(file, self.held).context("link", file)?;
        if let Err(error) = self.files.rename(self.swap, file).context("replace", file) {
            let _ = self.files.remove(self.held);
            return Err(error.into());
        }
        self.files.rename(self.held, self.swap).context("rename", self.held).map_err(unsure)
    }

    /// Takes back an exchange that has put `ours` in place: what came out of it goes back in, unless the other hands
    /// have gone on and changed what was there then. Theirs is the last word, however often they speak meanwhile.
    ///
    /// Renaming needs no descriptor and no right to read: what came out because it could not be read goes back too.
    pub(super) fn put_back(&self, ours: &Thing) -> Result<(), Failed> {
        let mut put = Some(*ours);
        loop {
            let next = Thing::at_best(self.files, self.swap).map_err(Failed::Unsure)?;
            match self.exchange() {
                Ok(()) => {}
                // Removed by a hand that took it for what is in `swap` now.
                Err(Failed::Refused(error)) if error.kind() == ErrorKind::NotFound => return Ok(()),
                Err(Failed::Refused(error) | Failed::Unsure(error)) => return Err(Failed::Unsure(error)),
            }
            let out = Thing::at_best(self.files, self.swap).map_err(Failed::Unsure)?;
            if out.zip(put).is_some_and(|(out, put)| out.is(&put)) {
                return Ok(());
            }
            put = next;
        }
    }
}
