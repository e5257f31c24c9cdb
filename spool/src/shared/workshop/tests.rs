mod beside;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use sha2::Digest as _;

use super::*;
use crate::shared::{Unfinished, look};

struct Place {
    root: tempfile::TempDir,
}

fn digest(bytes: &[u8]) -> Digest {
    sha2::Sha256::digest(bytes).into()
}

impl Place {
    fn new() -> Self {
        let place = Self { root: tempfile::tempdir().unwrap() };
        for name in ["conf", "md5"] {
            fs::create_dir(place.path(name)).unwrap();
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn pair(&self, name: &str) -> Pair {
        Pair {
            file: self.path("conf").join(format!("{name}.conf")),
            md5: self.path("md5").join(format!("{name}.md5")),
        }
    }

    fn open(&self) -> Workshop {
        let pair_of = |name: &[u8]| {
            let stem = name.strip_suffix(b".conf")?;
            Some(self.pair(str::from_utf8(stem).ok()?))
        };
        Workshop::open(&self.path("workshop"), Keep::Recent, &pair_of).unwrap()
    }

    fn left(&self) -> usize {
        fs::read_dir(self.path("workshop")).unwrap().count()
    }
}

fn ready(shop: &Workshop, bytes: &[u8]) -> Ready {
    let mut partial = shop.begin(digest(bytes), bytes.len() as u64).unwrap();
    partial.write(&bytes[partial.offset() as usize..]).unwrap();
    partial.finish().unwrap()
}

fn read(pair: &Pair) -> (String, String) {
    (fs::read_to_string(&pair.file).unwrap(), fs::read_to_string(&pair.md5).unwrap())
}

const MD5_ABC: &str = "900150983cd24fb0d6963f7d28e17f72";

#[test]
fn a_pair_is_placed_replaced_and_removed() {
    let place = Place::new();
    let (shop, pair) = (place.open(), place.pair("web"));
    let put = |expected: Option<&[u8]>, bytes| {
        shop.place(b"web.conf", &pair, expected.map(digest), ready(&shop, bytes)).unwrap()
    };
    assert_eq!(put(None, b"one"), Done::Done);
    assert_eq!(look(&pair).unwrap().map(|seen| seen.fits), Some(true));
    assert_eq!(put(Some(b"one"), b"abc"), Done::Done);
    assert_eq!(read(&pair), ("abc".into(), MD5_ABC.into()));
    assert_eq!(put(Some(b"anything"), b"abc"), Done::Already);
    assert_eq!(put(None, b""), Done::Changed(look(&pair).unwrap()));
    assert_eq!(shop.remove(&pair, digest(b"one"), Md5::Goes).unwrap(), Done::Changed(look(&pair).unwrap()));
    assert_eq!(shop.remove(&pair, digest(b"abc"), Md5::Goes).unwrap(), Done::Done);
    assert!(!pair.file.exists() && !pair.md5.exists());
    assert_eq!(shop.remove(&pair, digest(b"abc"), Md5::Goes).unwrap(), Done::Already);
    assert_eq!(put(None, b""), Done::Done);
    assert_eq!(read(&pair), (String::new(), "d41d8cd98f00b204e9800998ecf8427e".into()));
    assert_eq!(place.left(), 0);
}

#[test]
fn an_md5_is_written_for_a_file_that_stays() {
    let place = Place::new();
    let (shop, pair) = (place.open(), place.pair("web"));
    let complete = || shop.complete(b"web.conf", &pair, digest(b"abc")).unwrap();
    assert_eq!(complete(), Done::Changed(None));
    fs::write(&pair.file, "abc").unwrap();
    assert_eq!(complete(), Done::Done);
    assert_eq!(complete(), Done::Already);
    fs::write(&pair.md5, "no md5 at all").unwrap();
    assert_eq!(shop.place(b"web.conf", &pair, None, ready(&shop, b"abc")).unwrap(), Done::Done);
    assert_eq!(read(&pair), ("abc".into(), MD5_ABC.into()));
}

#[test]
fn links_directories_and_pipes_are_never_replaced() {
    let place = Place::new();
    let (shop, pair) = (place.open(), place.pair("web"));
    let others: [fn(&Path); 3] = [
        |at| symlink("/etc/passwd", at).unwrap(),
        |at| symlink("/nowhere", at).unwrap(),
        |at| fs::create_dir(at).unwrap(),
    ];
    for make in others {
        make(&pair.file);
        for expected in [None, Some(digest(b"abc"))] {
            let placed = shop.place(b"web.conf", &pair, expected, ready(&shop, b"new")).unwrap();
            assert_eq!(placed, Done::Changed(None));
        }
        assert_eq!(shop.remove(&pair, digest(b"abc"), Md5::Goes).unwrap(), Done::Changed(None));
        assert!(!fs::symlink_metadata(&pair.file).unwrap().is_file());
        fs::remove_file(&pair.file).or_else(|_| fs::remove_dir(&pair.file)).unwrap();
    }
    // In the place of the `.md5`: the link goes, what it leads to stays.
    let elsewhere = place.path("elsewhere");
    fs::write(&elsewhere, "untouched").unwrap();
    symlink(&elsewhere, &pair.md5).unwrap();
    assert_eq!(shop.place(b"web.conf", &pair, None, ready(&shop, b"abc")).unwrap(), Done::Done);
    assert!(fs::symlink_metadata(&pair.md5).unwrap().is_file());
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "untouched");
}

/// The next try says the same.
#[test]
fn without_its_md5_a_main_file_is_taken_back() {
    let place = Place::new();
    let (shop, pair) = (place.open(), place.pair("web"));
    for there in [None, Some("old")] {
        fs::create_dir(&pair.md5).unwrap();
        if let Some(there) = there {
            fs::write(&pair.file, there).unwrap();
        }
        let expected = there.map(|there| digest(there.as_bytes()));
        for _ in 0..2 {
            let failed = shop.place(b"web.conf", &pair, expected, ready(&shop, b"abc")).unwrap_err();
            assert!(
                matches!(&failed, Failed::Refused(error) if error.to_string().contains("web.md5")),
                "{failed:?}"
            );
            assert_eq!(fs::read_to_string(&pair.file).ok().as_deref(), there);
            assert_eq!(place.left(), 1, "the bytes that came, for the next time");
        }
        fs::remove_dir(&pair.md5).unwrap();
        assert_eq!(shop.place(b"web.conf", &pair, expected, ready(&shop, b"abc")).unwrap(), Done::Done);
        assert_eq!((read(&pair), place.left()), (("abc".into(), MD5_ABC.into()), 0));
        assert_eq!(shop.remove(&pair, digest(b"abc"), Md5::Goes).unwrap(), Done::Done);
    }
}

#[test]
fn the_md5_of_another_kind_stays_when_the_caller_says_so() {
    let place = Place::new();
    let (shop, pair) = (place.open(), place.pair("web"));
    for found in [Done::Done, Done::Already] {
        fs::write(&pair.md5, MD5_ABC).unwrap();
        if found == Done::Done {
            fs::write(&pair.file, "abc").unwrap();
        }
        assert_eq!(shop.remove(&pair, digest(b"abc"), Md5::Stays).unwrap(), found);
        assert!(!pair.file.exists());
        assert_eq!((fs::read_to_string(&pair.md5).unwrap(), place.left()), (MD5_ABC.into(), 0));
    }
    assert_eq!(shop.remove(&pair, digest(b"abc"), Md5::Goes).unwrap(), Done::Already);
    assert!(!pair.md5.exists());
}

#[test]
fn bytes_that_nobody_goes_on_with_go_at_a_start() {
    let place = Place::new();
    let shop = place.open();
    let begin = |shop: &Workshop, number: u8| shop.begin([number; 32], 10).unwrap();
    for number in [1, 2] {
        begin(&shop, number).write(b"12345").unwrap();
    }
    drop(shop);
    let path = place.path("workshop").join(OsStr::from_bytes(&[b"part.", &hex(&[1; 32])[..]].concat()));
    let set_age = |age: Duration| {
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    };
    set_age(RECENT - Duration::from_secs(3_600));
    drop(place.open());
    assert_eq!(place.left(), 2);
    set_age(RECENT);
    let shop = place.open();
    assert_eq!(place.left(), 1);
    assert_eq!(begin(&shop, 2).offset(), 5);
    drop(shop);
    drop(Workshop::open(&place.path("workshop"), Keep::Nothing, &|_| None).unwrap());
    assert_eq!(place.left(), 0);
}

#[test]
fn mode_and_owner_are_those_of_what_was_there() {
    let place = Place::new();
    let (shop, pair) = (place.open(), place.pair("web"));
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        std::os::unix::fs::chown(place.path("conf"), None, Some(4_711)).unwrap();
    }
    assert_eq!(shop.place(b"web.conf", &pair, None, ready(&shop, b"one")).unwrap(), Done::Done);
    assert_eq!((mode(&pair.file), mode(&pair.md5)), (0o660, 0o660));
    let directory = fs::metadata(place.path("conf")).unwrap();
    assert_eq!(fs::metadata(&pair.file).unwrap().gid(), directory.gid());

