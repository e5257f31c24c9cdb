//! The judge: what was acknowledged must arrive once, whole, and nothing else may.
//!
//! A digest tells which file an arrival is; equal files are expected as often as a test says. A file that was offered but
//! never acknowledged may arrive once or not at all: its sender will offer it again, or has given it up.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use regex::Regex;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// SHA-256 of a file.
pub type Digest = [u8; 32];

/// SHA-256.
pub fn digest(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

/// What senders did.
#[derive(Debug, Default)]
pub struct Oracle {
    offered: Mutex<HashMap<Digest, Offered>>,
}

#[derive(Debug, Clone)]
struct Offered {
    name: String,
    acknowledged: bool,
    /// How many packages of these bytes there are.
    times: u32,
    /// How many more may arrive, where nothing can tell a repeat from a package of its own.
    spare: u32,
}

/// A file that came out at the pipeline's end.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Its name there.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What the pipeline takes for the time of the data.
    pub modified: SystemTime,
}

/// What is wrong, in words. Empty: nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Acknowledged, and not there.
    pub lost: Vec<String>,
    /// There more often than sent as a package of its own.
    pub doubled: Vec<String>,
    /// There, and nobody sent those bytes (or not by that name).
    pub strange: Vec<String>,
}

impl Verdict {
    /// Whether everything is as it must be.
    pub fn is_clean(&self) -> bool {
        *self == Verdict::default()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lost {:?}, doubled {:?}, strange {:?}", self.lost, self.doubled, self.strange)
    }
}

impl Oracle {
    /// A sender is about to offer this file.
    pub fn offer(&self, name: &str, bytes: &[u8]) {
        let offered = Offered { name: name.to_owned(), acknowledged: false, times: 1, spare: 0 };
        self.lock().entry(digest(bytes)).or_insert(offered);
    }

    /// The sender heard the final `OK`.
    ///
    /// # Panics
    /// When it was never offered.
    pub fn acknowledge(&self, bytes: &[u8]) {
        self.lock().get_mut(&digest(bytes)).expect("offered before it is acknowledged").acknowledged = true;
    }

    /// A file that is already safely at its site.
    pub fn expect(&self, name: &str, bytes: &[u8]) {
        self.offer(name, bytes);
        self.acknowledge(bytes);
    }

    /// Files of the same bytes that are packages of their own: all of them arrive.
    pub fn expect_times(&self, name: &str, bytes: &[u8], times: u32) {
        self.expect(name, bytes);
        self.lock().get_mut(&digest(bytes)).expect("just offered").times = times;
    }

    /// The only disk that held this file is gone: it may arrive, or not.
    ///
    /// # Panics
    /// When it was never offered.
    pub fn forgive(&self, bytes: &[u8]) {
        self.lock().get_mut(&digest(bytes)).expect("offered before it is lost").acknowledged = false;
    }

    /// Something happened after which nobody can tell this file, sent or kept again, from another with its bytes: it may
    /// arrive once more, or not.
    ///
    /// # Panics
    /// When it was never offered.
    pub fn may_come_again(&self, bytes: &[u8]) {
        self.lock().get_mut(&digest(bytes)).expect("offered before it comes again").spare += 1;
    }

