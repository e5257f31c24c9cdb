//! What zstd, or something else, can be made to do to its reader.

use std::io;

use tidegate_proto::relay::frame::Frame;
use tidegate_tests::relay::{Blocks, packed};
use tidegate_tests::seed::Seed;

use super::Ending::{Any, Ends, Lives};
use super::{Case, after_welcome};
use crate::rogue::Rogue;

pub(super) fn cases() -> Vec<Case> {
    [headers(), blocks(), bombs(), foreign()].into_iter().flatten().collect()
}

/// Data frames with these bytes.
fn sending(what: impl Into<String>, ending: super::Ending, bytes: Vec<u8>) -> Case {
    after_welcome(what, ending, move |rogue| rogue.data(&bytes))
}

fn headers() -> Vec<Case> {
    let mut cases = Vec::new();
    for window in 21..=41_u8 {
        let bytes = Blocks::new(window).raw(b"evil").open();
        cases.push(sending(format!("a window of 2^{window} bytes"), Ends, bytes));
    }
    // One eighth above what is allowed.
    let above = Blocks::of(&[0, (20 - 10) << 3 | 1]).raw(b"evil").open();
    cases.push(sending("a window of 9/8 MiB", Ends, above));
    // A single segment has no window: its size is the window.
    for (what, flag, size) in [
        ("2 MiB", 0xA0_u8, (2_u64 << 20).to_le_bytes()[..4].to_vec()),
        ("4 GiB", 0xA0, u32::MAX.to_le_bytes().to_vec()),
        ("16 EiB", 0xE0, u64::MAX.to_le_bytes().to_vec()),
    ] {
        let bytes = Blocks::of(&[&[flag][..], &size].concat()).raw(b"evil").open();
        cases.push(sending(format!("a single segment of {what}"), Ends, bytes));
    }
    for skippable in 0..16_u8 {
        let bytes = [&[0x50 + skippable, 0x2A, 0x4D, 0x18][..], &4_u32.to_le_bytes(), b"skip"].concat();
        cases.push(sending(format!("skippable frame {skippable}"), Ends, bytes));
    }
    cases.push(sending(
        "a skippable frame of 4 GiB",
        Ends,
        [&[0x50, 0x2A, 0x4D, 0x18][..], &u32::MAX.to_le_bytes(), &[0; 70_000]].concat(),
    ));
    for (what, header) in [
        ("of one byte", &[1_u8, 0x38, 7][..]),
        ("of two bytes", &[2, 0x38, 7, 7]),
        ("of four bytes", &[3, 0x38, 7, 7, 7, 7]),
    ] {
        let bytes = Blocks::of(header).raw(b"evil").open();
        cases.push(sending(format!("a dictionary's number {what}"), Ends, bytes));
    }
    let dictionary = [&[0x37, 0xA4, 0x30, 0xEC, 1, 0, 0, 0][..], &[0; 100]].concat();
    cases.push(sending("a dictionary itself", Ends, dictionary));
    cases.push(sending("the reserved bit", Ends, Blocks::of(&[8, 0x38]).raw(b"evil").open()));
    for length in 1..=4 {
        let cut = Blocks::new(17).raw(b"evil").open();
        cases.push(after_welcome(
            format!("{length} bytes of a compressed frame's header, and the end"),
            Ends,
            {
                move |rogue| {
                    rogue.data(&cut[..length])?;
                    rogue.hang_up()
                }
            },
        ));
    }
    cases
}

