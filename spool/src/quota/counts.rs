//! Packages and bytes, of the whole spool and by whose they are.

use std::collections::HashMap;

use super::{AgentKey, Scope};

/// Packages stored or being written, and bytes stored or promised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

impl Count {
    pub(crate) fn add(&mut self, more: Self) {
        self.files = self.files.saturating_add(more.files);
        self.bytes = self.bytes.saturating_add(more.bytes);
    }

    fn subtract(&mut self, less: Self) {
        *self = self.without(less);
    }

    pub(super) fn without(self, less: Self) -> Self {
        Self { files: self.files.saturating_sub(less.files), bytes: self.bytes.saturating_sub(less.bytes) }
    }

    /// Whether it is as much of both.
    pub(crate) fn covers(self, other: Self) -> bool {
        self.files >= other.files && self.bytes >= other.bytes
    }
}

pub(super) struct Counts {
    pub(super) all: Count,
    /// By the position of the class.
    classes: Vec<Count>,
    pub(super) agents: HashMap<AgentKey, Count>,
}

impl Counts {
    pub(super) fn new(classes: usize) -> Self {
        Self { all: Count::default(), classes: vec![Count::default(); classes], agents: HashMap::new() }
    }

    pub(super) fn class(&self, scope: Scope) -> Count {
        self.classes[scope.class.position()]
    }

    pub(super) fn agent(&self, scope: Scope) -> Count {
        self.agents.get(&scope.agent).copied().unwrap_or_default()
    }

    pub(super) fn add(&mut self, scope: Option<Scope>, more: Count) {
        self.all.add(more);
        if let Some(scope) = scope {
            self.classes[scope.class.position()].add(more);
            self.agents.entry(scope.agent).or_default().add(more);
        }
    }

    pub(super) fn subtract(&mut self, scope: Option<Scope>, less: Count) {
        self.all.subtract(less);
        if let Some(scope) = scope {
            self.classes[scope.class.position()].subtract(less);
            if let Some(agent) = self.agents.get_mut(&scope.agent) {
                agent.subtract(less);
                if agent.files == 0 {
                    self.agents.remove(&scope.agent);
                }
            }
        }
    }
}
