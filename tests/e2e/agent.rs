//! The real `pandora_agent` 4.1 with remote configuration: the main job, on real input.
//!
//! Its packaged configuration is used as it is, but for server address, port, directories and interval, and with
//! `remote_config 1`. A tap between agent and node keeps what the agent really sent.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use md5::{Digest as _, Md5};
use tempfile::TempDir;
use tidegate_tests::central::{Central, Mode, Site};
use tidegate_tests::certificates::Authority;
use tidegate_tests::node::Node;
use tidegate_tests::oracle::Oracle;
use tidegate_tests::process::Process;
use tidegate_tests::tap::{Chunk, From, Tap, Verdict};
use tidegate_tests::{binary, until};

/// How many intervals in a row nothing but data may be uploaded.
const QUIET_INTERVALS: usize = 3;

/// One conversation: the agent uses a connection for each file.
#[derive(Default)]
struct Conversation {
    said: Vec<u8>,
    heard: Vec<u8>,
}

#[derive(Default)]
struct Conversations(Mutex<BTreeMap<u64, Conversation>>);

impl Conversations {
    fn note(&self, chunk: &Chunk<'_>) {
        let mut conversations = self.0.lock().expect("no holder panics");
        let Conversation { said, heard } = conversations.entry(chunk.connection).or_default();
        let side = if chunk.from == From::Dialler { said } else { heard };
        side.extend_from_slice(chunk.bytes);
    }

    /// Every upload that heard its final `SEND OK`: name and bytes.
    fn uploads(&self) -> Vec<(String, Vec<u8>)> {
        let conversations = self.0.lock().expect("no holder panics");
        let stored =
            conversations.values().filter(|conversation| conversation.heard == b"SEND OK\nSEND OK\n");
        stored.filter_map(|conversation| upload(&conversation.said)).collect()
    }

    /// Every upload whose body is whole, whether or not its sender heard what became of it.
    fn whole_bodies(&self) -> Vec<(String, Vec<u8>)> {
        let conversations = self.0.lock().expect("no holder panics");
        conversations.values().filter_map(|conversation| upload(&conversation.said)).collect()
    }

    fn uploads_ending(&self, suffix: &str) -> usize {
        self.uploads().iter().filter(|(name, _)| name.ends_with(suffix)).count()
    }

    fn fetches_ending(&self, suffix: &str) -> usize {
        let conversations = self.0.lock().expect("no holder panics");
        let asked = conversations.values().filter_map(|conversation| {
            conversation.said.split(|byte| *byte == b'\n').next().map(String::from_utf8_lossy)
        });
        asked.filter(|line| line.starts_with("RECV <") && line.ends_with(&format!("{suffix}>"))).count()
    }
}

/// `SEND <name> SIZE n`, the body, and perhaps `QUIT`.
fn upload(said: &[u8]) -> Option<(String, Vec<u8>)> {
    let line = said.iter().position(|byte| *byte == b'\n')?;
    let command = std::str::from_utf8(&said[..line]).ok()?;
    let (name, size) = command.strip_prefix("SEND <")?.split_once("> SIZE ")?;
    let body = said.get(line + 1..line + 1 + size.parse::<usize>().ok()?)?;
    Some((name.to_owned(), body.to_vec()))
}

struct Agent {
    directory: TempDir,
    process: Process,
}

impl Agent {
    fn start(server: std::net::SocketAddr) -> Agent {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| directory.path().join(name);
        for folder in ["temporal", "collections", "plugins"] {
            std::fs::create_dir(path(folder)).expect("the directory is ours");
        }
        let packaged = Path::new("/etc/pandorafms/pandora_agent.conf");
        let packaged = std::fs::read_to_string(packaged).expect("package pandorafms-agent is installed");
        let changes = [
            ("server_ip", server.ip().to_string()),
            ("server_port", server.port().to_string()),
            ("temporal", path("temporal").display().to_string()),
            ("logfile", path("agent.log").display().to_string()),
            ("interval", "1".into()),
            ("remote_config", "1".into()),
        ];
        std::fs::write(path("pandora_agent.conf"), with(&packaged, &changes)).expect("the directory is ours");
        let mut command = Command::new(binary::system("pandora_agent", "pandorafms-agent"));
        let process = Process::start("pandora_agent", command.arg(directory.path()));
        Agent { directory, process }
    }

    fn configuration(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("pandora_agent.conf")).expect("the agent has one")
    }
}

