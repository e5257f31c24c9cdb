//! A stock server beside a node of ours on one central, which nobody looks after: many rounds of files, and in each round
//! one of the three is restarted or killed. Nothing is lost and nothing doubled, and `status` says how each is pulled.
//!
//! A schedule of hours is compressed: a turn follows the other after a tenth of a second. The stock site's files still have
//! to settle for two seconds, so a round takes about three.
//!
//! `TIDEGATE_STOCK_SERVER=/path/to/tentacle_server` puts a real stock server there; `TIDEGATE_RUNS` sets the rounds.

use tidegate_tests::central::{Central, Mode, Site};
use tidegate_tests::certificates::Authority;
use tidegate_tests::node::Node;
use tidegate_tests::oracle::Oracle;
use tidegate_tests::seed::runs;
use tidegate_tests::sender::send_until_stored;
use tidegate_tests::stock::{INSTALLED_FILTERS, Stock};
use tidegate_tests::until;

const SETTINGS: &str = "sync_interval = \"100ms\"\nsync_timeout = \"5s\"\nsync_backoff_max = \"500ms\"";

/// Each event twice.
const ROUNDS: u64 = 14;

/// How many files each site gets in a round; of a stock site's, enough for several connections.
const FILES: usize = 12;

/// What happens in a round, while its files are on their way.
const EVENTS: [fn(&mut Node, &mut Stock, &mut Central); 7] = [
    |_, _, _| {},
    |node, _, _| {
        node.process().terminate();
        node.restart();
    },
    |_, stock, _| {
        stock.kill();
        stock.restart();
    },
    |_, _, central| {
        central.process().terminate();
        central.run();
    },
    |node, _, _| {
        node.kill();
        node.restart();
    },
    |_, _, central| {
        central.kill();
        central.run();
    },
    |node, stock, _| {
        node.kill();
        stock.kill();
        stock.restart();
        node.restart();
    },
];

#[test]
fn a_stock_server_and_a_node_are_pulled_side_by_side_for_long_and_unattended() {
    let authority = Authority::new();
    let mut node = Node::start(&authority, "");
    let mut stock = Stock::start(&["-I", "-o", "-i", INSTALLED_FILTERS]);
    let sites =
        [Site::node("plant", node.address()).over(Mode::Auto), Site::plain("legacy", stock.address())];
    let mut central = Central::new(&authority, &sites, SETTINGS);
    central.run();
    let oracle = Oracle::default();
    for round in runs(ROUNDS).map(|round| usize::try_from(round).expect("a small number")) {
        for file in 0..FILES {
            let time = 1_700_000_000 + round * FILES + file;
            let (name, bytes) = (format!("web{file:02}.{time}.data"), format!("node, {round}, {file}"));
            oracle.expect(&name, bytes.as_bytes());
            send_until_stored(node.address(), &name, bytes.as_bytes());
            let (name, bytes) = (format!("db{file:02}.{time}.data"), format!("stock, {round}, {file}"));
            oracle.expect(&name, bytes.as_bytes());
            stock.put(&name, bytes.as_bytes());
        }
        EVENTS[round % EVENTS.len()](&mut node, &mut stock, &mut central);
        until::holds(&format!("round {round} arrives"), || {
            assert!(!central.process().has_ended(), "the server ended: {}", central.process().log());
            oracle.is_complete(&central.pipeline.consume())
        });
    }
    until::holds("both sites are empty", || node.packages().is_empty() && stock.files().is_empty());
    let verdict = oracle.judge(&central.pipeline.consume());
    assert!(verdict.is_clean(), "{verdict}");
    until::holds("status shows how each is pulled", || {
        let modes = ["plant", "legacy"].map(|site| mode_of(&central, site));
        modes == [Some("relay".to_owned()), Some("tentacle".to_owned())]
    });
}

/// What stands below `MODE` in the row of a site.
fn mode_of(central: &Central, site: &str) -> Option<String> {
    let output = central.command(&["status"]).output().expect("the sync server's command starts");
    assert!(output.status.success(), "status: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let column = text.lines().next()?.find("MODE")?;
    let row = text.lines().find(|line| line.split_whitespace().next() == Some(site))?;
    row.get(column..)?.split_whitespace().next().map(str::to_owned)
}
