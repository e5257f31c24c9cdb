//! Uploads of agents where the sync server keeps pairs in step.

use super::*;
use crate::filters::INSTALLED;
use crate::pairs::Pairs;

const WIDE: SharedLimits = SharedLimits { max_bytes: 1_000_000, max_files: 100 };

/// Contents, and what `md5sum` says of them.
const ONE: (&[u8], &[u8]) = (b"one", b"f97c5d29941bfb1b2fdab0874906ab82");
const TWO: (&[u8], &[u8]) = (b"two", b"b8a9f715dbb64fd5c56e7783c6820a61");
const THREE: (&[u8], &[u8]) = (b"three", b"35d6d33467aae9a2e3dccb4b6b027878");

struct Site {
    shared: Shared,
    filters: Filters,
    root: tempfile::TempDir,
}

fn site(overwrite: bool) -> Site {
    let root = tempfile::tempdir().expect("a directory");
    let filters = Filters::parse(INSTALLED).expect("filters");
    let shared = open_synced(root.path(), &filters, overwrite);
    Site { shared, filters, root }
}

fn open_synced(root: &Path, filters: &Filters, overwrite: bool) -> Shared {
    let sync = SyncShared { pairs: Pairs::of(filters).expect("pairs"), max_size: 100_000, reserve_bytes: 0 };
    Shared::open(root, filters, overwrite, WIDE, Some(&sync), Fatal::default()).expect("opens")
}

impl Site {
    fn directory(&self, name: &str) -> &str {
        self.filters.directory_of(name.as_bytes()).expect("a shared file")
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Put {
        let size = bytes.len() as u64;
        let taken = self.shared.is_taken(self.directory(name), name.as_bytes(), Some(size)).expect("looks");
        assert!(!taken, "the pair decides, not the size");
        self.shared.put(self.directory(name), name.as_bytes(), content(bytes), size).expect("puts")
    }

    /// Both halves, as an agent uploads them.
    fn register(&self, stem: &str, (conf, md5): (&[u8], &[u8])) -> [Put; 2] {
        [self.put(&format!("{stem}.conf"), conf), self.put(&format!("{stem}.md5"), md5)]
    }

    /// Reads a file as an agent does that says another word after it.
    fn read(&self, name: &str) {
        let given = self.shared.get(self.directory(name), name.as_bytes()).expect("readable");
        if let Some(reading) = given.expect("is there").reading {
            self.shared.was_read(&reading);
        }
    }

    /// By another hand.
    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).expect("writes");
    }

    fn holds(&self, name: &str, bytes: &[u8]) -> bool {
        fs::read(self.path(name)).is_ok_and(|found| found == bytes)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(self.directory(name)).join(name)
    }

    /// Of a pair that somebody else has put there.
    fn place(&self, stem: &str, (conf, md5): (&[u8], &[u8])) {
        self.write(&format!("{stem}.conf"), conf);
        self.write(&format!("{stem}.md5"), md5);
    }
}

#[test]
fn a_first_registration_repeats_itself_until_the_pair_is_whole() {
    for overwrite in [false, true] {
        let site = site(overwrite);
        // Broken off behind the first half, and the agent's file has changed since.
        assert_eq!(site.put("a.conf", ONE.0), Put::Written);
        assert_eq!(site.register("a", TWO), [Put::Written, Put::Written]);
        assert!(site.holds("a.conf", TWO.0) && site.holds("a.md5", TWO.1));
        assert_eq!(site.register("a", TWO), [Put::Same, Put::Same]);
    }
}

/// Written by hand, and its `.md5` after it: what an agent uploads in between would be lost to nobody but the operator.
#[test]
fn what_was_put_there_a_moment_ago_waits_for_its_digest() {
    for overwrite in [false, true] {
        let site = site(overwrite);
        site.write("a.conf", ONE.0);
        let refused = [Put::Guarded(Guarded::Settling), Put::Guarded(Guarded::OtherDigest)];
        assert_eq!(site.register("a", TWO), refused);
        assert!(site.holds("a.conf", ONE.0));
        assert_eq!(site.put("a.conf", ONE.0), Put::Same, "an agent's own, from before the start");
        assert_eq!(site.register("a", TWO), [Put::Written, Put::Written]);
    }
}

