//! Configurations, right and wrong.

use std::path::Path;
use std::time::Duration;

use tidegate_net::tls::Verify;

use super::shared::{Give, Learn};
use super::*;
use crate::shared::decide::Uploads;

/// Enough for one site.
const SMALLEST: &str = "sync_address = \"192.0.2.7\"\nsync_ca = \"/ca.pem\"\nincomingdir = \"/in\"\n";

fn config(text: &str) -> Config {
    Config::parse(Path::new("server.toml"), text).unwrap_or_else(|problems| panic!("{problems}"))
}

fn problems(text: &str) -> String {
    Config::parse(Path::new("server.toml"), text).expect_err("it is wrong").to_string()
}

#[test]
fn the_sample_is_a_valid_configuration() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../init/server.toml");
    let config = Config::load(&file).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.sites.len(), 1);
    assert_eq!(config.warnings(), Vec::<String>::new());
}

#[test]
fn every_key_of_the_sample_is_accepted_when_it_is_uncommented() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../init/server.toml");
    let sample = std::fs::read_to_string(file).unwrap();
    let is_setting = |line: &&str| {
        line.starts_with("#[[") || line.starts_with('#') && line.contains(" = ") && !line.starts_with("# ")
    };
    let uncommented: String = sample
        .lines()
        .map(|line| if is_setting(&line) { &line[1..] } else { line })
        .filter(|line| !line.starts_with("sync_password_file") && !line.starts_with("incoming_group"))
        .map(|line| format!("{line}\n"))
        .collect();
    let config = config(&uncommented);
    assert!(config.sites.len() > 2, "the commented sites are read too");
    assert!(sample.lines().filter(is_setting).count() > 15, "the sample shows the optional keys");
}

#[test]
fn what_is_not_said_has_the_documented_default() {
    let config = config(SMALLEST);
    let site = &config.sites[0];
    assert_eq!((site.name.as_str(), site.host.as_str(), site.port), ("192.0.2.7", "192.0.2.7", 41121));
    assert_eq!(
        (site.sync.retries, site.sync.timeout, site.sync.interval),
        (3, Duration::from_secs(10), Duration::from_secs(10))
    );
    assert_eq!(site.sync.mode, PullMode::Auto);
    assert_eq!(site.sync.connections, 4);
    assert_eq!((site.sync.standing, site.sync.rate), (true, None));
    let Some(tls) = &site.tls else { panic!("TLS is the default") };
    assert!(matches!(&tls.verify, Verify::Name { expected } if expected == "192.0.2.7"));
    assert_eq!(config.incoming.staging, Path::new("/in/.tidegate"));
    assert_eq!(config.incoming.ownership.mode, 0o640);
}

#[test]
fn addresses_come_as_a_list_or_as_one_text() {
    let rest = "sync_ca = \"/ca.pem\"\nincomingdir = \"/in\"\nsync_port = 5000\n";
    let list = config(&format!("sync_address = [\"a\", \"b:6000\", \"[::1]:7000\"]\n{rest}"));
    let text = config(&format!("sync_address = \"a, b:6000,[::1]:7000\"\n{rest}"));
    let shown =
        |config: &Config| config.sites.iter().map(|site| (site.host.clone(), site.port)).collect::<Vec<_>>();
    assert_eq!(shown(&list), [("a".into(), 5000), ("b".into(), 6000), ("::1".into(), 7000)]);
    assert_eq!(shown(&list), shown(&text));
}

