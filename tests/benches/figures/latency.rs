//! How long a package takes on an idle standing link: from its sender's final `SEND OK` to its file in the pipeline's
//! directory, one at a time.
//!
//! The agent is on the node's side of the link. The pipeline's directory is looked at some thousand times a second, so the
//! figures are some tenths of a millisecond too high.

use std::time::{Duration, Instant};

use tidegate_tests::central::{Central, Mode, Site};
use tidegate_tests::sender::Sender;
use tidegate_tests::until::{self, PATIENCE};
use tidegate_tests::wan::{Path, Wan};

use crate::load::{self, Named};
use crate::relay::{link, name};
use crate::site::node;
use crate::{Scale, row};

const SIZE: usize = 12_000;
const FILES: usize = 300;
/// Between two files: longer than anything waits for more to come before it acts.
const PAUSE: Duration = Duration::from_millis(300);
const LOOK: Duration = Duration::from_micros(200);

pub(crate) fn run(_: Scale) {
    println!(
        "\n| `SEND OK` to pipeline, idle standing link | who | files | p50 / p99 / max ms | p99 over the round trip, ms |"
    );
    println!("|---|---|---|---|---|");
    let files = load::agent_files(FILES + 1, SIZE);
    for path in [link(0, None), link(20, None), link(100, None)] {
        let waits = waits(path, &files);
        let over = load::quantile(&waits, 0.99).as_secs_f64() - path.round_trip.as_secs_f64();
        row(
            &name(path),
            "relay",
            format_args!("{} | {} | {:.1}", waits.len(), load::spread(&waits), over * 1_000.0),
        );
    }
}

fn waits(path: Path, files: &[Named]) -> Vec<Duration> {
    let (authority, node) = node();
    let _wan = Wan::at(node.front(), node.address(), path);
    let site = Site::node("plant", node.front()).over(Mode::Standing);
    let mut central = Central::new(&authority, &[site], "");
    central.run();
    // The first one waits for the connection.
    let all = files.iter().map(|(name, bytes)| {
        let reply = Sender::connect(node.address()).and_then(|mut agent| agent.send(name, bytes));
        let acknowledged = Instant::now();
        assert_eq!(reply.expect("the node listens"), "SEND OK");
        while !central.pipeline.holds(name) {
            assert!(acknowledged.elapsed() < PATIENCE, "{name} does not arrive");
            until::pause(LOOK);
        }
        let wait = acknowledged.elapsed();
        until::pause(PAUSE);
        wait
    });
    let mut waits: Vec<_> = all.skip(1).collect();
    waits.sort();
    waits
}