/// A configuration with other values for existing keys.
fn with(configuration: &str, changes: &[(&str, String)]) -> String {
    let mut changed = 0;
    let lines = configuration.lines().map(|line| {
        let key = line.split_whitespace().next().unwrap_or_default();
        match changes.iter().find(|(name, _)| *name == key) {
            Some((name, value)) => {
                changed += 1;
                format!("{name} {value}\n")
            }
            None => format!("{line}\n"),
        }
    });
    let text = lines.collect();
    assert_eq!(changed, changes.len(), "every changed key stands in the packaged configuration");
    text
}

fn md5_hex(bytes: &[u8]) -> String {
    Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn an_unchanged_agent_reaches_the_pipeline_and_is_configured_from_the_node() {
    let authority = Authority::new();
    let node = Node::start(&authority, "");
    let mut central = Central::new(
        &authority,
        &[Site::node("plant-7", node.address()).over(Mode::Auto)],
        "sync_interval = \"500ms\"",
    );
    central.run();
    let said = Arc::new(Conversations::default());
    let heard = Arc::clone(&said);
    let tap = Tap::new(node.address(), move |chunk| {
        heard.note(chunk);
        Verdict::Pass
    });
    let mut agent = Agent::start(tap.address());

    // The first contact: nothing is known of the agent, so it uploads its configuration and that one's digest.
    until::holds("the agent sends data", || said.uploads_ending(".data") > 0 || agent.process.has_ended());
    let own = agent.configuration();
    let shared = |folder: &str| {
        let entries = std::fs::read_dir(node.storage().join(folder)).expect("the node keeps shared files");
        let paths: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
        assert_eq!(paths.len(), 1, "one file in {folder}: {paths:?}");
        paths.into_iter().next().expect("one")
    };
    let (conf, md5) = (shared("conf"), shared("md5"));
    assert_eq!(std::fs::read_to_string(&conf).expect("readable"), own);
    assert_eq!(std::fs::read_to_string(&md5).expect("readable"), md5_hex(own.as_bytes()));

    // Nothing is uploaded again while nothing changes.
    let asked = said.fetches_ending(".md5");
    until::holds("more intervals pass", || said.fetches_ending(".md5") >= asked + QUIET_INTERVALS);
    assert_eq!((said.uploads_ending(".conf"), said.uploads_ending(".md5")), (1, 1), "uploaded once");
    assert_eq!(said.fetches_ending(".conf"), 0, "nothing to fetch yet");

    // An operator changes it on the node: the agent fetches and reloads it.
    let changed = format!(
        "{own}\nmodule_begin\nmodule_name from_the_node\nmodule_type generic_data\nmodule_exec echo 42\nmodule_end\n"
    );
    replace(&conf, changed.as_bytes());
    replace(&md5, md5_hex(changed.as_bytes()).as_bytes());
    until::holds("the agent takes the changed configuration", || agent.configuration() == changed);
    until::holds("the agent has reloaded it", || {
        said.uploads().iter().any(|(_, bytes)| String::from_utf8_lossy(bytes).contains("from_the_node"))
    });
    let asked = said.fetches_ending(".md5");
    until::holds("more intervals pass", || said.fetches_ending(".md5") >= asked + QUIET_INTERVALS);
    assert_eq!((said.uploads_ending(".conf"), said.uploads_ending(".md5")), (1, 1), "still uploaded once");
    assert_eq!(said.fetches_ending(".conf"), 1, "fetched once");

    // Every data file arrives byte for byte; the shared files stay, and none is delivered.
    agent.process.kill();
    let oracle = Oracle::default();
    for (name, bytes) in said.uploads().iter().filter(|(name, _)| name.ends_with(".data")) {
        oracle.expect(name, bytes);
    }
    until::holds("all data is in the pipeline", || oracle.is_complete(&central.pipeline.consume()));
    until::holds("the node is empty", || node.packages().is_empty());
    // The kill may have come between a body and its `OK`: such a file may arrive, or not.
    let arrivals = central.pipeline.consume();
    for (name, bytes) in said.whole_bodies() {
        oracle.offer(&name, &bytes);
    }
    let verdict = oracle.judge(&arrivals);
    assert!(verdict.is_clean(), "{verdict}");
    assert_eq!(std::fs::read_to_string(&conf).expect("still there"), changed);
    assert!(md5.is_file());
}

/// As an operator's tool does: written beside, then renamed.
fn replace(path: &Path, bytes: &[u8]) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, bytes).expect("the storage is ours");
    std::fs::rename(beside, path).expect("the storage is ours");
}
