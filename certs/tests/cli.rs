//! The program as an operator runs it, and its certificates as OpenSSL reads them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

/// Runs the program in `dir`; checks the exit code and gives both outputs, first stdout.
#[track_caller]
fn certs(dir: &Path, arguments: &str, code: i32) -> String {
    let mut command = assert_cmd::Command::cargo_bin("tidegate-certs").unwrap();
    let output = command.args(arguments.split_whitespace()).current_dir(dir).output().unwrap();
    let text = both(&output);
    assert_eq!(output.status.code(), Some(code), "tidegate-certs {arguments}: {text}");
    text
}

#[track_caller]
fn openssl(dir: &Path, arguments: &str) -> String {
    let mut command = Command::new("openssl");
    let output =
        command.args(arguments.split_whitespace()).current_dir(dir).stdin(Stdio::null()).output().unwrap();
    let text = both(&output);
    assert!(output.status.success(), "openssl {arguments}: {text}");
    text
}

fn both(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[track_caller]
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in: {text}");
    }
}

/// An authority in `pki/` with one certificate of each role.
fn installation() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    certs(at, "init --dir pki --name Example", 0);
    certs(at, "issue --dir pki server central-1", 0);
    certs(at, "issue --dir pki node plant-7 --ip 127.0.0.1 --ip fd00::7 --dns plant-7.example.org", 0);
    certs(at, "issue --dir pki agent web01", 0);
    dir
}

#[test]
fn openssl_agrees_with_what_was_issued() {
    let dir = installation();
    let at = dir.path();
    for (purpose, file) in
        [("sslclient", "server-central-1"), ("sslserver", "node-plant-7"), ("sslclient", "agent-web01")]
    {
        let verified =
            openssl(at, &format!("verify -x509_strict -CAfile pki/ca.pem -purpose {purpose} pki/{file}.pem"));
        says(&verified, &["OK"]);
    }
    openssl(at, "verify -CAfile pki/ca.pem -verify_ip 127.0.0.1 pki/node-plant-7.pem");
    openssl(at, "verify -CAfile pki/ca.pem -verify_hostname plant-7.example.org pki/node-plant-7.pem");

    let node = openssl(at, "x509 -in pki/node-plant-7.pem -noout -text");
    says(
        &node,
        &["URI:tidegate:node/plant-7", "IP Address:127.0.0.1", "DNS:plant-7.example.org", "CA:FALSE"],
    );
    says(
        &node,
        &["TLS Web Server Authentication", "Digital Signature", "ASN1 OID: prime256v1", "Version: 3"],
    );
    assert!(!node.contains("TLS Web Client Authentication"), "{node}");
    for (file, uri) in [("server-central-1", "server/central-1"), ("agent-web01", "agent/web01")] {
        let text = openssl(at, &format!("x509 -in pki/{file}.pem -noout -text"));
        says(&text, &["TLS Web Client Authentication", &format!("URI:tidegate:{uri}"), "CA:FALSE"]);
        assert!(!text.contains("TLS Web Server Authentication"), "{text}");
    }
    let authority = openssl(at, "x509 -in pki/ca.pem -noout -text");
    says(&authority, &["CA:TRUE, pathlen:0", "Certificate Sign, CRL Sign", "O = Example"]);
    openssl(at, "x509 -in pki/node-plant-7.pem -noout -checkend 70000000");
}

