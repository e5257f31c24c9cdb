//! The process: its command line, exit codes, lock and end.

mod support;

use std::path::Path;
use std::process::{Command, Output};

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use support::{BINARY, Node, Root};

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = Command::new(BINARY).args(arguments).output().expect("runs");
    (status.code(), String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr))
}

fn path(path: &Path) -> &str {
    path.to_str().expect("printable")
}

#[test]
fn the_command_line_has_its_exit_codes() {
    assert_eq!(run(&["--version"]).0, Some(0));
    assert_eq!(run(&["--help"]).0, Some(0));
    assert_eq!(run(&[]).0, Some(64));
    assert_eq!(run(&["run"]).0, Some(64));
    assert_eq!(run(&["start", "--config", "x"]).0, Some(64));
    let (code, words) = run(&["run", "--config", "/nonexistent"]);
    assert_eq!(code, Some(78));
    assert!(words.contains("/nonexistent: cannot be read"), "{words}");
}

#[test]
fn validate_accepts_the_sample_and_names_every_mistake() {
    let desk = Root::new("");
    let sample = include_str!("../../init/buffer-node.toml");
    // Not every host that runs this test has the directory of the sample.
    let storage = desk.path("");
    let installed = sample.replace("\"/var/lib/tidegate\"", &format!("{storage:?}"));
    std::fs::write(&desk.config, installed).expect("writes");
    for form in ["validate", "-t"] {
        let (code, words) = run(&[form, "--config", path(&desk.config)]);
        assert_eq!(code, Some(0), "{words}");
        assert!(words.contains("valid"), "{words}");
    }
    let root = Root::new("prot = 1\n[limits]\nidle = 3\n");
    let (code, words) = run(&["validate", "--config", path(&root.config)]);
    assert_eq!(code, Some(78));
    assert!(words.contains(":4: unknown key `prot`") && words.contains(":6: `limits.idle`"), "{words}");
    assert!(!root.path("").exists(), "validating makes nothing");
}

#[test]
fn validate_loads_the_certificates() {
    let root = Root::new("ssl_cert = \"/nonexistent.pem\"\nssl_key = \"/nonexistent.key\"\nprot = 1\n");
    let (code, words) = run(&["validate", "--config", path(&root.config)]);
    assert_eq!(code, Some(78));
    for problem in [":4: `ssl_cert`: /nonexistent.pem", ":5: `ssl_key`: /nonexistent.key", ":6: unknown key"]
    {
        assert!(words.contains(problem), "no {problem} in {words}");
    }
}

#[test]
fn one_process_has_the_spool() {
    let node = Node::start("");
    let (code, words) = run(&["run", "--config", path(&node.root.config)]);
    assert_eq!(code, Some(75), "{words}");
    assert!(words.contains("lock is held by"), "{words}");
    assert_eq!(node.connect().send("a.5.data", b"x"), "SEND OK", "the first one is not disturbed");
}

#[test]
fn a_taken_port_is_a_temporary_failure() {
    let node = Node::start("");
    let root = Root::new("");
    let text = std::fs::read_to_string(&root.config).expect("reads");
    let port = format!("port = {}", node.address.port());
    std::fs::write(&root.config, text.replace("port = 0", &port)).expect("writes");
    let (code, words) = run(&["run", "--config", path(&root.config)]);
    assert_eq!(code, Some(75), "{words}");
    assert!(words.contains("cannot listen"), "{words}");
}

#[test]
fn the_port_is_taken_before_the_spool_is_opened() {
    let node = Node::start("");
    let text = std::fs::read_to_string(&node.root.config).expect("reads");
    let config = node.root.path("../again.toml");
    std::fs::write(&config, text.replace("port = 0", &format!("port = {}", node.address.port())))
        .expect("writes");
    let (code, words) = run(&["run", "--config", path(&config)]);
    assert_eq!(code, Some(75), "{words}");
    assert!(words.contains("cannot listen") && !words.contains("lock is held"), "{words}");
}

#[test]
fn the_limit_of_open_files_is_raised_and_said_to_be_too_low() {
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -Sn 100; ulimit -Hn 300; exec \"$0\" \"$@\"", BINARY]);
    let node = Root::new("max_connections = 100\n").start_by(shell);
    node.logs("at most 300 files can be open");
    let limit = getrlimit_of(node.pid());
    assert_eq!((limit.current, limit.maximum), (Some(300), Some(300)));
}

fn getrlimit_of(process: Pid) -> Rlimit {
    // Setting what the node has just set itself is the portable way to ask.
    let limit = Rlimit { current: Some(300), maximum: Some(300) };
    prlimit(Some(process), Resource::Nofile, limit).expect("is ours")
}

#[test]
fn sigterm_finishes_what_is_in_flight_and_closes_the_rest() {
    let mut node = Node::start("");
    let (mut idle, mut sending) = (node.connect(), node.connect());
    assert_eq!(idle.send("a.5.data", b"x"), "SEND OK");
    assert_eq!(sending.ask("SEND <b.5.data> SIZE 5"), "SEND OK");
    sending.say("he");
    node.signal(Signal::TERM);
    assert!(idle.is_closed());
    let shut = (0..1000).any(|_| std::net::TcpStream::connect(node.address).is_err());
    assert!(shut, "nobody new is let in");
    assert_eq!(sending.say("llo").line(), "SEND OK");
    assert!(sending.is_closed());
    assert_eq!(node.wait().code(), Some(0));
    assert_eq!(node.root.ready().len(), 2);
}

#[test]
fn the_totals_are_told_at_the_end() {
    let mut node = Node::start("insecure = true\nmax_connections_per_address = 1\n");
    let mut client = node.connect();
    assert_eq!(client.send("a.5.data", b"12345"), "SEND OK");
    assert_eq!(client.send("b.5.data", b"123"), "SEND OK");
    assert_eq!(client.send("b.5.data", b"123"), "SEND OK");
    for _ in 0..25 {
        assert_eq!(client.send("a/b", b"x"), "SEND ERR (invalid file name)");
    }
    client.get("MV <a.5.data>").expect("a body");
    assert!(node.connect().is_closed());
    client.say("QUIT\n");
    assert!(client.is_closed());
    node.signal(Signal::TERM);
    assert_eq!(node.wait().code(), Some(0));
    let line = node.logs("totals since the start");
    for figure in [
        "stored=2",
        "stored_bytes=8",
        "deleted=1",
        "repeats=1",
        "refused=25",
        "turned_away=1",
        "waiting=1",
        "waiting_bytes=3",
    ] {
        assert!(line.split(' ').any(|word| word == figure), "{figure}: {line}");
    }
}

#[test]
fn a_second_sigterm_drops_what_is_in_flight() {
    let mut node = Node::start("");
    let mut sending = node.connect();
    assert_eq!(sending.ask("SEND <b.5.data> SIZE 5"), "SEND OK");
    node.signal(Signal::TERM);
    node.logs("stopping");
    node.signal(Signal::TERM);
    assert!(sending.is_closed());
    assert_eq!(node.wait().code(), Some(0));
    assert!(node.root.ready().is_empty());
    assert_eq!(node.root.unfinished(), 0);
}
