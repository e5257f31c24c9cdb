//! A Tentacle client of our own for tests: it says exactly what it is told to, over plain TCP or TLS.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

use crate::certificates::Pair;
use crate::until::PATIENCE;

pub(crate) trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// One connection.
pub struct Sender {
    stream: Box<dyn Stream>,
    socket: TcpStream,
}

impl Sender {
    /// Dials in plain.
    pub fn connect(address: SocketAddr) -> io::Result<Sender> {
        let socket = TcpStream::connect_timeout(&address, PATIENCE)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Sender { stream: Box::new(socket.try_clone()?), socket })
    }

    /// Dials with TLS, verifies nothing, and shows `certificate`, if any. The handshake is complete on return, as far as
    /// this side can know: with TLS 1.3 a refusal of the certificate comes with the first read.
    pub fn connect_tls(
        address: SocketAddr,
        certificate: Option<&Pair>,
        alpn: &[&[u8]],
    ) -> io::Result<Sender> {
        let mut sender = Sender::connect(address)?;
        let mut connection =
            ClientConnection::new(client_config(certificate, alpn), ServerName::from(address.ip()))
                .map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut sender.socket)?;
        }
        sender.stream = Box::new(StreamOwned::new(connection, sender.socket.try_clone()?));
        Ok(sender)
    }

    /// How long to wait for bytes from now on.
    pub fn patience(&self, patience: std::time::Duration) -> io::Result<()> {
        self.socket.set_read_timeout(Some(patience))
    }

    /// Writes bytes as they are.
    pub fn say(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())?;
        self.stream.flush()
    }

    /// Says that nothing more will come. Plain connections only.
    pub fn finish(&mut self) -> io::Result<()> {
        self.socket.shutdown(std::net::Shutdown::Write)
    }

    /// Reads one line, without its newline; `None` when the connection ended first.
    pub fn line(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        loop {
            match self.some(1)?.first() {
                None if line.is_empty() => return Ok(None),
                None => return Err(ErrorKind::UnexpectedEof.into()),
                Some(b'\n') => return Ok(Some(String::from_utf8_lossy(&line).into_owned())),
                Some(byte) => line.push(*byte),
            }
        }
    }

    /// Reads exactly so many bytes.
    pub fn body(&mut self, size: usize) -> io::Result<Vec<u8>> {
        let mut body = vec![0; size];
        self.stream.read_exact(&mut body)?;
        Ok(body)
    }

    /// Reads until the other side ends; a reset is an end too.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        loop {
            let read = self.some(64 * 1024)?;
            if read.is_empty() {
                return Ok(rest);
            }
            rest.extend(read);
        }
    }

    /// Says a command and reads the reply line.
    pub fn ask(&mut self, command: &str) -> io::Result<String> {
        self.say(format!("{command}\n"))?;
        self.line()?.ok_or_else(|| ErrorKind::UnexpectedEof.into())
    }

    /// Sends a file; gives the last reply, `SEND OK` when it was stored.
    pub fn send(&mut self, name: &str, bytes: &[u8]) -> io::Result<String> {
        self.offer("SEND", name, bytes)
    }

    /// Sends a file with `SEND` or `ZSEND` (then `bytes` are the packed ones).
    pub fn offer(&mut self, verb: &str, name: &str, bytes: &[u8]) -> io::Result<String> {
        let reply = self.ask(&format!("{verb} <{name}> SIZE {}", bytes.len()))?;
        if reply != format!("{verb} OK") {
            return Ok(reply);
        }
        self.say(bytes)?;
        self.line()?.ok_or_else(|| ErrorKind::UnexpectedEof.into())
    }

    /// `RECV`, `LS` or `MV`: the bytes, or the refusal.
    pub fn fetch(&mut self, verb: &str, name: &str) -> io::Result<Result<Vec<u8>, String>> {
        let reply = self.ask(&format!("{verb} <{name}>"))?;
        let Some(size) = reply.strip_prefix(&format!("{verb} SIZE ")) else { return Ok(Err(reply)) };
        let size = size.parse().map_err(io::Error::other)?;
        self.say(format!("{verb} OK\n"))?;
        self.body(size).map(Ok)
    }

    /// For other protocols on the same connection.
    pub(crate) fn into_parts(self) -> (Box<dyn Stream>, TcpStream) {
        (self.stream, self.socket)
    }

    fn some(&mut self, most: usize) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; most];
        match self.stream.read(&mut buffer) {
            Ok(read) => {
                buffer.truncate(read);
                Ok(buffer)
            }
            Err(error) if is_end(&error) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").field("socket", &self.socket).finish_non_exhaustive()
    }
}

/// Whether the other side is gone, politely or not.
pub(crate) fn is_end(error: &io::Error) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe)
}

/// Sends a file on a connection of its own, again and again until it is stored: what a patient agent does.
///
/// # Panics
/// When patience ends, or the file is refused.
pub fn send_until_stored(address: SocketAddr, name: &str, bytes: &[u8]) {
    crate::until::holds(&format!("{name} is stored"), || {
        let reply = Sender::connect(address).and_then(|mut sender| sender.send(name, bytes));
        match reply.as_deref() {
            Ok("SEND OK") => true,
            Ok(refusal) => panic!("{name} is refused: {refusal}"),
            Err(_) => false,
        }
    });
}

fn client_config(certificate: Option<&Pair>, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for both versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer(provider)));
    let mut config = match certificate {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let (chain, key) = pair.read();
            builder.with_client_auth_cert(chain, key).expect("certificate and key fit")
        }
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}

/// Like the stock client's `-c`: any certificate will do.
#[derive(Debug)]
struct AnyServer(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The loopback address part, for certificates.
pub fn ipv4(address: SocketAddr) -> std::net::Ipv4Addr {
    match address.ip() {
        IpAddr::V4(ip) => ip,
        IpAddr::V6(_) => unreachable!("tests use 127/8"),
    }
}
