//! Who pulls over TLS: the handshake, the certificate's role, and what the log says when a check fails.

mod support;

use std::path::Path;
use std::time::Duration;

use support::Node;
use support::pki::{Authority, Issued};
use tidegate_net::tls::{self, ALPN_TENTACLE, ClientFiles, Verify};
use tidegate_net::{Link, LinkError};
use tidegate_proto::{Initiator, InitiatorEvent, InitiatorSettings, Name, Packing, Time};
use tokio::net::TcpStream;

type Puller = Link<tokio_rustls::client::TlsStream<TcpStream>, Initiator>;

struct Site {
    authority: Authority,
    stranger: Authority,
    directory: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        Self {
            authority: Authority::new(&directory.path().join("ours")),
            stranger: Authority::new(&directory.path().join("theirs")),
            directory,
        }
    }

    /// A node with a certificate of the site's authority and one package.
    fn node(&self, extra: &str) -> Node {
        let Issued { cert, key } = self.authority.node();
        let node = Node::start(&format!(
            "ssl_cert = {cert:?}\nssl_key = {key:?}\nssl_ca = {:?}\n{extra}",
            self.authority.ca
        ));
        if !extra.contains("accept") {
            assert_eq!(node.connect().send("a.5.data", b"package"), "SEND OK");
        }
        node
    }
}

async fn connect(node: &Node, ca: &Path, client: Option<&Issued>) -> Result<Puller, String> {
    let files = ClientFiles {
        ca: Some(ca.into()),
        cert: client.map(|issued| issued.cert.clone()),
        key: client.map(|issued| issued.key.clone()),
        verify: Verify::Name { expected: "127.0.0.1".into() },
        protocols: vec![ALPN_TENTACLE],
    };
    let config = tls::client_config(&files).map_err(|error| error.to_string())?;
    let stream = TcpStream::connect(node.address).await.expect("connects");
    let stream = tls::connect(&config, "127.0.0.1", stream).await.map_err(|error| tls::explain(&error))?;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(ALPN_TENTACLE));
    let settings = InitiatorSettings { password: None, patience: support::PATIENCE };
    let mut link = Link::new(stream, Initiator::new(settings, Time::ZERO), support::PATIENCE);
    match link.next().await {
        Ok(InitiatorEvent::Ready) => Ok(link),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.to_string()),
    }
}

/// The body of the outstanding request, or the refusal.
async fn body(link: &mut Puller) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    loop {
        match link.next().await.map_err(|error: LinkError| error.to_string())? {
            InitiatorEvent::Size(_) => {
                let now = link.now();
                link.machine().proceed(now);
            }
            InitiatorEvent::Body => body.extend_from_slice(link.chunk()),
            InitiatorEvent::BodyEnd { .. } => return Ok(body),
            InitiatorEvent::Refused(refusal) => return Err(refusal.to_string()),
            other => panic!("{other:?}"),
        }
    }
}

/// Lists, receives and moves the one package; every one must succeed, or every one be refused.
async fn pulls(link: &mut Puller) -> bool {
    let name = Name::parse(b"a.5.data").expect("a name");
    let now = link.now();
    link.machine().list(b".", now);
    let listed = body(link).await;
    let now = link.now();
    link.machine().receive(&name, Packing::Plain, now);
    let received = body(link).await;
    let now = link.now();
    link.machine().take(&name, Duration::from_millis(50), now);
    let moved = body(link).await;
    match (&listed, &received, &moved) {
        (Ok(listed), Ok(received), Ok(moved)) => {
            assert_eq!(
                (&listed[..], &received[..], &moved[..]),
                (&b"a.5.data"[..], &b"package"[..], &b"package"[..])
            );
            true
        }
        (Err(listed), Err(received), Err(moved)) => {
            assert_eq!(listed, "LS ERR");
            assert_eq!(received, "RECV ERR (file does not exist)");
            assert_eq!(moved, "MV ERR");
            false
        }
        mixed => panic!("{mixed:?}"),
    }
}

#[tokio::test]
async fn a_server_certificate_pulls() {
    let site = Site::new();
    let node = site.node("");
    let server = site.authority.client("server", "server/central-1", false);
    let mut link = connect(&node, &site.authority.ca, Some(&server)).await.expect("a session");
    assert!(pulls(&mut link).await);
    let now = link.now();
    link.machine().quit(now);
    link.shutdown().await;
    node.logs("moved and deleted");
    assert!(node.root.ready().is_empty());
}

#[tokio::test]
async fn other_certificates_of_the_authority_do_not_and_the_log_says_why() {
    let site = Site::new();
    let node = site.node("");
    for (identity, words) in [
        ("agent/web01", "tidegate:agent/web01; a puller needs the role server"),
        ("node/plant-7", "tidegate:node/plant-7; a puller needs the role server"),
        ("", "carries no Tidegate role"),
    ] {
        let client = site.authority.client("client", identity, false);
        let mut link = connect(&node, &site.authority.ca, Some(&client)).await.expect("a session");
        assert!(!pulls(&mut link).await, "{identity}");
        node.logs(words);
    }
    let mut link = connect(&node, &site.authority.ca, None).await.expect("a session");
    assert!(!pulls(&mut link).await);
    node.logs("presented no client certificate");
    assert_eq!(node.root.ready().len(), 1);
}

#[tokio::test]
async fn certificates_that_do_not_verify_never_become_a_session() {
    let site = Site::new();
    let node = site.node("");
    let stranger = site.stranger.client("server", "server/central-1", false);
    let expired = site.authority.client("expired", "server/central-1", true);
    for (client, word) in [(&stranger, "authority"), (&expired, "expired")] {
        // In TLS 1.3 the client may finish its handshake before the node refuses; nothing works afterwards.
        if let Ok(mut link) = connect(&node, &site.authority.ca, Some(client)).await {
            let now = link.now();
            link.machine().list(b".", now);
            body(&mut link).await.expect_err("a listing for nobody");
        }
        let line = node.logs("turned away");
        assert!(!line.is_empty());
        node.logs(word);
    }
    assert_eq!(node.root.ready().len(), 1);
}

#[tokio::test]
async fn a_pinned_certificate_from_elsewhere_pulls() {
    let site = Site::new();
    let foreign = site.stranger.client("puller", "", false);
    let certificate = &tidegate_net::pem::certificates(&foreign.cert).expect("a certificate")[0];
    let fingerprint = tidegate_net::identity::Fingerprint::of(certificate).to_string();
    let node = site.node(&format!("puller_fingerprints = [\"{fingerprint}\"]\n"));
    let mut link = connect(&node, &site.authority.ca, Some(&foreign)).await.expect("a session");
    assert!(pulls(&mut link).await);
}

#[tokio::test]
async fn either_kind_of_connection_can_be_refused() {
    let site = Site::new();
    let only_tls = site.node("accept = [\"tls\"]\n");
    assert!(only_tls.connect().say("LS <.>\n").is_closed());
    only_tls.logs("plain connections are not accepted");
    connect(&only_tls, &site.authority.ca, None).await.expect("a session");

    let only_plain = site.node("accept = [\"plain\"]\n");
    assert!(connect(&only_plain, &site.authority.ca, None).await.is_err());
    only_plain.logs("TLS is not accepted");
    assert_eq!(only_plain.connect().send("a.5.data", b"x"), "SEND OK");
    drop(site.directory);
}
