//! Shared files between a centre and its nodes: what goes where, what does not, and what operators see of it.

use tidegate_tests::agent::module;
use tidegate_tests::central::Mode;
use tidegate_tests::certificates::Authority;
use tidegate_tests::exchange::{Centre, Plant, QUICKLY, SETTINGS, equal};
use tidegate_tests::shelf::{conf, fetch, key};
use tidegate_tests::until;

/// One site and its centre, not running yet.
fn pair(site_settings: &str, more: &str) -> (Plant, Centre) {
    let authority = Authority::new();
    let plant = Plant::start(&authority, "plant", "");
    let site = plant.site(Mode::Standing, site_settings);
    let centre = Centre::new(&authority, &[site], &format!("{SETTINGS}{QUICKLY}{more}"));
    (plant, centre)
}

/// A pair that both ends have, and that was agreed on.
fn agreed(plant: &Plant, centre: &mut Centre, agent: &str, content: &str) -> String {
    let name = conf(agent);
    centre.shelf.write(&name, content);
    centre.central.run();
    until::holds("the pair is at the site", || plant.shelf.holds(&name, content));
    centre.shows(&[&name, "in sync"]);
    name
}

#[test]
fn of_a_conflict_the_centre_wins_and_the_other_is_kept_and_can_be_restored() {
    let (plant, mut centre) = pair("agents = [\"web01\"]\nshared_uploads = \"changed\"", "");
    let name = agreed(&plant, &mut centre, "web01", "first");
    centre.central.kill();
    plant.shelf.write(&name, "of the site");
    centre.shelf.write(&name, "of the centre");
    centre.central.run();
    until::holds("the centre's is at the site", || plant.shelf.holds(&name, "of the centre"));
    assert!(centre.shelf.holds(&name, "of the centre"));
    centre.shows(&[&name, "kept"]);
    centre.say(&["restore", "--site", "plant", "--yes", &name]);
    until::holds("the kept one is at both ends", || {
        centre.shelf.holds(&name, "of the site") && plant.shelf.holds(&name, "of the site")
    });
}

#[test]
fn a_change_at_the_site_is_taken_up_where_that_is_wanted_and_undone_where_not() {
    for (uploads, wins) in [("changed", "of the site"), ("first", "first")] {
        let (plant, mut centre) = pair(&format!("agents = [\"web01\"]\nshared_uploads = \"{uploads}\""), "");
        let name = agreed(&plant, &mut centre, "web01", "first");
        // An agent that knows what is there changes it.
        fetch(plant.node.address(), &name).expect("the node listens").expect("the pair is there");
        assert_eq!(plant.upload(&name, b"of the site"), "SEND OK");
        until::holds(&format!("{uploads}: {wins} is at both ends"), || {
            centre.shelf.holds(&name, wins) && plant.shelf.holds(&name, wins)
        });
    }
}

#[test]
fn a_removal_travels_and_can_be_undone() {
    let (plant, mut centre) = pair("agents = [\"web01\"]", "");
    let name = agreed(&plant, &mut centre, "web01", "first");
    centre.shelf.remove(&name);
    until::holds("it is gone at the site", || plant.shelf.lacks(&name));
    centre.say(&["restore", "--site", "plant", &name]);
    until::holds("it is back at both ends", || {
        centre.shelf.holds(&name, "first") && plant.shelf.holds(&name, "first")
    });
}

#[test]
fn what_is_no_shared_file_stays_where_it_is() {
    let (plant, mut centre) = pair("agents = [\"web01\"]", "");
    for shelf in [&plant.shelf, &centre.shelf] {
        shelf.write("readme.conf", "not the key of an agent");
        shelf.write(&format!("{}.conf", key("web01").to_uppercase()), "not in lower case");
        shelf.write("tools.zip", "no configuration names it");
        shelf.write("of_nobody.rcmd", "no configuration names it");
        shelf.write(&conf("web99"), "of an agent that nobody claims");
    }
    let before = [&plant.shelf, &centre.shelf].map(|shelf| shelf.all());
    plant.shelf.write(&conf("web01"), "first of the site");
    centre.central.run();
    until::holds("what may go up has gone", || centre.shelf.holds(&conf("web01"), "first of the site"));
    let mut after = [&plant.shelf, &centre.shelf].map(|shelf| shelf.all());
    after.iter_mut().for_each(|all| drop(all.remove(&conf("web01"))));
    assert_eq!(after, before);
}

