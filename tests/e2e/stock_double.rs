//! The double is held to what a real stock server does. With `TIDEGATE_STOCK_SERVER` set, the real one is, to show that
//! these tests tell the truth.

use std::collections::BTreeSet;
use std::net::TcpStream;
use std::time::Duration;

use tidegate_tests::certificates::{Authority, Pair};
use tidegate_tests::client::Client;
use tidegate_tests::sender::Sender;
use tidegate_tests::stock::{INSTALLED_FILTERS, PASTED_FILTERS, Stock, readable, rewrite};
use tidegate_tests::{address, transcript, until};

#[test]
fn conversations_go_as_written() {
    let cases = transcript::parse(include_str!("../stock_server/transcripts.txt"));
    std::thread::scope(|scope| {
        for case in &cases {
            scope.spawn(move || {
                let stock = Stock::start(&["-I", "-i", INSTALLED_FILTERS]);
                case.play(stock.address()).unwrap_or_else(|wrong| panic!("{wrong}"));
                let mut stored = BTreeSet::new();
                for (name, bytes) in &case.stored {
                    let name = String::from_utf8_lossy(name).into_owned();
                    let found = std::fs::read(stock.storage().join(&name));
                    assert_eq!(found.ok().as_ref(), Some(bytes), "{}: {name}", case.name);
                    stored.insert(name);
                }
                let strays: Vec<_> = stock.files().difference(&stored).cloned().collect();
                assert!(strays.is_empty(), "{}: stray {strays:?}", case.name);
            });
        }
    });
}

#[test]
fn a_password_is_the_md5_of_the_raw_md5_and_comes_first() {
    let stock = Stock::start(&["-x", "secret"]);
    let mut sender = Sender::connect(stock.address()).expect("it listens");
    assert_eq!(
        sender.ask("PASS 2c2f5a6a06a5a4c1a9bd8aa1b7f0f2f3").ok(),
        None,
        "a wrong one ends the session"
    );
    let mut sender = Sender::connect(stock.address()).expect("it listens");
    assert_eq!(sender.ask("SEND <a.1.data> SIZE 1").ok(), None, "none ends the session");
    let mut sender = Sender::connect(stock.address()).expect("it listens");
    assert_eq!(sender.ask(&format!("PASS {SECRET_DIGEST}")).expect("an answer"), "PASS OK");
    assert_eq!(sender.send("a.1.data", b"x").expect("an answer"), "SEND OK");
}

/// Of the password `secret`: `printf secret | md5sum | xxd -r -p | md5sum`.
const SECRET_DIGEST: &str = "9e769017c85f064977fe6a658f207fa6";

#[test]
fn listing_and_moving_need_the_insecure_option() {
    let stock = Stock::start::<&str>(&[]);
    stock.put("a.1.data", b"x");
    for command in ["LS <.>", "MV <a.1.data>"] {
        let mut sender = Sender::connect(stock.address()).expect("it listens");
        assert_eq!(sender.ask(command).ok(), None, "{command} ends the session without a word");
    }
    assert_eq!(stock.files().len(), 1);
}

#[test]
fn a_listing_holds_everything_of_the_directory_that_the_filters_give() {
    let stock = Stock::start(&["-I", "-i", INSTALLED_FILTERS]);
    for name in ["a.1.data", ".hidden", "b.2.data", "refused~name", "conf/x.conf"] {
        stock.put(name, b"x");
    }
    let list = |filter: &str| -> BTreeSet<String> {
        let mut sender = Sender::connect(stock.address()).expect("it listens");
        let listing = sender.fetch("LS", filter).expect("an answer").expect("a listing");
        String::from_utf8(listing).expect("names").lines().map(str::to_owned).collect()
    };
    let all =
        [".", "..", ".hidden", "a.1.data", "b.2.data", "collections", "commands", "conf", "md5", "trans"];
    assert_eq!(list(".data"), BTreeSet::from(all.map(str::to_owned)));
    assert_eq!(list("."), list(".data"));
    assert_eq!(list("any.conf"), BTreeSet::from([".", "..", "x.conf"].map(str::to_owned)));
}

#[test]
fn the_pasted_filters_leave_conf_and_zip_in_the_root() {
    let stock = Stock::start(&["-I", "-o", &format!("-i{PASTED_FILTERS}")]);
    let mut sender = Sender::connect(stock.address()).expect("it listens");
    for name in ["a.conf", "a.zip", "a.md5"] {
        assert_eq!(sender.send(name, b"x").expect("an answer"), "SEND OK");
    }
    assert_eq!(stock.files(), BTreeSet::from(["a.conf", "a.zip"].map(str::to_owned)));
    assert!(stock.storage().join("md5/a.md5").is_file());
}

#[test]
fn overwriting_truncates_in_place() {
    let stock = Stock::start(&["-I", "-o"]);
    let path = stock.put("a.1.data", b"long before");
    let watched = std::fs::File::open(&path).expect("just written");
    let mut sender = Sender::connect(stock.address()).expect("it listens");
    assert_eq!(sender.send("a.1.data", b"new").expect("an answer"), "SEND OK");
    assert_eq!(watched.metadata().expect("still open").len(), 3, "the same file, not a new one");
}

