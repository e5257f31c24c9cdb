//! The data server reads by modification time, and takes that for the time of the data: so both must survive the journey.

use std::time::{Duration, SystemTime};

use tidegate_tests::central::{Central, Mode, Site};
use tidegate_tests::certificates::Authority;
use tidegate_tests::node::Node;
use tidegate_tests::scenarios::each;
use tidegate_tests::sender::send_until_stored;
use tidegate_tests::until;

#[test]
fn packages_are_delivered_in_the_order_in_which_the_node_stored_them() {
    each(&Mode::ALL, |&mode| {
        let authority = Authority::new();
        let node = Node::start(&authority, "");
        // By name they would come out otherwise.
        let names: Vec<String> =
            [7, 3, 9, 1, 8, 2, 6, 4, 5].map(|number| format!("web01.{number}.data")).to_vec();
        for name in &names {
            send_until_stored(node.address(), name, name.as_bytes());
        }
        let mut central = Central::new(&authority, &[Site::node("site", node.address()).over(mode)], "");
        central.run();
        until::holds("everything arrives", || names.iter().all(|name| central.pipeline.holds(name)));
        let waiting: Vec<String> =
            central.pipeline.waiting().into_iter().map(|arrival| arrival.name).collect();
        assert_eq!(waiting, names, "{mode:?}, in the data server's own order: modification time, then name");
    });
}

#[test]
fn the_modification_time_is_that_of_the_arrival_or_over_tentacle_the_time_in_the_name_if_it_can_be() {
    each(&Mode::ALL, |&mode| {
        let authority = Authority::new();
        let node = Node::start(&authority, "");
        let start = SystemTime::now();
        let epoch = |ago: u64| {
            let time = start - Duration::from_secs(ago);
            time.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs()
        };
        let (hour_ago, year_ago) = (epoch(3_600), epoch(365 * 86_400));
        let [recent, old, none] =
            [format!("web01.{hour_ago}.data"), format!("web01.{year_ago}.data"), "web01.77.data".to_owned()];
        for name in [&recent, &old, &none] {
            send_until_stored(node.address(), name, name.as_bytes());
        }
        let mut central = Central::new(&authority, &[Site::node("site", node.address()).over(mode)], "");
        central.run();
        until::holds("everything arrives", || {
            [&recent, &old, &none].iter().all(|name| central.pipeline.holds(name))
        });
        let modified = |name: &str| {
            let path = central.pipeline.directory().join(name);
            path.metadata().expect("it has arrived").modified().expect("Linux tells it")
        };
        // A second's grace: file systems and names may cut fractions off.
        let began = start - Duration::from_secs(1);
        if mode == Mode::Tentacle {
            assert_eq!(modified(&recent), SystemTime::UNIX_EPOCH + Duration::from_secs(hour_ago));
        } else {
            assert!(modified(&recent) >= began, "{mode:?}: the node told when it arrived");
        }
        assert!(modified(&old) >= began, "{mode:?}: too old to be true");
        assert!(modified(&none) >= began, "{mode:?}: not a time");
    });
}
