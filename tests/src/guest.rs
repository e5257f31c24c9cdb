//! A machine that can lose its power: a user-mode Linux guest with a disk image of its own.
//!
//! The guest runs on the host's files (hostfs), so the binaries under test, certificates and configuration are the
//! host's; all state lies on the image. Killing its process group is a power cut: what the guest's kernel had not
//! written to the image is gone. The next boot mounts the image again, and the file system replays its journal.
//!
//! What happens inside is `power_guest/main.rs`, which answers on the console in the [`words`] below.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::central::Mode;
use crate::certificates::Authority;
use crate::process::Process;
use crate::seed::Seed;
use crate::{address, binary};

/// Memory of a guest; more is not needed, and less makes it write pages back by itself, which hides a missing fsync.
const MEMORY: &str = "mem=384M";

/// The size of the images: what the three file systems need at least, and room for a chain of cuts. They are sparse.
const IMAGE_BYTES: u64 = 400 * 1024 * 1024;

/// How every line of the guest ends: one that the power cut lacks it.
pub const END_OF_LINE: &str = " .";

/// What the guest says on its console, each at the start of a line.
pub mod words {
    /// The image is mounted; the daemons are not started.
    pub const MOUNTED: &str = "#MOUNTED";
    /// `<file>`: a sender is about to send it.
    pub const OFFERED: &str = "#OFFERED";
    /// `<file>`: it got its `SEND OK`.
    pub const STORED: &str = "#STORED";
    /// `<name> <size> <SHA-256>`: the pipeline's directory holds it.
    pub const ARRIVED: &str = "#ARRIVED";
    /// `<path>`: where nothing should be, something is.
    pub const LEFT: &str = "#LEFT";
    /// Everything was pulled; the list of arrivals is complete.
    pub const SETTLED: &str = "#SETTLED";
    /// The sync server ended.
    pub const CENTRAL_ENDED: &str = "#CENTRAL-ENDED";
    /// All files are sent.
    pub const SENT: &str = "#SENT";
    /// `<words>`: something that must not happen.
    pub const FAILED: &str = "#FAILED";
}

/// A file system that packages are kept on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    /// ext4, with its defaults.
    Ext4,
    /// XFS.
    Xfs,
    /// Btrfs.
    Btrfs,
}

impl FileSystem {
    /// All of them.
    pub const ALL: [FileSystem; 3] = [FileSystem::Ext4, FileSystem::Xfs, FileSystem::Btrfs];

    /// As `mount` calls it.
    pub fn name(self) -> &'static str {
        match self {
            FileSystem::Ext4 => "ext4",
            FileSystem::Xfs => "xfs",
            FileSystem::Btrfs => "btrfs",
        }
    }

    fn format(self, image: &Path) {
        let (package, options): (_, &[&str]) = match self {
            FileSystem::Ext4 => ("e2fsprogs", &["-q", "-F"]),
            FileSystem::Xfs => ("xfsprogs", &["-q"]),
            FileSystem::Btrfs => ("btrfs-progs", &["-q"]),
        };
        let mkfs = binary::system(&format!("mkfs.{}", self.name()), package);
        run(Command::new(mkfs).args(options).arg(image));
    }
}

/// What a guest is to do after it has mounted its disk.
#[derive(Debug, Clone, Default)]
pub struct Orders {
    /// The boot's number: part of the names of its files.
    pub boot: u64,
    /// Files of earlier boots that are sent again first: their senders never got an answer.
    pub again: Vec<String>,
    /// Pull everything, and tell what arrived.
    pub settle: bool,
    /// Files to send after that.
    pub files: u64,
    /// By so many senders at once.
    pub senders: u64,
    /// Whether the sync server pulls meanwhile.
    pub pulling: bool,
    /// Whether the sync server starts only when all files are sent.
    pub pull_after: bool,
    /// An environment variable of both daemons, `NAME=value`; while settling it does not hold.
    pub environment: Vec<String>,
}

/// A guest and its disk.
#[derive(Debug)]
pub struct Guest {
    file_system: FileSystem,
    directory: TempDir,
    _authority: Authority,
}

