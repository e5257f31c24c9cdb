//! Remote configuration through the gateway: the real `pandora_agent` 4.1 at two sites that can dial nothing outside, and
//! a centre whose console writes files.
//!
//! Centre and sites are network namespaces of their own; only the centre can make a connection, which is tried. A tap
//! between each agent and its node, and one between the centre and each node, hear what is said.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use tidegate_tests::address::{self, PORT};
use tidegate_tests::agent::{Agent, Conversations, module};
use tidegate_tests::central::{Central, Mode, Site};
use tidegate_tests::certificates::Authority;
use tidegate_tests::client::Client;
use tidegate_tests::islands::Islands;
use tidegate_tests::node::Node;
use tidegate_tests::shelf::{Shelf, conf};
use tidegate_tests::small_disk::inside_namespace;
use tidegate_tests::tap::{Tap, Verdict};
use tidegate_tests::until;

/// How many intervals in a row nothing but data may pass.
const QUIET_INTERVALS: usize = 4;

const SETTINGS: &str =
    "sync_shared = true\nsync_interval = \"500ms\"\nsync_standing = true\n[shared]\ninterval = \"1s\"";

/// One site: its node, and its agent behind a tap.
struct Plant {
    number: u8,
    name: String,
    node: Node,
    agent: Agent,
    said: Arc<Conversations>,
    _tap: Tap,
    /// In the centre.
    link: Tap,
}

impl Plant {
    fn start(number: u8, islands: &Islands, authority: &Authority) -> Plant {
        let name = format!("plant-{number}");
        let front = address::unused_socket();
        let said = Arc::<Conversations>::default();
        let heard = Arc::clone(&said);
        let (node, tap, agent) = islands.sites[usize::from(number)].enter(|| {
            let node = Node::start_at(authority, [Islands::site(number), front], "sync_shared = true", &[]);
            let tap = Tap::new(node.address(), move |chunk| {
                heard.note(chunk);
                Verdict::Pass
            });
            let agent = Agent::start(tap.address(), &format!("\nagent_name {name}\n"));
            (node, tap, agent)
        });
        let link = islands.centre.enter(|| Tap::at(front, Islands::site(number), |_| Verdict::Pass));
        Plant { number, name, node, agent, said, _tap: tap, link }
    }

    fn shelf(&self) -> Shelf {
        Shelf::at(self.node.storage())
    }

    fn intervals(&self) -> usize {
        self.said.fetches_ending(".md5")
    }

    fn uploads(&self) -> (usize, usize) {
        (self.said.uploads_ending(".conf"), self.said.uploads_ending(".md5"))
    }
}

/// Nobody at a site reaches anything outside of it, and the centre reaches all.
fn only_the_centre_can_dial(islands: &Islands) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(directory.path().join("a.1.data"), b"to the centre").expect("the directory is ours");
    for (number, site) in (0_u8..).zip(&islands.sites) {
        let centre = SocketAddr::from((Islands::centre(number), PORT));
        let listener =
            islands.centre.enter(|| TcpListener::bind(centre)).expect("the address is the centre's");
        islands.centre.enter(|| TcpStream::connect(centre)).expect("it listens");
        islands
            .centre
            .enter(|| TcpStream::connect(Islands::site(number)))
            .expect("the centre reaches the site");
        for elsewhere in [centre, Islands::site(1 - number)] {
            let tried = site.enter(|| TcpStream::connect(elsewhere)).expect_err("there is no way");
            assert_eq!(tried.kind(), ErrorKind::NetworkUnreachable, "site {number} to {elsewhere}: {tried}");
        }
        let told = site.enter(|| Client::Real.run(directory.path(), None, centre, &["a.1.data"]));
        assert_ne!(told.code, Some(0), "what agents use reaches the centre: {}", told.said);
        drop(listener);
    }
}

#[test]
fn an_edit_at_the_centre_reaches_the_right_agent_of_sites_that_can_dial_nobody() {
    if !inside_namespace("an_edit_at_the_centre_reaches_the_right_agent_of_sites_that_can_dial_nobody") {
        return;
    }
    let islands = Islands::new(2);
    let authority = Authority::new();
    let mut plants = [0, 1].map(|number| Plant::start(number, &islands, &authority));
    only_the_centre_can_dial(&islands);
    let sites: Vec<Site> =
        plants.iter().map(|plant| Site::node(&plant.name, plant.link.address()).over(Mode::Auto)).collect();
    let mut central = Central::new(&authority, &sites, SETTINGS);
    let console = Shelf::made(central.pipeline.directory());
    islands.centre.enter(|| central.run());

    // The first contact: what the agents upload appears at the centre.
    for plant in &mut plants {
        let own = plant.agent.configuration();
        until::holds(&format!("the centre has what the agent of {} uploaded", plant.name), || {
            assert!(!plant.agent.process.has_ended(), "{}", plant.agent.process.log());
            console.holds(&conf(&plant.name), &own)
        });
    }

    // The console edits one, then the other.
    for plant in &plants {
        let own = plant.agent.configuration();
        let words = format!("from_the_console_for_{}", plant.number);
        let changed = own + &module(&words);
        console.write(&conf(&plant.name), &changed);
        until::holds("the node has the edit", || plant.shelf().holds(&conf(&plant.name), &changed));
        let asked = plant.intervals();
        until::holds("the agent sends what the edit wants", || plant.said.intervals_before(&words).is_some());
        let interval = plant.said.intervals_before(&words).expect("just seen");
        assert!(
            interval <= asked + 2,
            "two intervals after {asked} it was not there, only in the {interval}th"
        );
        assert_eq!(plant.agent.configuration(), changed);
    }

    // Quiet: agents upload data only, and no connection is made for shared files.
    let before: Vec<_> = plants.iter().map(|plant| (plant.intervals(), plant.link.connections())).collect();
    for (plant, (intervals, _)) in plants.iter().zip(&before) {
        until::holds("more intervals pass", || plant.intervals() >= intervals + QUIET_INTERVALS);
    }
    for (plant, (_, connections)) in plants.iter().zip(&before) {
        assert_eq!(plant.uploads(), (1, 1), "{}: uploaded once", plant.name);
        assert_eq!(plant.said.fetches_ending(".conf"), 1, "{}: fetched once", plant.name);
        assert_eq!(plant.link.connections(), *connections, "{}: nothing to do, no connection", plant.name);
        // Nothing of the other one is here.
        let names: Vec<String> = plant.shelf().all().into_keys().collect();
        assert_eq!(names, [conf(&plant.name)], "{}", plant.name);
    }
    let mut all: Vec<String> = plants.iter().map(|plant| conf(&plant.name)).collect();
    all.sort();
    assert_eq!(console.all().into_keys().collect::<Vec<_>>(), all);
}
