//! What a sender sees, and what lies in the spool afterwards.

mod support;

use support::{Node, Root, archive};

const NAME: &str = "web01.1700000000.data";

#[test]
fn the_final_ok_means_that_the_file_is_in_the_spool() {
    let node = Node::start("");
    let mut client = node.connect();
    assert_eq!(client.ask(format!("SEND <{NAME}> SIZE 5")), "SEND OK");
    assert!(node.root.ready().is_empty(), "nothing is visible before the body is whole");
    client.say("hel");
    assert!(node.root.ready().is_empty());
    assert_eq!(client.say("lo").line(), "SEND OK");
    assert_eq!(node.root.ready(), [(NAME.into(), b"hello".to_vec())]);
    assert_eq!(client.send("b.5.data", b"next on the same connection"), "SEND OK");
    client.say("QUIT\n");
    assert!(client.is_closed());
    assert_eq!(node.root.ready().len(), 2);
}

#[test]
fn a_repeat_is_answered_ok_and_stored_once() {
    let node = Node::start("");
    for _ in 0..3 {
        assert_eq!(node.connect().send(NAME, b"same"), "SEND OK");
    }
    assert_eq!(node.root.ready(), [(NAME.into(), b"same".to_vec())]);
}

#[test]
fn other_bytes_under_the_same_name_are_a_second_package() {
    let node = Node::start("");
    assert_eq!(node.connect().send("win.77.data", b"one"), "SEND OK");
    assert_eq!(node.connect().send("win.77.data", b"two"), "SEND OK");
    let ready = node.root.ready();
    assert_eq!(ready[0], ("win.77.data".into(), b"one".to_vec()));
    assert_eq!(ready[1].1, b"two");
    assert!(ready[1].0.starts_with("win.77") && ready[1].0.ends_with(".data"), "{}", ready[1].0);
    assert_ne!(ready[1].0, "win.77.data");
}

#[test]
fn an_upload_that_breaks_off_leaves_nothing() {
    let node = Node::start("");
    for sent in [0, 1, 99_999] {
        let mut client = node.connect();
        assert_eq!(client.ask("SEND <a.5.data> SIZE 100000"), "SEND OK");
        client.say(vec![b'x'; sent]).hang_up();
        assert!(client.is_closed());
    }
    node.logs("with 1 bytes of a body still to come");
    assert!(node.root.ready().is_empty());
    assert_eq!(node.root.unfinished(), 0);
}

#[test]
fn acknowledged_files_survive_a_kill_and_their_repeats_are_recognised() {
    let node = Node::start("");
    for number in 0..20 {
        let name = format!("h.17000000{number:02}.data");
        assert_eq!(node.connect().send(&name, name.as_bytes()), "SEND OK");
    }
    let mut half = node.connect();
    assert_eq!(half.ask("SEND <half.5.data> SIZE 200000"), "SEND OK");
    half.say(vec![b'x'; 150_000]);
    let before = node.root.ready();
    let node = node.kill_and_restart();
    assert_eq!(node.root.ready(), before);
    assert_eq!(node.root.unfinished(), 0);
    assert_eq!(node.connect().send("h.1700000007.data", b"h.1700000007.data"), "SEND OK");
    assert_eq!(node.root.ready(), before);
}

#[test]
fn large_bodies_go_to_disk_early_and_arrive_whole() {
    let body: Vec<u8> = (0..1_900_000u32).map(|n| (n % 251) as u8).collect();
    for memory in ["", "[limits]\nbuffered_bytes = 0\n"] {
        let node = Node::start(memory);
        assert_eq!(node.connect().send(NAME, &body), "SEND OK");
        assert_eq!(node.connect().send("s.5.data", b"a small one"), "SEND OK");
        assert_eq!(
            node.root.ready(),
            [(NAME.into(), body.clone()), ("s.5.data".into(), b"a small one".to_vec())]
        );
        assert_eq!(node.root.unfinished(), 0);
    }
}

#[test]
fn refusals_use_the_protocols_words_and_the_session_goes_on() {
    let node = Node::start("");
    let mut client = node.connect();
    let long = "x".repeat(201);
    for name in ["", ".", "..", "a/b", "../x", "a\\b", "a;b", "a\tb", " a", "a ", "a?", &long] {
        assert_eq!(client.send(name, b"x"), "SEND ERR (invalid file name)", "{name:?}");
    }
    assert_eq!(client.ask("SEND <a.data> SIZE 2000001"), "SEND ERR (file is too big)");
    assert_eq!(client.ask("ZSEND <a.data> SIZE 2000001"), "ZSEND ERR (file is too big)");
    assert_eq!(client.ask("SEND <a.data> SIZE 0"), "SEND ERR (file is too big)");
    assert_eq!(client.send(NAME, b"x"), "SEND OK");
    assert!(client.say("HELO\n").is_closed());
    assert_eq!(node.root.ready().len(), 1);
}

