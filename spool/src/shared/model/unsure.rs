//! A failed fsync of what is visible is final for that pair, and one of what is not harms nobody.

use std::path::Path;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::disk::{Fuse, ModelFiles};
use super::hand::bytes;
use crate::shared::{Done, Failed, Keep, Md5, Pair, Workshop};

#[test]
fn after_a_failed_fsync_a_pair_changes_no_more_until_the_next_start() {
    let pair = |name: &str| Pair {
        file: format!("/pairs/conf/{name}.conf").into(),
        md5: format!("/pairs/md5/{name}.md5").into(),
    };
    let digest = |content| Sha256::digest(bytes(content)).into();
    let place = |shop: &Workshop, name: &str, content| {
        let mut partial = shop.begin(digest(content), bytes(content).len() as u64).unwrap();
        partial.write(&bytes(content)[partial.offset() as usize..]).unwrap();
        let ready = partial.finish().map_err(|error| Failed::Refused(std::io::Error::other(error)))?;
        shop.place(format!("{name}.conf").as_bytes(), &pair(name), None, ready)
    };
    let (mut refused, mut unsure) = (0, 0);
    for fsyncs in 0.. {
        let files = ModelFiles::new(pair("web"), true);
        let open = || {
            let opened = Workshop::open_on(
                Arc::new(files.clone()),
                Path::new("/pairs/workshop"),
                Keep::Recent,
                &|_| None,
            );
            opened.unwrap()
        };
        let shop = open();
        files.light(Fuse::FailedFsync(fsyncs));
        match place(&shop, "web", 1) {
            Ok(done) => {
                assert!(files.is_lit() && done == Done::Done);
                break;
            }
            Err(Failed::Refused(_)) => {
                assert_eq!(files.view().main, None);
                assert_eq!(place(&shop, "web", 1).unwrap(), Done::Done, "nothing had happened");
                refused += 1;
            }
            Err(Failed::Unsure(_)) => {
                assert!(files.view().main.is_some());
                assert!(matches!(place(&shop, "web", 1), Err(Failed::Unsure(_))));
                assert!(matches!(shop.remove(&pair("web"), digest(1), Md5::Goes), Err(Failed::Unsure(_))));
                assert_eq!(place(&shop, "other", 2).unwrap(), Done::Done, "another pair");
                drop(shop);
                assert_eq!(place(&open(), "web", 1).map(drop).map_err(drop), Ok(()));
                unsure += 1;
            }
        }
    }
    // The bytes, with mode and owner, the md5, the workshop; the two directories.
    assert_eq!((refused, unsure), (4, 2));
}
