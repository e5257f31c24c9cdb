//! The memory of shared files: whole, beside a server, damaged.

use std::collections::BTreeSet;

use super::claims::{Claimed, Terms};
use super::pairs::{Origin, Pair, Refusal, There};
use super::sites::{Counts, SiteRow};
use super::*;
use crate::shared::Digest;
use crate::shared::decide::{Intent, Step, Why};
use crate::shared::names::Key;

const A: Digest = [1; 32];
const B: Digest = [2; 32];
const NAME: &[u8] = b"fc_1.zip";

fn opened() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("shared")).unwrap();
    (directory, store)
}

fn terms<'a>(may_give: &'a dyn Fn(Key) -> bool, configured: &'a dyn Fn(&str) -> bool) -> Terms<'a> {
    Terms { configured, may_give, max: 3, now: 100 }
}

fn claim(store: &Store, site: &str, agent: &[u8]) -> Vec<Claimed> {
    claim_on(store, site, agent, &terms(&|_| true, &|_| true))
}

fn claim_on(store: &Store, site: &str, agent: &[u8], terms: &Terms<'_>) -> Vec<Claimed> {
    let agents = [agent.into()];
    let claimed = store.write(|batch| batch.claim(site, &agents, terms)).unwrap();
    claimed.into_iter().map(|(_, _, claimed)| claimed).collect()
}

#[test]
fn the_first_site_to_claim_an_agent_has_it() {
    let (_directory, store) = opened();
    let key = Key::of_agent(b"web01");
    assert_eq!(claim(&store, "a", b"web01"), [Claimed::Now { may_give: true }]);
    assert_eq!(claim(&store, "a", b"web01"), [Claimed::Before]);
    assert_eq!(claim(&store, "b", b"web01"), [Claimed::Others { site: "a".into(), new: true }]);
    assert_eq!(claim(&store, "b", b"web01"), [Claimed::Others { site: "a".into(), new: false }]);
    // By its key, an agent is the same.
    assert_eq!(claim(&store, "b", key.as_bytes())[0], Claimed::Others { site: "a".into(), new: false });
    let known = store.claimant(key).unwrap().unwrap();
    assert_eq!(
        (known.site.as_str(), &known.too[..], &known.agent[..]),
        ("a", &["b".into()][..], &b"web01"[..])
    );
    assert_eq!(store.claimed("b").unwrap().len(), 1, "what is called like the key");
    assert_eq!(store.agents("a").unwrap(), [b"web01"[..].into()]);
    assert_eq!(store.agents("b").unwrap(), [key.as_bytes().into()]);
    assert_eq!(store.claimed("a").unwrap(), [(key, true)]);
}

#[test]
fn a_claim_of_a_site_that_is_configured_no_more_is_free() {
    let (_directory, store) = opened();
    claim(&store, "old", b"web01");
    claim(&store, "new", b"web01");
    let claimed = claim_on(&store, "new", b"web01", &terms(&|_| false, &|site| site == "new"));
    assert_eq!(claimed, [Claimed::Now { may_give: false }]);
    let known = store.claimant(Key::of_agent(b"web01")).unwrap().unwrap();
    assert_eq!((known.site.as_str(), known.too.len()), ("new", 0));
}

#[test]
fn a_site_has_no_more_agents_than_it_may_and_an_agent_no_more_claimants() {
    let (_directory, store) = opened();
    for agent in ["one", "two", "three"] {
        assert_eq!(claim(&store, "a", agent.as_bytes()), [Claimed::Now { may_give: true }]);
    }
    assert_eq!(claim(&store, "a", b"four"), [Claimed::Full]);
    for n in 0..20 {
        claim(&store, &format!("site{n}"), b"one");
    }
    assert_eq!(store.claimant(Key::of_agent(b"one")).unwrap().unwrap().too.len(), 8);
}

#[test]
fn what_both_ends_have_had_may_go_to_the_site() {
    let (_directory, store) = opened();
    let key = Key::of_agent(b"web01");
    let may_give = |store: &Store| store.claimant(key).unwrap().unwrap().may_give;
    let withheld = |store: &Store| {
        claim_on(store, "a", b"web01", &terms(&|_| false, &|_| true));
        assert!(!may_give(store));
    };
    let (name, _) = (key.conf(), withheld(&store));
    store.write(|batch| batch.agree("b", &name, A, Origin::Here)).unwrap();
    assert!(!may_give(&store), "another site's agreement gives nothing");
    store.write(|batch| batch.intend("a", &name, None, Intent::Down(Some(A)))).unwrap();
    assert!(!may_give(&store), "an intent gives nothing");
    store.write(|batch| batch.agree("a", &name, A, Origin::Here)).unwrap();
    assert!(may_give(&store));

    let (_directory, store) = opened();
    withheld(&store);
    store.write(|batch| batch.intend("a", &name, None, Intent::Up(Some(A)))).unwrap();
    assert!(may_give(&store), "what comes from the site is its own");

    let (_directory, store) = opened();
    withheld(&store);
    store.write(|batch| batch.wish("a", &name, 5)).unwrap();
    assert!(may_give(&store), "an operator said so");
}

