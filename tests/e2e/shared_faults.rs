//! Shared files under faults: `kill -9` of either end, deaths between any two steps of a sync, and cuts of the link at
//! any byte, while both sides edit.
//!
//! - An agent that looks again and again is never told that nothing is there, is never given what it had before, and is
//!   never given an older file than the `.md5` tells. But for one case, where both sides edit the same file: when a fault
//!   hides from the centre that the console's edit was placed, what the agent makes of it just then is a conflict, which the
//!   console's edit wins once more.
//! - When the edits end, both sides come to be equal, and what only one side edited is what that side edited last.
//!
//! `TIDEGATE_SEED=n` repeats, as far as threads allow.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidegate_tests::central::Mode;
use tidegate_tests::certificates::Authority;
use tidegate_tests::exchange::{Centre, Plant, QUICKLY, SETTINGS, equal, upload};
use tidegate_tests::node::Node;
use tidegate_tests::scenarios::each;
use tidegate_tests::seed::{Seed, runs};
use tidegate_tests::shelf::{Looker, Shelf, conf};
use tidegate_tests::tap::{From, Fuse, Tap};
use tidegate_tests::until;

/// Agents of the site: edited by the console, by themselves, by both, and removed now and then by the console.
const CONSOLE: &str = "web01";
const AGENT: &str = "web02";
const BOTH: &str = "web03";
const REMOVED: &str = "web04";

/// How the console's edits of what both edit begin.
const WINS: &str = "the console's own";

/// What the console changes beside configurations: large enough for some round trips.
const COLLECTION: &str = "tools.zip";
const COLLECTION_BYTES: usize = 150_000;

const SITE: &str = "agents = [\"web01\", \"web02\", \"web03\", \"web04\"]\ncollections = [\"tools\"]\n\
                    shared_uploads = \"changed\"";

/// Faults before a bench has to show that both sides are equal.
const ROUNDS: u64 = 12;

/// How long a fuse burns that no byte reaches.
const LONGEST_BURN: Duration = Duration::from_secs(1);

/// Where the server dies.
const DEATHS: [&str; 6] =
    ["shared-listed", "shared-fetched", "shared-kept", "shared-taken", "shared-carried-out", "shared-agreed"];

/// A site behind a tap, its centre, and agents that look.
struct Bench {
    plant: Plant,
    centre: Centre,
    fuse: Arc<Fuse>,
    tap: Tap,
    lookers: Vec<Looker>,
    edits: u64,
    /// Fuses that a byte reached, and others.
    burned: [usize; 2],
}

/// What the sides edited last.
#[derive(Default)]
struct Edited {
    console: Vec<u8>,
    collection: Vec<u8>,
    agent: Option<Vec<u8>>,
}

impl Bench {
    fn new(mode: Mode) -> Bench {
        let authority = Authority::new();
        let plant = Plant::start(&authority, "plant", "");
        let fuse = Arc::<Fuse>::default();
        let burning = Arc::clone(&fuse);
        let tap = Tap::at(plant.node.front(), plant.node.address(), move |chunk| burning.pass(chunk));
        let mut site = plant.site(mode, SITE);
        site.address = plant.node.front();
        let mut centre = Centre::new(&authority, &[site], &format!("{SETTINGS}{QUICKLY}"));
        for agent in [CONSOLE, BOTH, REMOVED] {
            centre.shelf.write(&conf(agent), format!("the first of {agent}"));
        }
        assert_eq!(plant.upload(&conf(AGENT), b"the first of web02"), "SEND OK");
        centre.central.run();
        until::holds("both sides have the first ones", || {
            equal(&plant.shelf, &centre.shelf) && plant.shelf.all().len() == 4
        });
        let node = plant.node.address();
        let lookers = [CONSOLE, AGENT, BOTH].iter().map(|agent| Looker::start(node, &conf(agent))).collect();
        Bench { plant, centre, fuse, tap, lookers, edits: 0, burned: [0; 2] }
    }

    /// Both sides edit while `strike` happens and what it struck is started again.
    fn round(&mut self, seed: &mut Seed, strike: impl FnOnce(&mut Bench, &mut Seed)) -> Edited {
        let over = AtomicBool::new(false);
        let [mut of_console, mut of_agents] = [seed.run(1), seed.run(2)];
        let (here, node, first) = (self.centre.shelf.clone(), self.plant.node.address(), self.edits);
        self.edits += 1_000_000;
        let (over, shelf) = (&over, &here);
        std::thread::scope(|scope| {
            let console = scope.spawn(move || console_edits(shelf, first, &mut of_console, over));
            let agents = scope.spawn(move || agents_edit(node, first, &mut of_agents, over));
            strike(self, seed);
            over.store(true, Ordering::SeqCst);
            let (console, collection) = console.join().expect("an editor does not panic");
            Edited { console, collection, agent: agents.join().expect("an agent does not panic") }
        })
    }

    /// Something dies or breaks before a byte that passes between the two.
    fn strike_at_a_byte(&mut self, seed: &mut Seed, then: impl FnOnce() + Send + 'static) {
        let (from, usual) =
            *seed.pick(&[(From::Dialler, 3_000), (From::Dialler, 200_000), (From::Listener, 6_000)]);
        self.fuse.light(from, self.tap.passed(from) + seed.below(usual), then);
        let start = std::time::Instant::now();
        while self.fuse.is_lit() && start.elapsed() < LONGEST_BURN {
            until::pause(Duration::from_millis(5));
        }
        self.burned[usize::from(self.fuse.put_out())] += 1;
    }

