//! Unchanged clients against a node: the real `tentacle_client` 0.3.0, and `tidegate-send`, which must do the same.
//! Exit codes and printed reasons are those of a stock server.
//!
//! `-e` of the real client cannot work on current Debian; that case, and only that one, runs a temporary copy in which
//! the strings `'0x00'` and `'0x01'` are numbers.

use std::net::SocketAddr;
use std::path::Path;

use tempfile::TempDir;
use tidegate_tests::certificates::Authority;
use tidegate_tests::client::{Client, Outcome};
use tidegate_tests::node::Node;
use tidegate_tests::tap::{Tap, Verdict};

const DATA: &str = "web01.1700000000.data";

const BODY: &[u8] =
    b"<?xml version='1.0' encoding='UTF-8'?>\n<agent_data agent_name='web01'>\n</agent_data>\n";

/// A node, a client and a directory with files to send.
struct Bench {
    authority: Authority,
    node: Node,
    client: Client,
    directory: TempDir,
}

impl Bench {
    fn new(client: Client, settings: &str) -> Bench {
        let authority = Authority::new();
        let node = Node::start(&authority, settings);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let bench = Bench { authority, node, client, directory };
        bench.write(DATA, BODY);
        bench
    }

    fn each(settings: &str, test: impl Fn(Bench)) {
        for client in [Client::Real, Client::Ours] {
            eprintln!("with {client:?}");
            test(Bench::new(client, settings));
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.directory.path().join(name), bytes).expect("the directory is ours");
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        self.run_at(self.node.address(), arguments)
    }

    fn run_at(&self, address: SocketAddr, arguments: &[&str]) -> Outcome {
        let authority = self.authority.certificate();
        self.client.run(self.directory.path(), Some(&authority), address, arguments)
    }

    /// A name that no server takes: the real client hears it from the node, ours says it before it dials.
    fn refuses_name(&self, arguments: &[&str], words: &str) {
        let refused = self.run(arguments);
        match self.client {
            Client::Ours => refused.fails_saying("does not allow"),
            Client::Real | Client::RealWithNumbers(_) => refused.fails_saying(words),
        }
    }

