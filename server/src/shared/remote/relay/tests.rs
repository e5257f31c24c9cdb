//! A connection to a node that speaks by the real machine: what it costs, what a cut leaves, what lies come to.

mod node;

use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tidegate_proto::Name;
use tidegate_spool::shared::{Buckets, Seen};

use super::{Relay, SMALL};
use crate::config::{Site, SyncKeys};
use crate::pull::Fault;
use crate::shared::objects::Objects;
use crate::shared::remote::{Fetched, Known, Listing, Order, Remote, Reply, Wanted};
use node::{Node, connection, digest_of};

fn site() -> Site {
    Site { name: "plant-7".into(), host: "unused".into(), port: 1, tls: None, sync: SyncKeys::default() }
}

fn name(text: &str) -> Name {
    Name::parse_listed(text.as_bytes()).unwrap()
}

fn seen(content: &[u8]) -> Seen {
    Seen { digest: digest_of(content), size: content.len() as u64, fits: true }
}

fn large(fill: u8) -> Vec<u8> {
    (0..300_000_u32).map(|n| (n / 7) as u8 ^ fill).collect()
}

/// A node, and the objects of a server.
struct World {
    root: TempDir,
    node: Rc<Node>,
    objects: Arc<Objects>,
    site: Site,
}

/// What one connection came to, and how many bytes it took.
struct End<T> {
    result: Result<T, Fault>,
    bytes: usize,
}

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let objects = Arc::new(Objects::open(&root.path().join("objects")).unwrap());
        Self { root, node: Node::offering(), objects, site: site() }
    }

    /// A connection on which something is done.
    fn connect<T>(&self, work: impl AsyncFnOnce(&mut Relay<node::Counted>) -> Result<T, Fault>) -> End<T> {
        let (here, there, bytes) = connection();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let visit = async {
            let mut relay = Relay::open(here, &self.site, 1).await?;
            relay.turn(&Arc::default()).await?;
            let done = work(&mut relay).await?;
            relay.close().await;
            Ok(done)
        };
        let (result, ()) = runtime.block_on(async { tokio::join!(visit, self.node.serve(there)) });
        End { result, bytes: bytes.get() }
    }

    fn list(&self, there: &Buckets) -> End<Listing> {
        self.list_knowing(there, &Buckets::new())
    }

    fn list_knowing(&self, there: &Buckets, here: &Buckets) -> End<Listing> {
        let known = Known { there: there.clone(), here: here.clone() };
        self.connect(async |relay| relay.list(&known).await)
    }

    fn fetch(&self, wanted: &[Wanted]) -> (Vec<Fetched>, Result<(), Fault>) {
        let mut came = Vec::new();
        let end = self.connect(async |relay| relay.fetch(&self.objects, wanted, &mut came).await);
        (came, end.result)
    }

    fn carry_out(&self, orders: &[Order]) -> (Vec<Reply>, Result<(), Fault>) {
        let mut replies = Vec::new();
        let end = self.connect(async |relay| relay.carry_out(orders, &mut replies).await);
        (replies, end.result)
    }

    fn content(&self, text: &str, content: &[u8]) -> std::path::PathBuf {
        let path = self.root.path().join(text);
        fs::write(&path, content).unwrap();
        path
    }

    fn place(&self, text: &str, expected: Option<&[u8]>, content: &[u8]) -> Order {
        Order::Place {
            name: name(text),
            expected: expected.map(digest_of),
            digest: digest_of(content),
            size: content.len() as u64,
            content: self.content(text, content),
        }
    }

    fn requests(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.node.requests.borrow_mut())
    }
}

fn wanted(text: &str, content: &[u8]) -> Wanted {
    Wanted { name: name(text), digest: digest_of(content), size: content.len() as u64 }
}

fn is_kept(objects: &Objects, content: &[u8]) -> bool {
    let digest = digest_of(content);
    objects.has(&digest) && fs::read::<&Path>(&objects.path(&digest)).unwrap() == content
}

