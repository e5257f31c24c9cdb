use std::collections::BTreeSet;
use std::fs::{FileTimes, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::Duration;

use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;
use crate::shared::look;

fn later() -> Clock {
    Box::new(|| SystemTime::now() + Duration::from_secs(10))
}

/// Bytes of the largest main file.
const LARGEST: u64 = 1_000;

/// MD5 of four contents of one size.
const CONTENTS: [(&str, &str); 4] = [
    ("aaaa", "74b87337454200d4d33f80c4663dc5e5"),
    ("bbbb", "65ba841e01d6db7733e90a5b7f9e6f80"),
    ("cccc", "41fcba09f2bdcdf315ba4119dc7978dd"),
    ("dddd", "11ddbaf3386aea1f2974eee984542152"),
];

struct Folders(tempfile::TempDir);

impl Folders {
    fn new() -> Self {
        let folders = Self(tempfile::tempdir().unwrap());
        for name in ["conf", "md5", "collections"] {
            fs::create_dir(folders.path(name)).unwrap();
        }
        folders
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn folders(&self) -> Vec<Folder> {
        let folder = |directory, extension| Folder {
            directory: self.path(directory),
            extension,
            md5_directory: self.path("md5"),
        };
        vec![folder("conf", "conf"), folder("collections", "zip")]
    }

    /// One by whose clock everything has settled.
    fn tree(&self) -> Tree {
        Tree { clock: later(), ..self.fresh() }
    }

    fn fresh(&self) -> Tree {
        Tree::new(self.folders(), Box::new(|name| !name.starts_with(b".")), LARGEST)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }
}

fn names(tree: &Tree) -> Vec<&str> {
    tree.items().keys().map(|name| str::from_utf8(name).unwrap()).collect()
}

fn sums(tree: &Tree) -> Buckets {
    let mut buckets = Buckets::new();
    tree.items().iter().for_each(|(name, seen)| buckets.add(name, seen));
    buckets
}

/// The hand that changes a file and hides it.
fn rewrite(path: &Path, text: &str) {
    let modified = fs::metadata(path).and_then(|before| before.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    fs::write(path, text).unwrap();
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_times(FileTimes::new().set_modified(modified)).unwrap();
}

#[test]
fn a_scan_tells_what_is_new_changed_completed_and_gone() {
    let folders = Folders::new();
    let mut tree = folders.tree();
    assert_eq!(tree.scan().unwrap(), Vec::<Vec<u8>>::new());
    folders.write("conf/b.conf", "aaaa");
    folders.write("conf/a.conf", "aaaa");
    folders.write("collections/tools.zip", "aaaa");
    assert_eq!(tree.scan().unwrap(), [&b"a.conf"[..], b"b.conf", b"tools.zip"]);
    assert!(!tree.get(b"a.conf").unwrap().fits);
    folders.write("md5/a.md5", CONTENTS[0].1);
    folders.write("conf/b.conf", "bbbbb");
    fs::remove_file(folders.path("collections/tools.zip")).unwrap();
    assert_eq!(tree.scan().unwrap(), [&b"a.conf"[..], b"b.conf", b"tools.zip"]);
    assert_eq!((tree.get(b"a.conf").unwrap().fits, tree.get(b"b.conf").unwrap().size), (true, 5));
    assert_eq!((names(&tree), tree.buckets()), (vec!["a.conf", "b.conf"], &sums(&tree)));
    assert_eq!(tree.scan().unwrap(), Vec::<Vec<u8>>::new());
}

#[test]
fn what_may_have_changed_in_the_same_tick_is_read_again() {
    let folders = Folders::new();
    let mut tree = folders.tree();
    folders.write("conf/a.conf", "aaaa");
    let changed = fs::metadata(folders.path("conf/a.conf")).unwrap();
    let changed = SystemTime::UNIX_EPOCH + Duration::new(changed.ctime() as u64, changed.ctime_nsec() as u32);
    let mut opened = |after: Duration| {
        tree.clock = Box::new(move || changed + after);
        tree.scan().unwrap();
        tree.opened()
    };
    let [tick, before] = [Duration::from_secs(2), Duration::from_secs(2) - Duration::from_nanos(1)];
    assert_eq!([opened(Duration::ZERO), opened(before), opened(before)], [1; 3]);
    assert_eq!([opened(tick), opened(tick), opened(Duration::ZERO)], [1, 0, 0]);
}

#[test]
fn quick_rewrites_of_one_size_and_time_are_all_seen() {
    let folders = Folders::new();
    let mut tree = folders.fresh();
    for round in 0..400 {
        rewrite(&folders.path("conf/a.conf"), CONTENTS[round % 4].0);
        assert_eq!(tree.scan().unwrap(), [b"a.conf"]);
        rewrite(&folders.path("md5/a.md5"), CONTENTS[(round + round / 4) % 4].1);
        tree.scan().unwrap();
        assert_eq!(tree.get(b"a.conf"), look(&tree.pair(b"a.conf").unwrap()).unwrap());
    }
}

#[test]
fn nothing_but_regular_files_with_names_that_count_is_there() {
    let folders = Folders::new();
    let mut tree = folders.tree();
    folders.write("conf/a.conf", "aaaa");
    for name in ["a.md5", ".conf", ".hidden.conf", "conf", "a.conf.tmp", "a\nb.conf", "x.zip"] {
        folders.write(&format!("conf/{name}"), "aaaa");
    }
    folders.write(&format!("conf/{}.conf", "l".repeat(206)), "aaaa");
    symlink(folders.path("conf/a.conf"), folders.path("conf/link.conf")).unwrap();
    symlink("/nowhere", folders.path("conf/dangling.conf")).unwrap();
    fs::create_dir(folders.path("conf/directory.conf")).unwrap();
    mknodat(CWD, folders.path("conf/pipe.conf"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    tree.scan().unwrap();
    assert_eq!((names(&tree), tree.unreadable()), (vec!["a.conf"], 0));

    fs::remove_file(folders.path("conf/a.conf")).unwrap();
    mknodat(CWD, folders.path("conf/a.conf"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    assert_eq!(tree.scan().unwrap(), [b"a.conf"]);
    assert_eq!((names(&tree).len(), tree.buckets()), (0, &Buckets::new()));
}

/// Removed and unreadable are not the same: one of them travels.
#[test]
fn what_cannot_be_read_is_counted_and_stays_as_it_was_seen() {
    let folders = Folders::new();
    let mut tree = folders.tree();
    folders.write("conf/a.conf", "aaaa");
    tree.scan().unwrap();
    let before = tree.get(b"a.conf");
    // Nobody, root included, can look for an `.md5` in there.
    fs::remove_dir(folders.path("md5")).unwrap();
    folders.write("md5", "no directory");
    folders.write("conf/a.conf", "bbbb");
    folders.write("conf/new.conf", "bbbb");
    assert_eq!(tree.scan().unwrap(), Vec::<Vec<u8>>::new());
    assert_eq!((tree.unreadable(), tree.get(b"a.conf"), tree.get(b"new.conf")), (2, before, None));
    assert!(tree.is_unreadable(b"a.conf") && tree.is_unreadable(b"new.conf"));

    fs::remove_file(folders.path("conf/a.conf")).unwrap();
    assert_eq!(tree.scan().unwrap(), [b"a.conf"]);
    fs::remove_file(folders.path("md5")).unwrap();
    assert_eq!(tree.scan().unwrap(), [b"new.conf"]);
    assert_eq!((tree.unreadable(), names(&tree)), (0, vec!["new.conf"]));
}

/// An agent may upload anything, and everybody else waits for a look at everything.
#[test]
fn what_is_too_large_is_not_hashed_but_counted() {
    let folders = Folders::new();
    let mut tree = folders.tree();
    let write = |size: u64| fs::File::create(folders.path("conf/a.conf")).unwrap().set_len(size).unwrap();
    // No machine reads so much in a test.
    write(1 << 43);
    assert_eq!(tree.scan().unwrap(), Vec::<Vec<u8>>::new());
    assert_eq!(tree.refresh(b"a.conf").unwrap_err().kind(), ErrorKind::FileTooLarge);
    assert_eq!((tree.unreadable(), tree.get(b"a.conf"), tree.md5_text(b"a.conf")), (1, None, None));
    write(LARGEST);
    assert_eq!(tree.scan().unwrap(), [b"a.conf"]);
    let before = tree.get(b"a.conf");
    assert_eq!((tree.unreadable(), before.map(|seen| seen.size)), (0, Some(LARGEST)));
    write(LARGEST + 1);
    assert_eq!(tree.scan().unwrap(), Vec::<Vec<u8>>::new());
    assert_eq!((tree.unreadable(), tree.get(b"a.conf"), tree.md5_text(b"a.conf")), (1, before, None));
}

/// Whoever asks for it would read the file again.
#[test]
fn the_md5_text_of_what_was_seen_is_known() {
    let folders = Folders::new();
    let mut tree = folders.tree();
    for (text, md5) in CONTENTS {
        rewrite(&folders.path("conf/a.conf"), text);
        tree.scan().unwrap();
        assert_eq!(tree.md5_text(b"a.conf").as_ref().map(|text| &text[..]), Some(md5.as_bytes()));
    }
    let opened = tree.opened();
    assert_eq!((tree.refresh(b"a.conf").unwrap().is_some(), tree.opened()), (true, opened));
    assert_eq!(tree.md5_text(b"b.conf"), None);
    fs::remove_file(folders.path("conf/a.conf")).unwrap();
    tree.scan().unwrap();
    assert_eq!(tree.md5_text(b"a.conf"), None);
}

/// It may be on a file system that is not mounted: that is no removal.
#[test]
fn without_a_folder_nothing_changes() {
    let folders = Folders::new();
    let mut tree = folders.tree();
    folders.write("conf/a.conf", "aaaa");
    tree.scan().unwrap();
    fs::rename(folders.path("conf"), folders.path("away")).unwrap();
    let error = tree.scan().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("/conf: "), "{error}");
    assert_eq!((names(&tree), tree.buckets()), (vec!["a.conf"], &sums(&tree)));
}

#[test]
fn twenty_thousand_files_are_read_once() {
    const PAIRS: u64 = 20_000;
    let folders = Folders::new();
    let mut tree = folders.tree();
    for number in 0..PAIRS {
        folders.write(&format!("conf/{number:032x}.conf"), "aaaa");
        folders.write(&format!("md5/{number:032x}.md5"), CONTENTS[0].1);
    }
    assert_eq!(tree.scan().unwrap().len() as u64, PAIRS);
    assert_eq!(tree.opened(), 2 * PAIRS);
    assert_eq!(tree.scan().unwrap().len(), 0);
    assert_eq!(tree.opened(), 0);
    // What changes nothing in a file but its change time is no change of the pair.
    let name = format!("{:032x}.conf", 7);
    let path = folders.path("conf").join(&name);
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    assert_eq!((tree.scan().unwrap().len(), tree.opened()), (0, 1));
    rewrite(&path, "bbbb");
    assert_eq!((tree.scan().unwrap(), tree.opened()), (vec![name.into_bytes()], 1));
    assert_eq!(tree.buckets(), &sums(&tree));
}

#[derive(Clone, Debug)]
enum Edit {
    /// Into the file that is there.
    Rewrite(usize),
    /// By another file.
    Replace(usize),
    Md5(usize),
    Remove,
    RemoveMd5,
    Link,
    Refresh,
    Scan,
}

fn edit() -> impl Strategy<Value = (usize, Edit)> {
    let edit = prop_oneof![
        2 => (0..4_usize).prop_map(Edit::Rewrite),
        1 => (0..4_usize).prop_map(Edit::Replace),
        2 => (0..4_usize).prop_map(Edit::Md5),
        1 => Just(Edit::Remove),
        1 => Just(Edit::RemoveMd5),
        1 => Just(Edit::Link),
        1 => Just(Edit::Refresh),
        3 => Just(Edit::Scan),
    ];
    (0..3_usize, edit)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    /// However it is changed, and whenever: what is remembered is what somebody sees who looks for the first time.
    #[test]
    fn what_is_remembered_is_what_is_there(edits in prop::collection::vec(edit(), 1..40)) {
        let folders = Folders::new();
        let mut tree = folders.fresh();
        for (place, edit) in edits.into_iter().chain([(0, Edit::Scan)]) {
            let pair = tree.pair(format!("{place}.conf").as_bytes()).unwrap();
            match edit {
                Edit::Rewrite(content) => {
                    if fs::symlink_metadata(&pair.file).is_ok_and(|there| there.is_symlink()) {
                        fs::remove_file(&pair.file).unwrap();
                    }
                    rewrite(&pair.file, CONTENTS[content].0);
                }
                Edit::Replace(content) => {
                    folders.write("new", CONTENTS[content].0);
                    fs::rename(folders.path("new"), &pair.file).unwrap();
                }
                Edit::Md5(content) => rewrite(&pair.md5, CONTENTS[content].1),
                Edit::Remove => drop(fs::remove_file(&pair.file)),
                Edit::RemoveMd5 => drop(fs::remove_file(&pair.md5)),
                Edit::Link => drop(symlink("/etc/passwd", &pair.file)),
                Edit::Refresh => {
                    let name = format!("{place}.conf").into_bytes();
                    prop_assert_eq!(tree.refresh(&name).unwrap(), look(&pair).unwrap());
                    prop_assert_eq!(tree.get(&name), look(&pair).unwrap());
                }
                Edit::Scan => {
                    let before = tree.items().clone();
                    let changed = tree.scan().unwrap();
                    let mut fresh = folders.fresh();
                    fresh.scan().unwrap();
                    prop_assert_eq!(tree.items(), fresh.items());
                    prop_assert_eq!(tree.buckets(), fresh.buckets());
                    let names: BTreeSet<_> = before.keys().chain(tree.items().keys()).collect();
                    let differ = names.into_iter().filter(|name| before.get(*name) != tree.items().get(*name));
                    prop_assert_eq!(changed, differ.map(|name| name.to_vec()).collect::<Vec<_>>());
                }
            }
        }
    }
}
