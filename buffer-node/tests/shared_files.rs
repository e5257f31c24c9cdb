//! Shared files over the wire: kept by name, protected, served to everybody.

mod support;

use std::fs;
use std::os::unix::fs::symlink;

use support::Node;

#[test]
fn a_shared_file_comes_back_and_never_enters_the_spool() {
    let node = Node::start("");
    let mut client = node.connect();
    assert_eq!(client.get("RECV <a.md5>"), Err("RECV ERR (file does not exist)".into()));
    assert_eq!(client.send("a.conf", b"configuration"), "SEND OK");
    assert_eq!(client.send("a.md5", b"digest"), "SEND OK");
    assert_eq!(client.get("RECV <a.conf>"), Ok(b"configuration".to_vec()));
    assert_eq!(client.get("RECV <a.md5>"), Ok(b"digest".to_vec()));
    assert_eq!(client.ask("RECV <../a.conf>"), "RECV ERR (file has an invalid file name)");
    assert!(node.root.ready().is_empty());
    assert_eq!(fs::read(node.root.path("conf/a.conf")).expect("is there"), b"configuration");
}

#[test]
fn an_agent_cannot_clobber_what_an_operator_edited() {
    let node = Node::start("");
    let mut client = node.connect();
    assert_eq!(client.send("a.conf", b"as the agent has it"), "SEND OK");
    fs::write(node.root.path("conf/a.conf"), "as the operator wants").expect("edits");
    assert_eq!(client.send("a.conf", b"as the agent has it"), "SEND ERR (file already exists)");
    assert_eq!(client.send("a.conf", b"as the operator_wants"), "SEND ERR (file already exists)");
    assert_eq!(client.send("a.conf", b"as the operator wants"), "SEND OK");
    assert_eq!(client.get("RECV <a.conf>"), Ok(b"as the operator wants".to_vec()));
    assert_eq!(client.ask("SEND <a.conf> SIZE 3"), "SEND ERR (file already exists)", "known from the size");
}

#[test]
fn overwrite_replaces() {
    let node = Node::start("overwrite = true\n");
    let mut client = node.connect();
    assert_eq!(client.send("a.conf", b"one"), "SEND OK");
    assert_eq!(client.send("a.conf", b"another"), "SEND OK");
    assert_eq!(client.get("RECV <a.conf>"), Ok(b"another".to_vec()));
    assert_eq!(node.root.unfinished(), 0);
}

#[test]
fn a_compressed_answer_holds_the_file() {
    let node = Node::start("");
    let mut client = node.connect();
    let content = b"a line that repeats itself\n".repeat(5000);
    assert_eq!(client.send("c.zip", &content), "SEND OK");
    let packed = client.get("ZRECV <c.zip>").expect("an archive");
    assert!(packed.len() < content.len());
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(packed)).expect("a ZIP archive");
    assert_eq!(archive.len(), 1);
    let mut unpacked = Vec::new();
    let mut entry = archive.by_index(0).expect("an entry");
    std::io::copy(&mut entry, &mut unpacked).expect("inflates");
    assert_eq!(unpacked, content);
    assert_eq!(client.ask("ZRECV <d.zip>"), "ZRECV ERR (file does not exist)");
    assert_eq!(node.root.unfinished(), 0, "the archive is gone once it was read");
}

#[test]
fn compressed_answers_that_nobody_reads_lock_nobody_out() {
    let node = Node::start("[spool]\nmax_files = 1\n");
    fs::write(node.root.path("conf/a.conf"), "shared").expect("writes");
    let mut unread: Vec<_> = (0..32).map(|_| node.connect()).collect();
    for client in &mut unread {
        assert!(client.ask("ZRECV <a.conf>").starts_with("ZRECV SIZE "));
    }
    let mut client = node.connect();
    assert_eq!(client.ask("ZRECV <a.conf>"), "ZRECV ERR", "neither room nor a false `does not exist`");
    assert_eq!(client.get("RECV <a.conf>"), Ok(b"shared".to_vec()));
    assert_eq!(client.send("a.5.data", b"x"), "SEND OK", "the answers take no room in the spool");
    assert_eq!(unread[0].say("ZRECV NO\n").ask("RECV <b.conf>"), "RECV ERR (file does not exist)");
    client.get("ZRECV <a.conf>").expect("room again, though the spool is full");
}

#[test]
fn a_large_file_is_streamed_and_one_that_is_declined_does_not_end_the_session() {
    let node = Node::start("max_size = \"20MB\"\n");
    let content: Vec<u8> = (0..5_000_000u32).map(|n| (n % 253) as u8).collect();
    let mut client = node.connect();
    assert_eq!(client.send("c.zip", &content), "SEND OK");
    assert_eq!(client.ask("RECV <c.zip>"), "RECV SIZE 5000000");
    client.say("RECV NO\n");
    assert_eq!(client.get("RECV <c.zip>"), Ok(content));
}

#[test]
fn links_are_not_followed() {
    let node = Node::start("overwrite = true\n");
    symlink("/etc/hostname", node.root.path("conf/a.conf")).expect("links");
    let mut client = node.connect();
    assert_eq!(client.get("RECV <a.conf>"), Err("RECV ERR (file does not exist)".into()));
    assert_eq!(client.send("a.conf", b"x"), "SEND ERR (file already exists)");
    assert!(fs::symlink_metadata(node.root.path("conf/a.conf")).expect("is there").is_symlink());
}

#[test]
fn data_that_a_filter_takes_for_a_shared_file_is_pointed_out() {
    let node = Node::start("");
    assert_eq!(node.connect().send("host.conf.internal.5.data", b"data"), "SEND OK");
    assert!(node.root.ready().is_empty());
    let line = node.logs("will not reach the pipeline");
    assert!(line.contains("name=host.conf.internal.5.data"), "{line}");
}

#[test]
fn their_room_ends_too() {
    let node = Node::start("[shared]\nmax_files = 1\n");
    let mut client = node.connect();
    assert_eq!(client.send("a.conf", b"x"), "SEND OK");
    assert_eq!(client.send("b.conf", b"x"), "SEND ERR (storage full)");
    assert_eq!(client.send("b.5.data", b"x"), "SEND OK", "packages have their own room");
    node.logs("raise `shared.max_files`");
}

#[test]
fn they_are_listed_to_a_puller_but_never_moved() {
    let node = Node::start("insecure = true\n");
    let mut client = node.connect();
    assert_eq!(client.send("b.conf", b"x"), "SEND OK");
    assert_eq!(client.send("a.conf", b"x"), "SEND OK");
    assert_eq!(client.get("LS <x.conf>"), Ok(b"a.conf\nb.conf".to_vec()));
    assert_eq!(client.get("LS <.>"), Ok(Vec::new()));
    assert_eq!(client.ask("MV <a.conf>"), "MV ERR");
    assert_eq!(client.get("RECV <a.conf>"), Ok(b"x".to_vec()));
}
