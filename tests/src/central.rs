//! A sync server: its configuration, state and pipeline in temporary directories, as a daemon or for one pull.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::binary;
use crate::certificates::{Authority, Pair};
use crate::oracle::Pipeline;
use crate::process::Process;

/// A sync server.
#[derive(Debug)]
pub struct Central {
    directory: TempDir,
    /// Its certificate's files lie there.
    _authority: Authority,
    /// What it shows to sites.
    pub certificate: Pair,
    /// What it delivers to.
    pub pipeline: Pipeline,
    process: Option<Process>,
}

/// A `[[site]]` table.
#[derive(Debug, Clone)]
pub struct Site {
    /// Its name.
    pub name: String,
    /// Where it is dialled.
    pub address: SocketAddr,
    /// How its packages are taken.
    pub mode: Mode,
    /// Further keys, as TOML.
    pub settings: String,
}

/// How packages are taken from a site. A node that was pulled over relay once is pulled so for ever (it knows an epoch
/// then), so a bench has one mode for its whole life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// What the two agree on: no key is written.
    Auto,
    /// Tentacle commands.
    Tentacle,
    /// Relay on a connection that stays.
    Standing,
    /// Relay on a connection for each turn.
    Scheduled,
}

impl Mode {
    /// What a node can be pulled with.
    pub const ALL: [Mode; 3] = [Mode::Tentacle, Mode::Standing, Mode::Scheduled];

    /// Tentacle for even numbers, relay for odd ones: a campaign's runs, or its lanes.
    pub fn of(number: u64) -> Mode {
        [Mode::Tentacle, Mode::Standing, Mode::Tentacle, Mode::Scheduled][(number % 4) as usize]
    }

    /// The keys of a site.
    pub(crate) fn keys(self) -> &'static str {
        match self {
            Mode::Auto => "",
            Mode::Tentacle => "pull_mode = \"tentacle\"\n",
            Mode::Standing => "pull_mode = \"relay\"\n",
            Mode::Scheduled => "pull_mode = \"relay\"\nsync_standing = false\n",
        }
    }
}

impl Site {
    /// A Tidegate node that is pulled over Tentacle.
    pub fn node(name: &str, address: SocketAddr) -> Site {
        Site { name: name.into(), address, mode: Mode::Tentacle, settings: String::new() }
    }

    /// A stock server without TLS.
    pub fn plain(name: &str, address: SocketAddr) -> Site {
        Site { mode: Mode::Auto, settings: "tls = \"off\"\n".into(), ..Site::node(name, address) }
    }

    /// The same, pulled otherwise.
    pub fn over(self, mode: Mode) -> Site {
        Site { mode, ..self }
    }
}

impl Central {
    /// Writes the configuration; nothing runs yet. `settings` is TOML put before the sites.
    pub fn new(authority: &Authority, sites: &[Site], settings: &str) -> Central {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let pipeline = Pipeline::new();
        let pair = authority.server(&unique_name(directory.path()));
        let state = directory.path().join("state");
        std::fs::create_dir(&state).expect("the directory is ours");
        let mut text = String::new();
        for (key, path) in [
            ("sync_ca", authority.certificate().as_path()),
            ("sync_cert", &pair.certificate),
            ("sync_key", &pair.key),
            ("incomingdir", pipeline.directory()),
            ("state_directory", &state),
        ] {
            writeln!(text, "{key} = {path:?}").expect("a String takes text");
        }
        writeln!(text, "{settings}").expect("a String takes text");
        for site in sites {
            let Site { name, address, mode, settings } = site;
            writeln!(
                text,
                "[[site]]\nname = {name:?}\naddress = \"{}\"\nport = {}\n{}{settings}",
                address.ip(),
                address.port(),
                mode.keys()
            )
            .expect("a String takes text");
        }
        std::fs::write(directory.path().join("server.toml"), text).expect("the directory is ours");
        Central { directory, _authority: authority.clone(), certificate: pair, pipeline, process: None }
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.directory.path().join("server.toml")
    }

    /// The directory of its ledger.
    pub fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// Starts (or restarts) the daemon.
    pub fn run(&mut self) {
        self.run_with(&[]);
    }

    /// The same with further environment variables.
    pub fn run_with(&mut self, environment: &[(&str, &str)]) {
        self.process = None;
        let mut command = self.command(&["run"]);
        command.envs(environment.iter().copied());
        self.process = Some(Process::start("sync server", &mut command));
    }

    /// Starts it otherwise, e.g. with [`crate::faults`].
    pub fn start_as(&mut self, mut command: Command) {
        self.process = None;
        self.process = Some(Process::start("sync server", &mut command));
    }

    /// The running daemon.
    ///
    /// # Panics
    /// When it was killed and not restarted.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the sync server runs")
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// One pull of every site, as a process of its own.
    pub fn pull(&self, environment: &[(&str, &str)]) -> Process {
        let mut command = self.command(&["pull", "--once"]);
        command.envs(environment.iter().copied());
        Process::start("pull --once", &mut command)
    }

    /// A command of the server with this configuration.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary::workspace("tidegate-server"));
        command.args(arguments).arg("--config").arg(self.config());
        command
    }
}

/// A certificate name from the directory's random part: several centrals may share an authority.
fn unique_name(directory: &Path) -> String {
    let name = directory.file_name().expect("a temporary directory has a name").to_string_lossy();
    name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase()
}
