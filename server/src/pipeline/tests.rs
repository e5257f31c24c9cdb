//! The pipeline by itself: delivery, and what a start finds.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::boot::Boot;
use super::*;
use crate::body::Arriving;
use crate::config::{AfterPowerLoss, Ownership};
use crate::ledger::{DAMAGED, LossRow, SiteNote};
use crate::names;
use crate::quarantine::{Outcome, Quarantine};

const SITE: &str = "plant-7";

fn settings(root: &TempDir) -> Incoming {
    let directory = root.path().join("incoming");
    if !directory.exists() {
        fs::create_dir(&directory).unwrap();
    }
    Incoming {
        staging: directory.join(".tidegate"),
        directory,
        state: root.path().join("state"),
        ownership: Ownership { user: None, group: None, mode: 0o604 },
        max_files: None,
        after_power_loss: AfterPowerLoss::Deliver,
        history: crate::ledger::Retention::default(),
    }
}

fn open(root: &TempDir) -> Pipeline {
    Pipeline::open(&settings(root), Crash::default()).unwrap()
}

fn name(text: &str) -> Name {
    Name::parse(text.as_bytes()).unwrap()
}

fn when(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn received(pipeline: &Pipeline, text: &str, content: &[u8]) -> Received {
    let mut body = Arriving::new(pipeline.staging());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(body.write(content)).unwrap();
    Received { name: name(text), body: body.finish(), modified: when(1_600_000_000) }
}

fn accept(pipeline: &Pipeline, text: &str, content: &[u8]) -> Result<Vec<Kept>, Trouble> {
    pipeline.accept(SITE, vec![received(pipeline, text, content)])
}

fn files(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.retain(|name| !name.starts_with('.') && name != "ledger-id");
    names.sort();
    names
}

#[test]
fn a_delivered_file_has_the_bytes_the_time_and_the_mode_it_should_have() {
    let root = tempfile::tempdir().unwrap();
    let pipeline = open(&root);
    let big = vec![0xe9; 300_000];
    accept(&pipeline, "web01.5.data", &big).unwrap();
    let file = settings(&root).directory.join("web01.5.data");
    let metadata = fs::metadata(&file).unwrap();
    assert_eq!(fs::read(&file).unwrap(), big);
    assert_eq!(metadata.modified().unwrap(), when(1_600_000_000));
    assert_eq!(metadata.permissions().mode() & 0o777, 0o604);
    assert_eq!(metadata.nlink(), 1);
    assert_eq!(files(&settings(&root).staging), Vec::<String>::new());
}

#[test]
fn a_taken_name_is_extended_and_the_file_that_has_it_stays() {
    let root = tempfile::tempdir().unwrap();
    let pipeline = open(&root);
    let directory = settings(&root).directory;
    fs::write(directory.join("web01.5.data"), "somebody's").unwrap();
    accept(&pipeline, "web01.5.data", b"ours").unwrap();
    assert_eq!(fs::read(directory.join("web01.5.data")).unwrap(), b"somebody's");
    assert_eq!(fs::read(directory.join("web01.50000000001.data")).unwrap(), b"ours");
}

#[test]
fn two_sites_may_use_one_name() {
    let root = tempfile::tempdir().unwrap();
    let pipeline = open(&root);
    for site in ["plant-7", "plant-8"] {
        let batch = vec![received(&pipeline, "web01.1700000000.data", b"same bytes")];
        pipeline.accept(site, batch).unwrap();
    }
    assert_eq!(
        files(&settings(&root).directory),
        ["web01.1700000000.data", "web01.17000000000000000002.data"]
    );
}

#[test]
fn what_a_crash_left_unrecorded_is_swept_at_the_start() {
    let root = tempfile::tempdir().unwrap();
    drop(open(&root));
    let staging = settings(&root).staging;
    fs::write(staging.join("123-00000000.staged"), "never recorded").unwrap();
    fs::write(staging.join("README"), "somebody's note").unwrap();
    drop(open(&root));
    assert_eq!(files(&staging), ["README"]);
}

#[test]
fn a_held_package_whose_file_somebody_removed_is_dropped_and_pulled_again() {
    let root = tempfile::tempdir().unwrap();
    let pipeline = open(&root);
    pipeline.hold(SITE, vec![received(&pipeline, "web01.5.data", b"content")]).unwrap();
    drop(pipeline);
    let staging = settings(&root).staging;
    for file in files(&staging) {
        fs::remove_file(staging.join(file)).unwrap();
    }
    let pipeline = open(&root);
    assert_eq!(pipeline.ledger().open_packages(SITE, &name("web01.5.data")).unwrap(), []);
    pipeline.listed(SITE, |_| false).unwrap();
    assert_eq!(files(&settings(&root).directory), Vec::<String>::new(), "nothing is made up");
}

#[test]
fn a_held_package_is_delivered_only_when_the_site_shows_it_no_more() {
    let root = tempfile::tempdir().unwrap();
    let pipeline = open(&root);
    pipeline.hold(SITE, vec![received(&pipeline, "web01.5.data", b"content")]).unwrap();
    pipeline.listed(SITE, |_| true).unwrap();
    assert_eq!(files(&settings(&root).directory), Vec::<String>::new());
    pipeline.listed("another site", |_| false).unwrap();
    assert_eq!(files(&settings(&root).directory), Vec::<String>::new());
    pipeline.listed(SITE, |_| false).unwrap();
    assert_eq!(files(&settings(&root).directory), ["web01.5.data"]);
}

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
fn a_body_that_is_given_up_leaves_no_file() {
    let root = tempfile::tempdir().unwrap();
    let pipeline = open(&root);
    drop(received(&pipeline, "web01.5.data", &vec![b'x'; 1_000_000]));
    assert_eq!(files(&settings(&root).staging), Vec::<String>::new());
}

#[test]
fn a_directory_that_has_the_name_is_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let pipeline = open(&root);
    let Incoming { directory, .. } = settings(&root);
    fs::create_dir(directory.join("web01.5.data")).unwrap();
    accept(&pipeline, "web01.5.data", b"content").unwrap();
    assert_eq!(files(&directory), ["web01.5.data", "web01.50000000001.data"]);
}

