//! Start with a backlog: how long until the node answers, with the system's caches cold where this process may drop
//! them, and what it holds in memory, also while three pullers list everything at once.

use std::time::Instant;

use tidegate_tests::backlog;
use tidegate_tests::node::Node;
use tidegate_tests::sender::Sender;

use crate::site::resident_kib;
use crate::{Scale, median, row};

const SIZE: usize = 3_000;
const PULLERS: usize = 3;

/// A backlog is a hundred times what a drain moves: a million by default.
const PER_FILE: usize = 100;

pub(crate) fn run(scale: Scale) {
    let packages = scale.files * PER_FILE;
    let mut node = Node::start_plain("insecure = true\n[spool]\nmax_files = 10000000\nmax_bytes = \"1TB\"");
    node.kill();
    let laying = Instant::now();
    backlog::lay(&node.storage(), packages, SIZE);
    eprintln!("    {packages} packages laid in {:.0} s", laying.elapsed().as_secs_f64());
    println!(
        "\n| start with {packages} × {SIZE} bytes | caches | ready, s | peak MiB | resident MiB | with {PULLERS} listings, peak MiB |"
    );
    println!("|---|---|---|---|---|---|");
    for cold in [true, false] {
        let (mut seconds, mut figures) = (Vec::new(), Vec::new());
        for _ in 0..scale.runs {
            node.kill();
            if cold && let Err(error) = std::fs::write("/proc/sys/vm/drop_caches", "3") {
                eprintln!("    the caches stay warm: {error}");
                break;
            }
            let start = Instant::now();
            node.restart();
            let listing = list(&node);
            seconds.push(start.elapsed().as_secs_f64());
            figures.push(memory(&mut node, listing, packages));
        }
        if !seconds.is_empty() {
            let middle =
                |column: usize| median(figures.iter().map(|figures| figures[column] / 1024.0).collect());
            row(
                "buffer node",
                if cold { "cold" } else { "warm" },
                format_args!(
                    "{:.1} | {:.0} | {:.0} | {:.0}",
                    median(seconds),
                    middle(0),
                    middle(1),
                    middle(2)
                ),
            );
        }
    }
}

/// Peak and resident memory after the start, and the peak with all listings held at once, in KiB.
fn memory(node: &mut Node, first: (Sender, usize), packages: usize) -> [f64; 3] {
    let pid = node.process().id();
    let (peak, resident) = (node.process().peak_memory_kib() as f64, resident_kib(pid));
    let mut pullers = vec![first];
    pullers.extend((1..PULLERS).map(|_| list(node)));
    for (puller, bytes) in &mut pullers {
        puller.say("LS OK\n").expect("the node listens");
        let names = puller.body(*bytes).expect("the whole listing comes");
        assert_eq!(names.split(|&byte| byte == b'\n').count(), packages, "every package is listed");
    }
    [peak, resident, node.process().peak_memory_kib() as f64]
}

/// Asks for a listing, which the node then holds, and does not take it yet.
fn list(node: &Node) -> (Sender, usize) {
    let mut puller = Sender::connect(node.address()).expect("the node listens");
    let reply = puller.ask("LS <.>").expect("the node answers within patience");
    let bytes = reply.strip_prefix("LS SIZE ").and_then(|bytes| bytes.parse().ok());
    (puller, bytes.unwrap_or_else(|| panic!("a listing is refused: {reply}")))
}
