//! The central's half, over real directories.

use std::fs;

use super::here::tests::{directory, put};
use super::store::pairs::Origin;
use super::*;

const WEB01: &str = "2f527604e1deff1329720282d8d3cfa1.conf";

struct Central {
    directory: tempfile::TempDir,
    state: tempfile::TempDir,
}

impl Central {
    fn new() -> Self {
        Self { directory: directory(), state: tempfile::tempdir().unwrap() }
    }

    fn put(&self, name: &str, content: &str, whole: bool) {
        put(self.directory.path(), name, content, whole);
    }

    fn config(&self, sites: &str) -> Config {
        let text = format!(
            "incomingdir = {:?}\nstate_directory = {:?}\nsync_shared = true\n{sites}",
            self.directory.path(),
            self.state.path()
        );
        let file = self.state.path().join("server.toml");
        fs::write(&file, text).unwrap();
        Config::load(&file).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn open(&self, sites: &str) -> Arc<Shared> {
        Shared::open(&self.config(sites)).unwrap().unwrap()
    }
}

const TWO: &str = "[[site]]\nname = \"a\"\naddress = \"a\"\ntls = \"off\"\n\
                   [[site]]\nname = \"b\"\naddress = \"b\"\ntls = \"off\"\n";

fn names(shared: &Shared, site: &str) -> Vec<String> {
    shared.scope(site).unwrap().names().map(|name| String::from_utf8(name.to_vec()).unwrap()).collect()
}

#[test]
fn without_a_site_that_shares_nothing_is_opened() {
    let central = Central::new();
    let config = central.config("sync_address = [\"x\"]\nsync_ca = \"/ca.pem\"\n").sites;
    assert!(config[0].sync.shared.on);
    let off = central.config(&TWO.replace("tls", "sync_shared = false\ntls"));
    assert!(Shared::open(&off).unwrap().is_none());
    assert!(!memory(central.state.path()).exists());
}

#[test]
fn a_directory_that_is_not_the_consoles_is_told() {
    let central = Central::new();
    fs::remove_dir(central.directory.path().join("md5")).unwrap();
    let error = Shared::open(&central.config(TWO)).expect_err("no md5").to_string();
    assert!(error.contains("md5 is no directory") && error.contains("[shared]"), "{error}");
}

#[test]
fn what_a_site_sends_makes_an_agents_files_its_own_and_no_others() {
    let central = Central::new();
    let shared = central.open(TWO);
    assert_eq!(shared.scan().unwrap(), [""; 0]);
    shared.learned("a", [&b"web01.1700000000.data"[..]]);
    assert_eq!(names(&shared, "a"), [""; 0], "not before it is written");
    assert_eq!(shared.scan().unwrap(), ["a"]);
    shared.learned("b", [&b"web01.1700000001.data"[..]]);
    assert_eq!(shared.scan().unwrap(), [""; 0]);
    assert_eq!((names(&shared, "a"), names(&shared, "b")), (vec![WEB01.to_owned()], vec![]));
    central.put(WEB01, "file_collection fc_1", true);
    central.put("fc_1.zip", "zip", true);
    central.put("0000.rcmd", "nobody's", true);
    assert_eq!(shared.scan().unwrap(), ["a"]);
    assert_eq!(names(&shared, "a"), [WEB01, "fc_1.zip"]);
    assert!(shared.scope("a").unwrap().may_give(WEB01.as_bytes()), "it was claimed before it was here");
    assert_eq!(shared.scan().unwrap(), [""; 0]);
    drop(shared);
    let shared = central.open(TWO);
    shared.scan().unwrap();
    assert_eq!(names(&shared, "a"), [WEB01, "fc_1.zip"], "also after a restart");
    shared.learned("a", [&b"web01.1700000002.data"[..]]);
    assert_eq!(shared.learn.take(), [], "it is known");
}

#[test]
fn what_was_here_before_the_claim_is_withheld_unless_all_claims_count() {
    let central = Central::new();
    central.put(WEB01, "secret", true);
    for (give, expected) in [("own", false), ("claimed", true)] {
        let shared = central.open(&format!("shared_give = \"{give}\"\n{TWO}"));
        shared.scan().unwrap();
        shared.learned("a", [&b"web01.1.data"[..]]);
        shared.scan().unwrap();
        assert_eq!(shared.scope("a").unwrap().may_give(WEB01.as_bytes()), expected, "{give}");
        drop(shared);
        fs::remove_dir_all(memory(central.state.path())).unwrap();
    }
}

#[test]
fn the_configuration_stands_over_what_was_learned() {
    let central = Central::new();
    central.put(WEB01, "secret", true);
    let shared = central.open(TWO);
    shared.learned("a", [&b"web01.1.data"[..], b"web02.1.data"]);
    shared.scan().unwrap();
    assert_eq!(names(&shared, "a").len(), 2);
    drop(shared);
    let bound = TWO.replace("name = \"b\"", "name = \"b\"\nagents = [\"web01\"]");
    let shared = central.open(&bound);
    shared.scan().unwrap();
    assert_eq!(names(&shared, "a"), [Key::of_agent(b"web02").to_string() + ".conf"]);
    assert_eq!(names(&shared, "b"), [WEB01]);
    assert!(shared.scope("b").unwrap().may_give(WEB01.as_bytes()));
    drop(shared);
    let never = TWO.replace("name = \"a\"", "name = \"a\"\nagents_learn = false");
    let shared = central.open(&never);
    shared.scan().unwrap();
    assert_eq!(names(&shared, "a"), [""; 0]);
    shared.learned("a", [&b"web03.1.data"[..]]);
    assert_eq!(shared.scan().unwrap(), [""; 0], "nothing is to be done for it");
    assert_eq!(names(&shared, "a"), [""; 0]);
}

#[test]
fn a_pair_of_a_site_that_stays_without_its_md5_gets_one() {
    let central = Central::new();
    central.put(WEB01, "mine", false);
    let other = "00000000000000000000000000000000.conf";
    central.put(other, "nobody's", false);
    let shared = central.open(&TWO.replace("name = \"a\"", "name = \"a\"\nagents = [\"web01\"]"));
    let md5 = |name: &str| central.directory.path().join("md5").join(name.replace("conf", "md5"));
    assert_eq!(shared.scan().unwrap(), ["a"]);
    assert!(!md5(WEB01).exists(), "somebody may be writing it");
    assert_eq!(shared.scan().unwrap(), ["a"]);
    // printf %s mine | md5sum
    assert_eq!(fs::read_to_string(md5(WEB01)).unwrap(), "918b81db5e91d031548b963c93845e5b");
    assert!(!md5(other).exists(), "what is no site's is not touched");
    assert_eq!(shared.scan().unwrap(), [""; 0]);
}

#[test]
fn more_agents_than_a_site_may_have_are_told_and_get_nothing() {
    let central = Central::new();
    let shared = central.open(&format!("[shared]\nmax_agents = 1\n{TWO}"));
    shared.learned("a", [&b"one.1.data"[..], b"two.1.data"]);
    shared.scan().unwrap();
    assert_eq!(names(&shared, "a").len(), 1);
    assert!(shared.store().sites().unwrap()[0].overfull);
}

#[test]
fn what_an_operator_wants_pushed_wakes_its_site() {
    let central = Central::new();
    let shared = central.open(TWO);
    let command = Store::beside(&memory(central.state.path())).unwrap().unwrap();
    command.write(|batch| batch.wish("b", b"fc_1.zip", 1)).unwrap();
    command.write(|batch| batch.wish("elsewhere", b"fc_1.zip", 1)).unwrap();
    assert_eq!(shared.scan().unwrap(), ["b"]);
    shared.store().write(|batch| batch.agree("b", b"fc_1.zip", [1; 32], Origin::Here)).unwrap();
    assert_eq!(shared.scan().unwrap(), [""; 0]);
}

#[test]
fn the_settings_are_those_of_the_configuration() {
    let central = Central::new();
    let shared = central.open(&format!(
        "shared_uploads = \"off\"\n[shared]\ninterval = \"50ms\"\nmax_size = 7\n{}",
        TWO.replace("name = \"b\"", "name = \"b\"\nshared_uploads = \"changed\"")
    ));
    assert_eq!((shared.interval(), shared.max_size()), (Duration::from_millis(50), 7));
    assert_eq!(shared.sites(), ["a", "b"]);
    assert_eq!((shared.max_taken(WEB01.as_bytes()), shared.max_taken(b"x.zip")), (7, 7));
    let wide = central.open(&format!("[shared]\nmax_size = \"3MB\"\n{TWO}"));
    assert_eq!((wide.max_taken(WEB01.as_bytes()), wide.max_taken(b"x.zip")), (1 << 20, 3_000_000));
    let uploads = ["a", "b", "elsewhere"].map(|site| shared.uploads(site));
    assert_eq!(uploads, [Uploads::Off, Uploads::Changed, Uploads::Off]);
}

#[test]
fn what_comes_and_goes_is_an_object_and_made_ready_beside_the_pairs() {
    let central = Central::new();
    let shared = central.open(TWO);
    let content = digest(b"content");
    assert!(shared.objects().keep(&content, b"content").unwrap());
    let mut partial = shared.workshop().begin(content, 7).unwrap();
    partial.write(&fs::read(shared.objects().path(&content)).unwrap()).unwrap();
    let pair = shared.pair(WEB01.as_bytes()).unwrap();
    let done = shared.workshop().place(WEB01.as_bytes(), &pair, None, partial.finish().unwrap()).unwrap();
    assert_eq!(done, tidegate_spool::shared::Done::Done);
    shared.here().refresh(WEB01.as_bytes()).unwrap();
    let seen = shared.here().get(WEB01.as_bytes()).unwrap();
    assert_eq!((seen.digest, seen.size, seen.fits), (content, 7, true));
}

#[test]
fn what_cannot_be_read_here_is_not_given_to_a_claimant() {
    let central = Central::new();
    let shared = central.open(TWO);
    shared.scan().unwrap();
    central.put(WEB01, "secret", true);
    shared.scan().unwrap();
    fs::remove_file(central.directory.path().join("conf").join(WEB01)).unwrap();
    shared.learned("a", [&b"web01.1.data"[..]]);
    shared.scan().unwrap();
    central.put(WEB01, "secret again", true);
    shared.scan().unwrap();
    assert!(!shared.scope("a").unwrap().may_give(WEB01.as_bytes()), "it was being replaced");
}

#[test]
fn agents_are_learned_again_when_the_memory_was_begun_anew() {
    let central = Central::new();
    let shared = central.open(TWO);
    shared.learned("a", [&b"web01.1.data"[..]]);
    shared.scan().unwrap();
    let file = memory(central.state.path()).join("shared.db");
    let other = rusqlite::Connection::open(file).unwrap();
    other.pragma_update(None, "ignore_check_constraints", true).unwrap();
    other.execute("UPDATE claim SET site = x'ff', key = 5", []).unwrap();
    other.execute("INSERT INTO pair (site, name, agreed) VALUES ('a', 'x', 'nonsense')", []).unwrap();
    drop(other);
    shared.store().pairs("a").expect_err("it is damaged");
    shared.scan().unwrap();
    assert_eq!(names(&shared, "a"), [""; 0]);
    shared.learned("a", [&b"web01.2.data"[..]]);
    shared.scan().unwrap();
    assert_eq!(names(&shared, "a"), [WEB01]);
}

#[test]
fn an_agent_of_a_site_that_shares_nothing_does_not_become_anothers() {
    let central = Central::new();
    let sites = "[[site]]\nname = \"a\"\naddress = \"a\"\ntls = \"off\"\n\
                 [[site]]\nname = \"b\"\naddress = \"b\"\ntls = \"off\"\nsync_shared = false\n";
    let shared = central.open(sites);
    shared.scan().unwrap();
    shared.learned("b", [&b"web01.1.data"[..]]);
    shared.scan().unwrap();
    shared.learned("a", [&b"web01.2.data"[..]]);
    shared.scan().unwrap();
    central.put(WEB01, "secret", true);
    shared.scan().unwrap();
    let scope = shared.scope("a").unwrap();
    assert!(!scope.may_give(WEB01.as_bytes()));
    drop(shared);
    let shared = central.open(&sites.replace("sync_shared", "agents_learn"));
    shared.learned("b", [&b"db01.1.data"[..]]);
    shared.scan().unwrap();
    shared.learned("a", [&b"db01.2.data"[..]]);
    shared.scan().unwrap();
    assert_eq!(names(&shared, "a"), [""; 0], "nor of one that does not learn");
}

#[test]
fn what_a_scan_saw_is_told_though_old_contents_cannot_be_removed() {
    let central = Central::new();
    let shared = central.open(&TWO.replacen("tls", "agents = [\"web01\"]\ntls", 1));
    fs::write(memory(central.state.path()).join("objects").join("stray"), "").unwrap();
    central.put(WEB01, "an edit", true);
    shared.sweep().expect_err("the stray is no directory");
    *shared.swept.lock().unwrap() = None;
    assert_eq!(shared.scan().unwrap(), ["a"]);
    assert_eq!(shared.scan().unwrap(), [""; 0], "it is told once");
}

#[test]
fn what_a_scan_saw_is_told_by_the_next_if_this_one_fails() {
    let central = Central::new();
    let shared = central.open(&TWO.replacen("tls", "agents = [\"web01\"]\ntls", 1));
    central.put(WEB01, "an edit", true);
    let other = rusqlite::Connection::open(memory(central.state.path()).join("shared.db")).unwrap();
    other.execute("ALTER TABLE pair RENAME TO elsewhere", []).unwrap();
    shared.scan().expect_err("the memory cannot be read");
    other.execute("ALTER TABLE elsewhere RENAME TO pair", []).unwrap();
    assert_eq!(shared.scan().unwrap(), ["a"]);
}

#[test]
fn what_a_sync_sees_to_be_another_is_told() {
    let central = Central::new();
    let shared = central.open(&TWO.replacen("tls", "agents = [\"web01\"]\ntls", 1));
    central.put(WEB01, "one", true);
    assert_eq!(shared.scan().unwrap(), ["a"]);
    central.put(WEB01, "two!", true);
    shared.here().refresh(WEB01.as_bytes()).unwrap();
    assert_eq!(shared.scan().unwrap(), ["a"]);
    central.put(WEB01, "three", true);
    shared.here().refresh_own(WEB01.as_bytes()).unwrap();
    assert_eq!(shared.scan().unwrap(), [""; 0], "this process did it");
}
