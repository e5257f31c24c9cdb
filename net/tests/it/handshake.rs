//! Handshakes over real sockets: who gets in, and what the log says about who does not.

use std::io;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use crate::pki::{Pair, Pki, expired, name};
use rcgen::{ExtendedKeyUsagePurpose, IsCa, SanType};
use tidegate_net::identity::Fingerprint;
use tidegate_net::tls::{self, ClientFiles, Peer, ServerFiles, Verify};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

/// How each end saw it: the other end, or the explanation.
type Outcome = (Result<Peer, String>, Result<Peer, String>);

/// A handshake, and a byte in each direction (in TLS 1.3 a refusal of the client comes after its handshake).
async fn shake(server: &ServerFiles, client: &ClientFiles) -> Outcome {
    let (server_config, client_config) =
        (tls::server_config(server).unwrap(), tls::client_config(client).unwrap());
    shake_with(server_config, client_config, &server.pinned).await
}

async fn shake_with(
    server: Arc<rustls::ServerConfig>,
    client: Arc<rustls::ClientConfig>,
    pinned: &[Fingerprint],
) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let listening = async {
        let (stream, _) = listener.accept().await?;
        let mut stream = tls::accept(&server, stream).await?;
        stream.read_exact(&mut [0]).await?;
        stream.write_all(b"!").await?;
        stream.shutdown().await?;
        Ok(Peer::of(stream.get_ref().1, pinned))
    };
    let dialling = async {
        let stream = TcpStream::connect(address).await?;
        let mut stream = tls::connect(&client, "127.0.0.1", stream).await?;
        stream.write_all(b"?").await?;
        stream.read_exact(&mut [0]).await?;
        Ok(Peer::of(stream.get_ref().1, &[]))
    };
    let words = |result: io::Result<Peer>| result.map_err(|error| tls::explain(&error));
    let (listened, dialled) = tokio::join!(listening, dialling);
    (words(listened), words(dialled))
}

fn listening(own: &Pair, pki: &Pki) -> ServerFiles {
    ServerFiles {
        cert: own.cert.clone(),
        key: own.key.clone(),
        ca: Some(pki.ca()),
        require_client_cert: true,
        pinned: Vec::new(),
    }
}

fn dialling(own: Option<&Pair>, pki: &Pki, verify: Verify) -> ClientFiles {
    ClientFiles {
        ca: Some(pki.ca()),
        cert: own.map(|own| own.cert.clone()),
        key: own.map(|own| own.key.clone()),
        verify,
        protocols: vec![tls::ALPN_TENTACLE],
    }
}

fn by_address() -> Verify {
    Verify::Name { expected: "127.0.0.1".to_owned() }
}

/// Every part has to occur in the text.
#[track_caller]
fn says(text: &Result<Peer, String>, parts: &[&str]) {
    let text = text.as_ref().expect_err("the handshake had to fail");
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in: {text}");
    }
}

/// The words an attacker's attempt leaves in the log must not lead anybody to let him in.
#[track_caller]
fn invites_nobody(text: &Result<Peer, String>) {
    let text = text.as_ref().expect_err("the handshake had to fail");
    for word in ["pin its", "pin this", "into this end's CA file"] {
        assert!(!text.contains(word), "{word:?} invites: {text}");
    }
}

#[tokio::test]
async fn both_ends_know_each_other() {
    let pki = Pki::new();
    let (node, server) = (pki.node(), pki.server());
    for verify in [
        by_address(),
        Verify::Name { expected: "localhost".to_owned() },
        Verify::NodeIdentity("plant-7".to_owned()),
        Verify::Pinned(node.fingerprint()),
        Verify::None,
    ] {
        let (listened, dialled) =
            shake(&listening(&node, &pki), &dialling(Some(&server), &pki, verify)).await;
        let (client, node_seen) = (listened.unwrap(), dialled.unwrap());
        assert_eq!(client.identity.unwrap().to_string(), "tidegate:server/central-1");
        assert_eq!(client.fingerprint, Some(server.fingerprint()));
        assert!(client.tls && !client.pinned);
        assert_eq!(client.alpn.as_deref(), Some(tls::ALPN_TENTACLE));
        assert_eq!(node_seen.identity.unwrap().to_string(), "tidegate:node/plant-7");
    }
}

