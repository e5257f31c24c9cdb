//! Staged copies that are damaged or cannot be read: what is kept, what is received again, what is lost.

use std::fs;
use std::path::Path;

use super::{SITE, accept, die_before_delivery, files, losses, open, quarantine, received, settings};
use crate::config::Incoming;
use crate::crash::Crash;
use crate::ledger::DAMAGED;
use crate::pipeline::Pipeline;
use crate::quarantine::Outcome;

/// Flips a bit of every staged file.
fn damage(staging: &Path) {
    for file in files(staging) {
        let path = staging.join(file);
        let mut bytes = fs::read(&path).unwrap();
        bytes[0] ^= 1;
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn a_damaged_only_copy_goes_to_quarantine_leaves_a_loss_record_and_blocks_nothing() {
    let root = tempfile::tempdir().unwrap();
    let pipeline = open(&root);
    let Incoming { directory, staging, .. } = settings(&root);
    pipeline.hold(SITE, vec![received(&pipeline, "web01.5.data", b"content")]).unwrap();
    damage(&staging);
    pipeline.hold(SITE, vec![received(&pipeline, "web02.5.data", b"good")]).unwrap();
    pipeline.listed(SITE, |_| false).unwrap();
    assert_eq!(files(&directory), ["web02.5.data"], "nothing damaged is delivered, what is behind it is");
    assert_eq!(losses(&root), [("damaged".to_owned(), 1)]);
    let listed = quarantine(&root).list(None).unwrap();
    assert_eq!(listed.len(), 1);
    let reason = listed[0].reason.clone().unwrap();
    assert!(reason.starts_with("damaged on this server's disk: its 7 bytes have the SHA-256"), "{reason}");
    assert_eq!(files(&staging), [listed[0].staged.clone()], "the bytes are kept");
    drop(pipeline);
    let pipeline = open(&root);
    assert_eq!(files(&staging), [listed[0].staged.clone()], "a start keeps them too");
    assert_eq!(quarantine(&root).requeue(listed[0].id).unwrap(), Outcome::Changed(listed[0].clone()));
    pipeline.resume(SITE).unwrap();
    assert_eq!(quarantine(&root).list(Some(SITE)).unwrap(), listed, "it is as damaged as before");
    damage(&staging);
    assert_eq!(quarantine(&root).requeue(listed[0].id).unwrap(), Outcome::Done(listed[0].clone()));
    damage(&staging);
    pipeline.resume(SITE).unwrap();
    assert_eq!(losses(&root), [("damaged".to_owned(), 1)], "one loss is counted once");
    quarantine(&root).purge(listed[0].id).unwrap();
    assert_eq!(losses(&root), [("damaged".to_owned(), 1)], "even if it is purged");
}

#[test]
fn a_damaged_copy_of_what_the_site_still_has_is_received_again_and_nothing_is_lost() {
    let root = tempfile::tempdir().unwrap();
    let Incoming { directory, staging, .. } = settings(&root);
    die_before_delivery(&root, "web01.1700000000.data", b"content");
    damage(&staging);
    let pipeline = open(&root);
    assert_eq!(files(&directory), Vec::<String>::new());
    pipeline.listed(SITE, |_| true).unwrap();
    assert_eq!(losses(&root), [], "it may come again");
    let kept = accept(&pipeline, "web01.1700000000.data", b"content").unwrap();
    assert!(kept.len() == 1 && !kept[0].is_repeat());
    assert_eq!(fs::read(directory.join("web01.1700000000.data")).unwrap(), b"content");
    pipeline.listed(SITE, |_| false).unwrap();
    assert_eq!(losses(&root), []);
    let listed = quarantine(&root).list(None).unwrap();
    assert!(listed[0].reason.as_ref().unwrap().ends_with("; a good copy was delivered later"), "{listed:?}");
    damage(&staging);
    let id = listed[0].id;
    assert_eq!(quarantine(&root).requeue(id).unwrap(), Outcome::GoodCopyDelivered(listed[0].clone()));
    quarantine(&root).purge(listed[0].id).unwrap();
    assert_eq!(losses(&root), []);
    assert_eq!(files(&staging), Vec::<String>::new());
}

#[test]
fn what_is_damaged_after_it_was_requeued_does_not_keep_the_good_copy_from_being_taken() {
    let root = tempfile::tempdir().unwrap();
    let Incoming { directory, staging, .. } = settings(&root);
    die_before_delivery(&root, "web01.1700000000.data", b"content");
    damage(&staging);
    let pipeline = open(&root);
    damage(&staging);
    let id = quarantine(&root).list(None).unwrap()[0].id;
    assert!(matches!(quarantine(&root).requeue(id).unwrap(), Outcome::Done(_)), "its bytes are back");
    damage(&staging);
    let kept = accept(&pipeline, "web01.1700000000.data", b"content").unwrap();
    assert!(kept.len() == 1 && !kept[0].is_repeat(), "the site's copy is the good one");
    assert_eq!(fs::read(directory.join("web01.1700000000.data")).unwrap(), b"content");
    pipeline.resume(SITE).unwrap();
    pipeline.listed(SITE, |_| false).unwrap();
    assert_eq!(files(&directory).len(), 1);
    assert_eq!(quarantine(&root).list(None).unwrap(), [], "the good copy says all");
    assert_eq!((losses(&root), files(&staging)), (vec![], vec![]));
}

#[test]
fn a_damaged_copy_that_is_purged_while_the_site_has_it_is_recorded() {
    let root = tempfile::tempdir().unwrap();
    die_before_delivery(&root, "web01.1700000000.data", b"content");
    damage(&settings(&root).staging);
    let pipeline = open(&root);
    let id = quarantine(&root).list(None).unwrap()[0].id;
    quarantine(&root).purge(id).unwrap();
    pipeline.listed(SITE, |_| false).unwrap();
    assert_eq!(losses(&root), [("purged".to_owned(), 1)]);
}

#[test]
fn a_damaged_copy_is_lost_when_the_site_shows_it_no_more() {
    let root = tempfile::tempdir().unwrap();
    die_before_delivery(&root, "web01.1700000000.data", b"content");
    damage(&settings(&root).staging);
    let pipeline = open(&root);
    for _ in 0..2 {
        pipeline.listed(SITE, |_| false).unwrap();
    }
    assert_eq!(losses(&root), [("damaged".to_owned(), 1)]);
}

#[test]
fn what_is_damaged_while_it_is_delivered_must_not_be_deleted_at_its_node() {
    let root = tempfile::tempdir().unwrap();
    let staging = settings(&root).staging;
    for copies in [1, 1] {
        let damaged = staging.clone();
        let crash = Crash::doing_at("after-committed", 1, move || damage(&damaged));
        let pipeline = Pipeline::open(&settings(&root), crash).unwrap();
        let batch = vec![received(&pipeline, "web01.1700000000.data", b"content")];
        assert_eq!(pipeline.accept(SITE, batch).unwrap().len(), 0);
        assert_eq!(quarantine(&root).list(None).unwrap().len(), copies, "a second one is no news");
        assert_eq!(files(&staging).len(), copies);
    }
    let kept = accept(&open(&root), "web01.1700000000.data", b"content").unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!(files(&settings(&root).directory), ["web01.1700000000.data"]);
}

#[test]
fn a_damaged_held_copy_gives_way_to_the_good_one_that_comes_again() {
    let root = tempfile::tempdir().unwrap();
    let pipeline = open(&root);
    let Incoming { directory, staging, .. } = settings(&root);
    pipeline.hold(SITE, vec![received(&pipeline, "web01.5.data", b"content")]).unwrap();
    damage(&staging);
    pipeline.hold(SITE, vec![received(&pipeline, "web01.5.data", b"content")]).unwrap();
    pipeline.listed(SITE, |_| false).unwrap();
    assert_eq!(fs::read(directory.join("web01.5.data")).unwrap(), b"content");
    assert_eq!(files(&directory), ["web01.5.data"]);
    assert_eq!(files(&staging), Vec::<String>::new());
}

/// Puts a directory where each staged file is.
fn displace(staging: &Path) {
    for file in files(staging) {
        fs::remove_file(staging.join(&file)).unwrap();
        fs::create_dir(staging.join(&file)).unwrap();
    }
}

#[test]
fn a_staged_file_that_cannot_be_read_stops_neither_the_start_nor_the_others() {
    let root = tempfile::tempdir().unwrap();
    let Incoming { directory, staging, .. } = settings(&root);
    die_before_delivery(&root, "web01.1.data", b"content");
    displace(&staging);
    fs::create_dir(staging.join("123-00000000.staged")).unwrap();
    let pipeline = open(&root);
    let quarantined = quarantine(&root).list(None).unwrap();
    assert_eq!(quarantined.len(), 1);
    assert!(quarantined[0].reason.as_ref().unwrap().starts_with(DAMAGED), "{quarantined:?}");
    accept(&pipeline, "web01.2.data", b"content").unwrap();
    assert_eq!(files(&directory), ["web01.2.data"]);
}

#[test]
fn a_held_copy_that_cannot_be_read_gives_way_to_the_good_one_that_comes_again() {
    for spoil in [displace, |staging: &Path| {
        files(staging).iter().for_each(|file| fs::remove_file(staging.join(file)).unwrap())
    }] {
        for again in [b"content".as_slice(), b"another content"] {
            let root = tempfile::tempdir().unwrap();
            let pipeline = open(&root);
            let Incoming { directory, staging, .. } = settings(&root);
            pipeline.hold(SITE, vec![received(&pipeline, "web01.5.data", b"content")]).unwrap();
            spoil(&staging);
            pipeline.hold(SITE, vec![received(&pipeline, "web01.5.data", again)]).unwrap();
            pipeline.listed(SITE, |_| false).unwrap();
            let delivered = files(&directory);
            assert_eq!(delivered.len(), 1, "{delivered:?}");
            assert_eq!(fs::read(directory.join(&delivered[0])).unwrap(), again);
        }
    }
}
