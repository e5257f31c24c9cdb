//! Hostile nodes: a real server pulls sites that hold a node's certificate and misbehave in hundreds of ways, each of
//! them told by name in `cases/`, beside a good site.
//!
//! After each of them the server lives and the good site's next file arrives. In the end nothing is in the pipeline but
//! what was sent whole and right, once; nothing is beside it; and the server's memory has a bound that has nothing to
//! do with what was sent.

mod cases;
mod rogue;

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rustls::ServerConfig;
use tidegate_proto::relay::Number;
use tidegate_tests::central::{Central, Mode, Site};
use tidegate_tests::certificates::Authority;
use tidegate_tests::node::Node;
use tidegate_tests::oracle::{Arrival, Digest, Oracle, digest};
use tidegate_tests::relay::{End, Package, node_config};
use tidegate_tests::sender::send_until_stored;
use tidegate_tests::{address, files, sender, until};

use cases::{Act, Case, Ending, Play};
use rogue::{Ids, Rogue};

/// Rogue sites beside each other, each with its share of the cases.
const ROGUES: usize = 8;

/// The most memory that the server may ever have: its credit for the rogues, their decoders, and what it needs itself.
const MEMORY_KIB: u64 = 256 * 1024;

/// What the server takes at most of a package, so that what is beyond is small too.
const MAX_SIZE: u64 = 1_000_000;

const SETTINGS: &str = "sync_interval = \"10ms\"\nsync_backoff_max = \"20ms\"\nsync_retries = 1\n\
                        sync_timeout = \"2s\"\nmax_size = 1000000";

/// A site that answers with whatever its next case wants.
struct Lane {
    listener: TcpListener,
    config: Arc<ServerConfig>,
    ids: Ids,
    /// Cases begin where the one before ended.
    counter: u64,
}

/// What all lanes look at.
struct Bench {
    central: Mutex<Central>,
    good: Node,
    oracle: Oracle,
    arrived: Mutex<Vec<Arrival>>,
    /// What the rogues sent as it should be: it may arrive, once.
    honest: Mutex<Vec<(String, Vec<u8>)>>,
    files: AtomicUsize,
    wrong: Mutex<Vec<String>>,
}

impl Bench {
    /// The good site's next file arrives.
    fn good_site_is_pulled(&self, what: &str) {
        let number = self.files.fetch_add(1, Ordering::Relaxed);
        let (name, bytes) =
            (format!("good-{number}.{}.data", 1_700_000_000 + number), format!("file {number}"));
        self.oracle.expect(&name, bytes.as_bytes());
        send_until_stored(self.good.address(), &name, bytes.as_bytes());
        self.until_arrived(what, &name);
    }

    fn until_arrived(&self, what: &str, name: &str) {
        let start = Instant::now();
        until::holds(&format!("{what}: {name} arrives"), || {
            assert!(start.elapsed() < until::PATIENCE / 2, "{what}: {name} does not arrive");
            let mut central = self.central.lock().unwrap_or_else(PoisonError::into_inner);
            assert!(!central.process().has_ended(), "{what}: the server ended:\n{}", central.process().log());
            let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
            arrived.extend(central.pipeline.consume_new());
            arrived.iter().any(|arrival| arrival.name == name)
        });
    }

    /// One case, on one connection or more.
    fn play(&self, lane: &mut Lane, case: &Case) {
        let what = &case.what;
        let began = Instant::now();
        let outcome = match &case.play {
            Play::Socket(play) => accept(&lane.listener).and_then(play),
            Play::Relay(acts) => self.relay(lane, case, acts),
        };
        if let Err(wrong) = outcome {
            let words = format!("{what}: {wrong}");
            eprintln!("WRONG {words}");
            self.wrong.lock().unwrap_or_else(PoisonError::into_inner).push(words);
        }
        self.good_site_is_pulled(what);
        eprintln!("{:6} ms  {what}", began.elapsed().as_millis());
    }

    fn relay(&self, lane: &mut Lane, case: &Case, acts: &[Box<Act>]) -> io::Result<()> {
        let (last, before) = acts.split_last().expect("a case has acts");
        let mut kept = Vec::new();
        for act in before {
            self.connection(lane, case, act, Ending::Any, &mut kept)?;
        }
        self.connection(lane, case, last, case.ending, &mut kept)
    }

    fn connection(
        &self,
        lane: &mut Lane,
        case: &Case,
        act: &Act,
        ending: Ending,
        kept: &mut Vec<Package>,
    ) -> io::Result<()> {
        // A server that has just been stopped from within a handshake may come with a dead connection first.
        let end = until::some("the server dials", || {
            let socket = accept(&lane.listener).ok()?;
            End::answer(socket, &lane.config).ok()
        });
        let mut rogue = Rogue::new(end, lane.ids, lane.counter, std::mem::take(kept));
        let played = rogue.hear_hello().and_then(|()| act(&mut rogue));
        let verdict = match (ending, played) {
            (Ending::Lives, Ok(())) => rogue.still_works(),
            (Ending::Lives, Err(error)) => Err(io::Error::other(format!("it does not live on: {error}"))),
            (Ending::Ends, _) => rogue.is_ended(),
            (Ending::Any, _) => Ok(()),
        };
        lane.counter = rogue.counter();
        let (honest, must) = rogue.honest();
        self.honest.lock().unwrap_or_else(PoisonError::into_inner).extend(honest);
        *kept = rogue.into_kept();
        verdict?;
        must.iter().for_each(|name| self.until_arrived(&case.what, name));
        Ok(())
    }
}

