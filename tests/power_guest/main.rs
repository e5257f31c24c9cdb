//! What runs in the guest of the power cuts: starts the daemons, sends files, and says on the console what was
//! acknowledged and what arrived. It must only be run there, by `tidegate_tests::guest`.

use std::collections::VecDeque;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tidegate_tests::guest::{self, words};
use tidegate_tests::sender::Sender;
use tidegate_tests::{address, files, until};

/// The words of the command line.
struct Orders(Vec<(String, String)>);

impl Orders {
    fn of_environment() -> Orders {
        let word = |word: String| {
            let (key, value) = word.split_once('=').expect("an order is key=value");
            (key.to_owned(), value.to_owned())
        };
        Orders(std::env::args().skip(1).map(word).collect())
    }

    fn all(&self, key: &'static str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    fn text(&self, key: &'static str) -> &str {
        self.all(key).next().unwrap_or_else(|| panic!("no order {key}"))
    }

    fn number(&self, key: &'static str) -> u64 {
        self.text(key).parse().unwrap_or_else(|_| panic!("{key} is a number"))
    }

    fn is_on(&self, key: &'static str) -> bool {
        self.text(key) == "true"
    }

    fn directory(&self) -> PathBuf {
        self.text("directory").into()
    }

    fn disk(&self) -> PathBuf {
        self.directory().join("disk")
    }

    fn daemon(&self, program: &str, arguments: &[&str], config: &str) -> Command {
        let mut command = Command::new(Path::new(self.text("programs")).join(program));
        command.args(arguments).arg("--config").arg(self.directory().join(config));
        command.stdin(Stdio::null());
        command
    }

    /// The variables that tests set for the daemons.
    fn environment(&self) -> impl Iterator<Item = (&str, &str)> {
        self.all("environment").map(|variable| variable.split_once('=').expect("a variable has a value"))
    }
}

fn main() {
    std::panic::set_hook(Box::new(|panic| {
        say(words::FAILED, &panic.to_string().replace('\n', " "));
        wait_for_the_end();
    }));
    let orders = Orders::of_environment();
    say(words::MOUNTED, "");
    for directory in ["node", "incoming", "state"] {
        std::fs::create_dir_all(orders.disk().join(directory)).expect("the disk is writable");
    }
    let mut node = orders.daemon("tidegate-buffer-node", &["run"], "node.toml");
    let mut node = node.envs(orders.environment()).spawn().expect("the node starts");
    until::holds("the node listens", || {
        let ended = node.try_wait().expect("the child is ours");
        assert!(ended.is_none(), "the node ended: {ended:?}");
        std::net::TcpStream::connect(address()).is_ok()
    });
    orders.text("again").split(',').filter(|id| !id.is_empty()).for_each(send);
    if orders.is_on("settle") {
        settle(&orders);
    }
    let central = orders.is_on("pulling").then(|| start_central(&orders));
    if let Some(central) = central {
        watch(central);
    }
    send_all(&orders);
    say(words::SENT, "");
    if orders.is_on("pull_after") {
        watch(start_central(&orders));
    }
    wait_for_the_end();
}

fn address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, address::PORT))
}

fn start_central(orders: &Orders) -> Child {
    let mut central = orders.daemon("tidegate-server", &["run"], "server.toml");
    central.envs(orders.environment()).spawn().expect("the sync server starts")
}

fn watch(mut central: Child) {
    std::thread::spawn(move || {
        let status = central.wait().expect("the child is ours");
        say(words::CENTRAL_ENDED, &status.to_string());
    });
}

/// Nothing happens any more until the power goes.
fn wait_for_the_end() -> ! {
    loop {
        until::pause(Duration::from_secs(3600));
    }
}

/// One line, in one write: the console is read until the power goes.
fn say(word: &str, rest: &str) {
    static CONSOLE: Mutex<()> = Mutex::new(());
    let _one_at_a_time = CONSOLE.lock();
    let mut out = std::io::stdout().lock();
    // Words of other processes may have left the line unfinished.
    let _ = out
        .write_all(format!("\n{word} {rest}{}\n", guest::END_OF_LINE).as_bytes())
        .and_then(|()| out.flush());
}

fn send(id: &str) {
    let (name, bytes) = guest::file(id);
    say(words::OFFERED, id);
    let reply = Sender::connect(address()).and_then(|mut sender| sender.send(&name, &bytes));
    match reply.as_deref() {
        Ok("SEND OK") => say(words::STORED, id),
        Ok(refusal) => say(words::FAILED, &format!("{id} is refused: {refusal}")),
        // A guest's processes do not all die in one moment: the node's may be the first. The sender comes again.
        Err(_) => {}
    }
}

fn send_all(orders: &Orders) {
    let ids = (0..orders.number("files")).map(|number| format!("{}.{number}", orders.text("boot")));
    let ids: Mutex<VecDeque<String>> = Mutex::new(ids.collect());
    let next = || ids.lock().expect("no sender panics").pop_front();
    std::thread::scope(|scope| {
        for _ in 0..orders.number("senders") {
            scope.spawn(|| {
                while let Some(id) = next() {
                    send(&id);
                }
            });
        }
    });
}

/// Pulls what the node has, and lists what is where.
fn settle(orders: &Orders) {
    let mut pull = orders.daemon("tidegate-server", &["pull", "--once"], "server.toml");
    let status = pull.status().expect("the sync server starts");
    if !status.success() {
        say(words::FAILED, &format!("pull --once: {status}"));
    }
    let ready = orders.disk().join("node/spool/ready");
    // The node deletes the last one after it has heard `QUIT`.
    until::holds("the node is empty", || files::below(&ready).is_empty());
    let incoming = orders.disk().join("incoming");
    for path in files::below(&incoming) {
        if path.starts_with(".tidegate") {
            if !path.ends_with("ledger-id") {
                say(words::LEFT, &path.display().to_string());
            }
            continue;
        }
        let bytes = std::fs::read(incoming.join(&path)).expect("nobody else removes it");
        let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        say(words::ARRIVED, &format!("{} {} {digest}", path.display(), bytes.len()));
    }
    for path in files::below(&orders.disk().join("node/spool/corrupt")) {
        say(words::LEFT, &format!("corrupt/{}", path.display()));
    }
    say(words::SETTLED, "");
}