#[test]
fn a_name_that_a_node_made_is_no_time_so_that_later_packages_of_it_arrive() {
    let root = tempfile::tempdir().unwrap();
    let pipeline = open(&root);
    for _ in 0..2 {
        // The digits behind the zero are those of the content's digest.
        accept(&pipeline, "host.01837922860.data", b"same bytes").unwrap();
        pipeline.listed(SITE, |_| false).unwrap();
    }
    assert_eq!(files(&settings(&root).directory).len(), 2);
}

#[test]
fn a_number_of_milliseconds_is_a_time_so_that_a_repeat_of_it_is_recognised() {
    let root = tempfile::tempdir().unwrap();
    let pipeline = open(&root);
    for _ in 0..2 {
        accept(&pipeline, "host.1700000000123.data", b"same bytes").unwrap();
        pipeline.listed(SITE, |_| false).unwrap();
    }
    assert_eq!(files(&settings(&root).directory).len(), 1);
}

#[test]
fn a_content_that_comes_back_after_another_is_a_new_package() {
    let root = tempfile::tempdir().unwrap();
    let pipeline = open(&root);
    for content in [b"A", b"B", b"B", b"A"] {
        accept(&pipeline, "host.0.data", content).unwrap();
    }
    assert_eq!(files(&settings(&root).directory).len(), 3, "A, B and A; the second B is a replay");
}

/// Flips a bit of every staged file.
fn damage(staging: &Path) {
    for file in files(staging) {
        let path = staging.join(file);
        let mut bytes = fs::read(&path).unwrap();
        bytes[0] ^= 1;
        fs::write(path, bytes).unwrap();
    }
}

fn losses(root: &TempDir) -> Vec<(String, u64)> {
    let rows = LossRow::read_all(&settings(root).state).unwrap();
    rows.into_iter().map(|row| (row.reason, row.packages)).collect()
}

fn quarantine(root: &TempDir) -> Quarantine {
    Quarantine::open(&settings(root)).unwrap().unwrap()
}

/// Takes a package of a node, and dies before it is delivered.
fn die_before_delivery(root: &TempDir, text: &str, content: &[u8]) {
    let pipeline = Pipeline::open(&settings(root), Crash::panicking_at("after-committed", 1)).unwrap();
    let taken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| accept(&pipeline, text, content)));
    taken.expect_err("it was to die");
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
fn after_a_loss_of_power_the_policy_decides_about_what_was_being_handed_over() {
    for (policy, delivered) in [(AfterPowerLoss::Deliver, 2), (AfterPowerLoss::Quarantine, 1)] {
        let root = tempfile::tempdir().unwrap();
        let settings = Incoming { after_power_loss: policy, ..settings(&root) };
        let start = |boot| Pipeline::open_in(&Boot::named(boot), &settings, Crash::default()).unwrap();
        drop(start("the first"));
        let die = |text| {
            let crash = Crash::panicking_at("after-committed", 1);
            let pipeline = Pipeline::open_in(&Boot::named("the first"), &settings, crash).unwrap();
            let taken =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| accept(&pipeline, text, b"x")));
            taken.expect_err("it was to die");
        };
        die("web01.1.data");
        drop(start("the first"));
        assert_eq!(files(&settings.directory), ["web01.1.data"], "a restart alone is no loss of power");
        die("web01.2.data");
        let pipeline = start("the second");
        assert_eq!(files(&settings.directory).len(), delivered, "{policy:?}");
        assert_eq!(quarantine(&root).list(None).unwrap().len(), 2 - delivered);
        assert_eq!(losses(&root), []);
        let again = accept(&pipeline, "web01.2.data", b"x").unwrap();
        assert!(again[0].is_repeat(), "either way it is acknowledged at its node");
        drop(pipeline);
        drop(start("the second"));
        assert_eq!(files(&settings.directory).len(), delivered, "a later start in this boot changes nothing");
    }
}

