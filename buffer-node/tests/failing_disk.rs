//! The disk fails. When it does not write what it was given, the node refuses, ends, and believes nothing at its next
//! start; when it does not read a package, that one is set aside. The fault is made by `strace`, whose counts are a thread's own: the first fsync of `ready/` in a thread is the start's, or the
//! first commit's.

mod support;

use std::fs;
use std::process::{Command, Output};

use support::{BINARY, Root};

const CONFIG: &str = "insecure = true\n[spool]\nsync_threads = 1\n";

/// A node whose n-th fsync of `ready/`, in each thread, fails. Not the tracer but the node is the child.
fn faulty(root: &Root, nth: u32) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-D", "-f", "-q", "-o", "/dev/null", "-e", "trace=fsync", "-P"]);
    strace.arg(root.path("spool/ready")).arg("-e").arg(format!("inject=fsync:error=EIO:when={nth}"));
    strace.arg(BINARY);
    strace
}

#[test]
fn a_failed_fsync_ends_the_node_and_the_next_start_verifies_everything() {
    let root = Root::new(CONFIG);
    let strace = faulty(&root, 2);
    let mut node = root.start_by(strace);
    let mut client = node.connect();
    assert_eq!(client.send("a.1700000000.data", b"first"), "SEND OK");
    assert_eq!(client.send("b.1700000000.data", b"second"), "SEND ERR (storage full)");
    assert_eq!(node.wait().code(), Some(1));
    node.logs("the spool stores and deletes nothing more until it is opened again");
    let root = node.kill();
    assert_eq!(root.ready(), [("a.1700000000.data".into(), b"first".to_vec())], "not the refused one");
    let marker = fs::read_to_string(root.path("spool/failed")).expect("a marker");
    assert!(marker.starts_with("batch 0") && marker.contains("cannot fsync"), "{marker}");

    // What the disk made of an earlier package shows now.
    let file = fs::read_dir(root.path("spool/ready")).expect("lists").next().expect("one").expect("an entry");
    fs::write(file.path(), "fi").expect("writes");
    let node = root.start();
    node.logs("a write failed before this start");
    node.logs("a package did not survive a failed write");
    assert!(!node.root.path("spool/failed").exists(), "it is over");
    let mut client = node.connect();
    assert_eq!(client.get("LS <.>"), Ok(Vec::new()));
    let Output { stdout, .. } =
        Command::new(BINARY).args(["losses", "--config"]).arg(&node.root.config).output().expect("runs");
    assert!(String::from_utf8_lossy(&stdout).contains("corrupt"));
    assert!(node.root.path("spool/corrupt").join(file.file_name()).exists());
    assert_eq!(client.send("b.1700000000.data", b"second"), "SEND OK");
    assert_eq!(client.send("a.1700000000.data", b"first"), "SEND OK");
    assert_eq!(node.root.ready().len(), 2, "neither counts for a repeat");
}

#[test]
fn a_start_that_ends_in_a_failed_fsync_is_not_believed_by_the_next() {
    let node = Root::new(CONFIG).start();
    assert_eq!(node.connect().send("a.1700000000.data", b"first"), "SEND OK");
    let root = node.kill();
    let output = faulty(&root, 1).args(["run", "--config"]).arg(&root.config).output().expect("runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(root.path("spool/failed").exists());
    let node = root.start();
    let line = node.logs("every package was read once more after a failed write");
    assert!(line.contains("verified=1") && line.contains("damaged=0"), "{line}");
    assert!(!node.root.path("spool/failed").exists());
    assert_eq!(node.connect().get("MV <a.1700000000.data>"), Ok(b"first".to_vec()));
}

/// Somebody copied a package into the spool as another user. Nothing was lost, so nothing has to be verified.
#[test]
fn a_package_that_may_not_be_opened_is_named_and_no_failed_write() {
    let node = Root::new(CONFIG).start();
    assert_eq!(node.connect().send("a.1700000000.data", b"first"), "SEND OK");
    let root = node.kill();
    let mut files = fs::read_dir(root.path("spool/ready")).expect("lists");
    let file = files.next().expect("one").expect("an entry").path();
    let mut strace = Command::new("strace");
    strace.args(["-D", "-f", "-q", "-o", "/dev/null", "-e", "trace=openat", "-P"]).arg(&file);
    strace.args(["-e", "inject=openat:error=EACCES", BINARY, "run", "--config"]).arg(&root.config);
    let Output { status, stderr, .. } = strace.output().expect("runs");
    let words = String::from_utf8_lossy(&stderr);
    assert_eq!(status.code(), Some(77), "{words}");
    let path = file.display();
    assert!(
        words.contains(&format!("cannot open {path}")) && words.contains(&format!("`chown` {path}")),
        "{words}"
    );
    assert!(!root.path("spool/failed").exists());
    assert_eq!(root.start().connect().get("MV <a.1700000000.data>"), Ok(b"first".to_vec()));
}

#[test]
fn a_package_that_cannot_be_read_is_set_aside_and_blocks_nothing() {
    let node = Root::new(CONFIG).start();
    for name in ["a.1700000000.data", "b.1700000000.data"] {
        assert_eq!(node.connect().send(name, b"bytes"), "SEND OK");
    }
    let root = node.kill();
    let files = fs::read_dir(root.path("spool/ready")).expect("lists");
    let mut files: Vec<_> = files.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    let mut strace = Command::new("strace");
    strace.args(["-D", "-f", "-q", "-o", "/dev/null", "-e", "trace=read", "-P"]).arg(&files[0]);
    strace.args(["-e", "inject=read:error=EIO", BINARY]);
    let node = root.start_by(strace);
    let mut client = node.connect();
    assert_eq!(client.get("LS <.>"), Ok(b"a.1700000000.data\nb.1700000000.data".to_vec()));
    assert_eq!(client.get("RECV <a.1700000000.data>"), Err("RECV ERR (file does not exist)".into()));
    assert_eq!(client.get("MV <b.1700000000.data>"), Ok(b"bytes".to_vec()));
    assert_eq!(client.get("LS <.>"), Ok(Vec::new()));
    node.logs("its bytes cannot be read");
    let kept = node.root.path("spool/corrupt").join(files[0].file_name().expect("a name"));
    assert_eq!(fs::read(kept).expect("reads"), b"bytes", "nothing was removed");
}
