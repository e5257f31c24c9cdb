//! Numbers that repeat, go backwards, jump, or are another site's.

use std::io;

use tidegate_proto::relay::Number;
use tidegate_proto::relay::frame::Frame;
use tidegate_tests::relay::{Package, packed};

use super::Ending::{self, Any, Ends, Lives};
use super::{Case, after_welcome, on_two};
use crate::rogue::Rogue;

pub(super) fn cases() -> Vec<Case> {
    [within_a_connection(), across_connections(), edges(), of_the_good_site()].into_iter().flatten().collect()
}

/// A good package, and then one with another number.
fn after_a_good_one(what: &str, ending: Ending, number: fn(Number) -> Number) -> Case {
    after_welcome(what, ending, move |rogue| {
        let last = rogue.delivered()?.number;
        let mut package = rogue.package();
        package.number = number(last);
        rogue.data(&packed(&package.record()))
    })
}

fn within_a_connection() -> Vec<Case> {
    vec![
        after_a_good_one("the same number again", Ends, |last| last),
        after_a_good_one("the number before it", Ends, |last| Number { counter: last.counter - 1, ..last }),
        after_a_good_one("counter 0 of the same run", Ends, |last| Number { counter: 0, ..last }),
        after_a_good_one("an older run", Ends, |last| Number { run: last.run - 1, counter: u64::MAX }),
        after_a_good_one("run 0", Ends, |_| Number { run: 0, counter: 0 }),
        after_welcome("the same package twice in one batch", Ends, |rogue| {
            let package = rogue.package();
            rogue.may_arrive(&package);
            rogue.data(&packed(&package.record().repeat(2)))
        }),
        after_welcome("two packages of one batch in the wrong order", Ends, |rogue| {
            let [first, second] = [rogue.package(), rogue.package()];
            rogue.may_arrive(&second);
            rogue.data(&packed(&[second.record(), first.record()].concat()))
        }),
        after_welcome("a jump forward of a million", Lives, |rogue| {
            rogue.delivered()?;
            rogue.skip_numbers(1_000_000);
            rogue.delivered().map(drop)
        }),
        after_welcome("a skipped number, used again for a package", Ends, |rogue| {
            let package = rogue.package();
            let mut record = package.record_of(package.name.as_bytes(), 2_000_000, 1);
            record[0] = Package::SKIPPED;
            rogue.data(&packed(&[record, package.record()].concat()))
        }),
    ]
}

fn again(rogue: &mut Rogue, change: impl Fn(&mut Package)) -> io::Result<()> {
    let mut package = rogue.kept().pop().expect("the first connection kept one");
    change(&mut package);
    rogue.data(&packed(&package.record()))?;
    rogue.until_acked(package.number)
}

fn delivered_and_kept(rogue: &mut Rogue) -> io::Result<()> {
    let package = rogue.delivered()?;
    rogue.keep(package);
    Ok(())
}

fn across_connections() -> Vec<Case> {
    vec![
        on_two("what is acknowledged, again on the next connection", Any, delivered_and_kept, |rogue| {
            again(rogue, |_| {})
        }),
        on_two("what is said to be deleted, again on the next connection", Any, deleted_and_kept, |rogue| {
            again(rogue, |_| {})
        }),
        on_two(
            "the same number with other bytes: a spool that was rolled back",
            Any,
            delivered_and_kept,
            |rogue| {
                let mut package = rogue.kept().pop().expect("the first connection kept one");
                package.bytes = [b"rolled back ", &package.bytes[..]].concat();
                package.name = format!("back-{}", package.name);
                // Nobody can tell it from a spool that lives twice, and then it must not be lost.
                rogue.must_arrive(&package);
                rogue.data(&packed(&package.record()))?;
                rogue.until_acked(package.number)
            },
        ),
        on_two("half a body, and the whole package on the next connection", Lives, half_a_body, |rogue| {
            let package = rogue.kept().pop().expect("the first connection kept one");
            rogue.must_arrive(&package);
            rogue.data(&packed(&package.record()))
        }),
        on_two("an oldest number that is beyond what is sent", Any, delivered_and_kept, |rogue| {
            let package = rogue.send_honest()?;
            rogue.until_acked(package.number)
        }),
        on_two(
            "a whole package without waiting, and once more",
            Lives,
            |rogue| {
                let package = rogue.send_honest()?;
                rogue.keep(package);
                Ok(())
            },
            |rogue| {
                let package = rogue.kept().pop().expect("the first connection kept one");
                rogue.must_arrive(&package);
                rogue.data(&packed(&package.record()))
            },
        ),
    ]
}

