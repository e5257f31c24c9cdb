//! One change of one pair, from the first look to the last fsync.

use std::io::ErrorKind;
use std::path::Path;

use super::aside::{Exchange, Thing};
use super::failed::{Failed, unsure};
use super::files::OpenDir;
use super::look::seen;
use super::partial::Ready;
use super::stamp::Stamp;
use super::workshop::{Done, HELD, SWAP, Workshop, in_name};
use super::{Digest, Pair, Seen};
use crate::durable;
use crate::error::Context;

/// A change on its way.
pub(super) struct Change<'a> {
    pub(super) shop: &'a Workshop,
    pub(super) name: &'a [u8],
    pub(super) pair: &'a Pair,
    /// Opened first: without descriptors, nothing is renamed that could not be made durable.
    pub(super) file_directory: OpenDir,
    pub(super) md5_directory: OpenDir,
}

impl<'a> Change<'a> {
    pub(super) fn new(shop: &'a Workshop, name: &'a [u8], pair: &'a Pair) -> Result<Self, Failed> {
        let open = |path: &Path| -> Result<OpenDir, Failed> {
            let directory = durable::parent(path).context("find the directory of", path)?;
            Ok(OpenDir::open(&*shop.files, &directory)?)
        };
        let (file_directory, md5_directory) = (open(&pair.file)?, open(&pair.md5)?);
        Ok(Self { shop, name, pair, file_directory, md5_directory })
    }

    pub(super) fn place(&self, expected: Option<Digest>, ready: Ready) -> Result<Done, Failed> {
        let there = self.look()?;
        let digest = there.and_then(|thing| thing.digest());
        if let Some(thing) = there.filter(|_| digest == Some(ready.digest)) {
            ready.slot.discard();
            return self.settle(&thing);
        }
        if digest != expected {
            return Ok(Done::Changed(self.seen()?));
        }
        let staged = self.stage_md5(ready.md5())?;
        let placed = match expected {
            None => self.put_new(&ready),
            Some(expected) => self.put_over(&ready, &expected),
        };
        match placed {
            Ok(Some(ours)) => self.place_md5(&staged, &ours),
            Ok(None) => {
                self.discard(&staged);
                // What came back with the power would be taken for something that is still to be done.
                self.shop.directory.sync().map_err(unsure)?;
                Ok(Done::Changed(self.seen()?))
            }
            Err(failed) => {
                if matches!(failed, Failed::Refused(_)) {
                    self.discard(&staged);
                }
                Err(failed)
            }
        }
    }

    /// Puts a main file where none was. `None` when there is something now.
    fn put_new(&self, ready: &Ready) -> Result<Option<Stamp>, Failed> {
        let (files, file) = (&self.shop.files, &self.pair.file);
        let ours = self.dress(ready)?;
        self.sync_workshop()?;
        match files.rename_noreplace(&ready.slot.path, file) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(None),
            result => result.context("rename a file to", file)?,
        }
        self.file_directory.sync().map_err(unsure)?;
        Ok(Some(ours.stamp))
    }

    /// Puts a main file where one was expected. `None` when it was another.
    fn put_over(&self, ready: &Ready, expected: &Digest) -> Result<Option<Stamp>, Failed> {
        let files = &*self.shop.files;
        let swap = self.shop.aside(SWAP, &in_name(expected), self.name);
        let held = self.shop.aside(HELD, &in_name(expected), self.name);
        self.remove_leftover(&swap)?;
        self.remove_leftover(&held)?;
        let ours = self.dress(ready)?;
        files.rename_noreplace(&ready.slot.path, &swap).context("rename a file to", &swap)?;
        let exchange = Exchange { files, pair: self.pair, swap: &swap, held: &held };
        let exchanged = self.sync_workshop().and_then(|()| exchange.exchange());
        match exchanged {
            Err(Failed::Refused(error)) => {
                self.take_back(&swap, ready)?;
                return if error.kind() == ErrorKind::NotFound { Ok(None) } else { Err(error.into()) };
            }
            result => result?,
        }
        if self.is_verified(&swap, expected, &[&self.file_directory])? {
            self.discard(&swap);
            return Ok(Some(ours.stamp));
        }
        exchange.put_back(&ours)?;
        self.file_directory.sync().map_err(unsure)?;
        let out = files.identify(&swap).context("look at", &swap).map_err(unsure)?;
        let ours_came_out = out.is_some_and(|out| out.stamp.is_same_file(&ours.stamp));
        if ours_came_out {
            self.take_back(&swap, ready)?;
        } else {
            self.remove_leftover(&swap).map_err(Failed::into_unsure)?;
        }
        Ok(None)
    }

    /// Makes the new main file bytes on their way in again, for the next time it is offered. One that stayed where it
    /// is would be taken for somebody's edit by the recovery of a later change.
    fn take_back(&self, swap: &Path, ready: &Ready) -> Result<(), Failed> {
        match self.shop.files.rename_noreplace(swap, &ready.slot.path) {
            Ok(()) => Ok(()),
            Err(_) => self.remove_leftover(swap).map_err(Failed::into_unsure),
        }
    }

    /// Whether what came out is what was expected, and nobody wrote to it until it was durably out.
    pub(super) fn is_verified(
        &self,
        aside: &Path,
        expected: &Digest,
        directories: &[&OpenDir],
    ) -> Result<bool, Failed> {
        let files = &*self.shop.files;
        let thing = match Thing::at(files, aside) {
            Ok(Some(thing)) if thing.digest() == Some(*expected) => thing,
            _ => return Ok(false),
        };
        directories.iter().try_for_each(|directory| directory.sync()).map_err(unsure)?;
        let there = files.identify(aside);
        Ok(there.is_ok_and(|there| there.is_some_and(|there| there.stamp == thing.stamp)))
    }

    /// Gives the new main file mode and owner, durably.
    fn dress(&self, ready: &Ready) -> Result<Thing, Failed> {
        let (files, path) = (&self.shop.files, &ready.slot.path);
        files.dress(path, &self.pair.file).context("set mode and owner of", path)?;
        // After a failed fsync nobody knows what is in it.
        files.sync_file(path).inspect_err(|_| ready.slot.discard())?;
        let there = files.identify(path).context("look at", path)?;
        let gone = || Failed::Refused(ErrorKind::NotFound.into());
        Ok(Thing { stamp: there.ok_or_else(gone)?.stamp, contents: Some(ready.contents) })
    }

    pub(super) fn look(&self) -> Result<Option<Thing>, Failed> {
        Ok(Thing::at(&*self.shop.files, &self.pair.file)?)
    }

    /// What there is, for whoever expected something else.
    pub(super) fn seen(&self) -> Result<Option<Seen>, Failed> {
        let Some(contents) = self.look()?.and_then(|thing| thing.contents) else { return Ok(None) };
        Ok(Some(seen(&contents, self.md5_in_place()?.as_ref())))
    }

    /// One that could not be removed when it should have been.
    pub(super) fn remove_leftover(&self, path: &Path) -> Result<(), Failed> {
        match self.shop.files.remove(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            result => Ok(result.context("remove", path)?),
        }
    }

    /// Removes what nobody needs any more; what stays is removed at the next start.
    pub(super) fn discard(&self, path: &Path) {
        if let Err(error) = self.shop.files.remove(path)
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "cannot be removed and stays until the next start");
        }
    }

    fn sync_workshop(&self) -> Result<(), Failed> {
        Ok(self.shop.directory.sync()?)
    }
}
