//! Sends and gets files over an open connection, one after another, and stops at the first failure as the stock
//! client does.
//!
//! Files are read and written on the only thread: there is nothing else to wait for.

use std::fs::{File, Permissions};
use std::io::{self, Read, Seek, Write};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::NamedTempFile;
use tidegate_net::{Link, LinkError};
use tidegate_proto::{
    Close, Escaped, Initiator, InitiatorEvent, InitiatorSettings, InvalidName, Name, Packing, Refusal, Time,
};

use crate::archive::{self, Archive, BadArchive};
use crate::connect::Stream;
use crate::options::Options;

/// Bytes read from a file at once.
const CHUNK: usize = 16 * 1024;

/// The largest file that is unpacked from a compressed answer. Beyond it the transfer fails.
const UNPACKED_MAX: u64 = 2 << 30;

/// Why nothing more is transferred, in the stock client's words where it has any.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("File '{0}' does not exist.")]
    Missing(String),
    #[error("File '{file}' cannot be {done} under this name: {reason}.")]
    Name { file: String, done: &'static str, reason: InvalidName },
    #[error("Cannot open file '{file}' for {purpose}: {error}.")]
    File { file: String, purpose: &'static str, error: io::Error },
    #[error("Received file '{file}' is no usable archive: {reason}.")]
    Archive { file: String, reason: BadArchive },
    #[error("{0}")]
    Certificates(String),
    #[error("Cannot connect to {address} on port {port}: {error}.")]
    Connect { address: String, port: u16, error: io::Error },
    #[error("TLS handshake failed: {0}.")]
    Handshake(String),
    #[error("Server responded {0}.")]
    Refused(Refusal),
    #[error("Server responded {}.", Escaped(.0))]
    Unexpected(Vec<u8>),
    #[error("Authentication failed.")]
    Authentication,
    #[error("Connection from {} unexpectedly closed.", local.ip())]
    Closed { local: SocketAddr, close: Close },
    #[error("Connection from {} timed out.", local.ip())]
    TimedOut { local: SocketAddr },
    #[error("Connection error from {}: {words}.", local.ip())]
    Broken { local: SocketAddr, words: String },
}

impl Failure {
    /// What the stock words leave out.
    pub(crate) fn details(&self) -> Option<String> {
        match self {
            Self::Closed { close, .. } => Some(close.to_string()),
            _ => None,
        }
    }

    fn of(error: LinkError, local: SocketAddr) -> Self {
        match error {
            LinkError::Closed(Close::UnexpectedReply { request: "PASS", .. }) => Self::Authentication,
            LinkError::Closed(Close::UnexpectedReply { line, .. }) => Self::Unexpected(line),
            LinkError::Closed(Close::NoAnswer { .. } | Close::Stalled { .. } | Close::TooSlow { .. })
            | LinkError::Stalled => Self::TimedOut { local },
            LinkError::Closed(close) => Self::Closed { local, close },
            error @ LinkError::Io(_) => Self::Broken { local, words: error.to_string() },
        }
    }
}

/// All files must exist before the first is sent.
pub(crate) fn check(options: &Options) -> Result<(), Failure> {
    match options.files.iter().find(|file| !options.get && !file.is_file()) {
        Some(file) => Err(Failure::Missing(shown(file))),
        None => Ok(()),
    }
}

/// Transfers everything.
pub(crate) async fn run(
    options: &Options,
    stream: Box<dyn Stream>,
    local: SocketAddr,
) -> Result<(), Failure> {
    let settings = InitiatorSettings { password: options.password.clone(), patience: options.patience };
    let link = Link::new(stream, Initiator::new(settings, Time::ZERO), options.patience);
    let mut client = Client { options, link, local };
    let done = client.all().await;
    // A refused client says goodbye too; after anything worse there is nobody to say it to.
    if matches!(done, Ok(()) | Err(Failure::Refused(_))) {
        let now = client.link.now();
        client.link.machine().quit(now);
        client.link.shutdown().await;
    }
    done
}

struct Client<'a> {
    options: &'a Options,
    link: Link<Box<dyn Stream>, Initiator>,
    local: SocketAddr,
}

