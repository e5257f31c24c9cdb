//! Whose a configuration is, and what it opens, whatever broke when it was taken up.

use super::*;

#[test]
fn what_came_from_a_site_opens_nothing_to_it_after_a_crash() {
    for crash in [false, true] {
        let world = World::with("");
        put(world.central.path(), "secret.zip", "another site's", true);
        world.put_there(0, "file_collection secret\n");
        if crash {
            assert!(!world.live(Crash::panicking_at("shared-taken", 1)));
        }
        let shared = world.open(Crash::default());
        for _ in 0..3 {
            world.sync(&shared).unwrap();
        }
        let secret = Name::parse_listed(b"secret.zip").unwrap();
        assert!(world.node.get(&secret).is_none(), "crash {crash}");
    }
}

#[test]
fn what_came_from_a_site_opens_nothing_to_it_without_the_memory() {
    let world = World::with("");
    put(world.central.path(), "secret.zip", "another site's", true);
    world.put_there(0, "file_collection secret\n");
    let secret = Name::parse_listed(b"secret.zip").unwrap();
    let shared = world.open(Crash::default());
    for _ in 0..3 {
        world.sync(&shared).unwrap();
    }
    assert!(world.node.get(&secret).is_none());
    drop(shared);
    fs::remove_dir_all(world.state.path().join("shared")).unwrap();
    let shared = world.open(Crash::default());
    for _ in 0..3 {
        world.sync(&shared).unwrap();
    }
    assert!(world.node.get(&secret).is_none());
}
