//! The commands over real directories and a real memory, with a site that is not there.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::shared::decide::Why;
use crate::shared::here::tests::{directory, put};
use crate::shared::names::Key;
use crate::shared::objects::Objects;
use crate::shared::store::Store;
use crate::shared::store::claims::Terms;
use crate::shared::store::pairs::{Origin, Refusal};
use crate::shared::{digest, memory};

const WEB01: &str = "2f527604e1deff1329720282d8d3cfa1.conf";

/// A central that has run, and its memory.
struct Central {
    directory: tempfile::TempDir,
    state: tempfile::TempDir,
    store: Store,
}

impl Central {
    fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        let store = Store::open(&memory(state.path())).unwrap();
        Self { directory: directory(), state, store }
    }

    fn put(&self, name: &str, content: &str) {
        put(self.directory.path(), name, content, true);
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join("conf").join(name)
    }

    fn claim(&self, site: &str, agent: &str, may_give: bool) {
        let terms = Terms { configured: &|_| true, may_give: &|_: Key| may_give, max: 10, now: 1 };
        let agents = [agent.as_bytes().into()];
        self.store.write(|batch| batch.claim(site, &agents, &terms).map(drop)).unwrap();
    }

    fn shows(&self, site: &str, name: &str, content: &str) {
        let seen = Some((digest(content.as_bytes()), content.len() as u64, true));
        self.store.write(|batch| batch.saw(site, name.as_bytes(), seen, 1)).unwrap();
    }

    fn agrees(&self, site: &str, name: &str, content: &str) {
        let content = digest(content.as_bytes());
        self.store.write(|batch| batch.agree(site, name.as_bytes(), content, Origin::Here)).unwrap();
    }

    /// A version that the site or this end lost.
    fn keeps(&self, site: &str, name: &str, content: &str, why: Why) {
        let objects = Objects::open(&memory(self.state.path())).unwrap();
        let what = (digest(content.as_bytes()), content.len() as u64);
        assert!(objects.keep(&what.0, content.as_bytes()).unwrap());
        self.store.write(|batch| batch.keep((site, name.as_bytes()), what, why, 1_700_000_000)).unwrap();
    }

    fn config(&self) -> Config {
        let text = format!(
            "incomingdir = {:?}\nstate_directory = {:?}\nsync_shared = true\n\
             [[site]]\nname = \"a\"\naddress = \"a\"\ntls = \"off\"\n\
             [[site]]\nname = \"b\"\naddress = \"b\"\ntls = \"off\"\n",
            self.directory.path(),
            self.state.path()
        );
        let file = self.state.path().join("server.toml");
        fs::write(&file, text).unwrap();
        Config::load(&file).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn view(&self) -> View {
        View::open(&self.config()).unwrap()
    }

    /// The one pair of a site, as `list` gives it to programs.
    fn listed(&self, site: &str) -> Value {
        let document = list::run(&self.view(), Some(site)).unwrap().document;
        let pairs = document["pairs"].as_array().unwrap();
        assert_eq!(pairs.len(), 1, "{document}");
        pairs[0].clone()
    }

    fn push(&self, site: &str, name: &str, yes: bool) -> Result<Said, Failure> {
        push::run(&self.view(), &[name.as_bytes().to_vec()], site, yes)
    }

    fn restore(&self, which: &str, yes: bool) -> Result<Said, Failure> {
        restore::run(&self.view(), &which.into(), None, yes)
    }

    fn diff(&self, names: &[&str]) -> Result<Said, Failure> {
        let names: Vec<_> = names.iter().map(|name| name.as_bytes().to_vec()).collect();
        diff::run(&self.view(), &names, None)
    }
}

#[test]
fn every_pair_is_listed_with_its_state() {
    let central = Central::new();
    assert_eq!(list::run(&central.view(), None).unwrap().document["pairs"], Value::Array(vec![]));
    central.claim("a", "web01", true);
    central.claim("b", "web01", true);
    central.put(WEB01, "one");
    let state = || central.listed("a")["state"].clone();
    assert_eq!(state(), "on-its-way");
    central.shows("a", WEB01, "one");
    central.agrees("a", WEB01, "one");
    assert_eq!(state(), "in-sync");
    let pair = central.listed("a");
    assert_eq!((&pair["agent"], &pair["kind"]), (&"web01".into(), &"conf".into()));
    assert_eq!(pair["claimed_too"], serde_json::json!(["b"]));
    assert_eq!(pair["here"], pair["there"]);
    let refusal = Refusal { words: "no room for it".into(), digest: None, at: 5 };
    central.put(WEB01, "two!");
    central.store.write(|batch| batch.refused("a", WEB01.as_bytes(), &refusal)).unwrap();
    assert_eq!(state(), "refused");
    assert_eq!(central.listed("a")["remark"], "no room for it");
    central.keeps("a", WEB01, "lost", Why::Conflict);
    let text = list::run(&central.view(), None).unwrap().text;
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "SITE  NAME                                   AGENT  STATE    HERE          THERE         REMARKS",
            "a     2f527604e1deff1329720282d8d3cfa1.conf  web01  refused  a97b629a5b1d  7692c3ad3540  no room for it; \
             conflict: the other version is kept; claimed by b too",
            "",
            "KEPT  SITE  NAME                                   SINCE                 WHY       BYTES  CONTENT",
            "1     a     2f527604e1deff1329720282d8d3cfa1.conf  2023-11-14T22:13:20Z  conflict  4      76f75e6129fe",
            "`tidegate-server shared restore KEPT` puts one back here.",
        ]
    );
}

