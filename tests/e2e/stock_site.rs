//! The pull against a stock server, which deletes without asking: nothing is lost and nothing doubled, whatever is
//! rewritten, cut or killed between any two steps.
//!
//! The same tests run against a real stock server:
//! `TIDEGATE_STOCK_SERVER=/path/to/tentacle_server cargo test -p tidegate-tests --test stock_site`.
//!
//! What the stock server itself destroys, and nobody can save:
//! - a file overwritten (`-o`) before anybody pulled it: the earlier bytes are gone;
//! - bytes that a sender writes into a file *after* the server opened it for `MV`: they go with the unlinked file;
//! - a file rewritten twice between `RECV` and `MV`: the version in between was never readable by anybody.

mod strike;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tidegate_tests::central::{Central, Mode, Site};
use tidegate_tests::certificates::Authority;
use tidegate_tests::scenarios::each;
use tidegate_tests::scene::{OPTIONS, SETTINGS, Scene, data};
use tidegate_tests::sender::ipv4;
use tidegate_tests::stock::{PASTED_FILTERS, readable, rewrite};
use tidegate_tests::tap::{Tap, Verdict};
use tidegate_tests::{address, until};

use strike::STEPS;

#[test]
fn data_is_pulled_and_everything_else_stays() {
    let authority = Authority::new();
    let pasted = ["-I", "-o", "-i", PASTED_FILTERS];
    each(&[OPTIONS, pasted], |options| {
        let scene = Scene::with_data(3, options);
        let mut central = Central::new(&authority, &[Site::plain("stock", scene.stock.address())], SETTINGS);
        central.run();
        scene.comes_out_right(options[3], &mut central);
    });
}

#[test]
fn the_certificate_rules_of_stock_sites_are_met() {
    let authority = Authority::new();
    each(&[true, false], |mandatory| {
        let address = address::unused_socket();
        let pair = authority.node(if *mandatory { "strict" } else { "lax" }, &[ipv4(address)]);
        let [certificate, key, ca] =
            [&pair.certificate, &pair.key, &authority.certificate()].map(|path| readable(path));
        let mut options = vec!["-I", "-e", &certificate, "-k", &key];
        // It ignores what it is offered beside Tentacle.
        let mut site = Site::node("stock", address).over(Mode::Auto);
        if *mandatory {
            options.extend(["-f", &ca]);
        } else {
            site.settings = "client_cert = false\n".into();
        }
        let scene = Scene::with_data_at(address, 3, &options);
        let mut central = Central::new(&authority, &[site], SETTINGS);
        central.run();
        scene.comes_out_right("TLS", &mut central);
    });
}

#[test]
fn nothing_is_lost_or_doubled_by_a_cut_or_kill_at_any_message() {
    strike::at_each(STEPS, 3);
}

#[test]
fn nothing_is_lost_or_doubled_by_a_death_between_two_steps_of_the_server() {
    let authority = Authority::new();
    // Those that pass once for each file die at the first and at the second.
    let scenarios = [
        "after-recv:1",
        "after-recv:2",
        "after-recv-staged:1",
        "after-held:1",
        "after-mv:1",
        "after-mv:2",
        "after-committed:1",
        "after-rename:1",
        "after-rename:2",
        "after-dirsync:1",
        "after-delivered:1",
        "after-released:1",
    ];
    each(&scenarios, |step| {
        let scene = Scene::with_data(3, &OPTIONS);
        let mut central = Central::new(&authority, &[Site::plain("stock", scene.stock.address())], SETTINGS);
        central.run_with(&[("TIDEGATE_CRASH_AT", step)]);
        let ended = central.process().join();
        assert!(!ended.success(), "{step}: died");
        central.run();
        scene.comes_out_right(step, &mut central);
    });
}

/// What becomes of a file on the way, and which versions must come out: the old bytes, the new ones.
struct Rewriting {
    what: &'static str,
    change: fn(&[u8]) -> Vec<u8>,
    old_comes: bool,
    new_comes: bool,
}

const REWRITINGS: [Rewriting; 5] = [
    Rewriting { what: "shorter", change: |_| b"<agent_data/>".to_vec(), old_comes: true, new_comes: true },
    // The old bytes were the beginning of a file that was still being written.
    Rewriting {
        what: "continued",
        change: |old| [old, b"<!---->"].concat(),
        old_comes: false,
        new_comes: true,
    },
    Rewriting {
        what: "longer",
        change: |old| old.to_ascii_uppercase().repeat(2),
        old_comes: true,
        new_comes: true,
    },
    Rewriting { what: "other", change: |old| old.to_ascii_uppercase(), old_comes: true, new_comes: true },
    // Nothing is no version of a file.
    Rewriting { what: "empty", change: |_| Vec::new(), old_comes: true, new_comes: false },
];

/// The beginning of what was announced before is no version either: a cut connection looks the same. Before the announcement
/// it is one.
const CUT_OFF: fn(&[u8]) -> Vec<u8> = |old| old[..100].to_vec();

