//! One end of relay that says what it is told to, right or wrong: frames over TLS, and a package stream written block
//! by block. It knows no state: what comes when is the test's affair.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tidegate_proto::Name;
use tidegate_proto::relay::frame::{self, Frame};
use tidegate_proto::relay::{Head, Number};

use crate::certificates::Pair;
use crate::oracle::digest;
use crate::sender::{Sender, Stream, is_end};
use crate::until::PATIENCE;

/// What both ends call it.
pub const ALPN: &[u8] = tidegate_proto::relay::limits::ALPN;

/// Kinds with this bit may be passed over.
pub const OPTIONAL: u8 = frame::OPTIONAL;

/// The longest payload that a frame may have.
pub const PAYLOAD_MAX: usize = tidegate_proto::relay::limits::PAYLOAD_MAX;

/// The largest block of a compressed frame.
const BLOCK_MAX: usize = 128 * 1024;

/// An end.
pub struct End {
    stream: Box<dyn Stream>,
    socket: TcpStream,
    received: Vec<u8>,
}

impl End {
    /// The puller's: dials with this certificate, and offers relay only.
    pub fn dial(address: SocketAddr, certificate: &Pair) -> io::Result<End> {
        let sender = Sender::connect_tls(address, Some(certificate), &[ALPN])?;
        let (stream, socket) = sender.into_parts();
        Ok(End { stream, socket, received: Vec::new() })
    }

    /// The node's: answers a connection with this certificate.
    pub fn answer(socket: TcpStream, config: &Arc<ServerConfig>) -> io::Result<End> {
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let mut connection = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
        let mut plain = socket.try_clone()?;
        while connection.is_handshaking() {
            connection.complete_io(&mut plain)?;
        }
        Ok(End { stream: Box::new(StreamOwned::new(connection, plain)), socket, received: Vec::new() })
    }