#[test]
fn after_a_torn_transaction_files_that_the_ledger_does_not_know_are_set_aside() {
    let root = tempfile::tempdir().unwrap();
    let pipeline = open(&root);
    pipeline.ledger().write(|batch| batch.fact(fact::TORN, "1")).unwrap();
    drop(pipeline);
    let staging = settings(&root).staging;
    fs::write(staging.join("123-00000000.staged"), "perhaps the only copy").unwrap();
    for _ in 0..2 {
        drop(open(&root));
        assert_eq!(files(&staging), ["123-00000000.aside"]);
    }
    fs::write(staging.join("123-00000001.staged"), "not recorded").unwrap();
    drop(open(&root));
    assert_eq!(files(&staging), ["123-00000000.aside"], "once only");
}

#[test]
fn with_an_older_ledger_files_that_it_does_not_know_are_set_aside() {
    let root = tempfile::tempdir().unwrap();
    let Incoming { staging, state, .. } = settings(&root);
    drop(open(&root));
    let backup = root.path().join("backup");
    fs::create_dir(&backup).unwrap();
    for file in fs::read_dir(&state).unwrap().map(|entry| entry.unwrap()) {
        fs::copy(file.path(), backup.join(file.file_name())).unwrap();
    }
    let pipeline = open(&root);
    pipeline.hold(SITE, vec![received(&pipeline, "web01.5.data", b"the only copy")]).unwrap();
    drop(pipeline);
    fs::remove_dir_all(&state).unwrap();
    fs::rename(&backup, &state).unwrap();
    // The start that finds out dies before it has done anything about it.
    let dying = || Pipeline::open(&settings(&root), Crash::panicking_at("before-swept", 1));
    std::panic::catch_unwind(dying).expect_err("it was to die");
    for _ in 0..2 {
        drop(open(&root));
        let left = files(&staging);
        assert!(left.len() == 1 && left[0].ends_with(".aside"), "{left:?}");
        assert_eq!(fs::read(staging.join(&left[0])).unwrap(), b"the only copy");
    }
    fs::write(staging.join("123-00000001.staged"), "not recorded").unwrap();
    drop(open(&root));
    assert_eq!(files(&staging).len(), 1, "from then on both are of one age");
}

#[test]
fn a_version_that_only_a_mv_showed_ends_the_delivered_one_before_it() {
    let root = tempfile::tempdir().unwrap();
    let pipeline = open(&root);
    let moved = |other: Option<&[u8]>| {
        let kept = pipeline.hold(SITE, vec![received(&pipeline, "host.0.data", b"A")]).unwrap().remove(0);
        let other = other.map(|content| received(&pipeline, "host.0.data", content).body);
        pipeline
            .resolve(SITE, vec![Moved { kept, other, whole: true, modified: when(1_600_000_000) }])
            .unwrap();
        files(&settings(&root).directory).len()
    };
    assert_eq!(moved(None), 1);
    assert_eq!(moved(None), 1, "the site did not delete it: a repeat");
    assert_eq!(moved(Some(b"B")), 2);
    assert_eq!(moved(None), 3, "A again, after B, is a new package");
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
    let staging = settings(&root).staging;
    let elsewhere = root.path().join("elsewhere");
    let (from, to) = (staging.clone(), elsewhere.clone());
    let crash = Crash::doing_at("after-rename", 1, move || fs::rename(&from, &to).unwrap());
    let pipeline = Pipeline::open(&settings(&root), crash).unwrap();
    let trouble = accept(&pipeline, "web01.1.data", b"content").unwrap_err();
    assert!(matches!(trouble, Trouble::Durability { .. }), "{trouble}");
    fs::rename(&elsewhere, &staging).unwrap();
    assert!(pipeline.room().unwrap_err().is_final());
    let batch = vec![received(&pipeline, "web01.2.data", b"content")];
    assert!(pipeline.accept("another site", batch).unwrap_err().is_final());
    assert_eq!(files(&settings(&root).directory), ["web01.1.data"]);
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
fn a_start_that_cannot_deliver_goes_on_and_a_later_turn_delivers() {
    let root = tempfile::tempdir().unwrap();
    die_before_delivery(&root, "web01.1.data", b"content");
    let Incoming { directory, staging, .. } = settings(&root);
    let owner = staging.join(crate::staging::OWNER);
    let content = fs::read(&owner).unwrap();
    let (file, gone) = (staging.join(&files(&staging)[0]), owner.clone());
    let (aside, from) = (root.path().join("aside"), file.clone());
    let to = aside.clone();
    let crash = Crash::doing_at("after-committed", 1, move || {
        fs::rename(&from, &to).unwrap();
        fs::remove_file(&gone).unwrap();
    });
    let pipeline = Pipeline::open(&settings(&root), crash).expect("told, and no reason to stop");
    fs::rename(&aside, &file).unwrap();
    fs::write(&owner, content).unwrap();
    pipeline.resume_unconfigured(&[SITE.to_owned()]).unwrap();
    assert_eq!(files(&directory), Vec::<String>::new(), "its site has a task of its own");
    pipeline.resume_unconfigured(&["another".to_owned()]).unwrap();
    assert_eq!(files(&directory), ["web01.1.data"]);
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
