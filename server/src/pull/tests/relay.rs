//! Pulling over relay from a node in memory: what arrives, whatever breaks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, SystemTime};

use tidegate_net::shutdown::Shutdown;
use tidegate_proto::relay::CloseCode;

use super::fake::{World, alive};
use super::node::{ARRIVAL, Spool, connection, refusal};
use crate::config::{Incoming, PullMode, Site};
use crate::crash::Crash;
use crate::desk::Desk;
use crate::ledger::Ledger;
use crate::pipeline::{Pipeline, Trouble};
use crate::pull::visit::{Ended, Memory};
use crate::pull::{Attempt, Fault, Journal, Kind, Tally, relay};
use crate::quarantine::{Outcome, Quarantine};

const FILES: [(&str, &str); 4] = [
    ("web01.1700000000.data", "first"),
    ("db01.7.data", "second"),
    ("host.0.data", ""),
    ("db01.7.data", "again"),
];

/// Every step of a batch at which a process may die.
const STEPS: [&str; 8] = [
    "after-relayed-staged",
    "after-relayed-committed",
    "after-committed",
    "after-rename",
    "after-dirsync",
    "after-relayed-delivered",
    "after-delivered",
    "after-released",
];

const NO_CUT: usize = usize::MAX;

/// A session of a few packages is shorter.
const CUTS_MAX: usize = 5_000;

/// A node and a server's directories.
pub(super) struct Pair {
    pub(super) world: World,
    pub(super) node: Spool,
    pub(super) site: Site,
}

/// How a connection ended, and what was counted.
pub(super) struct End {
    result: Result<Ended, Fault>,
    tally: Tally,
}

impl End {
    pub(super) fn is_done(&self) -> bool {
        matches!(self.result, Ok(Ended::Done))
    }

    fn fault(&self) -> String {
        self.result.as_ref().expect_err("it failed").to_string()
    }
}

impl Pair {
    fn new() -> Self {
        let world = World::new(Kind::Tidegate, PullMode::Auto);
        let mut site = world.site().clone();
        site.sync.standing = false;
        Self { world, node: Spool::default(), site }
    }

    pub(super) fn with_files() -> Self {
        let pair = Self::new();
        FILES.iter().for_each(|(name, body)| {
            pair.node.put(name, body.as_bytes());
        });
        pair
    }

    pub(super) fn desk(&self, crash: Crash) -> Desk {
        self.desk_with(crash, &self.world.incoming())
    }

    fn desk_with(&self, crash: Crash, incoming: &Incoming) -> Desk {
        Desk::new(Pipeline::open(incoming, crash).unwrap(), 2)
    }

    /// One connection, of which so many bytes get through each way.
    async fn connect(&self, desk: &Desk, stop: &Shutdown, (read, written): (usize, usize)) -> End {
        let (here, there) = connection(read, written);
        let (mut memory, tally) = (Memory::default(), Tally::default());
        let mut journal = Journal::new(&self.site.name);
        let attempt = Attempt {
            site: &self.site,
            desk,
            memory: &mut memory,
            tally: &tally,
            journal: &mut journal,
            stop,
        };
        let (result, ()) = tokio::join!(relay::pull(attempt, here), self.node.serve(there));
        desk.run(|pipeline| pipeline.flush()).await.unwrap();
        End { result: result.1, tally }
    }

    pub(super) async fn pull(&self, desk: &Desk) -> End {
        self.connect(desk, &Shutdown::new(), (NO_CUT, NO_CUT)).await
    }

    /// A life of the server with one connection. Returns whether it lived to pull everything.
    fn live(&self, crash: Crash, cut: (usize, usize)) -> bool {
        let life = || {
            runtime().block_on(async {
                let desk = self.desk(crash);
                self.connect(&desk, &Shutdown::new(), cut).await.is_done()
            })
        };
        catch_unwind(AssertUnwindSafe(life)).unwrap_or(false)
    }

