//! What a start does with what a crash has left in a workshop.
//!
//! Each file tells by its name and bytes how far its change had come:
//!
//! - `swap.<expected>.<name>` with the expected bytes has been replaced: it goes. With the bytes that the waiting `.md5`
//!   is of, it was not exchanged yet: it goes, and nothing has happened. With others, it is an edit that came out by
//!   mistake: it goes back in, if what is in place is what replaced it. If that is something else, the other hands have
//!   gone on since.
//! - `gone.<expected>.<name>` with the expected bytes is removed; with others it goes back where nothing is. The same of
//!   `out.<expected>.<name>`.
//! - `part.<digest>` is gone on with, unless nobody has for a week.
//! - `md5.<name>` goes in place if it is that of the main file there.
//!
//! One that cannot be ended stays, and its pair changes no more: it is no reason to leave all the others alone.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::Pair;
use super::aside::{Exchange, Thing};
use super::change::Change;
use super::completion::md5_at;
use super::failed::{Failed, unsure};
use super::look::io_error;
use super::partial::{Parts, SPARE};
use super::removal::put_back;
use super::workshop::{EXPECTED_DIGITS, GONE, HELD, Keep, MD5, OUT, SWAP, Workshop, in_name};
use crate::error::Context;

type PairOf<'a> = &'a dyn Fn(&[u8]) -> Option<Pair>;

/// Ends or undoes everything.
pub(super) fn recover(shop: &Workshop, keep: Keep, pair_of: PairOf<'_>) -> io::Result<()> {
    let directory = &shop.directory.path;
    let listed = shop.files.list(directory).context("list", directory).map_err(io_error)?;
    let (parts, others): (Vec<_>, Vec<_>) =
        listed.into_iter().partition(|(name, _)| Parts::is_part(name.as_bytes()));
    for (name, _) in parts.into_iter().filter(|(_, written)| !keep.keeps(*written)) {
        sweep(shop, &directory.join(name));
    }
    let mut names: Vec<_> = others.into_iter().map(|(name, _)| name).collect();
    // What tells whose a file in `swap` is, is needed until that is clear.
    names.sort_by_key(|name| name.as_bytes().starts_with(MD5.as_bytes()));
    for name in names {
        recover_one(shop, name.as_bytes(), pair_of);
    }
    shop.directory.sync().map_err(io_error)
}

fn recover_one(shop: &Workshop, file: &[u8], pair_of: PairOf<'_>) {
    let path = shop.directory.path.join(OsStr::from_bytes(file));
    if file.starts_with(SPARE.as_bytes()) {
        return sweep(shop, &path);
    }
    let left = Left::parse(file).and_then(|left| Some((pair_of(left.name())?, left)));
    let Some((pair, left)) = left else {
        tracing::warn!(path = %path.display(), "belongs to no shared file that is configured and stays: look at it");
        return;
    };
    // What else there is of it tells the next start whose the one is that stays.
    if shop.is_left(&pair) {
        return;
    }
    if let Err(error) = end(shop, &pair, &left, &path) {
        let (file, path) = (pair.file.display(), path.display());
        tracing::warn!(%file, %path, %error, "a change cannot be ended: the file is left alone until the next start");
        shop.leave(&pair);
    }
}

fn sweep(shop: &Workshop, path: &Path) {
    if let Err(error) = shop.files.remove(path) {
        tracing::warn!(path = %path.display(), %error, "cannot be removed and stays until the next start");
    }
}

fn end(shop: &Workshop, pair: &Pair, left: &Left<'_>, path: &Path) -> Result<(), Failed> {
    let change = Change::new(shop, left.name(), pair)?;
    match *left {
        Left::Md5(_) => end_md5(&change, path)?,
        Left::Aside(GONE, expected, _) => end_removal(&change, path, expected)?,
        Left::Aside(OUT, expected, _) => _ = end_main(&change, path, expected)?,
        Left::Aside(prefix, expected, name) => {
            // The other one is free: a file is put back only when no new one waits.
            let spare = shop.aside(if prefix == SWAP { HELD } else { SWAP }, expected, name);
            end_exchange(&change, path, &spare, expected)?;
        }
    }
    change.remove_leftover(path)
}

/// What a file in the workshop is.
enum Left<'a> {
    Md5(&'a [u8]),
    /// With its prefix, and what was expected.
    Aside(&'static str, &'a [u8], &'a [u8]),
}

impl<'a> Left<'a> {
    fn parse(file: &'a [u8]) -> Option<Self> {
        if let Some(name) = file.strip_prefix(MD5.as_bytes()) {
            return Some(Self::Md5(name));
        }
        let prefixes = [SWAP, HELD, GONE, OUT].into_iter();
        let (prefix, rest) =
            prefixes.filter_map(|prefix| Some((prefix, file.strip_prefix(prefix.as_bytes())?))).next()?;
        let (expected, name) = rest.split_at_checked(EXPECTED_DIGITS)?;
        Some(Self::Aside(prefix, expected, name.strip_prefix(b".")?))
    }

    fn name(&self) -> &'a [u8] {
        match self {
            Self::Md5(name) | Self::Aside(_, _, name) => name,
        }
    }
}

fn end_exchange(change: &Change<'_>, aside: &Path, spare: &Path, expected: &[u8]) -> Result<(), Failed> {
    let files = &*change.shop.files;
    let (Some(out), Some(there)) = (Thing::at(files, aside)?, change.look()?) else { return Ok(()) };
    if is_expected(&out, expected) || is_expected(&there, expected) {
        return Ok(());
    }
    let Some(ours) = md5_at(files, &change.shop.staged_md5(change.name))? else { return Ok(()) };
    let is_ours = |thing: &Thing| thing.contents.is_some_and(|contents| contents.md5 == ours);
    if is_ours(&there) && !is_ours(&out) {
        let exchange = Exchange { files, pair: change.pair, swap: aside, held: spare };
        exchange.put_back(&there)?;
        change.file_directory.sync().map_err(unsure)?;
    }
    Ok(())
}

fn end_removal(change: &Change<'_>, gone: &Path, expected: &[u8]) -> Result<(), Failed> {
    if end_main(change, gone, expected)? { change.remove_md5() } else { Ok(()) }
}

/// Whether it is the main file that was to go.
fn end_main(change: &Change<'_>, gone: &Path, expected: &[u8]) -> Result<bool, Failed> {
    let files = &*change.shop.files;
    let Some(out) = Thing::at(files, gone)? else { return Ok(false) };
    let goes = is_expected(&out, expected);
    if !goes {
        put_back(files, gone, &change.pair.file)?;
    }
    change.file_directory.sync().map_err(unsure)?;
    Ok(goes)
}

fn end_md5(change: &Change<'_>, staged: &Path) -> Result<(), Failed> {
    let files = &*change.shop.files;
    let Some(text) = md5_at(files, staged)? else { return Ok(()) };
    let Some(there) = change.look()? else { return Ok(()) };
    if there.contents.is_some_and(|contents| contents.md5 == text) && change.sync_main()? {
        files.sync_file(staged)?;
        // Whatever is there now: this one is right.
        let _ = change.place_md5(staged, &there.stamp)?;
    }
    Ok(())
}

fn is_expected(thing: &Thing, expected: &[u8]) -> bool {
    thing.digest().is_some_and(|digest| in_name(&digest) == expected)
}