fn deleted_and_kept(rogue: &mut Rogue) -> io::Result<()> {
    let package = rogue.delivered()?;
    rogue.say(&Frame::Deleted(package.number))?;
    rogue.say(&Frame::Dry)?;
    rogue.keep(package);
    rogue.ponged()
}

fn half_a_body(rogue: &mut Rogue) -> io::Result<()> {
    let package = rogue.package();
    let record = package.record();
    rogue.data(&Rogue::open(&record[..record.len() - 10]))?;
    rogue.keep(package);
    rogue.ponged()
}

/// A run belongs to the site that it came from first: whatever a rogue says about it, that site's next package arrives, and
/// what the rogue sends is judged by itself.
fn of_the_good_site() -> Vec<Case> {
    let case = |what: &str, number: fn(Number) -> Number| {
        after_welcome(what, Any, move |rogue| {
            let number = number(rogue.good_number());
            let package = rogue.package_of(number);
            rogue.must_arrive(&package);
            rogue.data(&packed(&package.record()))?;
            rogue.until_acked(package.number)
        })
    };
    vec![
        case("the good site's run, and a number that it has used", |used| used),
        case("the good site's run, far ahead", |used| Number { counter: used.counter + 1_000_000, ..used }),
        case("the good site's run, as far ahead as numbers go", |used| Number { counter: u64::MAX, ..used }),
        case("a run later than the good site's", |used| Number { run: used.run + 1, counter: 1 }),
        after_welcome("the good site's run, skipped far ahead", Any, |rogue| {
            let number = Number { counter: 2_000_000, ..rogue.good_number() };
            let mut record = rogue.package_of(number).record_of(b"rogue.1.data", 2_000_000, 1);
            record[0] = Package::SKIPPED;
            rogue.data(&packed(&record))?;
            rogue.until_acked(number)
        }),
        after_welcome("a welcome that says the good site's packages are gone", Any, |rogue| {
            let number = Number { counter: u64::MAX, ..rogue.good_number() };
            rogue.say(&Frame::Deleted(number))?;
            rogue.ponged()
        }),
    ]
}

/// Of runs that no spool has. They are runs of their own, so that the lane's other packages are none the wiser.
fn edges() -> Vec<Case> {
    let case = |(what, number): (&'static str, Number)| {
        after_welcome(what, Any, move |rogue| {
            let package = rogue.package_of(number);
            rogue.must_arrive(&package);
            rogue.data(&packed(&package.record()))?;
            rogue.until_acked(package.number)
        })
    };
    let most = u64::MAX;
    let mut cases: Vec<Case> = [
        ("run 0, counter 0", Number { run: 0, counter: 0 }),
        ("run 0, the greatest counter", Number { run: 0, counter: most }),
        ("a counter above 2^40", Number { run: 2, counter: 1 << 41 }),
        ("a counter above 2^63", Number { run: 3, counter: (1 << 63) + 1 }),
        ("a run above 2^63", Number { run: (1 << 63) + 1, counter: 1 }),
        ("the greatest run", Number { run: most, counter: 1 }),
        ("the greatest number", Number { run: most, counter: most }),
    ]
    .map(case)
    .into();
    cases.push(after_welcome("three hundred runs, a package in each", Lives, |rogue| {
        let base = rogue.next_number();
        // Runs of its own: those of the lane go on.
        for run in 0..300 {
            let number = Number { run: (base.run << 32) + (base.counter << 12) + run, counter: 1 };
            let package = rogue.package_of(number);
            rogue.may_arrive(&package);
            rogue.data(&packed(&package.record()))?;
        }
        rogue.later_runs();
        Ok(())
    }));
    cases
}
