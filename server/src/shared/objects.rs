//! Contents by digest: what goes to a site, what comes from one, and what one end lost.
//!
//! A content is here whole and durably, or not at all. It is copied before it travels, so that a file that is being
//! rewritten never goes half; and before an end loses it, so that the loss can be undone.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;
use tidegate_spool::durable;
use tidegate_spool::shared::{Keep, Partial, Ready, Unfinished, Workshop};

use super::Digest;
use crate::body;

/// Below the memory's directory.
const OBJECTS: &str = "objects";

/// Where contents are that are on their way in.
const ARRIVING: &str = "arriving";

/// How many sources are remembered; beyond it what is on its way is begun anew after a cut.
const SOURCES_MAX: usize = 1_000;

/// How much of a content is copied at once.
const COPIED_AT_ONCE: usize = 64 * 1024;

/// The contents.
pub(crate) struct Objects {
    directory: PathBuf,
    workshop: Workshop,
    /// Where contents come from that are on their way.
    sources: Mutex<HashMap<Digest, Box<[u8]>>>,
}

impl std::fmt::Debug for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Objects").field(&self.directory).finish()
    }
}

impl Objects {
    /// Opens those in the memory's `directory`, which is this process's alone.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        durable::create_dir_all(&directory.join(OBJECTS))?;
        // Nothing there is a pair.
        let workshop = Workshop::open(&directory.join(ARRIVING), Keep::Recent, &|_| None)?;
        Ok(Self { directory: directory.join(OBJECTS), workshop, sources: Mutex::default() })
    }

    /// Where a content lies, or would.
    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        path(&self.directory, digest)
    }

    pub(crate) fn has(&self, digest: &Digest) -> bool {
        self.path(digest).is_file()
    }

    /// Takes in a content of `size` bytes that comes from a source. One that was cut is gone on with only where it came
    /// from the same source, in this process: who knows a digest and nothing else must not get the rest from another.
    pub(crate) fn begin(&self, source: &[u8], digest: Digest, size: u64) -> io::Result<Partial> {
        let before = {
            let mut sources = self.sources();
            if sources.len() >= SOURCES_MAX {
                sources.clear();
            }
            sources.insert(digest, source.into())
        };
        if before.as_deref() == Some(source) {
            return self.workshop.begin(digest, size);
        }
        self.workshop.begin_anew(digest, size)
    }

    fn sources(&self) -> MutexGuard<'_, HashMap<Digest, Box<[u8]>>> {
        // Changed in single steps: sound even after a panic.
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a content that is here as a whole. `false`: it is not the one of this digest.
    pub(crate) fn keep(&self, digest: &Digest, content: &[u8]) -> io::Result<bool> {
        if super::digest(content) != *digest {
            return Ok(false);
        }
        self.sources().remove(digest);
        let mut partial = self.workshop.begin_anew(*digest, content.len() as u64)?;
        partial.write(content)?;
        self.finish(partial)
    }

    /// Keeps a content that has come. `false`: it is not the one of its digest, or not all of it.
    pub(crate) fn finish(&self, partial: Partial) -> io::Result<bool> {
        match partial.finish() {
            Ok(ready) => self.put(ready).map(|()| true),
            Err(Unfinished::Io(error)) => Err(error),
            Err(Unfinished::Damaged | Unfinished::Short { .. }) => Ok(false),
        }
    }

    fn put(&self, ready: Ready) -> io::Result<()> {
        let path = self.path(&ready.digest);
        durable::create_dir_all(path.parent().expect("an object lies in a directory"))?;
        Ok(ready.keep_as(&path)?)
    }

    /// Keeps a copy of the file at `source`. `false`: it has another content than this, or is gone.
    pub(crate) fn copy(&self, source: &Path, digest: &Digest, size: u64) -> io::Result<bool> {
        if self.has(digest) {
            self.touch(digest)?;
            return Ok(true);
        }
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
        let flags = i32::try_from(flags).expect("flags of open are an int");
        let mut file = match File::options().read(true).custom_flags(flags).open(source) {
            Ok(file) if file.metadata()?.is_file() => file,
            Ok(_) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        self.sources().remove(digest);
        let mut partial = self.workshop.begin_anew(*digest, size)?;
        let mut bytes = vec![0; COPIED_AT_ONCE];
        loop {
            let read = file.read(&mut bytes)?;
            if read == 0 {
                break;
            }
            if partial.offset() + read as u64 > size {
                return Ok(false);
            }
            partial.write(&bytes[..read])?;
        }
        self.finish(partial)
    }

    /// What is used again is not old.
    fn touch(&self, digest: &Digest) -> io::Result<()> {
        File::options().append(true).open(self.path(digest))?.set_modified(SystemTime::now())
    }

    /// Removes what nobody needs and has not been used for so long. Returns how many went.
    pub(crate) fn sweep(
        &self,
        needed: &HashSet<Digest>,
        unused: Duration,
        now: SystemTime,
    ) -> io::Result<usize> {
        let mut swept = 0;
        for directory in fs::read_dir(&self.directory)? {
            for object in fs::read_dir(directory?.path())? {
                let object = object?;
                let is_needed = digest_of(&object.file_name()).is_none_or(|digest| needed.contains(&digest));
                // A clock that was put back makes nothing old.
                let age = now.duration_since(object.metadata()?.modified()?).unwrap_or_default();
                if !is_needed && age > unused {
                    fs::remove_file(object.path())?;
                    swept += 1;
                }
            }
        }
        Ok(swept)
    }
}

