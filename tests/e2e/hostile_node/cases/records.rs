//! Records that lie: kinds, names, sizes, digests.

use tidegate_proto::Name;
use tidegate_tests::relay::{Blocks, Package, packed, prefix};

use super::Ending::{self, Any, Ends, Lives};
use super::{Case, after_welcome};
use crate::rogue::Rogue;

pub(super) fn cases() -> Vec<Case> {
    [kinds(), names(), sizes(), digests(), times()].into_iter().flatten().collect()
}

fn kinds() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in [0, 3, 4, 0x12, 0x7F, 0x80, 0x81, 0xFF] {
        cases.push(after_welcome(format!("a record of kind {kind}"), Ends, move |rogue| {
            let mut record = rogue.package().record();
            record[0] = kind;
            rogue.data(&packed(&record))
        }));
    }
    for length in [1, 9, 17, 25, 33, 41, 42, 50] {
        cases.push(after_welcome(
            format!("the connection ends {length} bytes into a record"),
            Ends,
            move |rogue| {
                let record = rogue.package().record();
                rogue.data(&Rogue::open(&record[..length]))?;
                rogue.hang_up()
            },
        ));
    }
    cases
}

/// A whole package under a name that a rogue may not choose. Whether the server ends the connection or puts the package
/// aside, a name that no agent could have sent must not get into the pipeline, under that name or any other.
fn names() -> Vec<Case> {
    let mut names: Vec<Vec<u8>> = [
        "",
        ".",
        "..",
        " ",
        "../evil.1.data",
        "../../evil.1.data",
        "/evil.1.data",
        "/tmp/evil.1.data",
        "a/../../evil.1.data",
        "a/evil.1.data",
        "./evil.1.data",
        ".evil.1.data",
        ".tidegate/evil.1.data",
        ".tidegate",
        " evil.1.data",
        "evil.1.data ",
        "evil.1.data\n",
        "evil.1.data.",
        "-evil",
        "evil",
        "evil.data",
        "evil.1.data.staged",
        "evil.1.DATA",
        "evil.conf",
        "evil.md5",
        "evil.zip",
        "evil.rcmd",
        "evil.lock",
        "evil.1.data.conf",
        "evil\u{202e}atad.1.data\u{7f}",
    ]
    .iter()
    .map(|name| name.as_bytes().to_vec())
    .collect();
    names.extend(b"?[]/\\=+<>:;',*~".iter().map(|byte| [b"evil", &[*byte][..], b"x.1.data"].concat()));
    names.extend((0..32).chain([127]).map(|byte| [b"evil", &[byte][..], b"x.1.data"].concat()));
    names.push(b"evil\xff\xfe.1.data".to_vec());
    names.push([&[b'e'; 249][..], b".1.data"].concat()[..255].to_vec());
    names.push([&[b'e'; 205][..], b".1.data"].concat());
    let case = |name: Vec<u8>| {
        after_welcome(format!("the name \"{}\"", name.escape_ascii()), Any, move |rogue| {
            let mut package = rogue.package();
            package.bytes = [b"evil ", &name[..]].concat();
            let mut record = package.record_of(&name, package.bytes.len() as u64, prefix(&package.bytes));
            record.extend_from_slice(&package.bytes);
            if Name::parse_listed(&name).is_ok() {
                // A strange name, and one that an agent may choose.
                package.name = String::from_utf8_lossy(&name).into_owned();
                rogue.may_arrive(&package);
            }
            rogue.data(&packed(&record))?;
            // Until the server has dealt with it, one way or another.
            let _ = rogue.until_acked(package.number);
            Ok(())
        })
    };
    names.into_iter().map(case).collect()
}

