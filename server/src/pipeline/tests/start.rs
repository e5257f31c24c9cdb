//! What a start finds after a crash, a loss of power or a restored ledger, and what it does about it.

use std::fs;

use super::{SITE, accept, die_before_delivery, files, losses, name, open, quarantine, received, settings};
use crate::config::{AfterPowerLoss, Incoming};
use crate::crash::Crash;
use crate::ledger::fact;
use crate::pipeline::Pipeline;
use crate::pipeline::boot::Boot;

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
