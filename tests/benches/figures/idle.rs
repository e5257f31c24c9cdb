//! Memory of idle TLS connections.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use crate::site::{agent, node, resident_kib};
use crate::{Scale, median, row};

const CONNECTIONS: usize = 500;

/// These pay for what all share: threads, allocator arenas, tables.
const WARM_UP: usize = 50;

pub(crate) fn run(scale: Scale) {
    println!("\n| {CONNECTIONS} idle TLS connections | who | KiB each |");
    println!("|---|---|---|");
    row(
        "resident memory",
        "buffer node",
        format_args!("{:.1}", median((0..scale.runs).map(|_| one()).collect())),
    );
}

fn one() -> f64 {
    let (authority, mut node) = node();
    let config = agent(&authority);
    let address = node.address();
    let pid = node.process().id();
    let _warm: Vec<_> = (0..WARM_UP).map(|_| connect(address, &config)).collect();
    let before = resident_kib(pid);
    let connections: Vec<_> = (0..CONNECTIONS).map(|_| connect(address, &config)).collect();
    (resident_kib(pid) - before) / connections.len() as f64
}

fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> (TcpStream, ClientConnection) {
    let mut socket = TcpStream::connect(address).expect("the node listens");
    let mut tls = ClientConnection::new(Arc::clone(config), ServerName::from(address.ip()))
        .expect("a good configuration");
    while tls.is_handshaking() {
        tls.complete_io(&mut socket).expect("the handshake succeeds");
    }
    (socket, tls)
}
