//! `shared …` beside a running server, and without one.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::{Manner, Server, Site, text, until};

const CONF: &str = "2f527604e1deff1329720282d8d3cfa1.conf";

/// A server whose console wrote a configuration, and a site that sends data of that agent and speaks no relay.
fn sharing() -> (Site, Server) {
    let site = Site::start(Manner::Honest);
    site.put("web01.1700000000.data", b"data");
    let server = Server::new(&[], "");
    let settings = "sync_shared = true\nsync_interval = \"100ms\"\n[shared]\ninterval = \"50ms\"";
    server.configure(&[("plant-7", site.address)], settings);
    for folder in ["conf", "md5"] {
        fs::create_dir(server.incoming().join(folder)).unwrap();
    }
    fs::write(conf(&server), "module_a\nmodule_b\n").unwrap();
    // printf 'module_a\nmodule_b\n' | md5sum
    fs::write(
        server.incoming().join("md5").join(CONF.replace("conf", "md5")),
        "3edd81a7aa89331ea4010b547461ac80",
    )
    .unwrap();
    (site, server)
}

fn conf(server: &Server) -> PathBuf {
    server.incoming().join("conf").join(CONF)
}

fn json(server: &Server, arguments: &[&str]) -> Value {
    let output = server.output(&[arguments, &["--json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn fails(server: &Server, arguments: &[&str], code: i32, words: &str) {
    let output = server.output(arguments);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(words), "{said}");
}

/// A version of the configuration that is kept, with its content.
fn keep(server: &Server, content: &[u8]) {
    use sha2::{Digest, Sha256};

    let memory = server.state().join("shared");
    let digest = Sha256::digest(content);
    let name: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let directory = memory.join("objects").join(&name[..2]);
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join(&name), content).unwrap();
    let db = rusqlite::Connection::open(memory.join("shared.db")).unwrap();
    db.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    db.execute(
        "INSERT INTO kept (site, name, digest, size, why, at) VALUES ('plant-7', ?1, ?2, ?3, 'conflict', unixepoch())",
        rusqlite::params![CONF.as_bytes(), digest.as_slice(), content.len()],
    )
    .unwrap();
}

#[test]
fn what_a_site_only_says_is_its_own_is_withheld_until_an_operator_pushes_it() {
    let (_site, server) = sharing();
    let daemon = server.run();
    let listed = || json(&server, &["shared", "list"])["pairs"].as_array().unwrap().clone();
    until("the claim", || !listed().is_empty());
    let pair = &listed()[0];
    assert_eq!((&pair["site"], &pair["name"]), (&"plant-7".into(), &CONF.into()));
    assert_eq!((&pair["state"], &pair["agent"]), (&"withheld".into(), &"web01".into()));
    let table = text(&server.output(&["shared", "list"]).stdout);
    assert!(table.contains("SITE     NAME") && table.contains("withheld"), "{table}");
    fails(&server, &["shared", "push", "none.zip", "--site", "plant-7"], 1, "nothing to push");
    fails(&server, &["shared", "push", CONF, "--site", "plant-8"], 64, "there are: plant-7");
    fails(&server, &["shared", "push", CONF], 64, "--site");
    let pushed = json(&server, &["shared", "push", CONF, "--site", "plant-7"]);
    assert_eq!(pushed["pairs"][0]["outcome"], "pushed");
    assert_eq!(listed()[0]["state"], "on-its-way");
    let diff = text(&server.output(&["shared", "diff", CONF]).stdout);
    assert!(
        diff.contains("plant-7  2f527604e1deff1329720282d8d3cfa1.conf: on its way\n  here    "),
        "{diff}"
    );
    let status = text(&server.output(&["status"]).stdout);
    assert!(status.contains("SHARED"), "{status}");
    assert_eq!(json(&server, &["status"])["sites"][0]["shared"]["agents"], 1);
    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("whose configuration is here already"), "{log}");
    assert_eq!(listed()[0]["state"], "on-its-way", "without a server, too");
}

#[test]
fn a_kept_version_is_restored_beside_a_running_server() {
    let (_site, server) = sharing();
    let daemon = server.run();
    let memory = server.state().join("shared/shared.db");
    until("the memory", || memory.exists());
    until("the claim", || !json(&server, &["shared", "list"])["pairs"].as_array().unwrap().is_empty());
    keep(&server, b"module_c\n");
    let list = text(&server.output(&["shared", "list"]).stdout);
    assert!(
        list.contains("conflict: the other version is kept") && list.contains("shared restore KEPT"),
        "{list}"
    );
    fails(&server, &["shared", "restore", "9"], 1, "no version of 9 is kept");
    fails(&server, &["shared", "restore", CONF], 64, "say --yes");
    let restored = json(&server, &["shared", "restore", "1", "--yes"]);
    assert_eq!(restored["pairs"][0]["outcome"], "restored");
    assert_eq!(fs::read(conf(&server)).unwrap(), b"module_c\n");
    let kept = json(&server, &["shared", "list"])["kept"].clone();
    assert_eq!(kept.as_array().unwrap().len(), 2, "what was overwritten is kept: {kept}");
    let newest = kept[0]["id"].to_string();
    assert_eq!(kept[0]["why"], "replaced");
    json(&server, &["shared", "restore", &newest, "--yes"]);
    assert_eq!(fs::read(conf(&server)).unwrap(), b"module_a\nmodule_b\n");
    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn what_is_not_set_up_is_said() {
    let server = Server::new(&[("plant-7", "127.0.0.1:1".parse().unwrap())], "");
    fails(&server, &["shared", "list"], 78, "write `sync_shared = true`");
    assert_eq!(server.output(&["validate"]).status.code(), Some(0));
    server.configure(&[("plant-7", "127.0.0.1:1".parse().unwrap())], "sync_shared = true");
    fails(&server, &["validate"], 78, "conf is no directory; correct `directory` in [shared]");
    fails(&server, &["shared", "list"], 78, "cannot read the shared files in");
    for folder in ["conf", "md5", "collections", "commands"] {
        fs::create_dir(server.incoming().join(folder)).unwrap();
    }
    assert_eq!(server.output(&["validate"]).status.code(), Some(0));
    assert_eq!(json(&server, &["shared", "list"])["pairs"], Value::Array(vec![]));
    fails(&server, &["shared", "push", "fc_1.zip", "--site", "plant-7"], 75, "has not run yet");
    let status = json(&server, &["status"]);
    assert_eq!(status["sites"][0]["shared"]["synced"], Value::Null);
}
