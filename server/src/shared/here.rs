//! The central's own shared files, as they lie in its directories.
//!
//! Other programs write there with their own tools: the console truncates and rewrites, an editor removes and writes anew.
//! So what is new and not whole is left alone until the next look, and so is what has just vanished.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use tidegate_spool::durable;
use tidegate_spool::shared::{Folder, Pair, Seen, Tree};

use super::Digest;
use super::decide::End;
use super::names::{Kind, MD5_FOLDER, kind_of, stem};

/// How much of a configuration is searched for what it names; what stands behind it goes nowhere.
const SEARCHED_MAX: u64 = 1 << 20;

/// How many files a configuration may name; more go nowhere.
const MENTIONS_MAX: usize = 1_000;

/// The main files that a configuration names.
pub(crate) type Mentions = Arc<BTreeSet<Box<[u8]>>>;

/// The central's shared files.
pub(crate) struct Here {
    tree: Tree,
    /// What was another at the last look than at the one before.
    young: HashSet<Box<[u8]>>,
    /// What was seen to be another, and has not been told yet.
    untold: BTreeSet<Box<[u8]>>,
    /// What each configuration names, by its content.
    mentions: HashMap<Digest, Mentions>,
}

impl std::fmt::Debug for Here {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Here").field("pairs", &self.tree.items().len()).finish_non_exhaustive()
    }
}

impl Here {
    /// Those in a directory, not looked at yet. It has to have the directories that the console makes, or it is the
    /// wrong one, or not mounted; the others are made.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        for needed in [Kind::Conf.folder(), MD5_FOLDER] {
            let needed = directory.join(needed);
            if !fs::metadata(&needed).is_ok_and(|found| found.is_dir()) {
                let words = format!("{} is no directory", needed.display());
                return Err(io::Error::new(io::ErrorKind::NotFound, words));
            }
        }
        for other in [Kind::Collection, Kind::Command] {
            durable::create_dir_all(&directory.join(other.folder()))?;
        }
        Ok(Self::of(directory))
    }

    /// The same for a command, which makes nothing: a directory that the server has not made yet holds nothing.
    pub(crate) fn of(directory: &Path) -> Self {
        let wanted = |name: &[u8]| kind_of(name).is_some();
        // One that is too large to be moved is seen too: the operator is told its size.
        let tree = Tree::new(folders(directory), Box::new(wanted), u64::MAX);
        Self { tree, young: HashSet::new(), untold: BTreeSet::new(), mentions: HashMap::new() }
    }

    /// Looks. Returns what is another than before, by name.
    pub(crate) fn scan(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let changed = self.tree.scan()?;
        self.young = changed.iter().map(|name| name.clone().into()).collect();
        self.untold.extend(self.young.iter().cloned());
        if self.mentions.len() > 2 * self.tree.items().len() {
            let contents: HashSet<Digest> = self.tree.items().values().map(|seen| seen.digest).collect();
            self.mentions.retain(|digest, _| contents.contains(digest));
        }
        Ok(changed)
    }

    /// Looks at one pair again.
    pub(crate) fn refresh(&mut self, name: &[u8]) -> io::Result<()> {
        if self.look_again(name)? {
            self.untold.insert(name.into());
        }
        Ok(())
    }

    /// The same after this process changed it, which is no news.
    pub(crate) fn refresh_own(&mut self, name: &[u8]) -> io::Result<()> {
        self.look_again(name).map(drop)
    }

    fn look_again(&mut self, name: &[u8]) -> io::Result<bool> {
        let before = self.get(name).map(|seen| seen.digest);
        let after = self.tree.refresh(name)?.map(|seen| seen.digest);
        if before != after {
            self.young.insert(name.into());
        }
        Ok(before != after)
    }

    /// What was seen to be another since this was asked last, whoever looked. What comes of it may fail: then it is
    /// [told again](Self::tell_again).
    pub(crate) fn take_untold(&mut self) -> BTreeSet<Box<[u8]>> {
        std::mem::take(&mut self.untold)
    }

    pub(crate) fn tell_again(&mut self, names: BTreeSet<Box<[u8]>>) {
        self.untold.extend(names);
    }

    pub(crate) fn get(&self, name: &[u8]) -> Option<Seen> {
        self.tree.get(name)
    }

    /// Where a pair lies; `None`: no shared file is called so.
    pub(crate) fn pair(&self, name: &[u8]) -> Option<Pair> {
        self.tree.pair(name)
    }

    /// This end of a pair.
    pub(crate) fn end(&self, name: &[u8]) -> End {
        let is_young = self.young.contains(name);
        match self.get(name) {
            Some(Seen { digest, fits, .. }) => End { digest: Some(digest), fits, settled: fits || !is_young },
            None => End { settled: !is_young && !self.tree.is_unreadable(name), ..End::NONE },
        }
    }

    /// What has no fitting `.md5` and has been so at two looks: nobody is going to write it any more.
    pub(crate) fn unfit(&self) -> Vec<(Box<[u8]>, Digest)> {
        let unfit = self.tree.items().iter().filter(|(name, seen)| !seen.fits && !self.young.contains(*name));
        unfit.map(|(name, seen)| (name.clone(), seen.digest)).collect()
    }

    /// Whether another main file here has the same `.md5`: whoever writes one makes the other unfit.
    pub(crate) fn is_ambiguous(&self, name: &[u8]) -> bool {
        let beside = |kind: Kind| [stem(name), b".", kind.extension().as_bytes()].concat();
        Kind::ALL.into_iter().map(beside).any(|other| other != name && self.get(&other).is_some())
    }

    /// What a configuration names. Nothing, if it is another by now, or cannot be read.
    pub(crate) fn mentions(&mut self, name: &[u8]) -> Mentions {
        let Some(seen) = self.get(name) else { return Mentions::default() };
        if let Some(known) = self.mentions.get(&seen.digest) {
            return Arc::clone(known);
        }
        let Some(pair) = self.pair(name) else { return Mentions::default() };
        let Ok(text) = beginning(&pair.file) else { return Mentions::default() };
        // Of a longer one the digest shows nothing; what it names is found by its beginning.
        if seen.size <= SEARCHED_MAX && super::digest(&text) != seen.digest {
            return Mentions::default();
        }
        let mentions = Arc::new(mentioned(&text));
        self.mentions.insert(seen.digest, Arc::clone(&mentions));
        mentions
    }
}

