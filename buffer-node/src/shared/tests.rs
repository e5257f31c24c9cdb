//! Shared files as agents and operators leave them.

mod guarded;

use std::io::Read;
use std::os::unix::fs::symlink;

use super::*;

const ROOM: SharedLimits = SharedLimits { max_bytes: 1000, max_files: 3 };

struct Store {
    shared: Shared,
    root: tempfile::TempDir,
}

fn store(overwrite: bool) -> Store {
    let root = tempfile::tempdir().expect("a directory");
    let shared = open(root.path(), overwrite).expect("opens");
    Store { shared, root }
}

fn open(root: &Path, overwrite: bool) -> io::Result<Shared> {
    let filters = Filters::parse(r".*\.conf:conf").expect("filters");
    Shared::open(root, &filters, overwrite, ROOM, None, Fatal::default())
}

fn content(bytes: &[u8]) -> File {
    let mut content = tempfile::tempfile().expect("a file");
    io::Write::write_all(&mut content, bytes).expect("writes");
    io::Seek::rewind(&mut content).expect("rewinds");
    content
}

fn broken_disk(_: &File) -> io::Result<()> {
    Err(io::Error::other("the disk is gone"))
}

fn broken_directory(file: &File) -> io::Result<()> {
    if file.metadata()?.is_dir() { broken_disk(file) } else { file.sync_all() }
}

impl Store {
    fn put(&self, name: &str, bytes: &[u8]) -> Result<Put, PutError> {
        self.shared.put("conf", name.as_bytes(), content(bytes), bytes.len() as u64)
    }

    fn get(&self, name: &str) -> Option<Vec<u8>> {
        let Given { mut file, size, .. } = self.shared.get("conf", name.as_bytes()).expect("readable")?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).expect("reads");
        assert_eq!(bytes.len() as u64, size);
        Some(bytes)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join("conf").join(name)
    }

    fn nothing_aside(&self) -> bool {
        fs::read_dir(layout::temporary(self.root.path())).expect("lists").next().is_none()
    }
}

#[test]
fn without_overwrite_a_name_keeps_its_bytes() {
    let store = store(false);
    assert_eq!(store.put("a.conf", b"one").expect("puts"), Put::Written);
    assert_eq!(store.put("a.conf", b"one").expect("puts"), Put::Same);
    assert_eq!(store.put("a.conf", b"two").expect("puts"), Put::Taken);
    assert_eq!(store.get("a.conf").as_deref(), Some(&b"one"[..]));
    assert!(store.nothing_aside());
}

#[test]
fn an_offer_is_refused_early_only_when_its_size_shows_the_difference() {
    let store = store(false);
    store.put("a.conf", b"one").expect("puts");
    let taken = |size| store.shared.is_taken("conf", b"a.conf", size).expect("asks");
    assert!(taken(Some(4)));
    assert!(!taken(Some(3)), "may be the same bytes");
    assert!(!taken(None), "an archive does not say");
    assert!(!store.shared.is_taken("conf", b"b.conf", Some(4)).expect("asks"));
}

#[test]
fn with_overwrite_the_last_bytes_win() {
    let store = store(true);
    assert_eq!(store.put("a.conf", b"one").expect("puts"), Put::Written);
    assert!(!store.shared.is_taken("conf", b"a.conf", Some(9)).expect("asks"));
    assert_eq!(store.put("a.conf", b"a longer one").expect("puts"), Put::Written);
    assert_eq!(store.put("a.conf", b"b longer one").expect("puts"), Put::Written);
    assert_eq!(store.get("a.conf").as_deref(), Some(&b"b longer one"[..]));
    assert!(store.nothing_aside());
}

#[test]
fn links_and_directories_are_no_files() {
    let store = store(true);
    fs::write(store.root.path().join("secret"), "s").expect("writes");
    symlink(store.root.path().join("secret"), store.path("link.conf")).expect("links");
    fs::create_dir(store.path("dir.conf")).expect("makes");
    for name in ["link.conf", "dir.conf", "absent.conf"] {
        assert_eq!(store.get(name), None, "{name}");
    }
    assert_eq!(store.put("link.conf", b"x").expect("puts"), Put::Taken);
    assert_eq!(store.put("dir.conf", b"x").expect("puts"), Put::Taken);
    assert_eq!(fs::read(store.root.path().join("secret")).expect("reads"), b"s");
}