#[test]
fn one_difference_among_ten_thousand_pairs_costs_two_requests_and_little_more_than_the_sums() {
    let world = World::new();
    let mut known = Buckets::new();
    for n in 0..10_000_u32 {
        let (name, content) = (name(&format!("{n:032x}.conf")), format!("agent {n}").into_bytes());
        known.add(name.as_bytes(), &seen(&content));
        world.node.put(&name, &content);
    }
    let changed = name(&format!("{:032x}.conf", 4_711));
    world.node.put(&changed, b"another");
    let end = world.list(&known);
    let listing = end.result.unwrap();
    assert_eq!(listing.buckets, [Buckets::of(changed.as_bytes())]);
    assert!(listing.items.contains(&(changed, seen(b"another"))) && listing.items.len() < 40);
    assert_eq!(world.requests(), ["summary", "look"]);
    assert!(end.bytes < 20_000, "{} bytes", end.bytes);
    // Nothing differs: the sums alone.
    let mut known = Buckets::new();
    world.node.seen().iter().for_each(|(name, seen)| known.add(name.as_bytes(), seen));
    let end = world.list(&known);
    assert!(end.result.unwrap().buckets.is_empty());
    assert_eq!(world.requests(), ["summary"]);
    assert!(end.bytes < 10_000, "{} bytes", end.bytes);
}

#[test]
fn everything_comes_where_nothing_is_known() {
    let world = World::new();
    for n in 0..3_000_u32 {
        world.node.put(&name(&format!("{n:032x}.conf")), &n.to_be_bytes());
    }
    let end = world.list(&Buckets::new());
    let listing = end.result.unwrap();
    let shown: std::collections::BTreeMap<_, _> = listing.items.into_iter().collect();
    assert_eq!(shown, world.node.seen());
    assert!(!listing.more && listing.as_here.is_empty());
    // What is here is there: nothing needs to be looked into.
    let mut here = Buckets::new();
    shown.iter().for_each(|(name, seen)| here.add(name.as_bytes(), seen));
    let end = world.list_knowing(&Buckets::new(), &here);
    let listing = end.result.unwrap();
    assert!(listing.buckets.is_empty() && listing.as_here.len() > 900);
    assert!(end.bytes < 10_000, "{} bytes", end.bytes);
}

#[test]
fn contents_come_beside_each_other_and_large_ones_in_parts() {
    let world = World::new();
    let contents: Vec<Vec<u8>> = vec![
        b"first".to_vec(),
        vec![7; SMALL as usize],
        large(0),
        Vec::new(),
        vec![8; 16_384],
        b"last".to_vec(),
    ];
    let names: Vec<_> = (0..contents.len()).map(|n| format!("{n}.zip")).collect();
    for (text, content) in names.iter().zip(&contents) {
        world.node.put(&name(text), content);
    }
    let asked: Vec<_> = names.iter().zip(&contents).map(|(text, content)| wanted(text, content)).collect();
    let (came, result) = world.fetch(&asked);
    result.unwrap();
    assert_eq!(came, [Fetched::Here; 6]);
    assert!(contents.iter().all(|content| is_kept(&world.objects, content)));
}

#[test]
fn a_large_content_is_gone_on_with_after_a_cut() {
    let world = World::new();
    let content = large(1);
    world.node.put(&name("tools.zip"), &content);
    world.node.hangs_up_after.set(Some(12));
    let (came, result) = world.fetch(&[wanted("tools.zip", &content)]);
    assert_eq!(came, []);
    assert!(matches!(result, Err(Fault::Site(_))), "{result:?}");
    let before = world.requests().len();
    world.node.hangs_up_after.set(None);
    let (came, _) = world.fetch(&[wanted("tools.zip", &content)]);
    assert_eq!(came, [Fetched::Here]);
    let parts = content.len().div_ceil(16_384);
    assert!(before > 3 && before + world.requests().len() <= parts + 4, "little was fetched twice");
    assert!(is_kept(&world.objects, &content));
}

#[test]
fn what_is_another_content_or_none_or_a_lie_is_not_kept() {
    let world = World::new();
    world.node.put(&name("a.zip"), b"changed");
    world.node.put(&name("c.zip"), &large(2));
    let asked = [wanted("a.zip", b"was there"), wanted("b.zip", b"gone"), wanted("c.zip", &large(3))];
    let (came, result) = world.fetch(&asked);
    result.unwrap();
    assert_eq!(came, [Fetched::Another; 3]);
    for (told, given) in [(large(4), large(5)), (b"told".to_vec(), b"lies".to_vec())] {
        world.node.put(&name("d.zip"), &told);
        *world.node.gives.borrow_mut() = Some(given);
        let (came, result) = world.fetch(&[wanted("d.zip", &told)]);
        result.unwrap();
        assert_eq!(came, [Fetched::Damaged]);
        assert!(!world.objects.has(&digest_of(&told)));
        // More than it said, and less.
        for given in [told.repeat(2), told[1..].to_vec(), Vec::new()] {
            *world.node.gives.borrow_mut() = Some(given);
            let (came, result) = world.fetch(&[wanted("d.zip", &told)]);
            assert!(result.is_err() || came == [Fetched::Another], "{came:?}, {result:?}");
        }
        *world.node.gives.borrow_mut() = None;
        let (came, _) = world.fetch(&[wanted("d.zip", &told)]);
        assert_eq!(came, [Fetched::Here], "an honest node is believed again");
    }
}

