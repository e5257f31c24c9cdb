//! A node and a centre that exchange shared files, and what is asked of them from outside: their directories, data that
//! claims agents, and the operator's commands.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::central::{Central, Mode, Site};
use crate::certificates::Authority;
use crate::node::Node;
use crate::sender::{Sender, send_until_stored};
use crate::shelf::{Shelf, conf};
use crate::until::{self, PATIENCE};
use crate::wan::{Path, Wan};

/// Quick turns.
pub const SETTINGS: &str = "sync_shared = true\nsync_interval = \"50ms\"\nsync_backoff_max = \"100ms\"\n";

/// The table of a centre's shared files, to stand behind its settings.
pub const QUICKLY: &str = "[shared]\ninterval = \"50ms\"\n";

/// What a node needs; uploads of the same agent replace each other.
pub const NODE: &str = "sync_shared = true\noverwrite = true\n";

/// A site: its node and its directories.
#[derive(Debug)]
pub struct Plant {
    /// As the centre calls it.
    pub name: String,
    /// Its node.
    pub node: Node,
    /// The node's shared files.
    pub shelf: Shelf,
}

impl Plant {
    /// Starts a node; `settings` is TOML behind what it needs.
    pub fn start(authority: &Authority, name: &str, settings: &str) -> Plant {
        let node = Node::start(authority, &format!("{NODE}{settings}"));
        let shelf = Shelf::at(node.storage());
        Plant { name: name.to_owned(), node, shelf }
    }

    /// Where and how the centre pulls it; `settings` are further keys.
    pub fn site(&self, mode: Mode, settings: &str) -> Site {
        let mut site = Site::node(&self.name, self.node.address()).over(mode);
        site.settings = format!("{settings}\n");
        site
    }

    /// A package of this agent's: the site claims it.
    pub fn claim(&self, agent: &str) {
        send_until_stored(self.node.address(), &format!("{agent}.1700000000.data"), agent.as_bytes());
    }

    /// Uploads a pair as an agent does, the `.md5` last; the last reply.
    pub fn upload(&self, name: &str, bytes: &[u8]) -> String {
        upload(self.node.address(), name, bytes).unwrap_or_else(|error| error.to_string())
    }
}

/// Uploads a pair as an agent does, each file on a connection of its own; the first refusal, or the last reply.
pub fn upload(node: SocketAddr, name: &str, bytes: &[u8]) -> std::io::Result<String> {
    let stem = name.rsplit_once('.').expect("a main file has an ending").0;
    let said = Sender::connect(node)?.send(name, bytes)?;
    if said != "SEND OK" {
        return Ok(said);
    }
    Sender::connect(node)?.send(&format!("{stem}.md5"), crate::agent::md5_hex(bytes).as_bytes())
}

/// A centre.
#[derive(Debug)]
pub struct Centre {
    /// The server.
    pub central: Central,
    /// What the console writes.
    pub shelf: Shelf,
}

impl Centre {
    /// One that is configured; nothing runs yet. `settings` is TOML behind the quick turns.
    pub fn new(authority: &Authority, sites: &[Site], settings: &str) -> Centre {
        let central = Central::new(authority, sites, settings);
        let shelf = Shelf::made(central.pipeline.directory());
        Centre { central, shelf }
    }

    /// `tidegate-server shared …`; what it said.
    ///
    /// # Panics
    /// When it failed.
    pub fn say(&self, words: &[&str]) -> String {
        let words = [&["shared"], words].concat();
        let output = self.central.command(&words).output().expect("the server's command starts");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{words:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
        said
    }

    /// Waits until a line of `shared list` holds all of `parts`.
    ///
    /// # Panics
    /// When patience ends, with what it shows instead.
    pub fn shows(&self, parts: &[&str]) {
        let start = Instant::now();
        loop {
            // A server that has just begun has no memory yet, and the command fails.
            let output =
                self.central.command(&["shared", "list"]).output().expect("the server's command starts");
            let list = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            if list.lines().any(|line| parts.iter().all(|part| line.contains(part))) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "shared list does not show {parts:?}:\n{list}");
            until::pause(Duration::from_millis(50));
        }
    }
}

/// Both ends have the same main files, each a whole pair.
pub fn equal(one: &Shelf, other: &Shelf) -> bool {
    let [all, others] = [one, other].map(Shelf::all);
    all == others && all.keys().all(|name| one.whole(name).is_some() && other.whole(name).is_some())
}

/// So many agents' names.
pub fn agents(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("agent-{number:05}")).collect()
}

/// The keys of a site that has these agents.
pub fn own(agents: &[String]) -> String {
    format!("agents = {agents:?}")
}

/// A site behind a narrow link, both ends with one pair in common, and a collection that is to go there.
#[derive(Debug)]
pub struct Narrow {
    /// The site.
    pub plant: Plant,
    /// The centre, which runs.
    pub centre: Centre,
    /// The link.
    pub wan: Wan,
    sent: usize,
}

impl Narrow {
    /// Waits until the one pair has crossed the link.
    pub fn new(path: Path) -> Narrow {
        let authority = Authority::new();
        let plant = Plant::start(&authority, "plant", "");
        let wan = Wan::at(plant.node.front(), plant.node.address(), path);
        let mut site = plant.site(Mode::Standing, "agents = [\"web01\"]\ncollections = [\"tools\"]");
        site.address = plant.node.front();
        let mut centre =
            Centre::new(&authority, &[site], "sync_shared = true\n[shared]\ninterval = \"200ms\"\n");
        centre.shelf.write(&conf("web01"), "first");
        centre.central.run();
        until::holds("the first pair is at the site", || plant.shelf.holds(&conf("web01"), "first"));
        Narrow { plant, centre, wan, sent: 0 }
    }

    /// Puts a collection where the console would, and sends packages, one after another, each when the one before has
    /// arrived, until the collection is at the site. How long each took that arrived before that.
    pub fn packages_beside(&mut self, collection: &[u8]) -> Vec<Duration> {
        self.centre.shelf.write("tools.zip", collection);
        let mut waits = Vec::new();
        while !self.plant.shelf.holds("tools.zip", collection) {
            self.sent += 1;
            let name = format!("web01.{}.data", 1_700_000_000 + self.sent);
            send_until_stored(self.plant.node.address(), &name, name.as_bytes());
            let stored = Instant::now();
            until::holds(&format!("{name} arrives"), || self.centre.central.pipeline.holds(&name));
            if !self.plant.shelf.file("tools.zip").exists() {
                waits.push(stored.elapsed());
            }
        }
        waits
    }
}
