//! A buffer node as a process, with its configuration and storage in a temporary directory.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::certificates::Authority;
use crate::process::Process;
use crate::{address, binary, files, sender, until};

/// A buffer node.
#[derive(Debug)]
pub struct Node {
    address: SocketAddr,
    front: SocketAddr,
    directory: TempDir,
    /// Its certificate's files lie there.
    _authority: Option<Authority>,
    environment: Vec<(String, String)>,
    process: Option<Process>,
}

impl Node {
    /// Starts a node whose certificate comes from `authority`; `settings` is TOML put before its tables.
    pub fn start(authority: &Authority, settings: &str) -> Node {
        Node::start_under(authority, settings, &[])
    }

    /// The same, with further environment variables now and at every restart.
    pub fn start_under(authority: &Authority, settings: &str, environment: &[(&str, &str)]) -> Node {
        Node::start_at(authority, [address::unused_socket(), address::unused_socket()], settings, environment)
    }

    /// The same on addresses of one's choice: where it listens, and a second one in its certificate.
    pub fn start_at(
        authority: &Authority,
        [address, front]: [SocketAddr; 2],
        settings: &str,
        environment: &[(&str, &str)],
    ) -> Node {
        let name = format!("node-{}", address.ip()).replace('.', "-");
        let pair = authority.node(&name, &[sender::ipv4(address), sender::ipv4(front)]);
        let mut text = String::new();
        let path = |path: &Path| path.display().to_string();
        writeln!(text, "ssl_cert = {:?}", path(&pair.certificate)).expect("a String takes text");
        writeln!(text, "ssl_key = {:?}", path(&pair.key)).expect("a String takes text");
        writeln!(text, "ssl_ca = {:?}", path(&authority.certificate())).expect("a String takes text");
        Node::launch(address, front, Some(authority.clone()), &format!("{text}{settings}"), environment)
    }

    /// Starts a node without TLS.
    pub fn start_plain(settings: &str) -> Node {
        let [address, front] = [address::unused_socket(), address::unused_socket()];
        Node::launch(address, front, None, &format!("accept = [\"plain\"]\n{settings}"), &[])
    }

    fn launch(
        address: SocketAddr,
        front: SocketAddr,
        authority: Option<Authority>,
        settings: &str,
        environment: &[(&str, &str)],
    ) -> Node {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let storage = directory.path().join("storage");
        std::fs::create_dir(&storage).expect("the directory is ours");
        let (ip, port) = (address.ip(), address.port());
        let text = format!("addresses = [\"{ip}\"]\nport = {port}\ndirectory = {storage:?}\n{settings}\n");
        std::fs::write(directory.path().join("node.toml"), text).expect("the directory is ours");
        let environment =
            environment.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let mut node = Node { address, front, directory, _authority: authority, environment, process: None };
        node.restart();
        node
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A second address in its certificate, for a tap in front of it.
    pub fn front(&self) -> SocketAddr {
        self.front
    }

    /// Its storage root.
    pub fn storage(&self) -> PathBuf {
        self.directory.path().join("storage")
    }

    /// The packages it holds, as files.
    pub fn packages(&self) -> Vec<PathBuf> {
        files::packages(&self.storage())
    }

    /// Every plain file below its storage root, relative, without what a node keeps for itself.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut found = files::below(&self.storage());
        let own = |path: &PathBuf| {
            ["spool/seen", "spool/losses", "spool/lock", "epoch", "epoch.spare"]
                .iter()
                .any(|own| path.starts_with(own))
        };
        found.retain(|path| !own(path));
        found
    }

    /// What `tidegate-buffer-node losses` says.
    pub fn losses(&self) -> String {
        self.say(&["losses"])
    }

    /// What an operator does to let another central in.
    pub fn reset_epoch(&self) {
        self.say(&["epoch", "reset"]);
    }

    /// A command of the node with its configuration, beside it.
    fn say(&self, words: &[&str]) -> String {
        let mut command = Command::new(binary::workspace("tidegate-buffer-node"));
        command.args(words).arg("--config").arg(self.directory.path().join("node.toml"));
        let output = command.output().expect("the node's command starts");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The running process.
    ///
    /// # Panics
    /// When it was killed and not restarted.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the node runs")
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it (again) on the same address and storage, and waits until it listens.
    pub fn restart(&mut self) {
        self.process = None;
        let mut process = Process::start("buffer node", &mut self.command());
        until::holds("the node listens", || {
            assert!(!process.has_ended(), "the node ended: {}", process.log());
            TcpStream::connect(self.address).is_ok()
        });
        self.process = Some(process);
    }

    /// Starts it otherwise, e.g. with [`crate::faults`], and waits until it listens. `false`: it ended instead.
    pub fn start_as(&mut self, mut command: Command) -> bool {
        self.process = None;
        let process = self.process.insert(Process::start("buffer node", &mut command));
        until::some("the node listens or ends", || {
            if process.has_ended() {
                return Some(false);
            }
            TcpStream::connect(self.address).is_ok().then_some(true)
        })
    }

    /// What an operator does about packages that were set aside while the disk was broken, once it is mended.
    ///
    /// # Panics
    /// When it fails.
    pub fn requeue_dead_letters(&self) {
        self.say(&["dead-letter", "requeue", "--all"]);
    }

    /// How it is started, for tests that start it a second time or otherwise.
    pub fn command(&self) -> Command {
        let mut command = Command::new(binary::workspace("tidegate-buffer-node"));
        command.arg("run").arg("--config").arg(self.directory.path().join("node.toml"));
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command
    }
}
