//! Frames that are wrong in themselves: unknown kinds, lengths, payloads that end too early or say nonsense.

use tidegate_proto::relay::Welcome;
use tidegate_proto::relay::frame::{Frame, KINDS, Sender};
use tidegate_tests::relay::{OPTIONAL, PAYLOAD_MAX};

use super::Ending::{Any, Ends, Lives};
use super::turns::loss;
use super::{Case, after_welcome, instead_of_welcome};
use crate::rogue::Rogue;

pub(super) fn cases() -> Vec<Case> {
    [kinds(), lengths(), payloads(), welcomes(), losses()].into_iter().flatten().collect()
}

fn kinds() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in [0x00, 0x06, 0x0F, 0x10, 0x17, 0x1F, 0x20, 0x24, 0x40, 0x7F] {
        cases.push(after_welcome(format!("kind 0x{kind:02x}, unknown and mandatory"), Ends, move |rogue| {
            rogue.raw(kind, b"what is this?")
        }));
        cases.push(instead_of_welcome(format!("kind 0x{kind:02x} instead of WELCOME"), Ends, move |rogue| {
            rogue.raw(kind, b"")
        }));
    }
    for kind in [OPTIONAL, 0x81, 0x90, 0x92, 0xA0, 0xC0, 0xFF] {
        cases.push(after_welcome(format!("kind 0x{kind:02x}, unknown and optional"), Lives, move |rogue| {
            rogue.raw(kind, b"what is this?")?;
            rogue.raw(kind, b"")?;
            rogue.raw(kind, &vec![kind; PAYLOAD_MAX])
        }));
    }
    cases.push(after_welcome("an optional kind that is too long", Ends, |rogue| {
        rogue.bytes([0xFE, 0xFF, 0xFF, 0xFF])?;
        rogue.bytes(vec![0; PAYLOAD_MAX + 1])
    }));
    cases.push(after_welcome("100 MB of an optional kind", Any, |rogue| {
        (0..1_600).try_for_each(|_| rogue.raw(0xFE, &[0; PAYLOAD_MAX]))
    }));
    cases
}

fn lengths() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in KINDS.into_iter().filter(|kind| kind.sender != Sender::Puller) {
        let name = kind.name;
        for (what, length) in [("one too long", kind.most + 1), ("16 MB long", 0xFF_FFFF)] {
            cases.push(after_welcome(format!("{name} that is {what}"), Ends, move |rogue| {
                let [_, length @ ..] = (length as u32).to_be_bytes();
                rogue.bytes([&[kind.code][..], &length].concat())?;
                rogue.bytes([0; 1000])
            }));
        }
        if kind.least > 0 {
            cases.push(after_welcome(format!("{name} that is one too short"), Ends, move |rogue| {
                rogue.raw(kind.code, &vec![0; kind.least - 1])
            }));
            cases.push(after_welcome(format!("{name} that is empty"), Ends, move |rogue| {
                rogue.raw(kind.code, b"")
            }));
        }
        cases.push(after_welcome(format!("the connection ends inside {name}"), Ends, move |rogue| {
            let [_, length @ ..] = (kind.most as u32).to_be_bytes();
            rogue.bytes([&[kind.code][..], &length].concat())?;
            rogue.bytes(vec![0; kind.most / 2])?;
            rogue.hang_up()
        }));
    }
    for bytes in 1..4 {
        cases.push(after_welcome(format!("the connection ends after {bytes} bytes of a header"), Ends, {
            move |rogue| {
                rogue.bytes(&[0x12, 0, 0][..bytes])?;
                rogue.hang_up()
            }
        }));
    }
    cases
}