    fs::set_permissions(&pair.file, Permissions::from_mode(0o604)).unwrap();
    fs::set_permissions(&pair.md5, Permissions::from_mode(0o640)).unwrap();
    if is_root {
        std::os::unix::fs::chown(&pair.file, Some(4_712), Some(4_713)).unwrap();
    }
    let before = fs::metadata(&pair.file).unwrap();
    let done = shop.place(b"web.conf", &pair, Some(digest(b"one")), ready(&shop, b"two")).unwrap();
    assert_eq!(done, Done::Done);
    let after = fs::metadata(&pair.file).unwrap();
    assert_eq!((after.uid(), after.gid()), (before.uid(), before.gid()));
    assert_eq!((mode(&pair.file), mode(&pair.md5)), (0o604, 0o640));
    assert_eq!(mode(&place.path("workshop")), 0o700);
}

#[test]
fn bytes_that_came_are_gone_on_with_after_a_restart() {
    let place = Place::new();
    let bytes = vec![7; 100_000];
    let mut partial = place.open().begin(digest(&bytes), 100_000).unwrap();
    partial.write(&bytes[..60_000]).unwrap();
    assert!(matches!(partial.finish(), Err(Unfinished::Short { offset: 60_000, size: 100_000 })));
    let shop = place.open();
    let mut partial = shop.begin(digest(&bytes), 100_000).unwrap();
    assert_eq!(partial.offset(), 60_000);
    assert_eq!(partial.write(&bytes[..40_001]).unwrap_err().kind(), io::ErrorKind::InvalidInput);

    // Somebody else wants the same meanwhile.
    let beside = ready(&shop, &bytes);
    let pair = place.pair("beside");
    assert_eq!(shop.place(b"beside.conf", &pair, None, beside).unwrap(), Done::Done);
    partial.write(&bytes[60_000..]).unwrap();
    let finished = partial.finish().unwrap();
    assert_eq!((finished.digest, finished.size), (digest(&bytes), 100_000));
    drop(finished);
    let again = shop.begin(digest(&bytes), 100_000).unwrap();
    assert_eq!(again.offset(), 100_000);
    again.finish().unwrap().keep_as(&place.path("kept")).unwrap();
    assert_eq!((fs::read(place.path("kept")).unwrap(), place.left()), (bytes, 0));
}

