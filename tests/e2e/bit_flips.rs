//! Flipped bits in what is kept: packages and records of the node, staged files and ledger of the server.
//!
//! Whatever flips, every acknowledged file is delivered once with its true bytes, or it is visible as damaged: at the node
//! in `corrupt/` and with a loss record; a damaged ledger makes the server refuse, with words, and once the bits are as
//! they were, everything arrives once. Never a wrong byte, a silent loss, a double or a crash, and the packages behind a
//! damaged one pass it.
//!
//! One window stays open, for doubles only: what flips in the last transaction of the ledger's log looks like what a power
//! cut tore, which was never acted upon. So a server that was killed just after that transaction, and before the log was
//! merged, pulls its packages again.
//!
//! Names of files are not flipped: a renamed file is an operator's doing.
//!
//! `TIDEGATE_SEED=n` repeats, `TIDEGATE_RUNS=n` makes more or fewer runs, `TIDEGATE_FROM=n` begins later.

use std::path::{Path, PathBuf};

use tidegate_tests::central::{Central, Mode, Site};
use tidegate_tests::certificates::Authority;
use tidegate_tests::node::Node;
use tidegate_tests::oracle::{Oracle, Verdict};
use tidegate_tests::seed::{Seed, runs};
use tidegate_tests::sender::send_until_stored;
use tidegate_tests::{files, until};

/// Runs beside each other.
const LANES: u64 = 2;

/// Steps of the server at which it has staged files, or a ledger with a log that is not merged yet.
const STEPS: [&str; 5] =
    ["after-recv-staged", "after-committed", "after-rename", "after-dirsync", "after-delivered"];

/// The same over relay.
const RELAY_STEPS: [&str; 5] = [
    "after-relayed-staged",
    "after-relayed-committed",
    "after-rename",
    "after-dirsync",
    "after-relayed-delivered",
];

/// What lies where a bit flips.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// A package that waits at the node.
    Package,
    /// The record of deletions, or that of losses.
    Records(&'static str),
    /// A received file that is not delivered yet.
    Staged,
    /// The ledger or its log.
    Ledger,
}

const PLACES: [Place; 8] = [
    Place::Package,
    Place::Package,
    Place::Records("seen"),
    Place::Records("losses"),
    Place::Staged,
    Place::Ledger,
    Place::Ledger,
    Place::Ledger,
];

/// One node and one server, and what was sent.
struct Bench {
    steps: [&'static str; 5],
    node: Node,
    central: Central,
    oracle: Oracle,
    sent: Vec<(String, Vec<u8>)>,
}

impl Bench {
    fn new(authority: &Authority, mode: Mode) -> Bench {
        let node = Node::start(authority, "");
        let site = Site::node("site", node.address()).over(mode);
        let central = Central::new(authority, &[site], "");
        let steps = if mode == Mode::Tentacle { STEPS } else { RELAY_STEPS };
        Bench { steps, node, central, oracle: Oracle::default(), sent: Vec::new() }
    }

    fn send(&mut self, seed: &mut Seed, count: u64) {
        for _ in 0..count {
            let number = self.sent.len() as u64;
            let length = 1 + seed.below(9_000) as usize;
            let (name, bytes) = (format!("web{number}.{}.data", 1_700_000_000 + number), seed.bytes(length));
            self.oracle.expect(&name, &bytes);
            send_until_stored(self.node.address(), &name, &bytes);
            self.sent.push((name, bytes));
        }
    }

    /// One pull of everything; the exit code and what was said.
    fn pull(&self) -> (bool, String) {
        let mut pull = self.central.pull(&[]);
        let status = pull.join();
        (status.success(), pull.log())
    }

    fn die_at(&self, step: &str) {
        let status = self.central.pull(&[("TIDEGATE_CRASH_AT", &format!("{step}:1"))]).join();
        assert!(!status.success(), "it died at {step}");
    }

    /// What is wrong with the arrivals, but for doubles if they are open.
    fn wrong(&self, may_double: bool) -> Verdict {
        let verdict = self.oracle.judge(&self.central.pipeline.waiting());
        Verdict { doubled: if may_double { Vec::new() } else { verdict.doubled }, ..verdict }
    }

