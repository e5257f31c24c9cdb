//! Several connections to a stock server side by side: nothing is lost and nothing doubled, whatever is cut or killed, and
//! a server without slots for them is pulled all the same.
//!
//! The same tests run against a real stock server:
//! `TIDEGATE_STOCK_SERVER=/path/to/tentacle_server cargo test -p tidegate-tests --test stock_beside`.

mod strike;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use tidegate_tests::central::{Central, Site};
use tidegate_tests::certificates::Authority;
use tidegate_tests::scenarios::each;
use tidegate_tests::scene::{OPTIONS, SETTINGS, Scene};
use tidegate_tests::tap::{From, Tap, Verdict};
use tidegate_tests::until;

use strike::STEPS;

/// More than four connections are worth.
const FILES: usize = 24;

#[test]
fn a_backlog_is_pulled_by_as_many_connections_as_are_allowed() {
    let authority = Authority::new();
    each(&[1, 2, 4], |&allowed| {
        let mut scene = Scene::with_data(FILES, &OPTIONS);
        let asked = Arc::new(Mutex::new([BTreeSet::new(), BTreeSet::new()]));
        let noted = Arc::clone(&asked);
        let tap = Tap::new(scene.stock.address(), move |chunk| {
            let mut noted = noted.lock().expect("no holder panics");
            if noted.iter().all(|connections| connections.len() == allowed) {
                return Verdict::Pass;
            }
            // Each listing begins anew: the connections beside the first are others then.
            if chunk.asks("LS <.data>") {
                *noted = [BTreeSet::new(), BTreeSet::new()];
            }
            for (at, verb) in ["RECV <", "MV <"].iter().enumerate() {
                if chunk.asks(verb) {
                    noted[at].insert(chunk.connection);
                }
            }
            Verdict::Pass
        });
        let mut site = Site::plain("stock", tap.address());
        site.settings += &format!("sync_connections = {allowed}\n");
        let mut central = Central::new(&authority, &[site], SETTINGS);
        central.run();
        let mut index = FILES;
        // On a busy machine a connection may come too late for a batch: then for the next one.
        until::holds(&format!("{allowed} connections"), || {
            let sizes = asked.lock().expect("no holder panics").each_ref().map(BTreeSet::len);
            assert!(
                sizes.iter().all(|size| *size <= allowed),
                "{sizes:?} connections, {allowed} are allowed"
            );
            let reached = sizes == [allowed; 2];
            if !reached && scene.names.iter().all(|name| !scene.stock.storage().join(name).exists()) {
                scene.add(index..index + FILES);
                index += FILES;
            }
            reached
        });
        scene.comes_out_right(&format!("{allowed} connections"), &mut central);
    });
}

#[test]
fn a_server_without_free_slots_is_pulled_with_those_it_has() {
    let authority = Authority::new();
    each(&["1", "2"], |slots| {
        let mut options = OPTIONS.to_vec();
        options.extend(["-c", slots]);
        let scene = Scene::with_data(FILES, &options);
        let mut central = Central::new(&authority, &[Site::plain("stock", scene.stock.address())], SETTINGS);
        central.run();
        scene.comes_out_right(&format!("{slots} slots"), &mut central);
    });
}

#[test]
fn nothing_is_lost_or_doubled_by_a_cut_or_kill_at_any_message() {
    let later = [
        ("a RECV in the middle", From::Dialler, "RECV <", 10),
        ("a body in the middle", From::Listener, "RECV OK", 11),
        ("a MV in the middle", From::Dialler, "MV <", 10),
        ("a size in the middle", From::Listener, "MV <", 12),
        ("a moved body in the middle", From::Listener, "MV OK", 13),
        ("the last MV", From::Dialler, "MV <", FILES as u32),
    ];
    let requests = STEPS.into_iter().chain(later).filter(|(_, _, request, _)| !request.starts_with("LS"));
    strike::at_each(requests, FILES);
}
