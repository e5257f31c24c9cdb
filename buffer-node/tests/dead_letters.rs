//! Packages that are no longer what arrived: nobody gets them, nothing waits behind them, and an operator finds them.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::process::Signal;
use support::{BINARY, Node, Root, until};

const INSECURE: &str = "insecure = true\n";

fn node_with(packages: &[&str]) -> Node {
    let node = Node::start(INSECURE);
    for name in packages {
        assert_eq!(node.connect().send(name, name.as_bytes()), "SEND OK");
    }
    node
}

/// The file of a package.
fn file_of(root: &Root, name: &str) -> PathBuf {
    let files = fs::read_dir(root.path("spool/ready")).expect("lists");
    let mut paths = files.map(|entry| entry.expect("an entry").path());
    paths.find(|path| path.to_string_lossy().ends_with(&format!("-{name}"))).expect("is stored")
}

fn names_in(directory: &Path) -> Vec<String> {
    let files = fs::read_dir(directory).expect("lists");
    let mut names: Vec<_> =
        files.map(|entry| entry.expect("an entry").file_name().into_string().expect("printable")).collect();
    names.sort();
    names
}

/// What a command of the operator prints, if it succeeds.
fn operator(root: &Root, words: &[&str]) -> Result<String, String> {
    let Output { status, stdout, stderr } =
        Command::new(BINARY).args(words).arg("--config").arg(&root.config).output().expect("runs");
    match status.success() {
        true => Ok(String::from_utf8(stdout).expect("text")),
        false => Err(String::from_utf8(stderr).expect("text")),
    }
}

fn ask(root: &Root, words: &[&str]) -> String {
    operator(root, words).expect("succeeds")
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).expect("reads");
    bytes[0] ^= 1;
    fs::write(path, bytes).expect("writes");
}

#[test]
fn a_flipped_bit_is_never_handed_out_and_can_be_rescued() {
    let node = node_with(&["a.5.data", "b.5.data"]);
    let file = file_of(&node.root, "a.5.data");
    flip(&file);
    let mut puller = node.connect();
    assert_eq!(puller.get("RECV <a.5.data>"), Err("RECV ERR (file does not exist)".into()));
    assert_eq!(puller.get("RECV <b.5.data>"), Ok(b"b.5.data".to_vec()), "nothing is blocked");
    assert_eq!(puller.get("LS <.>"), Ok(b"b.5.data".to_vec()));
    let line = node.logs("a package is damaged");
    assert!(
        line.contains("ERROR") && line.contains("a.5.data") && line.contains("dead-letter show"),
        "{line}"
    );

    let dead = file.file_name().expect("a name").to_str().expect("printable");
    assert_eq!(names_in(&node.root.path("spool/corrupt")), [dead]);
    let losses = ask(&node.root, &["losses"]);
    assert!(
        losses.lines().nth(1).is_some_and(|line| line.contains("  data   corrupt  1         8 ")),
        "{losses}"
    );
    let listed = ask(&node.root, &["dead-letter", "list"]);
    assert!(listed.contains(dead) && listed.contains("its bytes are not those that arrived"), "{listed}");
    let shown = ask(&node.root, &["dead-letter", "show", dead]);
    for words in ["requeued as      a.5.data", "digest expected", "digest found", "spool/corrupt/"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }

    ask(&node.root, &["dead-letter", "requeue", dead]);
    node.logs("took up dead letters requeued=1");
    assert_eq!(puller.get("LS <.>"), Ok(b"b.5.data\na.5.data".to_vec()));
    assert_eq!(puller.get("RECV <a.5.data>"), Ok(b"`.5.data".to_vec()), "the bytes that it has now");
    assert_eq!(puller.get("MV <a.5.data>"), Ok(b"`.5.data".to_vec()));
    assert!(names_in(&node.root.path("spool/corrupt")).is_empty());
    assert!(names_in(&node.root.path("spool/requeue")).is_empty());
}

