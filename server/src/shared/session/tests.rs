//! Syncs against a node in memory: what either end changes reaches the other, whatever breaks, and what an end loses is
//! kept.

mod fake;
mod hostile;
mod lost;
mod origin;
mod random;

use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use tempfile::TempDir;
use tidegate_net::shutdown::Shutdown;
use tidegate_proto::Name;

use super::{Did, Report, Session};
use crate::config::Config;
use crate::crash::Crash;
use crate::pull::Fault;
use crate::shared::here::tests::{directory, put};
use crate::shared::names::Key;
use crate::shared::turn::Turns;
use crate::shared::{Shared, digest};
use fake::{Connection, Node};

/// Every step at which a process may die.
const STEPS: [&str; 6] =
    ["shared-listed", "shared-fetched", "shared-kept", "shared-taken", "shared-carried-out", "shared-agreed"];

const SITE: &str = "plant-7";

/// The agents of the site.
const AGENTS: usize = 10;

/// More syncs than anything needs to come to rest.
const SYNCS_MAX: usize = 8;

/// A central with its directories, and a node.
struct World {
    central: TempDir,
    state: TempDir,
    node: Rc<Node>,
    /// Lines of the site's configuration.
    keys: String,
    interval: &'static str,
}

/// The configuration of the n-th agent.
fn conf(n: usize) -> Name {
    Name::parse_listed(&Key::of_agent(format!("agent{n}").as_bytes()).conf()).unwrap()
}

impl World {
    fn new() -> Self {
        Self::with("shared_uploads = \"changed\"")
    }

    fn with(keys: &str) -> Self {
        let agents: Vec<_> = (0..AGENTS).map(|n| format!("agent{n}")).collect();
        let keys = format!("agents = {agents:?}\n{keys}");
        Self::unbound(&keys)
    }

    /// Without agents.
    fn unbound(keys: &str) -> Self {
        let (central, state) = (directory(), tempfile::tempdir().unwrap());
        Self { central, state, node: Rc::default(), keys: keys.to_owned(), interval: "1ms" }
    }

    fn open(&self, crash: Crash) -> Arc<Shared> {
        let text = format!(
            "incomingdir = {:?}\nstate_directory = {:?}\nsync_shared = true\n\
             [shared]\ninterval = {:?}\nmax_size = 1000\n\
             [[site]]\nname = \"{SITE}\"\naddress = \"a\"\ntls = \"off\"\n{}\n",
            self.central.path(),
            self.state.path(),
            self.interval,
            self.keys
        );
        let file = self.state.path().join("server.toml");
        fs::write(&file, text).unwrap();
        let config = Config::load(&file).unwrap_or_else(|problems| panic!("{problems}"));
        Shared::open_with(&config, crash).unwrap().unwrap()
    }