#[test]
fn keys_are_pkcs8_and_for_their_owner_alone() {
    let dir = installation();
    let issued = certs(dir.path(), "issue --dir pki node plant-8 --ip 127.0.0.1", 0);
    says(&issued, &["chgrp tidegate pki/node-plant-8.key && chmod 0640 pki/node-plant-8.key"]);
    for key in ["ca", "server-central-1", "node-plant-7", "agent-web01"] {
        let path = dir.path().join(format!("pki/{key}.key"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{key}");
        assert!(fs::read_to_string(&path).unwrap().starts_with("-----BEGIN PRIVATE KEY-----"), "{key}");
    }
    for file in ["ca", "server-central-1", "node-plant-7", "agent-web01"] {
        let public = openssl(dir.path(), &format!("pkey -in pki/{file}.key -pubout"));
        assert_eq!(public, openssl(dir.path(), &format!("x509 -in pki/{file}.pem -noout -pubkey")));
    }
}

#[test]
fn nothing_is_ever_overwritten() {
    let dir = installation();
    let at = dir.path();
    let content = || {
        let mut files: Vec<_> =
            fs::read_dir(at.join("pki")).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect::<Vec<_>>()
    };
    let before = content();
    says(&certs(at, "init --dir pki", 1), &["pki/ca.key exists and is never overwritten"]);
    says(&certs(at, "issue --dir pki agent web01", 1), &["agent-web01.key exists", "--out"]);
    assert!(before == content());

    // Where only the certificate is in the way, no orphan key stays behind.
    fs::write(at.join("taken.pem"), "mine").unwrap();
    says(&certs(at, "issue --dir pki agent web02 --out taken", 1), &["taken.pem exists"]);
    assert_eq!(fs::read(at.join("taken.pem")).unwrap(), b"mine");
    assert!(!at.join("taken.key").exists());
}

#[test]
fn a_certificate_does_not_outlive_its_authority() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    certs(at, "init --dir pki --days 10", 0);
    says(&certs(at, "issue --dir pki server central-1", 0), &["ends with its authority"]);
    let end = |file: &str| openssl(at, &format!("x509 -in pki/{file}.pem -noout -enddate"));
    assert_eq!(end("ca"), end("server-central-1"));
}

#[test]
fn mistakes_on_the_command_line_are_explained() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    says(&certs(at, "", 64), &["Usage"]);
    says(&certs(at, "issue --dir pki king arthur", 64), &["king", "server", "node", "agent"]);
    says(&certs(at, "issue --dir pki node plant-7", 64), &["--ip ADDRESS", "--dns HOST"]);
    says(&certs(at, "issue --dir pki node ../x --ip 10.0.0.1", 64), &["is not a name"]);
    says(&certs(at, "issue --dir pki node x --dns 10.0.0.1", 64), &["use --ip 10.0.0.1"]);
    says(&certs(at, "issue --dir pki node x --dns a_b!", 64), &["not a host name"]);
    says(
        &certs(at, "issue --dir pki agent web01", 78),
        &["no authority in pki", "tidegate-certs init --dir pki"],
    );
    says(&certs(at, "check", 64), &["--connect"]);
    says(&certs(at, "--help", 0), &["Examples:", "issue --dir /etc/tidegate/pki node plant-7"]);
    says(&certs(at, "check --help", 0), &["belong to the end that dials", "Examples:", "--node-cert"]);
    says(&certs(at, "--version", 0), &["tidegate-certs 0."]);
}

#[test]
fn inspect_tells_good_from_bad() {
    let dir = installation();
    let at = dir.path();
    let good = certs(at, "inspect pki/node-plant-7.pem pki/node-plant-7.key pki/ca.pem", 0);
    says(&good, &["tidegate:node/plant-7", "IP 127.0.0.1", "DNS plant-7.example.org", "listening (a node)"]);
    says(&good, &["ECDSA P-256", "PKCS#8, not encrypted", "belongs to", "as an authority it belongs"]);
    assert!(good.contains("824 days left") || good.contains("825 days left"), "{good}");
    let fingerprint = openssl(at, "x509 -in pki/node-plant-7.pem -noout -fingerprint -sha256");
    let fingerprint = fingerprint.trim().rsplit('=').next().unwrap().replace(':', "").to_lowercase();
    says(&good, &[&fingerprint]);

    openssl(at, "genrsa -out v1.key 1024");
    openssl(at, "req -new -key v1.key -subj /CN=old -out v1.csr");
    openssl(at, "x509 -req -in v1.csr -signkey v1.key -days 30 -out v1.pem");
    says(&certs(at, "inspect v1.pem", 1), &["BAD: it is X.509 v1", "RSA 1024 bits", "cannot be used"]);
    says(&certs(at, "inspect v1.csr", 1), &["certificate request", "CN=old", "its key cannot be used"]);
    openssl(at, "req -new -key pki/agent-web01.key -subj /CN=new -out new.csr");
    says(&certs(at, "inspect new.csr", 0), &["certificate request", "CN=new", "ECDSA P-256"]);
    openssl(at, "pkcs8 -topk8 -in pki/agent-web01.key -out locked.key -passout pass:x");
    says(&certs(at, "inspect locked.key", 1), &["encrypted private key", "openssl pkcs8 -in locked.key"]);
    openssl(at, "genrsa -aes128 -traditional -passout pass:x -out old.key 2048");
    says(&certs(at, "inspect old.key", 1), &["openssl pkcs8 -topk8 -nocrypt -in old.key"]);
    openssl(at, "rsa -in old.key -passin pass:x -traditional -out pkcs1.key");
    says(&certs(at, "inspect pkcs1.key pki/ca.pem", 0), &["RSA 2048 bits, PKCS#1", "belongs to none"]);
    openssl(at, "ecparam -name prime256v1 -genkey -out sec1.key");
    says(&certs(at, "inspect sec1.key", 0), &["ECDSA P-256, SEC1"]);

    fs::set_permissions(at.join("sec1.key"), fs::Permissions::from_mode(0o640)).unwrap();
    certs(at, "inspect sec1.key", 0);
    fs::set_permissions(at.join("sec1.key"), fs::Permissions::from_mode(0o644)).unwrap();
    says(&certs(at, "inspect sec1.key", 1), &["every user of this machine may read it", "chmod 0600"]);
    fs::write(at.join("empty"), "").unwrap();
    says(&certs(at, "inspect empty", 78), &["empty: is empty"]);
    says(&certs(at, "inspect absent pki/ca.pem", 1), &["absent: does not exist", "as an authority"]);
}