#[test]
fn a_pair_that_fits_keeps_its_bytes() {
    let site = site(false);
    assert_eq!(site.register("a", ONE), [Put::Written, Put::Written]);
    site.read("a.conf");
    let refused = [Put::Guarded(Guarded::Whole), Put::Guarded(Guarded::OtherDigest)];
    assert_eq!(site.register("a", TWO), refused);
    assert!(site.holds("a.conf", ONE.0) && site.holds("a.md5", ONE.1));
    assert_eq!(site.register("a", ONE), [Put::Same, Put::Same]);
}

/// Whose `.md5` is still that of the file before.
#[test]
fn an_edit_by_hand_is_as_safe_as_a_pair_that_fits() {
    for (overwrite, why) in [(false, Guarded::Whole), (true, Guarded::NotRead)] {
        let site = site(overwrite);
        assert_eq!(site.register("a", ONE), [Put::Written, Put::Written]);
        site.write("a.conf", TWO.0);
        assert_eq!(site.register("a", ONE), [Put::Guarded(why), Put::Same]);
        assert_eq!(site.register("a", THREE), [Put::Guarded(why), Put::Guarded(Guarded::OtherDigest)]);
        assert!(site.holds("a.conf", TWO.0) && site.holds("a.md5", ONE.1));
    }
}

/// Else its agent, which could read it, would never upload the other half.
#[test]
fn a_digest_does_not_come_before_its_file() {
    for overwrite in [false, true] {
        let site = site(overwrite);
        assert_eq!(site.put("a.md5", ONE.1), Put::Guarded(Guarded::Lone));
        assert_eq!(site.register("a", ONE), [Put::Written, Put::Written]);
        fs::remove_file(site.path("a.conf")).expect("removes");
        assert_eq!(site.put("a.md5", TWO.1), Put::Guarded(Guarded::Lone));
        assert_eq!(site.register("a", TWO), [Put::Written, Put::Written], "over what was left");
    }
}

#[test]
fn with_overwrite_an_agents_own_upload_gives_way_and_what_nobody_read_does_not() {
    let site = site(true);
    assert_eq!(site.register("a", ONE), [Put::Written, Put::Written]);
    assert_eq!(site.register("a", TWO), [Put::Written, Put::Written], "it was uploaded");
    assert!(site.holds("a.conf", TWO.0) && site.holds("a.md5", TWO.1));

    site.place("a", THREE);
    let refused = [Put::Guarded(Guarded::NotRead), Put::Guarded(Guarded::OtherDigest)];
    assert_eq!(site.register("a", ONE), refused, "older than what lies there, for all we know");
    assert!(site.holds("a.conf", THREE.0) && site.holds("a.md5", THREE.1));
    site.read("a.conf");
    assert_eq!(site.register("a", ONE), [Put::Written, Put::Written], "later than what was read");
}

#[test]
fn what_was_read_before_it_changed_was_not_read() {
    let site = site(true);
    site.place("a", ONE);
    let given = site.shared.get("conf", b"a.conf").expect("readable").expect("is there");
    fs::remove_file(site.path("a.conf")).expect("removes");
    site.place("a", TWO);
    site.shared.was_read(&given.reading.expect("a main file"));
    assert_eq!(site.put("a.conf", THREE.0), Put::Guarded(Guarded::NotRead));
}

#[test]
fn nothing_is_known_to_have_been_read_before_the_start() {
    let site = site(true);
    assert_eq!(site.register("a", ONE), [Put::Written, Put::Written]);
    let again = Site { shared: open_synced(site.root.path(), &site.filters, true), ..site };
    assert_eq!(again.put("a.conf", TWO.0), Put::Guarded(Guarded::NotRead));
    assert_eq!(again.put("a.conf", ONE.0), Put::Same, "that agent has it");
    assert_eq!(again.register("a", TWO), [Put::Written, Put::Written]);
}