    fn sync(&self, shared: &Arc<Shared>) -> Result<Report, Fault> {
        shared.scan().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut connection, stop) = (Connection(Rc::clone(&self.node)), Shutdown::new());
            let (turn, mut withheld) = (Arc::new(Turns::default()).next().await, HashSet::new());
            Session::new(SITE, shared, &mut connection, &turn, &stop, &mut withheld).run().await
        })
    }

    /// A life of the server, with one sync. Whether it lived to end that.
    fn live(&self, crash: Crash) -> bool {
        let life = || self.sync(&self.open(crash)).is_ok();
        catch_unwind(AssertUnwindSafe(life)).unwrap_or(false)
    }

    /// Lives on until there is nothing more to do.
    fn settle(&self, story: &str) {
        self.node.left_alone();
        let shared = self.open(Crash::default());
        for _ in 0..SYNCS_MAX {
            let report = self.sync(&shared).unwrap();
            if !report.unfinished && !report.waits {
                return self.assert_whole(story);
            }
        }
        panic!("{story}: it does not come to rest");
    }

    fn put(&self, n: usize, content: &str) {
        put(self.central.path(), &conf(n).to_string(), content, true);
    }

    fn remove(&self, n: usize) {
        let name = conf(n).to_string();
        fs::remove_file(self.central.path().join("conf").join(&name)).unwrap();
        fs::remove_file(self.central.path().join("md5").join(name.replace("conf", "md5"))).unwrap();
    }

    fn put_there(&self, n: usize, content: &str) {
        self.node.put(&conf(n), content.as_bytes());
    }

    fn here(&self) -> BTreeMap<Name, String> {
        let files = fs::read_dir(self.central.path().join("conf")).unwrap().map(|entry| entry.unwrap());
        let named = files.map(|file| {
            let name = Name::parse_listed(file.file_name().as_encoded_bytes()).unwrap();
            (name, fs::read_to_string(file.path()).unwrap())
        });
        named.collect()
    }

    fn there(&self) -> BTreeMap<Name, String> {
        let pairs = self.node.pairs().into_iter();
        pairs.map(|(name, held)| (name, String::from_utf8(held.content).unwrap())).collect()
    }

    /// The contents that are kept of a pair.
    fn kept(&self, n: usize) -> Vec<String> {
        let shared = self.open(Crash::default());
        let kept = shared.store().kept(Some(SITE)).unwrap().into_iter();
        let of_pair = kept.filter(|kept| *kept.name == *conf(n).as_bytes());
        of_pair.map(|kept| fs::read_to_string(shared.objects().path(&kept.digest)).unwrap()).collect()
    }

    /// Both ends have the same, and every pair is whole.
    fn assert_whole(&self, story: &str) {
        assert_eq!(self.here(), self.there(), "{story}");
        assert!(self.node.pairs().values().all(|held| held.fits), "{story}: an .md5 there does not fit");
        let shared = self.open(Crash::default());
        shared.scan().unwrap();
        for name in self.here().keys() {
            let seen = shared.here().get(name.as_bytes());
            assert!(seen.is_some_and(|seen| seen.fits), "{story}: the .md5 of {name} here does not fit");
        }
        let left: Vec<_> = fs::read_dir(self.central.path().join("md5")).unwrap().collect();
        assert_eq!(left.len(), self.here().len(), "{story}: no .md5 is left alone");
    }

    /// Everything that may happen to a pair, all at once: after it, [`Self::assert_busy`].
    fn busy() -> Self {
        let world = Self::new();
        for n in 0..=6 {
            world.put(n, &format!("old {n}"));
        }
        world.settle("the beginning");
        assert_eq!(world.there().len(), 7);
        world.put(0, "edited here");
        world.put_there(1, "edited there");
        world.put(2, "the central's");
        world.put_there(2, "the site's");
        world.remove(3);
        world.node.remove(&conf(4));
        world.put(5, "the same edit");
        world.put_there(5, "the same edit");
        world.put(7, "new here");
        world.put_there(8, "registered there");
        world
    }

    fn assert_busy(&self, story: &str) {
        let expected = [
            (0, "edited here"),
            (1, "edited there"),
            (2, "the central's"),
            (5, "the same edit"),
            (6, "old 6"),
            (7, "new here"),
            (8, "registered there"),
        ];
        let expected = expected.map(|(n, content)| (conf(n), content.to_owned())).into();
        assert_eq!(self.here(), expected, "{story}");
        for (n, lost) in [(1, "old 1"), (2, "the site's"), (3, "old 3"), (4, "old 4")] {
            assert!(self.kept(n).contains(&lost.to_owned()), "{story}: {lost:?} is kept");
        }
    }
}

#[test]
fn what_either_end_changed_reaches_the_other_and_what_is_lost_is_kept() {
    let world = World::busy();
    let shared = world.open(Crash::default());
    let report = world.sync(&shared).unwrap();
    let counts = [Did::TakenUp, Did::Dropped, Did::Placed, Did::Removed, Did::Kept, Did::Refused];
    assert_eq!(counts.map(|did| report.told.count(did)), [2, 1, 3, 1, 1, 0]);
    assert!(!report.unfinished && !report.refused && !report.waits);
    world.assert_whole("one sync");
    world.assert_busy("one sync");
    // Nothing more is asked than whether something differs.
    let calls = world.node.calls();
    world.sync(&shared).unwrap();
    assert_eq!(world.node.calls(), calls + 1);
    let row = shared.store().sites().unwrap().remove(0);
    assert_eq!((row.counts.in_sync, row.counts.under_way, row.kept), (7, 0, 4));
}

#[test]
fn a_crash_at_any_step_and_at_another_after_it_costs_repetition_only() {
    for first in STEPS {
        for (n, second) in [(1, None), (2, None)].into_iter().chain(STEPS.map(|second| (1, Some(second)))) {
            let world = World::busy();
            world.live(Crash::panicking_at(first, n));
            if let Some(second) = second {
                world.live(Crash::panicking_at(second, 1));
            }
            let story = format!("crash {first}:{n}, then {second:?}");
            world.settle(&story);
            world.assert_busy(&story);
        }
    }
}