fn blocks() -> Vec<Case> {
    // Where a package is whole and its own digest is right, it is good, whatever surrounds it.
    let record = |rogue: &mut Rogue| {
        let package = rogue.package();
        rogue.may_arrive(&package);
        package.record()
    };
    vec![
        sending("a reserved kind of block", Ends, Blocks::new(17).block(3, 4, false).bytes(b"evil").open()),
        sending(
            "a block above 128 KiB",
            Ends,
            Blocks::new(20).block(0, 200_000, false).bytes(&[1; 200_000]).open(),
        ),
        sending(
            "a block above its window",
            Ends,
            Blocks::new(10).block(0, 2_000, false).bytes(&[1; 2_000]).open(),
        ),
        sending("a compressed block of noise", Ends, {
            Blocks::new(17).block(2, 1_000, false).bytes(&Seed::of(3).bytes(1_000)).open()
        }),
        sending("a compressed block of nothing", Ends, Blocks::new(17).block(2, 0, false).raw(b"x").open()),
        sending("an empty compressed frame", Ends, Blocks::new(17).end()),
        sending("a thousand empty compressed frames", Ends, Blocks::new(17).end().repeat(1_000)),
        sending("a megabyte of empty blocks", Ends, {
            (0..350_000).fold(Blocks::new(17), |blocks, _| blocks.block(0, 0, false)).open()
        }),
        sending(
            "empty blocks, one to a frame",
            Ends,
            Blocks::new(17).block(0, 0, false).open().repeat(1).into_iter().chain([0x28]).collect(),
        ),
        after_welcome("a wrong checksum of the content", Ends, move |rogue| {
            let record = record(rogue);
            let frame = Blocks::of(&[4, 0x38]).raw(&record).end();
            rogue.data(&[frame, b"evil".to_vec()].concat())
        }),
        after_welcome("more content than the frame announces", Ends, move |rogue| {
            let record = record(rogue);
            rogue.data(&Blocks::of(&[0x40, 0x38, 0, 0]).raw(&record).raw(&record).end())
        }),
        after_welcome("less content than the frame announces", Ends, move |rogue| {
            let record = record(rogue);
            rogue.data(&Blocks::of(&[0x80, 0x38, 0xFF, 0xFF, 0, 0]).raw(&record).end())
        }),
        after_welcome("a frame cut by another one's beginning", Ends, move |rogue| {
            let cut = Rogue::open(&record(rogue)[..20]);
            let whole = packed(&record(rogue));
            rogue.data(&[cut, whole].concat())
        }),
        after_welcome("garbage behind a good frame", Ends, |rogue| {
            rogue.delivered()?;
            rogue.data(b"garbage that is no frame")
        }),
        after_welcome("a bit flipped in a compressed stream", Any, move |rogue| {
            let package = rogue.package();
            let mut bytes = packed(&package.record());
            let middle = bytes.len() / 2;
            bytes[middle] ^= 4;
            rogue.data(&bytes)
        }),
        after_welcome("a good package, a byte to a DATA", Lives, |rogue| {
            let package = rogue.package();
            rogue.must_arrive(&package);
            packed(&package.record()).chunks(1).try_for_each(|byte| rogue.say(&Frame::Data(byte.to_vec())))
        }),
        after_welcome("a good package, a compressed frame for each byte", Lives, |rogue| {
            let package = rogue.package();
            rogue.must_arrive(&package);
            let bytes: Vec<u8> = package.record().chunks(1).flat_map(packed).collect();
            rogue.data(&bytes)
        }),
        after_welcome("a good package in a frame that never ends", Any, |rogue| {
            let package = rogue.package();
            rogue.must_arrive(&package);
            rogue.data(&Rogue::open(&package.record()))?;
            rogue.until_acked(package.number)
        }),
    ]
}

