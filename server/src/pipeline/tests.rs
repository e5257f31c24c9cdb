//! The pipeline by itself: delivery, and what a start finds.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::*;
use crate::body::Arriving;
use crate::config::{AfterPowerLoss, Ownership};

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
    accept(&pipeline, "web01.3.data", b"3").unwrap();
    assert!(matches!(pipeline.room(), Err(Trouble::Full(_))));
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
        accept(&pipeline, "host.00123456789.data", b"same bytes").unwrap();
        pipeline.listed(SITE, |_| false).unwrap();
    }
    assert_eq!(files(&settings(&root).directory).len(), 2);
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
