//! What a pull has to do with shared files: it leaves them their part of the rate, hears the node's sign, and learns whose
//! agents' packages come.

use std::fs;
use std::sync::Arc;

use super::fake::alive;
use super::relay::{Pair, runtime};
use crate::config::Config;
use crate::shared::Shared;

/// Shared files, on for the site of a pair or off.
fn shared(pair: &Pair, on: bool) -> Option<Arc<Shared>> {
    let incoming = pair.world.incoming();
    for folder in ["conf", "md5"] {
        fs::create_dir_all(incoming.directory.join(folder)).unwrap();
    }
    fs::create_dir_all(&incoming.state).unwrap();
    let text = format!(
        "incomingdir = {:?}\nstate_directory = {:?}\nsync_shared = {on}\n\
         [[site]]\nname = {:?}\naddress = \"a\"\ntls = \"off\"\n",
        incoming.directory, incoming.state, pair.site.name
    );
    let file = incoming.state.join("server.toml");
    fs::write(&file, text).unwrap();
    let config = Config::load(&file).unwrap_or_else(|problems| panic!("{problems}"));
    Shared::open(&config).unwrap()
}

#[test]
fn a_pull_leaves_a_part_of_the_rate_hears_the_sign_and_learns_whose_agents_are_the_sites() {
    let mut pair = Pair::with_files();
    pair.site.sync.rate = Some(100_000);
    pair.node.sign.set(Some(7));
    runtime().block_on(async {
        let shared = shared(&pair, true).unwrap();
        let desk = pair.desk(alive()).with_shared(Some(Arc::clone(&shared)));
        assert!(pair.pull(&desk).await.is_done());
        assert_eq!(pair.node.rate.get(), 75_000);
        assert!(shared.bells().is_rung(&pair.site.name));
        assert_eq!(shared.scan().unwrap(), [pair.site.name.clone()]);
        let scope = shared.scope(&pair.site.name).unwrap();
        // MD5 of "web01".
        assert!(scope.contains(b"2f527604e1deff1329720282d8d3cfa1.conf"));
    });
}

#[test]
fn where_shared_files_are_off_the_packages_have_all_of_the_rate() {
    let mut pair = Pair::with_files();
    pair.site.sync.rate = Some(100_000);
    runtime().block_on(async {
        let desk = pair.desk(alive()).with_shared(shared(&pair, false));
        assert!(pair.pull(&desk).await.is_done());
        assert_eq!(pair.node.rate.get(), 100_000);
    });
}
