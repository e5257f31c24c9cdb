//! The ZIP container of ZSEND and ZRECV: exactly one entry, whose name means nothing.
//!
//! Constraints: the archive comes from a stranger. It is read from a file that is already limited, its
//! directory is walked instead of loaded, and its content is copied through one small buffer, so that memory
//! does not depend on what the archive claims (the walking reader is an unstable part of `zip`, whose version is
//! pinned exactly). This module opens no file itself. It blocks: never call it on a
//! runtime thread.

use std::io::{self, Read, Seek, Write};

use zip::read::{ArchiveOffset, Config, ZipReadOptions};
use zip::result::ZipError;
use zip::unstable::read::ZipIterable;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Bytes copied at once.
const COPY_BYTES: usize = 16 * 1024;

/// A checked archive: one entry at offset 0, stored or deflated, of an acceptable declared size.
pub(crate) struct Archive<R> {
    entries: ZipIterable<R>,
    size: u64,
}

/// Why an archive is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadArchive {
    #[error("not a readable ZIP archive: {0}")]
    Unreadable(#[from] ZipError),
    #[error("the archive holds {0} entries, exactly one is accepted")]
    Entries(usize),
    #[error("the archive's entry does not start at its first byte")]
    NotAtStart,
    #[error("the archive's entry is encrypted")]
    Encrypted,
    #[error("the archive's entry is compressed by {0}; stored and deflated are accepted")]
    Method(CompressionMethod),
    #[error("the archive's entry is empty")]
    Empty,
    #[error("the archive's entry declares {declared} bytes, over the limit of {limit}")]
    TooBig { declared: u64, limit: u64 },
    #[error("the archive's entry holds {direction} bytes than the {declared} it declares")]
    Size { declared: u64, direction: &'static str },
    #[error("the archive's entry does not inflate: {0}")]
    Damaged(io::Error),
    #[error("the inflated bytes cannot be written: {0}")]
    Sink(io::Error),
}

impl<R: Read + Seek> Archive<R> {
    /// Checks everything that can be known before inflating. `limit` is for the inflated size.
    pub(crate) fn open(reader: R, limit: u64) -> Result<Self, BadArchive> {
        let config = Config { archive_offset: ArchiveOffset::Known(0) };
        let mut entries = ZipIterable::try_new(reader, config)?;
        if entries.len() != 1 {
            return Err(BadArchive::Entries(entries.len()));
        }
        let Some(entry) = entries.files()?.next() else {
            return Err(BadArchive::Entries(0));
        };
        let entry = entry?;
        if entry.header_start() != 0 {
            return Err(BadArchive::NotAtStart);
        }
        if entry.encrypted() {
            return Err(BadArchive::Encrypted);
        }
        match entry.compression() {
            CompressionMethod::Stored | CompressionMethod::Deflated => {}
            other => return Err(BadArchive::Method(other)),
        }
        match entry.size() {
            0 => Err(BadArchive::Empty),
            declared if declared > limit => Err(BadArchive::TooBig { declared, limit }),
            size => Ok(Self { entries, size }),
        }
    }

    /// The declared size; [`Archive::inflate`] holds the content to it.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Writes the content, never more than one byte beyond the declared size, and checks size and checksum.
    pub(crate) fn inflate(mut self, sink: &mut impl Write) -> Result<(), BadArchive> {
        let declared = self.size;
        let files = self.entries.files()?;
        let entry = files.next().ok_or(BadArchive::Entries(0))??;
        let content = entry.with_reader(files.reader_mut(), ZipReadOptions::new())?;
        let mut content = content.take(declared.saturating_add(1));
        let mut buffer = [0; COPY_BYTES];
        let mut written = 0;
        loop {
            let got = content.read(&mut buffer).map_err(BadArchive::Damaged)?;
            written += got as u64;
            if written > declared {
                return Err(BadArchive::Size { declared, direction: "more" });
            }
            if got == 0 {
                break;
            }
            sink.write_all(&buffer[..got]).map_err(BadArchive::Sink)?;
        }
        if written < declared {
            return Err(BadArchive::Size { declared, direction: "fewer" });
        }
        Ok(())
    }
}

/// Packs `content` as the only entry of an archive, front to back.
pub(crate) fn pack(name: &[u8], content: &mut impl Read, sink: impl Write) -> io::Result<()> {
    let mut writer = ZipWriter::new_stream(sink);
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    writer.start_file(String::from_utf8_lossy(name), options)?;
    io::copy(content, &mut writer)?;
    writer.finish()?.flush()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn packed(content: &[u8]) -> Vec<u8> {
        let mut archive = Vec::new();
        pack(b"caf\xe9", &mut &*content, &mut archive).expect("packs");
        archive
    }

    fn inflated(archive: Vec<u8>, limit: u64) -> Result<Vec<u8>, String> {
        let archive = Archive::open(Cursor::new(archive), limit).map_err(|bad| bad.to_string())?;
        let mut content = Vec::new();
        archive.inflate(&mut content).map_err(|bad| bad.to_string())?;
        Ok(content)
    }

    #[test]
    fn what_is_packed_comes_back() {
        let content = b"<agent_data/>\n".repeat(5000);
        assert_eq!(inflated(packed(&content), 70_000), Ok(content));
        assert_eq!(inflated(packed(b"x"), 1), Ok(b"x".to_vec()));
    }

    #[test]
    fn the_declared_size_is_limited() {
        let refused = inflated(packed(&[0; 1001]), 1000).expect_err("over the limit");
        assert!(refused.contains("1001 bytes, over the limit of 1000"), "{refused}");
        assert!(inflated(packed(b""), 1000).expect_err("empty").contains("empty"));
    }

    #[test]
    fn a_content_larger_or_smaller_than_declared_is_refused_while_inflating() {
        let honest = packed(&[7; 5000]);
        for (declared, word) in [(100u32, "more"), (6000, "fewer")] {
            let mut lying = honest.clone();
            let directory = lying.windows(4).rposition(|w| w == b"PK\x01\x02").expect("a directory");
            lying[directory + 24..directory + 28].copy_from_slice(&declared.to_le_bytes());
            let refused = inflated(lying, 1 << 20).expect_err("a lie");
            assert!(refused.contains(word) || refused.contains("does not inflate"), "{refused}");
        }
    }

    #[test]
    fn several_entries_a_prefix_and_garbage_are_refused() {
        let mut two = ZipWriter::new(Cursor::new(Vec::new()));
        for name in ["a", "b"] {
            two.start_file(name, SimpleFileOptions::default()).expect("starts");
            two.write_all(b"x").expect("writes");
        }
        let two = two.finish().expect("finishes").into_inner();
        assert!(inflated(two, 100).expect_err("two").contains("2 entries"));
        let mut shifted = b"prefix".to_vec();
        shifted.extend(packed(b"x"));
        inflated(shifted, 100).expect_err("a prefix");
        for garbage in [&b""[..], b"PK", &[0xff; 300], b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"] {
            inflated(garbage.to_vec(), 100).expect_err("garbage");
        }
    }

    #[test]
    fn every_truncation_and_every_flipped_byte_is_survived() {
        let honest = packed(b"some content that is long enough to deflate, deflate, deflate");
        for end in 0..honest.len() {
            inflated(honest[..end].to_vec(), 1000).expect_err("a truncated archive");
        }
        for at in 0..honest.len() {
            let mut flipped = honest.clone();
            flipped[at] ^= 0xff;
            if let Ok(content) = inflated(flipped, 1000) {
                assert!(content.starts_with(b"some content"), "byte {at} changed the content");
            }
        }
    }
}
