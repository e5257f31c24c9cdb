//! Command-line Tentacle clients: the real `tentacle_client` of Debian's `pandorafms-agent`, and our `tidegate-send`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::binary;

/// One of the clients.
#[derive(Debug)]
pub enum Client {
    /// The real one (0.3.0).
    Real,
    /// A temporary copy of the real one in which two words are numbers. On current Debian its `-e` dies before the
    /// handshake ("SSL_verify_mode must be a number"): `'0x00'` and `'0x01'` are strings to today's TLS library.
    RealWithNumbers(TempDir),
    /// `tidegate-send`.
    Ours,
}

/// How a client ended.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit code.
    pub code: Option<i32>,
    /// Both its outputs.
    pub said: String,
}

impl Client {
    /// The copy with numbers.
    ///
    /// # Panics
    /// When the installed client does not hold the two words: then the copy is not needed, or needs another look.
    pub fn real_with_numbers() -> Client {
        let source = std::fs::read_to_string(real()).expect("the client is a readable script");
        assert!(
            source.contains("'0x00'") && source.contains("'0x01'"),
            "this tentacle_client is another version"
        );
        let directory = tempfile::tempdir().expect("a temporary directory");
        let numbers = source.replace("'0x00'", "0x00").replace("'0x01'", "0x01");
        std::fs::write(directory.path().join("tentacle_client"), numbers).expect("the directory is ours");
        Client::RealWithNumbers(directory)
    }

    /// Runs it in `directory` against `address`, and waits for its end. `authority` stands in for the system's
    /// certificate store, which is all that `-c` of the real client trusts.
    pub fn run(
        &self,
        directory: &Path,
        authority: Option<&Path>,
        address: SocketAddr,
        arguments: &[&str],
    ) -> Outcome {
        let mut command = match self {
            Client::Real => Command::new(real()),
            Client::RealWithNumbers(copy) => {
                let mut command = Command::new(binary::system("perl", "perl"));
                command.arg(copy.path().join("tentacle_client"));
                command
            }
            Client::Ours => Command::new(binary::workspace("tidegate-send")),
        };
        command.current_dir(directory).envs(authority.map(|path| ("SSL_CERT_FILE", path)));
        command.args(["-a", &address.ip().to_string(), "-p", &address.port().to_string()]).args(arguments);
        let output = command.output().expect("the client starts");
        let said = [output.stdout, output.stderr].concat();
        Outcome { code: output.status.code(), said: String::from_utf8_lossy(&said).into_owned() }
    }
}

impl Outcome {
    /// Demands success.
    ///
    /// # Panics
    /// When it failed, with what it said.
    pub fn succeeds(&self) {
        assert_eq!(self.code, Some(0), "{}", self.said);
    }

    /// Demands exit code 1 and these words.
    ///
    /// # Panics
    /// When it succeeded, or said something else.
    pub fn fails_saying(&self, words: &str) {
        assert_eq!(self.code, Some(1), "{}", self.said);
        assert!(self.said.contains(words), "expected {words:?} in: {}", self.said);
    }
}

fn real() -> PathBuf {
    binary::system("tentacle_client", "pandorafms-agent")
}
