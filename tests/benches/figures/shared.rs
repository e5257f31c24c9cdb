//! Shared files: how late packages are while a large collection crosses a narrow link, and what a comparison of very many
//! pairs costs.

use std::time::{Duration, Instant};

use tidegate_tests::central::Mode;
use tidegate_tests::certificates::Authority;
use tidegate_tests::corpus::noise;
use tidegate_tests::exchange::{Centre, Narrow, Plant, agents, own};
use tidegate_tests::shelf::conf;
use tidegate_tests::tap::From;
use tidegate_tests::until;
use tidegate_tests::wan::{Path, Wan};

use crate::load;
use crate::relay::{link, name};
use crate::{Scale, row};

const COLLECTION: usize = 20_000_000;
const AGENTS: usize = 10_000;

pub(crate) fn run(_: Scale) {
    println!(
        "\n| packages while 20 MB are placed at the site | who | files | p50 / p99 / max ms | s for the 20 MB |"
    );
    println!("|---|---|---|---|---|");
    let path = link(20, Some(1_250_000));
    let mut narrow = Narrow::new(path);
    let start = Instant::now();
    let mut waits = narrow.packages_beside(&noise(1, COLLECTION));
    let seconds = start.elapsed().as_secs_f64();
    waits.sort();
    row(&name(path), "relay", format_args!("{} | {} | {seconds:.1}", waits.len(), load::spread(&waits)));

    println!(
        "\n| a start with {AGENTS} agents' pairs at both ends, one of them edited | who | s | bytes on the wire |"
    );
    println!("|---|---|---|---|");
    for path in [link(0, None), link(100, None)] {
        for (what, seconds, bytes) in comparisons(path) {
            row(&format!("{}, {what}", name(path)), "relay", format_args!("{seconds:.2} | {bytes}"));
        }
    }
}

/// Nothing is known of the site; and all.
fn comparisons(path: Path) -> Vec<(&'static str, f64, u64)> {
    let authority = Authority::new();
    let plant = Plant::start(&authority, "plant", "");
    let all = agents(AGENTS);
    let wan = Wan::at(plant.node.front(), plant.node.address(), path);
    let mut site = plant.site(Mode::Standing, &own(&all));
    site.address = plant.node.front();
    let mut centre = Centre::new(&authority, &[site], "sync_shared = true\n");
    for shelf in [&plant.shelf, &centre.shelf] {
        all.iter().for_each(|agent| shelf.write(&conf(agent), format!("the configuration of {agent}")));
    }
    let edited = conf(&all[0]);
    let mut costs = Vec::new();
    for what in ["the first contact", "a restart"] {
        until::pause(Duration::from_secs(3));
        let before = wan.passed(From::Dialler) + wan.passed(From::Listener);
        centre.shelf.write(&edited, what);
        let start = Instant::now();
        centre.central.run();
        until::holds("what was edited is at the site", || plant.shelf.holds(&edited, what));
        let bytes = wan.passed(From::Dialler) + wan.passed(From::Listener) - before;
        costs.push((what, start.elapsed().as_secs_f64(), bytes));
        centre.central.process().terminate();
    }
    costs
}
