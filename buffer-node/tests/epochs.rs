//! Which sync server a node lets pull: rights, epochs, and what is left of plain Tentacle.

mod support;

use std::path::Path;
use std::process::Command;

use support::pki::{Authority, Issued};
use support::relay::{PLENTY, Site, hello, stream};
use support::{BINARY, Node, PATIENCE};
use tidegate_net::Link;
use tidegate_net::tls::{self, ALPN_TENTACLE, ClientFiles, Verify};
use tidegate_proto::relay::{CloseCode, Farewell, Purpose};
use tidegate_proto::{Initiator, InitiatorEvent, InitiatorSettings, Time};
use tokio::net::TcpStream;

/// What the node answers to a stream under that epoch: the epoch it holds, or its refusal.
async fn try_stream(site: &Site, node: &Node, who: &Issued, epoch: u64) -> Result<u64, Farewell> {
    let mut puller = site.dial(node, Some(who), stream(epoch)).await;
    puller.grant(PLENTY);
    match puller.next().await {
        Ok(support::relay::Sign::Welcome(welcome)) => {
            puller.leave().await;
            Ok(welcome.epoch)
        }
        Ok(other) => panic!("{other:?}"),
        Err(tidegate_net::LinkError::Closed(tidegate_proto::Close::Farewell(farewell))) => Err(farewell),
        Err(other) => panic!("{other}"),
    }
}

fn refusal(refused: Result<u64, Farewell>) -> (CloseCode, u64) {
    let farewell = refused.expect_err("a refusal");
    assert_eq!(farewell.text, "", "nothing but the number is said");
    (farewell.code, farewell.number)
}

