//! Directories and disks that are missing, mixed up, full or failing: what is trouble, and what it stops.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{SITE, accept, files, name, open, received, settings};
use crate::config::Incoming;
use crate::crash::Crash;
use crate::ledger::LedgerError;
use crate::pipeline::{Pipeline, Trouble};

#[test]
fn an_unmounted_incomingdir_is_not_taken_for_a_finished_delivery() {
    let root = tempfile::tempdir().unwrap();
    let pipeline = open(&root);
    pipeline.hold(SITE, vec![received(&pipeline, "web01.5.data", b"content")]).unwrap();
    drop(pipeline);
    let Incoming { directory, staging, .. } = settings(&root);
    let elsewhere = root.path().join("elsewhere");
    fs::rename(&staging, &elsewhere).unwrap();
    let refused = Pipeline::open(&settings(&root), Crash::default()).unwrap_err().to_string();
    assert!(refused.contains("Is the file system of incomingdir mounted"), "{refused}");
    fs::create_dir(&staging).unwrap();
    Pipeline::open(&settings(&root), Crash::default()).expect_err("an empty directory is not the one either");
    fs::remove_dir(&staging).unwrap();
    fs::rename(&elsewhere, &staging).unwrap();
    open(&root).listed(SITE, |_| false).unwrap();
    assert_eq!(files(&directory), ["web01.5.data"]);
}

#[test]
fn the_directory_below_a_mount_point_is_not_taken_for_the_mounted_one() {
    let root = tempfile::tempdir().unwrap();
    drop(open(&root));
    let Incoming { staging, .. } = settings(&root);
    let mounted = root.path().join("mounted");
    fs::rename(&staging, &mounted).unwrap();
    let unmounted = open(&root);
    unmounted.hold(SITE, vec![received(&unmounted, "web01.5.data", b"content")]).unwrap();
    drop(unmounted);
    fs::rename(&staging, root.path().join("below")).unwrap();
    fs::rename(&mounted, &staging).unwrap();
    let refused = Pipeline::open(&settings(&root), Crash::default()).unwrap_err().to_string();
    assert!(refused.contains("Is the file system of incomingdir mounted"), "{refused}");
}

#[test]
fn the_staging_directory_vanishing_while_the_server_runs_is_trouble_and_no_delivery() {
    let root = tempfile::tempdir().unwrap();
    let pipeline = open(&root);
    pipeline.hold(SITE, vec![received(&pipeline, "web01.5.data", b"content")]).unwrap();
    let staging = settings(&root).staging;
    let elsewhere = root.path().join("elsewhere");
    fs::rename(&staging, &elsewhere).unwrap();
    let trouble = pipeline.listed(SITE, |_| false).unwrap_err();
    assert!(matches!(trouble, Trouble::Failed(_)), "{trouble}");
    fs::rename(&elsewhere, &staging).unwrap();
    pipeline.resume(SITE).unwrap();
    assert_eq!(files(&settings(&root).directory), ["web01.5.data"]);
}

#[test]
fn two_ledgers_never_share_a_staging_directory() {
    let root = tempfile::tempdir().unwrap();
    drop(open(&root));
    let other = Incoming { state: root.path().join("another"), ..settings(&root) };
    let refused = Pipeline::open(&other, Crash::default()).unwrap_err().to_string();
    assert!(refused.contains("belongs to another ledger"), "{refused}");
}

#[test]
fn a_staging_directory_on_another_file_system_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    let device = |path: &Path| fs::metadata(path).unwrap().dev();
    assert_ne!(device(root.path()), device(elsewhere.path()), "the test needs two file systems");
    let settings = Incoming { staging: elsewhere.path().join("staging"), ..settings(&root) };
    let refused = Pipeline::open(&settings, Crash::default()).unwrap_err().to_string();
    assert!(refused.contains("is not on the file system of incomingdir"), "{refused}");
}

#[test]
fn a_pipeline_that_does_not_keep_up_stops_the_pull_until_it_does() {
    let root = tempfile::tempdir().unwrap();
    let settings = Incoming { max_files: Some(3), ..settings(&root) };
    let pipeline = Pipeline::open(&settings, Crash::default()).unwrap();
    accept(&pipeline, "web01.1.data", b"1").unwrap();
    pipeline.room().unwrap();
    accept(&pipeline, "web01.2.data", b"2").unwrap();
    fs::create_dir(settings.directory.join("conf")).unwrap();
    pipeline.room().expect("directories are no files");
    accept(&pipeline, ".3.data", b"3").unwrap();
    assert!(
        matches!(pipeline.room(), Err(Trouble::Full(_))),
        "a package of an agent without a name counts too"
    );
    fs::remove_file(settings.directory.join("web01.1.data")).unwrap();
    pipeline.room().unwrap();
}

