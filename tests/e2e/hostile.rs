//! Hostile input: a list of named conversations, every verb with every kind of bad name, archives that lie, and a
//! thousand mutations from a seed. Never a panic (the process guard looks), a hang (every read has an end), a stray file
//! or a false `OK`; and memory stays bounded.
//!
//! `TIDEGATE_SEED=n` repeats the mutations, `TIDEGATE_RUNS=n` makes more or fewer of them.

mod archives;
mod mutations;

use std::collections::BTreeMap;
use std::sync::Mutex;

use tidegate_tests::certificates::Authority;
use tidegate_tests::node::Node;
use tidegate_tests::oracle::digest;
use tidegate_tests::seed::{Seed, runs};
use tidegate_tests::sender::Sender;
use tidegate_tests::transcript;

use mutations::{called_stored, could_be_stored, mutation};

/// The most memory a node may ever have had, after all this: its limits say that uploads under way buffer 64 MiB.
const MEMORY_KIB: u64 = 96 * 1024;

/// How many mutations are played at once.
const BESIDE_EACH_OTHER: usize = 8;

/// What is stored, by name: packages under the name they are listed by, shared files under theirs.
fn stored(node: &Node) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut found = BTreeMap::new();
    for path in node.files() {
        let bytes = std::fs::read(node.storage().join(&path)).expect("the storage is ours");
        let file = std::os::unix::ffi::OsStrExt::as_bytes(path.file_name().expect("a file")).to_vec();
        let name = match path.starts_with("spool/ready") {
            // run, counter, digest, name
            true => file.splitn(4, |byte| *byte == b'-').nth(3).expect("a package's file name").to_vec(),
            false => file,
        };
        found.insert(name, bytes);
    }
    found
}

fn healthy(node: &mut Node) {
    let mut sender = Sender::connect(node.address()).expect("the node still listens");
    assert_eq!(sender.ask("RECV <nothing.conf>").expect("an answer"), "RECV ERR (file does not exist)");
    let peak = node.process().peak_memory_kib();
    assert!(peak < MEMORY_KIB, "the node had {peak} KiB of memory");
}

#[test]
fn conversations_go_as_written_and_store_only_what_they_may() {
    let cases = transcript::parse(include_str!("../hostile/conversations.txt"));
    let authority = Authority::new();
    let mut node = Node::start(&authority, "");
    let address = node.address();
    std::thread::scope(|scope| {
        for case in &cases {
            scope.spawn(move || case.play(address).unwrap_or_else(|wrong| panic!("{wrong}")));
        }
    });
    let expected: BTreeMap<Vec<u8>, Vec<u8>> = cases.into_iter().flat_map(|case| case.stored).collect();
    let stored = stored(&node);
    let names = |map: &BTreeMap<Vec<u8>, Vec<u8>>| -> Vec<String> {
        map.keys().map(|name| name.escape_ascii().to_string()).collect()
    };
    assert_eq!(names(&stored), names(&expected));
    assert_eq!(stored, expected);
    healthy(&mut node);
}

/// Names that no file may have.
fn bad_names() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = [
        "",
        ".",
        "..",
        "../x.1.data",
        "/etc/passwd",
        "a/../../x.1.data",
        " lead.1.data",
        "trail.1.data ",
        " ",
    ]
    .iter()
    .map(|name| name.as_bytes().to_vec())
    .collect();
    names.extend(b"?[]/\\=+<>:;',*~".iter().map(|byte| [b"a", &[*byte][..], b"b.1.data"].concat()));
    // Every control byte but the newline, which ends the command.
    let control = (0..32).chain([127]).filter(|byte| *byte != b'\n');
    names.extend(control.map(|byte| [b"a", &[byte][..], b"b.1.data"].concat()));
    names.push([vec![b'n'; 194], b".1.data".to_vec()].concat());
    names.push([vec![b'n'; 900], b".1.data".to_vec()].concat());
    names
}

#[test]
fn every_verb_refuses_every_bad_name_before_any_ok() {
    let authority = Authority::new();
    // The insecure option opens LS and MV, so that their names are looked at too.
    for settings in ["", "insecure = true"] {
        let mut node = Node::start(&authority, settings);
        for name in bad_names() {
            let shown = name.escape_ascii().to_string();
            let mut sender = Sender::connect(node.address()).expect("the node listens");
            let mut ask = |before: &str, after: &str| {
                let command = [before.as_bytes(), &name, after.as_bytes()].concat();
                sender.say(&command).expect("the session is open");
                sender.line().unwrap_or_else(|error| panic!("{before}{shown}: {error}"))
            };
            let listed = name.len() <= 210 && name.starts_with(b"nnn");
            for verb in ["SEND", "ZSEND"] {
                let refusal = format!("{verb} ERR (invalid file name)");
                assert_eq!(ask(&format!("{verb} <"), "> SIZE 3\n"), Some(refusal), "{shown}");
            }
            for verb in ["RECV", "ZRECV"] {
                // A listed name may be a little longer than a sender's: it is good, and not there.
                let reason = if listed { "file does not exist" } else { "file has an invalid file name" };
                assert_eq!(
                    ask(&format!("{verb} <"), ">\n"),
                    Some(format!("{verb} ERR ({reason})")),
                    "{shown}"
                );
            }
            assert_eq!(ask("MV <", ">\n").as_deref(), Some("MV ERR"), "{shown}");
        }
        assert!(node.files().is_empty(), "{:?}", node.files());
        healthy(&mut node);
    }
}