    fn judge(&self, what: &str) {
        let verdict = self.oracle.judge(&self.central.pipeline.waiting());
        assert!(verdict.is_clean(), "{what}: {verdict}");
    }
}

/// Flips some bits of a file.
fn flip(path: &Path, seed: &mut Seed) -> String {
    let mut bytes = std::fs::read(path).expect("the file is there");
    let flips = if seed.once_in(3) { 2 + seed.below(3) } else { 1 };
    // Most of a small database is empty: a flip there says little.
    let used: Vec<u64> = (0..bytes.len() as u64).filter(|&at| bytes[at as usize] != 0).collect();
    let anywhere = used.is_empty() || seed.once_in(4);
    let mut bit = || match anywhere {
        true => seed.below(bytes.len() as u64 * 8),
        false => *seed.pick(&used) * 8 + seed.below(8),
    };
    let flips: Vec<u64> = (0..flips).map(|_| bit()).collect();
    for &bit in &flips {
        bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
    }
    // In place: a disk changes no inode and no time.
    let modified = path.metadata().and_then(|metadata| metadata.modified()).expect("Linux tells it");
    let file = std::fs::File::options().write(true).open(path).expect("the file is ours");
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).expect("the file is ours");
    file.set_modified(modified).expect("the file is ours");
    format!("bits {flips:?} of {}", path.display())
}

/// Files below a directory that hold anything, with their paths.
fn found(root: &Path, of_interest: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = files::below(root).iter().map(|path| root.join(path)).collect();
    found.retain(|path| {
        of_interest(&path.file_name().expect("a file").to_string_lossy())
            && path.metadata().is_ok_and(|file| file.len() > 0)
    });
    found
}

/// A package at the node: it alone stays behind, visible; once its bits are right again it can be had.
fn package(bench: &mut Bench, seed: &mut Seed) -> String {
    let count = 2 + seed.below(5);
    bench.send(seed, count);
    let stopped = seed.once_in(2);
    if stopped {
        bench.node.kill();
    }
    let packages = bench.node.packages();
    let victim = seed.pick(&packages).clone();
    let whole = std::fs::read(&victim).expect("the file is there");
    let what = flip(&victim, seed);
    if stopped {
        bench.node.restart();
    }
    if std::fs::read(&victim).is_ok_and(|bytes| bytes == whole) {
        return format!("{what}: the same bit twice");
    }
    for _ in 0..2 {
        let (success, log) = bench.pull();
        assert!(success, "{what}: {log}");
    }
    let (name, _) = bench.sent.iter().find(|(_, bytes)| *bytes == whole).expect("it was sent");
    let verdict = bench.oracle.judge(&bench.central.pipeline.waiting());
    assert!(verdict.doubled.is_empty() && verdict.strange.is_empty(), "{what}: {verdict}");
    assert_eq!(verdict.lost, [name.as_str()], "{what}: it alone stays behind");
    let file_name = victim.file_name().expect("a package has a name");
    assert!(
        bench.node.storage().join("spool/corrupt").join(file_name).is_file(),
        "{what}: it is not in corrupt/"
    );
    let losses = bench.node.losses();
    assert!(losses.contains("corrupt"), "{what}: no loss record, but {losses}");
    what
}

/// A record of the node: what is stored still arrives, and what was pulled, and is sent again, does not.
fn records(bench: &mut Bench, directory: &str, seed: &mut Seed) -> String {
    bench.send(seed, 3);
    let (success, log) = bench.pull();
    assert!(success, "{log}");
    until::holds("the node is empty", || bench.node.packages().is_empty());
    bench.send(seed, 2);
    bench.node.kill();
    let segments = found(&bench.node.storage().join("spool").join(directory), |_| true);
    let what = match segments.is_empty() {
        true => format!("no segment in {directory}"),
        false => flip(&seed.pick(&segments).clone(), seed),
    };
    bench.node.restart();
    for (name, bytes) in &bench.sent {
        send_until_stored(bench.node.address(), name, bytes);
    }
    let (success, log) = bench.pull();
    assert!(success, "{what}: {log}");
    bench.judge(&what);
    what
}

/// A received file: its node still has it.
fn staged(bench: &mut Bench, seed: &mut Seed) -> String {
    bench.send(seed, 4);
    // Of a batch of one package nothing is staged any more after its rename.
    let step = *seed.pick(&bench.steps[..2]);
    bench.die_at(step);
    let staged = found(bench.central.pipeline.directory(), |name| name.ends_with(".staged"));
    let what = format!("{step}, {}", flip(&seed.pick(&staged).clone(), seed));
    for _ in 0..3 {
        let (success, log) = bench.pull();
        assert!(success, "{what}: {log}");
    }
    bench.judge(&what);
    what
}

