//! What lies in a pair now, read to the last byte.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use md5::Md5;
use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

use super::{Digest, Pair, Seen};
use crate::error::Context;

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;

/// Bytes of an `.md5`. One that has more is none.
pub const MD5_BYTES: usize = 32;

/// The text of an `.md5`.
pub type Md5Text = [u8; MD5_BYTES];

/// What is in a main file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) digest: Digest,
    pub(super) md5: Md5Text,
    pub(super) size: u64,
}

/// Reads bytes into [`Contents`].
#[derive(Clone, Default)]
pub(super) struct Hashing {
    sha256: Sha256,
    md5: Md5,
    size: u64,
}

impl Hashing {
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.md5.update(bytes);
        self.size += bytes.len() as u64;
    }

    pub(super) fn update_from(&mut self, mut file: impl Read) -> io::Result<()> {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => self.update(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn contents(self) -> Contents {
        Contents {
            digest: self.sha256.finalize().into(),
            md5: hex(&self.md5.finalize()).try_into().expect("an MD5 has 16 bytes"),
            size: self.size,
        }
    }
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = |byte: &u8| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    bytes.iter().flat_map(digits).collect()
}

/// Looks at a pair. `None` when there is no regular file under the main file's name: a link or a pipe is neither
/// followed nor waited for. An `.md5` that is no regular file does not fit.
pub fn look(pair: &Pair) -> io::Result<Option<Seen>> {
    let Some(file) = open_regular(&pair.file)? else { return Ok(None) };
    let contents = read_contents(&file).context("read", &pair.file).map_err(io_error)?;
    let text = match open_regular(&pair.md5)? {
        Some(md5) => read_md5(&md5).context("read", &pair.md5).map_err(io_error)?,
        None => None,
    };
    Ok(Some(seen(&contents, text.as_ref())))
}

/// `text` is what the `.md5` holds.
pub(super) fn seen(contents: &Contents, text: Option<&Md5Text>) -> Seen {
    Seen { digest: contents.digest, size: contents.size, fits: text == Some(&contents.md5) }
}

pub(super) fn read_contents(file: impl Read) -> io::Result<Contents> {
    let mut hashing = Hashing::default();
    hashing.update_from(file)?;
    Ok(hashing.contents())
}

/// What the `.md5` of this file must hold: lower-case hex. Reads it to its end.
pub fn md5_text(file: &File) -> io::Result<Md5Text> {
    Ok(read_contents(file)?.md5)
}

/// What an `.md5` holds, if it can be one.
pub(super) fn read_md5(file: impl Read) -> io::Result<Option<Md5Text>> {
    let mut text = Vec::with_capacity(MD5_BYTES + 1);
    file.take(MD5_BYTES as u64 + 1).read_to_end(&mut text)?;
    Ok(text.try_into().ok())
}

/// Opens a regular file for reading; `None` when there is nothing, or something else.
pub(super) fn open_regular(path: &Path) -> io::Result<Option<File>> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let file = match File::options().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(_) if fs::symlink_metadata(path).is_ok_and(|there| !there.is_file()) => return Ok(None),
        Err(error) => return Err(error).context("open", path).map_err(io_error),
    };
    let is_file = file.metadata().context("look at", path).map_err(io_error)?.is_file();
    Ok(is_file.then_some(file))
}

/// The same error with words that name the file.
pub(super) fn io_error(error: crate::DiskError) -> io::Error {
    io::Error::new(error.source.kind(), error)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    fn pair() -> (tempfile::TempDir, Pair) {
        let directory = tempfile::tempdir().unwrap();
        let path = |name| directory.path().join(name);
        let pair = Pair { file: path("web.conf"), md5: path("web.md5") };
        (directory, pair)
    }

    fn fits(pair: &Pair) -> Option<bool> {
        look(pair).unwrap().map(|seen| seen.fits)
    }

    #[test]
    fn a_pair_fits_when_the_md5_is_exactly_that_of_the_file() {
        let (_directory, pair) = pair();
        assert_eq!(look(&pair).unwrap(), None);
        fs::write(&pair.md5, "900150983cd24fb0d6963f7d28e17f72").unwrap();
        assert_eq!(look(&pair).unwrap(), None, "an md5 alone is no pair");
        fs::write(&pair.file, "abc").unwrap();
        let digest = Sha256::digest(b"abc").into();
        assert_eq!(look(&pair).unwrap(), Some(Seen { digest, size: 3, fits: true }));
        for text in ["", "900150983cd24fb0d6963f7d28e17f72\n", "900150983CD24FB0D6963F7D28E17F72"] {
            fs::write(&pair.md5, text).unwrap();
            assert_eq!(look(&pair).unwrap(), Some(Seen { digest, size: 3, fits: false }));
        }
        fs::remove_file(&pair.md5).unwrap();
        assert_eq!(fits(&pair), Some(false));
    }

    #[test]
    fn nothing_but_regular_files_is_opened() {
        let (directory, pair) = pair();
        let other = directory.path().join("other");
        fs::write(&other, "abc").unwrap();
        let make_others: [fn(&Path, &Path); 4] = [
            |at, other| symlink(other, at).unwrap(),
            |at, _| symlink("/nowhere", at).unwrap(),
            |at, _| mknodat(CWD, at, FileType::Fifo, Mode::RUSR, 0).unwrap(),
            |at, _| drop(std::os::unix::net::UnixListener::bind(at).unwrap()),
        ];
        for make in make_others {
            make(&pair.file, &other);
            assert_eq!(look(&pair).unwrap(), None);
            fs::remove_file(&pair.file).unwrap();
            fs::write(&pair.file, "abc").unwrap();
            make(&pair.md5, &other);
            assert_eq!(fits(&pair), Some(false));
            fs::remove_file(&pair.file).unwrap();
            fs::remove_file(&pair.md5).unwrap();
        }
        fs::create_dir(&pair.file).unwrap();
        assert_eq!(look(&pair).unwrap(), None);
    }

    #[test]
    fn an_error_names_the_file() {
        let pair = Pair { file: "/dev/null/web.conf".into(), md5: PathBuf::new() };
        let error = look(&pair).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotADirectory);
        assert!(error.to_string().starts_with("cannot open /dev/null/web.conf: "), "{error}");
    }
}