#[test]
fn a_name_that_is_no_text_is_kept_byte_for_byte_and_escaped_in_the_log() {
    let node = Node::start("");
    let mut client = node.connect();
    assert_eq!(client.say(b"SEND <caf\xe9.5.data> SIZE 1\n").line(), "SEND OK");
    assert_eq!(client.say("x").line(), "SEND OK");
    node.logs("name=caf\\xe9.5.data");
}

#[test]
fn a_full_spool_says_so_before_the_body() {
    for (limit, words) in
        [("max_files = 1", "limit of 1 packages"), ("max_bytes = 2000000\nreserve = \"900TB\"", "reserve of")]
    {
        let node = Node::start(&format!("[spool]\n{limit}\n"));
        let mut client = node.connect();
        if limit.starts_with("max_files") {
            assert_eq!(client.send(NAME, b"fits"), "SEND OK");
        }
        assert_eq!(client.send("b.5.data", b"does not fit"), "SEND ERR (storage full)");
        node.logs(words);
        assert_eq!(client.send("x.conf", b"nor does this"), "SEND ERR (storage full)");
    }
}

#[test]
fn an_archive_is_unpacked_and_its_entrys_name_ignored() {
    let node = Node::start("");
    let mut client = node.connect();
    assert_eq!(client.offer("ZSEND", NAME, &archive(&[("../../evil", b"content")])), "ZSEND OK");
    assert_eq!(client.offer("ZSEND", "x.conf", &archive(&[("whatever", b"conf")])), "ZSEND OK");
    assert_eq!(node.root.ready(), [(NAME.into(), b"content".to_vec())]);
    assert_eq!(std::fs::read(node.root.path("conf/x.conf")).expect("is there"), b"conf");
    assert_eq!(client.send(NAME, b"content"), "SEND OK", "a repeat, however it was packed");
    assert_eq!(node.root.ready().len(), 1);
}

#[test]
fn bad_archives_get_a_bare_refusal_and_leave_nothing() {
    let bomb = archive(&[("bomb", &vec![0; 200_000_000])]);
    assert!(bomb.len() < 1_000_000, "the bomb itself is small");
    let mut lying = archive(&[("bomb", &vec![0; 3_000_000])]);
    let directory = lying.windows(4).rposition(|at| at == b"PK\x01\x02").expect("a directory");
    for header in [22, directory + 24] {
        lying[header..header + 4].copy_from_slice(&1000u32.to_le_bytes());
    }
    let mut truncated = archive(&[("a", b"content")]);
    truncated.truncate(truncated.len() - 10);
    let node = Node::start("");
    let mut client = node.connect();
    for (bad, what) in [
        (&bomb, "a bomb"),
        (&lying, "a bomb that declares little"),
        (&archive(&[("a", b"1"), ("b", b"2")]), "two entries"),
        (&archive(&[]), "no entry"),
        (&archive(&[("a", b"")]), "an empty entry"),
        (&truncated, "a truncated archive"),
        (&b"no archive at all".to_vec(), "garbage"),
    ] {
        assert_eq!(client.offer("ZSEND", NAME, bad), "ZSEND ERR", "{what}");
    }
    assert!(node.root.ready().is_empty());
    assert_eq!(node.root.unfinished(), 0);
    assert_eq!(client.send(NAME, b"the session goes on"), "SEND OK");
}

#[test]
fn many_senders_at_once_are_all_stored() {
    let node = Node::start("");
    std::thread::scope(|scope| {
        for sender in 0..50 {
            let node = &node;
            scope.spawn(move || {
                for number in 0..4 {
                    let name = format!("s{sender}.{}.data", 1_700_000_000 + number);
                    assert_eq!(node.connect().send(&name, name.as_bytes()), "SEND OK");
                }
            });
        }
    });
    let ready = node.root.ready();
    assert_eq!(ready.len(), 200);
    assert!(ready.iter().all(|(name, bytes)| name.as_bytes() == bytes));
}

#[test]
fn what_an_operator_left_in_the_spool_is_set_aside_and_named() {
    let root = Root::new("");
    std::fs::create_dir_all(root.path("spool/ready")).expect("makes");
    std::fs::write(root.path("spool/ready/notes.txt"), "mine").expect("writes");
    let node = root.start();
    node.logs("not a package");
    assert!(node.root.ready().is_empty());
}

#[test]
fn offers_that_never_send_their_bodies_do_not_fill_the_spool() {
    let node = Node::start("[spool]\nmax_bytes = \"4MB\"\n");
    let mut promising: Vec<_> = (0..30).map(|_| node.connect()).collect();
    for (number, client) in promising.iter_mut().enumerate() {
        assert_eq!(client.ask(format!("SEND <p.{number}.data> SIZE 1900000")), "SEND OK");
    }
    assert_eq!(node.connect().send(NAME, b"honest"), "SEND OK");
    let body = vec![b'x'; 1_900_000];
    let answers: Vec<String> = promising.iter_mut().take(4).map(|client| client.say(&body).line()).collect();
    assert!(answers.contains(&"SEND OK".to_owned()), "{answers:?}");
    assert_eq!(answers.last().map(String::as_str), Some("SEND ERR (storage full)"), "{answers:?}");
    assert_eq!(promising[3].send("x.conf", b"the session goes on"), "SEND OK");
}
