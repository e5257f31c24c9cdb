//! Whose room is whose, and what makes room for what, on the real disk.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

use tidegate_spool::{
    Allowance, Bound, Class, DATA_CLASS, Draft, Dropped, Duplicates, Full, LossReason, Overflow, Policy,
    Settings, Spool, Stored,
};

/// Everything is `data`, but names that begin with `inv`.
fn settings(root: &Path, data: Class, inventory: Class) -> Settings {
    let classify = |name: &[u8]| name.starts_with(b"inv").then_some(0);
    Settings {
        root: root.join("spool"),
        max_bytes: 1_000_000,
        max_files: 1_000,
        reserve_bytes: 0,
        duplicates: Duplicates::default(),
        sync_threads: 1,
        overflow: Overflow::new(data, vec![inventory], classify),
    }
}

fn data() -> Class {
    Class::new(DATA_CLASS)
}

fn inventory() -> Class {
    Class { policy: Policy::DropOldest, ..Class::new("inventory") }
}

fn commit(spool: &Spool, mut draft: Draft, bytes: &[u8]) -> Stored {
    draft.write(bytes).unwrap();
    spool.commit(vec![draft]).remove(0).unwrap()
}

fn store(spool: &Spool, name: &str, bytes: &[u8]) -> Result<Stored, Full> {
    let draft = spool.begin(name.as_bytes(), bytes.len() as u64)?;
    Ok(commit(spool, draft, bytes))
}

fn store_dropping(spool: &Spool, name: &str, bytes: &[u8]) -> Result<Dropped, Full> {
    let size = bytes.len() as u64;
    let (draft, dropped) = spool.begin_dropping(name.as_bytes(), size, size)?;
    assert!(matches!(commit(spool, draft, bytes), Stored::New { .. }), "{name} is no repeat");
    Ok(dropped)
}