    /// What the pipeline has eaten, in the order it reads.
    fn assert_each_once(&self, story: &str) {
        let mut expected: Vec<_> = FILES.iter().map(|(_, body)| (*body).to_owned()).collect();
        expected.sort();
        assert_eq!(self.world.contents(), expected, "{story}");
        assert_eq!(self.node.left(), Vec::<String>::new(), "{story}: the node keeps nothing");
        assert_eq!(self.world.staged(), 0, "{story}: nothing is left in staging");
    }
}

pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn everything_arrives_once_in_order_with_its_arrival_as_its_time() {
    let pair = Pair::with_files();
    assert!(pair.live(alive(), (NO_CUT, NO_CUT)));
    let times = pair.world.modified();
    let names: Vec<_> = times.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(names[..3], ["web01.1700000000.data", "db01.7.data", "host.0.data"]);
    assert!(names[3].starts_with("db01.7") && names[3].ends_with(".data"), "{names:?}");
    let arrival = SystemTime::UNIX_EPOCH + Duration::from_millis(ARRIVAL.unsigned_abs());
    assert_eq!(times[0].0, arrival);
    assert_eq!(times[2].0, arrival + Duration::from_millis(1));
    assert!(times.windows(2).all(|pair| pair[0].0 < pair[1].0), "no two have the same time: {times:?}");
    pair.assert_each_once("no cut");
}

#[test]
fn a_cut_at_any_byte_loses_and_doubles_nothing() {
    for way in [|n| (n, NO_CUT), |n| (NO_CUT, n)] {
        let pair = Pair::new();
        let mut expected = Vec::new();
        runtime().block_on(async {
            let desk = pair.desk(alive());
            for n in 0..CUTS_MAX {
                for (name, body) in FILES {
                    let body = format!("{body} of cut {n}");
                    pair.node.put(name, body.as_bytes());
                    expected.push(body);
                }
                if pair.connect(&desk, &Shutdown::new(), way(n)).await.is_done() {
                    assert!(n > 100, "there is something to cut");
                    return;
                }
                assert!(pair.pull(&desk).await.is_done(), "after a cut at {n}");
                assert_eq!(pair.node.left(), Vec::<String>::new(), "cut at {n}");
                pair.world.eat();
            }
            panic!("a connection of {CUTS_MAX} bytes is not what is meant to be cut");
        });
        expected.sort();
        assert_eq!(pair.world.contents(), expected);
        assert_eq!(pair.world.staged(), 0);
    }
}

#[test]
fn a_crash_at_any_step_loses_and_doubles_nothing() {
    for step in STEPS {
        for n in 1..=2 {
            let pair = Pair::with_files();
            pair.live(Crash::panicking_at(step, n), (NO_CUT, NO_CUT));
            pair.world.eat();
            assert!(pair.live(alive(), (NO_CUT, NO_CUT)), "{step}:{n}");
            pair.assert_each_once(&format!("crash {step}:{n}"));
        }
    }
}

#[test]
fn a_cut_and_a_crash_and_a_cut_lose_and_double_nothing() {
    for (at, step) in (150..).step_by(29).zip(STEPS) {
        let pair = Pair::with_files();
        pair.live(alive(), (at, NO_CUT));
        pair.live(Crash::panicking_at(step, 1), (NO_CUT, NO_CUT));
        pair.world.eat();
        pair.live(alive(), (NO_CUT, at));
        assert!(pair.live(alive(), (NO_CUT, NO_CUT)), "{step}, {at}");
        pair.assert_each_once(&format!("cut at {at}, crash {step}, cut at {at}"));
    }
}

#[test]
fn what_differs_from_its_announcement_is_not_taken_and_what_stands_before_it_is() {
    let pair = Pair::new();
    pair.node.put("a.1.data", b"whole");
    pair.node.put_as("b.2.data", b"damaged", 1);
    pair.node.put("c.3.data", b"behind it");
    runtime().block_on(async {
        let desk = pair.desk(alive());
        let end = pair.pull(&desk).await;
        assert!(end.fault().contains("b.2.data (0000000000000007-0000000001)"), "{}", end.fault());
        assert_eq!(pair.node.left(), ["b.2.data", "c.3.data"]);
        let farewell = pair.node.farewell.borrow().clone().expect("the node is told");
        assert_eq!(farewell.code, CloseCode::Trouble);
        assert!(farewell.text.contains("b.2.data"), "{farewell}");
    });
    assert_eq!(pair.world.contents(), ["whole"]);
    assert_eq!(pair.world.staged(), 0);
}