#[test]
fn a_pair_is_remembered_step_by_step() {
    let (_directory, store) = opened();
    assert_eq!(store.pair("a", NAME).unwrap(), Pair::default());
    store.write(|batch| batch.saw("a", NAME, Some((A, 7, true)), 1_000)).unwrap();
    let there = There { digest: A, size: 7, fits: true, unfit_since: None };
    assert_eq!(store.pair("a", NAME).unwrap(), Pair { there: Some(there), ..Pair::default() });
    store.write(|batch| batch.intend("a", NAME, None, Intent::Up(Some(A)))).unwrap();
    assert_eq!(store.pair("a", NAME).unwrap().intent, Some(Intent::Up(Some(A))));
    assert!(!store.was_before("a", NAME, &A).unwrap(), "it may not come to pass");
    store.write(|batch| batch.agree("a", NAME, A, Origin::There)).unwrap();
    let pair = Pair { agreed: Some(A), taken: Some(A), there: Some(there), ..Pair::default() };
    assert_eq!(store.pair("a", NAME).unwrap(), pair);
    store.write(|batch| batch.intend("a", NAME, Some(A), Intent::Down(None))).unwrap();
    assert_eq!(store.pair("a", NAME).unwrap().intent, Some(Intent::Down(None)));
    store.write(|batch| batch.agree("a", NAME, B, Origin::Here)).unwrap();
    let pair = Pair { agreed: Some(B), ..pair };
    assert_eq!(store.pairs("a").unwrap().into_iter().collect::<Vec<_>>(), [(NAME.into(), pair)]);
    assert!(store.was_before("a", NAME, &A).unwrap() && store.was_before("a", NAME, &B).unwrap());
    assert!(!store.was_before("b", NAME, &A).unwrap(), "another site's");
    store.write(|batch| batch.forget("a", NAME)).unwrap();
    assert_eq!(store.pair("a", NAME).unwrap().there, Some(there), "until it is seen to be gone");
    store.write(|batch| batch.saw("a", NAME, None, 2_000)).unwrap();
    assert!(store.pairs("a").unwrap().is_empty(), "nothing is known of it any more");
    assert!(store.was_before("a", NAME, &A).unwrap());
}

#[test]
fn an_unfit_pair_is_so_from_when_it_was_first_seen_so() {
    let (_directory, store) = opened();
    let see = |digest, fits, now| {
        store.write(|batch| batch.saw("a", NAME, Some((digest, 1, fits)), now)).unwrap();
        store.pair("a", NAME).unwrap().there.unwrap().unfit_since
    };
    assert_eq!(see(A, false, 10), Some(10));
    assert_eq!(see(A, false, 20), Some(10));
    assert_eq!(see(B, false, 30), Some(30), "another content");
    assert_eq!(see(B, true, 40), None);
    assert_eq!(see(B, false, 50), Some(50));
    assert_eq!(see(B, false, 5), Some(5), "the clock was put back");
}

#[test]
fn a_refusal_stays_until_it_is_settled_or_an_operator_tries_again() {
    let (_directory, store) = opened();
    let refusal = Refusal { words: "no room".into(), digest: Some(A), at: 9 };
    store.write(|batch| batch.refused("a", NAME, &refusal)).unwrap();
    assert_eq!(store.pair("a", NAME).unwrap().refused, Some(refusal.clone()));
    store.write(|batch| batch.wish("a", NAME, 10)).unwrap();
    let pair = store.pair("a", NAME).unwrap();
    assert_eq!((pair.refused, pair.wished, pair.allowed), (None, Some(10), true));
    assert_eq!(store.wished_sites().unwrap(), ["a"]);
    store.write(|batch| batch.refused("a", NAME, &refusal)).unwrap();
    assert_eq!(store.wished_sites().unwrap(), [""; 0], "it was tried");
    store.write(|batch| batch.wish("a", NAME, 11).and_then(|()| batch.unwish("a", NAME))).unwrap();
    assert_eq!(store.wished_sites().unwrap(), [""; 0]);
    store.write(|batch| batch.agree("a", NAME, A, Origin::Here)).unwrap();
    assert_eq!(store.pair("a", NAME).unwrap().refused, None);
}