/// The number in a package's file name.
fn number_of(package: &Path) -> Number {
    let name = package.file_name().expect("a package has a name").to_string_lossy().into_owned();
    let mut parts = name.split('-').map(|part| u64::from_str_radix(part, 16).expect("a number"));
    let mut next = || parts.next().expect("run and counter");
    Number { run: next(), counter: next() }
}

fn accept(listener: &TcpListener) -> io::Result<std::net::TcpStream> {
    listener.accept().map(|(socket, _)| socket)
}

#[test]
fn whatever_a_node_does_the_server_and_its_other_sites_go_on() {
    let authority = Authority::new();
    let good = Node::start(&authority, "");
    send_until_stored(good.address(), "good.1700000000.data", b"the first file");
    let used = number_of(&good.packages()[0]);
    let mut sites = vec![Site::node("good", good.address()).over(Mode::Standing)];
    let mut lanes = Vec::new();
    for number in 0..ROGUES {
        let address: SocketAddr = address::unused_socket();
        let pair = authority.node(&format!("rogue-{number}"), &[sender::ipv4(address)]);
        sites.push(Site::node(&format!("rogue-{number}"), address).over(Mode::Standing));
        let listener = TcpListener::bind(address).expect("the address is ours");
        let ids = Ids { run: 0x1000 + number as u64, good: used, max_size: MAX_SIZE };
        lanes.push(Lane { listener, config: node_config(&pair), ids, counter: 1 });
    }
    let mut central = Central::new(&authority, &sites, SETTINGS);
    central.run();
    let oracle = Oracle::default();
    oracle.expect("good.1700000000.data", b"the first file");
    let bench = Bench {
        central: Mutex::new(central),
        good,
        oracle,
        arrived: Mutex::default(),
        honest: Mutex::default(),
        files: AtomicUsize::new(0),
        wrong: Mutex::default(),
    };
    let chosen = std::env::var("TIDEGATE_CASE").ok();
    let mut all = cases::all();
    all.retain(|case| chosen.as_ref().is_none_or(|chosen| case.what.contains(chosen.as_str())));
    assert!(chosen.is_some() || all.len() >= 200, "only {} cases", all.len());
    let names: std::collections::BTreeSet<&str> = all.iter().map(|case| case.what.as_str()).collect();
    assert_eq!(names.len(), all.len(), "two cases have one name");
    let next = Mutex::new(all.iter());
    std::thread::scope(|scope| {
        for mut lane in lanes {
            let (bench, next) = (&bench, &next);
            scope.spawn(move || {
                loop {
                    let case = next.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(case) = case else { return };
                    bench.play(&mut lane, case);
                }
            });
        }
    });
    bench.settle(all.len());
}

impl Bench {
    fn settle(self, cases: usize) {
        let mut central = self.central.into_inner().unwrap_or_else(PoisonError::into_inner);
        let peak = central.process().peak_memory_kib();
        until::holds("the good site is empty", || self.good.packages().is_empty());
        central.process().terminate();
        eprintln!("{cases} cases; the server had {peak} KiB of memory at most");
        let wrong = self.wrong.into_inner().unwrap_or_else(PoisonError::into_inner);
        assert!(wrong.is_empty(), "{} of {cases} cases:\n{}", wrong.len(), wrong.join("\n"));
        assert!(peak < MEMORY_KIB, "the server had {peak} KiB of memory");
        let honest = self.honest.into_inner().unwrap_or_else(PoisonError::into_inner);
        for (name, bytes) in &honest {
            self.oracle.offer(name, bytes);
        }
        let mut arrived = self.arrived.into_inner().unwrap_or_else(PoisonError::into_inner);
        arrived.extend(central.pipeline.consume_new());
        let verdict = self.oracle.judge(&arrived);
        assert!(verdict.is_clean(), "{verdict}");
        let names: HashMap<Digest, &String> =
            honest.iter().map(|(name, bytes)| (digest(bytes), name)).collect();
        for arrival in &arrived {
            let own = names.get(&digest(&arrival.bytes)).is_none_or(|name| **name == arrival.name);
            assert!(own, "{} came under another name", arrival.name);
        }
        let mut beside = files::below(central.pipeline.directory());
        // What is in quarantine keeps the name under which it was staged, which is the server's own.
        let own = |path: &PathBuf| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let number = name.strip_suffix(".staged").unwrap_or("x");
            name == "ledger-id" || number.chars().all(|digit| digit.is_ascii_hexdigit() || digit == '-')
        };
        beside.retain(|path| path.parent() != Some(Path::new(".tidegate")) || !own(path));
        assert!(beside.is_empty(), "in the pipeline's directory: {beside:?}");
        let escaped = |path: &PathBuf| path.to_string_lossy().contains("evil");
        let outside = [central.state(), central.pipeline.directory().join("..")];
        for directory in outside {
            let entries = std::fs::read_dir(directory).expect("it is there").flatten();
            let found: Vec<_> = entries.map(|entry| entry.path()).filter(escaped).collect();
            assert!(found.is_empty(), "outside of the pipeline: {found:?}");
        }
    }
}
