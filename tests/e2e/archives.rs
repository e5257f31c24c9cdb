//! Archives for `ZSEND`: a few honest ones, and every lie that a container can tell.

use std::io::{Cursor, Write as _};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// An archive, and what a node must store of it, if anything.
pub(crate) struct Archive {
    pub(crate) what: &'static str,
    pub(crate) bytes: Vec<u8>,
    pub(crate) content: Option<Vec<u8>>,
}

/// Far over the size limit of 2,000,000 bytes, packed into a few hundred KiB.
const BOMB: usize = 200_000_000;

/// The list.
pub(crate) fn all() -> Vec<Archive> {
    let content = b"<agent_data agent_name='zip'></agent_data>\n".repeat(20);
    let good = |what, bytes| Archive { what, bytes, content: Some(content.clone()) };
    let bad = |what, bytes| Archive { what, bytes, content: None };
    let deflated = pack(CompressionMethod::Deflated, &[("data", &content)]);
    let stored = pack(CompressionMethod::Stored, &[("data", &content)]);
    let named = |name: &str| pack(CompressionMethod::Deflated, &[(name, &content)]);
    let bomb = pack(CompressionMethod::Deflated, &[("data", &vec![0; BOMB])]);
    let mut all = vec![
        good("deflated", deflated.clone()),
        good("stored", stored),
        good("an entry that would climb", named("../../../etc/passwd")),
        good("an entry with an absolute name", named("/etc/passwd")),
        good("an entry without a name", named("")),
        // Whichever directory is believed, it leads to the one entry at the first byte.
        good("the same archive twice", deflated.repeat(2)),
        bad("no entry", pack(CompressionMethod::Stored, &[])),
        bad("two entries", pack(CompressionMethod::Deflated, &[("a", &content), ("b", &content)])),
        bad("an empty entry", pack(CompressionMethod::Stored, &[("data", b"")])),
        bad("only a magic number", b"PK\x03\x04".to_vec()),
        bad("nonsense", b"\0\x01\x02 no archive".repeat(10)),
        bad("a bomb that says so", bomb.clone()),
        bad("a bomb that says it is small", with_declared_size(&bomb, 1000)),
        bad("an entry that is larger than it says", with_declared_size(&deflated, content.len() as u32 - 1)),
        bad("an entry that is smaller than it says", with_declared_size(&deflated, content.len() as u32 + 1)),
        bad("an entry that says 4 GiB", with_declared_size(&deflated, u32::MAX - 1)),
        bad("a wrong checksum", with(&deflated, |archive| flip_central(archive, 16))),
        bad("an encrypted entry", with(&deflated, |archive| set_flags(archive, 1))),
        bad("a method of its own", with(&deflated, |archive| flip_central(archive, 10))),
        bad("something before the archive", [b"#!/bin/sh\n".to_vec(), deflated.clone()].concat()),
        bad("a broken stream", with(&deflated, |archive| archive[40] ^= 0xFF)),
    ];
    for cut in [1, 10, 22, 30, deflated.len() / 2, deflated.len() - 10] {
        all.push(bad("cut off", deflated[..deflated.len() - cut].to_vec()));
    }
    all
}

fn pack(method: CompressionMethod, entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in entries {
        let options = SimpleFileOptions::default().compression_method(method);
        writer.start_file(*name, options).expect("an archive in memory takes an entry");
        writer.write_all(content).expect("an archive in memory takes bytes");
    }
    writer.finish().expect("an archive in memory ends").into_inner()
}

fn with(archive: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut changed = archive.to_vec();
    change(&mut changed);
    changed
}

/// Where the directory's one record starts.
fn central(archive: &[u8]) -> usize {
    archive.windows(4).rposition(|window| window == b"PK\x01\x02").expect("an archive has a directory")
}

fn flip_central(archive: &mut [u8], field: usize) {
    let at = central(archive) + field;
    archive[at] ^= 0x55;
}

fn set_flags(archive: &mut [u8], flags: u8) {
    let at = central(archive);
    archive[at + 8] |= flags;
    archive[6] |= flags;
}

/// The same lie in the local header and in the directory.
fn with_declared_size(archive: &[u8], size: u32) -> Vec<u8> {
    with(archive, |archive| {
        let at = central(archive);
        archive[at + 24..at + 28].copy_from_slice(&size.to_le_bytes());
        archive[22..26].copy_from_slice(&size.to_le_bytes());
    })
}
