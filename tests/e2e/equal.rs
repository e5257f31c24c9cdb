//! Equal packages: a name without a time says nothing about which is which, so the same bytes sent again are a repeat for
//! a while, and after that a package of its own.

use std::time::Duration;

use tidegate_tests::central::{Central, Mode, Site};
use tidegate_tests::certificates::Authority;
use tidegate_tests::node::Node;
use tidegate_tests::oracle::Oracle;
use tidegate_tests::scenarios::each;
use tidegate_tests::sender::send_until_stored;
use tidegate_tests::until;

const NAME: &str = "host.0.data";

/// The node's shortest window, so that a test can outlive it. Inside a window the default one is used, which no load can
/// outlive.
const SHORT: &str = "[duplicates]\nother = \"1s\"";

/// Longer than [`SHORT`]'s window.
const AFTERWARDS: Duration = Duration::from_millis(1500);

/// A node and a server that pulls when it is told to.
struct Scene {
    node: Node,
    central: Central,
    oracle: Oracle,
}

impl Scene {
    fn new(mode: Mode, settings: &str) -> Scene {
        let authority = Authority::new();
        let node = Node::start(&authority, settings);
        let central = Central::new(&authority, &[Site::node("site", node.address()).over(mode)], "");
        Scene { node, central, oracle: Oracle::default() }
    }

    fn send(&self, bytes: &[u8]) {
        send_until_stored(self.node.address(), NAME, bytes);
    }

    fn pull(&self) {
        let mut pull = self.central.pull(&[]);
        assert!(pull.join().success(), "{}", pull.log());
        self.central.pipeline.consume();
        assert_eq!(self.node.packages().len(), 0, "the site is empty");
    }

    fn comes_out_right(&self) {
        let verdict = self.oracle.judge(&self.central.pipeline.consume());
        assert!(verdict.is_clean(), "{verdict}");
    }
}

#[test]
fn within_the_window_the_same_bytes_arrive_once() {
    each(&Mode::ALL, |&mode| {
        let scene = Scene::new(mode, "");
        scene.oracle.expect(NAME, b"same");
        scene.send(b"same");
        scene.send(b"same");
        assert_eq!(scene.node.packages().len(), 1, "not pulled yet");
        scene.pull();
        scene.send(b"same");
        assert_eq!(scene.node.packages().len(), 0, "pulled already");
        scene.pull();
        scene.comes_out_right();
    });
}

#[test]
fn after_the_window_they_are_another_package() {
    each(&Mode::ALL, |&mode| {
        let scene = Scene::new(mode, SHORT);
        scene.oracle.expect_times(NAME, b"same", 3);
        scene.send(b"same");
        until::pause(AFTERWARDS);
        scene.send(b"same");
        assert_eq!(scene.node.packages().len(), 2, "not pulled yet");
        scene.pull();
        until::pause(AFTERWARDS);
        scene.send(b"same");
        scene.pull();
        scene.comes_out_right();
    });
}

#[test]
fn a_name_that_is_always_the_same_carries_every_package() {
    each(&Mode::ALL, |&mode| {
        let scene = Scene::new(mode, SHORT);
        for bytes in [b"X", b"Y"] {
            scene.oracle.expect_times(NAME, bytes, 2);
        }
        for _ in 0..2 {
            scene.send(b"X");
            scene.send(b"Y");
            scene.pull();
            until::pause(AFTERWARDS);
        }
        scene.comes_out_right();
    });
}
