//! Shared files at one end, as an operator, the console or an agent uses them: `conf/`, `md5/`, `collections/` and
//! `commands/` below a directory.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::agent::md5_hex;
use crate::sender::Sender;
use crate::until;

/// The folders of main files, by their endings.
const FOLDERS: [(&str, &str); 3] = [("conf", "conf"), ("zip", "collections"), ("rcmd", "commands")];

/// The directories of one end.
#[derive(Debug, Clone)]
pub struct Shelf(PathBuf);

impl Shelf {
    /// Below `root`: an `incomingdir`, or a node's storage.
    pub fn at(root: impl Into<PathBuf>) -> Shelf {
        Shelf(root.into())
    }

    /// The same, with its directories made as a console does.
    ///
    /// # Panics
    /// When they cannot be made.
    pub fn made(root: impl Into<PathBuf>) -> Shelf {
        let shelf = Shelf::at(root);
        let folders = FOLDERS.iter().map(|(_, folder)| *folder).chain(["md5"]);
        folders
            .for_each(|folder| std::fs::create_dir_all(shelf.0.join(folder)).expect("the directory is ours"));
        shelf
    }

    /// Where a main file lies.
    ///
    /// # Panics
    /// When its name is not that of one.
    pub fn file(&self, name: &str) -> PathBuf {
        let folder = FOLDERS.iter().find(|(ending, _)| name.ends_with(&format!(".{ending}")));
        let (_, folder) = folder.unwrap_or_else(|| panic!("{name} is no main file"));
        self.0.join(folder).join(name)
    }

    /// Where its `.md5` lies.
    pub fn md5(&self, name: &str) -> PathBuf {
        let stem = name.rsplit_once('.').expect("a main file has an ending").0;
        self.0.join("md5").join(format!("{stem}.md5"))
    }

    /// Writes a pair as the console does: each beside, then renamed, the `.md5` last.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        put(&self.file(name), bytes);
        put(&self.md5(name), md5_hex(bytes).as_bytes());
    }

    /// Removes a pair.
    pub fn remove(&self, name: &str) {
        for path in [self.file(name), self.md5(name)] {
            std::fs::remove_file(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
    }

    /// The main file.
    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        std::fs::read(self.file(name)).ok()
    }

    /// The main file, if the pair is whole and fits.
    pub fn whole(&self, name: &str) -> Option<Vec<u8>> {
        let bytes = self.read(name)?;
        (std::fs::read(self.md5(name)).ok()? == md5_hex(&bytes).as_bytes()).then_some(bytes)
    }

    /// Whether the pair is whole with these bytes.
    pub fn holds(&self, name: &str, bytes: impl AsRef<[u8]>) -> bool {
        self.whole(name).is_some_and(|whole| whole == bytes.as_ref())
    }

    /// Whether neither file of the pair is there.
    pub fn lacks(&self, name: &str) -> bool {
        !self.file(name).exists() && !self.md5(name).exists()
    }

    /// Every main file, by name.
    pub fn all(&self) -> BTreeMap<String, Vec<u8>> {
        let mut all = BTreeMap::new();
        for (_, folder) in FOLDERS {
            let Ok(entries) = std::fs::read_dir(self.0.join(folder)) else { continue };
            for path in entries.flatten().map(|entry| entry.path()) {
                let name = path.file_name().expect("an entry has a name").to_string_lossy().into_owned();
                all.extend(std::fs::read(&path).ok().map(|bytes| (name, bytes)));
            }
        }
        all
    }
}

/// The shared files of the agent of that name are called so, without the ending.
pub fn key(agent: &str) -> String {
    md5_hex(agent.as_bytes())
}

/// The configuration of the agent of that name.
pub fn conf(agent: &str) -> String {
    format!("{}.conf", key(agent))
}

/// Written beside, then renamed.
fn put(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().expect("a file lies in a directory"))
        .expect("the directory is ours");
    let beside = path.with_extension("new");
    std::fs::write(&beside, bytes).expect("the directory is ours");
    std::fs::rename(beside, path).expect("the directory is ours");
}

/// An agent that looks for its configuration again and again, `.md5` first, and remembers what it was given.
#[derive(Debug)]
pub struct Looker {
    over: Arc<AtomicBool>,
    looks: Arc<Mutex<Looks>>,
    thread: Option<JoinHandle<()>>,
}

/// What an agent saw.
#[derive(Debug, Clone, Default)]
pub struct Looks {
    /// How often it looked and was answered, with a file or without one.
    pub answered: usize,
    /// Contents in their order, each time another than before.
    pub contents: Vec<Vec<u8>>,
    /// What must never be, in words.
    pub wrong: Vec<String>,
    /// At which look each MD5 was first told, or first that of the file.
    first: BTreeMap<Vec<u8>, usize>,
}