    /// Which acknowledged files are not among these.
    pub fn missing<'a>(&self, there: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
        let there: HashSet<Digest> = there.map(digest).collect();
        let offered = self.lock();
        let missing = offered.iter().filter(|(digest, file)| file.acknowledged && !there.contains(*digest));
        missing.map(|(_, file)| file.name.clone()).collect()
    }

    /// How many files are acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.lock().values().filter(|offered| offered.acknowledged).count()
    }

    /// Whether every acknowledged file is among the arrivals.
    pub fn is_complete(&self, arrivals: &[Arrival]) -> bool {
        self.judge(arrivals).lost.is_empty()
    }

    /// Compares.
    pub fn judge(&self, arrivals: &[Arrival]) -> Verdict {
        let listed = |arrival: &Arrival| (arrival.name.clone(), arrival.bytes.len(), digest(&arrival.bytes));
        self.judge_listed(&arrivals.iter().map(listed).collect::<Vec<_>>())
    }

    /// Compares with a list of what arrived: name, size and digest of each.
    pub fn judge_listed(&self, arrivals: &[(String, usize, Digest)]) -> Verdict {
        let offered = self.lock();
        let mut verdict = Verdict::default();
        let mut seen: HashMap<Digest, u32> = HashMap::new();
        for (name, size, digest) in arrivals {
            match offered.get(digest) {
                Some(known) if agent_of(&known.name) == agent_of(name) => {}
                Some(known) => verdict.strange.push(format!("{} came as {name}", known.name)),
                None => verdict.strange.push(format!("{name} ({size} bytes)")),
            }
            let times = seen.entry(*digest).or_default();
            *times += 1;
            if offered.get(digest).map_or(1, |known| known.times + known.spare) + 1 == *times {
                verdict.doubled.push(name.clone());
            }
        }
        let lost = offered.iter().filter(|(digest, offered)| {
            offered.acknowledged && seen.get(*digest).copied().unwrap_or_default() < offered.times
        });
        verdict.lost = lost.map(|(_, offered)| offered.name.clone()).collect();
        verdict.lost.sort();
        verdict
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, Offered>> {
        self.offered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the data server takes for the agent: the name without its number. It must survive the journey.
pub(crate) fn agent_of(name: &str) -> &str {
    let stem = name.strip_suffix(".data").unwrap_or(name);
    stem.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches(['.', '_'])
}

/// The directory a data server reads, and the data server: it takes every file that matches, in its order.
#[derive(Debug)]
pub struct Pipeline {
    directory: TempDir,
    pattern: Regex,
    taken: Mutex<Vec<Arrival>>,
}

impl Pipeline {
    /// An empty one.
    pub fn new() -> Pipeline {
        let pattern = Regex::new(r"^.*[._]\d+\.data$").expect("the data server's own pattern");
        Pipeline {
            directory: tempfile::tempdir().expect("a temporary directory"),
            pattern,
            taken: Mutex::default(),
        }
    }

    /// The central's `incomingdir`.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What the data server would read now, in its order: by modification time, then name.
    pub fn waiting(&self) -> Vec<Arrival> {
        self.found().into_iter().map(|(_, arrival)| arrival).collect()
    }

    fn found(&self) -> Vec<(PathBuf, Arrival)> {
        let read = |path: PathBuf| read(&path).map(|arrival| (path, arrival));
        let mut found: Vec<_> = self.matching().into_iter().filter_map(read).collect();
        found.sort_by(|(_, a), (_, b)| (a.modified, &a.name).cmp(&(b.modified, &b.name)));
        found
    }

    /// Reads and removes what waits, as the data server does, and gives all it ever took. Files that are not waiting any
    /// more were processed long ago when a careless central delivers them again.
    pub fn consume(&self) -> Vec<Arrival> {
        self.consume_new();
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same, but gives only what it took now: a campaign of many small runs judges each by itself.
    pub fn consume_new(&self) -> Vec<Arrival> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let found = self.found();
        for (path, _) in &found {
            std::fs::remove_file(path).expect("only the consumer removes");
        }
        let new: Vec<Arrival> = found.into_iter().map(|(_, arrival)| arrival).collect();
        taken.extend_from_slice(&new);
        new
    }

    /// Whether a file of that name waits.
    pub fn holds(&self, name: &str) -> bool {
        self.directory().join(name).is_file()
    }

    fn matching(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.directory()).expect("the directory is ours");
        let paths = entries.map(|entry| entry.expect("readable").path());
        paths
            .filter(|path| self.pattern.is_match(&path.file_name().expect("an entry").to_string_lossy()))
            .collect()
    }
}

impl Default for Pipeline {
    fn default() -> Pipeline {
        Pipeline::new()
    }
}

fn read(path: &Path) -> Option<Arrival> {
    let modified = path.metadata().ok()?.modified().expect("Linux tells it");
    let name = path.file_name().expect("an entry").to_string_lossy().into_owned();
    Some(Arrival { name, bytes: std::fs::read(path).ok()?, modified })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(name: &str, bytes: &[u8]) -> Arrival {
        Arrival { name: name.into(), bytes: bytes.into(), modified: SystemTime::UNIX_EPOCH }
    }

    #[test]
    fn each_fault_is_told_apart() {
        let oracle = Oracle::default();
        oracle.expect("a.1.data", b"one");
        oracle.expect("b.1.data", b"two");
        oracle.offer("c.1.data", b"three");
        assert_eq!(oracle.judge(&[]).lost, ["a.1.data", "b.1.data"]);

        let one = arrival("a.1.data", b"one");
        let two = arrival("b.10000000001.data", b"two");
        assert!(oracle.judge(&[one.clone(), two.clone()]).is_clean());
        assert_eq!(oracle.judge(&[one.clone(), one.clone(), two.clone()]).doubled, ["a.1.data"]);
        assert_eq!(oracle.judge(&[one.clone(), two, arrival("c.1.data", b"thr")]).strange.len(), 1);
        assert_eq!(oracle.judge(&[one, arrival("other.1.data", b"two")]).strange.len(), 1);
    }

    #[test]
    fn equal_packages_are_counted() {
        let oracle = Oracle::default();
        oracle.expect_times("a.0.data", b"same", 2);
        let same = arrival("a.0.data", b"same");
        assert_eq!(oracle.judge(std::slice::from_ref(&same)).lost, ["a.0.data"]);
        assert!(oracle.judge(&[same.clone(), same.clone()]).is_clean());
        assert_eq!(oracle.judge(&[same.clone(), same.clone(), same]).doubled, ["a.0.data"]);
    }

    #[test]
    fn one_more_may_come_where_nobody_can_tell() {
        let oracle = Oracle::default();
        oracle.expect("a.0.data", b"same");
        oracle.may_come_again(b"same");
        let same = arrival("a.0.data", b"same");
        assert_eq!(oracle.judge(&[]).lost, ["a.0.data"]);
        assert!(oracle.judge(std::slice::from_ref(&same)).is_clean());
        assert!(oracle.judge(&[same.clone(), same.clone()]).is_clean());
        assert_eq!(oracle.judge(&[same.clone(), same.clone(), same]).doubled, ["a.0.data"]);
    }

    #[test]
    fn the_consumer_takes_only_what_the_data_server_would() {
        let pipeline = Pipeline::new();
        for name in ["a.1.data", ".tmp-a.1.part", "a.1.data.staged"] {
            std::fs::write(pipeline.directory().join(name), name).expect("the directory is ours");
        }
        assert_eq!(pipeline.consume().len(), 1);
        assert!(!pipeline.holds("a.1.data"));
        assert!(pipeline.holds("a.1.data.staged"));
        assert_eq!(pipeline.consume().len(), 1, "what was taken is remembered");
    }
}
