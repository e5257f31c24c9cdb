//! Power cuts: acknowledged files survive them on ext4, XFS and Btrfs, and arrive once.
//!
//! A user-mode Linux guest runs the node, the sync server and senders on a disk image of its own, and is killed: what
//! its kernel had not written is gone. The next boot mounts the image, so that the journal is replayed, sends again
//! what got no answer, pulls everything, and tells what arrived. Several cuts follow each other on one image, with a
//! growing history. Every other image's node is pulled over relay.
//!
//! A run is a cut. `TIDEGATE_SEED=n` repeats, `TIDEGATE_RUNS=n` makes more or fewer, `TIDEGATE_FROM=n` begins later; a
//! slice that begins inside a chain of cuts begins with an empty disk.

use std::time::Duration;

use tidegate_tests::central::Mode;
use tidegate_tests::guest::{FileSystem, Orders, words};
use tidegate_tests::power::{Chain, Moment};
use tidegate_tests::seed::{Seed, runs};

/// Guests beside each other: one for each core of a small CI machine.
const LANES: u64 = 2;

/// Cuts on one image.
const CHAIN: u64 = 4;

const FILES_MAX: u64 = 60;

/// Steps of the server just after which the power goes, and up to how manieth time.
const STEPS: [(&str, u64); 6] = [
    ("after-recv", 40),
    ("after-recv-staged", 2),
    ("after-committed", 2),
    ("after-rename", 40),
    ("after-dirsync", 2),
    ("after-delivered", 2),
];

/// What a boot does, and when it is cut.
fn plan(seed: &mut Seed) -> (Orders, Moment) {
    let millis = |seed: &mut Seed, bound| Duration::from_millis(seed.below(bound));
    let files = 1 + seed.below(FILES_MAX);
    let sending = Orders { settle: true, files, senders: 1 + seed.below(8), ..Orders::default() };
    let stored = 1 + seed.below(files);
    match seed.below(6) {
        // Senders only.
        0 | 1 => (sending, Moment::Stored(stored, millis(seed, 20))),
        // While the server pulls.
        2 | 3 => (Orders { pulling: true, ..sending }, Moment::Stored(stored, millis(seed, 300))),
        // Just after a step of the server.
        4 => {
            let (step, most) = *seed.pick(&STEPS);
            // A first pull takes up to 64 files, so every step comes at least once.
            let manieth = 1 + seed.below(if most > 2 { files.min(most) } else { 1 });
            let environment = vec![format!("TIDEGATE_CRASH_AT={step}:{manieth}")];
            let orders = Orders { pull_after: true, environment, ..sending };
            (orders, Moment::Word(words::CENTRAL_ENDED, millis(seed, 10)))
        }
        // While the cut before is being recovered from.
        _ => (sending, Moment::Word(words::MOUNTED, millis(seed, 1500))),
    }
}

#[test]
fn acknowledged_files_survive_power_cuts() {
    let seed = Seed::from_environment();
    let runs = runs(20);
    let chains: Vec<u64> = (runs.start / CHAIN..runs.end.div_ceil(CHAIN)).collect();
    std::thread::scope(|scope| {
        for lane in 0..LANES {
            let (seed, runs, chains) = (&seed, &runs, &chains);
            scope.spawn(move || {
                for &chain in chains.iter().filter(|&&chain| chain % LANES == lane) {
                    let own = chain * CHAIN..(chain + 1) * CHAIN;
                    let own = own.start.max(runs.start)..own.end.min(runs.end);
                    cut(FileSystem::ALL[chain as usize % FileSystem::ALL.len()], chain, own, seed);
                }
            });
        }
    });
}

fn cut(file_system: FileSystem, number: u64, runs: std::ops::Range<u64>, seed: &Seed) {
    let mut chain = Chain::new(file_system, number, Mode::of(number));
    for run in runs.clone() {
        let (orders, moment) = plan(&mut seed.run(run));
        let found = chain.boot(orders.clone(), moment);
        let clean =
            found.complaints.is_empty() && found.verdict.as_ref().is_none_or(|verdict| verdict.is_clean());
        assert!(clean, "{}, before run {run} ({orders:?}, {moment:?}): {found}", file_system.name());
    }
    let found = chain.settle();
    assert!(found.is_clean(), "{}, after the cuts {runs:?}: {found}", file_system.name());
    eprintln!(
        "{}: cuts {runs:?}, {} files acknowledged, all arrived once",
        file_system.name(),
        chain.acknowledged()
    );
}
