//! A double of the stock Tentacle server, as a process of its own.
//!
//! It behaves as the reference (Perl, 0.6.2) does on the wire and on disk, its faults included, because the sync server
//! must survive exactly those faults: a truncating overwrite, `MV` that unlinks without an acknowledgement, chunks that
//! must end in a newline. Options carry the reference's letters, so a real stock server can take its place in the same
//! tests. It has no test hooks: what goes wrong on the way is the business of the wire tap in front of it.
//!
//! Not reproduced: `-d -q -w -F -T -b -g -S` (refused with words), and client certificates of X.509 version 1, which
//! OpenSSL accepts and this TLS library does not.

mod options;
mod session;
mod storage;
mod tls;
mod wire;

use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;

use options::Options;
use storage::Storage;
use wire::{Stream, Wire};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("[err] {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let options = Options::parse(std::env::args_os().skip(1))?;
    let server = Arc::new(Server::new(options)?);
    let listener = TcpListener::bind((server.options.address.as_str(), server.options.port))
        .with_context(|| format!("cannot open socket for {}", server.options.address))?;
    eprintln!("[log] listening on {}", listener.local_addr().context("the listener has an address")?);

    let slots = Slots::new(server.options.connections);
    loop {
        let (stream, _) = listener.accept().context("accept")?;
        // As in the reference, the connection is taken first and then waits for a slot; further ones queue in the kernel.
        let slot = slots.take();
        let server = Arc::clone(&server);
        std::thread::spawn(move || {
            if let Err(end) = server.serve(stream) {
                eprintln!("[err] {end}");
            }
            drop(slot);
        });
    }
}

struct Server {
    options: Options,
    storage: Storage,
    tls: Option<Arc<rustls::ServerConfig>>,
}

impl Server {
    fn new(options: Options) -> anyhow::Result<Server> {
        let storage = Storage::new(options.directory.clone(), &options.filters)?;
        let tls = match &options.certificate {
            Some(certificate) => {
                Some(tls::server_config(certificate, &options.key, options.authority.as_deref())?)
            }
            None => None,
        };
        Ok(Server { options, storage, tls })
    }

    fn serve(&self, stream: TcpStream) -> Result<(), wire::End> {
        let wait = Some(Duration::from_secs(self.options.wait_seconds));
        stream.set_read_timeout(wait)?;
        stream.set_write_timeout(wait)?;
        let socket = stream.try_clone()?;
        let stream: Box<dyn Stream> = match &self.tls {
            Some(config) => Box::new(tls::accept(Arc::clone(config), stream)?),
            None => Box::new(stream),
        };
        let wire = Wire::new(stream, self.options.retries);
        let ended = session::serve(&self.options, &self.storage, wire);
        // The reference shuts the socket under its TLS layer: the peer sees an end without a close_notify.
        let _ = socket.shutdown(std::net::Shutdown::Both);
        ended
    }
}

/// The reference's `-c`: how many sessions run at once.
struct Slots(Arc<(Mutex<usize>, Condvar)>);

struct Slot(Arc<(Mutex<usize>, Condvar)>);

impl Slots {
    fn new(count: usize) -> Slots {
        Slots(Arc::new((Mutex::new(count), Condvar::new())))
    }

    fn take(&self) -> Slot {
        let (free, freed) = &*self.0;
        let mut free = freed
            .wait_while(free.lock().unwrap_or_else(PoisonError::into_inner), |free| *free == 0)
            .unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Slot(Arc::clone(&self.0))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let (free, freed) = &*self.0;
        *free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        freed.notify_one();
    }
}
