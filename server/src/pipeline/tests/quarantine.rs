//! Packages that can have no name in `incomingdir`, and what an operator does with those in quarantine.

use std::fs;
use std::path::Path;

use super::{SITE, accept, files, losses, name, open, quarantine, settings};
use crate::config::Incoming;
use crate::crash::Crash;
use crate::ledger::{Ledger, SiteNote};
use crate::names;
use crate::pipeline::{Pipeline, deliver};
use crate::quarantine::{Outcome, Quarantine};

const TAKEN: &str = "web01.1700000000.data";

/// Takes every target name that the package with this number would be given.
fn take_names(directory: &Path, id: i64) {
    let digits = std::iter::once(String::new())
        .chain(std::iter::once(format!("{id:010}")))
        .chain((1..99).map(|attempt| format!("{id:010}{attempt}")));
    for digits in digits {
        let target = names::with_digits(&name(TAKEN), &digits);
        fs::write(directory.join(String::from_utf8(target).unwrap()), "somebody's").unwrap();
    }
}

fn free_names(directory: &Path) {
    for file in files(directory) {
        fs::remove_file(directory.join(file)).unwrap();
    }
}

#[test]
fn a_package_that_can_have_no_name_goes_to_quarantine_and_an_operator_decides() {
    let root = tempfile::tempdir().unwrap();
    let pipeline = open(&root);
    let Incoming { directory, staging, .. } = settings(&root);
    take_names(&directory, 1);
    for _ in 0..2 {
        let kept = accept(&pipeline, TAKEN, b"ours").unwrap();
        assert_eq!(kept.len(), 1, "it is acknowledged at its site, and a second time as well");
    }
    free_names(&directory);
    accept(&pipeline, "web01.5.data", b"behind it").unwrap();
    assert_eq!(files(&directory), ["web01.5.data"]);
    let listed = quarantine(&root).list(Some(SITE)).unwrap();
    assert_eq!(listed.len(), 1, "the second was a repeat");
    assert_eq!(listed[0].reason.as_deref(), Some("100 names for it are taken in incomingdir"));
    let note = SiteNote { kind: None, state: "ok", contact: true, held_back: None, error: None };
    pipeline.ledger().note(SITE, &note).unwrap();
    assert_eq!(Ledger::read_sites(&settings(&root).state).unwrap()[0].quarantined, 1);
    drop(pipeline);
    let pipeline = open(&root);
    assert_eq!(files(&directory), ["web01.5.data"], "a start delivers nothing of it by itself");
    let id = listed[0].id;
    assert_eq!(quarantine(&root).requeue(id).unwrap(), Outcome::Done(listed[0].clone()));
    assert_eq!(quarantine(&root).requeue(id).unwrap(), Outcome::Unknown);
    pipeline.resume(SITE).unwrap();
    assert_eq!(files(&directory), [TAKEN, "web01.5.data"], "under its own name, which is free now");
    assert_eq!(files(&staging), Vec::<String>::new());
    assert_eq!(losses(&root), []);
}

#[test]
fn a_purged_package_leaves_a_loss_record_and_no_file() {
    let root = tempfile::tempdir().unwrap();
    let pipeline = open(&root);
    let Incoming { directory, staging, .. } = settings(&root);
    take_names(&directory, 1);
    accept(&pipeline, TAKEN, b"ours").unwrap();
    let package = quarantine(&root).list(None).unwrap().remove(0);
    assert_eq!(quarantine(&root).purge(package.id).unwrap(), Outcome::Done(package.clone()));
    assert_eq!(quarantine(&root).purge(package.id).unwrap(), Outcome::Unknown);
    assert_eq!(losses(&root), [("purged".to_owned(), 1)]);
    assert_eq!(files(&staging), Vec::<String>::new());
}

#[test]
fn what_an_operator_takes_out_of_quarantine_while_a_server_starts_is_not_swept() {
    let root = tempfile::tempdir().unwrap();
    let Incoming { directory, staging, .. } = settings(&root);
    let pipeline = open(&root);
    take_names(&directory, 1);
    accept(&pipeline, TAKEN, b"content").unwrap();
    drop(pipeline);
    free_names(&directory);
    let waits = quarantine(&root).list(None).unwrap().remove(0);
    let beside = settings(&root);
    let crash = Crash::doing_at("before-swept", 1, move || {
        let mut quarantine = Quarantine::open(&beside).unwrap().unwrap();
        assert!(matches!(quarantine.requeue(waits.id).unwrap(), Outcome::Done(_)));
    });
    let pipeline = Pipeline::open(&settings(&root), crash).unwrap();
    assert_eq!(files(&staging).len(), 1, "the start keeps the only copy");
    pipeline.resume(SITE).unwrap();
    assert_eq!(fs::read(directory.join(TAKEN)).unwrap(), b"content");
}

#[test]
fn a_package_without_its_file_is_not_requeued_since_it_would_count_as_delivered() {
    let root = tempfile::tempdir().unwrap();
    let pipeline = open(&root);
    take_names(&settings(&root).directory, 1);
    accept(&pipeline, TAKEN, b"ours").unwrap();
    let package = quarantine(&root).list(None).unwrap().remove(0);
    fs::remove_file(quarantine(&root).path(&package)).unwrap();
    assert_eq!(quarantine(&root).requeue(package.id).unwrap(), Outcome::FileMissing(package.clone()));
    assert_eq!(quarantine(&root).list(None).unwrap(), [package]);
}

#[test]
fn a_name_that_its_file_system_refuses_is_the_packages_own_trouble() {
    use rustix::io::Errno;

    let own = |errno: Errno| deliver::is_its_own(&errno.into());
    for errno in [Errno::NAMETOOLONG, Errno::INVAL, Errno::ILSEQ, Errno::NOTDIR, Errno::ISDIR] {
        assert!(own(errno), "{errno}");
    }
    for errno in
        [Errno::ACCESS, Errno::PERM, Errno::ROFS, Errno::IO, Errno::NOSPC, Errno::NOENT, Errno::DQUOT]
    {
        assert!(!own(errno), "{errno}");
    }
}
