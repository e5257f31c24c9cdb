//! Shared files at one end, as an operator, the console or an agent uses them: `conf/`, `md5/`, `collections/` and
//! `commands/` below a directory.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::agent::md5_hex;
use crate::sender::Sender;

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
    thread: Option<JoinHandle<Looks>>,
}

/// What an agent saw.
#[derive(Debug, Default)]
pub struct Looks {
    /// How often it looked and was answered.
    pub answered: usize,
    /// Contents in their order, each time another than before.
    pub contents: Vec<Vec<u8>>,
    /// What must never be, in words.
    pub wrong: Vec<String>,
}

impl Looker {
    /// Looks at the pair of that name at `node`, which has it already.
    pub fn start(node: SocketAddr, name: &str) -> Looker {
        let over = Arc::<AtomicBool>::default();
        let (stop, name) = (Arc::clone(&over), name.to_owned());
        let look = move || {
            let mut looks = Looks::default();
            while !stop.load(Ordering::SeqCst) {
                looks.look(node, &name);
            }
            looks
        };
        Looker { over, thread: Some(std::thread::spawn(look)) }
    }

    /// Ends it.
    ///
    /// # Panics
    /// When the agent did.
    pub fn stop(mut self) -> Looks {
        self.over.store(true, Ordering::SeqCst);
        self.thread.take().expect("stopped once").join().expect("an agent does not panic")
    }
}

impl Drop for Looker {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
    }
}

impl Looks {
    /// As the real agent does, each request on a connection of its own. A node that is down says nothing.
    fn look(&mut self, node: SocketAddr, name: &str) {
        let stem = name.rsplit_once('.').expect("a main file has an ending").0;
        let fetch = |name: &str| Sender::connect(node).and_then(|mut sender| sender.fetch("RECV", name));
        let Ok(md5) = fetch(&format!("{stem}.md5")) else { return };
        let Ok(md5) = md5 else {
            // Here it would upload what it has.
            return self.wrong.push(format!("the md5 of {name} is absent"));
        };
        let Ok(file) = fetch(name) else { return };
        let Ok(file) = file else { return self.wrong.push(format!("{name} is absent, its md5 is there")) };
        self.answered += 1;
        let at = |sum: &[u8]| self.contents.iter().position(|seen| md5_hex(seen).as_bytes() == sum);
        let (told, given) = (at(&md5), at(md5_hex(&file).as_bytes()));
        // A newer file than the `.md5` told may have been placed in between, or its `.md5` is still to come.
        if md5 != md5_hex(&file).as_bytes() && given.is_some() && told.is_none_or(|told| Some(told) > given) {
            self.wrong
                .push(format!("an older {name} than its md5 tells: {:.60}", String::from_utf8_lossy(&file)));
        }
        if self.contents.last() == Some(&file) {
            return;
        }
        if self.contents.contains(&file) {
            self.wrong.push(format!("{name} is old again: {:.60}", String::from_utf8_lossy(&file)));
        }
        self.contents.push(file);
    }
}
