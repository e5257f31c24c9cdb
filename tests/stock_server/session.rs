//! One client's session: the commands, their replies to the letter, and what each does to the files.

use std::fs::File;
use std::io::{Cursor, Read as _, Write as _};

use md5::{Digest as _, Md5};

use crate::options::Options;
use crate::storage::Storage;
use crate::wire::{End, Wire};

/// Serves until `QUIT`, or until something the reference answers by closing.
pub(crate) fn serve(options: &Options, storage: &Storage, wire: Wire) -> Result<(), End> {
    let mut session = Session { options, storage, wire };
    if let Some(password) = &options.password {
        session.authenticate(password)?;
    }
    loop {
        let line = session.wire.command()?;
        // An empty command and the command `0` are false in Perl, and end the loop that reads them.
        if line == b"QUIT" || line.is_empty() || line == b"0" {
            return Ok(());
        }
        match Command::parse(&line) {
            Some(Command::Store { verb, name, size }) => session.store(verb, name, size)?,
            Some(Command::Fetch { verb, name }) => session.fetch(verb, name)?,
            Some(Command::List { filter }) if options.insecure => session.list(filter)?,
            Some(Command::Move { name }) if options.insecure => session.move_out(name)?,
            _ => return Err(End::because(format!("unknown command '{}'", line.escape_ascii()))),
        }
    }
}

enum Command<'a> {
    Store { verb: &'static str, name: &'a [u8], size: u64 },
    Fetch { verb: &'static str, name: &'a [u8] },
    List { filter: &'a [u8] },
    Move { name: &'a [u8] },
}

impl<'a> Command<'a> {
    fn parse(line: &'a [u8]) -> Option<Command<'a>> {
        if line.contains(&b'\n') {
            return None;
        }
        let (verb, rest) = line.split_at(line.iter().position(|byte| *byte == b' ')?);
        let rest = rest.strip_prefix(b" <")?;
        let whole = || rest.strip_suffix(b">");
        match verb {
            b"SEND" => Command::store("SEND", rest),
            b"ZSEND" => Command::store("ZSEND", rest),
            b"RECV" => Some(Command::Fetch { verb: "RECV", name: whole()? }),
            b"ZRECV" => Some(Command::Fetch { verb: "ZRECV", name: whole()? }),
            b"LS" => Some(Command::List { filter: whole()? }),
            b"MV" => Some(Command::Move { name: whole()? }),
            _ => None,
        }
    }

    fn store(verb: &'static str, rest: &'a [u8]) -> Option<Command<'a>> {
        const MIDDLE: &[u8] = b"> SIZE ";
        let at = rest.windows(MIDDLE.len()).rposition(|window| window == MIDDLE)?;
        let digits = std::str::from_utf8(&rest[at + MIDDLE.len()..]).ok()?;
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        // A number beyond 64 bits is a float in Perl, and in any case too big.
        Some(Command::Store { verb, name: &rest[..at], size: digits.parse().unwrap_or(u64::MAX) })
    }
}

struct Session<'a> {
    options: &'a Options,
    storage: &'a Storage,
    wire: Wire,
}

impl Session<'_> {
    fn authenticate(&mut self, password: &str) -> Result<(), End> {
        let expected = format!("PASS {}", hex(&Md5::digest(Md5::digest(password))));
        if self.wire.command()? != expected.as_bytes() {
            return Err(End::because("client did not authenticate"));
        }
        self.wire.write(b"PASS OK\n")
    }

    fn store(&mut self, verb: &str, name: &[u8], size: u64) -> Result<(), End> {
        if Storage::refuses(name) {
            return self.reply(format!("{verb} ERR (invalid file name)\n"));
        }
        if size < 1 || size > self.options.max_size {
            return self.reply(format!("{verb} ERR (file is too big)\n"));
        }
        let path = self.storage.path(name);
        if path.is_file() && !self.options.overwrite {
            return self.reply(format!("{verb} ERR (file already exists)\n"));
        }
        self.reply(format!("{verb} OK\n"))?;
        let mut body = self.wire.body(usize::try_from(size).expect("the limit fits in memory"))?;
        if verb == "ZSEND" {
            match unzip(body) {
                Some(plain) => body = plain,
                None => return self.reply("ZSEND ERR\n".into()),
            }
        }
        // Truncates a file of that name first: a reader in between sees a part, or nothing.
        File::create(path)?.write_all(&body)?;
        self.reply(format!("{verb} OK\n"))
    }

    fn fetch(&mut self, verb: &str, name: &[u8]) -> Result<(), End> {
        if Storage::refuses(name) {
            return self.reply(format!("{verb} ERR (file has an invalid file name)\n"));
        }
        let path = self.storage.path(name);
        if !path.is_file() {
            return self.reply(format!("{verb} ERR (file does not exist)\n"));
        }
        if verb == "ZRECV" {
            let packed = zip(&std::fs::read(path)?);
            if self.announce(verb, packed.len() as u64)? {
                self.wire.write(&packed)?;
            }
            return Ok(());
        }
        if self.announce(verb, path.metadata()?.len())? {
            self.wire.write(&std::fs::read(path)?)?;
        }
        Ok(())
    }

    fn list(&mut self, filter: &[u8]) -> Result<(), End> {
        if Storage::refuses(filter) {
            return self.reply("LS ERR\n".into());
        }
        let Ok(listing) = self.storage.listing(filter) else { return self.reply("LS ERR\n".into()) };
        if self.announce("LS", listing.len() as u64)? {
            self.wire.write(&listing)?;
        }
        Ok(())
    }

    /// The size is that of the moment of asking; the bytes are those of the moment of sending; then the file goes, and
    /// nobody says whether the peer got it.
    fn move_out(&mut self, name: &[u8]) -> Result<(), End> {
        let path = self.storage.path(name);
        if Storage::refuses(name) || !path.is_file() {
            return self.reply("MV ERR\n".into());
        }
        if !self.announce("MV", path.metadata()?.len())? {
            return Ok(());
        }
        let now_there = std::fs::read(&path)?;
        // Line by line, where `RECV` writes the whole: with Nagle's algorithm on, it waits for acknowledgements.
        for line in now_there.split_inclusive(|byte| *byte == b'\n') {
            self.wire.write(line)?;
        }
        std::fs::remove_file(path)?;
        Ok(())
    }

    /// Says the size and hears whether the peer wants the bytes; any other answer cancels and keeps the session.
    fn announce(&mut self, verb: &str, size: u64) -> Result<bool, End> {
        self.reply(format!("{verb} SIZE {size}\n"))?;
        Ok(self.wire.command()? == format!("{verb} OK").as_bytes())
    }

    fn reply(&mut self, line: String) -> Result<(), End> {
        self.wire.write(line.as_bytes())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The first entry of an archive. The reference's library passes through what does not begin like an archive.
fn unzip(packed: Vec<u8>) -> Option<Vec<u8>> {
    if !packed.starts_with(b"PK\x03\x04") {
        return Some(packed);
    }
    let mut archive = zip::ZipArchive::new(Cursor::new(packed)).ok()?;
    let mut plain = Vec::new();
    archive.by_index(0).ok()?.read_to_end(&mut plain).ok()?;
    Some(plain)
}

fn zip(plain: &[u8]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    writer.start_file("data", options).expect("an archive in memory takes an entry");
    writer.write_all(plain).expect("an archive in memory takes bytes");
    writer.finish().expect("an archive in memory ends").into_inner()
}