#[tokio::test]
async fn a_client_without_certificate_gets_in_only_where_none_is_required() {
    let pki = Pki::new();
    let node = pki.node();
    let required = listening(&node, &pki);
    let optional = ServerFiles { require_client_cert: false, ..required.clone() };
    let (listened, dialled) = shake(&optional, &dialling(None, &pki, by_address())).await;
    dialled.unwrap();
    assert_eq!(listened.unwrap().fingerprint, None);

    let (listened, dialled) = shake(&required, &dialling(None, &pki, by_address())).await;
    says(&listened, &["the client presented no certificate", "tidegate-certs issue"]);
    says(&dialled, &["requires a client certificate and got none", "sync_cert", "tidegate-certs issue"]);
}

#[tokio::test]
async fn a_client_of_another_authority_is_refused_even_where_none_is_required() {
    let pki = Pki::new();
    let stranger = pki.issue("stranger", 1, |params| name(params, "tidegate:server/central-1"));
    let node = listening(&pki.node(), &pki);
    for files in [ServerFiles { require_client_cert: false, ..node.clone() }, node] {
        let (listened, dialled) = shake(&files, &dialling(Some(&stranger), &pki, by_address())).await;
        let fingerprint = stranger.fingerprint().to_string();
        says(
            &listened,
            &["the client's certificate was refused here", "no authority in the CA file", "authority ca1"],
        );
        says(
            &listened,
            &["tidegate:server/central-1", "tidegate-certs issue server central-1", &fingerprint],
        );
        invites_nobody(&listened);
        says(&dialled, &["does not trust the authority that signed", "unknownca"]);
    }
}

#[tokio::test]
async fn expired_certificates_are_refused_with_their_dates() {
    let pki = Pki::new();
    let old_client = pki.issue("old", 0, expired);
    let (listened, dialled) =
        shake(&listening(&pki.node(), &pki), &dialling(Some(&old_client), &pki, by_address())).await;
    says(
        &listened,
        &["the client's certificate", "expired on 2021-02-03", "days ago", "CN=old", "tidegate-certs issue"],
    );
    says(&dialled, &["our client certificate expired", "client_cert = false"]);

    let old_node = pki.issue("old-node", 0, |params| {
        expired(params);
        params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
    });
    let (listened, dialled) =
        shake(&listening(&old_node, &pki), &dialling(Some(&pki.server()), &pki, by_address())).await;
    says(&dialled, &["the server's certificate", "expired on 2021-02-03", "issue node NAME"]);
    says(&listened, &["the client finds this server's certificate expired"]);
}

#[tokio::test]
async fn a_certificate_of_tomorrow_hints_at_the_clock() {
    let pki = Pki::new();
    let early = pki.issue("early", 0, |params| params.not_before = rcgen::date_time_ymd(4000, 1, 1));
    let (listened, _) =
        shake(&listening(&pki.node(), &pki), &dialling(Some(&early), &pki, by_address())).await;
    says(&listened, &["not valid before 4000-01-01", "set the clock"]);
}

#[tokio::test]
async fn a_node_is_recognised_by_its_names() {
    let pki = Pki::new();
    let server = pki.server();
    let elsewhere = Verify::Name { expected: "10.9.8.7".to_owned() };
    let (listened, dialled) =
        shake(&listening(&pki.node(), &pki), &dialling(Some(&server), &pki, elsewhere)).await;
    says(
        &dialled,
        &["not valid for 10.9.8.7", "localhost, 127.0.0.1", "issue node plant-7 --dns HOST --ip ADDRESS"],
    );
    says(&listened, &["the client refused this server's certificate", "IP address it connects to"]);

    let nameless = pki.issue("nameless", 0, |_| {});
    let (_, dialled) = shake(&listening(&nameless, &pki), &dialling(Some(&server), &pki, by_address())).await;
    says(&dialled, &["has no subject alternative name", "the common name does not count"]);
}

#[tokio::test]
async fn another_node_under_the_same_authority_is_not_the_expected_one() {
    let pki = Pki::new();
    let verify = Verify::NodeIdentity("plant-8".to_owned());
    let (_, dialled) =
        shake(&listening(&pki.node(), &pki), &dialling(Some(&pki.server()), &pki, verify.clone())).await;
    says(&dialled, &["belongs to tidegate:node/plant-7", "tidegate:node/plant-8 was expected"]);

    let foreign = pki.issue("foreign", 0, |_| {});
    let (_, dialled) = shake(&listening(&foreign, &pki), &dialling(Some(&pki.server()), &pki, verify)).await;
    says(&dialled, &["carries no tidegate: identity"]);
}

