//! Syncs with a stock server in memory, which speaks as the real one does: what works, and what is said of the rest.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::rc::Rc;

use tempfile::TempDir;
use tidegate_net::shutdown::Shutdown;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::LocalSet;

use super::*;
use crate::config::Config;
use crate::shared::here::tests::{directory, put};
use crate::shared::names::Key;
use crate::shared::session::{Did, Report, Session};
use crate::shared::turn::Turns;
use client::Wire;

const SITE: &str = "old-plant";

/// The server's directories, all in one, and how it was started.
#[derive(Default)]
struct Server {
    files: RefCell<BTreeMap<String, Vec<u8>>>,
    /// `-o`
    overwrites: Cell<bool>,
    log: RefCell<Vec<String>>,
    connections: Cell<u32>,
    open: Cell<u32>,
    most_open: Cell<u32>,
    /// It hangs up at this command.
    cut_at: Cell<Option<usize>>,
}

impl Server {
    /// Speaks until the client leaves.
    async fn serve(self: Rc<Self>, stream: DuplexStream) {
        self.open.set(self.open.get() + 1);
        self.most_open.set(self.most_open.get().max(self.open.get()));
        // A client that hangs up is no error.
        let _ = self.session(stream).await;
        self.open.set(self.open.get() - 1);
    }

    async fn session(&self, mut stream: DuplexStream) -> io::Result<()> {
        loop {
            let line = line(&mut stream).await?;
            let argument = line.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
            let (name, size) = argument.unwrap_or_default();
            let verb = line.split(' ').next().unwrap_or_default();
            self.log.borrow_mut().push(format!("{verb} {name}").trim().to_owned());
            if self.cut_at.get() == Some(self.log.borrow().len()) {
                return Ok(());
            }
            match verb {
                "RECV" => {
                    let content = self.files.borrow().get(name).cloned();
                    let Some(content) = content else {
                        stream.write_all(b"RECV ERR (file does not exist)\n").await?;
                        continue;
                    };
                    stream.write_all(format!("RECV SIZE {}\n", content.len()).as_bytes()).await?;
                    assert_eq!(self::line(&mut stream).await?, "RECV OK");
                    stream.write_all(&content).await?;
                }
                "SEND" => {
                    if !self.overwrites.get() && self.files.borrow().contains_key(name) {
                        stream.write_all(b"SEND ERR (file already exists)\n").await?;
                        continue;
                    }
                    stream.write_all(b"SEND OK\n").await?;
                    let size: usize = size.trim().strip_prefix("SIZE ").unwrap().parse().unwrap();
                    let mut content = vec![0; size];
                    stream.read_exact(&mut content).await?;
                    self.files.borrow_mut().insert(name.to_owned(), content);
                    stream.write_all(b"SEND OK\n").await?;
                }
                _ => return Ok(()),
            }
        }
    }

    fn put(&self, name: &str, content: &str) {
        self.files.borrow_mut().insert(name.to_owned(), content.as_bytes().to_vec());
        self.files.borrow_mut().insert(md5_of(name), md5_text(content.as_bytes()).to_vec());
    }

    fn content(&self, name: &str) -> Option<String> {
        self.files.borrow().get(name).map(|content| String::from_utf8(content.clone()).unwrap())
    }

    fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.borrow_mut())
    }
}

async fn line(stream: &mut DuplexStream) -> io::Result<String> {
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await? {
            b'\n' => return Ok(String::from_utf8(line).unwrap()),
            byte => line.push(byte),
        }
    }
}

/// The way to it, on one thread with it.
struct Road(Rc<Server>);

impl Way for Road {
    async fn open(&self) -> Result<Box<dyn Wire>, Fault> {
        let (here, there) = tokio::io::duplex(64 * 1024);
        self.0.connections.set(self.0.connections.get() + 1);
        tokio::task::spawn_local(Rc::clone(&self.0).serve(there));
        Ok(Box::new(here))
    }
}

struct World {
    central: TempDir,
    _state: TempDir,
    shared: Arc<Shared>,
    server: Rc<Server>,
    memory: StockMemory,
}

fn conf(agent: &str) -> String {
    format!("{}.conf", Key::of_agent(agent.as_bytes()))
}

