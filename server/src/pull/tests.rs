//! The strategies against sites in memory: what arrives, whatever breaks.

mod beside;
mod fake;
mod node;
mod relay;
mod shared;

use fake::{Mishap, World, alive};

use super::Kind;
use crate::config::PullMode;
use crate::crash::Crash;
use crate::ledger::Ledger;

/// Every step at which a process may die, and how often each may be passed in the scenarios below.
const STEPS: [&str; 9] = [
    "after-recv",
    "after-recv-staged",
    "after-held",
    "after-mv",
    "after-committed",
    "after-rename",
    "after-dirsync",
    "after-delivered",
    "after-released",
];
const PASSINGS: u32 = 4;

const FILES: [(&str, &str); 4] = [
    ("db01.7.data", "a"),
    ("host.0.data", "b"),
    ("web01.1700000000.data", "c"),
    ("web01.1700000300.data", "d"),
];

fn worlds() -> [World; 2] {
    [World::new(Kind::Tidegate, PullMode::Auto), World::new(Kind::Stock, PullMode::Auto)].map(|world| {
        FILES.iter().for_each(|(name, content)| world.disk.put(name, content.as_bytes()));
        world
    })
}

fn assert_each_once(world: &World, story: &str) {
    let expected: Vec<_> =
        FILES.iter().map(|(name, content)| ((*name).to_owned(), content.as_bytes().to_vec())).collect();
    assert_eq!(world.eaten(), expected, "{story}");
    assert!(world.disk.is_empty(), "{story}: the site keeps nothing");
    assert_eq!(world.staged(), 0, "{story}: nothing is left in staging");
}

#[test]
fn everything_arrives_once_and_the_site_is_empty() {
    for world in worlds() {
        assert!(world.live(alive(), 1));
        assert_each_once(&world, "no crash");
    }
}

#[test]
fn a_crash_at_any_step_loses_and_doubles_nothing() {
    for step in STEPS {
        for n in 1..=PASSINGS {
            for world in worlds() {
                world.live(Crash::panicking_at(step, n), 1);
                world.eat();
                assert!(world.live(alive(), 1));
                assert_each_once(&world, &format!("crash {step}:{n}"));
            }
        }
    }
}

#[test]
fn a_crash_during_recovery_from_a_crash_loses_and_doubles_nothing() {
    for first in STEPS {
        for second in STEPS {
            for world in worlds() {
                world.live(Crash::panicking_at(first, 2), 1);
                world.eat();
                // May die before it has opened its pipeline: recovery passes steps too.
                world.live(Crash::panicking_at(second, 1), 1);
                world.eat();
                assert!(world.live(alive(), 1));
                assert_each_once(&world, &format!("crash {first}:2, then {second}:1"));
            }
        }
    }
}

#[test]
fn a_crash_before_the_pipeline_has_eaten_is_no_different() {
    for step in STEPS {
        for world in worlds() {
            world.live(Crash::panicking_at(step, 1), 1);
            assert!(world.live(alive(), 1));
            assert_each_once(&world, step);
        }
    }
}

#[test]
fn a_cut_at_any_command_loses_and_doubles_nothing() {
    let commands = worlds().map(|world| {
        world.live(alive(), 1);
        world.disk.commands()
    });
    for (kind, commands) in commands.into_iter().enumerate() {
        assert!(commands > 8, "a listing, RECV and MV of each");
        for command in 1..=commands {
            let world = worlds().into_iter().nth(kind).unwrap();
            world.disk.cut_at(command);
            assert!(world.live(alive(), 2));
            assert_each_once(&world, &format!("cut at command {command}"));
        }
    }
}

#[test]
fn an_empty_file_stays_and_holds_nobody_up() {
    for world in worlds() {
        world.disk.put("aaa.1.data", b"");
        world.disk.put("web01.1700000100.data", b"");
        assert!(world.live(alive(), 3), "one connection for each empty file, and one for the rest");
        let eaten: Vec<_> = world.eaten().into_iter().map(|(name, _)| name).collect();
        assert_eq!(eaten, FILES.map(|(name, _)| name.to_owned()));
    }
}