#[test]
fn orders_are_carried_out_in_order_whatever_their_size() {
    let world = World::new();
    world.node.put(&name("old.conf"), b"old");
    world.node.put(&name("edited.conf"), b"edited there");
    world.node.put(&name("gone.conf"), b"to be removed");
    let orders = [
        world.place("new.conf", None, b"new"),
        world.place("old.conf", Some(b"old"), &[9; SMALL as usize]),
        world.place("edited.conf", Some(b"before"), b"not placed"),
        world.place("large.zip", None, &large(6)),
        Order::Remove { name: name("gone.conf"), expected: digest_of(b"to be removed") },
        Order::Remove { name: name("edited.conf"), expected: digest_of(b"before") },
        world.place("empty.conf", None, b""),
    ];
    let (replies, result) = world.carry_out(&orders);
    result.unwrap();
    let expected =
        [Reply::Done, Reply::Done, Reply::Changed, Reply::Done, Reply::Done, Reply::Changed, Reply::Done];
    assert_eq!(replies, expected);
    let pairs = world.node.pairs.borrow();
    assert_eq!(pairs[&name("new.conf")], b"new");
    assert_eq!(pairs[&name("edited.conf")], b"edited there");
    assert!(pairs[&name("large.zip")] == large(6) && !pairs.contains_key(&name("gone.conf")));
}

#[test]
fn a_large_placement_is_gone_on_with_after_a_cut_and_a_damaged_one_is_not_placed() {
    let world = World::new();
    let content = large(7);
    let order = world.place("tools.zip", None, &content);
    world.node.hangs_up_after.set(Some(10));
    let (replies, result) = world.carry_out(std::slice::from_ref(&order));
    assert!(replies.is_empty() && result.is_err());
    let before = world.requests().len();
    world.node.hangs_up_after.set(None);
    let (replies, _) = world.carry_out(std::slice::from_ref(&order));
    assert_eq!(replies, [Reply::Done]);
    assert!(before + world.requests().len() <= content.len().div_ceil(16_384) + 3, "nothing went twice");
    assert!(world.node.pairs.borrow()[&name("tools.zip")] == content);
    let Order::Place { name: tools, digest, size, .. } = order else { unreachable!("it is one") };
    let lie = world.content("lie", &large(8));
    world.node.pairs.borrow_mut().clear();
    let order = Order::Place { name: tools, expected: None, digest, size, content: lie };
    let (replies, _) = world.carry_out(&[order]);
    assert_eq!(replies, [Reply::Damaged]);
    assert!(world.node.pairs.borrow().is_empty());
}

#[test]
fn a_refusal_is_told_in_the_nodes_words() {
    let world = World::new();
    world.node.refuses.set(true);
    for content in [b"small".to_vec(), large(9)] {
        let (replies, result) = world.carry_out(&[world.place("a.zip", None, &content)]);
        result.unwrap();
        assert_eq!(replies, [Reply::Refused("no room".into())]);
    }
}

#[test]
fn a_node_that_does_not_share_is_told_with_the_line_that_switches_it_on() {
    let world = World::new();
    world.node.offers.set(false);
    let fault = world.list(&Buckets::new()).result.unwrap_err();
    assert!(matches!(fault, Fault::Refused(_)), "{fault:?}");
    assert!(fault.to_string().contains("`sync_shared = true`"), "{fault}");
}

#[test]
fn a_node_that_never_answers_is_left() {
    let mut world = World::new();
    world.node.is_mute.set(true);
    (world.site.sync.timeout, world.site.sync.rate) = (Duration::from_millis(100), Some(1 << 40));
    let fault = world.list(&Buckets::new()).result.unwrap_err();
    assert!(fault.to_string().contains("did not answer"), "{fault}");
}