#[test]
fn what_would_stop_every_package_is_trouble_and_puts_none_aside() {
    let root = tempfile::tempdir().unwrap();
    let settings = Incoming { staging: root.path().join("staging"), ..settings(&root) };
    let pipeline = Pipeline::open(&settings, Crash::default()).unwrap();
    let elsewhere = root.path().join("elsewhere");
    fs::rename(&settings.directory, &elsewhere).unwrap();
    let trouble = accept(&pipeline, "web01.5.data", b"content").unwrap_err();
    assert!(matches!(trouble, Trouble::Failed(_)), "{trouble}");
    fs::write(&settings.directory, "no directory").unwrap();
    let trouble = pipeline.resume(SITE).unwrap_err();
    assert!(matches!(trouble, Trouble::Failed(_)), "{trouble}");
    fs::remove_file(&settings.directory).unwrap();
    fs::rename(&elsewhere, &settings.directory).unwrap();
    pipeline.resume(SITE).unwrap();
    assert_eq!(files(&settings.directory), ["web01.5.data"]);
}

#[test]
fn what_the_ledger_says_ends_the_server_or_does_not() {
    use rusqlite::ffi;

    let trouble = |code| {
        let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        Trouble::from(LedgerError::from(error))
    };
    for code in [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_CORRUPT, ffi::SQLITE_NOTADB] {
        assert!(trouble(code).is_final(), "{code}");
    }
    for code in [ffi::SQLITE_BUSY, ffi::SQLITE_BUSY_SNAPSHOT, ffi::SQLITE_FULL] {
        assert!(!trouble(code).is_final(), "{code}");
    }
    for (code, damage) in
        [(ffi::SQLITE_CORRUPT, true), (ffi::SQLITE_NOTADB, true), (ffi::SQLITE_IOERR_FSYNC, false)]
    {
        let Trouble::Ledger(error) = trouble(code) else { panic!("{code}") };
        assert_eq!(error.is_damage(), damage, "{code}");
    }
}

#[test]
fn what_stops_one_package_leaves_those_before_it_recorded() {
    let root = tempfile::tempdir().unwrap();
    let Incoming { directory, staging, .. } = settings(&root);
    let elsewhere = root.path().join("elsewhere");
    let (from, to) = (staging.clone(), elsewhere.clone());
    // Once the first has its name, the staging directory is another, in which the second is not.
    let crash = Crash::doing_at("after-rename", 1, move || {
        fs::rename(&from, &to).unwrap();
        fs::create_dir(&from).unwrap();
    });
    let pipeline = Pipeline::open(&settings(&root), crash).unwrap();
    let batch = ["web01.1.data", "web01.2.data"].map(|text| received(&pipeline, text, b"content"));
    let trouble = pipeline.accept(SITE, batch.into()).unwrap_err();
    assert!(!trouble.is_final(), "{trouble}");
    let waits = pipeline.ledger().committed_packages(SITE).unwrap();
    assert_eq!(waits.into_iter().map(|package| package.name).collect::<Vec<_>>(), [name("web01.2.data")]);
    fs::remove_dir(&staging).unwrap();
    fs::rename(&elsewhere, &staging).unwrap();
    pipeline.resume(SITE).unwrap();
    assert_eq!(files(&directory), ["web01.1.data", "web01.2.data"]);
}

#[test]
fn after_a_failed_fsync_no_site_goes_on() {
    let root = tempfile::tempdir().unwrap();
    let pipeline = open(&root);
    accept(&pipeline, "web01.1.data", b"content").unwrap();
    let failed = pipeline.proven(&settings(&root).staging, Err(std::io::Error::other("a lost page")));
    assert!(matches!(failed, Err(Trouble::Durability { .. })), "{failed:?}");
    assert!(pipeline.room().unwrap_err().is_final());
    let batch = vec![received(&pipeline, "web01.2.data", b"content")];
    assert!(pipeline.accept("another site", batch).unwrap_err().is_final());
    assert_eq!(files(&settings(&root).directory), ["web01.1.data"]);
}

#[test]
fn a_directory_that_cannot_be_opened_is_no_failed_fsync() {
    let root = tempfile::tempdir().unwrap();
    let pipeline = open(&root);
    let Incoming { directory, .. } = settings(&root);
    let elsewhere = root.path().join("elsewhere");
    let batch = vec![received(&pipeline, "web01.1.data", b"content")];
    let held = pipeline.hold(SITE, batch).unwrap();
    assert_eq!(held.len(), 1);
    fs::rename(&directory, &elsewhere).unwrap();
    let trouble = pipeline.listed(SITE, |_| false).unwrap_err();
    assert!(!trouble.is_final(), "{trouble}");
    fs::rename(&elsewhere, &directory).unwrap();
    pipeline.resume(SITE).unwrap();
    assert_eq!(files(&directory), ["web01.1.data"]);
}
