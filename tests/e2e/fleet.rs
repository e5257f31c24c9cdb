//! Two hundred standing sites on one sync server: everything arrives once and is deleted, nobody's connection is ever given up,
//! and the server stays small. How late and how dear it is says `tests/benches`, not a test.

use tidegate_tests::central::{Central, Mode, Site};
use tidegate_tests::certificates::Authority;
use tidegate_tests::corpus::Corpus;
use tidegate_tests::fleet::Fleet;
use tidegate_tests::oracle::Oracle;
use tidegate_tests::until;

const SITES: usize = 200;
const ROUNDS: usize = 5;
const SIZE: usize = 12_000;

/// A hundred thousand would not need more: packages pass through, connections hold next to nothing.
const MEMORY_KIB: u64 = 160 * 1024;

#[test]
fn two_hundred_standing_sites_are_served_by_a_small_server() {
    let authority = Authority::new();
    let fleet = Fleet::start(&authority, SITES);
    let sites: Vec<_> = fleet
        .addresses()
        .iter()
        .enumerate()
        .map(|(index, address)| Site::node(&site(index), *address).over(Mode::Standing))
        .collect();
    let mut central = Central::new(&authority, &sites, "");
    central.run();
    let oracle = Oracle::default();
    let mut corpus = Corpus::new(1, SITES);
    for round in 0..ROUNDS {
        for index in 0..SITES {
            let (name, bytes) = corpus.file(round * SITES + index, SIZE);
            oracle.expect(&name, &bytes);
            fleet.offer(index, &name, bytes);
        }
        until::holds("a package of each site arrives", || oracle.is_complete(&central.pipeline.consume()));
        until::holds("each site deletes it", || fleet.held() == 0);
    }
    let verdict = oracle.judge(&central.pipeline.consume());
    assert!(verdict.is_clean(), "{verdict}");
    assert_eq!(fleet.connections(), SITES, "every site was dialled once, and the connection stood");
    let memory = central.process().peak_memory_kib();
    assert!(memory < MEMORY_KIB, "{memory} KiB");
    assert!(central.process().terminate().success());
}

fn site(index: usize) -> String {
    format!("site-{index:04}")
}
