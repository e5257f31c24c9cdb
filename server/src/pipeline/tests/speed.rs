//! How fast batches of a node get through to the disk, beside what the disk does at all. Not a test: it prints.
//!
//! `cargo test --release -p tidegate-server speed -- --ignored --nocapture`; `TMPDIR` chooses the disk.

use std::fs;
use std::path::Path;
use std::time::Instant;

use tidegate_proto::relay::Number;
use tidegate_spool::{durable, parallel};

use super::{SITE, name, open, settings, when};
use crate::body::Arriving;
use crate::pipeline::{Pipeline, Relayed, What};

const PACKAGES: u64 = 10_240;
const SIZE: usize = 12_000;

/// Seconds of CPU time of this process so far.
fn cpu() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}

fn batch(pipeline: &Pipeline, numbers: std::ops::Range<u64>) -> Vec<Relayed> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let one = |counter: u64| {
        let mut content = vec![b'x'; SIZE];
        content[..8].copy_from_slice(&counter.to_be_bytes());
        let mut body = Arriving::new(pipeline.staging());
        runtime.block_on(body.write(&content)).unwrap();
        let name = name(&format!("web{:02}.{}.data", counter % 50, 1_700_000_000 + counter));
        let what = What::Body(body.finish());
        Relayed { number: Number { run: 7, counter }, name, modified: when(1_600_000_000), what }
    };
    numbers.map(one).collect()
}

fn bare(directory: &Path, count: u64, threads: usize) {
    let [from, to] = ["from", "to"].map(|name| directory.join(name));
    [&from, &to].into_iter().for_each(|path| fs::create_dir(path).unwrap());
    let content = vec![b'x'; SIZE];
    let (begun, used) = (Instant::now(), cpu());
    for first in (0..PACKAGES).step_by(usize::try_from(count).unwrap()) {
        let mut names: Vec<_> = (first..first + count).map(|n| n.to_string()).collect();
        parallel::for_each(&mut names, threads, |name| {
            durable::write_new(&from.join(name), &content).unwrap()
        });
        for name in names {
            durable::rename_noreplace(&from.join(&name), &to.join(&name)).unwrap();
        }
        durable::sync_dir(&to).unwrap();
    }
    tell("bare", count, threads, begun, used);
}

fn tell(what: &str, count: u64, threads: usize, begun: Instant, used: f64) {
    let (seconds, used) = (begun.elapsed().as_secs_f64(), cpu() - used);
    let thousands = PACKAGES as f64 / 1_000.0;
    println!(
        "{what:8} batch {count:5} threads {threads:2}: {:6.0} files/s, {:.2} s for 10,000, CPU {:.3} s per 1,000",
        PACKAGES as f64 / seconds,
        seconds / thousands * 10.0,
        used / thousands
    );
}

#[test]
#[ignore = "it measures"]
fn speed_of_relayed_batches() {
    for round in 0..3 {
        for count in [512, 1_024] {
            for threads in [16, 64] {
                let root = tempfile::tempdir().unwrap();
                bare(root.path(), count, threads);
            }
            let root = tempfile::tempdir().unwrap();
            let pipeline = open(&root);
            let batches: Vec<_> = (1..=PACKAGES)
                .step_by(usize::try_from(count).unwrap())
                .map(|first| batch(&pipeline, first..first + count))
                .collect();
            let (begun, used) = (Instant::now(), cpu());
            for batch in batches {
                let last = batch.last().unwrap().number;
                assert_eq!(pipeline.relayed(SITE, batch).unwrap(), Some(last));
                pipeline.relay_deleted(SITE, last).unwrap();
            }
            pipeline.flush().unwrap();
            tell(if round == 0 { "relayed*" } else { "relayed" }, count, 16, begun, used);
            assert_eq!(fs::read_dir(settings(&root).directory).unwrap().count() as u64, PACKAGES + 1);
        }
    }
}
