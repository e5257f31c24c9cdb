//! A real handshake, in memory or over the network, and why it fails.
//!
//! It runs the same configurations and checks as the daemons, so what passes here passes there.

use std::fmt::Write;
use std::io;
use std::net::Ipv6Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ProtocolVersion};
use tidegate_net::certificate::Certificate;
use tidegate_net::identity::Role;
use tidegate_net::pem;
use tidegate_net::tls::{self, ALPN_RELAY, ALPN_TENTACLE, ClientFiles, Peer, ServerFiles, Verify};
use tokio::io::{AsyncWriteExt, duplex};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::cli::Check;
use crate::describe::facts;
use crate::failure::Failure;
use crate::farewell::{Verdict, farewell};

/// Tentacle's port.
const PORT: u16 = 41121;
/// Longest wait for a connection, for its handshake and for its end.
const PATIENCE: Duration = Duration::from_secs(10);
/// What the pipe of an in-memory handshake holds; a handshake is smaller.
const PIPE: usize = 256 * 1024;

/// `tidegate-certs check`.
pub(crate) fn check(arguments: &Check, report: &mut String) -> Result<(), Failure> {
    if let Some(cert) = &arguments.cert {
        own_certificate(cert, arguments, report)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::file("cannot start", &error))?;
    match (&arguments.connect, &arguments.node_cert, &arguments.node_key) {
        (Some(address), ..) => runtime.block_on(over_the_network(address, arguments, report)),
        (None, Some(cert), Some(key)) => runtime.block_on(in_memory(cert, key, arguments, report)),
        _ => Err(Failure::Usage("give --connect, or --node-cert and --node-key".to_owned())),
    }
}

/// Says what the dialling end's certificate entitles it to.
fn own_certificate(path: &Path, arguments: &Check, report: &mut String) -> Result<(), Failure> {
    let chain = pem::certificates(path)?;
    let certificate = Certificate::read(&chain[0])
        .map_err(|error| Failure::Configuration(format!("{}: {error}", path.display())))?;
    let role = certificate.identity.as_ref().ok().and_then(Option::as_ref).map(|identity| identity.role());
    let rights = match role {
        Some(Role::Server) => "may pull packages, and send",
        Some(Role::Agent) => "may send, not pull",
        Some(Role::Node) => "is a node's, and may not dial",
        None => "may send; to pull, the node has to pin its fingerprint",
    };
    let _ = writeln!(report, "dialling end: {} ({rights})", path.display());
    facts(&certificate, report);
    match arguments.role.map(|kind| kind.role()) {
        Some(wanted) if role != Some(wanted) => Err(Failure::Bad(format!(
            "{}: the role is {}, not {wanted}; issue one with: tidegate-certs issue {wanted} NAME",
            path.display(),
            role.map_or("none", Role::as_str)
        ))),
        _ => Ok(()),
    }
}

fn client_config(
    arguments: &Check,
    verify: Verify,
    protocol: &'static [u8],
) -> Result<Arc<ClientConfig>, Failure> {
    let files = ClientFiles {
        ca: arguments.ca.clone(),
        cert: arguments.cert.clone(),
        key: arguments.key.clone(),
        verify,
        protocols: vec![protocol],
    };
    Ok(tls::client_config(&files)?)
}

/// How the dialling end is told to recognise the other.
fn verify(arguments: &Check, dialled: Option<&str>) -> Result<Verify, Failure> {
    let expected = arguments.address.as_deref().or(dialled);
    match (&arguments.node, arguments.fingerprint, expected) {
        _ if arguments.no_verify => Ok(Verify::None),
        (Some(node), ..) => Ok(Verify::NodeIdentity(node.clone())),
        (_, Some(fingerprint), _) => Ok(Verify::Pinned(fingerprint)),
        (.., Some(expected)) => Ok(Verify::Name { expected: expected.to_owned() }),
        _ => Err(Failure::Usage(
            "say how the node is recognised: --address HOST, --node NAME, --fingerprint HEX or --no-verify"
                .to_owned(),
        )),
    }
}

async fn in_memory(cert: &Path, key: &Path, arguments: &Check, report: &mut String) -> Result<(), Failure> {
    let client = client_config(arguments, verify(arguments, None)?, ALPN_TENTACLE)?;
    let server = tls::server_config(&ServerFiles {
        cert: cert.to_owned(),
        key: key.to_owned(),
        ca: arguments.node_ca.clone(),
        require_client_cert: arguments.cert.is_some() && arguments.node_ca.is_some(),
        pinned: Vec::new(),
    })?;
    let (near, far) = duplex(PIPE);
    let listening = async {
        let mut stream = tls::accept(&server, near).await?;
        farewell(&mut stream, PATIENCE).await
    };
    let host = arguments.address.as_deref().unwrap_or("localhost");
    let dialling = async {
        let mut stream = tls::connect(&client, host, far).await?;
        let peer = stream.get_ref().1.peer_certificates().map(|chain| chain[0].clone());
        farewell(&mut stream, PATIENCE).await.map(|_| peer)
    };
    let (listened, dialled) = tokio::join!(listening, dialling);
    if let Ok(Some(der)) = &dialled
        && let Ok(node) = Certificate::read(der)
    {
        let _ = writeln!(report, "listening end: {}", cert.display());
        facts(&node, report);
    }
    let refusals = [("dialling", dialled.err()), ("listening", listened.err())];
    let refusals =
        refusals.into_iter().filter_map(|(end, error)| Some(format!("{end} end: {}", tls::explain(&error?))));
    let refusals: Vec<String> = refusals.collect();
    if !refusals.is_empty() {
        return Err(Failure::Bad(format!("the handshake fails\n  {}", refusals.join("\n  "))));
    }
    let _ = writeln!(report, "the handshake passes");
    Ok(())
}