fn md5_of(name: &str) -> String {
    format!("{}.md5", name.rsplit_once('.').unwrap().0)
}

impl World {
    fn new() -> Self {
        Self::with("agents = [\"a\", \"b\", \"c\"]")
    }

    /// With these lines of the site in the configuration.
    fn with(lines: &str) -> Self {
        let (central, state) = (directory(), tempfile::tempdir().unwrap());
        let text = format!(
            "incomingdir = {:?}\nstate_directory = {:?}\nsync_shared = true\nshared_uploads = \"changed\"\n\
             [shared]\ninterval = \"1ms\"\n\
             [[site]]\nname = \"{SITE}\"\naddress = \"a\"\ntls = \"off\"\n{lines}\n",
            central.path(),
            state.path()
        );
        let file = state.path().join("server.toml");
        fs::write(&file, text).unwrap();
        let config = Config::load(&file).unwrap_or_else(|problems| panic!("{problems}"));
        let shared = Shared::open(&config).unwrap().unwrap();
        let server = Rc::new(Server::default());
        server.overwrites.set(true);
        Self { central, _state: state, shared, server, memory: StockMemory::default() }
    }

    fn sync(&mut self) -> Result<Report, Fault> {
        self.shared.scan().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let local = LocalSet::new();
        local.block_on(&runtime, async {
            let (turn, stop) = (Arc::new(Turns::default()).next().await, Shutdown::new());
            let (road, sync) = (Road(Rc::clone(&self.server)), SyncKeys::default());
            let candidates = crate::shared::task::candidates(&self.shared, SITE).unwrap();
            let mut stock = Stock::new(road, &sync, candidates, &mut self.memory, &self.shared, &turn);
            let mut withheld = HashSet::new();
            let session = Session::new(SITE, &self.shared, &mut stock, &turn, &stop, &mut withheld);
            let report = session.run().await;
            stock.close().await;
            report
        })
    }

    fn put(&self, agent: &str, content: &str) {
        put(self.central.path(), &conf(agent), content, true);
    }

    fn content(&self, agent: &str) -> Option<String> {
        fs::read_to_string(self.central.path().join("conf").join(conf(agent))).ok()
    }
}

#[test]
fn configurations_travel_both_ways_and_the_main_file_goes_first() {
    let mut world = World::new();
    world.put("a", "from the console");
    world.server.put(&conf("b"), "registered by the agent");
    let report = world.sync().unwrap();
    assert_eq!((report.told.count(Did::Placed), report.told.count(Did::TakenUp)), (1, 1));
    assert_eq!(world.content("b").as_deref(), Some("registered by the agent"));
    assert_eq!(world.server.content(&conf("a")).as_deref(), Some("from the console"));
    assert_eq!(world.server.content(&md5_of(&conf("a"))).unwrap().as_bytes(), md5_text(b"from the console"));
    let log = world.server.log();
    let at = |entry: String| log.iter().position(|said| *said == entry).unwrap();
    assert!(at(format!("SEND {}", conf("a"))) < at(format!("SEND {}", md5_of(&conf("a")))));
    assert_eq!((world.server.connections.get(), world.server.most_open.get()), (1, 1));
    // From then on their `.md5` say all, and of what is not there that it is not.
    world.sync().unwrap();
    let mut asked: Vec<_> = ["a", "b", "c"].map(|agent| format!("RECV {}", md5_of(&conf(agent)))).into();
    asked.extend([format!("RECV {}", conf("c")), "QUIT".to_owned()]);
    asked.sort();
    let mut log = world.server.log();
    log.sort();
    assert_eq!(log, asked);
}

#[test]
fn changes_at_either_end_reach_the_other_and_what_is_lost_is_kept() {
    let mut world = World::new();
    for agent in ["a", "b", "c"] {
        world.put(agent, "old");
    }
    world.sync().unwrap();
    world.put("a", "edited here");
    world.server.put(&conf("b"), "edited there");
    world.put("c", "the central's");
    world.server.put(&conf("c"), "the site's");
    let report = world.sync().unwrap();
    assert!(!report.refused, "{report:?}");
    for (agent, content) in [("a", "edited here"), ("b", "edited there"), ("c", "the central's")] {
        assert_eq!(world.content(agent).as_deref(), Some(content));
        assert_eq!(world.server.content(&conf(agent)).as_deref(), Some(content));
        assert_eq!(
            world.server.content(&md5_of(&conf(agent))).unwrap().as_bytes(),
            md5_text(content.as_bytes())
        );
    }
    let kept = world.shared.store().kept(Some(SITE)).unwrap();
    let contents: Vec<_> = kept
        .iter()
        .map(|kept| fs::read_to_string(world.shared.objects().path(&kept.digest)).unwrap())
        .collect();
    assert!(contents.contains(&"the site's".to_owned()) && contents.contains(&"old".to_owned()));
}