#[test]
fn what_came_whole_before_a_cut_counts() {
    let world = worlds().into_iter().next().unwrap();
    world.disk.cut_at(4);
    assert!(!world.live(alive(), 1), "the connection ends in the third RECV");
    assert_eq!(world.contents(), ["a", "b"]);
    assert!(world.live(alive(), 1));
    assert_each_once(&world, "cut in a batch");
}

#[test]
fn a_reused_name_is_a_new_package_and_gets_a_target_of_its_own() {
    for kind in [Kind::Tidegate, Kind::Stock] {
        let world = World::new(kind, PullMode::Auto);
        for content in ["first", "second", "second"] {
            world.disk.put("win.77.data", content.as_bytes());
            assert!(world.live(alive(), 1));
        }
        let eaten = world.eaten();
        assert_eq!(world.contents(), ["first", "second", "second"]);
        for (name, _) in &eaten {
            assert!(name.starts_with("win.77") && name.ends_with(".data"), "{name} keeps its agent's prefix");
        }
    }
}

#[test]
fn what_a_node_has_deleted_may_come_again_even_if_no_listing_said_so() {
    let world = World::new(Kind::Tidegate, PullMode::Auto);
    for name in ["a.0.data", "b.0.data", "c.0.data"] {
        world.disk.put(name, name.as_bytes());
    }
    world.disk.cut_at(7);
    assert!(!world.live(alive(), 1), "the connection ends in the third MV, whose command deleted the second");
    world.disk.put("a.0.data", b"a.0.data");
    assert!(world.live(alive(), 1));
    assert_eq!(world.contents(), ["a.0.data", "a.0.data", "b.0.data", "c.0.data"]);
}

#[test]
fn a_resent_file_with_a_time_in_its_name_is_deleted_and_not_delivered_again() {
    for kind in [Kind::Tidegate, Kind::Stock] {
        let world = World::new(kind, PullMode::Auto);
        for _ in 0..2 {
            world.disk.put("web01.1700000000.data", b"same");
            assert!(world.live(alive(), 1));
            assert!(world.disk.is_empty());
        }
        world.disk.put("web01.1700000000.data", b"other");
        assert!(world.live(alive(), 1));
        assert_eq!(world.contents(), ["other", "same"]);
    }
}

/// Pulls one stock file with a mishap, then whatever is left, and returns what was delivered.
fn stock_with(mishap: Mishap) -> Vec<String> {
    let world = World::new(Kind::Stock, PullMode::Auto);
    world.disk.put("win.1.data", b"held content");
    world.disk.mishap("win.1.data", mishap);
    for _ in 0..3 {
        if world.live(alive(), 1) {
            assert!(world.disk.is_empty());
            assert_eq!(world.staged(), 0);
            return world.contents();
        }
    }
    panic!("three connections were not enough");
}

#[test]
fn a_file_that_was_still_being_written_arrives_in_its_longer_version_only() {
    let mishap = Mishap { rewritten: Some(b"held content, continued"), ..Mishap::default() };
    assert_eq!(stock_with(mishap), ["held content, continued"]);
}

#[test]
fn a_file_that_was_rewritten_arrives_in_both_versions() {
    for other in ["something else, longer", "other bytes.", "short"] {
        let mishap = Mishap { rewritten: Some(other.as_bytes()), ..Mishap::default() };
        let mut expected = ["held content", other];
        expected.sort_unstable();
        assert_eq!(stock_with(mishap), expected, "{other}");
    }
}

#[test]
fn a_mv_that_is_cut_at_any_byte_loses_and_doubles_nothing() {
    for cut in 0..=b"held content".len() {
        for deleted in [true, false] {
            let mishap = Mishap { cut_after: Some(cut), deleted, ..Mishap::default() };
            assert_eq!(stock_with(mishap), ["held content"], "cut after {cut}, deleted: {deleted}");
        }
    }
}