#[test]
fn a_move_sends_what_the_file_holds_after_the_ok() {
    for now in [&b"longer than announced"[..], b"short"] {
        let stock = Stock::start(&["-I"]);
        let path = stock.put("a.1.data", b"announced");
        let mut sender = Sender::connect(stock.address()).expect("it listens");
        assert_eq!(sender.ask("MV <a.1.data>").expect("an answer"), "MV SIZE 9");
        rewrite(&path, now);
        sender.say("MV OK\n").expect("it listens");
        assert_eq!(sender.body(now.len()).expect("bytes"), now);
        until::holds("the file is gone", || !path.exists());
        assert_eq!(sender.ask("RECV <a.1.data>").expect("an answer"), "RECV ERR (file does not exist)");
    }
}

#[test]
fn fetching_an_empty_file_ends_the_session() {
    let stock = Stock::start(&["-I"]);
    stock.put("a.1.data", b"");
    let mut sender = Sender::connect(stock.address()).expect("it listens");
    assert_eq!(sender.ask("RECV <a.1.data>").expect("an answer"), "RECV SIZE 0");
    sender.say("RECV OK\n").expect("it listens");
    assert_eq!(sender.rest().expect("an end"), b"");
}

#[test]
fn the_client_after_the_last_slot_waits() {
    let stock = Stock::start(&["-I", "-c", "2", "-t", "5"]);
    stock.put("a.1.data", b"x");
    let mut busy: Vec<Sender> = Vec::new();
    for _ in 0..2 {
        let mut sender = Sender::connect(stock.address()).expect("it listens");
        sender.ask("RECV <gone>").expect("an answer");
        busy.push(sender);
    }
    let mut next = Sender::connect(stock.address()).expect("the kernel takes it");
    next.say("RECV <a.1.data>\n").expect("the kernel takes it");
    next.patience(Duration::from_secs(1)).expect("a socket option");
    assert!(next.body(1).is_err(), "no answer while the slots are busy");
    busy.pop();
    next.patience(until::PATIENCE).expect("a socket option");
    assert_eq!(next.line().expect("an answer").as_deref(), Some("RECV SIZE 1"));
}

#[test]
fn with_an_authority_a_client_certificate_is_mandatory() {
    let authority = Authority::new();
    let address = address::unused();
    let pair = authority.node("stock", &[address]);
    let stock = Stock::start(&[
        "-I",
        "-e",
        &readable(&pair.certificate),
        "-k",
        &readable(&pair.key),
        "-f",
        &readable(&authority.certificate()),
    ]);
    let client = authority.server("central-1");
    assert!(lists(&stock, Some(&client)), "with a certificate");
    assert!(!lists(&stock, None), "without one");
    assert!(!lists(&stock, Some(&Authority::new().server("central-1"))), "with one of another authority");
}

#[test]
fn without_an_authority_any_client_certificate_ends_the_handshake() {
    let authority = Authority::new();
    let pair = authority.node("stock", &[address::unused()]);
    let stock = Stock::start(&["-I", "-e", &readable(&pair.certificate), "-k", &readable(&pair.key)]);
    assert!(lists(&stock, None), "without a certificate");
    assert!(!lists(&stock, Some(&authority.server("central-1"))), "with one");
}

/// Whether a client with this certificate gets a listing. It offers ALPN, and a stock server must ignore that.
fn lists(stock: &Stock, certificate: Option<&Pair>) -> bool {
    Sender::connect_tls(stock.address(), certificate, &[b"tentacle"])
        .and_then(|mut sender| sender.fetch("LS", "."))
        .is_ok_and(|listing| listing.is_ok())
}

#[test]
fn four_waits_of_a_second_are_its_patience() {
    let stock = Stock::start(&["-t", "1", "-r", "1"]);
    let mut silent = TcpStream::connect(stock.address()).expect("it listens");
    // Two waits of a second each here; only the end is asserted, not the moment.
    assert_eq!(std::io::Read::read(&mut silent, &mut [0]).expect("an end, not an error"), 0);
}

#[test]
fn the_real_client_finds_in_it_what_it_knows() {
    let stock = Stock::start(&["-x", "secret", "-i", INSTALLED_FILTERS]);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(directory.path().join(name), bytes).expect("the directory is ours");
    };
    let client = |arguments: &[&str]| Client::Real.run(directory.path(), None, stock.address(), arguments);
    write("a.1.data", b"abc");
    write("b.2.data", b"def");
    write("c~d.3.data", b"ghi");
    write("empty.4.data", b"");
    assert_eq!(client(&["-x", "wrong", "a.1.data"]).code, Some(1));
    client(&["-x", "secret", "a.1.data", "b.2.data"]).succeeds();
    client(&["-x", "secret", "a.1.data"]).fails_saying("SEND ERR (file already exists)");
    client(&["-x", "secret", "c~d.3.data"]).fails_saying("SEND ERR (invalid file name)");
    client(&["-x", "secret", "empty.4.data"]).fails_saying("SEND ERR (file is too big)");
    client(&["-x", "secret", "-g", "gone.conf"]).fails_saying("RECV ERR (file does not exist)");
    std::fs::remove_file(directory.path().join("a.1.data")).expect("it is there");
    client(&["-x", "secret", "-g", "a.1.data"]).succeeds();
    assert_eq!(std::fs::read(directory.path().join("a.1.data")).expect("fetched"), b"abc");
    assert_eq!(stock.files().len(), 2);
}