#[test]
fn a_cut_at_any_call_costs_repetition_only() {
    let world = World::busy();
    let before = world.node.calls();
    assert!(world.live(Crash::default()));
    let calls = world.node.calls() - before;
    assert!(calls > 7, "a listing, contents, orders: {calls}");
    for call in 1..=calls {
        for carried_out in [false, true] {
            let world = World::busy();
            world.node.cut_at(call, carried_out);
            assert!(!world.live(Crash::default()), "call {call} is cut");
            let story = format!("cut at call {call}, carried out: {carried_out}");
            world.settle(&story);
            world.assert_busy(&story);
        }
    }
}

#[test]
fn an_edit_there_in_between_is_never_overwritten_unseen() {
    let world = World::busy();
    let before = world.node.calls();
    assert!(world.live(Crash::default()));
    for call in 1..=world.node.calls() - before {
        for n in [0, 1, 2, 3, 7, 8] {
            let world = World::busy();
            let mut left = call;
            let edited = Rc::new(Cell::new(false));
            let done = Rc::clone(&edited);
            world.node.edited_by(move |node| {
                left = left.saturating_sub(1);
                if left == 0 && !done.replace(true) {
                    node.put(&conf(n), b"in between");
                }
            });
            world.live(Crash::default());
            let story = format!("an edit of {n} before call {call}");
            assert!(edited.get(), "{story}");
            world.settle(&story);
            let is_here = world.here().get(&conf(n)).is_some_and(|content| content == "in between");
            assert!(is_here || world.kept(n).contains(&"in between".to_owned()), "{story} is nowhere");
        }
    }
}

#[test]
fn where_both_ends_have_the_same_the_sums_say_all() {
    let world = World::new();
    for n in 0..AGENTS {
        world.put(n, &format!("agent {n}"));
        world.put_there(n, &format!("agent {n}"));
    }
    let shared = world.open(Crash::default());
    let report = world.sync(&shared).unwrap();
    assert_eq!((world.node.calls(), report.sign), (1, world.node.sign()));
    world.remove(0);
    world.put_there(1, "edited there");
    world.settle("it was agreed");
    assert!(!world.there().contains_key(&conf(0)) && world.here()[&conf(1)] == "edited there");
}

#[test]
fn a_damaged_object_is_made_anew() {
    let world = World::new();
    world.put_there(0, "taken up");
    world.live(Crash::panicking_at("shared-kept", 1));
    world.put(1, "given");
    let damage = |shared: &Shared, content: &[u8]| {
        let object = shared.objects().path(&digest(content));
        fs::create_dir_all(object.parent().unwrap()).unwrap();
        fs::write(object, vec![b'x'; content.len()]).unwrap();
    };
    let shared = world.open(Crash::default());
    damage(&shared, b"taken up");
    damage(&shared, b"given");
    let report = world.sync(&shared).unwrap();
    assert_eq!(report.told.count(Did::Refused), 1, "what arrived there damaged");
    world.settle("they are made anew");
    assert_eq!(world.there(), world.here());
    assert_eq!(world.here().len(), 2);
}

#[test]
fn a_pair_whose_place_is_taken_holds_no_other_up() {
    let world = World::new();
    fs::create_dir(world.central.path().join("conf").join(conf(0).to_string())).unwrap();
    world.put_there(0, "has no place here");
    world.put_there(1, "has one");
    let shared = world.open(Crash::default());
    world.sync(&shared).unwrap();
    assert!(world.node.calls() < 12, "a few rounds: {}", world.node.calls());
    assert_eq!(fs::read(world.central.path().join("conf").join(conf(1).to_string())).unwrap(), b"has one");
}

#[test]
fn a_first_registration_is_taken_and_a_change_of_it_is_not_unless_the_site_may() {
    let world = World::with("shared_uploads = \"first\"");
    world.put_there(0, "registered");
    world.settle("registration");
    assert_eq!(world.here(), BTreeMap::from([(conf(0), "registered".to_owned())]));
    world.put_there(0, "changed there");
    let report = world.sync(&world.open(Crash::default())).unwrap();
    assert_eq!((report.told.count(Did::Placed), report.told.count(Did::Kept)), (1, 1));
    assert_eq!(world.there()[&conf(0)], "registered");
    assert_eq!(world.kept(0), ["changed there"]);
    let off = World::with("shared_uploads = \"off\"");
    off.put_there(0, "registered");
    off.sync(&off.open(Crash::default())).unwrap();
    assert!(off.here().is_empty() && off.node.get(&conf(0)).is_some(), "it stays where it is");
}

