//! Two centrals and one node: the one that an operator did not choose reads nothing and deletes nothing, however it asks,
//! until an operator lets it in again.

use tidegate_tests::central::{Central, Mode, Site};
use tidegate_tests::certificates::Authority;
use tidegate_tests::node::Node;
use tidegate_tests::oracle::{Arrival, Oracle};
use tidegate_tests::scenarios::each;
use tidegate_tests::sender::send_until_stored;
use tidegate_tests::until;

const SETTINGS: &str = "sync_interval = \"50ms\"\nsync_backoff_max = \"100ms\"";

/// How long a central is left to try what it must not.
const LONG_ENOUGH: std::time::Duration = std::time::Duration::from_secs(1);

struct Scene {
    node: Node,
    old: Central,
    new: Central,
    oracle: Oracle,
}

impl Scene {
    fn new(mode: Mode) -> Scene {
        let authority = Authority::new();
        let node = Node::start(&authority, "");
        let [old, new] = [0, 1].map(|_| {
            let site = Site::node("site", node.address()).over(mode);
            Central::new(&authority, &[site], SETTINGS)
        });
        Scene { node, old, new, oracle: Oracle::default() }
    }

    fn send(&self, name: &str) {
        self.oracle.expect(name, name.as_bytes());
        send_until_stored(self.node.address(), name, name.as_bytes());
    }

    fn take_over(&self) -> String {
        // Before it, the new one is refused: the old one holds the epoch.
        let mut pull = self.new.pull(&[]);
        assert!(!pull.join().success(), "a central that was not chosen: {}", pull.log());
        let output =
            self.new.command(&["takeover", "--site", "site"]).output().expect("the server's command starts");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(output.status.success(), "takeover: {said}");
        said
    }

    fn arrived(&self) -> Vec<Arrival> {
        [self.old.pipeline.consume(), self.new.pipeline.consume()].concat()
    }

    /// Everything arrived, here or there, once.
    fn comes_out_right(&self, what: &str) {
        until::holds(&format!("{what}: the node is empty"), || self.node.packages().is_empty());
        let verdict = self.oracle.judge(&self.arrived());
        assert!(verdict.is_clean(), "{what}: {verdict}");
    }
}

fn holds(central: &Central, name: &str) -> bool {
    central.pipeline.consume().iter().any(|arrival| arrival.name == name)
}

#[test]
fn after_a_takeover_the_old_central_gets_nothing_until_the_epoch_is_reset() {
    each(&[Mode::Standing, Mode::Scheduled], |&mode| {
        let mut scene = Scene::new(mode);
        let what = format!("{mode:?}");
        scene.old.run();
        scene.send("before.1700000001.data");
        until::holds(&format!("{what}: the first file arrives"), || {
            holds(&scene.old, "before.1700000001.data")
        });
        until::holds(&format!("{what}: the node is empty"), || scene.node.packages().is_empty());

        // While the old one is connected, or about to be.
        let said = scene.take_over();
        assert!(said.contains('2'), "{what}: takeover names the new epoch: {said}");
        scene.new.run();
        scene.send("after.1700000002.data");
        until::holds(&format!("{what}: the new central has it"), || {
            holds(&scene.new, "after.1700000002.data")
        });
        scene.old.process().wait_for_line(&["epoch"]);

        // Nobody but the old one is there now, and there is much to have.
        scene.new.process().terminate();
        (3..9).for_each(|number| scene.send(&format!("waiting.170000000{number}.data")));
        scene.old.run();
        scene.old.process().wait_for_line(&["epoch"]);
        until::pause(LONG_ENOUGH);
        assert_eq!(scene.node.packages().len(), 6, "{what}: something was deleted");
        assert_eq!(scene.old.pipeline.consume().len(), 1, "{what}: the old central got something");

        // An operator at the site lets it in, beside the running node.
        scene.node.reset_epoch();
        until::holds(&format!("{what}: the old central has the rest"), || {
            holds(&scene.old, "waiting.1700000008.data")
        });
        scene.comes_out_right(&what);
    });
}

/// The way round the epoch: the commands of Tentacle, with a certificate that has the right to them.
#[test]
fn once_an_epoch_is_known_nobody_pulls_by_tentacle_commands() {
    let authority = Authority::new();
    for moving in [false, true] {
        let node = Node::start(&authority, "");
        let new =
            Central::new(&authority, &[Site::node("site", node.address()).over(Mode::Standing)], SETTINGS);
        let mut old_site = Site::node("site", node.address()).over(Mode::Tentacle);
        if moving {
            old_site = Site { settings: "pull_mode = \"move\"\n".into(), ..old_site.over(Mode::Auto) };
        }
        let mut old = Central::new(&authority, &[old_site], SETTINGS);
        let mut scene_pull = new.pull(&[]);
        assert!(scene_pull.join().success(), "{}", scene_pull.log());
        (0..3).for_each(|number| {
            send_until_stored(node.address(), &format!("web.170000000{number}.data"), b"nobody's business")
        });
        let held = node.packages().len();
        old.run();
        old.process().wait_for_line(&["unreachable"]);
        until::pause(LONG_ENOUGH);
        assert_eq!(node.packages().len(), held, "moving {moving}: something was deleted");
        assert!(old.pipeline.consume().is_empty(), "moving {moving}: something was read");
        // The one that holds the epoch gets it.
        let mut pull = new.pull(&[]);
        assert!(pull.join().success(), "{}", pull.log());
        assert_eq!(new.pipeline.consume().len(), held, "moving {moving}");
        assert!(node.packages().is_empty());
    }
}

/// An operator who takes over and changes his mind, again and again, under load: each file arrives once, at one of them.
#[test]
fn takeovers_to_and_fro_lose_and_double_nothing() {
    let mut scene = Scene::new(Mode::Standing);
    scene.old.run();
    scene.send("first.1600000000.data");
    until::holds("the first file arrives", || holds(&scene.old, "first.1600000000.data"));
    let mut number = 0;
    for round in 0..6 {
        for _ in 0..20 {
            scene.send(&format!("load.{}.data", 1_700_000_000 + number));
            number += 1;
        }
        let said = scene.take_over();
        scene.new.run();
        let last = format!("round-{round}.{}.data", 1_700_000_000 + number);
        scene.send(&last);
        until::holds(&format!("round {round}: the new central has the last file ({said})"), || {
            holds(&scene.new, &last)
        });
        // The next takeover is the other one's.
        std::mem::swap(&mut scene.old, &mut scene.new);
    }
    scene.comes_out_right("to and fro");
}
