//! The pipeline by itself: delivery, and what a start finds. The tests are in files by theme; here is what they
//! share.

mod damage;
mod disks;
mod model;
mod order;
mod quarantine;
mod relay;
mod speed;
mod start;

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;
use tidegate_proto::Name;

use super::{Kept, Pipeline, Received, Trouble};
use crate::body::Arriving;
use crate::config::{AfterPowerLoss, Incoming, Ownership};
use crate::crash::Crash;
use crate::ledger::LossRow;
use crate::quarantine::Quarantine;

const SITE: &str = "plant-7";

fn settings(root: &TempDir) -> Incoming {
    let directory = root.path().join("incoming");
    if !directory.exists() {
        fs::create_dir(&directory).unwrap();
    }
    Incoming {
        staging: directory.join(".tidegate"),
        directory,
        state: root.path().join("state"),
        ownership: Ownership { user: None, group: None, mode: 0o604 },
        max_files: None,
        after_power_loss: AfterPowerLoss::Deliver,
        history: crate::ledger::Retention::default(),
    }
}

fn open(root: &TempDir) -> Pipeline {
    Pipeline::open(&settings(root), Crash::default()).unwrap()
}

fn name(text: &str) -> Name {
    Name::parse(text.as_bytes()).unwrap()
}

fn when(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn received(pipeline: &Pipeline, text: &str, content: &[u8]) -> Received {
    let mut body = Arriving::new(pipeline.staging());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(body.write(content)).unwrap();
    Received { name: name(text), body: body.finish(), modified: when(1_600_000_000) }
}

fn accept(pipeline: &Pipeline, text: &str, content: &[u8]) -> Result<Vec<Kept>, Trouble> {
    pipeline.accept(SITE, vec![received(pipeline, text, content)])
}

fn files(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.retain(|name| !name.starts_with('.') && name != "ledger-id");
    names.sort();
    names
}

fn losses(root: &TempDir) -> Vec<(String, u64)> {
    let rows = LossRow::read_all(&settings(root).state).unwrap();
    rows.into_iter().map(|row| (row.reason, row.packages)).collect()
}

fn quarantine(root: &TempDir) -> Quarantine {
    Quarantine::open(&settings(root)).unwrap().unwrap()
}

/// Takes a package of a node, and dies before it is delivered.
fn die_before_delivery(root: &TempDir, text: &str, content: &[u8]) {
    let pipeline = Pipeline::open(&settings(root), Crash::panicking_at("after-committed", 1)).unwrap();
    let taken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| accept(&pipeline, text, content)));
    taken.expect_err("it was to die");
}
