//! A thousand standing sites on one sync server: what it costs it, and how late packages are.
//!
//! Each site offers a package a minute, at a moment of its own. A package is late by the time from its being offered to its file in
//! the pipeline's directory, which is looked at every 20 ms. The sites share the machine with the server, and the
//! server's CPU time is its own.

use std::collections::HashMap;
use std::fmt::Display;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tidegate_tests::central::{Central, Mode, Site};
use tidegate_tests::certificates::Authority;
use tidegate_tests::corpus::Corpus;
use tidegate_tests::fleet::Fleet;
use tidegate_tests::seed::Seed;
use tidegate_tests::until::{self, PATIENCE};

use crate::load;
use crate::site::{cpu_seconds, resident_kib};

const SITES: usize = 1_000;
const SIZE: usize = 12_000;
const MINUTES: usize = 3;
const MINUTE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

pub(crate) fn run() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("the soft limit may be raised");
    let authority = Authority::new();
    let fleet = Fleet::start(&authority, SITES);
    let sites = fleet.addresses().iter().enumerate();
    let sites: Vec<_> = sites
        .map(|(index, address)| Site::node(&format!("site-{index:04}"), *address).over(Mode::Standing))
        .collect();
    let mut central = Central::new(&authority, &sites, "");
    let begun = Instant::now();
    central.run();
    until::holds("every site is connected", || fleet.connections() == SITES);
    let connected = begun.elapsed().as_secs_f64();
    let pid = central.process().id();
    let connecting = cpu_seconds(pid);
    println!("\n| {SITES} standing sites, a package of {SIZE} bytes a minute each, {MINUTES} minutes | |");
    println!("|---|---|");
    figure("all connected after, s", format_args!("{connected:.1}"));
    figure("CPU s for connecting", format_args!("{connecting:.2}"));

    let late = minutes(&fleet, &central);
    let cpu = (cpu_seconds(pid) - connecting) / (MINUTES as f64 * 60.0);
    figure("CPU of the sync server, % of a core", format_args!("{:.1}", cpu * 100.0));
    figure("resident, MiB", format_args!("{:.0}", resident_kib(pid) / 1024.0));
    figure("peak, MiB", format_args!("{:.0}", central.process().peak_memory_kib() as f64 / 1024.0));
    figure("late, p50 / p99 / max ms", load::spread(&late));
    assert_eq!(fleet.connections(), SITES, "every connection stood");
}

fn figure(what: &str, figure: impl Display) {
    println!("| {what} | {figure} |");
}

/// Offers and takes; how late each package was, sorted.
fn minutes(fleet: &Fleet, central: &Central) -> Vec<Duration> {
    let mut seed = Seed::of(7);
    let mut offers: Vec<(Duration, usize)> = (0..SITES)
        .flat_map(|site| {
            let phase = MINUTE.mul_f64(seed.below(1_000_000) as f64 / 1e6);
            (0..MINUTES as u32).map(move |minute| (MINUTE * minute + phase, site))
        })
        .collect();
    offers.sort();
    let mut corpus = Corpus::new(7, SITES);
    let mut files: Vec<Vec<_>> = vec![Vec::new(); SITES];
    for index in 0..SITES * MINUTES {
        files[index % SITES].push(corpus.file(index, SIZE));
    }
    let (mut late, mut under_way, mut offers) = (Vec::new(), HashMap::new(), offers.into_iter().peekable());
    let begun = Instant::now();
    while offers.peek().is_some() || !under_way.is_empty() {
        while let Some((_, site)) = offers.next_if(|(due, _)| *due <= begun.elapsed()) {
            let (name, bytes) = files[site].remove(0);
            under_way.insert(name.clone(), Instant::now());
            fleet.offer(site, &name, bytes);
        }
        for arrival in central.pipeline.consume_new() {
            let offered = under_way.remove(&arrival.name).expect("it was offered, and comes once");
            late.push(offered.elapsed());
        }
        assert!(
            begun.elapsed() < MINUTE * MINUTES as u32 + PATIENCE,
            "{} packages are missing",
            under_way.len()
        );
        until::pause(LOOK);
    }
    // What is left of the last minute counts for the server's share of a core.
    until::pause((MINUTE * MINUTES as u32).saturating_sub(begun.elapsed()));
    late.sort();
    late
}
