//! Finds the programs under test and the real ones beside them.

use std::path::{Path, PathBuf};

/// A binary of this workspace, beside the running test executable (`target/<profile>/`).
///
/// # Panics
/// When it was not built: `cargo test -p tidegate-tests` alone does not build the other packages' binaries.
pub fn workspace(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    let profile = test.ancestors().nth(2).expect("a test runs in target/<profile>/deps");
    let path = profile.join(name);
    assert!(
        path.is_file(),
        "{} is not built; run tests/run, or: cargo build --workspace && cargo test -p tidegate-tests",
        path.display()
    );
    path
}

/// A program that the system must have.
///
/// # Panics
/// When it is missing: the tests that need it fail and are never skipped.
pub fn system(name: &str, package: &str) -> PathBuf {
    let folders = ["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin"];
    folders
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed; run tests/run, or: apt-get install -y {package}"))
}