fn command(config: &Path, command: &str) -> String {
    let output =
        Command::new(BINARY).args(["epoch", command, "--config"]).arg(config).output().expect("runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// What plain Tentacle says to `LS` of a server certificate.
async fn list_by_tentacle(site: &Site, node: &Node) -> Result<(), String> {
    let config = tls::client_config(&ClientFiles {
        ca: Some(site.authority.ca.clone()),
        cert: Some(site.central.cert.clone()),
        key: Some(site.central.key.clone()),
        verify: Verify::Name { expected: "127.0.0.1".into() },
        protocols: vec![ALPN_TENTACLE],
    });
    let stream = TcpStream::connect(node.address).await.expect("connects");
    let stream = tls::connect(&config.expect("a configuration"), "127.0.0.1", stream).await.expect("shakes");
    let settings = InitiatorSettings { password: None, patience: PATIENCE };
    let mut link = Link::new(stream, Initiator::new(settings, Time::ZERO), PATIENCE);
    loop {
        match link.next().await.expect("a session") {
            InitiatorEvent::Ready => {
                let now = link.now();
                link.machine().list(b".", now);
            }
            InitiatorEvent::Size(_) => return Ok(()),
            InitiatorEvent::Refused(refusal) => return Err(refusal.to_string()),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn epochs_follow_the_whole_table() {
    use CloseCode::{EpochJump, EpochOfAnother, EpochTooLow};
    let site = Site::new();
    let node = site.node("");
    let (a, b) = (&site.central, &site.other);
    // Nothing is known: any reasonable one is taken.
    assert_eq!(refusal(try_stream(&site, &node, a, 0).await), (EpochTooLow, 0));
    assert_eq!(refusal(try_stream(&site, &node, a, 1_000_001).await), (EpochJump, 0));
    assert_eq!(try_stream(&site, &node, a, 7).await, Ok(7));
    // The same again, after a restart too.
    let node = node.kill_and_restart();
    assert_eq!(try_stream(&site, &node, a, 7).await, Ok(7));
    assert_eq!(refusal(try_stream(&site, &node, b, 7).await), (EpochOfAnother, 7));
    let line = node.logs("a puller was refused");
    for part in ["tidegate:server/central-1", "tidegate:server/central-2", "takeover"] {
        assert!(line.contains(part), "{line}");
    }
    assert_eq!(refusal(try_stream(&site, &node, b, 6).await), (EpochTooLow, 7));
    assert_eq!(refusal(try_stream(&site, &node, a, 9).await), (EpochJump, 7));
    node.logs("epoch reset");
    // A takeover, and back.
    assert_eq!(try_stream(&site, &node, b, 8).await, Ok(8));
    assert_eq!(refusal(try_stream(&site, &node, a, 7).await), (EpochTooLow, 8));
    assert_eq!(refusal(try_stream(&site, &node, a, 8).await), (EpochOfAnother, 8));
    assert_eq!(try_stream(&site, &node, a, 9).await, Ok(9));
}

#[tokio::test]
async fn a_newer_epoch_ends_the_stream_of_the_older() {
    let site = Site::new();
    let node = site.node("");
    assert_eq!(node.connect().send("a.1700000000.data", b"package"), "SEND OK");
    let mut older = site.stream(&node).await;
    older.packages(1).await;
    let mut taking_over = site.dial(&node, Some(&site.other), hello(Purpose::List, 2)).await;
    assert_eq!(taking_over.welcome().await.epoch, 2);
    assert_eq!(older.farewell().await.code, CloseCode::Replaced);
    assert_eq!(node.root.ready().len(), 1);
}

#[tokio::test]
async fn a_connection_for_listings_does_not_outlive_its_epoch() {
    let site = Site::new();
    let node = site.node("");
    let mut listing = site.dial(&node, Some(&site.central), hello(Purpose::List, 1)).await;
    assert_eq!(listing.welcome().await.epoch, 1);
    assert_eq!(try_stream(&site, &node, &site.other, 2).await, Ok(2));
    listing.link.machine().list();
    let farewell = listing.farewell().await;
    assert_eq!((farewell.code, farewell.number), (CloseCode::EpochTooLow, 2));
}

#[tokio::test]
async fn only_pullers_get_in_and_the_log_says_why_others_do_not() {
    let site = Site::new();
    let node = site.node("");
    let agent = site.authority.client("agent", "agent/web01", false);
    for (who, words) in
        [(Some(&agent), "a puller needs the role server"), (None, "presented no client certificate")]
    {
        for purpose in [Purpose::Stream, Purpose::List, Purpose::Look] {
            let mut puller = site.dial(&node, who, hello(purpose, 1)).await;
            let farewell = puller.farewell().await;
            assert_eq!(farewell.code, CloseCode::NoRights);
            assert!(farewell.text.contains(words), "{farewell}");
        }
        node.logs(words);
    }
    assert!(command(&node.root.config, "show").contains("no epoch"));
}

#[tokio::test]
async fn plain_tentacle_gives_nothing_away_once_an_epoch_is_known_until_it_is_reset() {
    let site = Site::new();
    let node = site.node("");
    assert_eq!(node.connect().send("a.1700000000.data", b"package"), "SEND OK");
    list_by_tentacle(&site, &node).await.expect("a listing");
    assert_eq!(try_stream(&site, &node, &site.central, 3).await, Ok(3));
    list_by_tentacle(&site, &node).await.expect_err("a refusal");
    let line = node.logs("pulled by relay (epoch 3, held by tidegate:server/central-1");
    assert!(line.contains("epoch reset"), "{line}");
    let shown = command(&node.root.config, "show");
    assert!(shown.contains("epoch      3") && shown.contains("tidegate:server/central-1"), "{shown}");

    let node = node.kill_and_restart();
    list_by_tentacle(&site, &node).await.expect_err("a refusal");
    assert!(command(&node.root.config, "reset").contains("forgotten: epoch 3"));
    list_by_tentacle(&site, &node).await.expect("a listing");
    assert!(command(&node.root.config, "show").contains("no epoch"));
    assert!(command(&node.root.config, "reset").contains("there is no epoch"));
    // Whoever comes next is remembered, whatever it was before.
    assert_eq!(try_stream(&site, &node, &site.other, 1).await, Ok(1));
    assert_eq!(node.root.ready().len(), 1);
}

#[tokio::test]
async fn a_pinned_puller_is_known_by_its_fingerprint() {
    let site = Site::new();
    let directory = tempfile::tempdir().expect("a directory");
    let foreign = Authority::new(directory.path()).client("foreign", "server/central-1", false);
    let certificate = &tidegate_net::pem::certificates(&foreign.cert).expect("a certificate")[0];
    let fingerprint = tidegate_net::identity::Fingerprint::of(certificate).to_string();
    let node = site.node(&format!("puller_fingerprints = [\"{fingerprint}\"]\n"));
    assert_eq!(try_stream(&site, &node, &foreign, 1).await, Ok(1));
    let shown = command(&node.root.config, "show");
    assert!(shown.contains(&format!("fingerprint:{fingerprint}")), "{shown}");
    // It calls itself what another is.
    assert_eq!(refusal(try_stream(&site, &node, &site.central, 1).await), (CloseCode::EpochOfAnother, 1));
}

#[tokio::test]
async fn insecure_still_gives_everything_to_everybody() {
    let site = Site::new();
    let node = site.node("insecure = true\n");
    assert_eq!(node.connect().send("a.1700000000.data", b"package"), "SEND OK");
    assert_eq!(try_stream(&site, &node, &site.central, 1).await, Ok(1));
    list_by_tentacle(&site, &node).await.expect("a listing");
    assert_eq!(node.connect().get("LS <.>"), Ok(b"a.1700000000.data".to_vec()));
}

#[tokio::test]
async fn a_damaged_epoch_file_lets_nobody_in_and_the_log_says_what_to_do() {
    let site = Site::new();
    let node = site.node("");
    std::fs::write(node.root.path("epoch"), "nonsense").expect("writes");
    let refused = try_stream(&site, &node, &site.central, 1).await.expect_err("a refusal");
    assert_eq!(refused.code, CloseCode::Trouble);
    node.logs("epoch reset");
    list_by_tentacle(&site, &node).await.expect_err("a refusal");
    command(&node.root.config, "reset");
    assert_eq!(try_stream(&site, &node, &site.central, 1).await, Ok(1));
}
