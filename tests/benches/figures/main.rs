//! The figures: what the node and the server reach on this machine, beside the stock server and rsync in one run.
//!
//! `cargo build --release && cargo bench -p tidegate-tests --bench figures [-- ingest durable drain relay latency shared sites start idle]`
//!
//! Environment: `TIDEGATE_BENCH_RUNS` (3; the median counts), `TIDEGATE_BENCH_FILES` (10,000 for a drain, half as many
//! for an ingest, 100 times as many for a start), `TIDEGATE_STOCK_SERVER` (a real stock server to measure beside;
//! without it its rows are missing).
//! Everything runs on loopback and in temporary directories below `TMPDIR`: choose the disk with that.

#![expect(clippy::print_stdout, reason = "the figures are the output")]

mod drain;
mod durable;
mod idle;
mod ingest;
mod latency;
mod load;
mod relay;
mod shared;
mod site;
mod sites;
mod ssh;
mod start;

use std::fmt::Display;
use std::path::Path;

/// How much of everything.
#[derive(Clone, Copy, Debug)]
struct Scale {
    runs: usize,
    files: usize,
}

fn main() {
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    if let [durable::NEIGHBOUR, home] = wanted.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        return durable::be_a_neighbour(Path::new(home));
    }
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|wish| wish == name);
    let scale =
        Scale { runs: number("TIDEGATE_BENCH_RUNS", 3), files: number("TIDEGATE_BENCH_FILES", 10_000) };
    if wants("ingest") {
        ingest::run(scale);
    }
    if wants("durable") {
        durable::run(scale);
    }
    if wants("drain") {
        drain::run(scale);
    }
    if wants("relay") {
        relay::run(scale);
    }
    if wants("latency") {
        latency::run(scale);
    }
    if wants("shared") {
        shared::run(scale);
    }
    if wants("sites") {
        sites::run();
    }
    if wants("start") {
        start::run(scale);
    }
    if wants("idle") {
        idle::run(scale);
    }
}

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| {
        text.parse().unwrap_or_else(|_| panic!("{variable} must be a number, it is {text:?}"))
    })
}

/// The middle one of several runs.
fn median(mut runs: Vec<f64>) -> f64 {
    runs.sort_by(f64::total_cmp);
    runs[runs.len() / 2]
}

/// One row of the result, as Markdown.
fn row(work: &str, who: &str, figure: impl Display) {
    println!("| {work} | {who} | {figure} |");
}