#[test]
fn what_waits_for_an_operator_is_told() {
    let central = Central::new();
    central.put(WEB01, "secret");
    central.claim("a", "web01", false);
    assert_eq!(central.listed("a")["state"], "withheld");
    assert!(central.listed("a")["remark"].as_str().unwrap().contains("shared push"));
    // Another site's agent, and a name of nobody.
    central.shows("b", WEB01, "stolen");
    let foreign = central.listed("b");
    assert_eq!(
        (&foreign["state"], &foreign["remark"]),
        (&"foreign".into(), &"the site shows it; it is a's".into())
    );
    let unknown = list::run(&central.view(), Some("c")).expect_err("no such site").to_string();
    assert!(unknown.contains("\"c\"; there are: a, b"), "{unknown}");
    put(central.directory.path(), &WEB01.replace("conf", "rcmd"), "x", true);
    assert_eq!(central.listed("a")["state"], "ambiguous");
}

#[test]
fn a_directory_that_lost_everything_is_told_of() {
    let central = Central::new();
    for n in 0..4 {
        let agent = format!("agent{n}");
        let name = String::from_utf8(Key::of_agent(agent.as_bytes()).conf()).unwrap();
        central.claim("a", &agent, true);
        central.shows("a", &name, "x");
        central.agrees("a", &name, "x");
    }
    let document = list::run(&central.view(), None).unwrap().document;
    for pair in document["pairs"].as_array().unwrap() {
        assert_eq!(pair["state"], "waiting");
        assert!(pair["remark"].as_str().unwrap().contains("is the directory mounted?"));
    }
}

#[test]
fn a_difference_is_shown_line_by_line_where_both_contents_are_at_hand() {
    let central = Central::new();
    central.claim("a", "web01", true);
    central.put(WEB01, "one\ntwo\nthree\n");
    central.shows("a", WEB01, "one\n2\nthree\n");
    let said = central.diff(&[]).unwrap();
    assert!(said.text.contains("has not been fetched"), "{}", said.text);
    assert_eq!(said.document["pairs"][0]["diff"], Value::Null);
    central.keeps("a", WEB01, "one\n2\nthree\n", Why::NotTaken);
    let said = central.diff(&[WEB01]).unwrap();
    let diff = "--- there\n+++ here\n@@ -1,3 +1,3 @@\n one\n-2\n+two\n three\n";
    assert!(said.text.contains(diff), "{}", said.text);
    assert!(said.text.starts_with(&format!("a  {WEB01}: on its way\n  here    ")), "{}", said.text);
    assert_eq!(said.document["pairs"][0]["diff"], diff);
    central.shows("a", WEB01, "one\ntwo\nthree\n");
    let text = central.diff(&[]).unwrap().text;
    assert!(
        text.starts_with("Nothing differs.\n\n1 version is kept: `tidegate-server shared list`"),
        "{text}"
    );
    let said = central.diff(&[WEB01]).unwrap();
    assert!(said.text.starts_with(&format!("a  {WEB01}: in sync\n")), "{}", said.text);
    let kept =
        format!(", not taken, since 2023-11-14T22:13:20Z\n{}", diff.replace("--- there", "--- kept 1"));
    assert!(said.text.ends_with(&kept), "{}", said.text);
    assert_eq!(said.document["pairs"][0]["kept"][0]["id"], 1);
    fs::remove_file(central.file(WEB01)).unwrap();
    central.store.write(|batch| batch.saw("a", WEB01.as_bytes(), None, 2)).unwrap();
    let said = central.diff(&[WEB01]).unwrap();
    assert!(said.text.starts_with(&format!("a  {WEB01}\n  kept 1  ")), "only that is left: {}", said.text);
    assert_eq!(said.document["pairs"][0]["kept"][0]["why"], "not taken");
    let unknown = central.diff(&["none.zip"]).expect_err("nothing is called so").to_string();
    assert!(unknown.contains("none.zip is no shared file"), "{unknown}");
    assert_eq!(Central::new().diff(&[]).unwrap().text, "Nothing differs.\n");
}

#[test]
fn what_is_withheld_goes_when_an_operator_pushes_it() {
    let central = Central::new();
    central.put(WEB01, "secret");
    central.claim("a", "web01", false);
    let said = central.push("a", WEB01, false).unwrap();
    assert!(said.text.starts_with(&format!("{WEB01} (a): pushed\nThe server does it")), "{}", said.text);
    let pair = central.listed("a");
    assert_eq!((&pair["state"], &pair["remark"]), (&"on-its-way".into(), &"to the site, pushed".into()));
    assert_eq!(central.store.wished_sites().unwrap(), ["a"]);
}