#[test]
fn names_that_are_no_packages_go_to_quarantine_and_block_nothing() {
    let pair = Pair::new();
    pair.node.put("notes.txt", b"unwanted");
    pair.node.put("a.1.data", b"wanted");
    assert!(pair.live(alive(), (NO_CUT, NO_CUT)));
    assert_eq!(pair.world.contents(), ["wanted"]);
    assert!(pair.node.left().is_empty());
    let sites = Ledger::read_sites(&pair.world.incoming().state).unwrap();
    assert_eq!(sites[0].quarantined, 1);
}

#[test]
fn what_is_too_large_stays_at_the_node_and_is_counted() {
    let mut pair = Pair::new();
    pair.site.sync.max_size = 10;
    pair.node.put("a.1.data", b"small");
    pair.node.put("b.2.data", b"much too large");
    pair.node.put("c.3.data", b"small too");
    pair.node.put("d.4.data", b"too large again");
    runtime().block_on(async {
        let desk = pair.desk(alive());
        for _ in 0..2 {
            let end = pair.pull(&desk).await;
            assert!(end.is_done(), "{:?}", end.result);
            assert_eq!(end.tally.left_behind(), 2);
        }
        assert_eq!(pair.node.left(), ["b.2.data", "d.4.data"]);
        pair.site.sync.max_size = 100;
        assert!(pair.pull(&desk).await.is_done());
    });
    assert_eq!(pair.world.contents(), ["much too large", "small", "small too", "too large again"]);
    assert!(pair.node.left().is_empty());
}

#[test]
fn a_body_larger_than_every_window_passes_through() {
    let pair = Pair::new();
    let large: Vec<u8> = (0..24 * 1024 * 1024_u32).map(|n| (n / 7) as u8).collect();
    pair.node.put("a.1.data", b"before");
    pair.node.put("b.2.data", &large);
    pair.node.put("c.3.data", b"behind");
    assert!(pair.live(alive(), (NO_CUT, NO_CUT)));
    let eaten = pair.world.eaten();
    assert_eq!(eaten.len(), 3);
    assert!(eaten[1].1 == large, "the bytes are the same");
    assert_eq!(pair.world.staged(), 0);
}

#[test]
fn losses_are_recorded_once_and_acknowledged() {
    let pair = Pair::with_files();
    pair.node.lose(100, 3);
    pair.node.lose(101, 4);
    assert!(pair.live(alive(), (NO_CUT, NO_CUT)));
    assert_eq!(pair.node.losses_left(), 0);
    pair.node.lose(100, 3);
    assert!(pair.live(alive(), (NO_CUT, NO_CUT)));
    let sites = Ledger::read_sites(&pair.world.incoming().state).unwrap();
    assert_eq!(sites[0].lost_there, 7, "the same record counts once");
}

#[test]
fn refusals_by_epoch_say_who_holds_it_and_what_to_do() {
    let pair = Pair::with_files();
    runtime().block_on(async {
        let desk = pair.desk(alive());
        for (code, number, words) in [
            (CloseCode::EpochOfAnother, 3, "under the epoch 3 (central-2 since noon)"),
            (CloseCode::EpochTooLow, 9, "its epoch is 9"),
            (CloseCode::EpochJump, 4, "`tidegate-buffer-node epoch reset`"),
        ] {
            *pair.node.refuses.borrow_mut() = refusal(code, number, "central-2 since noon");
            let end = pair.pull(&desk).await;
            assert!(matches!(end.result, Err(Fault::Refused(_))), "{:?}", end.result);
            let said = end.fault();
            assert!(
                said.contains(words) && said.contains("tidegate-server takeover --site plant-7"),
                "{said}"
            );
        }
        *pair.node.refuses.borrow_mut() = refusal(CloseCode::Busy, 0, "too many connections");
        let end = pair.pull(&desk).await;
        assert!(matches!(end.result, Err(Fault::Site(_))), "another attempt may help: {:?}", end.result);
        assert!(end.fault().contains("too many connections"), "{}", end.fault());
    });
    assert_eq!(pair.node.left().len(), FILES.len());
}

