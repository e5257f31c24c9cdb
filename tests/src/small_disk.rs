//! Small file systems of a test's own, which can be filled to the brim.
//!
//! They are mounted in a mount namespace of the test process, so that nobody else sees them and they go with it, however
//! it ends. Without root's rights that takes a user namespace too.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::binary;

/// Says which test runs inside its namespace already.
const INSIDE: &str = "TIDEGATE_NAMESPACE_OF";

/// The least that a tmpfs gives.
const PAGE: usize = 4096;

/// Where a filler lies, below the mount point.
const FILLER: &str = "filler";

/// Runs the test of that name again in a mount namespace of its own. `true`: this is that run, go on; `false`: it is done
/// and has passed. Whoever is not root is it there, and may make further namespaces.
///
/// # Panics
/// When it failed there, or when the system gives no namespace.
pub fn inside_namespace(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some_and(|inside| inside == test) {
        return true;
    }
    let mut command = Command::new(binary::system("unshare", "util-linux"));
    command.args(["--mount", "--propagation", "private"]);
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.arg(std::env::current_exe().expect("a running program has a path"));
    let status = command.args(["--exact", test, "--nocapture"]).env(INSIDE, test).status();
    let status = status.expect("unshare starts");
    assert!(
        status.success(),
        "{test} failed in its mount namespace ({status}); if it did not start there: root, or unprivileged user \
         namespaces (sysctl kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns) are needed"
    );
    false
}

/// What there is too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scarce {
    /// Room for bytes.
    Bytes,
    /// Room for files.
    Inodes,
}

/// A small tmpfs over a directory. Unmounted with the guard.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts one.
    pub fn mount(path: &Path, bytes: u64, inodes: u64) -> SmallDisk {
        let options = format!("size={bytes},nr_inodes={inodes},mode=755");
        run(Command::new(binary::system("mount", "mount"))
            .args(["-t", "tmpfs", "-o", &options, "none"])
            .arg(path));
        let disk = SmallDisk { path: path.to_owned() };
        fs::create_dir(disk.filler()).expect("there is room");
        disk
    }

    /// Fills it to the brim, but for so many pages or files.
    pub fn fill(&self, scarce: Scarce, left: usize) {
        match scarce {
            Scarce::Bytes => self.fill_bytes(left),
            Scarce::Inodes => self.fill_inodes(left),
        }
    }

    fn fill_bytes(&self, left: usize) {
        // Another writer may be quicker than the first try: the brim is where nothing more goes in twice.
        let mut file = File::create(self.filler().join("bytes")).expect("a file more");
        let mut pages: usize = 0;
        while file.write_all(&[b'f'; PAGE]).is_ok() {
            pages += 1;
        }
        let kept = pages.saturating_sub(left) * PAGE;
        file.set_len(kept as u64).expect("shorter is possible");
    }

    fn fill_inodes(&self, left: usize) {
        let name = |number: usize| self.filler().join(number.to_string());
        let made = (0..).take_while(|&number| File::create(name(number)).is_ok()).count();
        (made.saturating_sub(left)..made).for_each(|number| {
            fs::remove_file(name(number)).expect("just made");
        });
    }

    /// Room returns.
    pub fn clear(&self) {
        for entry in fs::read_dir(self.filler()).expect("the disk is mounted") {
            fs::remove_file(entry.expect("readable").path()).expect("the filler is ours");
        }
    }

    fn filler(&self) -> PathBuf {
        self.path.join(format!(".{FILLER}"))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process under test may still have files open there.
        let _ = Command::new(binary::system("umount", "mount")).arg("-l").arg(&self.path).status();
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("mount starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