fn folders(directory: &Path) -> Vec<Folder> {
    let folder = |kind: Kind| Folder {
        directory: directory.join(kind.folder()),
        extension: kind.extension(),
        md5_directory: directory.join(MD5_FOLDER),
    };
    let is_there = |kind: &Kind| *kind == Kind::Conf || directory.join(kind.folder()).is_dir();
    Kind::ALL.into_iter().filter(is_there).map(folder).collect()
}

fn beginning(file: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(file)?.take(SEARCHED_MAX).read_to_end(&mut text)?;
    Ok(text)
}

/// The main files that a configuration's lines name: `file_collection X` and `cmd_file R`.
fn mentioned(text: &[u8]) -> BTreeSet<Box<[u8]>> {
    let file_of = |line: &[u8]| {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let kind = match words.next()? {
            b"file_collection" => Kind::Collection,
            b"cmd_file" => Kind::Command,
            _ => return None,
        };
        let name = [words.next()?, b".", kind.extension().as_bytes()].concat();
        kind_of(&name).is_some().then(|| name.into_boxed_slice())
    };
    text.split(|byte| *byte == b'\n').filter_map(file_of).take(MENTIONS_MAX).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::shared::digest;

    /// A directory as the console makes it.
    pub(crate) fn directory() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for folder in ["conf", "md5", "collections", "commands"] {
            fs::create_dir(directory.path().join(folder)).unwrap();
        }
        directory
    }

    /// Writes a pair, or its main file alone.
    pub(crate) fn put(directory: &Path, name: &str, content: &str, whole: bool) {
        use md5::{Digest as _, Md5};

        let kind = kind_of(name.as_bytes()).unwrap();
        fs::write(directory.join(kind.folder()).join(name), content).unwrap();
        let md5 = directory.join("md5").join(format!("{}.md5", name.rsplit_once('.').unwrap().0));
        if whole {
            let digest: String = Md5::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
            fs::write(md5, digest).unwrap();
        } else {
            let _ = fs::remove_file(md5);
        }
    }

    const CONF: &str = "2f527604e1deff1329720282d8d3cfa1.conf";

    fn end(content: &str, fits: bool, settled: bool) -> End {
        End { digest: Some(digest(content.as_bytes())), fits, settled }
    }

    #[test]
    fn what_is_new_and_not_whole_and_what_has_just_vanished_is_not_settled() {
        let directory = directory();
        let mut here = Here::open(directory.path()).unwrap();
        let name = CONF.as_bytes();
        here.scan().unwrap();
        assert_eq!(here.end(name), End::NONE);
        put(directory.path(), CONF, "one", false);
        assert_eq!(here.scan().unwrap(), [name]);
        assert_eq!(here.end(name), end("one", false, false));
        assert!(here.unfit().is_empty());
        here.scan().unwrap();
        assert_eq!(here.end(name), end("one", false, true));
        assert_eq!(here.unfit(), [(name.into(), digest(b"one"))]);
        put(directory.path(), CONF, "two!", true);
        here.scan().unwrap();
        assert_eq!(here.end(name), end("two!", true, true));
        assert!(here.unfit().is_empty());
        fs::remove_file(directory.path().join("conf").join(CONF)).unwrap();
        here.refresh(name).unwrap();
        assert_eq!(here.end(name), End { settled: false, ..End::NONE });
        here.scan().unwrap();
        assert_eq!(here.end(name), End::NONE);
    }

    #[test]
    fn a_configuration_names_collections_and_commands() {
        let directory = directory();
        let text = "server_ip 1.2.3.4\nfile_collection fc_1\n# file_collection fc_2\n\t cmd_file  0123 more\r\n\
                    file_collection\nfile_collection ../fc_3\nfile_collectionx fc_4\ncmd_file 0123\nfile_collection fc_5";
        put(directory.path(), CONF, text, true);
        let mut here = Here::open(directory.path()).unwrap();
        here.scan().unwrap();
        let expected = [&b"0123.rcmd"[..], b"fc_1.zip", b"fc_5.zip"];
        let named = here.mentions(CONF.as_bytes());
        assert_eq!(named.iter().map(|name| &**name).collect::<Vec<_>>(), expected);
        // It is known by its content, and another that came since is not.
        put(directory.path(), CONF, "file_collection fc_9\n", true);
        assert_eq!(here.mentions(CONF.as_bytes()), named);
        here.scan().unwrap();
        assert_eq!(here.mentions(CONF.as_bytes()).len(), 1);
        put(directory.path(), CONF, "file_collection fc_8\nfile_collection fc_7", true);
        here.scan().unwrap();
        put(directory.path(), CONF, "file_collection fc_7", true);
        assert!(here.mentions(CONF.as_bytes()).is_empty(), "it is another by now");
        assert!(here.mentions(b"none.zip").is_empty());
    }

    #[test]
    fn two_kinds_of_one_stem_share_an_md5() {
        let directory = directory();
        put(directory.path(), "x.zip", "a", true);
        let mut here = Here::open(directory.path()).unwrap();
        here.scan().unwrap();
        assert!(!here.is_ambiguous(b"x.zip") && here.is_ambiguous(b"x.rcmd"));
        put(directory.path(), "x.rcmd", "b", true);
        here.scan().unwrap();
        assert!(here.is_ambiguous(b"x.zip") && here.is_ambiguous(b"x.rcmd"));
    }

    #[test]
    fn a_directory_without_configurations_is_the_wrong_one() {
        let directory = tempfile::tempdir().unwrap();
        let error = Here::open(directory.path()).expect_err("nothing is there");
        assert!(error.to_string().contains("conf is no directory"), "{error}");
        fs::create_dir(directory.path().join("conf")).unwrap();
        Here::open(directory.path()).expect_err("no md5");
        fs::create_dir(directory.path().join("md5")).unwrap();
        Here::open(directory.path()).unwrap();
        assert!(directory.path().join("commands").is_dir());
    }
}