    /// Nobody edits any more.
    fn comes_out_right(&self, what: &str, edited: &Edited) {
        let (there, here) = (&self.plant.shelf, &self.centre.shelf);
        until::holds(&format!("{what}: both sides are equal"), || equal(there, here));
        assert!(here.holds(&conf(CONSOLE), &edited.console), "{what}: what only the console edited");
        assert!(here.holds(COLLECTION, &edited.collection), "{what}: the collection");
        if let Some(last) = &edited.agent {
            assert!(here.holds(&conf(AGENT), last), "{what}: what only the agent edited");
        }
    }

    fn judge(mut self, what: &str) {
        let [reached, others] = self.burned;
        eprintln!("{what}: {reached} of {} fuses were reached", reached + others);
        // Two may both lie beyond what passes.
        assert!(reached > 0 || others <= 2, "{what}: no fuse was reached");
        for looker in self.lookers.drain(..) {
            let mut looks = looker.stop();
            looks.wrong.retain(|line| line.contains("absent") || !line.contains(WINS));
            assert!(looks.wrong.is_empty(), "{what}: {:?}", looks.wrong);
            assert!(looks.answered > 0 && looks.contents.len() > 1, "{what}: an agent saw nothing happen");
        }
        self.centre.central.process().terminate();
    }
}

/// What the console does; its last words for what only it edits.
fn console_edits(here: &Shelf, first: u64, seed: &mut Seed, over: &AtomicBool) -> (Vec<u8>, Vec<u8>) {
    let (mut number, mut collection) = (first, vec![]);
    let mut last = vec![];
    while !over.load(Ordering::SeqCst) || number == first {
        number += 1;
        last = format!("the console's {number}").into_bytes();
        here.write(&conf(CONSOLE), &last);
        if seed.once_in(2) {
            here.write(&conf(BOTH), format!("{WINS} {number}"));
        }
        if seed.once_in(3) || number == first + 1 {
            collection = [number.to_string().as_bytes(), &seed.bytes(COLLECTION_BYTES)].concat();
            here.write(COLLECTION, &collection);
        }
        match here.lacks(&conf(REMOVED)) {
            true => here.write(&conf(REMOVED), format!("there again {number}")),
            false if here.whole(&conf(REMOVED)).is_some() => here.remove(&conf(REMOVED)),
            false => {}
        }
        until::pause(Duration::from_millis(20 + seed.below(60)));
    }
    (last, collection)
}

/// What agents do: the last upload that was stored, if that is known.
fn agents_edit(node: SocketAddr, first: u64, seed: &mut Seed, over: &AtomicBool) -> Option<Vec<u8>> {
    let (mut number, mut last) = (first, None);
    while !over.load(Ordering::SeqCst) {
        number += 1;
        let bytes = format!("the agent's {number}").into_bytes();
        // What has no answer may be stored, or not.
        last = match upload(node, &conf(AGENT), &bytes).as_deref() {
            Ok("SEND OK") => Some(bytes),
            Ok(_) => last,
            Err(_) => None,
        };
        let _ = upload(node, &conf(BOTH), format!("the agent's own {number}").as_bytes());
        until::pause(Duration::from_millis(20 + seed.below(80)));
    }
    last
}

/// `rounds` strikes on one bench each.
fn benches(strike: impl Fn(&mut Bench, &mut Seed) + Sync) {
    let seed = Seed::from_environment();
    each(&[Mode::Standing, Mode::Scheduled], |&mode| {
        let mut bench = Bench::new(mode);
        for run in runs(ROUNDS) {
            let mut seed = seed.run(run * 2 + u64::from(mode == Mode::Standing));
            let edited = bench.round(&mut seed, &strike);
            bench.comes_out_right(&format!("{mode:?}, run {run}"), &edited);
        }
        bench.judge(&format!("{mode:?}"));
    });
}

#[test]
fn the_link_is_cut_at_any_byte() {
    benches(|bench, seed| {
        for _ in 0..4 {
            bench.strike_at_a_byte(seed, || {});
        }
    });
}

#[test]
fn the_node_is_killed_at_any_byte() {
    benches(|bench, seed| {
        let kill = bench.plant.node.process().killer();
        bench.strike_at_a_byte(seed, kill);
        bench.plant.node.restart();
    });
}

#[test]
fn the_server_dies_between_any_two_steps_or_before_any_byte() {
    let seed = Seed::from_environment();
    each(&DEATHS, |step| {
        let mut bench = Bench::new(Mode::Standing);
        for n in 1..=2 {
            let mut seed = seed.run(n);
            let edited = bench.round(&mut seed, |bench, seed| {
                bench.centre.central.run_with(&[("TIDEGATE_CRASH_AT", &format!("{step}:{n}"))]);
                assert!(!bench.centre.central.process().join().success(), "{step}:{n}: it died");
                bench.centre.central.run();
                let kill = bench.centre.central.process().killer();
                bench.strike_at_a_byte(seed, kill);
                bench.centre.central.run();
            });
            bench.comes_out_right(&format!("{step}:{n}"), &edited);
        }
        bench.judge(step);
    });
}

/// The agents above, who see nothing wrong, would.
#[test]
fn an_agent_sees_what_is_wrong() {
    let node = Node::start(&Authority::new(), "");
    let (shelf, name) = (Shelf::at(node.storage()), conf("web01"));
    shelf.write(&name, "old");
    let looker = Looker::start(node.address(), &name);
    for content in ["old", "new", "old"] {
        shelf.write(&name, content);
        looker.has_looked();
    }
    shelf.remove(&name);
    looker.has_looked();
    let wrong = looker.stop().wrong;
    for words in ["old again", "absent"] {
        assert!(wrong.iter().any(|line| line.contains(words)), "{words}: {wrong:?}");
    }
}
