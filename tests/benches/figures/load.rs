//! The load generator: as many senders as asked for, each file on a connection of its own, as agents do it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Stream};

use tidegate_tests::corpus::Corpus;

/// What a load came to.
pub(crate) struct Outcome {
    pub(crate) elapsed: Duration,
    /// Of each `SEND`, from connect to the final reply; the shortest first.
    pub(crate) waits: Vec<Duration>,
}

/// What `share` of the sorted waits do not exceed.
pub(crate) fn quantile(waits: &[Duration], share: f64) -> Duration {
    waits[((waits.len() as f64 * share) as usize).min(waits.len() - 1)]
}

/// Median, 99 in 100 and longest of sorted waits, in milliseconds.
pub(crate) fn spread(waits: &[Duration]) -> String {
    let [p50, p99, max] = [0.5, 0.99, 1.0].map(|share| quantile(waits, share).as_secs_f64() * 1000.0);
    format!("{p50:.1} / {p99:.1} / {max:.1}")
}

/// A file: its name and its bytes.
pub(crate) type Named = (String, Vec<u8>);

/// So many files of agents.
pub(crate) fn agent_files(files: usize, size: usize) -> Vec<Named> {
    let mut corpus = Corpus::new(7, 100);
    (0..files).map(|index| corpus.file(index, size)).collect()
}

/// Sends files from `senders` threads; every one must be acknowledged.
pub(crate) fn send(
    address: SocketAddr,
    tls: Option<&Arc<ClientConfig>>,
    files: &[Named],
    senders: usize,
) -> Outcome {
    drive(files, senders, |name, bytes| {
        one(address, tls, name, bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
    })
}

/// Gives files to `send` from `senders` threads.
pub(crate) fn drive(files: &[Named], senders: usize, send: impl Fn(&str, &[u8]) + Sync) -> Outcome {
    let next = AtomicUsize::new(0);
    let start = Instant::now();
    let mut waits: Vec<Duration> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..senders)
            .map(|_| {
                scope.spawn(|| {
                    let mut waits = Vec::new();
                    while let Some((name, bytes)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let begun = Instant::now();
                        send(name, bytes);
                        waits.push(begun.elapsed());
                    }
                    waits
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("senders do not panic")).collect()
    });
    let elapsed = start.elapsed();
    waits.sort();
    Outcome { elapsed, waits }
}

/// One file, one connection.
fn one(address: SocketAddr, tls: Option<&Arc<ClientConfig>>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    match tls {
        None => exchange(&mut socket, name, bytes),
        Some(config) => {
            let mut connection = ClientConnection::new(Arc::clone(config), ServerName::from(address.ip()))
                .map_err(io::Error::other)?;
            exchange(&mut Stream::new(&mut connection, &mut socket), name, bytes)
        }
    }
}

fn exchange(stream: &mut (impl Read + Write), name: &str, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(format!("SEND <{name}> SIZE {}\n", bytes.len()).as_bytes())?;
    expect(stream, b"SEND OK\n")?;
    stream.write_all(bytes)?;
    expect(stream, b"SEND OK\n")?;
    stream.write_all(b"QUIT\n")
}

fn expect(stream: &mut impl Read, reply: &[u8]) -> io::Result<()> {
    let mut got = [0; 64];
    let got = &mut got[..reply.len()];
    stream.read_exact(got)?;
    if got == reply { Ok(()) } else { Err(io::Error::other(String::from_utf8_lossy(got).into_owned())) }
}
