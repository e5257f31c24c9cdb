//! Frames that are right in themselves and come when they must not, from the wrong side, or not at all.

use tidegate_proto::relay::frame::{Frame, KINDS, Sender};
use tidegate_proto::relay::{CloseCode, Farewell, LossRecord, Number, Status};

use super::Ending::{Any, Ends, Lives};
use super::{Case, after_welcome, instead_of_welcome};
use crate::rogue::Rogue;

const SOMEWHERE: Number = Number { run: 7, counter: 7 };

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in KINDS {
        if kind.sender == Sender::Puller {
            let payload = vec![0; kind.least];
            let again = payload.clone();
            cases.push(instead_of_welcome(
                format!("{}, the puller's, instead of WELCOME", kind.name),
                Ends,
                move |rogue| rogue.raw(kind.code, &payload),
            ));
            cases.push(after_welcome(
                format!("{}, the puller's, after WELCOME", kind.name),
                Ends,
                move |rogue| rogue.raw(kind.code, &again),
            ));
        }
    }
    for (name, frame) in too_early() {
        cases.push(instead_of_welcome(format!("{name} instead of WELCOME"), Ends, move |rogue| {
            rogue.say(&frame)
        }));
    }
    for (code, _, name) in CloseCode::ALL {
        for (when, welcomed) in [("instead of WELCOME", false), ("after WELCOME", true)] {
            cases.push(instead_of_welcome(format!("CLOSE({name}) {when}"), Ends, move |rogue| {
                if welcomed {
                    rogue.welcome()?;
                }
                rogue.say(&Frame::Close(Farewell { code, number: u64::MAX, text: "go away".into() }))
            }));
        }
    }
    cases.extend(after_each_other());
    cases.extend(deletions());
    cases
}

