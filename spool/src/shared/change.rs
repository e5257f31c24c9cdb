//! One change of one pair, from the first look to the last fsync.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::aside::{Exchange, Thing};
use super::failed::{Failed, unsure};
use super::files::OpenDir;
use super::look::seen;
use super::partial::Ready;
use super::removal::put_back;
use super::workshop::{Done, HELD, OUT, SWAP, Workshop, in_name};
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

/// A new main file that is in place, durably.
struct Placed {
    ours: Thing,
    /// What was there before.
    replaced: Option<Swap>,
}

/// Where an exchange keeps what it has replaced.
struct Swap {
    path: PathBuf,
    /// On a file system that knows no exchange, for a moment.
    held: PathBuf,
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
            Ok(Some(placed)) => self.finish(&ready, &placed, &staged),
            Ok(None) => {
                self.forget_md5(&staged)?;
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

    /// Gives the new main file its `.md5`, or takes it back: agents would find one beside which an old `.md5` lies for
    /// ever, and make their own of it.
    fn finish(&self, ready: &Ready, placed: &Placed, staged: &Path) -> Result<Done, Failed> {
        let done = self.place_md5(staged, &placed.ours.stamp);
        match (&done, &placed.replaced) {
            (Err(Failed::Refused(_)), Some(swap)) => self.undo_exchange(ready, &placed.ours, swap)?,
            (Err(Failed::Refused(_)), None) => self.undo_new(ready, &placed.ours)?,
            (Err(Failed::Unsure(_)), _) | (Ok(_), None) => return done,
            (Ok(_), Some(swap)) => {
                self.discard(&swap.path);
                return done;
            }
        }
        self.forget_md5(staged).and(done)
    }

    /// Removes the waiting `.md5` of what was not placed.
    fn forget_md5(&self, staged: &Path) -> Result<(), Failed> {
        self.discard(staged);
        // What came back with the power would be taken for something that is still to be done.
        self.shop.directory.sync().map_err(unsure)
    }

    /// Puts a main file where none was. `None` when there is something now.
    fn put_new(&self, ready: &Ready) -> Result<Option<Placed>, Failed> {
        let (files, file) = (&self.shop.files, &self.pair.file);
        let ours = self.dress(ready)?;
        self.sync_workshop()?;
        match files.rename_noreplace(&ready.slot.path, file) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(None),
            result => result.context("rename a file to", file)?,
        }
        self.file_directory.sync().map_err(unsure)?;
        Ok(Some(Placed { ours, replaced: None }))
    }

    /// Puts a main file where one was expected. `None` when it was another.
    fn put_over(&self, ready: &Ready, expected: &Digest) -> Result<Option<Placed>, Failed> {
        let files = &*self.shop.files;
        let aside = |prefix: &str| self.shop.aside(prefix, &in_name(expected), self.name);
        let swap = Swap { path: aside(SWAP), held: aside(HELD) };
        self.remove_leftover(&swap.path)?;
        self.remove_leftover(&swap.held)?;
        let ours = self.dress(ready)?;
        files.rename_noreplace(&ready.slot.path, &swap.path).context("rename a file to", &swap.path)?;
        let exchanged = self.sync_workshop().and_then(|()| self.exchange(&swap).exchange());
        match exchanged {
            Err(Failed::Refused(error)) => {
                self.take_back(&swap.path, ready)?;
                return if error.kind() == ErrorKind::NotFound { Ok(None) } else { Err(error.into()) };
            }
            result => result?,
        }
        if self.is_verified(&swap.path, expected, &[&self.file_directory])? {
            return Ok(Some(Placed { ours, replaced: Some(swap) }));
        }
        self.undo_exchange(ready, &ours, &swap)?;
        Ok(None)
    }

    fn exchange<'b>(&'b self, swap: &'b Swap) -> Exchange<'b> {
        Exchange { files: &*self.shop.files, pair: self.pair, swap: &swap.path, held: &swap.held }
    }

    /// Takes the new main file back, for what came out of its place.
    fn undo_exchange(&self, ready: &Ready, ours: &Thing, swap: &Swap) -> Result<(), Failed> {
        self.exchange(swap).put_back(ours)?;
        self.file_directory.sync().map_err(unsure)?;
        let out = self.shop.files.identify(&swap.path).context("look at", &swap.path).map_err(unsure)?;
        let ours_came_out = out.is_some_and(|out| out.stamp.is_same_file(&ours.stamp));
        if ours_came_out {
            self.take_back(&swap.path, ready)
        } else {
            self.remove_leftover(&swap.path).map_err(Failed::into_unsure)
        }
    }

    /// Takes the new main file back from where none was. One by other hands that came out goes back in.
    fn undo_new(&self, ready: &Ready, ours: &Thing) -> Result<(), Failed> {
        let (files, file) = (&*self.shop.files, &self.pair.file);
        let out = self.shop.aside(OUT, &in_name(&ready.digest), self.name);
        let is_ours = |path: &Path| -> Result<bool, Failed> {
            let there = files.identify(path).context("look at", path).map_err(unsure)?;
            Ok(there.is_some_and(|there| there.stamp.is_unwritten(&ours.stamp)))
        };
        if !is_ours(file)? {
            return Ok(());
        }
        self.remove_leftover(&out).map_err(Failed::into_unsure)?;
        match files.rename_noreplace(file, &out) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            result => result.context("take back", file).map_err(unsure)?,
        }
        if is_ours(&out)? {
            self.shop.directory.sync().map_err(unsure)?;
            self.file_directory.sync().map_err(unsure)?;
            return self.take_back(&out, ready);
        }
        put_back(files, &out, file)?;
        self.file_directory.sync().map_err(unsure)?;
        self.remove_leftover(&out).map_err(Failed::into_unsure)
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