    fn packages(&self) -> Vec<Vec<u8>> {
        self.node.packages().iter().map(|path| std::fs::read(path).expect("a package")).collect()
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn a_file_is_sent_in_plain() {
    Bench::each("", |bench| {
        bench.run(&[DATA]).succeeds();
        assert_eq!(bench.packages(), [BODY]);
    });
}

#[test]
fn a_file_is_sent_with_tls_and_no_certificate() {
    Bench::each("", |bench| {
        bench.run(&["-c", DATA]).succeeds();
        assert_eq!(bench.packages(), [BODY]);
    });
}

#[test]
fn a_file_is_sent_with_a_certificate_and_the_node_is_verified() {
    for client in [Client::real_with_numbers(), Client::Ours] {
        eprintln!("with {client:?}");
        let bench = Bench::new(client, "");
        let agent = bench.authority.agent("web01");
        let [certificate, key] = [text(&agent.certificate), text(&agent.key)];
        let authority = text(&bench.authority.certificate());
        bench.run(&["-e", &certificate, "-k", &key, "-f", &authority, DATA]).succeeds();
        assert_eq!(bench.packages(), [BODY]);

        let stranger = text(&Authority::new().certificate());
        let refused = bench.run(&["-e", &certificate, "-k", &key, "-f", &stranger, DATA]);
        assert_eq!(refused.code, Some(1), "a node of another authority: {}", refused.said);
    }
}

#[test]
fn several_files_go_over_one_connection() {
    Bench::each("", |bench| {
        let names: Vec<String> = (0..5).map(|number| format!("web01.170000000{number}.data")).collect();
        for name in &names {
            bench.write(name, name.as_bytes());
        }
        let arguments: Vec<&str> = names.iter().map(String::as_str).collect();
        let tap = Tap::new(bench.node.address(), |_| Verdict::Pass);
        bench.run_at(tap.address(), &arguments).succeeds();
        assert_eq!(tap.connections(), 1);
        let mut stored = bench.packages();
        stored.sort();
        assert_eq!(stored, names.iter().map(|name| name.as_bytes().to_vec()).collect::<Vec<_>>());
    });
}

#[test]
fn the_same_file_again_is_fine_and_stored_once() {
    Bench::each("", |bench| {
        bench.run(&[DATA]).succeeds();
        bench.run(&[DATA]).succeeds();
        assert_eq!(bench.packages(), [BODY]);
    });
}

#[test]
fn a_password_opens_the_node_and_a_wrong_one_does_not() {
    Bench::each("password = \"secret\"", |bench| {
        for wrong in [&["-x", "wrong", DATA][..], &[DATA]] {
            let refused = bench.run(wrong);
            assert_eq!(refused.code, Some(1), "{}", refused.said);
        }
        assert_eq!(bench.packages().len(), 0);
        bench.run(&["-x", "secret", DATA]).succeeds();
        assert_eq!(bench.packages(), [BODY]);
    });
}

#[test]
fn refusals_come_with_the_reason_of_the_protocol() {
    Bench::each("max_size = 2000", |bench| {
        bench.write("a~b.1.data", b"x");
        bench.refuses_name(&["a~b.1.data"], "SEND ERR (invalid file name)");
        bench.write("big.1.data", &[b'x'; 2001]);
        bench.run(&["big.1.data"]).fails_saying("SEND ERR (file is too big)");
        bench.write("empty.1.data", b"");
        bench.run(&["empty.1.data"]).fails_saying("SEND ERR (file is too big)");
        bench.write("agent.conf", b"first");
        bench.run(&["agent.conf"]).succeeds();
        bench.write("agent.conf", b"second");
        bench.run(&["agent.conf"]).fails_saying("SEND ERR (file already exists)");
        assert_eq!(bench.packages().len(), 0);
    });
}

#[test]
fn the_first_refusal_ends_a_series() {
    Bench::each("", |bench| {
        bench.write("a~b.1.data", b"x");
        bench.refuses_name(&["a~b.1.data", DATA], "SEND ERR (invalid file name)");
        assert_eq!(bench.packages().len(), 0);
    });
}

#[test]
fn shared_files_are_fetched() {
    Bench::each("", |bench| {
        bench.write("agent.conf", b"interval 300\n");
        bench.run(&["agent.conf"]).succeeds();
        bench.write("agent.conf", b"lost");
        for arguments in [&["-g", "agent.conf"][..], &["-c", "-g", "agent.conf"]] {
            std::fs::remove_file(bench.directory.path().join("agent.conf")).expect("it is there");
            bench.run(arguments).succeeds();
            let fetched = std::fs::read(bench.directory.path().join("agent.conf")).expect("it was fetched");
            assert_eq!(fetched, b"interval 300\n");
        }
        bench.run(&["-g", "missing.conf"]).fails_saying("RECV ERR (file does not exist)");
        bench.refuses_name(&["-g", "a~b.conf"], "RECV ERR (file has an invalid file name)");
    });
}

#[test]
fn data_packages_are_not_fetched_by_agents() {
    Bench::each("", |bench| {
        bench.run(&[DATA]).succeeds();
        std::fs::remove_file(bench.directory.path().join(DATA)).expect("it is there");
        bench.run(&["-g", DATA]).fails_saying("RECV ERR");
        assert!(!bench.directory.path().join(DATA).exists());
        assert_eq!(bench.packages(), [BODY]);
    });
}

#[test]
fn a_compressed_file_is_stored_unpacked() {
    let bench = Bench::new(Client::Ours, "");
    bench.run(&["-z", DATA]).succeeds();
    assert_eq!(bench.packages(), [BODY]);
}
