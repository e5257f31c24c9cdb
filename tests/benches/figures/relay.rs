//! A backlog crosses a link: the same files through the same delayed, narrow links by relay, by Tentacle commands, and by
//! rsync over ssh, which compresses too, but makes nothing durable and knows no pipeline.
//!
//! The time is that of the whole pull, from the start of its process to its end: connection, handshake, every package
//! durable in the pipeline's directory, and its deletion at the node durable as well. rsync's is that of its
//! process likewise, which ends when it has removed what it copied. The bytes are those of TCP's payload, both ways.

use std::path::Path as Directory;
use std::time::{Duration, Instant};

use tidegate_tests::central::{Central, Mode, Site};
use tidegate_tests::corpus::{compressed, noise};
use tidegate_tests::tap::From;
use tidegate_tests::wan::{Path, Wan};

use crate::load::{self, Named};
use crate::site::{count, cpu_seconds, cpu_seconds_of_children, node, pull};
use crate::ssh::Ssh;
use crate::{Scale, median, row};

const SIZE: usize = 12_000;
const SENDERS: usize = 64;

/// 10 and 100 Mbit/s.
const SLOW: Option<u64> = Some(1_250_000);
const FAST: Option<u64> = Some(12_500_000);

/// Where every file takes some round trips, so many times fewer are drained: all of them would measure patience.
const TENTACLE_SHARE: [usize; 3] = [5, 100, 50];

/// Figures of one run, in the order of the table.
type Figures = [f64; 4];

pub(crate) fn run(scale: Scale) {
    let agents = load::agent_files(scale.files, SIZE);
    let all: Vec<u8> = agents.iter().flat_map(|(_, bytes)| bytes).copied().collect();
    let alone: usize = agents.iter().map(|(_, bytes)| compressed(bytes)).sum();
    println!(
        "\nBy zstd -1 the {} agent files of {} bytes on average make {:.1} : 1 file by file, and {:.1} : 1 as one stream.",
        agents.len(),
        all.len() / agents.len(),
        all.len() as f64 / alone as f64,
        all.len() as f64 / compressed(&all) as f64,
    );
    println!(
        "\n| drain of agent files through a link | who | files | s | s per {} | wire bytes per payload byte | CPU s at the site | CPU s at the centre |",
        scale.files
    );
    println!("|---|---|---|---|---|---|---|---|");
    let ssh = Ssh::start();
    let links = [link(0, None), link(100, None), link(20, SLOW)];
    for (path, share) in links.into_iter().zip(TENTACLE_SHARE) {
        let few = &agents[..agents.len() / share];
        report(path, "relay", &agents, scale, || by_pull(Mode::Standing, path, &agents));
        report(path, "rsync --remove-source-files -z over ssh", &agents, scale, || {
            by_rsync(&ssh, path, &agents)
        });
        report(path, "Tentacle commands", few, scale, || by_pull(Mode::Tentacle, path, few));
    }
    println!("\n| incompressible files through a link | who | files | s | share of the link's rate |");
    println!("|---|---|---|---|---|");
    // Some sixteen seconds of either link.
    for (path, files, size) in [(link(20, SLOW), 1_600, 12_000), (link(20, FAST), 2_000, 100_000)] {
        let files: Vec<_> = (0..files).map(|index| random_file(index, size)).collect();
        share(path, "relay", &files, scale, || by_pull(Mode::Standing, path, &files));
        share(path, "rsync --remove-source-files -z over ssh", &files, scale, || {
            by_rsync(&ssh, path, &files)
        });
    }
}

fn report(path: Path, who: &str, files: &[Named], scale: Scale, run: impl FnMut() -> Figures) {
    let [seconds, wire, site, centre] = medians(scale, run);
    let whole = seconds * scale.files as f64 / files.len() as f64;
    let wire = wire / payload(files);
    let site = if site.is_nan() { "?".to_owned() } else { format!("{site:.2}") };
    let figures = format!("{} | {seconds:.2} | {whole:.1} | {wire:.4} | {site} | {centre:.2}", files.len());
    row(&name(path), who, figures);
}

fn share(path: Path, who: &str, files: &[Named], scale: Scale, run: impl FnMut() -> Figures) {
    let [seconds, ..] = medians(scale, run);
    let share = payload(files) / seconds / path.rate.expect("a link with a rate") as f64;
    row(&name(path), who, format_args!("{} | {seconds:.2} | {share:.3}", files.len()));
}

/// By the sync server.
fn by_pull(mode: Mode, path: Path, files: &[Named]) -> Figures {
    let (authority, mut node) = node();
    load::send(node.address(), None, files, SENDERS);
    let wan = Wan::at(node.front(), node.address(), path);
    let central = Central::new(&authority, &[Site::node("plant", node.front()).over(mode)], "");
    let [site, centre] = [cpu_seconds(node.process().id()), cpu_seconds_of_children()];
    let seconds = pull(&central, files.len());
    let [site, centre] = [cpu_seconds(node.process().id()) - site, cpu_seconds_of_children() - centre];
    assert_eq!(node.packages().len(), 0, "the node deleted what was delivered");
    [seconds, wire(&wan), site, centre]
}

/// By rsync. Its server's CPU time is not known: whoever waits for it is not this process.
fn by_rsync(ssh: &Ssh, path: Path, files: &[Named]) -> Figures {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let [from, to] = ["from", "to"].map(|name| directory.path().join(name));
    fill(&from, files);
    let wan = Wan::new(ssh.address(), path);
    let centre = cpu_seconds_of_children();
    let start = Instant::now();
    ssh.rsync(wan.address(), &from, &to);
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!([count(&from), count(&to)], [0, files.len()], "every file moved");
    [seconds, wire(&wan), f64::NAN, cpu_seconds_of_children() - centre]
}

fn fill(directory: &Directory, files: &[Named]) {
    std::fs::create_dir(directory).expect("the directory is ours");
    for (name, bytes) in files {
        std::fs::write(directory.join(name), bytes).expect("the directory is ours");
    }
}

fn random_file(index: usize, size: usize) -> Named {
    (format!("camera-{:02}.{}.data", index % 20, 1_780_000_000 + index), noise(index as u64, size))
}

fn medians(scale: Scale, run: impl FnMut() -> Figures) -> Figures {
    let runs: Vec<Figures> = std::iter::repeat_with(run).take(scale.runs).collect();
    std::array::from_fn(|column| median(runs.iter().map(|figures| figures[column]).collect()))
}

fn payload(files: &[Named]) -> f64 {
    files.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() as f64
}

fn wire(wan: &Wan) -> f64 {
    (wan.passed(From::Dialler) + wan.passed(From::Listener)) as f64
}

pub(crate) fn link(milliseconds: u64, rate: Option<u64>) -> Path {
    Path { round_trip: Duration::from_millis(milliseconds), rate }
}

pub(crate) fn name(path: Path) -> String {
    let round_trip = format!("RTT {} ms", path.round_trip.as_millis());
    match path.rate {
        None => round_trip,
        Some(rate) => format!("{round_trip}, {} Mbit/s", rate / 125_000),
    }
}
