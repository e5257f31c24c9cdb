//! A file's content on its way from the wire to the disk.
//!
//! Constraints: a small body costs no file-system call before its batch is stored; a big one never stays in
//! memory; nothing here is durable (that is [`crate::pipeline`]'s part); a body that is dropped leaves no file.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::FallocateFlags;
use sha2::{Digest as _, Sha256};

use crate::staging::{StagedFile, Staging};

/// What a body may hold in memory; beyond it the body goes to its file.
const IN_MEMORY_MAX: usize = 128 * 1024;

/// How much of a file is read at once to make its digest: of most there is no more than the first.
const READ_FIRST: usize = 16 * 1024;
const READ_AT_ONCE: usize = 64 * 1024;

/// The SHA-256 of a content.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Digest([u8; 32]);

impl Digest {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// All of it, as `sha256sum` prints it.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A body that is still arriving.
#[derive(Debug)]
pub(crate) struct Arriving {
    /// `None`: the bytes are counted and hashed, and not kept.
    staging: Option<Arc<Staging>>,
    hash: Sha256,
    size: u64,
    buffer: Vec<u8>,
    file: Option<StagedFile>,
}

/// A body that has arrived: whole, or as far as it came.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    staging: Option<Arc<Staging>>,
    buffer: Vec<u8>,
    file: Option<StagedFile>,
}

impl Arriving {
    /// A body to be kept.
    pub(crate) fn new(staging: Arc<Staging>) -> Self {
        Self { staging: Some(staging), ..Self::to_compare() }
    }

    /// A body of which only the digest matters: the content is here already.
    pub(crate) fn to_compare() -> Self {
        Self { staging: None, hash: Sha256::new(), size: 0, buffer: Vec::new(), file: None }
    }

    /// The bytes that came so far.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// How many of them are in memory, and not in the file.
    pub(crate) fn in_memory(&self) -> u64 {
        self.buffer.len() as u64
    }

    /// Makes sure that there is room on the disk for `size` bytes, before the peer is told to give up its copy.
    pub(crate) async fn reserve(&mut self, size: u64) -> io::Result<()> {
        self.in_file(Vec::new(), move |file, _| {
            match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, size.max(1)) {
                // Such a file system cannot promise room; writing will tell.
                Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    /// Takes the next bytes.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        if self.staging.is_none() {
            return Ok(());
        }
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() <= IN_MEMORY_MAX {
            return Ok(());
        }
        let buffer = std::mem::take(&mut self.buffer);
        self.in_file(buffer, |file, buffer| file.write_all(buffer)).await
    }

    async fn in_file(
        &mut self,
        buffer: Vec<u8>,
        work: impl FnOnce(&mut File, &[u8]) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let Some(staging) = self.staging.clone() else { return Ok(()) };
        let file = self.file.take();
        let work = move || {
            let mut file = file.map_or_else(|| staging.create(), Ok)?;
            work(file.file(), &buffer)?;
            Ok::<_, io::Error>(file)
        };
        self.file = Some(tokio::task::spawn_blocking(work).await.map_err(io::Error::other)??);
        Ok(())
    }

    /// No more bytes will come, and what came is to wait: what has a file goes there, and the file is closed meanwhile.
    pub(crate) async fn rest(&mut self) -> io::Result<()> {
        let Some(mut file) = self.file.take() else { return Ok(()) };
        let buffer = std::mem::take(&mut self.buffer);
        let work = move || {
            file.file().write_all(&buffer)?;
            file.rest();
            Ok::<_, io::Error>(file)
        };
        self.file = Some(tokio::task::spawn_blocking(work).await.map_err(io::Error::other)??);
        Ok(())
    }

    /// No more bytes will come.
    pub(crate) fn finish(self) -> Arrived {
        Arrived {
            digest: Digest(self.hash.finalize().into()),
            size: self.size,
            staging: self.staging,
            buffer: self.buffer,
            file: self.file,
        }
    }
}

/// The digest and the size of a file. Blocks.
pub(crate) fn digest_of(path: &Path) -> io::Result<(Digest, u64)> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; READ_FIRST];
    let mut size = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((Digest(hash.finalize().into()), size)),
            Ok(read) => {
                hash.update(&buffer[..read]);
                size += read as u64;
                if read == READ_FIRST {
                    buffer.resize(READ_AT_ONCE, 0);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

impl Arrived {
    /// Writes out what is still in memory. Blocks. Nothing is durable yet.
    pub(crate) fn into_file(self, modified: SystemTime) -> io::Result<StagedFile> {
        let staging = self.staging.expect("only a body to be kept is asked for its file");
        let reserved = self.file.is_some();
        let mut file = self.file.map_or_else(|| staging.create(), Ok)?;
        file.wake()?;
        file.file().write_all(&self.buffer)?;
        if reserved {
            // Gives back what was reserved and not used.
            file.file().set_len(self.size)?;
        }
        file.dress(modified)?;
        Ok(file)
    }

    /// The same; the content is durable, and the file closed.
    pub(crate) fn into_durable_file(self, modified: SystemTime) -> io::Result<StagedFile> {
        let mut file = self.into_file(modified)?;
        file.sync_and_close()?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Ownership;
    use crate::staging::Tie;

    #[tokio::test]
    async fn a_large_body_that_waits_has_no_open_file_and_is_whole_after_it() {
        let directory = tempfile::tempdir().unwrap();
        let tie = Tie { ledger: "1".into(), mark: None, unfinished: 0, starts: 0 };
        let ownership = Ownership { user: None, group: None, mode: 0o640 };
        let staging =
            Staging::open(&directory.path().join("staging"), directory.path(), ownership, &tie).unwrap();
        let bytes: Vec<u8> = (0..3 * IN_MEMORY_MAX as u32).map(|n| (n / 7) as u8).collect();
        let mut body = Arriving::new(staging);
        for part in bytes.chunks(IN_MEMORY_MAX - 1) {
            body.write(part).await.unwrap();
        }
        body.rest().await.unwrap();
        let mut arrived = body.finish();
        assert!(arrived.buffer.is_empty());
        assert!(!arrived.file.as_mut().expect("it is too large for memory").is_open());
        let file = arrived.into_durable_file(SystemTime::UNIX_EPOCH).unwrap();
        assert!(std::fs::read(file.path()).unwrap() == bytes, "the bytes are the same");
    }
}