    /// Says bytes as they are.
    pub fn bytes(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())?;
        self.stream.flush()
    }

    /// Says a frame.
    pub fn say(&mut self, frame: &Frame) -> io::Result<()> {
        let mut bytes = Vec::new();
        frame.write(&mut bytes);
        self.bytes(bytes)
    }

    /// Says a frame of any kind with any payload.
    pub fn raw(&mut self, kind: u8, payload: &[u8]) -> io::Result<()> {
        let mut bytes = Vec::new();
        frame::write_raw(kind, payload, &mut bytes);
        self.bytes(bytes)
    }

    /// Says a part of the compressed stream, in as many frames as it takes.
    pub fn data(&mut self, compressed: &[u8]) -> io::Result<()> {
        compressed.chunks(PAYLOAD_MAX).try_for_each(|part| self.say(&Frame::Data(part.to_vec())))
    }

    /// How long to wait for bytes from now on.
    pub fn patience(&self, patience: Duration) -> io::Result<()> {
        self.socket.set_read_timeout(Some(patience))
    }

    /// The next frame; `None` when the other end is gone. Pings are answered and passed over.
    pub fn hear(&mut self) -> io::Result<Option<Frame>> {
        loop {
            match self.hear_any()? {
                Some(Frame::Ping(number)) => self.say(&Frame::Pong(number)).or_else(ended)?,
                frame => return Ok(frame),
            }
        }
    }

    /// The next frame, whatever it is.
    pub fn hear_any(&mut self) -> io::Result<Option<Frame>> {
        loop {
            match Frame::read(&self.received) {
                Ok(Some((frame, length))) => {
                    self.received.drain(..length);
                    return Ok(Some(frame));
                }
                Ok(None) => {}
                Err(violation) => panic!("the other end broke the protocol: {violation}"),
            }
            let mut buffer = [0; 16 * 1024];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(read) => self.received.extend_from_slice(&buffer[..read]),
                Err(error) if is_end(&error) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// The first frame that is wanted. Others are passed over.
    pub fn hear_until<T>(&mut self, mut wanted: impl FnMut(Frame) -> Option<T>) -> io::Result<T> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            match self.hear()? {
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(frame) => {
                    if let Some(found) = wanted(frame) {
                        return Ok(found);
                    }
                }
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Waits for the other end's end; what it said until then.
    pub fn rest(&mut self) -> io::Result<Vec<Frame>> {
        let start = Instant::now();
        let mut frames = Vec::new();
        while let Some(frame) = self.hear_any()? {
            frames.push(frame);
            if start.elapsed() > PATIENCE {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Ok(frames)
    }

    /// The connection below TLS.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }
}

fn ended(error: io::Error) -> io::Result<()> {
    if is_end(&error) { Ok(()) } else { Err(error) }
}

impl std::fmt::Debug for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("End").field("socket", &self.socket).finish_non_exhaustive()
    }
}

/// A package as a node would send it.
#[derive(Debug, Clone)]
pub struct Package {
    /// Its number.
    pub number: Number,
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Package {
    /// The kind of record that it is.
    pub const KIND: u8 = 1;
    /// That of one which stays.
    pub const SKIPPED: u8 = 2;

    /// What precedes its bytes.
    ///
    /// # Panics
    /// When the name is none that a node would list.
    pub fn head(&self) -> Head {
        Head {
            number: self.number,
            arrival: 1_700_000_000_000,
            size: self.bytes.len() as u64,
            digest: prefix(&self.bytes),
            name: Name::parse_listed(self.name.as_bytes()).expect("a good name"),
        }
    }

    /// Its record with its body.
    pub fn record(&self) -> Vec<u8> {
        let mut record = self.record_of(self.name.as_bytes(), self.bytes.len() as u64, prefix(&self.bytes));
        record.extend_from_slice(&self.bytes);
        record
    }

    /// Its record without the body, with another name, size and digest.
    pub fn record_of(&self, name: &[u8], size: u64, digest: u64) -> Vec<u8> {
        let mut record = Vec::new();
        frame::write_head(Package::KIND, self.number, 1_700_000_000_000, size, digest, name, &mut record);
        record
    }
}

/// How a record tells a body.
pub fn prefix(bytes: &[u8]) -> u64 {
    let digest = digest(bytes);
    u64::from_be_bytes(digest[..8].try_into().expect("a digest is longer"))
}

/// A compressed frame, written block by block without compressing anything.
#[derive(Debug, Clone)]
pub struct Blocks(Vec<u8>);

impl Blocks {
    /// The first four bytes of a frame.
    pub const MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];

    /// One with a window of so many bytes, as a power of two.
    pub fn new(window_log: u8) -> Blocks {
        Blocks::of(&[0, (window_log - 10) << 3])
    }

    /// One with this header after the magic number.
    pub fn of(header: &[u8]) -> Blocks {
        Blocks([&Blocks::MAGIC, header].concat())
    }

    /// A block's header.
    pub fn block(mut self, kind: u8, size: usize, last: bool) -> Blocks {
        let header = (size as u32) << 3 | u32::from(kind) << 1 | u32::from(last);
        self.0.extend_from_slice(&header.to_le_bytes()[..3]);
        self
    }

    /// Bytes as they are.
    pub fn bytes(mut self, bytes: &[u8]) -> Blocks {
        self.0.extend_from_slice(bytes);
        self
    }

    /// A block of bytes as they are, or more of them.
    pub fn raw(self, bytes: &[u8]) -> Blocks {
        bytes.chunks(BLOCK_MAX).fold(self, |blocks, part| blocks.block(0, part.len(), false).bytes(part))
    }

    /// So many blocks of the largest size, of one byte: four bytes for each.
    pub fn repeated(self, byte: u8, blocks: usize) -> Blocks {
        (0..blocks).fold(self, |all, _| all.block(1, BLOCK_MAX, false).bytes(&[byte]))
    }

    /// The frame so far; the decoder waits for more blocks.
    pub fn open(self) -> Vec<u8> {
        self.0
    }

    /// The whole frame.
    pub fn end(self) -> Vec<u8> {
        self.block(0, 0, true).0
    }
}

/// Bytes as a compressed frame.
pub fn packed(bytes: &[u8]) -> Vec<u8> {
    Blocks::new(17).raw(bytes).end()
}

/// A node's side of TLS with this certificate: it agrees to relay, and asks for no certificate.
pub fn node_config(pair: &Pair) -> Arc<ServerConfig> {
    let (chain, key) = pair.read();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for both versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("certificate and key fit");
    config.alpn_protocols = vec![ALPN.to_vec()];
    Arc::new(config)
}

/// Reads a package stream.
pub struct Unpacker {
    decoder: zstd_safe::DCtx<'static>,
    plain: Vec<u8>,
}

impl Unpacker {
    /// At the beginning of a connection.
    pub fn new() -> Unpacker {
        Unpacker { decoder: zstd_safe::DCtx::create(), plain: Vec::new() }
    }

    /// What is whole after one more `DATA`. Packages that stay at the node are passed over.
    ///
    /// # Panics
    /// When the stream cannot be read.
    pub fn push(&mut self, compressed: &[u8]) -> Vec<Package> {
        let mut input = zstd_safe::InBuffer::around(compressed);
        loop {
            let mut step = vec![0; BLOCK_MAX];
            let mut output = zstd_safe::OutBuffer::around(&mut step[..]);
            self.decoder.decompress_stream(&mut output, &mut input).expect("a node sends zstd");
            let written = output.pos();
            self.plain.extend_from_slice(&step[..written]);
            if written < BLOCK_MAX && input.pos() == compressed.len() {
                break;
            }
        }
        std::iter::from_fn(|| self.whole()).flatten().collect()
    }

    /// The next record that is whole: a package, or one that stays.
    fn whole(&mut self) -> Option<Option<Package>> {
        const FIXED: usize = 42;
        let field = |at: usize| {
            let bytes = self.plain.get(at..at + 8)?;
            Some(u64::from_be_bytes(bytes.try_into().expect("eight bytes")))
        };
        let (run, counter, size) = (field(1)?, field(9)?, field(25)?);
        let name_end = FIXED + usize::from(*self.plain.get(FIXED - 1)?);
        let has_body = self.plain[0] == Package::KIND;
        let end = name_end + if has_body { size as usize } else { 0 };
        if self.plain.len() < end {
            return None;
        }
        let record: Vec<u8> = self.plain.drain(..end).collect();
        let name = String::from_utf8_lossy(&record[FIXED..name_end]).into_owned();
        let package = Package { number: Number { run, counter }, name, bytes: record[name_end..].to_vec() };
        Some(has_body.then_some(package))
    }
}

impl Default for Unpacker {
    fn default() -> Unpacker {
        Unpacker::new()
    }
}

impl std::fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unpacker").field("waiting", &self.plain.len()).finish_non_exhaustive()
    }
}