#[test]
fn a_pair_of_ends_is_checked_in_memory() {
    let dir = installation();
    let at = dir.path();
    let node = "--node-cert pki/node-plant-7.pem --node-key pki/node-plant-7.key --node-ca pki/ca.pem";
    let server = "--ca pki/ca.pem --cert pki/server-central-1.pem --key pki/server-central-1.key";
    let good = certs(at, &format!("check {node} {server} --role server --address 127.0.0.1"), 0);
    says(&good, &["may pull packages", "tidegate:node/plant-7", "the handshake passes"]);
    certs(at, &format!("check {node} {server} --node plant-7"), 0);

    let elsewhere = certs(at, &format!("check {node} {server} --address 10.9.9.9"), 1);
    says(&elsewhere, &["the handshake fails", "dialling end", "not valid for 10.9.9.9", "127.0.0.1"]);
    says(&elsewhere, &["issue node plant-7 --dns HOST --ip ADDRESS", "listening end: the client refused"]);
    let other = certs(at, &format!("check {node} {server} --node plant-8"), 1);
    says(&other, &["tidegate:node/plant-8 was expected"]);
    says(&certs(at, &format!("check {node} {server}"), 64), &["--address HOST"]);

    let agent = "--ca pki/ca.pem --cert pki/agent-web01.pem --key pki/agent-web01.key --address 127.0.0.1";
    says(&certs(at, &format!("check {node} {agent}"), 0), &["may send, not pull"]);
    says(&certs(at, &format!("check {node} {agent} --role server"), 1), &["the role is agent, not server"]);

    certs(at, "init --dir other", 0);
    certs(at, "issue --dir other server central-1", 0);
    let stranger = "--ca pki/ca.pem --cert other/server-central-1.pem --key other/server-central-1.key";
    let refused = certs(at, &format!("check {node} {stranger} --address 127.0.0.1"), 1);
    says(
        &refused,
        &["listening end: the client's certificate was refused here", "no authority in the CA file"],
    );
    says(&refused, &["dialling end: the server does not trust the authority"]);
    let mixed =
        "--ca pki/ca.pem --cert pki/server-central-1.pem --key pki/agent-web01.key --address 127.0.0.1";
    says(&certs(at, &format!("check {node} {mixed}"), 78), &["is not the key of the certificate"]);
}

/// A TLS server that is not ours.
struct Foreign {
    child: Child,
    address: String,
}

impl Foreign {
    fn start(dir: &Path, arguments: &str) -> Self {
        let mut child = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0"])
            .args(arguments.split_whitespace())
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let address = lines.find_map(|line| line.strip_prefix("ACCEPT ").map(str::to_owned)).unwrap();
        // The rest has to be read, or the server would block on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_real_server_is_checked_over_the_network() {
    let dir = installation();
    let at = dir.path();
    let own = "--ca pki/ca.pem --cert pki/server-central-1.pem --key pki/server-central-1.key";
    let node = "-cert pki/node-plant-7.pem -key pki/node-plant-7.key -CAfile pki/ca.pem -Verify 1 -verify_return_error";
    for version in ["-tls1_2", "-tls1_3"] {
        let server = Foreign::start(at, &format!("{node} {version}"));
        let address = &server.address;
        let good = certs(at, &format!("check --connect {address} {own}"), 0);
        says(&good, &["tidegate:node/plant-7", "a stock Tentacle server", "the handshake passes"]);
        let bare = certs(at, &format!("check --connect {address} --ca pki/ca.pem"), 1);
        says(&bare, &["certificate and got none"]);
        says(&certs(at, &format!("check --connect {address} {own} --node plant-8"), 1), &["was expected"]);
    }
    for (protocols, said) in [
        ("tentacle,tidegate/1", "protocols: relay (tidegate/1) and Tentacle (tentacle)"),
        ("tentacle", "protocols: Tentacle (tentacle)"),
    ] {
        let server = Foreign::start(at, &format!("{node} -alpn {protocols}"));
        let good = certs(at, &format!("check --connect {} {own}", server.address), 0);
        says(&good, &["a Tidegate node", said]);
    }
    let closed = {
        let server = Foreign::start(at, node);
        server.address.clone()
    };
    says(&certs(at, &format!("check --connect {closed} {own}"), 69), &["refused"]);
}
