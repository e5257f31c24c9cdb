//! Moments that a random life seldom hits: edits at every call of one change, and then a blackout.

use std::path::Path;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::disk::{Fuse, ModelFiles};
use super::hand::{Edit, bytes, md5, shown};
use crate::shared::{Digest, Done, Failed, Keep, Md5, Pair, Workshop};

/// More calls than any change makes.
const CALLS: u32 = 40;

fn pair() -> Pair {
    Pair { file: "/pairs/conf/web.conf".into(), md5: "/pairs/md5/web.md5".into() }
}

fn open(files: &ModelFiles) -> Workshop {
    let pair_of = |_: &[u8]| Some(pair());
    Workshop::open_on(Arc::new(files.clone()), Path::new("/pairs/workshop"), Keep::Recent, &pair_of).unwrap()
}

fn digest(content: usize) -> Digest {
    Sha256::digest(bytes(content)).into()
}

fn place(shop: &Workshop, expected: Option<usize>, content: usize) -> Done {
    let bytes = bytes(content);
    let mut partial = shop.begin(digest(content), bytes.len() as u64).unwrap();
    partial.write(&bytes[partial.offset() as usize..]).unwrap();
    shop.place(b"web.conf", &pair(), expected.map(digest), partial.finish().unwrap()).unwrap()
}

/// Plays a change of content 1 for each moment of a first edit and of a second one after it.
fn at_every_two_moments(first: Edit, second: Edit, play: impl Fn(&ModelFiles, &Workshop)) {
    for calls in 0..CALLS {
        for more in 0..CALLS / 4 {
            let files = ModelFiles::new(pair(), true);
            files.edit_now(Edit::Put(1));
            files.edit_now(Edit::Md5);
            let shop = open(&files);
            files.watch(&[(calls, first), (more, second)]);
            play(&files, &shop);
        }
    }
}

/// What is there after the power has failed and all is lost that was not made durable.
fn after_a_blackout(files: &ModelFiles) -> String {
    files.power_cut(&mut |_| 0);
    drop(open(files));
    shown(&files.view().main).to_owned()
}

/// The first edit comes out, and has to go back; the second one lies where it would go.
#[test]
fn what_was_undone_does_not_come_back_with_the_power() {
    at_every_two_moments(Edit::Put(2), Edit::Put(0), |files, shop| {
        let _ = place(shop, Some(1), 0);
        files.seen();
        let before = shown(&files.view().main);
        assert_eq!(after_a_blackout(files), before, "after placing");
    });
    at_every_two_moments(Edit::Put(2), Edit::Put(3), |files, shop| {
        let _ = shop.remove(&pair(), digest(1), Md5::Goes).unwrap();
        files.seen();
        files.edit_now(Edit::Remove);
        assert_eq!(after_a_blackout(files), "nothing", "after removing");
    });
}

/// The look at the main file and the renaming of the `.md5` are two calls. An edit between them gets a wrong `.md5`, which is
/// found to be one later; no other edit does.
#[test]
fn an_edit_gets_the_md5_of_another_file_in_one_moment_only() {
    let mut wrong = 0;
    for calls in 0..CALLS {
        let files = ModelFiles::new(pair(), true);
        files.edit_now(Edit::Put(1));
        files.edit_now(Edit::Md5);
        let shop = open(&files);
        files.watch(&[(calls, Edit::Put(2))]);
        let _ = place(&shop, Some(1), 3);
        let (views, new) = (files.seen(), Some(md5(&bytes(3))));
        let edited = views.iter().find(|(_, by)| by.is_some());
        let came_later = edited.is_some_and(|(view, _)| view.md5 != new) && files.view().md5 == new;
        wrong += u32::from(came_later && files.view().main == Some(bytes(2)));
    }
    assert!(wrong <= 1, "{wrong} moments");
}

/// It is that of a main file of another kind.
#[test]
fn the_md5_that_is_to_stay_is_there_after_every_death() {
    let mut removed = 0;
    for calls in 0..CALLS {
        let files = ModelFiles::new(pair(), true);
        files.edit_now(Edit::Put(1));
        files.edit_now(Edit::Md5);
        let (shop, before) = (open(&files), files.view());
        files.light(Fuse::Death(calls));
        let done = shop.remove(&pair(), digest(1), Md5::Stays);
        if calls % 2 == 0 {
            files.kill();
        } else {
            files.power_cut(&mut |_| 0);
        }
        drop(open(&files));
        let after = files.view();
        assert!(after.md5 == before.md5, "after {calls} calls");
        assert!(done.is_err() || after.main.is_none(), "after {calls} calls");
        removed += u32::from(done.is_err() && after.main.is_none());
    }
    assert!(removed > 0, "no start has ended it");
}

/// Renaming needs none: what came out and cannot be read goes back, and the process may go on.
#[test]
fn without_descriptors_no_edit_is_lost_and_nothing_unsure() {
    for (edit_at, calls) in (0..CALLS).flat_map(|edit_at| (0..CALLS).map(move |calls| (edit_at, calls))) {
        let files = ModelFiles::new(pair(), true);
        files.edit_now(Edit::Put(1));
        files.edit_now(Edit::Md5);
        let shop = open(&files);
        let mut partial = shop.begin(digest(3), bytes(3).len() as u64).unwrap();
        partial.write(&bytes(3)).unwrap();
        let ready = partial.finish().unwrap();
        files.watch(&[(edit_at, Edit::Put(2))]);
        files.light(Fuse::NoDescriptors(calls));
        let placed = shop.place(b"web.conf", &pair(), Some(digest(1)), ready);
        let is_edited = files.seen().iter().any(|(_, by)| by.is_some());
        assert!(!matches!(placed, Err(Failed::Unsure(_))), "{placed:?}");
        let there = if is_edited { 2 } else { [1, 3][usize::from(matches!(placed, Ok(Done::Done)))] };
        assert_eq!(shown(&files.view().main), shown(&Some(bytes(there))), "{edit_at}, {calls}: {placed:?}");
    }
}

/// The one who put it there was not careful.
#[test]
fn what_is_there_already_is_made_durable() {
    for (with_md5, done) in [(true, Done::Already), (false, Done::Done)] {
        let changes: [fn(&Workshop) -> Done; 2] =
            [|shop| place(shop, None, 1), |shop| shop.complete(b"web.conf", &pair(), digest(1)).unwrap()];
        for change in changes {
            let files = ModelFiles::new(pair(), true);
            files.edit_carelessly(Edit::Put(1));
            if with_md5 {
                files.edit_carelessly(Edit::Md5);
            }
            assert_eq!(change(&open(&files)), done);
            assert_eq!(after_a_blackout(&files), "b");
            assert!(files.view().fits());
        }
    }
}