fn bombs() -> Vec<Case> {
    let huge = |rogue: &mut Rogue, size: u64| {
        let package = rogue.package();
        package.record_of(package.name.as_bytes(), size, 1)
    };
    vec![
        after_welcome("32 GiB in a megabyte, no record before it", Ends, |rogue| {
            rogue.data(&Blocks::new(20).repeated(0, 262_144).open())
        }),
        after_welcome("32 GiB in a megabyte, as one body", Ends, move |rogue| {
            let head = huge(rogue, 32 << 30);
            rogue.data(&Blocks::new(20).raw(&head).repeated(b'a', 262_144).open())
        }),
        after_welcome("32 GiB in a megabyte, as the rest of a small body", Ends, move |rogue| {
            let head = huge(rogue, 500_000);
            rogue.data(&Blocks::new(20).raw(&head).repeated(b'a', 262_144).open())
        }),
        after_welcome("bodies of the largest size, all of one byte, beyond any credit", Ends, move |rogue| {
            let mut bytes = Blocks::new(20);
            let blocks = (rogue.max_size() / (128 * 1024)) as usize;
            let rest = rogue.max_size() as usize - blocks * 128 * 1024;
            for _ in 0..2_000 {
                let head = huge(rogue, rogue.max_size());
                bytes = bytes.raw(&head).repeated(b'a', blocks).raw(&vec![b'a'; rest.min(1_000)]);
                bytes = bytes.block(1, rest - rest.min(1_000), false).bytes(b"a");
            }
            rogue.data(&bytes.open())
        }),
        after_welcome("a hundred thousand empty packages", Ends, |rogue| {
            let mut bytes = Blocks::new(20);
            for _ in 0..100_000 {
                let package = rogue.package();
                bytes = bytes.raw(&package.record_of(b"evil.1.data", 0, 1));
            }
            rogue.data(&bytes.open())
        }),
        after_welcome("a bomb in many small frames", Ends, |rogue| {
            let bomb = Blocks::new(20).repeated(2, 8).end();
            (0..1_000).try_for_each(|_| rogue.data(&bomb))
        }),
        after_welcome("credit overrun by one package that is honest otherwise", Ends, overrun),
    ]
}

/// Takes no notice of the credit: whole packages of good bytes, as fast as they go.
fn overrun(rogue: &mut Rogue) -> io::Result<()> {
    for _ in 0..400 {
        let mut package = rogue.package();
        package.bytes = Seed::of(package.number.counter).bytes(900_000);
        rogue.may_arrive(&package);
        rogue.data(&packed(&package.record()))?;
    }
    Ok(())
}

/// Other formats, and zstd's own old ones.
fn foreign() -> Vec<Case> {
    let magics: [(&str, &[u8]); 15] = [
        ("gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"),
        ("zlib", b"\x78\x9c\x03\x00\x00\x00\x00\x01"),
        ("lz4", b"\x04\x22\x4d\x18\x64\x40\xa7"),
        ("xz", b"\xfd7zXZ\x00\x00\x04"),
        ("bzip2", b"BZh91AY&SY"),
        ("zip", b"PK\x03\x04\x14\x00\x00\x00"),
        ("snappy", b"\xff\x06\x00\x00sNaPpY"),
        ("brotli", b"\x0b\x02\x80evil\x03"),
        ("zstd 0.1", b"\xfd\x2f\xb5\x1e\x00\x00"),
        ("zstd 0.2", b"\x22\xb5\x2f\xfd\x00\x00"),
        ("zstd 0.3", b"\x23\xb5\x2f\xfd\x00\x00"),
        ("zstd 0.4", b"\x24\xb5\x2f\xfd\x00\x00"),
        ("zstd 0.5", b"\x25\xb5\x2f\xfd\x00\x00"),
        ("zstd 0.6", b"\x26\xb5\x2f\xfd\x00\x00"),
        ("zstd 0.7", b"\x27\xb5\x2f\xfd\x00\x00"),
    ];
    let mut cases: Vec<Case> = magics
        .iter()
        .map(|(name, bytes)| sending(format!("{name} instead of zstd"), Ends, bytes.to_vec()))
        .collect();
    cases.push(after_welcome("a record that is not compressed", Ends, |rogue| {
        let record = rogue.package().record();
        rogue.data(&record)
    }));
    cases.push(sending("noise instead of zstd", Ends, Seed::of(2).bytes(100_000)));
    cases
}