impl Looker {
    /// Looks at the pair of that name at `node`, which has it already.
    pub fn start(node: SocketAddr, name: &str) -> Looker {
        let over = Arc::<AtomicBool>::default();
        let looks = Arc::<Mutex<Looks>>::default();
        let (stop, seen, name) = (Arc::clone(&over), Arc::clone(&looks), name.to_owned());
        let look = move || {
            while !stop.load(Ordering::SeqCst) {
                let Some([md5, file]) = given(node, &name) else { continue };
                seen.lock().unwrap_or_else(PoisonError::into_inner).note(&name, md5, file);
            }
        };
        Looker { over, looks, thread: Some(std::thread::spawn(look)) }
    }

    /// What it saw so far.
    pub fn looks(&self) -> Looks {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until it has looked at what is there now.
    pub fn has_looked(&self) {
        let before = self.looks().answered;
        until::holds("an agent looks", || self.looks().answered > before + 1);
    }

    /// Ends it.
    ///
    /// # Panics
    /// When the agent did.
    pub fn stop(mut self) -> Looks {
        self.over.store(true, Ordering::SeqCst);
        self.thread.take().expect("stopped once").join().expect("an agent does not panic");
        self.looks()
    }
}

impl Drop for Looker {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
    }
}

/// What the node gives, the `.md5` first, as the real agent asks, each on a connection of its own. `None`: it is down.
fn given(node: SocketAddr, name: &str) -> Option<[Option<Vec<u8>>; 2]> {
    let stem = name.rsplit_once('.').expect("a main file has an ending").0;
    let md5 = fetch(node, &format!("{stem}.md5")).ok()?.ok();
    Some([md5, fetch(node, name).ok()?.ok()])
}

/// Reads a file as the real client does: with its `QUIT`, the node knows that it has all of it.
pub fn fetch(node: SocketAddr, name: &str) -> io::Result<Result<Vec<u8>, String>> {
    let mut sender = Sender::connect(node)?;
    let given = sender.fetch("RECV", name)?;
    sender.say("QUIT\n")?;
    sender.rest()?;
    Ok(given)
}

impl Looks {
    fn note(&mut self, name: &str, md5: Option<Vec<u8>>, file: Option<Vec<u8>>) {
        self.answered += 1;
        let (md5, file) = match (md5, file) {
            (Some(md5), Some(file)) => (md5, file),
            // Here it would upload what it has.
            (None, _) => return self.wrong.push(format!("the md5 of {name} is absent")),
            (_, None) => return self.wrong.push(format!("{name} is absent, its md5 is there")),
        };
        let (sum, start) =
            (md5_hex(&file).into_bytes(), String::from_utf8_lossy(&file[..file.len().min(60)]));
        let [told, given] = [md5, sum].map(|sum| *self.first.entry(sum).or_insert(self.answered));
        // A newer file than the `.md5` told may have been placed in between, or its `.md5` is still to come.
        if told > given {
            self.wrong.push(format!("an older {name} than its md5 tells: {start}"));
        }
        if self.contents.last() == Some(&file) {
            return;
        }
        if self.contents.contains(&file) {
            self.wrong.push(format!("{name} is old again: {start}"));
        }
        self.contents.push(file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(looks: &[(Option<&str>, Option<&str>)]) -> Vec<String> {
        let mut seen = Looks::default();
        let bytes = |text: &str| text.as_bytes().to_vec();
        for (md5, file) in looks {
            seen.note("a.conf", md5.map(|of| md5_hex(of.as_bytes()).into_bytes()), file.map(bytes));
        }
        seen.wrong
    }

    #[test]
    fn an_agent_may_meet_a_change_and_nothing_that_sets_it_back() {
        let (old, new) = (Some("old"), Some("new"));
        assert!(judged(&[(old, old), (old, new), (old, new), (new, new)]).is_empty());
        assert!(judged(&[(old, new), (old, new), (new, new)]).is_empty(), "it came a little late");
        for (words, looks) in [
            ("absent", vec![(old, old), (None, old)]),
            ("absent", vec![(old, None)]),
            ("old again", vec![(old, old), (new, new), (new, old)]),
            ("than its md5 tells", vec![(old, old), (new, old)]),
            ("than its md5 tells", vec![(old, old), (old, new), (new, new), (new, old)]),
        ] {
            let wrong = judged(&looks);
            assert!(wrong.iter().any(|line| line.contains(words)), "{looks:?}: {wrong:?}");
        }
    }
}
