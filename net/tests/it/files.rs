//! Every kind of wrong certificate and key file, and the words that get an operator out of it.

use std::fs;
use std::path::Path;

use crate::pki::{Pki, openssl};
use tidegate_net::pem;

#[track_caller]
fn says(result: Result<impl Sized, pem::PemError>, parts: &[&str]) {
    let text = result.map(drop).expect_err("the file had to be refused").to_string();
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in: {text}");
    }
}

#[test]
fn keys_of_all_kinds_are_read_and_belong_to_their_certificates() {
    let pki = Pki::new();
    let dir = pki.dir.path();
    openssl(dir, "req -x509 -newkey rsa:2048 -nodes -keyout pkcs8.key -out rsa.pem -subj /CN=rsa -days 30");
    openssl(dir, "rsa -in pkcs8.key -traditional -out pkcs1.key");
    assert!(fs::read_to_string(dir.join("pkcs1.key")).unwrap().contains("BEGIN RSA PRIVATE KEY"));
    openssl(dir, "ecparam -name prime256v1 -genkey -out sec1.key");
    assert!(fs::read_to_string(dir.join("sec1.key")).unwrap().contains("BEGIN EC PRIVATE KEY"));
    openssl(dir, "req -x509 -new -key sec1.key -out ec.pem -subj /CN=ec -days 30");
    for (certificate, key) in [("rsa.pem", "pkcs8.key"), ("rsa.pem", "pkcs1.key"), ("ec.pem", "sec1.key")] {
        pem::certified_key(&dir.join(certificate), &dir.join(key)).unwrap();
    }
}

#[test]
fn encrypted_keys_come_with_the_command_that_opens_them() {
    let pki = Pki::new();
    let dir = pki.dir.path();
    let node = pki.node();
    openssl(dir, "pkcs8 -topk8 -in node.key -out new.key -passout pass:secret");
    openssl(dir, "genrsa -aes128 -traditional -passout pass:secret -out old.key 2048");
    let (new, old) = (dir.join("new.key"), dir.join("old.key"));
    let shown = |path: &Path| format!("-in {0} -out {0}.plain", path.display());
    says(pem::private_key(&new), &["encrypted key", "openssl pkcs8 -in", &shown(&new)]);
    says(pem::private_key(&old), &["encrypted key", "openssl pkcs8 -topk8 -nocrypt -in", &shown(&old)]);

    // The commands do what they promise.
    openssl(dir, "pkcs8 -in new.key -out new.plain -passin pass:secret");
    pem::certified_key(&node.cert, &dir.join("new.plain")).unwrap();
    openssl(dir, "pkcs8 -topk8 -nocrypt -in old.key -out old.plain -passin pass:secret");
    pem::private_key(&dir.join("old.plain")).unwrap();
}

#[test]
fn a_key_of_another_certificate_is_told_from_a_chain_in_the_wrong_order() {
    let pki = Pki::new();
    let (node, server) = (pki.node(), pki.server());
    says(
        pem::certified_key(&node.cert, &server.key),
        &[
            "server.key: is not the key of the certificate",
            "tidegate:node/plant-7",
            "openssl pkey",
            "openssl x509",
        ],
    );
    let turned = pki.path("turned.pem");
    fs::write(&turned, fs::read_to_string(pki.ca()).unwrap() + &fs::read_to_string(&node.cert).unwrap())
        .unwrap();
    says(pem::certified_key(&turned, &node.key), &["turned.pem", "number 2", "must be the first"]);
}

#[test]
fn swapped_empty_cut_and_foreign_files_are_named() {
    let pki = Pki::new();
    let node = pki.node();
    let file = |name: &str, content: &[u8]| {
        fs::write(pki.path(name), content).unwrap();
        pki.path(name)
    };
    says(pem::certificates(&node.key), &["node.key", "a private key and no certificate", "swapped"]);
    says(pem::private_key(&node.cert), &["node.pem", "a certificate and no private key", "swapped"]);
    says(pem::certificates(&file("empty", b" \n")), &["is empty"]);
    says(pem::certificates(&file("text", b"hello")), &["no -----BEGIN line"]);
    says(pem::certificates(&pki.path("nowhere")), &["nowhere: does not exist"]);

    let good = fs::read_to_string(&node.cert).unwrap();
    says(pem::certificates(&file("cut", &good.as_bytes()[..good.len() - 40])), &["END line is missing"]);
    let spoilt = good.replacen("MII", "M!I", 1);
    says(pem::certificates(&file("spoilt", spoilt.as_bytes())), &["CERTIFICATE is damaged", "not base64"]);
    let two = fs::read_to_string(&node.key).unwrap().repeat(2);
    says(pem::private_key(&file("two", two.as_bytes())), &["holds 2 private keys"]);

    let dir = pki.dir.path();
    openssl(dir, "x509 -in node.pem -outform DER -out node.der");
    says(pem::certificates(&pki.path("node.der")), &["is a DER certificate", "openssl x509 -inform DER"]);
    openssl(dir, "pkcs12 -export -in node.pem -inkey node.key -out node.p12 -passout pass:");
    says(pem::certificates(&pki.path("node.p12")), &["PKCS#12", "openssl pkcs12 -nodes"]);
    openssl(dir, "x509 -in node.pem -trustout -out trusted.pem");
    says(pem::certificates(&pki.path("trusted.pem")), &["TRUSTED CERTIFICATE", "openssl x509 -in"]);
    openssl(dir, "req -new -key node.key -subj /CN=x -out node.csr");
    says(pem::certificates(&pki.path("node.csr")), &["certificate request", "sign it first"]);
}

#[test]
fn words_around_the_blocks_and_dos_line_ends_do_no_harm() {
    let pki = Pki::new();
    let node = pki.node();
    let text =
        format!("\u{feff}Bag Attributes\n{}", fs::read_to_string(&node.cert).unwrap()).replace('\n', "\r\n");
    fs::write(pki.path("dos.pem"), text).unwrap();
    assert_eq!(pem::certificates(&pki.path("dos.pem")).unwrap(), pem::certificates(&node.cert).unwrap());
}

#[test]
fn a_key_too_weak_for_tls_is_refused_before_the_first_handshake() {
    let pki = Pki::new();
    let dir = pki.dir.path();
    openssl(dir, "req -x509 -newkey rsa:1024 -nodes -keyout weak.key -out weak.pem -subj /CN=weak -days 30");
    says(pem::certified_key(&dir.join("weak.pem"), &dir.join("weak.key")), &["cannot be used here", "2048"]);
}