#[test]
fn a_full_pipeline_ends_a_scheduled_pull_and_holds_a_standing_one_back() {
    let mut pair = Pair::with_files();
    pair.site.sync.interval = Duration::from_millis(20);
    let incoming = Incoming { max_files: Some(1), ..pair.world.incoming() };
    std::fs::write(incoming.directory.join("eaten.0.data"), "in the way").unwrap();
    runtime().block_on(async {
        let desk = pair.desk_with(alive(), &incoming);
        let end = pair.pull(&desk).await;
        assert!(matches!(end.result, Err(Fault::Here(Trouble::Full(_)))), "{:?}", end.result);
        assert_eq!(pair.node.left().len(), FILES.len(), "nothing was acknowledged");
        pair.site.sync.standing = true;
        let stop = Shutdown::new();
        let eat = async {
            until(|| state(&incoming) == "pipeline-full", || async { Ok(()) }).await;
            assert_eq!(pair.node.left().len(), FILES.len());
            let eaten = || async {
                pair.world.eat();
                Ok(())
            };
            until(|| pair.node.left().is_empty(), eaten).await;
            until(|| state(&incoming) == "ok", || async { Ok(()) }).await;
            stop.begin();
        };
        let (end, ()) = tokio::join!(pair.connect(&desk, &stop, (NO_CUT, NO_CUT)), eat);
        assert!(matches!(end.result, Ok(Ended::Stopped)), "{:?}", end.result);
    });
    assert_eq!(pair.node.connections.get(), 2, "the link stayed");
    assert_eq!(pair.world.contents(), ["", "again", "first", "in the way", "second"]);
}

#[test]
fn a_standing_connection_takes_what_comes_and_a_stop_loses_nothing_of_it() {
    let mut pair = Pair::with_files();
    pair.site.sync.standing = true;
    runtime().block_on(async {
        let desk = pair.desk(alive());
        let stop = Shutdown::new();
        let agent = async {
            for n in 0..20 {
                pair.node.put(&format!("later.{n}.data"), format!("later {n:02}").as_bytes());
                until(|| pair.node.left().is_empty(), || async { Ok(()) }).await;
            }
            // When it comes to rest, what is left of it is to be written.
            let open = || Ledger::read_sites(&pair.world.incoming().state).unwrap()[0].open;
            while open() > 0 {
                desk.relay().settled().await;
                desk.run(|pipeline| pipeline.flush()).await.unwrap();
            }
            stop.begin();
        };
        let (end, ()) = tokio::join!(pair.connect(&desk, &stop, (NO_CUT, NO_CUT)), agent);
        assert!(matches!(end.result, Ok(Ended::Stopped)), "{:?}", end.result);
        assert_eq!((end.tally.packages(), end.tally.known()), (24, 24));
    });
    assert_eq!(pair.world.contents().len(), 24);
    assert_eq!(pair.node.connections.get(), 1);
    let farewell = pair.node.farewell.borrow().clone().expect("the node is told");
    assert_eq!(farewell.code, CloseCode::Stopping);
    assert_eq!(state(&pair.world.incoming()), "ok");
}

#[test]
fn what_is_taken_out_of_quarantine_is_delivered_while_a_connection_stands() {
    let mut pair = Pair::new();
    pair.site.sync.standing = true;
    pair.node.put("notes.txt", b"wanted after all");
    runtime().block_on(async {
        let desk = pair.desk(alive());
        let stop = Shutdown::new();
        let operator = async {
            until(|| pair.node.left().is_empty(), || async { Ok(()) }).await;
            assert_eq!(pair.world.staged(), 1);
            let mut quarantine = Quarantine::open(&pair.world.incoming()).unwrap().unwrap();
            let id = quarantine.list(None).unwrap()[0].id;
            assert!(matches!(quarantine.requeue(id).unwrap(), Outcome::Done(_)));
            until(|| pair.world.staged() == 0, || async { Ok(()) }).await;
            stop.begin();
        };
        let (end, ()) = tokio::join!(pair.connect(&desk, &stop, (NO_CUT, NO_CUT)), operator);
        assert!(matches!(end.result, Ok(Ended::Stopped)), "{:?}", end.result);
    });
    assert_eq!(pair.node.connections.get(), 1);
    assert_eq!(pair.world.modified().len(), 1);
}