async fn over_the_network(address: &str, arguments: &Check, report: &mut String) -> Result<(), Failure> {
    let (host, port) = host_and_port(address)?;
    let config = client_config(arguments, verify(arguments, Some(host))?, ALPN_TENTACLE)?;
    let unavailable = |reason: String| Failure::Unavailable(format!("{host} port {port}: {reason}"));
    let late = || unavailable(format!("no answer within {} s", PATIENCE.as_secs()));
    let stream = timeout(PATIENCE, TcpStream::connect((host, port))).await.map_err(|_| late())?;
    let stream = stream.map_err(|error| unavailable(error.to_string()))?;
    let from = stream.peer_addr().map_or_else(|_| address.to_owned(), |address| address.to_string());
    let fails = |error: io::Error| {
        Failure::Bad(format!("the handshake with {from} fails\n  {}", tls::explain(&error)))
    };
    let stream = timeout(PATIENCE, tls::connect(&config, host, stream)).await.map_err(|_| late())?;
    let mut stream = stream.map_err(fails)?;

    let connection = stream.get_ref().1;
    let peer = Peer::of(connection, &[]);
    let version = match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
        _ => "TLS 1.2",
    };
    let is_node = peer.alpn.as_deref() == Some(ALPN_TENTACLE);
    let kind =
        if is_node { "a Tidegate node" } else { "a stock Tentacle server, or another server without ALPN" };
    let _ = writeln!(report, "listening end: {from}, {version}, {kind}");
    if let Some(Ok(node)) = connection.peer_certificates().map(|chain| Certificate::read(&chain[0])) {
        facts(&node, report);
    }
    let settled = connection.protocol_version() == Some(ProtocolVersion::TLSv1_2);
    match farewell(&mut stream, PATIENCE).await.map_err(fails)? {
        // Here the other end's handshake ends before ours, so it has seen our certificate.
        Verdict::Unknown(_) if settled => {}
        Verdict::Unknown(why) => {
            return Err(unavailable(format!(
                "the handshake passes at this end, but whether the other end accepts it is not known: {why}; in TLS \
                 1.3 it says so afterwards, so look at its log, or try again"
            )));
        }
        Verdict::Closed if !settled => {
            let _ = writeln!(
                report,
                "note: the other end closed without the farewell of TLS, as stock servers do, and without a refusal"
            );
        }
        Verdict::Closed | Verdict::Accepted => {}
    }
    // Only a node is asked twice: a stock server has few places, and its agents need them.
    if is_node {
        let config = client_config(arguments, verify(arguments, Some(host))?, ALPN_RELAY)?;
        let protocols = match agrees_to_relay(&config, host, port).await {
            Ok(true) => "relay (tidegate/1) and Tentacle (tentacle)".to_owned(),
            Ok(false) => "Tentacle (tentacle), not relay (tidegate/1)".to_owned(),
            Err(error) => {
                format!("Tentacle (tentacle); relay (tidegate/1) is not known: {}", tls::explain(&error))
            }
        };
        let _ = writeln!(report, "protocols: {protocols}");
    }
    let _ = writeln!(report, "the handshake passes");
    Ok(())
}

/// Offers relay, and leaves before a word of it is said.
async fn agrees_to_relay(config: &Arc<ClientConfig>, host: &str, port: u16) -> io::Result<bool> {
    let agreed = async {
        let stream = TcpStream::connect((host, port)).await?;
        let mut stream = tls::connect(config, host, stream).await?;
        let agreed = stream.get_ref().1.alpn_protocol() == Some(ALPN_RELAY);
        // An end that has closed before us has agreed all the same.
        let _ = stream.shutdown().await;
        Ok(agreed)
    };
    timeout(PATIENCE, agreed).await.unwrap_or_else(|late| Err(late.into()))
}

/// `host`, `host:port`, `[IPv6]:port` or a bare IPv6 address.
fn host_and_port(address: &str) -> Result<(&str, u16), Failure> {
    let bad =
        || Failure::Usage(format!("`{}` is not HOST, HOST:PORT or [IPv6]:PORT", address.escape_debug()));
    if address.parse::<Ipv6Addr>().is_ok() {
        return Ok((address, PORT));
    }
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or_else(bad)?;
            (host, rest.strip_prefix(':').unwrap_or(rest))
        }
        None => address.rsplit_once(':').unwrap_or((address, "")),
    };
    match (host, port) {
        ("", _) => Err(bad()),
        (host, "") => Ok((host, PORT)),
        (host, port) => Ok((host, port.parse().map_err(|_| bad())?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_in_every_usual_form() {
        for (text, host, port) in [
            ("plant-7", "plant-7", 41121),
            ("plant-7:4000", "plant-7", 4000),
            ("10.7.0.5:41121", "10.7.0.5", 41121),
            ("::1", "::1", 41121),
            ("[::1]", "::1", 41121),
            ("[::1]:4000", "::1", 4000),
        ] {
            assert_eq!(host_and_port(text).unwrap(), (host, port), "{text}");
        }
        for text in ["", ":41121", "host:port", "host:70000", "[::1"] {
            assert_eq!(host_and_port(text).unwrap_err().code(), 64, "{text}");
        }
    }
}