#[test]
fn what_is_too_large_stays_and_is_shown() {
    let authority = Authority::new();
    let plant = Plant::start(&authority, "plant", "[shared]\nmax_size = 20000\n");
    let site = plant.site(Mode::Standing, "agents = [\"web01\", \"web02\", \"web03\"]");
    let mut centre = Centre::new(&authority, &[site], &format!("{SETTINGS}{QUICKLY}max_size = 30000\n"));
    let (small, medium, large) = ("small", "m".repeat(25_000), "l".repeat(35_000));
    centre.shelf.write(&conf("web01"), small);
    centre.shelf.write(&conf("web02"), &medium);
    centre.shelf.write(&conf("web03"), &large);
    centre.central.run();
    until::holds("the small one is at the site", || plant.shelf.holds(&conf("web01"), small));
    centre.shows(&[&conf("web02"), "refused", "the node's `shared.max_size`"]);
    centre.shows(&[&conf("web03"), "refused", "`max_size` in [shared]"]);
    assert_eq!(plant.shelf.all().len(), 1);
}

#[test]
fn a_claim_gives_nothing_that_the_centre_had_until_it_is_shown_or_pushed() {
    let (plant, mut centre) = pair("", "");
    for agent in ["web01", "web02"] {
        centre.shelf.write(&conf(agent), "a secret");
        plant.claim(agent);
    }
    // It has this one already: the centre gives nothing away.
    plant.shelf.write(&conf("web02"), "a secret");
    centre.central.run();
    centre.shows(&[&conf("web01"), "withheld"]);
    centre.shows(&[&conf("web02"), "in sync"]);
    centre.shelf.write(&conf("web02"), "changed");
    until::holds("the one that it had is kept up to date", || plant.shelf.holds(&conf("web02"), "changed"));
    assert!(plant.shelf.lacks(&conf("web01")));
    centre.say(&["push", "--site", "plant", &conf("web01")]);
    until::holds("the pushed one is at the site", || plant.shelf.holds(&conf("web01"), "a secret"));
}

#[test]
fn a_site_gets_nothing_of_agents_that_another_site_claimed_first() {
    let authority = Authority::new();
    let [one, two] = ["one", "two"].map(|name| Plant::start(&authority, name, ""));
    let sites = [one.site(Mode::Standing, ""), two.site(Mode::Standing, "")];
    let mut centre = Centre::new(&authority, &sites, &format!("{SETTINGS}{QUICKLY}"));
    centre.central.run();
    one.claim("web01");
    assert_eq!(one.upload(&conf("web01"), b"of the first site"), "SEND OK");
    until::holds("its first upload is here", || centre.shelf.holds(&conf("web01"), "of the first site"));
    // The other lies: it claims the agent, and offers a configuration of it and of one that nobody knows.
    two.claim("web01");
    two.claim("own");
    two.shelf.write(&conf("web01"), "a lie");
    two.shelf.write(&conf("unheard_of"), "a lie");
    assert_eq!(two.upload(&conf("own"), b"its own"), "SEND OK");
    until::holds("what is its own is here", || centre.shelf.holds(&conf("own"), "its own"));
    centre.shelf.write(&conf("web01"), "changed");
    until::holds("the edit is at the first site", || one.shelf.holds(&conf("web01"), "changed"));
    centre.shows(&[&conf("web01"), "two"]);
    assert!(two.shelf.holds(&conf("web01"), "a lie"), "neither taken nor overwritten");
    assert_eq!(centre.shelf.all().len(), 2, "nothing that was unheard of");
    assert_eq!(one.shelf.all().into_keys().collect::<Vec<_>>(), [conf("web01")]);
}

#[test]
fn collections_and_commands_go_where_the_centre_says_so_and_nowhere_else() {
    let authority = Authority::new();
    let [one, two] = ["one", "two"].map(|name| Plant::start(&authority, name, ""));
    let sites =
        [one.site(Mode::Standing, "agents = [\"web01\"]"), two.site(Mode::Standing, "agents = [\"web02\"]")];
    let mut centre = Centre::new(&authority, &sites, &format!("{SETTINGS}{QUICKLY}"));
    centre.shelf.write("tools.zip", "an archive");
    centre.shelf.write("secret.zip", "another archive");
    centre.shelf.write("restart.rcmd", "a command");
    // The site's own words name nothing that it is given.
    two.shelf.write(&conf("web02"), "file_collection secret\ncmd_file restart\n");
    let own = format!("file_collection tools\ncmd_file restart\n{}", module("m"));
    centre.shelf.write(&conf("web01"), &own);
    centre.central.run();
    until::holds("what a configuration of the centre names is at its site", || {
        one.shelf.holds("tools.zip", "an archive") && one.shelf.holds("restart.rcmd", "a command")
    });
    until::holds("the other's first upload is here", || centre.shelf.whole(&conf("web02")).is_some());
    assert!(one.shelf.holds(&conf("web01"), &own) && one.shelf.lacks("secret.zip"));
    centre.shelf.write("tools.zip", "a later archive");
    until::holds("a later archive follows", || one.shelf.holds("tools.zip", "a later archive"));
    assert_eq!(two.shelf.all().into_keys().collect::<Vec<_>>(), [conf("web02")], "its own and nothing else");
    assert!(!equal(&one.shelf, &two.shelf));
}