fn too_early() -> [(&'static str, Frame); 6] {
    [
        ("DATA", Frame::Data(Rogue::open(b"x"))),
        ("DRY", Frame::Dry),
        ("DELETED", Frame::Deleted(SOMEWHERE)),
        ("LOSSES", Frame::Losses(vec![loss(1)])),
        ("LISTING", Frame::Listing { names: b"evil.1.data".to_vec(), last: true }),
        ("PONG", Frame::Pong(1)),
    ]
}

pub(super) fn loss(counter: u64) -> LossRecord {
    LossRecord {
        number: Number { run: 1, counter },
        class: "data".into(),
        reason: 1,
        packages: 1,
        bytes: 1,
        first: 0,
        last: 0,
    }
}

fn after_each_other() -> Vec<Case> {
    vec![
        instead_of_welcome("STATUS instead of WELCOME", Any, |rogue| {
            rogue.say(&Frame::Status(Box::new(Status { packages: Some(1), ..Status::default() })))
        }),
        instead_of_welcome("PING instead of WELCOME", Any, |rogue| rogue.say(&Frame::Ping(1))),
        after_welcome("WELCOME twice", Ends, Rogue::welcome),
        after_welcome("WELCOME after a package", Ends, |rogue| {
            rogue.delivered()?;
            rogue.welcome()
        }),
        after_welcome("LISTING that nobody asked for", Ends, |rogue| {
            rogue.say(&Frame::Listing { names: b"evil.1.data".to_vec(), last: false })
        }),
        after_welcome("PONG that answers nothing", Ends, |rogue| rogue.say(&Frame::Pong(0xFFFF))),
        after_welcome("DRY ten thousand times", Any, |rogue| {
            (0..10_000).try_for_each(|_| rogue.say(&Frame::Dry))
        }),
        after_welcome("DRY in the middle of a body", Any, |rogue| {
            let package = rogue.package();
            let record = package.record();
            rogue.data(&Rogue::open(&record[..record.len() - 5]))?;
            rogue.say(&Frame::Dry)
        }),
        after_welcome("DRY in the middle of a record's head", Any, |rogue| {
            let record = rogue.package().record();
            rogue.data(&Rogue::open(&record[..20]))?;
            rogue.say(&Frame::Dry)
        }),
        after_welcome("CLOSE(done) in the middle of a body", Ends, |rogue| {
            let record = rogue.package().record();
            rogue.data(&Rogue::open(&record[..record.len() - 5]))?;
            rogue.say(&Frame::Close(Farewell::new(CloseCode::Done, "")))
        }),
        after_welcome("frames after CLOSE", Ends, |rogue| {
            let package = rogue.package();
            rogue.say(&Frame::Close(Farewell::new(CloseCode::Done, "")))?;
            rogue.data(&Rogue::open(&package.record()))
        }),
        after_welcome("a code of CLOSE that nobody knows", Ends, |rogue| {
            rogue.raw(0x23, &[&[0xEE][..], &[0; 8], b"unheard of"].concat())
        }),
        after_welcome("a CLOSE with control characters and broken UTF-8", Ends, |rogue| {
            rogue.raw(0x23, &[&[10][..], &[0; 8], b"\x1b[2J\xff\xfe\r\n\0evil"].concat())
        }),
        after_welcome("a status that is not told, and one that is absurd", Lives, |rogue| {
            rogue.raw(0x91, &[])?;
            let absurd: Vec<u8> = (0..=u8::MAX).flat_map(|key| [vec![key], vec![0xFF; 8]].concat()).collect();
            rogue.raw(0x91, &absurd)
        }),
        after_welcome("a status with half an entry", Any, |rogue| rogue.raw(0x91, &[1, 2, 3])),
        after_welcome("a status that says everything twice", Lives, |rogue| {
            let twice: Vec<u8> =
                (0..200_u64).flat_map(|n| [vec![1], n.to_be_bytes().to_vec()].concat()).collect();
            rogue.raw(0x91, &twice)
        }),
        after_welcome("twenty thousand statuses", Lives, |rogue| {
            let status = |n| Frame::Status(Box::new(Status { packages: Some(n), ..Status::default() }));
            (0..20_000).try_for_each(|n| rogue.say(&status(n)))
        }),
    ]
}

fn deletions() -> Vec<Case> {
    let deleted = |number| Frame::Deleted(number);
    vec![
        after_welcome("DELETED of what was never sent", Ends, move |rogue| rogue.say(&deleted(SOMEWHERE))),
        after_welcome("DELETED of the greatest number", Ends, move |rogue| {
            rogue.delivered()?;
            rogue.say(&deleted(Number { run: u64::MAX, counter: u64::MAX }))
        }),
        after_welcome("DELETED before its package is acknowledged", Any, move |rogue| {
            let package = rogue.package();
            rogue.may_arrive(&package);
            let mut both = Vec::new();
            Frame::Data(tidegate_tests::relay::packed(&package.record())).write(&mut both);
            Frame::Deleted(package.number).write(&mut both);
            rogue.bytes(both)
        }),
        after_welcome("DELETED twice", Ends, move |rogue| {
            let package = rogue.delivered()?;
            rogue.say(&deleted(package.number))?;
            rogue.say(&deleted(package.number))
        }),
        after_welcome("DELETED backwards", Ends, move |rogue| {
            let [first, second] = [rogue.delivered()?, rogue.delivered()?];
            rogue.say(&deleted(second.number))?;
            rogue.say(&deleted(first.number))
        }),
        after_welcome("DELETED one beyond the acknowledged", Ends, move |rogue| {
            let number = rogue.delivered()?.number;
            rogue.say(&deleted(Number { counter: number.counter + 1, ..number }))
        }),
        after_welcome("DELETED of another run", Ends, move |rogue| {
            let number = rogue.delivered()?.number;
            rogue.say(&deleted(Number { run: number.run + 1, counter: 0 }))
        }),
        after_welcome("acknowledged and never DELETED", Any, |rogue| rogue.delivered().map(drop)),
        after_welcome("acknowledged, never DELETED, and dry", Any, |rogue| {
            rogue.delivered()?;
            rogue.say(&Frame::Dry)?;
            rogue.ponged()
        }),
        after_welcome("LISTING as an answer to a package's ACK", Ends, |rogue| {
            rogue.delivered()?;
            rogue.raw(0x16, b"\x01evil.1.data")
        }),
    ]
}