/// Each sort of damage, and each way to ask.
#[test]
fn every_sort_of_damage_is_set_aside_on_every_way_out() {
    for verb in ["RECV", "ZRECV", "MV"] {
        for damage in ["flipped", "cut", "grown", "missing"] {
            let node = node_with(&["a.5.data", "b.5.data"]);
            let file = file_of(&node.root, "a.5.data");
            match damage {
                "flipped" => flip(&file),
                "cut" => fs::write(&file, "a.5").expect("writes"),
                "grown" => fs::write(&file, "a.5.data and more").expect("writes"),
                _ => fs::remove_file(&file).expect("removes"),
            }
            let mut puller = node.connect();
            let refusal = puller.get(&format!("{verb} <a.5.data>"));
            assert!(refusal.is_err_and(|words| words.starts_with(&format!("{verb} ERR"))), "{verb} {damage}");
            assert_eq!(puller.get("LS <.>"), Ok(b"b.5.data".to_vec()), "{verb} {damage}");
            assert_eq!(puller.get("MV <b.5.data>"), Ok(b"b.5.data".to_vec()), "{verb} {damage}");
            assert_eq!(ask(&node.root, &["losses"]).lines().count(), 2, "{verb} {damage}");
            let dead = names_in(&node.root.path("spool/corrupt")).len();
            assert_eq!(dead, usize::from(damage != "missing"), "{verb} {damage}");
            // The sender may have kept the file: then it is taken once more.
            assert_eq!(node.connect().send("a.5.data", b"a.5.data"), "SEND OK");
            assert_eq!(puller.get("RECV <a.5.data>"), Ok(b"a.5.data".to_vec()), "{verb} {damage}");
        }
    }
}

#[test]
fn dead_letters_are_found_beside_no_node_and_taken_up_by_the_next() {
    let mut node = node_with(&["a.1700000000.data", "b.1700000000.data", "c.1700000000.data"]);
    for name in ["a", "b", "c"] {
        flip(&file_of(&node.root, &format!("{name}.1700000000.data")));
        node.connect().get(&format!("RECV <{name}.1700000000.data>")).expect_err("is damaged");
    }
    node.signal(Signal::TERM);
    assert_eq!(node.wait().code(), Some(0));
    let line = node.logs("totals since the start");
    assert!(line.contains(" set_aside=3 "), "{line}");
    let root = node.kill();
    fs::write(root.path("spool/corrupt/notes\n.txt"), "foreign").expect("writes");
    let names = names_in(&root.path("spool/corrupt"));
    assert_eq!(names.len(), 4);
    let listed = ask(&root, &["dead-letter", "list"]);
    assert!(listed.contains("notes\\x0a.txt") && !listed.contains("notes\n"), "{listed}");
    let json = ask(&root, &["dead-letter", "list", "--json"]);
    for words in ["\"condition\": \"changed\"", "\"condition\": \"foreign\"", "\"digest_expected\": \""] {
        assert!(json.contains(words), "{words}: {json}");
    }
    for name in ["../ready", "nothing", "notes.txt", ""] {
        for command in ["show", "requeue", "purge"] {
            let words = operator(&root, &["dead-letter", command, name]).expect_err("no such name");
            assert!(words.contains("there is no dead letter"), "{words}");
        }
    }
    operator(&root, &["dead-letter", "purge"]).expect_err("neither a name nor --all");
    assert_eq!(names_in(&root.path("spool/corrupt")).len(), 4, "nothing was touched");

    ask(&root, &["dead-letter", "requeue", &names[0]]);
    ask(&root, &["dead-letter", "purge", &names[1]]);
    ask(&root, &["dead-letter", "purge", "notes\\x0a.txt"]);
    let node = root.start();
    let line = node.logs("took up dead letters");
    assert!(line.contains("requeued=1") && line.contains("purged=2"), "{line}");
    assert_eq!(node.connect().get("LS <.>"), Ok(b"a.1700000000.data".to_vec()));
    let losses = ask(&node.root, &["losses", "--json"]);
    assert_eq!(losses.matches("\"reason\": \"corrupt\"").count(), 3, "{losses}");
    assert_eq!(
        losses.matches("\"reason\": \"purged\"").count(),
        1,
        "a recorded one is not recorded again: {losses}"
    );
    ask(&node.root, &["dead-letter", "purge", "--all"]);
    until(|| names_in(&node.root.path("spool/purge")).is_empty());
    assert_eq!(ask(&node.root, &["dead-letter", "list"]).lines().count(), 1, "the header");
}