#[test]
fn a_digest_of_another_file_is_never_taken() {
    for overwrite in [false, true] {
        let site = site(overwrite);
        site.write("a.conf", ONE.0);
        assert_eq!(site.put("a.md5", TWO.1), Put::Guarded(Guarded::OtherDigest));
        assert_eq!(
            site.put("a.md5", b"no digest at all, and far too long for one, whatever it is meant to say"),
            Put::Guarded(Guarded::OtherDigest)
        );
        assert_eq!(site.put("a.md5", ONE.1), Put::Written);
        // An operator's edit: the agent's digest is that of the file before.
        site.write("a.conf", TWO.0);
        assert_eq!(site.put("a.md5", THREE.1), Put::Guarded(Guarded::OtherDigest));
        assert_eq!(
            site.put("a.md5", TWO.1),
            Put::Written,
            "over one that does not fit, whatever `overwrite` says"
        );
        assert!(site.holds("a.conf", TWO.0) && site.holds("a.md5", TWO.1));
    }
}

/// Whoever may send 32 bytes again and again.
#[test]
fn a_digest_costs_no_more_than_one_look_at_its_file() {
    use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
    let site = site(true);
    site.write("a.conf", ONE.0);
    let watch = inotify::init(CreateFlags::NONBLOCK).expect("watches");
    inotify::add_watch(&watch, site.path("a.conf"), WatchFlags::OPEN | WatchFlags::CLOSE).expect("watches");
    assert_eq!(site.put("a.md5", TWO.1), Put::Guarded(Guarded::OtherDigest));
    let mut buffer = [std::mem::MaybeUninit::uninit(); 1024];
    let mut events = inotify::Reader::new(&watch, &mut buffer);
    assert!(events.next().is_ok() && events.next().is_ok(), "it is opened and closed");
    assert!(events.next().is_err(), "and not once more");
}

#[test]
fn some_agents_write_digests_in_their_own_way() {
    let site = site(false);
    assert_eq!(site.put("a.conf", ONE.0), Put::Written);
    assert_eq!(site.put("a.md5", &[&ONE.1.to_ascii_uppercase(), &b"\n"[..]].concat()), Put::Written);
    let refused = [Put::Guarded(Guarded::Whole), Put::Guarded(Guarded::OtherDigest)];
    assert_eq!(site.register("a", TWO), refused, "it is one to them");
}

#[test]
fn collections_follow_overwrite_until_they_are_pairs() {
    let plain = site(false);
    plain.write("c.zip", ONE.0);
    assert_eq!(plain.put("c.zip", TWO.0), Put::Taken, "only a .conf registers");
    let replacing = site(true);
    replacing.write("c.zip", ONE.0);
    assert_eq!(replacing.put("c.zip", TWO.0), Put::Written);
    assert_eq!(replacing.put("c.md5", TWO.1), Put::Written);
    replacing.place("d", ONE);
    replacing.write("d.zip", TWO.0);
    assert_eq!(replacing.put("d.md5", TWO.1), Put::Guarded(Guarded::OtherDigest), "it is that of d.conf");
}

/// One byte under the name of an agent that has still to register, or has done so.
#[test]
fn what_anybody_leaves_under_another_extension_keeps_no_agent_from_its_digest() {
    for overwrite in [false, true] {
        let site = site(overwrite);
        assert_eq!(site.put("a.zip", b"x"), Put::Written);
        assert_eq!(
            site.put("a.md5", ONE.1),
            Put::Guarded(Guarded::OtherDigest),
            "it is that of no file here"
        );
        assert_eq!(site.register("a", ONE), [Put::Written, Put::Written]);
        assert_eq!(site.register("b", ONE), [Put::Written, Put::Written]);
        assert_eq!(site.put("c.conf", ONE.0), Put::Written);
        for junk in ["b.zip", "c.rcmd"] {
            assert_eq!(site.put(junk, TWO.0), Put::Guarded(Guarded::Sibling), "{junk}");
        }
        site.place("d", ONE);
        fs::rename(site.path("d.conf"), site.path("d.zip")).expect("renames");
        assert_eq!(site.put("d.conf", TWO.0), Put::Guarded(Guarded::Sibling), "its digest has an owner");
        site.write("d.zip", THREE.0);
        assert_eq!(site.register("d", TWO), [Put::Written, Put::Written], "it fits nothing any more");
    }
}

#[test]
fn what_is_in_no_pair_follows_overwrite() {
    for overwrite in [false, true] {
        let site = site(overwrite);
        let second = if overwrite { Put::Written } else { Put::Taken };
        for name in ["a.lock", ".md5"] {
            assert_eq!(site.put(name, b"one"), Put::Written);
            assert_eq!(site.put(name, b"two"), second, "{name}");
        }
    }
}

