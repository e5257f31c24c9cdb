//! rsync over ssh, as an operator would have it: a server of our own with throw-away keys, on a loopback address, for the
//! account that runs this.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use tidegate_tests::process::Process;
use tidegate_tests::{address, binary};

/// Where the server of a privileged account wants an empty directory; Debian makes it when the service starts.
const PRIVILEGE_SEPARATION: &str = "/run/sshd";

/// An ssh server. Ends with the guard.
pub(crate) struct Ssh {
    directory: TempDir,
    address: SocketAddr,
    _process: Process,
}

impl Ssh {
    pub(crate) fn start() -> Ssh {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for key in ["host", "user"] {
            let mut command = Command::new(binary::system("ssh-keygen", "openssh-client"));
            command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(directory.path().join(key));
            assert!(command.status().expect("ssh-keygen starts").success());
        }
        if rustix::process::geteuid().is_root() {
            std::fs::create_dir_all(PRIVILEGE_SEPARATION).expect("root may make a directory");
        }
        let address = address::unused_socket();
        let path = |name| directory.path().join(name).display().to_string();
        let config = format!(
            "ListenAddress {address}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\nStrictModes no\n\
             PasswordAuthentication no\nPermitRootLogin prohibit-password\nMaxStartups 100\n",
            path("host"),
            path("user.pub"),
        );
        std::fs::write(directory.path().join("sshd_config"), config).expect("the directory is ours");
        let mut command = Command::new(binary::system("sshd", "openssh-server"));
        command.arg("-D").arg("-e").arg("-f").arg(directory.path().join("sshd_config"));
        let mut process = Process::start("sshd", &mut command);
        process.wait_for_line(&["Server listening"]);
        Ssh { directory, address, _process: process }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// `rsync --remove-source-files -z` of everything in `from`, on the other side of `link`, to `to`.
    pub(crate) fn rsync(&self, link: SocketAddr, from: &Path, to: &Path) {
        let mut command = Command::new(binary::system("rsync", "rsync"));
        command
            .args(["--archive", "--remove-source-files", "-z", "-e", &self.shell(link)])
            .arg(format!("{}:{}/", link.ip(), from.display()))
            .arg(to);
        let output = command.output().expect("rsync starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn shell(&self, link: SocketAddr) -> String {
        let key: PathBuf = self.directory.path().join("user");
        format!(
            "{} -F none -p {} -i {} -o BatchMode=yes -o IdentitiesOnly=yes -o StrictHostKeyChecking=no \
             -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR",
            binary::system("ssh", "openssh-client").display(),
            link.port(),
            key.display(),
        )
    }
}