/// The ledger: it is refused, or it does not matter.
fn ledger(bench: &mut Bench, seed: &mut Seed) -> String {
    bench.send(seed, 3);
    let (success, log) = bench.pull();
    assert!(success, "{log}");
    bench.send(seed, 3);
    let step = if seed.once_in(4) { "none" } else { *seed.pick(&bench.steps) };
    if step != "none" {
        bench.die_at(step);
    }
    let state = bench.central.state();
    let ours = |name: &str| name == "ledger.sqlite" || name.ends_with("-wal");
    let parts = found(&state, ours);
    let copies: Vec<_> =
        parts.iter().map(|path| (path.clone(), std::fs::read(path).expect("it is there"))).collect();
    let victim = seed.pick(&parts).clone();
    let what = format!("{step}, {}", flip(&victim, seed));
    let may_double = may_look_torn(&victim, &copies);
    let (success, log) = bench.pull();
    let wrong = bench.wrong(may_double);
    assert!(wrong.strange.is_empty() && wrong.doubled.is_empty(), "{what}: {wrong}\n{log}");
    let refused = !success;
    if refused {
        // Most are found to be damage; in others SQLite finds a schema that is not ours.
        assert!(
            log.contains("tidegate-server: ") && log.contains("ledger"),
            "{what}: refused without words: {log}"
        );
        for path in found(&state, |name| name.starts_with("ledger.sqlite")) {
            std::fs::remove_file(path).expect("the directory is ours");
        }
        for (path, bytes) in copies {
            std::fs::write(path, bytes).expect("the directory is ours");
        }
    }
    let (success, log) = bench.pull();
    assert!(success, "{what}, then made good: {log}");
    let wrong = bench.wrong(may_double);
    assert!(wrong.is_clean(), "{what}: {wrong}");
    format!("{what}: {}", if refused { "refused" } else { "it did not matter" })
}

/// Whether a flip hit the last transaction of the ledger's log.
fn may_look_torn(victim: &Path, copies: &[(PathBuf, Vec<u8>)]) -> bool {
    const HEADER: usize = 32;
    const FRAME_HEADER: usize = 24;

    let Some((_, log)) = copies.iter().find(|(path, _)| path == victim) else { return false };
    if !victim.to_string_lossy().ends_with("-wal") || log.len() < HEADER {
        return false;
    }
    let page = u32::from_be_bytes(log[8..12].try_into().expect("four bytes")) as usize;
    let salts = &log[16..24];
    let frames = log[HEADER..].chunks_exact(FRAME_HEADER + page);
    let frames: Vec<&[u8]> = frames.take_while(|frame| &frame[8..16] == salts).collect();
    // A frame that ends a transaction says how large the database is after it.
    let ends = frames.iter().enumerate().filter(|(_, frame)| frame[4..8] != [0; 4]).map(|(at, _)| at);
    let last_begins = ends.rev().nth(1).map_or(0, |end| end + 1);
    let damaged = std::fs::read(victim).expect("the file is there");
    let from = HEADER + last_begins * (FRAME_HEADER + page);
    damaged[from..] != log[from..]
}

#[test]
fn flipped_bits_are_noticed_and_deliver_nothing_wrong() {
    let seed = Seed::from_environment();
    let runs = runs(100);
    let authority = Authority::new();
    std::thread::scope(|scope| {
        for lane in 0..LANES {
            let (seed, runs, authority) = (&seed, &runs, &authority);
            scope.spawn(move || {
                for run in runs.clone().filter(|run| run % LANES == lane) {
                    // Two in two, so that each lane has both.
                    let mode = Mode::of(run / LANES);
                    let mut bench = Bench::new(authority, mode);
                    let mut seed = seed.run(run);
                    let place = *seed.pick(&PLACES);
                    eprintln!("run {run}: {place:?}, {mode:?}");
                    let what = match place {
                        Place::Package => package(&mut bench, &mut seed),
                        Place::Records(directory) => records(&mut bench, directory, &mut seed),
                        Place::Staged => staged(&mut bench, &mut seed),
                        Place::Ledger => ledger(&mut bench, &mut seed),
                    };
                    eprintln!("run {run}: {what}");
                }
            });
        }
    });
}
