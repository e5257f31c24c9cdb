//! Files and names, and what of them is durable.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use crate::clock::Millis;

#[derive(Clone, Default)]
pub(super) struct Inode {
    pub(super) bytes: Vec<u8>,
    pub(super) modified: Millis,
    pub(super) durable: (Vec<u8>, Millis),
    /// Bytes set aside, and durably so.
    pub(super) room: (u64, u64),
    /// An fsync has failed: the pages are taken for written.
    pub(super) lost: bool,
}

/// For each name what it stood for since the last fsync, the present last.
#[derive(Clone, Default)]
pub(super) struct Names {
    pub(super) history: BTreeMap<OsString, Vec<Option<Node>>>,
    /// An fsync has failed, and nothing was changed since.
    pub(super) lost: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    File(usize),
    Directory,
}

impl Names {
    pub(super) fn get(&self, name: &OsStr) -> Option<Node> {
        *self.history.get(name)?.last()?
    }

    pub(super) fn set(&mut self, name: &OsStr, node: Option<Node>) {
        self.lost = false;
        self.history.entry(name.to_owned()).or_insert_with(|| vec![None]).push(node);
    }

    pub(super) fn settle(&mut self, mut choose: impl FnMut(&[Option<Node>]) -> usize) {
        for history in self.history.values_mut() {
            *history = vec![history[choose(history)]];
        }
        self.history.retain(|_, history| history[0].is_some());
    }
}