fn sizes() -> Vec<Case> {
    let with_size = |what: &str, ending: Ending, size: fn(&Rogue, &Package) -> u64| {
        after_welcome(what, ending, move |rogue| {
            let package = rogue.package();
            let record =
                package.record_of(package.name.as_bytes(), size(rogue, &package), prefix(&package.bytes));
            rogue.data(&Rogue::open(&[record, package.bytes].concat()))
        })
    };
    let skipped = |what: &str, ending: Ending, size: fn(&Rogue) -> u64| {
        after_welcome(what, ending, move |rogue| {
            let package = rogue.package();
            let mut record = package.record_of(package.name.as_bytes(), size(rogue), 1);
            record[0] = Package::SKIPPED;
            rogue.data(&packed(&record))
        })
    };
    vec![
        with_size("a body that is larger than was asked for, by one byte", Ends, |rogue, _| {
            rogue.max_size() + 1
        }),
        with_size("a body of 2^63 bytes", Ends, |_, _| 1 << 63),
        with_size("a body of 2^64 - 1 bytes", Ends, |_, _| u64::MAX),
        with_size("a body that is one byte short, and nothing more", Any, |_, package| {
            package.bytes.len() as u64 + 1
        }),
        with_size("a body that is one byte too long", Any, |_, package| package.bytes.len() as u64 - 1),
        with_size("a size of 0, and a body all the same", Any, |_, _| 0),
        after_welcome("a body that is one byte short, and the next record", Any, |rogue| {
            let [short, next] = [rogue.package(), rogue.package()];
            let record =
                short.record_of(short.name.as_bytes(), short.bytes.len() as u64 + 1, prefix(&short.bytes));
            rogue.data(&packed(&[record, short.bytes, next.record()].concat()))
        }),
        after_welcome("a package of no bytes", Lives, |rogue| {
            let mut package = rogue.package();
            package.bytes.clear();
            rogue.may_arrive(&package);
            rogue.data(&packed(&package.record()))
        }),
        skipped("skipped, although it is small", Ends, |_| 10),
        skipped("skipped, although it has just the largest size", Ends, Rogue::max_size),
        skipped("skipped, for one byte", Lives, |rogue| rogue.max_size() + 1),
        skipped("skipped, of 2^64 - 1 bytes", Lives, |_| u64::MAX),
        after_welcome("skipped, and its body all the same", Ends, |rogue| {
            let package = rogue.package();
            let mut record = package.record_of(package.name.as_bytes(), 2_000_000, 1);
            record[0] = Package::SKIPPED;
            rogue.data(&Blocks::new(20).raw(&record).raw(&vec![b'a'; 200_000]).open())
        }),
        after_welcome("skipped a hundred times under bad names", Any, |rogue| {
            for _ in 0..100 {
                let package = rogue.package();
                let mut record = package.record_of(b"../evil.1.data", u64::MAX, 1);
                record[0] = Package::SKIPPED;
                rogue.data(&packed(&record))?;
            }
            Ok(())
        }),
    ]
}

fn digests() -> Vec<Case> {
    let with_digest = |what: &str, digest: fn(&[u8]) -> u64| {
        after_welcome(what, Any, move |rogue| {
            let mut package = rogue.package();
            package.bytes = [b"evil ", &package.bytes[..]].concat();
            let record = package.record_of(
                package.name.as_bytes(),
                package.bytes.len() as u64,
                digest(&package.bytes),
            );
            rogue.data(&packed(&[record, package.bytes].concat()))?;
            let _ = rogue.until_acked(package.number);
            Ok(())
        })
    };
    vec![
        with_digest("the digest of something else", |_| prefix(b"something else")),
        with_digest("a digest of zeros", |_| 0),
        with_digest("a digest of ones", |_| u64::MAX),
        with_digest("a digest with one wrong bit", |bytes| prefix(bytes) ^ 1),
        with_digest("a digest turned round", |bytes| prefix(bytes).swap_bytes()),
    ]
}

/// Arrival times are the node's words: nothing depends on them.
fn times() -> Vec<Case> {
    let case = |time: i64| {
        after_welcome(format!("arrived at {time}"), Lives, move |rogue| {
            let package = rogue.package();
            rogue.must_arrive(&package);
            let mut record = package.record();
            record[17..25].copy_from_slice(&time.to_be_bytes());
            rogue.data(&packed(&record))
        })
    };
    [i64::MIN, -1, 0, 253_402_300_800_000, i64::MAX].map(case).into()
}