#[test]
fn what_a_push_would_overwrite_needs_a_yes() {
    let central = Central::new();
    central.put(WEB01, "secret");
    central.claim("a", "web01", false);
    central.shows("a", WEB01, "other");
    let refused = central.push("a", WEB01, false).expect_err("it would overwrite");
    assert!(
        matches!(&refused, Failure::Usage(words) if words.contains("overwritten there: say --yes")),
        "{refused}"
    );
    assert_eq!(central.store.wished_sites().unwrap(), [""; 0]);
    central.push("a", WEB01, true).unwrap();
    assert_eq!(central.store.wished_sites().unwrap(), ["a"]);
    central.put("fc_1.zip", "zip");
    central.push("b", "fc_1.zip", false).unwrap();
    assert_eq!(central.listed("b")["name"], "fc_1.zip");
}

#[test]
fn nothing_is_pushed_to_a_site_that_is_not_its_own() {
    let central = Central::new();
    central.put(WEB01, "secret");
    central.claim("a", "web01", true);
    for (site, name, words) in [
        ("b", WEB01, "it is a's"),
        ("b", "00000000000000000000000000000000.conf", "no configuration of an agent of b"),
        ("a", "web01.conf", "no shared file's name"),
        ("a", "fc_9.zip", "there is nothing to push"),
        ("c", WEB01, "there are: a, b"),
    ] {
        let refused = central.push(site, name, true).expect_err(words).to_string();
        assert!(refused.contains(words), "{refused}");
    }
    assert_eq!(central.store.wished_sites().unwrap(), [""; 0]);
}

#[test]
fn a_kept_version_is_put_back_whole_and_what_it_overwrites_is_kept() {
    let central = Central::new();
    central.claim("a", "web01", true);
    central.keeps("a", WEB01, "old", Why::Removed);
    let said = central.restore("1", false).unwrap();
    assert!(said.text.starts_with(&format!("1 {WEB01}: restored here")), "{}", said.text);
    assert_eq!(fs::read_to_string(central.file(WEB01)).unwrap(), "old");
    assert!(central.view().here.get(WEB01.as_bytes()).unwrap().fits, "with its .md5");
    let hidden: Vec<_> =
        fs::read_dir(central.directory.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(hidden.len(), 4, "no trace: {hidden:?}");
    assert_eq!(central.restore(WEB01, false).unwrap().document["pairs"][0]["outcome"], "left");
    central.put(WEB01, "newer");
    let refused = central.restore(WEB01, false).expect_err("it would overwrite");
    assert!(matches!(&refused, Failure::Usage(words) if words.contains("say --yes")), "{refused}");
    assert_eq!(central.restore(WEB01, true).unwrap().document["pairs"][0]["outcome"], "restored");
    assert_eq!(fs::read_to_string(central.file(WEB01)).unwrap(), "old");
    let kept = central.store.kept(Some("a")).unwrap();
    assert_eq!((kept.len(), kept[0].why, kept[0].digest), (2, Why::Replaced, digest(b"newer")));
    central.restore("2", true).unwrap();
    assert_eq!(fs::read_to_string(central.file(WEB01)).unwrap(), "newer");
}

#[test]
fn what_cannot_be_restored_is_said() {
    let central = Central::new();
    let none = central.restore("7", true).expect_err("none").to_string();
    assert!(none.contains("no version of 7 is kept"), "{none}");
    central.keeps("a", "fc_1.zip", "x", Why::Conflict);
    central.keeps("b", "fc_1.zip", "y", Why::Conflict);
    let two = central.restore("fc_1.zip", true).expect_err("two sites").to_string();
    assert!(two.contains("of b and of a; say --site"), "{two}");
    fs::remove_dir_all(memory(central.state.path()).join("objects")).unwrap();
    let gone = central.restore("1", true).expect_err("no content").to_string();
    assert!(gone.contains("is gone, or damaged"), "{gone}");
}

#[test]
fn before_the_first_start_there_is_nothing_and_without_a_site_words() {
    let central = Central::new();
    let state = tempfile::tempdir().unwrap();
    let config = || {
        let mut config = central.config();
        config.incoming.state = state.path().into();
        config
    };
    let view = View::open(&config()).unwrap();
    assert_eq!(list::run(&view, None).unwrap().document["pairs"], Value::Array(vec![]));
    let error = push::run(&view, &[b"fc_1.zip".to_vec()], "a", true).expect_err("no memory");
    assert!(matches!(&error, Failure::Temporary(words) if words.contains("has not run yet")), "{error}");
    let mut off = config();
    off.sites.iter_mut().for_each(|site| site.sync.shared.on = false);
    let error = View::open(&off).map(|_| ()).expect_err("nobody shares");
    assert!(matches!(&error, Failure::Setting(words) if words.contains("sync_shared = true")), "{error}");
    let mut elsewhere = config();
    elsewhere.shared.directory = "/nowhere".into();
    let error = View::open(&elsewhere).map(|_| ()).expect_err("no directory");
    assert!(matches!(error, Failure::Setting(_)), "{error}");
}