#[test]
fn only_so_many_contents_of_a_pair_are_remembered() {
    let (_directory, store) = opened();
    for n in 0..80 {
        store.write(|batch| batch.agree("a", NAME, [n; 32], Origin::Here)).unwrap();
    }
    store.write(|batch| batch.agree("a", NAME, [20; 32], Origin::Here)).unwrap();
    let known: Vec<u8> = (0..80).filter(|n| store.was_before("a", NAME, &[*n; 32]).unwrap()).collect();
    assert_eq!(
        known,
        [20].into_iter().chain(17..80).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    );
}

#[test]
fn kept_versions_are_bounded_and_let_go_in_time() {
    let (_directory, store) = opened();
    let keep = |name: &[u8], digest, size, now| {
        store.write(|batch| batch.keep(("a", name), (digest, size), Why::Conflict, now)).unwrap();
    };
    keep(NAME, A, 5, 1);
    keep(NAME, A, 5, 2);
    let kept = store.kept(Some("a")).unwrap();
    assert_eq!(kept.len(), 1, "the same again");
    assert_eq!((kept[0].id, kept[0].at, kept[0].why, kept[0].size), (1, 2, Why::Conflict, 5));
    assert_eq!(store.kept(Some("b")).unwrap(), []);
    for n in 0..40 {
        keep(NAME, [n; 32], 5, 3);
    }
    assert_eq!(store.kept(None).unwrap().len(), 32, "of a pair");
    keep(b"other.zip", A, 1 << 30, 4);
    assert_eq!(store.kept(None).unwrap().len(), 1, "of a site, in bytes");
    keep(b"third.zip", B, 1 << 40, 5);
    assert_eq!(store.kept_digests().unwrap().into_iter().collect::<Vec<_>>(), [B], "the newest stays");
    assert_eq!(store.write(|batch| batch.expire(5)).unwrap(), 0);
    assert_eq!(store.write(|batch| batch.expire(6)).unwrap(), 1);
}

#[test]
fn a_site_is_told_of_with_its_counts() {
    let (_directory, store) = opened();
    let mut counts = Counts::default();
    for (step, refused) in [
        (Step::Rest, false),
        (Step::Agree(A), false),
        (Step::Withhold, false),
        (Step::Leave, false),
        (Step::Drop { over: A }, false),
        (Step::Place { digest: A, over: None, keep: None }, true),
    ] {
        counts.add(&step, refused);
    }
    let expected = Counts { in_sync: 2, under_way: 1, waiting: 0, withheld: 1, left_there: 1, refused: 1 };
    assert_eq!(counts, expected);
    claim(&store, "a", b"web01");
    claim(&store, "b", b"web01");
    store.write(|batch| batch.failed("a", "cannot connect", 10)).unwrap();
    let of = |name: &str| store.sites().unwrap().into_iter().find(|site| site.name == name).unwrap();
    assert_eq!((of("a").error.as_deref(), of("a").synced), (Some("cannot connect"), None));
    store
        .write(|batch| {
            batch.keep(("a", NAME), (A, 1), Why::Conflict, 1)?;
            batch.keep(("a", NAME), (B, 1), Why::Old, 1)?;
            batch.overfull("a")?;
            batch.synced("a", &counts, 20)
        })
        .unwrap();
    let site = SiteRow {
        name: "a".into(),
        synced: Some(20),
        counts,
        overfull: true,
        kept: 2,
        conflicts: 1,
        agents: 1,
        disputed: 1,
        ..SiteRow::default()
    };
    assert_eq!(store.sites().unwrap(), [site]);
}

#[test]
fn a_command_works_beside_the_server_and_makes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let shared = directory.path().join("shared");
    assert!(Store::beside(&shared).unwrap().is_none());
    fs::create_dir(&shared).unwrap();
    drop(Connection::open(shared.join(DATABASE)).unwrap().pragma_update(None, "journal_mode", "WAL"));
    assert!(Store::beside(&shared).unwrap().is_none(), "it is just being made");
    fs::remove_dir_all(&shared).unwrap();
    let server = Store::open(&shared).unwrap();
    let command = Store::beside(&shared).unwrap().unwrap();
    command.write(|batch| batch.wish("a", NAME, 1)).unwrap();
    assert_eq!(server.wished_sites().unwrap(), ["a"]);
    server.write(|batch| batch.agree("a", NAME, A, Origin::Here)).unwrap();
    assert_eq!(command.pair("a", NAME).unwrap().agreed, Some(A));
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&shared).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o700, "it holds secrets");
}