#[tokio::test]
async fn only_a_node_may_listen() {
    let pki = Pki::new();
    for role in ["server", "agent"] {
        let other = pki.issue("other", 0, |params| {
            name(params, &format!("tidegate:{role}/x"));
            params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
        });
        for verify in [by_address(), Verify::Pinned(other.fingerprint())] {
            let (_, dialled) =
                shake(&listening(&other, &pki), &dialling(Some(&pki.server()), &pki, verify)).await;
            says(&dialled, &["tidegate-certs issue node NAME --dns HOST"]);
            says(&dialled, &[&format!("the certificate of tidegate:{role}/x"), "only a node may be dialled"]);
        }
    }
}

#[tokio::test]
async fn a_client_with_the_purpose_of_a_server_is_refused() {
    let pki = Pki::new();
    let (listened, dialled) =
        shake(&listening(&pki.node(), &pki), &dialling(Some(&pki.node()), &pki, by_address())).await;
    says(&listened, &["extended key usage", "listening (serverAuth) only"]);
    // Another certificate of a node would be refused again.
    says(&listened, &["tidegate-certs issue server NAME"]);
    says(&dialled, &["refused our client certificate"]);
}

#[tokio::test]
async fn a_certificate_with_two_identities_or_a_broken_one_is_refused() {
    let pki = Pki::new();
    let two = pki.issue("two", 0, |params| {
        name(params, "tidegate:server/a");
        name(params, "tidegate:agent/b");
    });
    let broken = pki.issue("broken", 0, |params| name(params, "TIDEGATE:server/a"));
    for (pair, reason) in [(two, "carries 2 tidegate: identities"), (broken, "is not of the form")] {
        let (listened, _) =
            shake(&listening(&pki.node(), &pki), &dialling(Some(&pair), &pki, by_address())).await;
        says(&listened, &[reason]);
    }
}

#[tokio::test]
async fn certificates_of_the_common_recipes_are_named_and_can_be_pinned() {
    let pki = Pki::new();
    // openssl req -x509: self-signed, CA:TRUE, no SAN, and given to the peer as its CA file.
    let recipe = Pair { cert: pki.path("recipe.pem"), key: pki.path("recipe.key") };
    crate::pki::openssl(
        pki.dir.path(),
        "req -x509 -newkey rsa:2048 -nodes -keyout recipe.key -out recipe.pem -subj /CN=recipe -days 30",
    );
    let server = pki.server();
    let trusting =
        ClientFiles { ca: Some(recipe.cert.clone()), ..dialling(Some(&server), &pki, by_address()) };
    let (_, dialled) = shake(&listening(&recipe, &pki), &trusting).await;
    says(&dialled, &["CA:TRUE", "pin its fingerprint", &recipe.fingerprint().to_string()]);

    let pinned = dialling(Some(&server), &pki, Verify::Pinned(recipe.fingerprint()));
    let (listened, dialled) = shake(&listening(&recipe, &pki), &pinned).await;
    assert_eq!(dialled.unwrap().fingerprint, Some(recipe.fingerprint()));
    listened.unwrap();

    let other = dialling(Some(&server), &pki, Verify::Pinned(server.fingerprint()));
    let (_, dialled) = shake(&listening(&recipe, &pki), &other).await;
    says(&dialled, &["is not the pinned certificate", &server.fingerprint().to_string()]);
}

#[tokio::test]
async fn a_version_1_certificate_works_only_if_pinned() {
    let pki = Pki::new();
    let (node, old) = (pki.node(), pki.version_1());
    assert!(crate::pki::openssl(pki.dir.path(), "x509 -in v1.pem -noout -text").contains("Version: 1 (0x0)"));
    let client = dialling(Some(&old), &pki, by_address());

    let trusting = ServerFiles { ca: Some(old.cert.clone()), ..listening(&node, &pki) };
    let (listened, _) = shake(&trusting, &client).await;
    says(&listened, &["X.509 v1", "can only be pinned", &old.fingerprint().to_string()]);
    says(&listened, &["that grants its holder the right to read and delete all packages"]);

    let pinning = ServerFiles { pinned: vec![old.fingerprint()], ..listening(&node, &pki) };
    let (listened, dialled) = shake(&pinning, &client).await;
    dialled.unwrap();
    let peer = listened.unwrap();
    assert!(peer.pinned && peer.identity.is_none());

    let dialled = dialling(None, &pki, Verify::Pinned(old.fingerprint()));
    let listener = ServerFiles { require_client_cert: false, ..listening(&old, &pki) };
    let (listened, dialled) = shake(&listener, &dialled).await;
    listened.unwrap();
    dialled.unwrap();
}

