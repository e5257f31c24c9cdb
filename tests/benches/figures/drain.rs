//! Drain: a backlog of 12 KB files goes from the node to the pipeline directory over mutual TLS, every file durable;
//! beside it rsync from directory to directory with `--fsync`, which knows no pipeline and no crash in between, and a
//! stock server (where given) drained by the same sync server. Through links as sites have them: [`crate::relay`].

use std::process::Command;
use std::time::Instant;

use tidegate_tests::binary;
use tidegate_tests::central::{Central, Site};
use tidegate_tests::certificates::Authority;
use tidegate_tests::stock::{INSTALLED_FILTERS, Stock};

use crate::site::{cpu_seconds, node, pull};
use crate::{Scale, load, median, row};

const SIZE: usize = 12_000;
/// The stock server is drained file by file with a quiet interval: a full backlog would measure patience.
const STOCK_SHARE: usize = 20;

pub(crate) fn run(scale: Scale) {
    let files = scale.files;
    println!("\n| drain of {files} × {SIZE} bytes, loopback | who | s | s per 10,000 |");
    println!("|---|---|---|---|");
    report("mutual TLS, durable", "sync server from buffer node", files, scale.runs, || from_node(files));
    report("directory to directory", "rsync --remove-source-files --fsync", files, scale.runs, || {
        rsync(files)
    });
    if Stock::is_real() {
        let files = files / STOCK_SHARE;
        report("plain, durable", "sync server from stock server", files, scale.runs, || from_stock(files));
    }
}

fn report(work: &str, who: &str, files: usize, runs: usize, run: impl FnMut() -> f64) {
    let seconds = median(std::iter::repeat_with(run).take(runs).collect());
    row(work, who, format_args!("{seconds:.1} | {:.1}", seconds * 10_000.0 / files as f64));
}

fn from_node(files: usize) -> f64 {
    let (authority, mut node) = node();
    load::send(node.address(), None, &load::agent_files(files, SIZE), 64);
    let central = Central::new(&authority, &[Site::node("plant", node.address())], "");
    let before = cpu_seconds(node.process().id());
    let seconds = pull(&central, files);
    eprintln!("    node: {:.2} CPU s", cpu_seconds(node.process().id()) - before);
    assert_eq!(node.packages().len(), 0, "the node deleted what was delivered");
    seconds
}

fn from_stock(files: usize) -> f64 {
    let stock = Stock::start(&["-I", "-i", INSTALLED_FILTERS]);
    for (name, bytes) in load::agent_files(files, SIZE) {
        stock.put(&name, &bytes);
    }
    let authority = Authority::new();
    let central = Central::new(&authority, &[Site::plain("legacy", stock.address())], "");
    pull(&central, files)
}

fn rsync(files: usize) -> f64 {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (from, to) = (directory.path().join("from"), directory.path().join("to"));
    std::fs::create_dir(&from).expect("the directory is ours");
    for (name, bytes) in load::agent_files(files, SIZE) {
        std::fs::write(from.join(name), bytes).expect("the directory is ours");
    }
    let start = Instant::now();
    let mut command = Command::new(binary::system("rsync", "rsync"));
    command
        .args(["--archive", "--remove-source-files", "--fsync"])
        .arg(format!("{}/", from.display()))
        .arg(&to);
    assert!(command.status().expect("rsync starts").success());
    start.elapsed().as_secs_f64()
}