#[test]
fn what_came_of_a_rewritten_file_before_the_cut_counts_if_the_site_has_deleted_it() {
    let other = b"other bytes, and more";
    for cut in 1..=other.len() {
        let mishap = Mishap { rewritten: Some(other), cut_after: Some(cut), deleted: true };
        let came = String::from_utf8_lossy(&other[..cut]).into_owned();
        assert_eq!(stock_with(mishap), ["held content".to_owned(), came], "cut after {cut}");
    }
}

#[test]
fn a_rewritten_file_that_survived_the_cut_arrives_whole_beside_the_old_version() {
    let mishap = Mishap { rewritten: Some(b"other bytes"), cut_after: Some(5), deleted: false };
    assert_eq!(stock_with(mishap), ["held content", "other bytes"]);
}

#[test]
fn a_truncated_start_of_the_held_file_adds_nothing_after_a_cut() {
    let mishap = Mishap { rewritten: Some(b"held"), cut_after: Some(4), deleted: true };
    assert_eq!(stock_with(mishap), ["held content"]);
}

#[test]
fn crashes_around_a_rewrite_lose_only_what_the_site_destroyed() {
    for step in STEPS {
        let world = World::new(Kind::Stock, PullMode::Auto);
        world.disk.put("win.1.data", b"held content");
        world.disk.mishap("win.1.data", Mishap { rewritten: Some(b"other"), ..Mishap::default() });
        world.live(Crash::panicking_at(step, 1), 1);
        world.eat();
        assert!(world.live(alive(), 1));
        let contents = world.contents();
        match step {
            // Died before the file was asked for at all: there is only the version that was there when it was.
            "after-recv" | "after-recv-staged" | "after-held" => {
                assert!(contents.contains(&"held content".into()))
            }
            // The site deleted the second version while sending it, and the server died with it in memory.
            "after-mv" => assert_eq!(contents, ["held content"]),
            _ => assert_eq!(contents, ["held content", "other"], "{step}"),
        }
    }
}

#[test]
fn a_node_whose_package_changes_under_mv_deletes_nothing() {
    let world = World::new(Kind::Tidegate, PullMode::Auto);
    world.disk.put("win.1.data", b"one");
    world.disk.mishap("win.1.data", Mishap { rewritten: Some(b"two"), ..Mishap::default() });
    assert!(!world.live(alive(), 1), "the connection ends");
    assert!(!world.disk.is_empty(), "the node keeps what was not delivered");
    assert!(world.live(alive(), 1));
    assert_eq!(world.contents(), ["one", "two"]);
}

#[test]
fn move_mode_takes_each_file_once_when_nothing_breaks() {
    for kind in [Kind::Tidegate, Kind::Stock] {
        let world = World::new(kind, PullMode::Move);
        FILES.iter().for_each(|(name, content)| world.disk.put(name, content.as_bytes()));
        assert!(world.live(alive(), 1));
        assert_each_once(&world, "move");
    }
}

#[test]
fn move_mode_leaves_a_package_at_a_node_when_it_cannot_be_kept_here() {
    let world = World::new(Kind::Tidegate, PullMode::Move);
    world.disk.put("win.1.data", b"content");
    world.disk.loses(world.incoming().staging);
    assert!(!world.live(alive(), 1));
    assert!(!world.disk.is_empty(), "no QUIT proved that it was read");
    assert!(world.live(alive(), 1));
    assert_eq!(world.contents(), ["content"]);
}

#[test]
fn a_busy_site_is_left_now_and_then_and_its_state_is_known_before() {
    for kind in [Kind::Tidegate, Kind::Stock] {
        let world = World::new(kind, PullMode::Auto);
        world.disk.refills();
        assert!(!world.live(alive(), 1), "there is more");
        assert_eq!(world.contents().len(), 16, "a package for each listing");
        let sites = Ledger::read_sites(&world.incoming().state).unwrap();
        assert_eq!((sites[0].state.as_str(), sites[0].kind.as_deref()), ("ok", Some(kind.as_str())));
        assert!(sites[0].last_contact.is_some());
    }
}