#[test]
fn the_listing_holds_regular_files_that_can_be_asked_for() {
    let store = store(false);
    for name in ["b.conf", "a.conf", "not askable?", " "] {
        fs::write(store.path(name), "x").expect("writes");
    }
    fs::create_dir(store.path("dir")).expect("makes");
    assert_eq!(store.shared.listing("conf").expect("lists"), b"a.conf\nb.conf");
}

#[test]
fn the_room_ends_and_replacing_costs_the_difference_only() {
    let store = store(true);
    store.put("a.conf", &[b'a'; 400]).expect("puts");
    store.put("b.conf", &[b'b'; 400]).expect("puts");
    assert!(matches!(store.put("c.conf", &[b'c'; 400]), Err(PutError::Full(_))), "over the bytes");
    store.put("a.conf", &[b'A'; 100]).expect("replaces");
    store.put("c.conf", &[b'c'; 400]).expect("fits now");
    assert!(matches!(store.put("d.conf", b"d"), Err(PutError::Full(_))), "over the files");
    assert_eq!(store.put("a.conf", &[b'x'; 100]).expect("takes no file more"), Put::Written);
    assert_eq!(store.get("d.conf"), None);
    assert!(store.nothing_aside());
}

#[test]
fn what_a_killed_process_left_aside_is_removed_at_start() {
    let store = store(false);
    fs::write(layout::temporary(store.root.path()).join("7"), "half").expect("writes");
    open(store.root.path(), false).expect("opens");
    assert!(store.nothing_aside());
}

#[test]
fn a_file_whose_name_may_not_be_durable_is_never_answered_as_stored() {
    let mut store = store(true);
    store.shared.fsync = broken_directory;
    store.put("a.conf", b"one").expect_err("its name may be lost");
    store.shared.fsync = File::sync_all;
    assert!(
        matches!(store.put("a.conf", b"one"), Err(PutError::Stopping(_))),
        "a second fsync proves nothing"
    );
    assert!(matches!(store.put("b.conf", b"one"), Err(PutError::Stopping(_))));
    assert!(store.shared.fatal.reason().is_some_and(|reason| reason.contains("a.conf")), "the node ends");
}

#[test]
fn a_file_that_never_became_visible_may_be_put_again() {
    let mut store = store(true);
    store.shared.fsync = broken_disk;
    store.put("a.conf", b"one").expect_err("not durable");
    assert_eq!(store.get("a.conf"), None);
    assert!(store.nothing_aside());
    store.shared.fsync = File::sync_all;
    assert_eq!(store.put("a.conf", b"one").expect("puts"), Put::Written);
}

#[test]
fn a_repeat_costs_no_fsync_unless_somebody_touched_the_file() {
    let mut store = store(false);
    store.put("a.conf", b"one").expect("puts");
    store.shared.fsync = broken_disk;
    assert_eq!(store.put("a.conf", b"one").expect("nothing to make durable"), Put::Same);
    fs::remove_file(store.path("a.conf")).expect("removes");
    fs::write(store.path("a.conf"), b"one").expect("an operator's own copy");
    store.put("a.conf", b"one").expect_err("that copy must be made durable first");
}

#[test]
fn a_foreign_directory_among_the_unfinished_does_not_stop_the_start() {
    let store = store(false);
    let foreign = layout::temporary(store.root.path()).join("0");
    fs::create_dir(&foreign).expect("makes");
    let again = Store { shared: open(store.root.path(), false).expect("opens"), root: store.root };
    assert_eq!(again.put("a.conf", b"one").expect("puts, under another name aside"), Put::Written);
    assert!(foreign.is_dir());
}

#[test]
fn a_directory_on_another_file_system_is_named_at_the_start() {
    let root = tempfile::tempdir().expect("a directory");
    symlink("/proc", root.path().join("conf")).expect("links");
    let words = open(root.path(), false).err().expect("two file systems").to_string();
    assert!(words.contains("conf is on another file system"), "{words}");
}

#[test]
fn two_uploads_of_one_name_do_not_both_win() {
    let store = store(false);
    let start = std::sync::Barrier::new(8);
    let written = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8u8)
            .map(|n| {
                let (store, start) = (&store, &start);
                scope.spawn(move || {
                    start.wait();
                    store.put("a.conf", &[n; 50]).expect("puts") == Put::Written
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("ends")).filter(|won| *won).count()
    });
    assert_eq!(written, 1);
}