/// The content of an object in the memory's `directory`, for a command; `None`: it is gone, or damaged.
pub(crate) fn read(directory: &Path, digest: &Digest, max: u64) -> io::Result<Option<Vec<u8>>> {
    let path = path(&directory.join(OBJECTS), digest);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(max).read_to_end(&mut bytes)?;
    Ok((super::digest(&bytes) == *digest).then_some(bytes))
}

/// Keeps a copy of the file at `source`, for a command: whatever the server does there meanwhile. `false`: it has another
/// content than this.
pub(crate) fn keep_beside(directory: &Path, source: &Path, digest: &Digest) -> io::Result<bool> {
    let path = path(&directory.join(OBJECTS), digest);
    if path.is_file() {
        return Ok(true);
    }
    let bytes = fs::read(source)?;
    if super::digest(&bytes) != *digest {
        return Ok(false);
    }
    durable::create_dir_all(path.parent().expect("an object lies in a directory"))?;
    durable::replace(&path, &bytes)?;
    Ok(true)
}

fn path(objects: &Path, digest: &Digest) -> PathBuf {
    let name = body::Digest::from(*digest).to_string();
    objects.join(&name[..2]).join(name)
}

/// The content that bears this name; `None`: it is none of ours.
fn digest_of(name: &std::ffi::OsStr) -> Option<Digest> {
    let name = name.to_str().filter(|name| name.len() == 64 && name.is_ascii())?;
    let mut digest = [0; 32];
    for (byte, digits) in digest.iter_mut().zip(name.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::digest;

    fn objects() -> (tempfile::TempDir, Objects) {
        let directory = tempfile::tempdir().unwrap();
        let objects = Objects::open(directory.path()).unwrap();
        (directory, objects)
    }

    #[test]
    fn a_file_is_copied_only_with_the_content_that_was_decided_about() {
        let (directory, objects) = objects();
        let file = directory.path().join("file");
        fs::write(&file, "content").unwrap();
        let wanted = digest(b"content");
        assert!(!objects.has(&wanted));
        assert!(objects.copy(&file, &wanted, 7).unwrap());
        assert!(objects.has(&wanted));
        assert_eq!(fs::read(objects.path(&wanted)).unwrap(), b"content");
        for (other, size) in [(&b"contenT"[..], 7), (b"conten", 6), (b"content!", 8), (b"", 0)] {
            assert!(!objects.copy(&file, &digest(other), size).unwrap(), "{other:?}");
            assert!(!objects.has(&digest(other)));
        }
        assert!(!objects.copy(&directory.path().join("none"), &digest(b"none"), 4).unwrap());
        assert!(!objects.copy(directory.path(), &digest(b"none"), 4).unwrap(), "a directory");
        assert!(objects.copy(&directory.path().join("none"), &wanted, 7).unwrap(), "it is here already");
        assert_eq!(read(directory.path(), &wanted, 100).unwrap().as_deref(), Some(&b"content"[..]));
        assert_eq!(read(directory.path(), &digest(b"other"), 100).unwrap(), None);
        fs::write(objects.path(&wanted), "damaged").unwrap();
        assert_eq!(read(directory.path(), &wanted, 100).unwrap(), None);
    }

    #[test]
    fn a_content_comes_in_parts_and_is_gone_on_with_only_from_where_it_began_to_come() {
        let (directory, objects) = objects();
        let wanted = digest(b"content");
        let begun = |objects: &Objects, source: &[u8]| objects.begin(source, wanted, 7).unwrap();
        begun(&objects, b"a").write(b"cont").unwrap();
        assert_eq!(begun(&objects, b"a").offset(), 4);
        assert_eq!(begun(&objects, b"b").offset(), 0, "another has to give all of it");
        assert_eq!(begun(&objects, b"a").offset(), 0);
        begun(&objects, b"a").write(b"cont").unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "conten").unwrap();
        assert!(!objects.copy(&file, &wanted, 7).unwrap());
        assert_eq!(begun(&objects, b"a").offset(), 0, "nor does a site go on with what is here");
        begun(&objects, b"a").write(b"cont").unwrap();
        drop(objects);
        let objects = Objects::open(directory.path()).unwrap();
        let mut partial = begun(&objects, b"a");
        assert_eq!(partial.offset(), 0, "after a restart nobody knows");
        partial.write(b"content").unwrap();
        assert!(objects.finish(partial).unwrap());
        assert_eq!(fs::read(objects.path(&wanted)).unwrap(), b"content");
        assert!(!objects.keep(&digest(b"other"), b"content").unwrap());
        assert!(objects.keep(&digest(b"other"), b"other").unwrap() && objects.has(&digest(b"other")));
    }

    #[test]
    fn what_nobody_needs_goes_when_it_is_old() {
        let (directory, objects) = objects();
        let file = directory.path().join("file");
        for content in ["needed", "old"] {
            fs::write(&file, content).unwrap();
            let size = content.len() as u64;
            assert!(objects.copy(&file, &digest(content.as_bytes()), size).unwrap());
        }
        fs::write(objects.path(&digest(b"old")).with_file_name("foreign"), "").unwrap();
        let needed = HashSet::from([digest(b"needed")]);
        let keep = Duration::from_secs(100);
        let now = SystemTime::now();
        assert_eq!(objects.sweep(&needed, keep, now).unwrap(), 0, "not yet");
        assert_eq!(objects.sweep(&needed, keep, now - keep).unwrap(), 0, "the clock was put back");
        assert_eq!(objects.sweep(&needed, keep, now + 2 * keep).unwrap(), 1);
        assert!(objects.has(&digest(b"needed")) && !objects.has(&digest(b"old")));
    }
}
