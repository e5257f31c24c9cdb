//! Every byte of a pull from a stock server. It deletes what it sends unasked, so the server holds every file before that:
//! see `stock_site` for what nobody can save.
//!
//! Two listings of a name are two seconds apart, so many sites wait beside each other.

use std::collections::BTreeMap;
use std::sync::Mutex;

use tidegate_tests::central::{Central, Site};
use tidegate_tests::certificates::Authority;
use tidegate_tests::cutter::{Cut, Cutter, Passed};
use tidegate_tests::oracle::{Arrival, Oracle};
use tidegate_tests::seed::Seed;
use tidegate_tests::stock::Stock;
use tidegate_tests::until;

use super::{EAGER, Session, sweep};

const LANES: usize = 48;

/// In a session.
const FILES: usize = 2;

struct Lane {
    name: String,
    stock: Stock,
    line: Cutter,
}

/// The server of all lanes.
struct Bench {
    central: Mutex<Central>,
    /// By the lane that the name belongs to.
    arrived: Mutex<BTreeMap<String, Vec<Arrival>>>,
    all: Oracle,
}

impl Bench {
    /// What arrived for a lane since the last call.
    fn take(&self, lane: &str) -> Vec<Arrival> {
        let mut central = self.central.lock().expect("no holder panics");
        assert!(!central.process().has_ended(), "the server ended: {}", central.process().log());
        let mut arrived = self.arrived.lock().expect("no holder panics");
        for arrival in central.pipeline.consume_new() {
            let owner = arrival.name.split('-').next().unwrap_or_default().to_owned();
            arrived.entry(owner).or_default().push(arrival);
        }
        arrived.remove(lane).unwrap_or_default()
    }

    /// One session, cut, and as many after it as it takes.
    fn run(&self, lane: &Lane, run: u64, seed: &mut Seed, cut: Option<Cut>) -> Passed {
        let oracle = Oracle::default();
        let mut names = Vec::new();
        for index in 0..FILES {
            let name = format!("{}-{run:05}.170000000{index}.data", lane.name);
            let bytes = seed.bytes(30 + index);
            lane.stock.put(&name, &bytes);
            oracle.expect(&name, &bytes);
            self.all.expect(&name, &bytes);
            names.push(name);
        }
        let passed = lane.line.serve(cut);
        let mut arrived = Vec::new();
        until::holds(&format!("run {run} ({cut:?}): everything arrives and is gone from the site"), || {
            arrived.extend(self.take(&lane.name));
            let gone = names.iter().all(|name| !lane.stock.storage().join(name).exists());
            (gone && oracle.is_complete(&arrived)) || {
                lane.line.serve(None);
                false
            }
        });
        let verdict = oracle.judge(&arrived);
        assert!(verdict.is_clean(), "run {run} ({cut:?}, {passed:?}): {verdict}");
        passed
    }
}

#[test]
fn a_pull_from_a_stock_site_that_is_cut_at_any_byte_loses_and_doubles_nothing() {
    let seed = Seed::from_environment();
    let lanes: Vec<Lane> = (0..LANES)
        .map(|number| {
            let stock = Stock::start(&["-I", "-o"]);
            let line = Cutter::new(stock.address());
            line.hold();
            Lane { name: format!("s{number:02}"), stock, line }
        })
        .collect();
    let sites: Vec<Site> = lanes.iter().map(|lane| Site::plain(&lane.name, lane.line.address())).collect();
    let mut central = Central::new(&Authority::new(), &sites, EAGER);
    central.run();
    let bench = Bench { central: Mutex::new(central), arrived: Mutex::default(), all: Oracle::default() };

    let session = Session::new(bench.run(&lanes[0], 99_999, &mut seed.run(99_999), None).bytes);
    let run = |lane: &mut Lane, run, cut| bench.run(lane, run, &mut seed.run(run), Some(cut)).cut;
    sweep(&session, lanes, run, drop);

    let mut central = bench.central.into_inner().expect("no holder panics");
    central.process().terminate();
    let verdict = bench.all.judge(&central.pipeline.consume());
    assert!(verdict.is_clean(), "in the end: {verdict}");
}