#[test]
fn packages_of_one_listing_of_a_node_are_read_in_its_order() {
    let world = World::new(Kind::Tidegate, PullMode::Auto);
    let names = ["c.1.data", "b.3.data", "b.2.data", "a.9.data"];
    names.iter().for_each(|name| world.disk.put(name, name.as_bytes()));
    assert!(world.live(alive(), 1));
    let mut listed: Vec<_> = names.map(str::to_owned).to_vec();
    listed.sort();
    let times = world.modified();
    assert_eq!(times.iter().map(|(_, name)| name.clone()).collect::<Vec<_>>(), listed);
    assert!(times.windows(2).all(|pair| pair[0].0 < pair[1].0), "no two have the same time: {times:?}");
}

#[test]
fn tentacle_mode_pulls_a_node_as_what_it_is() {
    let world = World::new(Kind::Tidegate, PullMode::Tentacle);
    world.disk.put("win.1.data", b"one");
    world.disk.mishap("win.1.data", Mishap { rewritten: Some(b"two"), ..Mishap::default() });
    assert!(!world.live(alive(), 1), "the connection ends");
    assert!(
        !world.disk.is_empty(),
        "a node keeps what was not delivered; from a stock site it would be gone"
    );
    assert!(world.live(alive(), 1));
    assert_eq!(world.contents(), ["one", "two"]);
}

#[test]
fn a_site_that_cannot_delete_is_neither_pulled_for_ever_nor_delivered_twice() {
    for kind in [Kind::Tidegate, Kind::Stock] {
        let world = World::new(kind, PullMode::Auto);
        world.disk.put("win.1.data", b"content");
        world.disk.never_deletes();
        // A node hangs up instead of answering, so that no answer says what is not so.
        let ends_well = kind == Kind::Stock;
        for _ in 0..3 {
            assert_eq!(world.live(alive(), 1), ends_well);
        }
        assert_eq!(world.contents(), ["content"]);
        world.disk.put("win.1.data", b"new content");
        assert_eq!(world.live(alive(), 1), ends_well);
        assert_eq!(world.contents(), ["content", "new content"]);
    }
}

#[test]
fn a_package_that_is_damaged_here_stays_at_its_node_and_comes_again_once() {
    let world = World::new(Kind::Tidegate, PullMode::Auto);
    FILES.iter().for_each(|(name, content)| world.disk.put(name, content.as_bytes()));
    let staging = world.incoming().staging;
    let damage = move || {
        let file = std::fs::read_dir(&staging).unwrap().map(|entry| entry.unwrap().path());
        let file = file.filter(|path| path.extension().is_some_and(|ending| ending == "staged")).min();
        std::fs::write(file.unwrap(), "damaged").unwrap();
    };
    assert!(world.live(Crash::doing_at("after-committed", 1, damage), 1), "it blocks nothing");
    assert_eq!(world.contents().len(), 3);
    assert!(!world.disk.is_empty(), "the node keeps what was not delivered");
    assert!(world.live(alive(), 1));
    assert_eq!(world.contents(), ["a", "b", "c", "d"]);
    assert!(world.disk.is_empty());
    assert_eq!(world.staged(), 1, "the damaged bytes are kept");
}

#[test]
fn move_mode_says_no_word_to_a_node_after_a_package_that_is_damaged_here() {
    let world = World::new(Kind::Tidegate, PullMode::Move);
    world.disk.put("win.1.data", b"content");
    let staging = world.incoming().staging;
    let damage = move || {
        let file = std::fs::read_dir(&staging).unwrap().map(|entry| entry.unwrap().path());
        let file = file.filter(|path| path.extension().is_some_and(|ending| ending == "staged")).min();
        std::fs::write(file.unwrap(), "damaged").unwrap();
    };
    world.live(Crash::doing_at("after-committed", 1, damage), 1);
    assert!(!world.disk.is_empty(), "the node keeps what was not delivered");
    assert!(world.live(alive(), 1));
    assert_eq!(world.contents(), ["content"]);
    assert!(world.disk.is_empty());
}
