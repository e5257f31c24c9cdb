//! Several connections to one stock site: what arrives, in which order, whichever of them breaks.

use super::fake::{Mishap, World, alive};
use super::{PASSINGS, STEPS};
use crate::config::PullMode;
use crate::crash::Crash;
use crate::pull::Kind;

/// As many as four connections are worth.
const FILES: usize = 16;

/// In the order in which the site is pulled, whether the time in it is believed or not.
fn name(index: usize) -> String {
    format!("web{index:02}.{}.data", 1_700_000_000 + index)
}

fn content(index: usize) -> String {
    format!("content {index:02}")
}

fn crowd_of(kind: Kind, mode: PullMode) -> World {
    let world = World::new(kind, mode);
    (0..FILES).for_each(|index| world.disk.put(&name(index), content(index).as_bytes()));
    world
}

fn crowd() -> World {
    crowd_of(Kind::Stock, PullMode::Auto)
}

fn assert_each_once(world: &World, story: &str) {
    let expected: Vec<_> = (0..FILES).map(content).collect();
    assert_eq!(world.contents(), expected, "{story}");
    assert!(world.disk.is_empty(), "{story}: the site keeps nothing");
    assert_eq!(world.staged(), 0, "{story}: nothing is left in staging");
}

/// Nothing has overtaken anything.
fn assert_in_order(world: &World, story: &str) {
    let there = world.contents();
    let expected: Vec<_> = (0..there.len()).map(content).collect();
    assert_eq!(there, expected, "{story}");
}

#[test]
fn four_connections_bring_everything_once() {
    let world = crowd();
    assert!(world.live(alive(), 1));
    assert_each_once(&world, "no crash");
    assert_eq!(world.disk.most_open(), 4);
}

#[test]
fn a_few_files_are_worth_no_further_connection() {
    let world = World::new(Kind::Stock, PullMode::Auto);
    (0..3).for_each(|index| world.disk.put(&name(index), b"few"));
    assert!(world.live(alive(), 1));
    assert_eq!((world.contents().len(), world.disk.most_open()), (3, 1));
}

#[test]
fn no_more_connections_are_made_than_the_site_has_slots_or_the_configuration_allows() {
    for (slots, connections, open) in [(1, 4, 1), (2, 4, 2), (3, 4, 3), (10, 4, 4), (10, 2, 2), (10, 1, 1)] {
        let mut world = crowd();
        world.disk.has_slots(slots);
        world.connections(connections);
        assert!(world.live(alive(), 1));
        assert_each_once(&world, &format!("{slots} slots"));
        assert_eq!(world.disk.most_open(), open, "{slots} slots, {connections} connections");
    }
}

#[test]
fn a_crash_at_any_step_loses_and_doubles_nothing() {
    for step in STEPS {
        for n in (1..=PASSINGS).chain([7, 11, 16]) {
            for (kind, mode) in [(Kind::Stock, PullMode::Auto), (Kind::Tidegate, PullMode::Tentacle)] {
                let world = crowd_of(kind, mode);
                let story = format!("{kind:?}, crash {step}:{n}");
                world.live(Crash::panicking_at(step, n), 1);
                assert_in_order(&world, &story);
                assert!(world.live(alive(), 1));
                assert_each_once(&world, &story);
            }
        }
    }
}

/// Every command of an undisturbed pull.
fn commands() -> std::ops::RangeInclusive<u32> {
    let world = crowd();
    world.live(alive(), 1);
    assert!(world.disk.commands() > 2 * FILES as u32, "a listing, RECV and MV of each");
    1..=world.disk.commands()
}

#[test]
fn a_cut_of_one_connection_at_any_command_costs_an_attempt_only_if_it_was_the_last() {
    for command in commands() {
        let story = format!("cut at command {command}");
        let world = crowd();
        world.disk.cut_at(command);
        let was_alone = command == 1 || command == *commands().end();
        assert_eq!(world.live(alive(), 1), !was_alone, "{story}");
        assert!(was_alone || world.disk.is_empty(), "{story}");
        assert!(world.live(alive(), 1), "{story}");
        assert_each_once(&world, &story);
    }
}

#[test]
fn a_cut_of_one_connection_lets_nothing_overtake_what_it_left_undone() {
    for command in commands() {
        for delivery in [1, 2] {
            let story = format!("cut at command {command}, death after delivery {delivery}");
            let world = crowd();
            world.disk.cut_at(command);
            world.live(Crash::panicking_at("after-delivered", delivery), 1);
            assert_in_order(&world, &story);
            // The cut may still come.
            assert!(world.live(alive(), 2), "{story}");
            assert_each_once(&world, &story);
        }
    }
}

#[test]
fn a_cut_of_all_connections_at_any_command_loses_and_doubles_nothing() {
    for command in commands() {
        let story = format!("all cut at command {command}");
        let world = crowd();
        world.disk.cut_at(command);
        world.disk.cuts_all();
        assert!(!world.live(alive(), 1), "{story}");
        assert_in_order(&world, &story);
        assert!(world.live(alive(), 1));
        assert_each_once(&world, &story);
    }
}

#[test]
fn a_mv_that_is_cut_at_any_byte_is_made_again_on_another_connection() {
    for at in [0, 7, FILES - 1] {
        for cut in [0, 3, content(at).len()] {
            for deleted in [true, false] {
                let story = format!("file {at} cut after {cut}, deleted: {deleted}");
                let world = crowd();
                world.disk.mishap(&name(at), Mishap { cut_after: Some(cut), deleted, ..Mishap::default() });
                assert!(world.live(alive(), 1), "{story}: one connection is left");
                assert_each_once(&world, &story);
            }
        }
    }
}

#[test]
fn a_rewritten_file_whose_mv_is_cut_counts_as_far_as_it_came_or_whole_if_it_is_still_there() {
    let other = "other bytes, and more";
    for (cut, deleted) in [(5, true), (5, false), (other.len(), true), (other.len(), false), (0, false)] {
        let story = format!("cut after {cut}, deleted: {deleted}");
        let world = crowd();
        let rewritten = Some(other.as_bytes());
        world.disk.mishap(&name(7), Mishap { rewritten, cut_after: Some(cut), deleted });
        assert!(world.live(alive(), 1), "{story}");
        let came = if deleted { &other[..cut] } else { other };
        let mut expected: Vec<_> = (0..FILES).map(content).chain([came.to_owned()]).collect();
        expected.sort();
        assert_eq!(world.contents(), expected, "{story}");
        assert!(world.disk.is_empty(), "{story}");
    }
}

#[test]
fn a_file_that_grew_arrives_whole_and_in_its_place() {
    let world = crowd();
    let rewritten = Some(&b"content 07, continued"[..]);
    world.disk.mishap(&name(7), Mishap { rewritten, ..Mishap::default() });
    assert!(world.live(alive(), 1), "the surplus ends one connection of four");
    let mut expected: Vec<_> = (0..FILES).map(content).collect();
    expected[7] = "content 07, continued".into();
    assert_eq!(world.contents(), expected);
}

#[test]
fn an_empty_file_costs_one_connection_and_not_the_attempt() {
    let world = crowd();
    world.disk.put("aaa.1.data", b"");
    assert!(world.live(alive(), 1));
    assert_eq!(world.contents().len(), FILES);
}

#[test]
fn a_site_that_cannot_delete_is_neither_pulled_for_ever_nor_delivered_twice() {
    let world = crowd();
    world.disk.never_deletes();
    for _ in 0..3 {
        assert!(world.live(alive(), 1));
    }
    let expected: Vec<_> = (0..FILES).map(content).collect();
    assert_eq!(world.contents(), expected);
}
