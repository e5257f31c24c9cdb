//! Proves that this crate cannot block: its own code reaches no file, socket or clock, and nothing that it depends on
//! is there to reach one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// What the crate may depend on: MD5, the derive macro of its error type, and zstd. They do without `std`; of zstd's C
/// code, built without threads, nothing but memory is used.
const ALLOWED: [&str; 16] = [
    "tidegate-proto",
    // md-5
    "md-5",
    "digest",
    "block-buffer",
    "crypto-common",
    "hybrid-array",
    "typenum",
    "cfg-if",
    // thiserror, and what it runs at compile time
    "thiserror",
    "thiserror-impl",
    "proc-macro2",
    "quote",
    "syn",
    "unicode-ident",
    // the relay stream's compression
    "zstd-safe",
    "zstd-sys",
];

/// What only the standard library, or C, can bring in.
const BANNED: [&str; 5] = ["std::", "extern crate std", "extern \"C\"", "libc", "unsafe"];

#[test]
fn the_code_has_no_standard_library() {
    let root = fs::read_to_string(sources().join("lib.rs")).unwrap();
    assert!(root.lines().any(|line| line == "#![no_std]"));
    assert!(root.contains("#[cfg(test)]\nextern crate std;"), "std is for tests only");

    let mut files = Vec::new();
    collect(&sources(), &mut files);
    assert!(files.len() > 10, "these are not all files: {files:?}");
    for file in files {
        let text = fs::read_to_string(&file).unwrap().replace("#[cfg(test)]\nextern crate std;", "");
        let code: String =
            before_tests(&text).lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        for banned in BANNED {
            assert!(!code.contains(banned), "{} holds {banned:?}", file.display());
        }
    }
}

#[test]
fn the_dependencies_are_on_the_list() {
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        // Of this target only: what zstd's build needs for another one may not be there to be asked.
        .args(["tree", "--package", "tidegate-proto", "--edges", "normal"])
        .args(["--prefix", "none", "--format", "{p}|{f}", "--offline", "--locked"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();

    let mut found = BTreeSet::new();
    for line in tree.lines() {
        let (package, features) = line.split_once('|').unwrap();
        found.insert(package.split(' ').next().unwrap());
        assert!(!features.split([',', ' ']).any(|feature| feature == "std"), "{line} is built with std");
    }
    assert_eq!(found, BTreeSet::from(ALLOWED), "found and allowed differ");
}

/// Tests stand at the end of a file.
fn before_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default()
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the source folder can be read") {
        let path = entry.expect("the source folder can be read").path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}