#[test]
fn a_pair_that_is_not_whole_is_waited_for_and_made_whole() {
    let mut world = World::new();
    world.interval = "1h";
    world.node.put_as(&conf(0), b"being written", false);
    let shared = world.open(Crash::default());
    let report = world.sync(&shared).unwrap();
    assert!(report.waits && world.here().is_empty());
    world.node.put_as(&conf(0), b"being written, now more", false);
    assert!(world.sync(&shared).unwrap().waits, "it is another than before");
    world.interval = "1ms";
    world.settle("it rests");
    assert_eq!(world.here()[&conf(0)], "being written, now more");
    // Here, too.
    put(world.central.path(), &conf(1).to_string(), "without its md5", false);
    let shared = world.open(Crash::default());
    assert!(world.sync(&shared).unwrap().waits && !world.there().contains_key(&conf(1)));
    world.sync(&shared).unwrap();
    world.settle("it rests here");
    assert_eq!(world.there()[&conf(1)], "without its md5");
}

#[test]
fn a_disk_that_lost_everything_removes_nothing_at_the_other_end() {
    let all: BTreeMap<_, _> = (0..6).map(|n| (conf(n), format!("agent {n}"))).collect();
    let world = World::new();
    (0..6).for_each(|n| world.put(n, &format!("agent {n}")));
    world.settle("the beginning");
    all.keys().for_each(|name| world.node.remove(name));
    world.settle("a new disk there");
    assert_eq!(world.there(), all);
    (0..6).for_each(|n| world.remove(n));
    let report = world.sync(&world.open(Crash::default())).unwrap();
    assert_eq!(world.there(), all, "an operator decides");
    assert!(!report.unfinished && !report.waits, "nobody is busy with it meanwhile");
}

#[test]
fn a_pair_that_was_here_before_a_claim_is_withheld_until_an_operator_lets_it_go() {
    let world = World::unbound("");
    world.put(0, "a secret");
    let shared = world.open(Crash::default());
    shared.scan().unwrap();
    shared.learned(SITE, [&b"agent0.1700000000.data"[..]]);
    let report = world.sync(&shared).unwrap();
    assert_eq!(report.told.count(Did::Withheld), 1);
    assert!(world.there().is_empty());
    shared.store().write(|batch| batch.wish(SITE, conf(0).as_bytes(), 0)).unwrap();
    world.sync(&shared).unwrap();
    assert_eq!(world.there()[&conf(0)], "a secret");
    assert_eq!(shared.store().wished_sites().unwrap(), [""; 0], "the wish is fulfilled");
}

#[test]
fn a_site_that_shows_what_is_withheld_has_it_from_then_on() {
    let world = World::unbound("");
    world.put(0, "known to both");
    world.put_there(0, "known to both");
    let shared = world.open(Crash::default());
    shared.learned(SITE, [&b"agent0.1700000000.data"[..]]);
    shared.scan().unwrap();
    assert_eq!(world.sync(&shared).unwrap().told.count(Did::Withheld), 0);
    world.put(0, "edited here");
    world.settle("an edit");
    assert_eq!(world.there()[&conf(0)], "edited here");
}

#[test]
fn an_operator_pushes_over_what_the_site_made_of_it() {
    let world = World::with("shared_uploads = \"changed\"");
    world.put(0, "ours");
    world.settle("the beginning");
    world.put_there(0, "theirs");
    let shared = world.open(Crash::default());
    shared.store().write(|batch| batch.wish(SITE, conf(0).as_bytes(), 0)).unwrap();
    world.sync(&shared).unwrap();
    assert_eq!((world.here(), world.there()), (world.there(), world.here()));
    assert_eq!(world.there()[&conf(0)], "ours");
    assert_eq!(world.kept(0), ["theirs"]);
}

#[test]
fn what_the_other_end_refuses_is_told_once_and_tried_again() {
    let world = World::new();
    world.put(0, "ours");
    *world.node.refuses.borrow_mut() = Some("no room".into());
    let shared = world.open(Crash::default());
    let report = world.sync(&shared).unwrap();
    assert!(report.refused && !report.unfinished);
    assert_eq!(report.told.count(Did::Refused), 1);
    let pair = shared.store().pair(SITE, conf(0).as_bytes()).unwrap();
    assert_eq!(pair.refused.map(|refusal| refusal.words).as_deref(), Some("no room"));
    let report = world.sync(&shared).unwrap();
    assert!(report.refused && report.told.count(Did::Refused) == 0, "the same words are no news");
    *world.node.refuses.borrow_mut() = None;
    world.settle("there is room");
    assert_eq!(world.there()[&conf(0)], "ours");
}