#[test]
fn uploads_are_in_the_sign_at_once_and_edits_after_a_while() {
    let site = site(true);
    assert_eq!(site.shared.sign(), None, "nobody has looked, and the start did not wait for that");
    site.shared.look_around().expect("looks");
    let sign = || site.shared.sign().expect("is synced");
    let mut changes = site.shared.changes().expect("is synced");
    let empty = sign();
    site.put("a.conf", ONE.0);
    let half = sign();
    site.put("a.md5", ONE.1);
    let whole = sign();
    assert!(empty != half && half != whole && whole != empty);
    assert!(changes.has_changed().expect("lives"));
    changes.mark_unchanged();
    site.put("a.lock", b"of no pair");
    assert_eq!(site.register("a", ONE), [Put::Same, Put::Same]);
    assert!(!changes.has_changed().expect("lives"));

    // Somebody looks at everything, which takes long: the reports go on with what was told.
    let synced = site.shared.synced.as_ref().expect("is synced");
    let looking = synced.tree.lock().expect("nobody has panicked");
    assert_eq!(sign(), whole);
    drop(looking);

    // By hand: found when the server asks, a second later at most.
    let asked = || site.shared.buckets().expect("looks").sign();
    assert_eq!(asked(), whole);
    site.write("a.conf", TWO.0);
    let edited = (0..).find_map(|_| Some(asked()).filter(|sign| *sign != whole)).expect("is found");
    assert_eq!(sign(), edited);
    fs::remove_file(site.path("a.conf")).expect("removes");
    let removed = (0..).find_map(|_| Some(asked()).filter(|sign| *sign != edited)).expect("is found");
    assert_eq!(removed, empty);
}

/// A kill between the two halves of a placing, and then the operator has switched it off.
#[test]
fn what_was_half_placed_is_finished_also_when_it_is_switched_off() {
    let Site { shared, filters, root } = site(false);
    drop(shared);
    let at = |below: &str| root.path().join(below);
    fs::write(at("conf/a.conf"), TWO.0).expect("writes");
    fs::write(at("md5/a.md5"), ONE.1).expect("writes");
    // As the workshop keeps it meanwhile.
    fs::write(at(".workshop/md5.a.conf"), TWO.1).expect("writes");
    Shared::open(root.path(), &filters, false, WIDE, None, Fatal::default()).expect("opens");
    assert_eq!(fs::read(at("md5/a.md5")).expect("is there"), TWO.1);
}

#[test]
fn whoever_changes_one_half_keeps_everybody_from_the_other() {
    let site = site(false);
    for number in 0..20 {
        let stripe = |extension| site.shared.stripe(format!("{number}.{extension}").as_bytes());
        for extension in ["conf", "zip", "rcmd"] {
            assert!(std::ptr::eq(stripe(extension), stripe("md5")), "{number}.{extension}");
        }
    }
    let _alone = site.shared.alone(b"a.md5");
    assert!(site.shared.stripe(b"a.conf").try_lock().is_err());
}

#[test]
fn uploads_of_both_halves_wait_for_each_other() {
    let site = site(false);
    let names: Vec<[u8; 2]> = (b'a'..=b'p').map(|letter| [letter, b'.']).collect();
    let start = std::sync::Barrier::new(4);
    std::thread::scope(|scope| {
        for (conf, md5) in [ONE, TWO, ONE, TWO] {
            let (site, start, names) = (&site, &start, &names);
            scope.spawn(move || {
                start.wait();
                for name in names {
                    let stem = char::from(name[0]).to_string();
                    site.register(&stem, (conf, md5));
                }
            });
        }
    });
    for name in &names {
        let name = format!("{}.conf", char::from(name[0]));
        let pair = site.shared.synced.as_ref().expect("is synced").pair(name.as_bytes()).expect("a pair");
        let seen = tidegate_spool::shared::look(&pair).expect("looks").expect("is there");
        let other = fs::read_to_string(pair.md5).unwrap_or_default();
        // Two agents that take turns may leave a configuration without its digest, never with another's.
        assert!(seen.fits || other.is_empty(), "{name}: {other}");
    }
}