fn payloads() -> Vec<Case> {
    vec![
        after_welcome("a LISTING that is neither the last nor another", Ends, |rogue| {
            rogue.raw(0x16, b"\x02evil.1.data")
        }),
        instead_of_welcome("an answer in HTTP", Ends, |rogue| {
            rogue.bytes("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        }),
        instead_of_welcome("an answer in Tentacle", Ends, |rogue| rogue.bytes("LS SIZE 12\nevil.1.data\n")),
        instead_of_welcome("TLS inside TLS", Ends, |rogue| {
            rogue.bytes(b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76")
        }),
        instead_of_welcome("a megabyte of zeros", Ends, |rogue| rogue.bytes(vec![0; 1 << 20])),
        instead_of_welcome("a megabyte of noise", Ends, |rogue| {
            rogue.bytes(tidegate_tests::seed::Seed::of(1).bytes(1 << 20))
        }),
        after_welcome("a hundred thousand pings, and no pong is read", Any, |rogue| {
            (0..100_000).try_for_each(|n| rogue.say(&Frame::Ping(n)))
        }),
        after_welcome("ten thousand pings, and all pongs", Lives, |rogue| {
            for _ in 0..100 {
                (0..100).try_for_each(|n| rogue.say(&Frame::Ping(n)))?;
                rogue.ponged()?;
            }
            Ok(())
        }),
    ]
}

fn welcomes() -> Vec<Case> {
    let mut cases = Vec::new();
    let written = |rogue: &Rogue, change: &dyn Fn(&mut Welcome)| {
        let mut welcome = rogue.good_welcome();
        change(&mut welcome);
        let mut bytes = Vec::new();
        Frame::Welcome(welcome).write(&mut bytes);
        bytes.split_off(4)
    };
    // Cut at the end of each field.
    for length in [0, 1, 2, 9, 10, 11, 18, 26, 27, 34, 35, 40, 46] {
        cases.push(instead_of_welcome(format!("a WELCOME of {length} bytes"), Ends, move |rogue| {
            let payload = written(rogue, &|_| {});
            rogue.raw(0x11, &payload[..length])
        }));
    }
    for version in [0_u16, 2, 0x0100, u16::MAX] {
        cases.push(instead_of_welcome(format!("version {version}"), Ends, move |rogue| {
            let mut payload = written(rogue, &|_| {});
            payload[..2].copy_from_slice(&version.to_be_bytes());
            rogue.raw(0x11, &payload)
        }));
    }
    for flag in [2, 0x7F, 0xFF] {
        cases.push(instead_of_welcome(format!("an oldest number with flag {flag}"), Ends, move |rogue| {
            let mut payload = written(rogue, &|_| {});
            payload[10] = flag;
            rogue.raw(0x11, &payload)
        }));
    }
    let names: [(&str, &[u8]); 4] = [
        ("too long a name", &[b'n'; 65]),
        ("a name with control characters", b"\x1b[2Jevil"),
        ("a name in broken UTF-8", b"\xff\xfe"),
        ("a name with line ends", b"rogue\nERROR the server is broken"),
    ];
    for (what, name) in names {
        cases.push(instead_of_welcome(format!("a WELCOME with {what}"), Ends, move |rogue| {
            let mut payload = written(rogue, &|_| {});
            payload.truncate(35);
            payload.push(name.len() as u8);
            payload.extend_from_slice(name);
            payload.extend_from_slice(b"\x05rogue");
            rogue.raw(0x11, &payload)
        }));
    }
    for clock in [i64::MIN, -1, 0, i64::MAX] {
        cases.push(instead_of_welcome(format!("a clock of {clock}"), Lives, move |rogue| {
            let payload = written(rogue, &|welcome| welcome.clock = clock);
            rogue.raw(0x11, &payload)
        }));
    }
    for epoch in [0, 2, u64::MAX] {
        cases.push(instead_of_welcome(format!("epoch {epoch} in the welcome"), Any, move |rogue| {
            let payload = written(rogue, &|welcome| welcome.epoch = epoch);
            rogue.raw(0x11, &payload)?;
            rogue.ponged()
        }));
    }
    cases.push(instead_of_welcome("a WELCOME with what a newer node adds", Lives, move |rogue| {
        let mut payload = written(rogue, &|_| {});
        payload.extend_from_slice(b"and more");
        rogue.raw(0x11, &payload)
    }));
    cases
}

fn losses() -> Vec<Case> {
    let losses = |range: std::ops::Range<u64>| Frame::Losses(range.map(loss).collect());
    let mut absurd = loss(1);
    (absurd.packages, absurd.bytes, absurd.first, absurd.last) = (u64::MAX, u64::MAX, i64::MAX, i64::MIN);
    absurd.reason = 0xEE;
    let mut cases = vec![
        after_welcome("losses without an end", Any, move |rogue| {
            (0..1_000).try_for_each(|n| rogue.say(&losses(1 + n * 1_000..1 + (n + 1) * 1_000)))
        }),
        after_welcome("losses of absurd numbers", Any, move |rogue| {
            rogue.say(&Frame::Losses(vec![absurd.clone()]))?;
            rogue.delivered().map(drop)
        }),
        after_welcome("losses out of order", Ends, move |rogue| {
            rogue.say(&Frame::Losses(vec![loss(2_000_002), loss(2_000_001)]))
        }),
        after_welcome("the same loss twice on a connection", Ends, move |rogue| {
            rogue.say(&Frame::Losses(vec![loss(3_000_000)]))?;
            rogue.say(&Frame::Losses(vec![loss(3_000_000)]))
        }),
        after_welcome("half a loss record", Ends, move |rogue| {
            let mut bytes = Vec::new();
            losses(1..3).write(&mut bytes);
            rogue.raw(0x15, &bytes[4..bytes.len() - 20])
        }),
    ];
    let classes: [(&str, &[u8]); 3] =
        [("too long", &[b'c'; 33]), ("with control characters", b"\x1b[2J\n"), ("in broken UTF-8", b"\xc3")];
    for (what, class) in classes {
        cases.push(after_welcome(format!("a loss of a class {what}"), Ends, move |rogue| {
            let mut bytes = vec![0; 49];
            bytes[15] = 9;
            bytes.push(class.len() as u8);
            bytes.extend_from_slice(class);
            rogue.raw(0x15, &bytes)
        }));
    }
    cases
}
