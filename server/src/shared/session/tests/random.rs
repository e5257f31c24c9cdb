//! Random histories: edits at both ends, cuts and crashes in between.

use super::*;

/// How many histories, and how many events in each.
const HISTORIES: u64 = 40;
const EVENTS: usize = 24;

/// How many pairs they are about.
const PAIRS: u64 = 4;

/// Numbers that look random and are the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// What was last written at either end.
type Written = BTreeMap<(usize, bool), String>;

fn edit(world: &World, random: &mut Random, text: &str, written: &mut Written) -> String {
    let n = usize::try_from(random.below(PAIRS)).unwrap();
    let is_here = random.below(2) == 0;
    let removes = random.below(4) == 0;
    // Who replaces a content has seen it, also one that came from the other end.
    let ends = if is_here { world.here() } else { world.there() };
    written.retain(|(pair, _), content| *pair != n || ends.get(&conf(n)) != Some(content));
    match (is_here, removes) {
        (true, false) => world.put(n, text),
        (false, false) => world.put_there(n, text),
        (true, true) if world.here().contains_key(&conf(n)) => world.remove(n),
        (true, true) => {}
        (false, true) => world.node.remove(&conf(n)),
    }
    if removes {
        written.remove(&(n, is_here));
    } else {
        written.insert((n, is_here), text.to_owned());
    }
    format!("{} {n} {}", if removes { "remove" } else { "write" }, if is_here { "here" } else { "there" })
}

#[test]
fn whatever_happens_both_ends_come_to_have_the_same_and_nothing_that_was_written_last_is_lost() {
    for seed in 0..HISTORIES {
        let world = World::new();
        let mut random = Random(seed);
        let (mut written, mut story) = (Written::new(), format!("seed {seed}:"));
        for event in 0..EVENTS {
            let text = format!("{seed}/{event}");
            let told = match random.below(8) {
                0..4 => edit(&world, &mut random, &text, &mut written),
                4 => {
                    let call = u32::try_from(random.below(12)).unwrap() + 1;
                    world.node.cut_at(call, random.below(2) == 0);
                    world.live(Crash::default());
                    world.node.left_alone();
                    format!("cut {call}")
                }
                5 => {
                    let step = STEPS[usize::try_from(random.below(6)).unwrap()];
                    world.live(Crash::panicking_at(step, 1));
                    format!("crash {step}")
                }
                _ => {
                    world.live(Crash::default());
                    "sync".to_owned()
                }
            };
            story = format!("{story} {told};");
        }
        world.settle(&story);
        for ((n, _), content) in written {
            let is_there = world.here().get(&conf(n)).is_some_and(|here| *here == content);
            assert!(is_there || world.kept(n).contains(&content), "{story} {content:?} of {n} is lost");
        }
    }
}