impl Guest {
    /// One with an empty disk, whose node is pulled so. Nothing runs yet.
    pub fn new(file_system: FileSystem, mode: Mode) -> Guest {
        binary::system("linux.uml", "user-mode-linux");
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path();
        let image = std::fs::File::create(path.join("image")).expect("the directory is ours");
        image.set_len(IMAGE_BYTES).expect("files may be sparse");
        file_system.format(&path.join("image"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("power_guest/xstate.c");
        let compiler = binary::system("cc", "build-essential");
        run(Command::new(compiler)
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(path.join("xstate.so"))
            .arg(source));
        std::fs::create_dir(path.join("disk")).expect("the directory is ours");
        let authority = Authority::new();
        let guest = Guest { file_system, directory, _authority: authority.clone() };
        guest.configure(&authority, mode);
        guest
    }

    /// Which file system its disk has.
    pub fn file_system(&self) -> FileSystem {
        self.file_system
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The guest has a loopback network of its own.
    fn configure(&self, authority: &Authority, mode: Mode) {
        let ip = std::net::Ipv4Addr::LOCALHOST;
        let disk = self.path("disk");
        let node = authority.node("guest", &[ip]);
        let text = format!(
            "addresses = [\"{ip}\"]\nport = {}\ndirectory = {:?}\n\
             ssl_cert = {:?}\nssl_key = {:?}\nssl_ca = {:?}\n[spool]\nreserve = \"1MB\"\n",
            address::PORT,
            disk.join("node"),
            node.certificate,
            node.key,
            authority.certificate(),
        );
        std::fs::write(self.path("node.toml"), text).expect("the directory is ours");
        let server = authority.server("guest");
        let text = format!(
            "sync_ca = {:?}\nsync_cert = {:?}\nsync_key = {:?}\nincomingdir = {:?}\nstate_directory = {:?}\n\
             sync_interval = \"50ms\"\nsync_backoff_max = \"100ms\"\n\
             [[site]]\nname = \"site\"\naddress = \"{ip}\"\nport = {}\n{}",
            authority.certificate(),
            server.certificate,
            server.key,
            disk.join("incoming"),
            disk.join("state"),
            address::PORT,
            mode.keys(),
        );
        std::fs::write(self.path("server.toml"), text).expect("the directory is ours");
    }

    /// Switches it on. It goes on until it is killed, which is the power cut.
    pub fn boot(&self, orders: &Orders) -> Process {
        let mut script = String::from("#!/bin/sh\nset -e\nmount -t proc proc /proc\nip link set lo up\n");
        script +=
            &format!("mount -t {} /dev/ubda '{}'\n", self.file_system.name(), self.path("disk").display());
        script += &format!("exec '{}'", binary::workspace("power-cut-guest").display());
        let programs = binary::workspace("tidegate-server");
        let programs = programs.parent().expect("a binary lies in a directory");
        let mut words = vec![
            format!("programs={}", programs.display()),
            format!("directory={}", self.directory.path().display()),
            format!("boot={}", orders.boot),
            format!("again={}", orders.again.join(",")),
            format!("settle={}", orders.settle),
            format!("files={}", orders.files),
            format!("senders={}", orders.senders.max(1)),
            format!("pulling={}", orders.pulling),
            format!("pull_after={}", orders.pull_after),
        ];
        words.extend(orders.environment.iter().map(|variable| format!("environment={variable}")));
        words.iter().for_each(|word| script += &format!(" '{word}'"));
        let init = self.path("init");
        std::fs::write(&init, script + "\n").expect("the directory is ours");
        run(Command::new("chmod").arg("+x").arg(&init));
        let mut command = Command::new(binary::system("linux.uml", "user-mode-linux"));
        command
            .args(["root=/dev/root", "rootfstype=hostfs", "rootflags=/", "rw", "quiet", MEMORY])
            .args(["con=null", "con0=fd:0,fd:1"])
            .arg(format!("init={}", init.display()))
            .arg(format!("ubd0={}", self.path("image").display()))
            .env("LD_PRELOAD", self.path("xstate.so"))
            .env("TMPDIR", self.directory.path());
        Process::start(&format!("guest on {}", self.file_system.name()), &mut command)
    }
}

/// Name and bytes of a boot's file, which both sides of the console work out: `<boot>.<number>`.
pub fn file(id: &str) -> (String, Vec<u8>) {
    let (boot, number) = id.split_once('.').expect("a file is called <boot>.<number>");
    let number: u64 = number.parse().expect("a file has a number");
    let mut seed = Seed::of(boot.parse().expect("a boot has a number")).run(number);
    let longest = if seed.once_in(8) { 100_000 } else { 6_000 };
    let length = 1 + seed.below(longest);
    let bytes = [id.as_bytes(), b" ", &seed.bytes(length as usize)].concat();
    // Some names hold a time, others only a number that soon comes again.
    let time = if seed.once_in(3) { number } else { 1_700_000_000 + number };
    (format!("boot{boot}.{time}.data"), bytes)
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