fn listed(spool: &Spool) -> Vec<String> {
    spool.listing().names().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

fn delete(spool: &Spool, name: &str) {
    let lease = spool.lease(name.as_bytes()).unwrap();
    spool.delete(vec![lease]).remove(0).unwrap();
}

/// "class reason packages bytes".
fn losses(spool: &Spool) -> Vec<String> {
    let show = |loss: &tidegate_spool::Loss| {
        format!("{} {} {} {}", loss.class, loss.reason, loss.packages, loss.bytes)
    };
    spool.losses().iter().map(show).collect()
}

#[test]
fn an_agent_at_its_limit_leaves_room_for_others() {
    let root = tempfile::tempdir().unwrap();
    let limited =
        Class { agent_max_files: Allowance::Exactly(2), agent_max_bytes: Allowance::Exactly(100), ..data() };
    let (spool, _) = Spool::open(settings(root.path(), limited, inventory())).unwrap();
    store(&spool, "mad.1.data", &[0; 60]).unwrap();
    let over = |limit| Some(Full::Agent { class: "data".into(), agent: "mad".into(), limit });
    assert_eq!(spool.begin(b"mad.2.data", 41).err(), over(Bound::Bytes(100)));
    let under_way = spool.begin(b"mad_2.data", 10).unwrap();
    assert_eq!(spool.begin(b"mad.3.data", 1).err(), over(Bound::Files(2)), "what is under way counts");
    store(&spool, "calm.1.data", &[0; 100]).unwrap();
    drop(under_way);
    store(&spool, "mad.2.data", &[0; 40]).unwrap();
    assert_eq!(spool.begin(b"mad.3.data", 0).err(), over(Bound::Files(2)));
    delete(&spool, "mad.1.data");
    assert!(spool.begin(b"mad.3.data", 60).is_ok());
    let full = spool.begin(b"mad.3.data", 61).err();
    assert_eq!(full.unwrap().to_string(), "agent `mad` has reached its limit of 100 bytes in class `data`");
}

#[test]
fn a_restart_counts_anew() {
    let root = tempfile::tempdir().unwrap();
    let settings = || {
        let limited = Class { agent_max_files: Allowance::Exactly(2), ..data() };
        settings(
            root.path(),
            limited,
            Class { max_bytes: Allowance::Exactly(100), ..Class::new("inventory") },
        )
    };
    {
        let (spool, _) = Spool::open(settings()).unwrap();
        store(&spool, "mad.1.data", b"x").unwrap();
        store(&spool, "mad.1.data", b"y").unwrap();
        store(&spool, "inv.1.data", &[0; 60]).unwrap();
    }
    let (spool, _) = Spool::open(settings()).unwrap();
    assert!(
        matches!(spool.begin(b"mad.2.data", 1).err(), Some(Full::Agent { .. })),
        "a made name counts too"
    );
    let class_full = Full::Class { class: "inventory".into(), limit: Bound::Bytes(100) };
    assert_eq!(spool.begin(b"inv.2.data", 41).err(), Some(class_full));
    assert!(spool.begin(b"inv.2.data", 40).is_ok());
}

#[test]
fn a_share_is_a_part_of_the_next_larger_limit() {
    let root = tempfile::tempdir().unwrap();
    let quarter = Allowance::Share { percent: 25, at_least: 0 };
    let limited = Class { agent_max_files: quarter, ..data() };
    let small =
        Class { max_files: Allowance::Exactly(8), agent_max_files: quarter, ..Class::new("inventory") };
    let (spool, _) =
        Spool::open(Settings { max_files: 12, ..settings(root.path(), limited, small) }).unwrap();
    for number in 0..3 {
        store(&spool, &format!("mad.{number}.data"), b"x").unwrap();
    }
    let limit = |full: Option<Full>| match full {
        Some(Full::Agent { limit, .. }) => limit,
        other => panic!("{other:?}"),
    };
    assert_eq!(limit(spool.begin(b"mad.3.data", 1).err()), Bound::Files(3));
    for number in 0..2 {
        store(&spool, &format!("inv.{number}.data"), b"x").unwrap();
    }
    assert_eq!(limit(spool.begin(b"inv.2.data", 1).err()), Bound::Files(2));
}

#[test]
fn a_full_class_drops_its_oldest_and_says_so() {
    let root = tempfile::tempdir().unwrap();
    let inventory = || Class { max_files: Allowance::Exactly(3), ..inventory() };
    let open = || Spool::open(settings(root.path(), data(), inventory())).unwrap().0;
    let spool = open();
    store(&spool, "web.1.data", b"never dropped").unwrap();
    for number in 1..=5 {
        let dropped = store_dropping(&spool, &format!("inv-a.{number}.data"), &[number; 10]).unwrap();
        assert_eq!(dropped.packages, u64::from(number > 3), "no more than needed of so few");
    }
    assert_eq!(listed(&spool), ["web.1.data", "inv-a.3.data", "inv-a.4.data", "inv-a.5.data"]);
    assert_eq!(losses(&spool), ["inventory dropped 1 10", "inventory dropped 1 10"]);
    assert_eq!(spool.usage().dropped, 2);
    let first = spool.losses()[0].clone();
    assert!(first.first == first.last && first.reason == LossReason::Dropped);
    drop(spool);
    let spool = open();
    assert_eq!(losses(&spool), ["inventory dropped 1 10", "inventory dropped 1 10"]);
    store_dropping(&spool, "inv-b.1.data", &[9; 10]).unwrap();
    assert_eq!(listed(&spool), ["web.1.data", "inv-a.4.data", "inv-a.5.data", "inv-b.1.data"]);
}

#[test]
fn who_sends_a_dropped_file_again_is_taken_seriously() {
    let root = tempfile::tempdir().unwrap();
    let inventory = || Class { max_files: Allowance::Exactly(1), ..inventory() };
    let open = || Spool::open(settings(root.path(), data(), inventory())).unwrap().0;
    let spool = open();
    store_dropping(&spool, "inv.1700000001.data", b"one").unwrap();
    store_dropping(&spool, "inv.1700000002.data", b"two").unwrap();
    store_dropping(&spool, "inv.1700000001.data", b"one").unwrap();
    drop(spool);
    let spool = open();
    store_dropping(&spool, "inv.1700000002.data", b"two").unwrap();
    delete(&spool, "inv.1700000002.data");
    assert_eq!(store(&spool, "inv.1700000002.data", b"two"), Ok(Stored::Repeat), "this one was pulled");
}

#[test]
fn an_agent_at_its_limit_drops_its_own() {
    let root = tempfile::tempdir().unwrap();
    let inventory = Class { agent_max_bytes: Allowance::Exactly(100), ..inventory() };
    let (spool, _) = Spool::open(settings(root.path(), data(), inventory)).unwrap();
    store_dropping(&spool, "inv-calm.1.data", &[1; 90]).unwrap();
    for number in 1..=4 {
        store_dropping(&spool, &format!("inv-mad.{number}.data"), &[number; 50]).unwrap();
    }
    assert_eq!(listed(&spool), ["inv-calm.1.data", "inv-mad.3.data", "inv-mad.4.data"]);
    assert_eq!(losses(&spool), ["inventory dropped 1 50", "inventory dropped 1 50"]);
}

#[test]
fn a_full_spool_drops_of_the_class_of_the_new_one_only() {
    let root = tempfile::tempdir().unwrap();
    let (spool, _) =
        Spool::open(Settings { max_bytes: 100, ..settings(root.path(), data(), inventory()) }).unwrap();
    store(&spool, "web.1.data", &[0; 60]).unwrap();
    store_dropping(&spool, "inv.1.data", &[1; 20]).unwrap();
    store_dropping(&spool, "inv.2.data", &[2; 20]).unwrap();
    assert_eq!(store_dropping(&spool, "web.2.data", &[0; 20]), Err(Full::Bytes { max: 100 }));
    assert_eq!(
        store_dropping(&spool, "inv.3.data", &[3; 41]),
        Err(Full::Bytes { max: 100 }),
        "nothing in vain"
    );
    assert_eq!(listed(&spool), ["web.1.data", "inv.1.data", "inv.2.data"]);
    store_dropping(&spool, "inv.3.data", &[3; 40]).unwrap();
    assert_eq!(listed(&spool), ["web.1.data", "inv.3.data"]);
}

#[test]
fn what_could_never_fit_drops_nothing() {
    let root = tempfile::tempdir().unwrap();
    let inventory = Class { max_bytes: Allowance::Exactly(100), ..inventory() };
    let (spool, _) = Spool::open(settings(root.path(), data(), inventory)).unwrap();
    store_dropping(&spool, "inv.1.data", &[0; 90]).unwrap();
    let error = store_dropping(&spool, "inv.2.data", &[0; 101]).unwrap_err();
    assert!(matches!(error, Full::TooLarge { bytes: 101, .. }), "{error:?}");
    let (mut growing, _) = spool.begin_dropping(b"inv.2.data", 10, 10).unwrap();
    assert!(matches!(growing.reserve_dropping(101), Err(Full::TooLarge { .. })));
    assert_eq!(listed(&spool), ["inv.1.data"]);
    // It may still go on within what it may have.
    growing.reserve_dropping(100).unwrap();
    assert!(listed(&spool).is_empty());
    commit(&spool, growing, &[0; 100]);
    assert_eq!(losses(&spool), ["inventory dropped 1 90"]);
}

#[test]
fn what_a_puller_has_claimed_stays() {
    let root = tempfile::tempdir().unwrap();
    let inventory = Class { max_files: Allowance::Exactly(2), ..inventory() };
    let (spool, _) = Spool::open(settings(root.path(), data(), inventory)).unwrap();
    store_dropping(&spool, "inv.1.data", b"1").unwrap();
    store_dropping(&spool, "inv.2.data", b"2").unwrap();
    let claims = [spool.lease(b"inv.1.data").unwrap(), spool.lease(b"inv.2.data").unwrap()];
    let full = Full::Class { class: "inventory".into(), limit: Bound::Files(2) };
    assert_eq!(store_dropping(&spool, "inv.3.data", b"3"), Err(full));
    let [first, second] = claims;
    drop(second);
    store_dropping(&spool, "inv.3.data", b"3").unwrap();
    assert_eq!(listed(&spool), ["inv.1.data", "inv.3.data"]);
    spool.delete(vec![first]).remove(0).unwrap();
}