#[test]
fn what_a_stock_server_cannot_do_is_said() {
    let mut world = World::new();
    world.server.overwrites.set(false);
    world.put("a", "first");
    assert!(!world.sync().unwrap().refused);
    world.put("a", "second");
    let report = world.sync().unwrap();
    assert!(report.refused);
    let refusal = |world: &World| {
        let pair = world.shared.store().pairs(SITE).unwrap().remove(conf("a").as_bytes()).unwrap();
        pair.refused.unwrap().words
    };
    assert!(refusal(&world).contains("file already exists") && refusal(&world).contains("without -o"));
    world.server.overwrites.set(true);
    world.sync().unwrap();
    assert_eq!(world.server.content(&conf("a")).as_deref(), Some("second"));
    for file in [format!("conf/{}", conf("a")), format!("md5/{}", md5_of(&conf("a")))] {
        fs::remove_file(world.central.path().join(file)).unwrap();
    }
    world.sync().unwrap();
    assert!(world.sync().unwrap().refused);
    assert!(refusal(&world).contains("removes nothing"), "{}", refusal(&world));
    assert!(world.server.content(&conf("a")).is_some());
}

#[test]
fn a_cut_at_any_command_costs_repetition_only() {
    for at in 1..=20 {
        let mut world = World::new();
        world.put("a", "old");
        world.sync().unwrap();
        world.put("a", "new here");
        world.server.put(&conf("b"), "new there");
        world.server.log();
        world.server.cut_at.set(Some(at));
        let result = world.sync();
        world.server.cut_at.set(None);
        if result.is_ok() {
            assert!(at > 8, "there is something to cut");
            return;
        }
        for _ in 0..3 {
            world.sync().unwrap();
        }
        let name = conf("a");
        assert_eq!(world.server.content(&name).as_deref(), Some("new here"), "cut at {at}");
        assert_eq!(
            world.server.content(&md5_of(&name)).unwrap().as_bytes(),
            md5_text(b"new here"),
            "cut at {at}"
        );
        assert_eq!(world.content("b").as_deref(), Some("new there"), "cut at {at}");
    }
    panic!("a sync of twenty commands is not what is meant to be cut");
}

/// A withheld pair, and a server that says that it has something large.
#[test]
fn what_is_too_large_to_be_looked_at_does_not_stand_for_what_is_here() {
    let mut world = World::with("");
    world.put("a", "a direct agent's secret");
    world.shared.scan().unwrap();
    world.shared.learned(SITE, [&b"a.1.data"[..]]);
    let report = world.sync().unwrap();
    assert_eq!(report.told.count(Did::Withheld), 1);
    assert!(world.server.content(&conf("a")).is_none());
    world.server.files.borrow_mut().insert(conf("a"), vec![0; SIZE_MAX as usize + 1]);
    world.sync().unwrap();
    world.server.files.borrow_mut().clear();
    for _ in 0..3 {
        world.sync().unwrap();
    }
    assert!(world.server.content(&conf("a")).is_none());
}

#[test]
fn what_is_too_large_to_be_looked_at_is_refused_and_never_counts_as_in_step() {
    let mut world = World::new();
    world.put("a", "the central's");
    world.server.files.borrow_mut().insert(conf("a"), vec![0; SIZE_MAX as usize + 1]);
    for _ in 0..2 {
        assert!(world.sync().unwrap().refused);
        let pair = world.shared.store().pair(SITE, conf("a").as_bytes()).unwrap();
        assert_eq!((pair.there, pair.agreed), (None, None));
        assert!(pair.refused.unwrap().words.contains("is left alone"));
    }
    assert_eq!(world.server.files.borrow()[&conf("a")].len(), SIZE_MAX as usize + 1);
}