/// Where: after `RECV`, and after the server has said the size of what it will move.
const MOMENTS: [&str; 2] = ["MV <", "MV OK"];

#[test]
fn a_file_rewritten_on_the_way_comes_in_every_version_that_was_complete() {
    let authority = Authority::new();
    let cut_off = |new_comes| Rewriting { what: "cut off", change: CUT_OFF, old_comes: true, new_comes };
    let mut scenarios = vec![(cut_off(true), MOMENTS[0]), (cut_off(false), MOMENTS[1])];
    for moment in MOMENTS {
        scenarios.extend(REWRITINGS.map(|rewriting| (rewriting, moment)));
    }
    each(&scenarios, |(rewriting, moment)| {
        let (what, moment) = (format!("{} before {moment}", rewriting.what), moment.to_owned());
        let mut scene = Scene::new(&OPTIONS);
        let (name, old) = data(1);
        let path = scene.stock.put(&name, &old);
        let new = (rewriting.change)(&old);
        scene.names.push(name.clone());
        if rewriting.old_comes {
            scene.oracle.expect(&name, &old);
        }
        if rewriting.new_comes {
            scene.oracle.expect(&name, &new);
        }
        let done = AtomicBool::new(false);
        let tap = Tap::new(scene.stock.address(), move |chunk| {
            if chunk.asks(moment) && !done.swap(true, Ordering::SeqCst) {
                rewrite(&path, &new);
            }
            Verdict::Pass
        });
        let mut central = Central::new(&authority, &[Site::plain("stock", tap.address())], SETTINGS);
        central.run();
        scene.comes_out_right(&what, &mut central);
    });
}

#[test]
fn a_lie_about_the_size_at_the_move_costs_and_doubles_nothing() {
    let authority = Authority::new();
    let lies = ["99999999999999999999", "18446744073709551615", "4000000000", "5000", "3", "0", "-1", ""];
    each(&lies, |&lie| {
        let scene = Scene::with_data(3, &OPTIONS);
        let lied = Arc::new(AtomicBool::new(false));
        let noted = Arc::clone(&lied);
        let tap = Tap::new(scene.stock.address(), move |chunk| {
            if chunk.answers("MV SIZE") && !noted.swap(true, Ordering::SeqCst) {
                *chunk.bytes = format!("MV SIZE {lie}\n").into_bytes();
            }
            Verdict::Pass
        });
        let mut central = Central::new(&authority, &[Site::plain("stock", tap.address())], SETTINGS);
        central.run();
        scene.comes_out_right(&format!("MV SIZE {lie}"), &mut central);
        assert!(lied.load(Ordering::SeqCst), "MV SIZE {lie}: the lie was told");
    });
}

#[test]
fn an_empty_file_keeps_nobody_back() {
    let authority = Authority::new();
    let scene = Scene::with_data(3, &OPTIONS);
    // Before the others and after them, in whatever order the site lists them.
    for name in ["aaa.1.data", "zzz.1.data"] {
        scene.stock.put(name, b"");
    }
    let mut central = Central::new(&authority, &[Site::plain("stock", scene.stock.address())], SETTINGS);
    central.run();
    scene.comes_out_right("an empty file", &mut central);
}

#[test]
fn a_file_that_is_still_being_written_comes_whole() {
    let authority = Authority::new();
    let mut scene = Scene::new(&OPTIONS);
    let (name, whole) = data(1);
    scene.oracle.expect(&name, &whole);
    scene.names.push(name.clone());
    let path = scene.stock.put(&name, &whole[..500]);
    let growing = growth(path, whole);
    let tap = Tap::new(scene.stock.address(), move |chunk| {
        if chunk.asks("RECV") {
            growing();
        }
        Verdict::Pass
    });
    let mut central = Central::new(&authority, &[Site::plain("stock", tap.address())], SETTINGS);
    central.run();
    scene.comes_out_right("growing", &mut central);
}

/// Each call adds a little, the last one the rest.
fn growth(path: PathBuf, whole: Vec<u8>) -> impl Fn() + Send + Sync {
    let written = Mutex::new(500);
    move || {
        let mut written = written.lock().expect("no holder panics");
        *written = whole.len().min(*written + 1500);
        rewrite(&path, &whole[..*written]);
    }
}

#[test]
fn the_same_name_with_other_bytes_is_another_package() {
    let authority = Authority::new();
    let mut scene = Scene::with_data(3, &OPTIONS);
    let mut central = Central::new(&authority, &[Site::plain("stock", scene.stock.address())], SETTINGS);
    central.run();
    let name = scene.names[0].clone();
    until::holds("the first is pulled", || !scene.stock.storage().join(&name).exists());
    let (_, bytes) = data(9);
    scene.stock.put(&name, &bytes);
    scene.oracle.expect(&name, &bytes);
    scene.names = vec![name];
    scene.comes_out_right("second use of a name", &mut central);
    let names: BTreeSet<String> =
        central.pipeline.consume().into_iter().map(|arrival| arrival.name).collect();
    assert!(names.len() >= 3, "{names:?}");
}
