//! `tidegate-send` against a real node: exit codes, messages, TLS.

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use support::Node;
use support::pki::Authority;

const NAME: &str = "web01.1700000000.data";

/// A directory to send from and to get into.
struct Desk {
    directory: tempfile::TempDir,
}

struct Said {
    code: Option<i32>,
    log: String,
    errors: String,
}

impl Desk {
    fn with(files: &[(&str, &[u8])]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        for (name, bytes) in files {
            fs::write(directory.path().join(name), bytes).expect("writes");
        }
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn run(&self, port: u16, arguments: &[&str]) -> Said {
        let output = Command::new(env!("CARGO_BIN_EXE_tidegate-send"))
            .current_dir(self.directory.path())
            .args(["-a", "127.0.0.1", "-p", &port.to_string()])
            .args(arguments)
            .output()
            .expect("runs");
        Said {
            code: output.status.code(),
            log: String::from_utf8_lossy(&output.stdout).into_owned(),
            errors: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

#[test]
fn files_are_sent_and_got_plain_and_compressed() {
    let content = b"line after line\n".repeat(10_000);
    let desk = Desk::with(&[(NAME, b"one"), ("b.5.data", &content), ("a.conf", &content)]);
    let node = Node::start("");
    let port = node.address.port();
    let sent = desk.run(port, &["-v", NAME, "b.5.data", "a.conf"]);
    assert_eq!((sent.code, sent.errors.as_str()), (Some(0), ""));
    let first = format!(
        "[log] Request to send file '{NAME}' size 3b\n[log] Server responded SEND OK\n[log] File sent\n"
    );
    assert!(sent.log.contains(&first), "{}", sent.log);
    assert_eq!(node.root.ready(), [(NAME.into(), b"one".to_vec()), ("b.5.data".into(), content.clone())]);

    let compressed = desk.run(port, &["-z", "b.5.data"]);
    assert_eq!((compressed.code, compressed.log.as_str()), (Some(0), ""), "a repeat, and silent");
    assert_eq!(node.root.ready().len(), 2);

    for form in [&["-g", "a.conf"][..], &["-g", "-z", "a.conf"]] {
        fs::remove_file(desk.path("a.conf")).expect("removes");
        assert_eq!(desk.run(port, form).code, Some(0));
        assert_eq!(fs::read(desk.path("a.conf")).expect("is there"), content);
    }
    assert_eq!(fs::read_dir(desk.path("")).expect("lists").count(), 3, "nothing else is left behind");
}

#[test]
fn failures_exit_1_with_the_stock_clients_words() {
    let desk =
        Desk::with(&[(NAME, b"one"), ("a.conf", b"two"), ("empty.data", b""), ("big.data", &[0; 3000])]);
    let node = Node::start("max_size = 2000\n");
    let port = node.address.port();
    fs::write(node.root.path("conf/a.conf"), "other bytes").expect("writes");
    for (arguments, words) in [
        (&["a.conf"][..], "[err] Server responded SEND ERR (file already exists).\n"),
        (&["big.data"], "[err] Server responded SEND ERR (file is too big).\n"),
        (&["empty.data"], "[err] Server responded SEND ERR (file is too big).\n"),
        (&["missing.data"], "[err] File 'missing.data' does not exist.\n"),
        (&["-g", "nope.conf"], "[err] Server responded RECV ERR (file does not exist).\n"),
        (
            &["-g", "sub/x.conf"],
            "[err] File 'sub/x.conf' cannot be received under this name: the name holds the byte '/', which Tentacle \
             does not allow.\n",
        ),
        (&["-x", "unasked", NAME], "[err] Connection from 127.0.0.1 unexpectedly closed.\n"),
        (&[], "[err] No files to send.\n"),
        (&["-q", "a.conf"], ""),
    ] {
        let said = desk.run(port, arguments);
        assert_eq!((said.code, said.errors.as_str()), (Some(1), words), "{arguments:?}");
    }
    assert!(node.root.ready().is_empty());
    assert_eq!(
        desk.run(1, &[NAME]).errors,
        "[err] Cannot connect to 127.0.0.1 on port 1: Connection refused.\n"
    );
    assert_eq!(desk.run(port, &["-h"]).code, Some(1));
}

#[test]
fn the_password_and_the_local_address_are_used() {
    let desk = Desk::with(&[(NAME, b"one")]);
    let node = Node::start("password = \"geheim\"\n");
    let port = node.address.port();
    assert_eq!(desk.run(port, &["-x", "geheim", "-b", "127.0.0.2", NAME]).code, Some(0));
    node.logs("peer=127.0.0.2:");
    assert_eq!(desk.run(port, &["-x", "wrong", NAME]).code, Some(1));
    assert_eq!(desk.run(port, &[NAME]).code, Some(1));
}

#[test]
fn tls_with_and_without_a_certificate() {
    let desk = Desk::with(&[(NAME, b"one"), ("b.5.data", b"two"), ("c.5.data", b"three")]);
    let ours = Authority::new(&desk.path("ours"));
    let theirs = Authority::new(&desk.path("theirs"));
    let certificate = ours.node();
    let agent = ours.client("agent", "agent/web01", false);
    let node = Node::start(&format!(
        "accept = \"tls\"\nssl_cert = {:?}\nssl_key = {:?}\nssl_ca = {:?}\n",
        certificate.cert, certificate.key, ours.ca
    ));
    let port = node.address.port();
    let text = |path: &PathBuf| path.to_str().expect("printable").to_owned();
    let (cert, key, ca) = (text(&agent.cert), text(&agent.key), text(&ours.ca));
    assert_eq!(desk.run(port, &["-c", NAME]).code, Some(0));
    assert_eq!(desk.run(port, &["-c", "-f", &ca, "b.5.data"]).code, Some(0));
    assert_eq!(desk.run(port, &["-e", &cert, "-k", &key, "-f", &ca, "c.5.data"]).code, Some(0));
    assert_eq!(node.root.ready().len(), 3);
    let distrusted = desk.run(port, &["-c", "-f", &text(&theirs.ca), NAME]);
    assert_eq!(distrusted.code, Some(1));
    assert!(distrusted.errors.starts_with("[err] TLS handshake failed: "), "{}", distrusted.errors);
    assert_eq!(desk.run(port, &[NAME]).code, Some(1), "plain is not accepted");
}
