//! Another hand in the directories of the pairs: it looks at every step, and edits between any two.

use std::fmt;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::power::{Disk, Effect};
use crate::shared::look::Hashing;
use crate::shared::{Digest, Pair};

/// What a main file may hold. Two have one size.
pub(super) const CONTENTS: [(u8, usize); 5] = [(b'a', 1), (b'b', 300), (b'c', 300), (b'd', 9_000), (b'e', 0)];

pub(super) fn bytes(content: usize) -> Vec<u8> {
    let (byte, size) = CONTENTS[content];
    vec![byte; size]
}

pub(super) fn digest(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

pub(super) fn md5(bytes: &[u8]) -> Vec<u8> {
    let mut hashing = Hashing::default();
    hashing.update(bytes);
    hashing.contents().md5.into()
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Edit {
    /// A new main file under the name.
    Put(usize),
    /// Other bytes in the main file that is there.
    Rewrite(usize),
    /// The same in the one that was there first, which the hand has kept open.
    Late(usize),
    Remove,
    /// The `.md5` of what is there.
    Md5,
    WrongMd5,
    RemoveMd5,
}

/// What there is to see of a pair.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct View {
    pub(super) main: Option<Vec<u8>>,
    pub(super) md5: Option<Vec<u8>>,
}

impl View {
    pub(super) fn of(disk: &Disk, pair: &Pair) -> Self {
        let read = |path: &Path| disk.now.read(path).map(<[u8]>::to_vec);
        Self { main: read(&pair.file), md5: read(&pair.md5) }
    }

    pub(super) fn fits(&self) -> bool {
        self.main.as_deref().map(md5) == self.md5 && self.md5.is_some()
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, md5 {}", shown(&self.main), if self.fits() { "that" } else { shown(&self.md5) })
    }
}

/// A main file in few words.
pub(super) fn shown(main: &Option<Vec<u8>>) -> &'static str {
    let Some(main) = main else { return "nothing" };
    let position = (0..CONTENTS.len()).find(|content| bytes(*content) == *main);
    position.map_or("something else", |position| ["a", "b", "c", "d", "e"][position])
}

/// Makes an edit, durably.
pub(super) fn edit(disk: &mut Disk, pair: &Pair, edit: Edit) {
    let main = disk.now.names.get(&pair.file).copied();
    match edit {
        Edit::Put(content) => put(disk, &pair.file, bytes(content)),
        Edit::Rewrite(content) => {
            if let Some(inode) = main {
                rewrite(disk, inode, content);
                // Whoever wants his bytes durable wants their name so.
                disk.change_durably(Effect::Names(vec![(pair.file.clone(), Some(inode))]));
            }
        }
        Edit::Late(_) => unreachable!("only during a change of a file that is there"),
        Edit::Remove => remove(disk, &pair.file),
        Edit::Md5 => {
            if let Some(inode) = main {
                let text = md5(&disk.now.inodes[inode].bytes);
                put(disk, &pair.md5, text);
            }
        }
        Edit::WrongMd5 => put(disk, &pair.md5, vec![b'0'; 32]),
        Edit::RemoveMd5 => remove(disk, &pair.md5),
    }
}

pub(super) fn rewrite(disk: &mut Disk, inode: usize, content: usize) {
    disk.change_durably(Effect::Rewrite { inode, bytes: bytes(content) });
}

fn put(disk: &mut Disk, path: &Path, bytes: Vec<u8>) {
    let inode = disk.new_inode();
    disk.change_durably(Effect::Rewrite { inode, bytes });
    disk.change_durably(Effect::Names(vec![(path.to_owned(), Some(inode))]));
}

fn remove(disk: &mut Disk, path: &Path) {
    if disk.now.names.contains_key(path) {
        disk.change_durably(Effect::Names(vec![(path.to_owned(), None)]));
    }
}
