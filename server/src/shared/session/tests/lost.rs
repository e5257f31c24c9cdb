//! Ends that lost what was shared, or had it restored from a backup: nothing goes at the other end for it.

use super::*;

fn zip(n: usize) -> Name {
    Name::parse_listed(format!("fc_{n}.zip").as_bytes()).unwrap()
}

/// A world in which both ends have the configurations of so many agents.
fn shared(keys: &str, agents: usize) -> World {
    let world = World::with(keys);
    (0..agents).for_each(|n| world.put(n, &format!("agent {n}")));
    world.settle("the beginning");
    world
}

/// Some syncs, after which the ends need not have the same.
fn some_syncs(world: &World) {
    let shared = world.open(Crash::default());
    for _ in 0..SYNCS_MAX {
        world.sync(&shared).unwrap();
    }
}

#[test]
fn a_cut_while_a_node_that_lost_its_disk_is_given_everything_again_removes_nothing_here() {
    let world = shared("shared_uploads = \"changed\"", AGENTS);
    (0..AGENTS).for_each(|n| world.node.remove(&conf(n)));
    world.node.cut_at(5, false);
    assert!(!world.live(Crash::default()));
    world.settle("it is given the rest");
    assert_eq!((world.here().len(), world.there().len()), (AGENTS, AGENTS));
}

#[test]
fn an_agent_that_is_quicker_than_the_sync_does_not_speak_for_the_others() {
    let world = shared("shared_uploads = \"changed\"", AGENTS);
    (1..AGENTS).for_each(|n| world.node.remove(&conf(n)));
    world.settle("they are given again");
    assert_eq!((world.here().len(), world.there().len()), (AGENTS, AGENTS));
}

#[test]
fn a_registration_does_not_end_the_wait_for_a_lost_directory() {
    let world = shared("", 6);
    (0..6).for_each(|n| world.remove(n));
    some_syncs(&world);
    assert_eq!(world.there().len(), 6, "it is waited for");
    world.put_there(8, "registered there");
    some_syncs(&world);
    assert_eq!((world.here().len(), world.there().len()), (1, 7));
}

#[test]
fn a_folder_that_is_not_mounted_is_waited_for_alone() {
    let world = World::with("collections = [\"fc_0\", \"fc_1\", \"fc_2\", \"fc_3\", \"fc_4\"]");
    world.put(0, "agent 0");
    (0..5).for_each(|n| put(world.central.path(), &zip(n).to_string(), &format!("zip {n}"), true));
    some_syncs(&world);
    assert_eq!(world.there().len(), 6);
    let folder = world.central.path().join("collections");
    fs::rename(&folder, world.central.path().join("unmounted")).unwrap();
    fs::create_dir(&folder).unwrap();
    some_syncs(&world);
    assert_eq!(world.there().len(), 6);
    world.remove(0);
    some_syncs(&world);
    assert_eq!(world.there().len(), 5, "an agent that an operator removed");
}

#[test]
fn what_an_operator_removes_is_removed_there() {
    for (agents, removed) in [(1, 1), (3, 2), (AGENTS, 3)] {
        let world = shared("", agents);
        (0..removed).for_each(|n| world.remove(n));
        world.settle("a removal");
        assert_eq!(world.there().len(), agents - removed, "{removed} of {agents}");
    }
}

#[test]
fn what_a_restored_directory_replaces_there_is_kept() {
    let world = World::with("");
    for (content, story) in [("old", "the beginning"), ("newer", "an edit"), ("old", "restored")] {
        world.put(0, content);
        world.settle(story);
    }
    assert_eq!(world.there()[&conf(0)], "old");
    assert!(world.kept(0).contains(&"newer".to_owned()));
}