/// Both versions of TLS, against another implementation: a pinned X.509 v1 client, then server.
#[tokio::test]
async fn pinned_version_1_certificates_work_with_openssl_in_both_versions_of_tls() {
    let pki = Pki::new();
    let (node, old) = (pki.node(), pki.version_1());
    let pinning = ServerFiles { ca: None, pinned: vec![old.fingerprint()], ..listening(&node, &pki) };
    let config = tls::server_config(&pinning).unwrap();
    for version in ["-tls1_2", "-tls1_3"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut client = Command::new("openssl")
            .args(["s_client", "-quiet", "-connect", &address, "-cert", "v1.pem", "-key", "v1.key", version])
            .current_dir(pki.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        client.stdin.as_mut().unwrap().write_all(b"?").await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = tls::accept(&config, stream).await.unwrap();
        stream.read_exact(&mut [0]).await.unwrap();
        assert!(Peer::of(stream.get_ref().1, &pinning.pinned).pinned, "{version}");

        let mut server = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-cert", "v1.pem", "-key", "v1.key", version])
            .current_dir(pki.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let address = loop {
            let line = lines.next_line().await.unwrap().expect("s_server listens");
            if let Some(address) = line.strip_prefix("ACCEPT ") {
                break address.to_owned();
            }
        };
        let client = dialling(None, &pki, Verify::Pinned(old.fingerprint()));
        let stream = TcpStream::connect(address).await.unwrap();
        let stream = tls::connect(&tls::client_config(&client).unwrap(), "localhost", stream).await;
        let stream = stream.map_err(|error| tls::explain(&error)).unwrap();
        assert_eq!(Peer::of(stream.get_ref().1, &[]).fingerprint, Some(old.fingerprint()), "{version}");
    }
}

#[tokio::test]
async fn a_pin_is_no_password_the_key_has_to_be_there() {
    let pki = Pki::new();
    let (node, server) = (pki.node(), pki.server());
    // The right certificate, presented by somebody with another key.
    let thief = pki.issue("thief", 0, |_| {});
    let chain = tidegate_net::pem::certificates(&server.cert).unwrap();
    let key = tidegate_net::pem::private_key(&thief.key).unwrap();
    let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
    let stolen = rustls::sign::SingleCertAndKey::from(rustls::sign::CertifiedKey::new(chain, key));
    let mut client = (*tls::client_config(&dialling(None, &pki, by_address())).unwrap()).clone();
    client.client_auth_cert_resolver = Arc::new(stolen);

    let pinning = ServerFiles { pinned: vec![server.fingerprint()], ..listening(&node, &pki) };
    let (listened, dialled) =
        shake_with(tls::server_config(&pinning).unwrap(), Arc::new(client), &pinning.pinned).await;
    says(&listened, &["did not prove that it holds the key"]);
    says(&dialled, &["refused our client certificate"]);
}

/// Where only pins count, too: a certificate that claims to be a server's, and one that claims nothing.
#[tokio::test]
async fn where_only_pins_count_a_stranger_is_not_offered_one_for_its_claim() {
    let pki = Pki::new();
    let (node, known, nameless) = (pki.node(), pki.version_1(), pki.issue("nameless", 1, |_| {}));
    let claiming = pki.issue("claiming", 1, |params| name(params, "tidegate:server/central-1"));
    let pinning = ServerFiles { ca: None, pinned: vec![known.fingerprint()], ..listening(&node, &pki) };
    let (listened, _) = shake(&pinning, &dialling(Some(&claiming), &pki, by_address())).await;
    says(&listened, &["not one of the pinned", "nobody vouches for its identity"]);
    invites_nobody(&listened);
    let (listened, _) = shake(&pinning, &dialling(Some(&nameless), &pki, by_address())).await;
    says(
        &listened,
        &["not one of the pinned", "the right to read and delete", &nameless.fingerprint().to_string()],
    );
}

#[tokio::test]
async fn an_authority_cannot_be_impersonated_by_an_end() {
    let pki = Pki::new();
    let rogue = pki.issue("rogue", 0, |params| params.is_ca = IsCa::ExplicitNoCa);
    let issuer_key = rcgen::KeyPair::from_pem(&std::fs::read_to_string(&rogue.key).unwrap()).unwrap();
    let issuer = std::fs::read_to_string(&rogue.cert).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&issuer, issuer_key).unwrap();
    let mut params = rcgen::CertificateParams::default();
    name(&mut params, "tidegate:server/central-1");
    params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
    let key = rcgen::KeyPair::generate().unwrap();
    let forged = Pair { cert: pki.path("forged.pem"), key: pki.path("forged.key") };
    let chain =
        params.signed_by(&key, &issuer).unwrap().pem() + &std::fs::read_to_string(&rogue.cert).unwrap();
    std::fs::write(&forged.cert, chain).unwrap();
    std::fs::write(&forged.key, key.serialize_pem()).unwrap();
    let (listened, dialled) =
        shake(&listening(&pki.node(), &pki), &dialling(Some(&forged), &pki, by_address())).await;
    says(&listened, &["the client's certificate was refused here"]);
    assert!(dialled.is_err());
}

#[tokio::test]
async fn the_listening_end_takes_relay_wherever_it_is_offered() {
    let pki = Pki::new();
    let files = listening(&pki.node(), &pki);
    let (relay, tentacle) = (tls::ALPN_RELAY, tls::ALPN_TENTACLE);
    for (offered, agreed) in [
        (vec![relay, tentacle], relay),
        (vec![tentacle, relay], relay),
        (vec![relay], relay),
        (vec![tentacle], tentacle),
    ] {
        let dialling =
            ClientFiles { protocols: offered.clone(), ..dialling(Some(&pki.server()), &pki, by_address()) };
        let (listened, dialled) = shake(&files, &dialling).await;
        for seen in [listened.unwrap(), dialled.unwrap()] {
            assert_eq!(seen.alpn.as_deref(), Some(agreed), "{offered:?}");
        }
    }
}

#[tokio::test]
async fn a_client_with_other_protocols_only_is_served_without_alpn() {
    let pki = Pki::new();
    let files = listening(&pki.node(), &pki);
    let client = tls::client_config(&dialling(Some(&pki.server()), &pki, by_address())).unwrap();
    for (offered, agreed) in [
        (vec![], None),
        (vec![b"h2".to_vec()], None),
        (vec![b"tidegate/9".to_vec(), b"tentacle".to_vec()], Some(b"tentacle".to_vec())),
    ] {
        let mut client = (*client).clone();
        client.alpn_protocols = offered;
        let (listened, dialled) =
            shake_with(tls::server_config(&files).unwrap(), Arc::new(client), &[]).await;
        dialled.unwrap();
        assert_eq!(listened.unwrap().alpn, agreed);
    }
}

#[tokio::test]
async fn plain_text_where_tls_is_spoken_is_named() {
    let pki = Pki::new();
    let config = tls::server_config(&listening(&pki.node(), &pki)).unwrap();
    let (mut near, far) = tokio::io::duplex(1024);
    near.write_all(b"SEND <a.1.data> SIZE 4\n").await.unwrap();
    let error = tls::accept(&config, far).await.map(drop).unwrap_err();
    assert!(tls::explain(&error).contains("does not speak TLS"), "{}", tls::explain(&error));

    let config = tls::client_config(&dialling(None, &pki, by_address())).unwrap();
    let (near, far) = tokio::io::duplex(1024);
    drop(near);
    let error = tls::connect(&config, "127.0.0.1", far).await.map(drop).unwrap_err();
    assert!(tls::explain(&error).contains("a server without TLS does so"), "{}", tls::explain(&error));
}

/// A server that ends the session without close_notify and a client that never resumes: no ticket is ever sent.
#[tokio::test]
async fn sessions_are_never_resumed() {
    let pki = Pki::new();
    let files = listening(&pki.node(), &pki);
    let (server, client) =
        (tls::server_config(&files).unwrap(), dialling(Some(&pki.server()), &pki, by_address()));
    let mut client = (*tls::client_config(&client).unwrap()).clone();
    client.resumption = rustls::client::Resumption::in_memory_sessions(8);
    let client = Arc::new(client);
    for _ in 0..2 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (accepted, connected) = tokio::join!(
            async {
                let (stream, _) = listener.accept().await.unwrap();
                let mut stream = tls::accept(&server, stream).await.unwrap();
                stream.write_all(b"!").await.unwrap();
                stream
            },
            async {
                let stream = TcpStream::connect(address).await.unwrap();
                let mut stream = tls::connect(&client, "127.0.0.1", stream).await.unwrap();
                stream.read_exact(&mut [0]).await.unwrap();
                stream
            }
        );
        assert_eq!(accepted.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
        assert_eq!(connected.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
}

#[tokio::test]
async fn a_handshake_that_hangs_can_be_given_up() {
    let pki = Pki::new();
    let config = tls::server_config(&listening(&pki.node(), &pki)).unwrap();
    let (mut near, far) = tokio::io::duplex(1024);
    near.write_all(&[0x16, 3, 1]).await.unwrap();
    let given_up = tokio::time::timeout(Duration::from_millis(50), tls::accept(&config, far)).await;
    assert!(given_up.is_err());
    assert_eq!(near.read(&mut [0]).await.unwrap(), 0);
}