impl Client<'_> {
    async fn all(&mut self) -> Result<(), Failure> {
        let InitiatorEvent::Ready = self.next().await? else { unreachable!("a session begins with Ready") };
        for file in &self.options.files {
            if self.options.get {
                self.get(file).await?;
            } else {
                self.send(file).await?;
            }
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<InitiatorEvent, Failure> {
        let event = self.link.next().await.map_err(|error| Failure::of(error, self.local))?;
        match event {
            InitiatorEvent::Refused(refusal) => Err(Failure::Refused(refusal)),
            event => Ok(event),
        }
    }

    async fn send(&mut self, path: &Path) -> Result<(), Failure> {
        let (say, packing) = (self.options.say, self.options.packing);
        let name = name_of(path)?;
        let unreadable = |error| Failure::File { file: shown(path), purpose: "reading", error };
        let (mut body, size) = body_of(path, &name, packing).map_err(unreadable)?;

        say.log(&format!("Request to send file '{name}' size {size}b"));
        let now = self.link.now();
        self.link.machine().send(&name, size, packing, now);
        self.next().await?;
        say.log(&format!("Server responded {} OK", verb(packing)));

        let mut buffer = [0; CHUNK];
        while self.link.machine().remaining() > 0 {
            let want = self.link.machine().remaining().min(CHUNK as u64) as usize;
            body.read_exact(&mut buffer[..want]).map_err(unreadable)?;
            let now = self.link.now();
            self.link.machine().write_body(&buffer[..want], now);
            self.link.flush().await.map_err(|error| Failure::of(error, self.local))?;
        }
        self.next().await?;
        say.log("File sent");
        Ok(())
    }

    async fn get(&mut self, path: &Path) -> Result<(), Failure> {
        let invalid = |reason| Failure::Name { file: shown(path), done: "received", reason };
        let name = Name::parse_listed(path.as_os_str().as_bytes()).map_err(invalid)?;
        let unwritable = |error| Failure::File { file: shown(path), purpose: "writing", error };

        let now = self.link.now();
        self.link.machine().receive(&name, self.options.packing, now);
        self.next().await?;
        let now = self.link.now();
        self.link.machine().proceed(now);
        let mut received = beside(path).map_err(unwritable)?;
        while let InitiatorEvent::Body = self.next().await? {
            received.write_all(self.link.chunk()).map_err(unwritable)?;
        }
        if self.options.packing == Packing::Zip {
            received = self.unpacked(path, received)?;
        }
        received.persist(path).map_err(|error| unwritable(error.error))?;
        self.options.say.log(&format!("Received file '{name}'"));
        Ok(())
    }

    fn unpacked(&self, path: &Path, mut received: NamedTempFile) -> Result<NamedTempFile, Failure> {
        let unwritable = |error| Failure::File { file: shown(path), purpose: "writing", error };
        let damaged = |reason| Failure::Archive { file: shown(path), reason };
        received.rewind().map_err(unwritable)?;
        let mut content = beside(path).map_err(unwritable)?;
        let archive = Archive::open(received.as_file_mut(), UNPACKED_MAX).map_err(damaged)?;
        self.options.say.log(&format!("Unpacking file '{}' size {}b", shown(path), archive.size()));
        archive.inflate(&mut content).map_err(damaged)?;
        Ok(content)
    }
}

fn verb(packing: Packing) -> &'static str {
    match packing {
        Packing::Plain => "SEND",
        Packing::Zip => "ZSEND",
    }
}

fn name_of(path: &Path) -> Result<Name, Failure> {
    let bytes = path.file_name().unwrap_or_default().as_bytes();
    Name::parse(bytes).map_err(|reason| Failure::Name { file: shown(path), done: "sent", reason })
}

/// The bytes to send and how many there are.
fn body_of(path: &Path, name: &Name, packing: Packing) -> io::Result<(File, u64)> {
    let mut file = File::open(path)?;
    if packing == Packing::Zip {
        let mut packed = tempfile::tempfile()?;
        archive::pack(name.as_bytes(), &mut file, &mut packed)?;
        packed.rewind()?;
        file = packed;
    }
    let size = file.metadata()?.len();
    Ok((file, size))
}

/// A temporary file in the directory of `path`, with the permissions of any new file.
fn beside(path: &Path) -> io::Result<NamedTempFile> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    tempfile::Builder::new()
        .prefix(".tidegate-send-")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(directory)
}

fn shown(path: &Path) -> String {
    Escaped(path.as_os_str().as_bytes()).to_string()
}
