//! A node that lies, and one that shows what is none of its business.

use super::*;
use fake::Held;
use tidegate_spool::shared::{Buckets, Seen};

use crate::shared::session::{Listing, write_down};

/// A pair that no agent of the site has.
fn foreign(n: usize) -> Name {
    Name::parse_listed(&Key::of_agent(format!("another site's {n}").as_bytes()).conf()).unwrap()
}

#[test]
fn what_is_none_of_the_sites_is_counted_and_never_asked_for() {
    let world = World::new();
    let (secret, zip) = (foreign(0), Name::parse_listed(b"tools.zip").unwrap());
    put(world.central.path(), &secret.to_string(), "another site's secret", true);
    world.node.put(&foreign(1), b"claimed without a word");
    world.node.put(&zip, b"collections never come up");
    world.put_there(0, "its own");
    let shared = world.open(Crash::default());
    let report = world.sync(&shared).unwrap();
    assert_eq!(report.foreign, 2);
    assert_eq!(*world.node.log.borrow(), [format!("fetch {}", conf(0))]);
    assert_eq!(world.here().len(), 2);
    let calls = world.node.calls();
    world.sync(&shared).unwrap();
    assert_eq!(world.node.calls(), calls + 1, "nor is it looked at again");
}

#[test]
fn what_is_too_large_is_refused_before_a_byte_of_it_comes_and_goes_nowhere() {
    let world = World::new();
    world.put_there(0, &"x".repeat(1_001));
    world.put(1, &"x".repeat(1_001));
    world.put(2, "fits");
    let shared = world.open(Crash::default());
    let report = world.sync(&shared).unwrap();
    assert!(report.refused && !report.unfinished);
    assert_eq!(report.told.count(Did::Refused), 2);
    assert_eq!(*world.node.log.borrow(), [format!("place {}", conf(2))]);
    let report = world.sync(&shared).unwrap();
    assert!(report.refused && report.told.count(Did::Refused) == 0);
    // What cannot be kept is not overwritten.
    world.put(0, "small");
    world.sync(&shared).unwrap();
    assert_eq!(world.there()[&conf(0)].len(), 1_001);
}

#[test]
fn bytes_that_are_not_what_was_announced_are_thrown_away_and_told() {
    let world = World::new();
    world.put_there(0, "announced");
    world.node.gives.borrow_mut().insert(conf(0), b"delivered".to_vec());
    let shared = world.open(Crash::default());
    let report = world.sync(&shared).unwrap();
    assert!(report.refused && world.here().is_empty());
    assert_eq!(report.told.count(Did::Refused), 1);
    assert!(!shared.objects().has(&digest(b"delivered")) && !shared.objects().has(&digest(b"announced")));
    assert_eq!(world.sync(&shared).unwrap().told.count(Did::Refused), 0, "once");
    world.node.gives.borrow_mut().clear();
    world.settle("it gives what it says");
    assert_eq!(world.here()[&conf(0)], "announced");
}

#[test]
fn a_pair_that_is_shown_and_never_given_keeps_nobody_busy() {
    let world = World::new();
    let seen = Held { content: b"never given".to_vec(), fits: true }.seen();
    world.node.lies.borrow_mut().insert(conf(0), seen);
    world.put(1, "goes all the same");
    let shared = world.open(Crash::default());
    let report = world.sync(&shared).unwrap();
    assert!(report.unfinished, "it may have changed meanwhile");
    assert!(world.node.calls() < 12, "a few rounds: {}", world.node.calls());
    assert_eq!(world.there()[&conf(1)], "goes all the same");
    assert!(world.here().len() == 1);
}

#[test]
fn who_knows_the_digest_of_anothers_file_does_not_get_the_file() {
    let secret = "another site's secret";
    for loses in [false, true] {
        let world = World::new();
        let shared = world.open(Crash::default());
        // It has travelled, to somebody else.
        assert!(shared.objects().keep(&digest(secret.as_bytes()), secret.as_bytes()).unwrap());
        if loses {
            world.put(0, "its own");
            world.sync(&shared).unwrap();
        }
        let seen = Held { content: secret.into(), fits: true }.seen();
        world.node.lies.borrow_mut().insert(conf(0), seen);
        world.sync(&shared).unwrap();
        world.node.lies.borrow_mut().clear();
        world.settle("it lies no more");
        let ends = [world.here(), world.there()];
        assert!(ends.iter().flat_map(BTreeMap::values).all(|content| content != secret), "{ends:?}");
        assert!(!world.kept(0).contains(&secret.to_owned()));
        assert!(world.node.log.borrow().contains(&format!("fetch {}", conf(0))));
    }
}

#[test]
fn who_knows_the_digest_of_what_is_withheld_is_given_nothing_and_who_has_it_is_in_step() {
    for has_it in [false, true] {
        let world = World::unbound("");
        world.put(0, "secret");
        let shared = world.open(Crash::default());
        shared.scan().unwrap();
        shared.learned(SITE, [&b"agent0.1700000000.data"[..]]);
        let seen = Held { content: b"secret".to_vec(), fits: true }.seen();
        if has_it {
            world.put_there(0, "secret");
        } else {
            world.node.lies.borrow_mut().insert(conf(0), seen);
        }
        world.sync(&shared).unwrap();
        world.node.lies.borrow_mut().clear();
        world.put(0, "a newer secret");
        world.sync(&shared).unwrap();
        world.sync(&shared).unwrap();
        let there = world.there().get(&conf(0)).cloned();
        assert_eq!(there.as_deref(), has_it.then_some("a newer secret"));
        assert!(world.node.log.borrow().contains(&format!("fetch {}", conf(0))), "{has_it}");
    }
}

#[test]
fn what_is_none_of_the_sites_is_remembered_up_to_a_bound() {
    let world = World::new();
    let shared = world.open(Crash::default());
    let seen = Seen { digest: digest(b"x"), size: 1, fits: true };
    let show = |numbers: std::ops::Range<usize>| {
        let items: Vec<_> = numbers.map(|n| (foreign(n), seen)).chain([(conf(0), seen)]).collect();
        let buckets = items.iter().map(|(name, _)| Buckets::of(name.as_bytes())).collect();
        let listing = Listing { items, buckets, ..Listing::default() };
        write_down(&shared, SITE, &listing, &[], 5).unwrap()
    };
    assert!(show(0..3));
    assert!(!show(10..15), "two of five fit");
    let known = shared.store().pairs(SITE).unwrap();
    let bound = known.keys().filter(|name| ***name != *conf(0).as_bytes()).count();
    assert_eq!(bound, 5);
    assert!(known.contains_key(conf(0).as_bytes()), "the site's own always fit");
}
