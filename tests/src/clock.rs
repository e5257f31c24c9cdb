//! A wall clock that jumps while processes run under it.
//!
//! `libfaketime`, preloaded into them, adds to every answer of the system's clock what a file says at that moment.
//! Monotonic clocks and the times of files stay as they are, as when an operator or NTP sets the clock.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

const LIBRARY: &str = "libfaketimeMT.so.1";

/// Seconds of ten years.
pub const TEN_YEARS: i64 = 10 * 365 * 86_400;

/// One clock, for as many processes as were started under it. It is right until it is set.
#[derive(Debug)]
pub struct WallClock {
    directory: TempDir,
    library: String,
    file: String,
}

impl WallClock {
    /// A right one.
    ///
    /// # Panics
    /// When the library is not installed.
    pub fn new() -> WallClock {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("ahead").display().to_string();
        let clock = WallClock { directory, library: library().display().to_string(), file };
        clock.set(0);
        clock
    }

    /// From now on it is so many seconds ahead of the right time.
    pub fn set(&self, ahead: i64) {
        // Renamed into its place: whoever reads it reads all of it.
        let new = self.directory.path().join("new");
        fs::write(&new, format!("{ahead:+}\n")).expect("the directory is ours");
        fs::rename(new, &self.file).expect("the directory is ours");
    }

    /// What a process that shall have this clock is started with.
    pub fn environment(&self) -> [(&str, &str); 5] {
        [
            ("LD_PRELOAD", &self.library),
            ("FAKETIME_TIMESTAMP_FILE", &self.file),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("NO_FAKE_STAT", "1"),
        ]
    }
}

impl Default for WallClock {
    fn default() -> WallClock {
        WallClock::new()
    }
}

/// Debian keeps it in a directory of the machine's architecture.
fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").expect("a Linux system").flatten().map(|entry| entry.path());
    let found = folders.map(|folder| folder.join("faketime").join(LIBRARY)).find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!("{LIBRARY} is not installed; run tests/run, or: apt-get install -y libfaketime")
    })
}
