//! The real `pandora_agent` 4.1, and what a tap hears between it and its server.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use md5::{Digest as _, Md5};
use tempfile::TempDir;

use crate::binary;
use crate::process::Process;
use crate::tap::{Chunk, From};

/// One conversation: the agent uses a connection for each file.
#[derive(Debug, Default)]
struct Conversation {
    said: Vec<u8>,
    heard: Vec<u8>,
}

/// What agents and a node said to each other, as a tap saw it.
#[derive(Debug, Default)]
pub struct Conversations(Mutex<BTreeMap<u64, Conversation>>);

impl Conversations {
    /// Notes what passes a tap between them.
    pub fn note(&self, chunk: &Chunk<'_>) {
        let mut conversations = self.0.lock().expect("no holder panics");
        let Conversation { said, heard } = conversations.entry(chunk.connection).or_default();
        let side = if chunk.from == From::Dialler { said } else { heard };
        side.extend_from_slice(chunk.bytes);
    }

    /// Every upload that heard its final `SEND OK`: name and bytes.
    pub fn uploads(&self) -> Vec<(String, Vec<u8>)> {
        let conversations = self.0.lock().expect("no holder panics");
        let stored =
            conversations.values().filter(|conversation| conversation.heard == b"SEND OK\nSEND OK\n");
        stored.filter_map(|conversation| upload(&conversation.said)).collect()
    }

    /// Every upload whose body is whole, whether or not its sender heard what became of it.
    pub fn whole_bodies(&self) -> Vec<(String, Vec<u8>)> {
        let conversations = self.0.lock().expect("no holder panics");
        conversations.values().filter_map(|conversation| upload(&conversation.said)).collect()
    }

    /// How many uploads of such names were stored.
    pub fn uploads_ending(&self, suffix: &str) -> usize {
        self.uploads().iter().filter(|(name, _)| name.ends_with(suffix)).count()
    }

    /// How often such names were asked for.
    pub fn fetches_ending(&self, suffix: &str) -> usize {
        let conversations = self.0.lock().expect("no holder panics");
        conversations.values().filter(|conversation| asks(&conversation.said, suffix)).count()
    }

    /// How often a configuration's `.md5` was asked for before data with these words was uploaded: an agent does that once
    /// in an interval. `None`: there is no such data.
    pub fn intervals_before(&self, words: &str) -> Option<usize> {
        let conversations = self.0.lock().expect("no holder panics");
        let has_words = |said: &[u8]| {
            let data = upload(said).filter(|(name, _)| name.ends_with(".data"));
            data.is_some_and(|(_, bytes)| String::from_utf8_lossy(&bytes).contains(words))
        };
        let first = conversations.values().position(|conversation| has_words(&conversation.said))?;
        let before = conversations.values().take(first);
        Some(before.filter(|conversation| asks(&conversation.said, ".md5")).count())
    }
}

/// Whether it is about a file with that ending.
fn asks(said: &[u8], suffix: &str) -> bool {
    let line = said.split(|byte| *byte == b'\n').next().map(String::from_utf8_lossy).unwrap_or_default();
    line.starts_with("RECV <") && line.ends_with(&format!("{suffix}>"))
}

/// `SEND <name> SIZE n`, the body, and perhaps `QUIT`.
fn upload(said: &[u8]) -> Option<(String, Vec<u8>)> {
    let line = said.iter().position(|byte| *byte == b'\n')?;
    let command = std::str::from_utf8(&said[..line]).ok()?;
    let (name, size) = command.strip_prefix("SEND <")?.split_once("> SIZE ")?;
    let body = said.get(line + 1..line + 1 + size.parse::<usize>().ok()?)?;
    Some((name.to_owned(), body.to_vec()))
}

/// The real agent. Its packaged configuration is used as it is, but for server address, port, directories and interval,
/// and with `remote_config 1`.
#[derive(Debug)]
pub struct Agent {
    directory: TempDir,
    /// What runs.
    pub process: Process,
}

impl Agent {
    /// Starts it; `more` is put behind its configuration. Without `agent_name` there it is called as the machine.
    ///
    /// # Panics
    /// When it is not installed, or its packaged configuration is not what is expected.
    pub fn start(server: SocketAddr, more: &str) -> Agent {
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
        let configuration = with(&packaged, &changes) + more;
        std::fs::write(path("pandora_agent.conf"), configuration).expect("the directory is ours");
        let mut command = Command::new(binary::system("pandora_agent", "pandorafms-agent"));
        let process = Process::start("pandora_agent", command.arg(directory.path()));
        Agent { directory, process }
    }

    /// What it is configured with now.
    ///
    /// # Panics
    /// When it has none.
    pub fn configuration(&self) -> String {
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

/// What an agent and the console write into a `.md5`, and how an agent's shared files are called after its name.
pub fn md5_hex(bytes: &[u8]) -> String {
    Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A module that says 42.
pub fn module(name: &str) -> String {
    format!("\nmodule_begin\nmodule_name {name}\nmodule_type generic_data\nmodule_exec echo 42\nmodule_end\n")
}