/// The process died when the package was durable and the dead letter still there.
#[test]
fn a_dead_letter_that_is_taken_up_twice_is_one_package() {
    for name in ["a.1700000000.data", "host.0.data", "notes"] {
        let node = node_with(&[name]);
        let file = file_of(&node.root, name);
        flip(&file);
        node.connect().get(&format!("RECV <{name}>")).expect_err("is damaged");
        let file_name = file.file_name().expect("a name");
        let dead = node.root.path("spool/corrupt").join(file_name);
        let bytes = fs::read(&dead).expect("reads");
        ask(&node.root, &["dead-letter", "requeue", "--all"]);
        node.logs("requeued=1");
        let root = node.kill();
        fs::write(root.path("spool/requeue").join(file_name), &bytes).expect("writes");
        let node = root.start();
        let line = node.logs("took up dead letters");
        assert!(line.contains("requeued=0") && line.contains("repeats=1"), "{name}: {line}");
        let mut puller = node.connect();
        assert_eq!(puller.get(&format!("MV <{name}>")), Ok(bytes), "{name}");
        assert_eq!(puller.get("LS <.>"), Ok(Vec::new()), "{name}");
    }
}

#[test]
fn what_waits_for_room_is_seen_said_once_and_can_be_purged() {
    let node = Node::start("insecure = true\n[spool]\nmax_files = 1\nagent_max_files = 1\n");
    assert_eq!(node.connect().send("a.5.data", b"a.5.data"), "SEND OK");
    let file = file_of(&node.root, "a.5.data");
    flip(&file);
    node.connect().get("RECV <a.5.data>").expect_err("is damaged");
    assert_eq!(node.connect().send("b.5.data", b"b.5.data"), "SEND OK");
    let dead = file.file_name().expect("a name").to_str().expect("printable");
    ask(&node.root, &["dead-letter", "requeue", dead]);
    let line = node.logs("dead letters have to wait");
    assert!(
        line.contains("waiting=1") && line.contains(dead) && line.contains("limit of 1 packages"),
        "{line}"
    );
    let listed = ask(&node.root, &["dead-letter", "list"]);
    assert!(listed.contains(&format!("{dead}  requeued ")), "{listed}");
    let shown = ask(&node.root, &["dead-letter", "show", dead]);
    assert!(shown.contains("spool/requeue/"), "{shown}");
    ask(&node.root, &["dead-letter", "purge", dead]);
    let line = node.logs("took up dead letters");
    assert!(line.contains("purged=1"), "{line}");
    assert_eq!(ask(&node.root, &["dead-letter", "list"]).lines().count(), 1, "the header");
    assert_eq!(node.connect().get("LS <.>"), Ok(b"b.5.data".to_vec()));
}

/// When the node does not start any more, one wants to see what it holds.
#[test]
fn looking_needs_nothing_of_the_configuration_but_the_directory() {
    let node = node_with(&["a.5.data"]);
    flip(&file_of(&node.root, "a.5.data"));
    node.connect().get("RECV <a.5.data>").expect_err("is damaged");
    let root = node.kill();
    let text = fs::read_to_string(&root.config).expect("reads");
    fs::write(&root.config, format!("ssl_cert = \"/nowhere.crt\"\nprot = 1\n{text}")).expect("writes");
    assert!(operator(&root, &["validate"]).expect_err("is wrong").contains("ssl_key"));
    assert_eq!(ask(&root, &["losses"]).lines().count(), 2);
    assert_eq!(ask(&root, &["dead-letter", "list"]).lines().count(), 2);
    operator(&root, &["dead-letter", "purge", "--all"]).expect_err("changes something");

    fs::remove_dir_all(root.path("spool")).expect("removes");
    for words in [["losses"].as_slice(), &["dead-letter", "list"]] {
        let words = operator(&root, words).expect_err("nothing to look at");
        assert!(words.contains("no spool at"), "{words}");
    }
}
