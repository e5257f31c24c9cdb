//! What lies in a directory.

use std::path::{Path, PathBuf};

/// Every plain file below `root`, relative to it, sorted. What vanishes meanwhile is not there.
pub fn below(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    collect(root, Path::new(""), &mut found);
    found.sort();
    found
}

/// The packages in a node's storage root, as files. A node that is just starting also makes and removes a file there.
pub fn packages(storage: &Path) -> Vec<PathBuf> {
    let ready = storage.join("spool/ready");
    let is_package = |path: &PathBuf| path.to_string_lossy().contains('-');
    below(&ready).into_iter().filter(is_package).map(|path| ready.join(path)).collect()
}

fn collect(root: &Path, below: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(root.join(below)) else { return };
    for entry in entries.flatten() {
        let path = below.join(entry.file_name());
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => collect(root, &path, found),
            _ => found.push(path),
        }
    }
}