#[test]
fn many_packages_come_in_batches_and_a_stop_in_between_repeats_at_most_what_was_under_way() {
    let mut pair = Pair::new();
    pair.site.sync.standing = true;
    let count = 3_000;
    for n in 0..count {
        pair.node.put(&format!("agent.{n}.data"), format!("{n}").repeat(100).as_bytes());
    }
    let expected: usize = count;
    runtime().block_on(async {
        let desk = pair.desk(alive());
        let stop = Shutdown::new();
        let stopper = async {
            until(|| pair.node.left().len() < expected, || async { Ok(()) }).await;
            stop.begin();
        };
        let (end, ()) = tokio::join!(pair.connect(&desk, &stop, (NO_CUT, NO_CUT)), stopper);
        assert!(matches!(end.result, Ok(Ended::Stopped)), "{:?}", end.result);
        pair.site.sync.standing = false;
        assert!(pair.pull(&desk).await.is_done());
    });
    assert_eq!(pair.world.contents().len(), count);
    assert!(pair.node.left().is_empty());
}

/// One site drains while another gets a fresh package: returns what the first still held when that was delivered.
fn left_of_a_backlog(desk: impl Fn(Desk) -> Desk) -> usize {
    let (mut busy, mut fresh) = (Pair::new(), Pair::new());
    busy.site.name = "busy".into();
    (busy.site.sync.standing, fresh.site.sync.standing) = (true, true);
    for n in 0..BACKLOG {
        busy.node.put(&format!("agent.{n}.data"), format!("{n}").repeat(100).as_bytes());
    }
    runtime().block_on(async {
        let desk = desk(Desk::new(Pipeline::open(&fresh.world.incoming(), alive()).unwrap(), 1));
        let stop = Shutdown::new();
        let agent = async {
            until(|| busy.node.left().len() < BACKLOG, || async { Ok(()) }).await;
            fresh.node.put("web01.1700000000.data", b"fresh");
            until(|| fresh.node.left().is_empty(), || async { Ok(()) }).await;
            let left = busy.node.left().len();
            stop.begin();
            left
        };
        let cut = (NO_CUT, NO_CUT);
        let (one, other, left) =
            tokio::join!(busy.connect(&desk, &stop, cut), fresh.connect(&desk, &stop, cut), agent);
        assert!(matches!((one.result, other.result), (Ok(Ended::Stopped), Ok(Ended::Stopped))));
        left
    })
}

const BACKLOG: usize = 6_000;

#[test]
fn a_fresh_package_waits_for_the_batches_under_way_and_not_for_another_sites_backlog() {
    assert!(left_of_a_backlog(|desk| desk) > BACKLOG / 3, "no more than two batches of it went first");
}

#[test]
fn a_fresh_package_gets_a_decoder_before_another_sites_backlog_is_through() {
    assert!(left_of_a_backlog(|desk| desk.with_relay(relay::Shared::with_decoders(1))) > 0);
}

#[test]
fn a_node_can_be_asked_for_its_names() {
    let pair = Pair::with_files();
    let listing = runtime().block_on(async {
        let (here, there) = connection(NO_CUT, NO_CUT);
        let (listing, ()) = tokio::join!(relay::list(&pair.site, 1, here), pair.node.serve(there));
        listing.unwrap()
    });
    let names: Vec<_> = listing.names().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["web01.1700000000.data", "db01.7.data", "host.0.data"], "each once");
    assert_eq!(pair.node.left().len(), FILES.len());
}

fn state(incoming: &Incoming) -> String {
    let sites = Ledger::read_sites(&incoming.state).unwrap();
    sites.first().map_or_else(String::new, |site| site.state.clone())
}

/// Waits until something is so, and does something for it meanwhile.
async fn until<F: Future<Output = Result<(), Trouble>>>(is_so: impl Fn() -> bool, step: impl Fn() -> F) {
    while !is_so() {
        step().await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