#[test]
fn archives_are_taken_only_when_they_hold_exactly_one_honest_file() {
    let authority = Authority::new();
    let mut node = Node::start(&authority, "");
    let mut expected = BTreeMap::new();
    for (index, archive) in archives::all().into_iter().enumerate() {
        let name = format!("zip{index}.1.data");
        let mut sender = Sender::connect(node.address()).expect("the node listens");
        let reply = sender.offer("ZSEND", &name, &archive.bytes).expect("an answer");
        match archive.content {
            Some(content) => {
                assert_eq!(reply, "ZSEND OK", "{}", archive.what);
                expected.insert(name.into_bytes(), content);
            }
            None => assert!(reply.starts_with("ZSEND ERR"), "{}: {reply}", archive.what),
        }
        assert_eq!(
            sender.ask("RECV <x.conf>").expect("the session goes on"),
            "RECV ERR (file does not exist)"
        );
    }
    assert!(stored(&node) == expected, "stored: {:?}", node.files());
    healthy(&mut node);
}

/// Says it in random pieces, ends, and gives everything that was answered.
fn play(node: &Node, bytes: &[u8], seed: &mut Seed) -> Vec<u8> {
    let mut sender = Sender::connect(node.address()).expect("the node listens");
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.len().min(1 + seed.below(200) as usize));
        // The node may have closed already, and then says so in what is read below.
        if sender.say(piece).is_err() {
            break;
        }
        rest = after;
    }
    let _ = sender.finish();
    sender
        .rest()
        .unwrap_or_else(|error| panic!("no end after {:?}: {error}", bytes.escape_ascii().to_string()))
}

#[test]
fn a_thousand_mutations_leave_no_stray_file_and_hear_no_false_ok() {
    let seed = Seed::from_environment();
    let authority = Authority::new();
    let mut node = Node::start(&authority, "");
    let plays: Mutex<Vec<(Vec<u8>, Vec<u8>)>> = Mutex::default();
    let runs = runs(1000);
    std::thread::scope(|scope| {
        for lane in 0..BESIDE_EACH_OTHER as u64 {
            let (seed, node, plays, runs) = (&seed, &node, &plays, runs.clone());
            scope.spawn(move || {
                for run in runs.filter(|run| run % BESIDE_EACH_OTHER as u64 == lane) {
                    let mut seed = seed.run(run);
                    let bytes = mutation(&format!("h{run:04}"), &mut seed);
                    let replies = play(node, &bytes, &mut seed);
                    plays.lock().expect("no holder panics").push((bytes, replies));
                }
            });
        }
    });
    let stored = stored(&node);
    let plays = plays.into_inner().expect("no holder panicked");
    let mut allowed = std::collections::HashSet::new();
    for (bytes, replies) in &plays {
        let shown = || bytes.escape_ascii().to_string();
        let candidates = could_be_stored(bytes);
        let there =
            candidates.iter().filter(|(_, body)| stored.values().any(|content| content == body)).count();
        let called = called_stored(replies);
        assert!(called <= there, "a false OK: {called} called stored, {there} are: {}", shown());
        allowed.extend(candidates.iter().map(|(_, body)| digest(body)));
    }
    for (name, content) in &stored {
        assert!(allowed.contains(&digest(content)), "a stray file: {}", name.escape_ascii());
        let escapes = name.iter().any(|byte| b"/\\<>".contains(byte) || byte.is_ascii_control());
        assert!(!escapes, "a stray name: {}", name.escape_ascii());
    }
    healthy(&mut node);
}

#[test]
fn silence_at_any_point_ends_a_connection() {
    let authority = Authority::new();
    let limits = "[limits]\nhandshake = \"1s\"\nidle = \"1s\"\nbody_rate = 100\nbody_window = \"1s\"\n";
    let mut node = Node::start(&authority, limits);
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    let beginnings: [&[u8]; 6] = [
        b"",
        b"SEND <half",
        b"SEND <silent.1.data> SIZE 2000\n",
        b"SEND <silent.2.data> SIZE 2000\nnot all of it",
        b"\x16",
        hello,
    ];
    std::thread::scope(|scope| {
        for beginning in beginnings {
            let address = node.address();
            scope.spawn(move || {
                let mut sender = Sender::connect(address).expect("the node listens");
                sender.say(beginning).expect("the node listens");
                sender.rest().unwrap_or_else(|error| panic!("no end after {beginning:?}: {error}"));
            });
        }
    });
    assert!(node.files().is_empty(), "{:?}", node.files());
    healthy(&mut node);
}