#[test]
fn a_site_inherits_what_it_does_not_change() {
    let config = config(
        r#"
        incomingdir = "/in"
        sync_ca = "/ca.pem"
        sync_cert = "/cert.pem"
        sync_key = "/key.pem"
        sync_interval = "1m"
        sync_password = "secret"
        [[site]]
        name = "plant-7"
        address = "192.0.2.7"
        node = "plant-7"
        sync_interval = 5
        [[site]]
        address = "192.0.2.8:5000"
        pin = "00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff:00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff"
        client_cert = false
        pull_mode = "tentacle"
        [[site]]
        name = "old"
        address = "192.0.2.9"
        tls = "off"
        pull_mode = "move"
        [[site]]
        address = "192.0.2.11"
        certificate_name = "monitor.harbour.example"
        "#,
    );
    let [plant, pinned, old, harbour] = &config.sites[..] else { panic!("four sites") };
    let verify = &harbour.tls.as_ref().unwrap().verify;
    assert!(matches!(verify, Verify::Name { expected } if expected == "monitor.harbour.example"));
    assert_eq!(harbour.host, "192.0.2.11");
    let tls = plant.tls.as_ref().unwrap();
    assert!(matches!(&tls.verify, Verify::NodeIdentity(name) if name == "plant-7"));
    assert_eq!(tls.cert.as_deref(), Some(Path::new("/cert.pem")));
    assert_eq!(plant.sync.interval, Duration::from_secs(5));
    assert!(plant.sync.password.is_some());
    assert_eq!((pinned.name.as_str(), pinned.port), ("192.0.2.8:5000", 5000));
    assert!(matches!(pinned.tls.as_ref().unwrap().verify, Verify::Pinned(_)));
    assert_eq!(pinned.tls.as_ref().unwrap().cert, None);
    assert_eq!(pinned.sync.interval, Duration::from_secs(60));
    assert!(old.tls.is_none());
    let warnings = config.warnings().join("\n");
    for expected in
        ["192.0.2.8:5000: no client certificate", "old: tls = \"off\"", "old: pull_mode = \"move\""]
    {
        assert!(warnings.contains(expected), "{expected} in:\n{warnings}");
    }
}

#[test]
fn relay_is_set_for_all_sites_or_for_one() {
    let config = config(
        r#"
        incomingdir = "/in"
        sync_address = "a"
        sync_ca = "/ca.pem"
        sync_standing = false
        sync_rate = "2MB"
        pull_mode = "relay"
        [[site]]
        address = "b"
        sync_standing = true
        sync_rate = 64000
        pull_mode = "auto"
        "#,
    );
    let keys: Vec<_> =
        config.sites.iter().map(|site| (site.sync.mode, site.sync.standing, site.sync.rate)).collect();
    assert_eq!(
        keys,
        [(PullMode::Relay, false, Some(2_000_000)), (PullMode::Auto, true, Some(64_000))],
        "what a site says, and what it inherits"
    );
    let said = problems(&format!("{SMALLEST}sync_rate = 999\nsync_standing = 1\npull_mode = \"relais\"\n"));
    for expected in [
        "server.toml:4: `sync_rate` is 999 bytes a second; write at least 1000",
        "server.toml:5: `sync_standing` is the number 1; write true or false",
        "server.toml:6: `pull_mode` is a text that does not fit; write \"auto\" or \"relay\"",
    ] {
        assert!(said.contains(expected), "{expected}\nin:\n{said}");
    }
    let plain = format!("{SMALLEST}[[site]]\naddress = \"b\"\ntls = \"off\"\npull_mode = \"relay\"\n");
    assert!(problems(&plain).contains("server.toml:4: relay needs TLS"), "{}", problems(&plain));
}

#[test]
fn everything_that_is_wrong_is_said_at_once_with_its_line() {
    let said = problems(
        "sync_adress = \"a\"\n\
         sync_port = 70000\n\
         sync_timeout = \"soon\"\n\
         sync_cert = \"cert.pem\"\n\
         names = \"(\"\n\
         incoming_mode = 640\n\
         [[site]]\n\
         name = \"x\"\n\
         tls = false\n\
         [[site]]\n\
         address = \"b\"\n",
    );
    for expected in [
        "server.toml: `incomingdir` is missing",
        "server.toml:1: unknown key `sync_adress`; did you mean `sync_address`?",
        "server.toml:2: `sync_port` is the number 70000; write a number from 1 to 65535",
        "server.toml:3: `sync_timeout` is",
        "server.toml:4: `sync_cert` is the relative path",
        "server.toml:5: `names` is no regular expression",
        "server.toml:6: `incoming_mode` is the number 640; write octal",
        "server.toml:7: the site has no `address`",
        "server.toml:9: `site.tls` is of the type boolean; write \"on\" or \"off\"",
        "server.toml:10: the site cannot be recognised; write `sync_ca`",
    ] {
        assert!(said.contains(expected), "{expected}\nin:\n{said}");
    }
}

