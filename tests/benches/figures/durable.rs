//! The durable step of a batch: ways to bring new files to the disk, bare and through the node, alone and with a
//! neighbour that writes heavily on the same file system.
//!
//! Every way does what a commit of the spool does: make the files in one directory, write them, set their times, make
//! them durable, rename them into another directory, fsync that.

use std::fs::{File, FileTimes};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::FallocateFlags;
use tempfile::TempDir;
use tidegate_tests::node::Node;
use tidegate_tests::process::Process;

use crate::site::{UNLIMITED, cpu_seconds};
use crate::{Scale, load, row};

const SIZE: usize = 10_000;
const BATCHES: [usize; 4] = [1, 16, 64, 512];

/// A way is tried on batches for so long, and on at least [`BATCHES_LEAST`] of them.
const TRIAL: Duration = Duration::from_millis(1_500);
const BATCHES_LEAST: usize = 5;

/// What the neighbour writes between two fsyncs.
const NEIGHBOUR_BYTES: usize = 256 << 20;

/// The name under which this program is its own neighbour.
pub(crate) const NEIGHBOUR: &str = "neighbour";

#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    sync: Sync,
    threads: usize,
    allocate: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sync {
    /// Bytes, length, times.
    All,
    /// Bytes and length; times only if they happen to be written.
    Data,
    /// The whole file system, once a batch.
    FileSystem,
}

const fn way(name: &'static str, sync: Sync, threads: usize) -> Way {
    Way { name, sync, threads, allocate: false }
}

const WAYS: [Way; 8] = [
    way("fsync, one after another", Sync::All, 1),
    way("fdatasync, one after another", Sync::Data, 1),
    way("fsync, 2 threads", Sync::All, 2),
    way("fsync, 4 threads", Sync::All, 4),
    way("fsync, 8 threads", Sync::All, 8),
    way("fsync, 16 threads", Sync::All, 16),
    Way { name: "fallocate, fsync, 16 threads", sync: Sync::All, threads: 16, allocate: true },
    way("one syncfs", Sync::FileSystem, 1),
];

pub(crate) fn run(scale: Scale) {
    println!(
        "\n| durable step of a batch, {SIZE} bytes a file | batch | files/s | CPU s per 1,000 | p50 / p99 / max ms |"
    );
    println!("|---|---|---|---|---|");
    let home = tempfile::tempdir().expect("a temporary directory");
    for company in [false, true] {
        let _neighbour = company.then(|| neighbour(home.path()));
        for size in BATCHES {
            for way in WAYS {
                bare(home.path(), way, size, company);
            }
        }
    }
    println!(
        "\n| `SEND`, {SIZE} bytes, plain, one connection a file | senders | files/s | p50 / p99 / max ms |"
    );
    println!("|---|---|---|---|");
    for company in [false, true] {
        for threads in [1, 4, 16] {
            for senders in [1, 64] {
                let _neighbour = company.then(|| neighbour(home.path()));
                through_the_node(threads, senders, scale, company);
            }
        }
    }
}

fn bare(home: &Path, way: Way, size: usize, company: bool) {
    let directory = TempDir::new_in(home).expect("the directory is ours");
    let [from, to] = ["tmp", "ready"].map(|name| directory.path().join(name));
    for path in [&from, &to] {
        std::fs::create_dir(path).expect("the directory is ours");
    }
    let ready = File::open(&to).expect("it was just made");
    let bytes = vec![b'x'; SIZE];
    let (mut waits, cpu, start) = (Vec::new(), cpu_seconds(std::process::id()), Instant::now());
    while start.elapsed() < TRIAL || waits.len() < BATCHES_LEAST {
        let begun = Instant::now();
        let number = waits.len();
        let names: Vec<String> = (0..size).map(|index| format!("{number:08}-{index:08}.data")).collect();
        way.write(&from, &names, &bytes);
        for name in &names {
            std::fs::rename(from.join(name), to.join(name)).expect("the directories are ours");
        }
        ready.sync_all().expect("the disk works");
        waits.push(begun.elapsed());
    }
    let (elapsed, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds(std::process::id()) - cpu);
    let files = (waits.len() * size) as f64;
    waits.sort();
    row(
        &format!("{}{}", way.name, with(company)),
        &size.to_string(),
        format_args!("{:.0} | {:.2} | {}", files / elapsed, cpu * 1000.0 / files, load::spread(&waits)),
    );
}

impl Way {
    fn write(self, directory: &Path, names: &[String], bytes: &[u8]) {
        let next = AtomicUsize::new(0);
        let worker = || {
            while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.write_one(&directory.join(name), bytes).expect("the disk works");
            }
        };
        std::thread::scope(|scope| {
            (1..self.threads.min(names.len())).for_each(|_| drop(scope.spawn(worker)));
            worker();
        });
        if self.sync == Sync::FileSystem {
            let directory = File::open(directory).expect("the directory is ours");
            rustix::fs::syncfs(directory).expect("the disk works");
        }
    }

    fn write_one(self, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
        let mut file = File::create_new(path)?;
        if self.allocate {
            rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes.len() as u64)?;
        }
        file.write_all(bytes)?;
        file.set_times(FileTimes::new().set_modified(SystemTime::now()))?;
        match self.sync {
            Sync::All => file.sync_all(),
            Sync::Data => file.sync_data(),
            Sync::FileSystem => Ok(()),
        }
    }
}

fn through_the_node(threads: usize, senders: usize, scale: Scale, company: bool) {
    let mut node = Node::start_plain(&format!("{UNLIMITED}[spool]\nsync_threads = {threads}"));
    let files = if senders == 1 { scale.files / 50 } else { scale.files / 5 };
    let outcome = load::send(node.address(), None, &load::agent_files(files, SIZE), senders);
    assert!(!node.process().has_ended(), "the node serves on");
    row(
        &format!("sync_threads = {threads}{}", with(company)),
        &senders.to_string(),
        format_args!(
            "{:.0} | {}",
            files as f64 / outcome.elapsed.as_secs_f64(),
            load::spread(&outcome.waits)
        ),
    );
}

fn with(company: bool) -> &'static str {
    if company { ", with a neighbour" } else { "" }
}

/// Starts the neighbour, and waits until it has begun.
pub(crate) fn neighbour(home: &Path) -> Process {
    let program = std::env::current_exe().expect("a running program has a path");
    let mut process = Process::start("neighbour", Command::new(program).arg(NEIGHBOUR).arg(home));
    process.wait_for_line(&["wrote"]);
    process
}

/// Life of a neighbour: writes a big file, fsyncs it, begins anew, until it is killed.
pub(crate) fn be_a_neighbour(home: &Path) {
    let path: PathBuf = home.join("neighbour");
    let bytes = vec![b'n'; 1 << 20];
    loop {
        let mut file = File::create(&path).expect("the directory is ours");
        for _ in 0..NEIGHBOUR_BYTES / bytes.len() {
            file.write_all(&bytes).expect("the disk has room");
        }
        file.sync_all().expect("the disk works");
        println!("wrote {NEIGHBOUR_BYTES} bytes");
    }
}