#[test]
fn bytes_that_must_come_from_one_place_are_begun_anew() {
    let place = Place::new();
    let shop = place.open();
    assert_eq!(shop.begin_anew(digest(b"bytes"), 5).unwrap().offset(), 0);
    shop.begin(digest(b"bytes"), 5).unwrap().write(b"byt").unwrap();
    let mut partial = shop.begin_anew(digest(b"bytes"), 5).unwrap();
    assert_eq!(partial.offset(), 0);
    partial.write(b"by").unwrap();
    let mut beside = shop.begin_anew(digest(b"bytes"), 5).unwrap();
    beside.write(b"bytes").unwrap();
    drop(beside.finish().unwrap());
    partial.write(b"tes").unwrap();
    assert_eq!(partial.finish().unwrap().size, 5, "what somebody is at work on is left alone");
}

#[test]
fn other_bytes_than_announced_are_thrown_away() {
    let place = Place::new();
    let shop = place.open();
    let mut partial = shop.begin(digest(b"abc"), 3).unwrap();
    partial.write(b"abd").unwrap();
    assert!(matches!(partial.finish(), Err(Unfinished::Damaged)));
    assert_eq!(shop.begin(digest(b"abc"), 3).unwrap().offset(), 0);
    // One that is longer than it can be was announced wrongly.
    shop.begin(digest(b"x"), 9).unwrap().write(b"123456789").unwrap();
    assert_eq!(shop.begin(digest(b"x"), 8).unwrap().offset(), 0);
}