#[test]
fn broken_toml_is_said_with_its_line() {
    let said = problems("sync_address = \"a\"\nincomingdir = \n");
    assert!(said.contains("server.toml:2: is not TOML here"), "{said}");
}

#[test]
fn a_key_without_its_certificate_and_a_certificate_without_its_key_are_errors() {
    assert!(
        problems(&format!("{SMALLEST}sync_key = \"/k\"\n")).contains(":4: `sync_key` needs its certificate")
    );
    assert!(
        problems(&format!("{SMALLEST}sync_cert = \"/c\"\n"))
            .contains(":4: `sync_cert` needs its private key")
    );
}

#[test]
fn two_sites_of_one_name_would_share_a_ledger_entry() {
    let text = format!("{SMALLEST}[[site]]\nname = \"192.0.2.7\"\naddress = \"elsewhere\"\n");
    assert!(problems(&text).contains("a second site is called \"192.0.2.7\""));
}

#[test]
fn one_address_and_port_is_one_site_however_it_is_spelled() {
    for (first, second) in [
        ("x", "address = \"X.\""),
        ("x:5000", "address = \"x\"\nport = 5000"),
        ("::1", "address = \"[0:0::1]\""),
    ] {
        let top = format!("sync_address = [{first:?}]\nsync_ca = \"/ca.pem\"\nincomingdir = \"/in\"\n");
        let said = problems(&format!("{top}[[site]]\nname = \"other\"\n{second}\n"));
        assert!(said.contains("server.toml:4: the sites"), "{said}");
        assert!(said.contains("have the same address and port"), "{said}");
    }
}

#[test]
fn a_configuration_without_a_site_is_an_error() {
    assert!(problems("incomingdir = \"/in\"\n").contains("no site to pull"));
}

#[test]
fn a_site_that_cannot_be_recognised_is_an_error() {
    let said = problems("sync_address = \"a\"\nincomingdir = \"/in\"\n");
    assert!(said.contains("server.toml:1: `sync_address` needs `sync_ca`"), "{said}");
}

#[test]
fn passwords_come_from_a_file_too_and_are_never_shown() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    std::fs::write(&file, "s3cret-word\n").unwrap();
    let from_file = config(&format!("{SMALLEST}sync_password_file = {file:?}\n"));
    let written = config(&format!("{SMALLEST}sync_password = \"s3cret-word\"\n"));
    assert_eq!(from_file.sites[0].sync.password, written.sites[0].sync.password);
    assert!(!format!("{written:?}").contains("s3cret"), "not in debug output");
    let said =
        problems(&format!("{SMALLEST}sync_password = \"s3cret-word\"\nsync_retries = \"s3cret-word\"\n"));
    assert!(!said.contains("s3cret"), "nor in an error: {said}");
}

#[test]
fn a_stock_site_is_pulled_by_one_to_four_connections() {
    for (number, taken) in [(0, false), (1, true), (4, true), (5, false)] {
        let text = format!("sync_connections = {number}\n{SMALLEST}");
        let parsed = Config::parse(Path::new("server.toml"), &text);
        assert_eq!(parsed.is_ok(), taken, "{number}");
    }
}

#[test]
fn two_lines_switch_shared_files_on() {
    assert!(!config(SMALLEST).sites[0].sync.shared.on, "off by default");
    let config = config(&format!("sync_shared = true\n{SMALLEST}"));
    let shared = &config.sites[0].sync.shared;
    assert!(shared.on);
    assert_eq!((shared.uploads, shared.give), (Uploads::First, Give::Own));
    assert_eq!(shared.learn, Learn::FromData);
    let all = &config.shared;
    assert_eq!((all.directory.as_path(), all.interval), (Path::new("/in"), Duration::from_secs(10)));
    assert_eq!((all.keep, all.max_size), (Duration::from_secs(604_800), 100_000_000));
    assert_eq!(all.max_agents, 20_000);
    assert_eq!(all.folders(), ["/in/conf", "/in/md5"].map(PathBuf::from));
}

