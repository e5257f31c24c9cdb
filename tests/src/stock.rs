//! A stock Tentacle server in front of a storage directory: the double, or the real one that
//! `TIDEGATE_STOCK_SERVER` names. Tests must hold with either.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::Process;
use crate::{address, binary, until};

/// The filters of a default installation.
pub const INSTALLED_FILTERS: &str =
    r".*\.conf:conf;.*\.md5:md5;.*\.zip:collections;.*\.lock:trans;.*\.rcmd:commands";

/// The filters of a widely copied page, of which two match nothing.
pub const PASTED_FILTERS: &str = r".*\conf:conf;.*\md5:md5;.*\zip:collections";

/// Started as root, the real server refuses to run: it then runs as `nobody`.
const NOBODY: &str = "65534";

/// A stock site.
#[derive(Debug)]
pub struct Stock {
    address: SocketAddr,
    options: Vec<String>,
    storage: TempDir,
    process: Option<Process>,
}

impl Stock {
    /// Starts one with these further options, e.g. `["-I", "-i", INSTALLED_FILTERS]`.
    pub fn start<S: AsRef<str>>(options: &[S]) -> Stock {
        Stock::start_at(address::unused_socket(), options)
    }

    /// The same on an address that its certificate names.
    pub fn start_at<S: AsRef<str>>(address: SocketAddr, options: &[S]) -> Stock {
        let storage = tempfile::tempdir().expect("a temporary directory");
        for folder in ["", "conf", "md5", "collections", "trans", "commands"] {
            let path = storage.path().join(folder);
            std::fs::create_dir_all(&path).expect("the directory is ours");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o777)).expect("the directory is ours");
        }
        let options = options.iter().map(|option| option.as_ref().to_owned()).collect();
        let mut stock = Stock { address, options, storage, process: None };
        stock.restart();
        stock
    }

    /// Whether the real server is under test.
    pub fn is_real() -> bool {
        std::env::var_os("TIDEGATE_STOCK_SERVER").is_some()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its storage root.
    pub fn storage(&self) -> &Path {
        self.storage.path()
    }

    /// The process id.
    ///
    /// # Panics
    /// When it was killed and not restarted.
    pub fn process_id(&self) -> u32 {
        self.process.as_ref().expect("the stock server runs").id()
    }

    /// The running process.
    ///
    /// # Panics
    /// When it was killed and not restarted.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the stock server runs")
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it (again) on the same address and storage.
    pub fn restart(&mut self) {
        self.process = None;
        let mut command = Stock::program();
        command.args(["-a", &self.address.ip().to_string(), "-p", &self.address.port().to_string(), "-v"]);
        command.arg("-s").arg(self.storage()).args(&self.options);
        let mut process = Process::start("stock server", &mut command);
        until::holds("the stock server listens", || {
            assert!(!process.has_ended(), "the stock server ended: {}", process.log());
            TcpStream::connect(self.address).is_ok()
        });
        self.process = Some(process);
    }

    /// Puts a file straight into its storage, as a sender's finished upload would.
    pub fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.storage().join(name);
        rewrite(&path, bytes);
        path
    }

    /// Every plain file of the storage root.
    pub fn files(&self) -> BTreeSet<String> {
        let entries = std::fs::read_dir(self.storage())
            .expect("the storage is ours")
            .map(|entry| entry.expect("readable"));
        entries
            .filter(|entry| entry.path().is_file())
            .map(|entry| entry.file_name().to_string_lossy().into())
            .collect()
    }

    fn program() -> Command {
        let Some(real) = std::env::var_os("TIDEGATE_STOCK_SERVER") else {
            return Command::new(binary::workspace("stock-server-double"));
        };
        let perl = binary::system("perl", "perl");
        if !rustix::process::geteuid().is_root() {
            let mut command = Command::new(perl);
            command.arg(real);
            return command;
        }
        let mut command = Command::new(binary::system("setpriv", "util-linux"));
        command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"].map(OsStr::new));
        command.arg(perl).arg(real);
        command
    }
}

/// Writes a file as the stock server does: truncated and rewritten in place, readable and removable by anybody.
pub fn rewrite(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).expect("the storage is ours");
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o666)).expect("the file is ours");
}

/// The path as an option's value, readable by the account that a real server runs under: test keys are no secrets.
pub fn readable(path: &Path) -> String {
    if Stock::is_real() {
        let directory = path.parent().expect("a file is in a directory");
        std::fs::set_permissions(directory, PermissionsExt::from_mode(0o711)).expect("the directory is ours");
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o644)).expect("the file is ours");
    }
    path.display().to_string()
}
