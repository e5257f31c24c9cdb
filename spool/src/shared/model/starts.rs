//! Starts at which something fails that concerns one pair: all others go on.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::disk::{Fuse, ModelFiles};
use super::hand::bytes;
use crate::shared::files::Files;
use crate::shared::partial::Parts;
use crate::shared::{Digest, Done, Failed, Keep, Pair, Workshop};

/// More calls than a change makes.
const CALLS: u32 = 60;

/// Those of a start that concern the workshop itself: making, opening, listing and fsyncing it.
const OWN_CALLS: usize = 4;

const NAMES: [&str; 2] = ["web", "mail"];

fn pair(name: &str) -> Pair {
    Pair { file: format!("/pairs/conf/{name}.conf").into(), md5: format!("/pairs/md5/{name}.md5").into() }
}

fn digest(content: usize) -> Digest {
    Sha256::digest(bytes(content)).into()
}

fn open(files: &ModelFiles) -> io::Result<Workshop> {
    let pair_of = |name: &[u8]| Some(pair(str::from_utf8(name.strip_suffix(b".conf")?).ok()?));
    Workshop::open_on(Arc::new(files.clone()), Path::new("/pairs/workshop"), Keep::Recent, &pair_of)
}

fn place(shop: &Workshop, name: &str, expected: Option<usize>, content: usize) -> Result<Done, Failed> {
    let bytes = bytes(content);
    let mut partial = shop.begin(digest(content), bytes.len() as u64)?;
    partial.write(&bytes[partial.offset() as usize..])?;
    let ready = partial.finish().map_err(io::Error::other)?;
    shop.place(format!("{name}.conf").as_bytes(), &pair(name), expected.map(digest), ready)
}

/// Two pairs, each of which was replaced by a process that died after so many calls.
fn after_deaths(calls: u32) -> ModelFiles {
    let files = ModelFiles::new(pair("web"), true);
    let shop = open(&files).unwrap();
    for name in NAMES {
        assert_eq!(place(&shop, name, None, 1).unwrap(), Done::Done);
    }
    for name in NAMES {
        files.light(Fuse::Death(calls));
        let _ = place(&shop, name, Some(1), 2);
        files.kill();
    }
    files
}

/// How many pairs refuse to be changed.
fn refusing(files: &ModelFiles, shop: &Workshop) -> usize {
    let refuses = |name: &&&str| {
        let mut there = Vec::new();
        files.open(&pair(name).file).unwrap().unwrap().bytes.read_to_end(&mut there).unwrap();
        let content = (1..3).find(|content| bytes(*content) == there).expect("it is one of the two");
        match shop.complete(format!("{name}.conf").as_bytes(), &pair(name), digest(content)) {
            Ok(done) => assert!(!matches!(done, Done::Changed(_))),
            Err(failed) => assert!(matches!(failed, Failed::Refused(_)), "{failed:?}"),
        }
        shop.complete(format!("{name}.conf").as_bytes(), &pair(name), digest(content)).is_err()
    };
    NAMES.iter().filter(refuses).count()
}

#[test]
fn what_cannot_be_ended_keeps_no_other_pair_from_going_on() {
    let fuses: [fn(u32) -> Fuse; 2] = [Fuse::FailedCall, Fuse::FailedFsync];
    let mut left = 0;
    for (deaths, fuse) in (0..CALLS).flat_map(|deaths| fuses.map(|fuse| (deaths, fuse))) {
        let mut failed = 0;
        for calls in 0.. {
            let files = after_deaths(deaths);
            files.light(fuse(calls));
            let shop = open(&files);
            let is_over = files.is_lit();
            files.kill();
            match &shop {
                Ok(shop) => {
                    let refusing = refusing(&files, shop);
                    assert!(refusing <= 1, "a call that failed concerns one pair");
                    left += refusing;
                }
                Err(_) => failed += 1,
            }
            drop(shop);
            let shop = open(&files).unwrap();
            assert_eq!(refusing(&files, &shop), 0, "the next start ends it");
            let inside = files.list(Path::new("/pairs/workshop")).unwrap();
            assert!(inside.iter().all(|(name, _)| Parts::is_part(name.as_encoded_bytes())), "{inside:?}");
            if is_over {
                break;
            }
        }
        assert!(failed <= OWN_CALLS, "{failed} calls that failed kept it from starting");
    }
    assert!(left > 100, "{left}");
}
