//! Many shared files, and large ones: what a comparison costs on the wire, and that packages pass a collection that fills
//! a narrow link.

use std::time::Duration;

use tidegate_tests::central::Mode;
use tidegate_tests::certificates::Authority;
use tidegate_tests::corpus::noise;
use tidegate_tests::exchange::{Centre, Narrow, Plant, QUICKLY, SETTINGS, agents, own};
use tidegate_tests::shelf::conf;
use tidegate_tests::tap::{From, Tap, Verdict};
use tidegate_tests::until;
use tidegate_tests::wan::Path;

const AGENTS: usize = 10_000;

/// What a comparison of all of them may cost, both ways together, with everything that a connection costs.
const COMPARISON: u64 = 200_000;

/// 20 MB through 10 Mbit/s take sixteen seconds at least.
const COLLECTION: usize = 20_000_000;
const LINK: Path = Path { round_trip: Duration::from_millis(20), rate: Some(1_250_000) };
const SECONDS: usize = 16;

#[test]
fn ten_thousand_agents_are_compared_for_little() {
    let authority = Authority::new();
    let plant = Plant::start(&authority, "plant", "");
    let all = agents(AGENTS);
    let tap = Tap::at(plant.node.front(), plant.node.address(), |_| Verdict::Pass);
    let mut site = plant.site(Mode::Standing, &own(&all));
    site.address = plant.node.front();
    let mut centre = Centre::new(&authority, &[site], &format!("{SETTINGS}{QUICKLY}"));
    for shelf in [&plant.shelf, &centre.shelf] {
        all.iter().for_each(|agent| shelf.write(&conf(agent), format!("the configuration of {agent}")));
    }
    let passed = || tap.passed(From::Dialler) + tap.passed(From::Listener);
    let edited = &conf(&all[0]);
    let mut costs = Vec::new();
    for edit in ["the first edit", "the second edit"] {
        // The first time nothing is known of the site, the second time all.
        let before = passed();
        centre.shelf.write(edited, edit);
        centre.central.run();
        until::holds("what was edited is at the site", || plant.shelf.holds(edited, edit));
        costs.push(passed() - before);
        centre.central.process().terminate();
    }
    eprintln!("{AGENTS} agents: bytes on the wire {costs:?}");
    assert!(costs.iter().all(|cost| *cost < COMPARISON), "{costs:?}");
    assert_eq!(plant.shelf.all().len(), AGENTS);
}

#[test]
fn packages_pass_a_large_collection_on_a_narrow_link() {
    let mut narrow = Narrow::new(LINK);
    let waits = narrow.packages_beside(&noise(1, COLLECTION));
    // One after another: on average each took less than a second.
    assert!(waits.len() > SECONDS, "only {} packages passed: {waits:?}", waits.len());
}