#[test]
fn four_unfinished_files_are_kept_and_those_on_their_way_beside_them() {
    let place = Place::new();
    let shop = place.open();
    let begin = |number: u8| {
        let mut partial = shop.begin([number; 32], 10).unwrap();
        if partial.offset() == 0 {
            partial.write(b"12345").unwrap();
        }
        partial
    };
    let on_their_way: Vec<_> = (0..6).map(begin).collect();
    (6..20).for_each(|number| drop(begin(number)));
    assert_eq!(place.left(), 6 + 4);
    drop(on_their_way);
    let last = begin(19);
    assert_eq!((last.offset(), place.left()), (5, 4));
}

/// Where renaming is linking and unlinking, a crash in between leaves both names.
#[test]
fn what_lies_in_its_place_already_is_not_written_to() {
    let place = Place::new();
    let (shop, pair) = (place.open(), place.pair("web"));
    fs::write(&pair.file, "ab").unwrap();
    let part = [b"part.", &hex(&digest(b"abc"))[..]].concat();
    fs::hard_link(&pair.file, place.path("workshop").join(OsStr::from_bytes(&part))).unwrap();
    let mut partial = shop.begin(digest(b"abc"), 3).unwrap();
    assert_eq!(partial.offset(), 0);
    partial.write(b"abc").unwrap();
    assert_eq!(fs::read(&pair.file).unwrap(), b"ab");
}

#[test]
fn names_of_any_length_have_room_in_the_workshop() {
    let place = Place::new();
    let shop = place.open();
    let stem = "n".repeat(205);
    let (pair, name) = (place.pair(&stem), format!("{stem}.conf"));
    for (expected, bytes) in [(None, b"one"), (Some(digest(b"one")), b"two")] {
        let done = shop.place(name.as_bytes(), &pair, expected, ready(&shop, bytes)).unwrap();
        assert_eq!(done, Done::Done);
    }
    assert_eq!(shop.remove(&pair, digest(b"two"), Md5::Goes).unwrap(), Done::Done);
}

/// A process that died, by hand: what it left in the workshop tells how far it was.
#[test]
fn a_start_ends_what_was_begun() {
    let place = Place::new();
    let pair = place.pair("web");
    drop(place.open());
    let write = |name: &str, bytes: &str| fs::write(place.path("workshop").join(name), bytes).unwrap();
    let half = String::from_utf8(in_name(&digest(b"old"))).unwrap();
    let write_all = |main: &str, swap: &str| {
        fs::write(&pair.file, main).unwrap();
        fs::write(&pair.md5, "the old md5").unwrap();
        write("md5.web.conf", MD5_ABC);
        write(&format!("swap.{half}.web.conf"), swap);
        drop(place.open());
        assert_eq!(place.left(), 0);
    };
    write_all("old", "abc");
    assert_eq!(read(&pair), ("old".into(), "the old md5".into()), "it was not exchanged");
    write_all("abc", "old");
    assert_eq!(read(&pair), ("abc".into(), MD5_ABC.into()), "it was");
    write_all("abc", "an edit");
    assert_eq!(read(&pair), ("an edit".into(), "the old md5".into()), "and something else came out");
    write_all("a later edit", "an edit");
    assert_eq!(read(&pair), ("a later edit".into(), "the old md5".into()), "and was replaced");

    fs::remove_file(&pair.file).unwrap();
    write(&format!("gone.{half}.web.conf"), "an edit");
    drop(place.open());
    assert_eq!(read(&pair), ("an edit".into(), "the old md5".into()));
    fs::remove_file(&pair.file).unwrap();
    write(&format!("gone.{half}.web.conf"), "old");
    drop(place.open());
    assert!(!pair.file.exists() && !pair.md5.exists());

    write("spare.3", "");
    write("md5.unknown", MD5_ABC);
    drop(place.open());
    assert_eq!(place.left(), 1, "what belongs to nothing stays");
}