#[test]
fn shared_files_differ_from_site_to_site() {
    let config = config(
        r#"
        incomingdir = "/in"
        sync_address = "a"
        sync_ca = "/ca.pem"
        sync_shared = true
        shared_uploads = "off"
        [shared]
        directory = "/files"
        interval = "50ms"
        keep = "1d"
        max_size = "1MB"
        max_agents = 5
        [[site]]
        address = "b"
        shared_uploads = "changed"
        shared_give = "claimed"
        agents = ["web01", "2F527604E1DEFF1329720282D8D3CFA1", "0f527604e1deff1329720282d8d3cfa1"]
        agents_learn = false
        collections = ["fc_1", "0123"]
        [[site]]
        address = "c"
        sync_shared = false
        "#,
    );
    assert_eq!((config.shared.directory.as_path(), config.shared.max_agents), (Path::new("/files"), 5));
    let [a, b, c] = &config.sites[..] else { panic!("three sites") };
    assert_eq!((a.sync.shared.on, a.sync.shared.uploads), (true, Uploads::Off));
    let shared = &b.sync.shared;
    assert_eq!((shared.uploads, shared.give, shared.learn), (Uploads::Changed, Give::Claimed, Learn::Never));
    let keys: Vec<_> = shared.agents.iter().map(|agent| agent.key.to_string()).collect();
    assert_eq!(keys[0], "2f527604e1deff1329720282d8d3cfa1", "of a name");
    assert_ne!(keys[1], keys[0], "a name that looks like a key");
    assert_eq!(keys[2], "0f527604e1deff1329720282d8d3cfa1", "a key");
    assert_eq!(shared.collections, ["fc_1", "0123"]);
    assert!(!c.sync.shared.on);
}

#[test]
fn what_is_wrong_with_shared_files_is_said() {
    let said = problems(
        r#"sync_ca = "/ca.pem"
incomingdir = "/in"
sync_shared = "yes"
shared_uploads = "all"
agents = ["web01"]
[shared]
directory = "files"
interval = "0s"
keeps = "7d"
[[site]]
address = "a"
agents = ["web01"]
collections = ["fc/1"]
[[site]]
address = "b"
agents = ["2f527604e1deff1329720282d8d3cfa1"]
"#,
    );
    for expected in [
        "server.toml:3: `sync_shared` is a text that does not fit; write true or false",
        "server.toml:4: `shared_uploads` is a text that does not fit; write \"off\" or \"first\" or \"changed\"",
        "server.toml:5: unknown key `agents`",
        "server.toml:7: `shared.directory` is the relative path",
        "server.toml:8: `shared.interval` is",
        "server.toml:9: unknown key `shared.keeps`; did you mean `shared.keep`?",
        "server.toml:13: `site.collections` holds \"fc/1\"",
        "server.toml:14: the agent \"2f527604e1deff1329720282d8d3cfa1\" is in the `agents` of \"a\" and of \"b\"",
    ] {
        assert!(said.contains(expected), "{expected}\nin:\n{said}");
    }
    for (mode, wrong) in [("tentacle", true), ("move", true), ("auto", false), ("relay", false)] {
        let site = |rest: &str| {
            format!(
                "{SMALLEST}sync_shared = true\n[[site]]\naddress = \"b\"\npull_mode = \"{mode}\"\n{rest}\n"
            )
        };
        let parsed = Config::parse(Path::new("server.toml"), &site("node = \"plant-7\""));
        assert_eq!(parsed.is_err(), wrong, "{mode}");
        if let Err(said) = parsed {
            assert!(said.to_string().contains(":5: `sync_shared` needs relay"), "{said}");
        }
        config(&site("certificate_name = \"stock.example\""));
    }
    assert!(problems(&format!("shared = 5\n{SMALLEST}")).contains("server.toml:1: `shared` is no table"));
}