#[test]
fn a_damaged_memory_is_set_aside_and_begun_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(DATABASE);
    fs::write(
        &path,
        "this is no database, and long enough to have a header of one hundred bytes if it were one: so.",
    )
    .unwrap();
    let store = Store::open(directory.path()).unwrap();
    assert!(store.sites().unwrap().is_empty());
    let aside = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let aside: Vec<_> = aside.filter(|name| name.to_str().unwrap().contains("damaged")).collect();
    assert_eq!(aside.len(), 1, "{aside:?}");
}

#[test]
fn damage_that_shows_later_is_no_end_either() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    store.write(|batch| batch.agree("a", NAME, A, Origin::Here)).unwrap();
    let path = directory.path().join(DATABASE);
    let other = Connection::open(&path).unwrap();
    other.pragma_update(None, "ignore_check_constraints", true).unwrap();
    other.execute("UPDATE pair SET agreed = 'nonsense'", []).unwrap();
    let command = Store::beside(directory.path()).unwrap().unwrap();
    assert!(matches!(command.pairs("a"), Err(StoreError::Sql(_))), "a command moves nothing");
    let said = store.pairs("a").expect_err("it cannot be believed");
    assert!(matches!(&said, StoreError::BegunAnew(aside) if Path::new(aside).exists()), "{said}");
    assert_eq!(store.pairs("a").unwrap().len(), 0);
    store.write(|batch| batch.agree("a", NAME, B, Origin::Here)).unwrap();
    drop(store);
    assert_eq!(Store::open(directory.path()).unwrap().pair("a", NAME).unwrap().agreed, Some(B));
}

#[test]
fn a_memory_of_a_later_version_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    drop(Store::open(directory.path()).unwrap());
    let db = Connection::open(directory.path().join(DATABASE)).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    for error in [Store::open(directory.path()).err(), Store::beside(directory.path()).err()] {
        assert!(matches!(error, Some(StoreError::Newer { found: 99, .. })), "{error:?}");
    }
}

#[test]
fn questions_about_one_site_read_no_other() {
    let (_directory, store) = opened();
    for question in [
        "SELECT * FROM pair WHERE site = ?1",
        "SELECT DISTINCT site FROM pair WHERE wished IS NOT NULL",
        "SELECT * FROM claim WHERE key = ?1",
        "SELECT key, may_give FROM claim WHERE site = ?1 ORDER BY key",
        "SELECT count(*) FROM claim WHERE site = ?1",
        "SELECT 1 FROM had WHERE site = ?1 AND name = ?2 AND digest = ?3",
        "SELECT id, digest FROM kept WHERE site = ?1 AND name = ?2 ORDER BY id DESC LIMIT 1",
        "DELETE FROM kept WHERE at < ?1",
    ] {
        let plan: Vec<String> = store
            .read(|db| {
                let mut query = db.prepare(&format!("EXPLAIN QUERY PLAN {question}"))?;
                let nothing = vec![rusqlite::types::Null; query.parameter_count()];
                query.query_map(rusqlite::params_from_iter(nothing), |row| row.get(3))?.collect()
            })
            .unwrap();
        let whole = |line: &String| line.contains("SCAN") && !line.contains("pair_wished");
        assert!(!plan.iter().any(whole), "{question}: {plan:?}");
    }
}

#[test]
fn what_was_taken_up_is_the_sites_though_the_next_step_comes_before_it_is_agreed() {
    for next in [Intent::Up(Some(B)), Intent::Down(Some(A))] {
        let (_directory, store) = opened();
        store.write(|batch| batch.intend("a", NAME, None, Intent::Up(Some(A)))).unwrap();
        store.write(|batch| batch.intend("a", NAME, Some(A), next)).unwrap();
        assert_eq!(store.pair("a", NAME).unwrap().taken, Some(A), "{next:?}");
    }
    let (_directory, store) = opened();
    store.write(|batch| batch.intend("a", NAME, None, Intent::Up(Some(A)))).unwrap();
    store.write(|batch| batch.intend("a", NAME, None, Intent::Down(Some(B)))).unwrap();
    assert_eq!(store.pair("a", NAME).unwrap().taken, None, "it did not come to pass");
}
