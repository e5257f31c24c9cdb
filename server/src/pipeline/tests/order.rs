//! What arrives in `incomingdir`: bytes and names, in which order, and what counts as a repeat.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::{SITE, accept, files, open, received, settings, when};
use crate::config::Incoming;
use crate::pipeline::Moved;

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
