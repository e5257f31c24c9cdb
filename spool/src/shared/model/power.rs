//! What a journalling file system has after a power cut.
//!
//! Bytes that were not fsynced are there, missing or zero. Changes of names that were not fsynced (by an fsync of a
//! directory with one of the names) happened or not, each for itself, but on one name in their order; and one change of
//! two names happened to both.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A choice among `0..n`; 0 is as little as possible.
pub(super) type Dice<'a> = &'a mut dyn FnMut(usize) -> usize;

/// Files and their names.
#[derive(Clone, Default)]
pub(super) struct World {
    pub(super) inodes: Vec<Inode>,
    pub(super) names: BTreeMap<PathBuf, usize>,
}

#[derive(Clone, Default)]
pub(super) struct Inode {
    pub(super) bytes: Vec<u8>,
    /// The number of the last change, in the place of a time.
    pub(super) modified: u64,
}

#[derive(Clone)]
pub(super) enum Effect {
    Write {
        inode: usize,
        offset: usize,
        bytes: Vec<u8>,
    },
    /// All the bytes become others.
    Rewrite {
        inode: usize,
        bytes: Vec<u8>,
    },
    Names(Vec<(PathBuf, Option<usize>)>),
}

struct Op {
    effect: Effect,
    durable: bool,
    /// An fsync has failed: another one does nothing.
    lost: bool,
}

/// A world, and what of it is durable.
#[derive(Default)]
pub(super) struct Disk {
    pub(super) now: World,
    durable: World,
    log: Vec<Op>,
    clock: u64,
}

impl World {
    fn apply(&mut self, effect: &Effect, clock: u64) {
        match effect {
            Effect::Write { inode, offset, bytes } => {
                let file = self.inode(*inode);
                let end = file.bytes.len().max(offset + bytes.len());
                file.bytes.resize(end, 0);
                file.bytes[*offset..offset + bytes.len()].copy_from_slice(bytes);
                file.modified = clock;
            }
            Effect::Rewrite { inode, bytes } => {
                *self.inode(*inode) = Inode { bytes: bytes.clone(), modified: clock };
            }
            Effect::Names(names) => {
                for (path, inode) in names {
                    match inode {
                        Some(inode) => _ = self.names.insert(path.clone(), *inode),
                        None => _ = self.names.remove(path),
                    }
                }
            }
        }
    }

    fn inode(&mut self, inode: usize) -> &mut Inode {
        if self.inodes.len() <= inode {
            self.inodes.resize(inode + 1, Inode::default());
        }
        &mut self.inodes[inode]
    }

    pub(super) fn read(&self, path: &Path) -> Option<&[u8]> {
        Some(&self.inodes[*self.names.get(path)?].bytes)
    }
}

impl Disk {
    pub(super) fn new_inode(&mut self) -> usize {
        self.now.inodes.push(Inode::default());
        self.now.inodes.len() - 1
    }

    pub(super) fn change(&mut self, effect: Effect) {
        self.clock += 1;
        self.now.apply(&effect, self.clock);
        self.log.push(Op { effect, durable: false, lost: false });
    }

    /// One that is made durable at once.
    pub(super) fn change_durably(&mut self, effect: Effect) {
        self.change(effect);
        self.log.last_mut().expect("it was pushed").durable = true;
    }

    /// Nothing since the last power cut is durable.
    pub(super) fn forget_durability(&mut self) {
        self.log.iter_mut().for_each(|op| op.durable = false);
    }

    /// An fsync of a file, which may fail.
    pub(super) fn sync_file(&mut self, file: usize, works: bool) {
        self.sync(works, |effect| match effect {
            Effect::Write { inode, .. } | Effect::Rewrite { inode, .. } => *inode == file,
            Effect::Names(_) => false,
        });
    }

    /// An fsync of a directory, which may fail.
    pub(super) fn sync_dir(&mut self, directory: &Path, works: bool) {
        self.sync(works, |effect| match effect {
            Effect::Names(names) => names.iter().any(|(path, _)| path.parent() == Some(directory)),
            _ => false,
        });
    }

    fn sync(&mut self, works: bool, concerns: impl Fn(&Effect) -> bool) {
        for op in self.log.iter_mut().filter(|op| concerns(&op.effect)) {
            if works {
                op.durable |= !op.lost;
            } else {
                op.lost |= !op.durable;
            }
        }
    }

    pub(super) fn power_cut(&mut self, dice: Dice<'_>) {
        self.close_durability();
        let mut lost_names = BTreeSet::new();
        let mut world = std::mem::take(&mut self.durable);
        for op in std::mem::take(&mut self.log) {
            let effect = match op.effect {
                effect if op.durable => effect,
                Effect::Names(names) => {
                    if names.iter().any(|(path, _)| lost_names.contains(path)) || dice(2) == 0 {
                        lost_names.extend(names.into_iter().map(|(path, _)| path));
                        continue;
                    }
                    Effect::Names(names)
                }
                effect => match (dice(3), effect) {
                    (0, _) => continue,
                    (1, Effect::Write { inode, offset, bytes }) => {
                        Effect::Write { inode, offset, bytes: vec![0; bytes.len()] }
                    }
                    (_, effect) => effect,
                },
            };
            self.clock += 1;
            world.apply(&effect, self.clock);
        }
        // Files of which nothing arrived but a name.
        world.inodes.resize(self.now.inodes.len(), Inode::default());
        (self.durable, self.now) = (world.clone(), world);
    }

    /// What is durable makes everything before it durable that concerns the same names.
    fn close_durability(&mut self) {
        let mut names = BTreeSet::new();
        for op in self.log.iter_mut().rev() {
            if let Effect::Names(changed) = &op.effect {
                op.durable |= changed.iter().any(|(path, _)| names.contains(path));
                if op.durable {
                    names.extend(changed.iter().map(|(path, _)| path.clone()));
                }
            }
        }
    }
}
