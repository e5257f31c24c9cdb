//! A hand that opened a main file before it was replaced or removed, and writes into it after that.

use std::path::Path;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::disk::ModelFiles;
use super::hand::{Edit, bytes};
use crate::shared::{Done, Keep, Md5, Pair, Workshop};

/// Where the hand's write falls into a change: after so many of its calls. Gives what came of it, and how many of these
/// calls had to pass before what is written into the old file is lost.
fn changes_seen(change: fn(&Workshop, &Pair) -> Done) -> (usize, usize) {
    let pair = Pair { file: "/pairs/conf/web.conf".into(), md5: "/pairs/md5/web.md5".into() };
    let (mut seen, mut visible) = (0, 0);
    for calls in 0..40 {
        let files = ModelFiles::new(pair.clone(), true);
        files.edit_now(Edit::Put(1));
        let shop =
            Workshop::open_on(Arc::new(files.clone()), Path::new("/pairs/workshop"), Keep::Recent, &|_| None)
                .unwrap();
        files.watch(&[(calls, Edit::Late(2))]);
        let done = change(&shop, &pair);
        let views = files.seen();
        let Some(at) = views.iter().position(|(_, by)| by.is_some()) else { return (seen, visible) };
        match done {
            Done::Changed(_) => {
                assert!(files.view().main == Some(bytes(2)), "it was not put back");
                assert_eq!(seen, calls as usize, "it was lost before");
                seen += 1;
                visible += usize::from(views[at].0.main != Some(bytes(2)));
            }
            _ => assert!(files.view().main != Some(bytes(2))),
        }
    }
    panic!("a change has more calls than that");
}

/// Nobody can close that gap, but it begins only when the change is durable.
#[test]
fn what_is_written_into_a_file_while_it_is_replaced_is_put_back() {
    let (seen, visible) = changes_seen(|shop, pair| {
        let (old, new) = (Sha256::digest(bytes(1)).into(), bytes(3));
        let mut partial = shop.begin(Sha256::digest(&new).into(), new.len() as u64).unwrap();
        partial.write(&new).unwrap();
        shop.place(b"web.conf", pair, Some(old), partial.finish().unwrap()).unwrap()
    });
    assert!(seen > 20 && visible >= 3, "{seen}, {visible} of them behind the exchange");
}

#[test]
fn what_is_written_into_a_file_while_it_is_removed_is_put_back() {
    let (seen, visible) = changes_seen(|shop, pair| {
        let old = Sha256::digest(bytes(1)).into();
        shop.remove(pair, old, Md5::Goes).unwrap()
    });
    assert!(seen > 5 && visible >= 4, "{seen}, {visible} of them behind the rename");
}
