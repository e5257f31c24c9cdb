//! The real process against small sites: commands, exit codes, one process a ledger, and being killed.

mod operator;
mod support;

use support::{Manner, Server, Site, flip, text, until};

const FILES: [(&str, &[u8]); 3] =
    [("db01.7.data", b"a"), ("web01.1700000000.data", b"b"), ("web01.1700000300.data", b"\xe9\n")];

fn filled() -> Site {
    let site = Site::start(Manner::Honest);
    FILES.iter().for_each(|(name, bytes)| site.put(name, bytes));
    site
}

fn assert_all_arrived(server: &Server) {
    assert_eq!(server.delivered(), FILES.map(|(name, bytes)| (name.to_owned(), bytes.to_vec())));
}

#[test]
fn a_pull_by_hand_takes_everything_and_says_so() {
    let site = filled();
    site.put("0123.conf", b"stays");
    let server = Server::new(&[("plant-7", site.address)], "");
    let output = server.output(&["pull", "--once"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "plant-7: 3 packages, 4 bytes, ok\n");
    assert_all_arrived(&server);
    assert!(site.directory.path().join("0123.conf").exists(), "shared files stay");

    let status = server.output(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    let shown = &status["sites"][0];
    assert_eq!(
        (&shown["name"], &shown["kind"], &shown["state"]),
        (&"plant-7".into(), &"stock".into(), &"ok".into())
    );
    assert_eq!((&shown["packages"], &shown["bytes"], &shown["open"]), (&3.into(), &4.into(), &0.into()));
}

#[test]
fn a_pull_that_misses_a_site_pulls_the_others_and_exits_69() {
    let site = filled();
    let silent = Site::start(Manner::Silent);
    let settings = "sync_timeout = \"300ms\"\nsync_retries = 1";
    let server = Server::new(&[("plant-7", site.address), ("silent", silent.address)], settings);
    let output = server.output(&["pull", "--once"]);
    assert_eq!(output.status.code(), Some(69), "{}", text(&output.stderr));
    assert!(
        text(&output.stdout).contains("silent: 0 packages, 0 bytes, unreachable: "),
        "{}",
        text(&output.stdout)
    );
    assert_all_arrived(&server);
    let only = server.output(&["pull", "--once", "--site", "plant-7"]);
    assert_eq!(only.status.code(), Some(0));
    let unknown = server.output(&["pull", "--once", "--site", "plant-8"]);
    assert_eq!(unknown.status.code(), Some(64));
    assert!(text(&unknown.stderr).contains("there are: plant-7, silent"), "{}", text(&unknown.stderr));
}

#[test]
fn a_site_that_lies_about_sizes_loses_nothing_and_gets_nothing_through() {
    let site = Site::start(Manner::Short);
    site.put("web01.1700000000.data", b"content");
    let server = Server::new(&[("liar", site.address)], "sync_retries = 2\nsync_timeout = 1");
    let output = server.output(&["pull", "--once"]);
    assert_eq!(output.status.code(), Some(69), "{}", text(&output.stdout));
    assert_eq!(server.delivered(), []);
    assert!(!site.is_empty());
}

#[test]
fn a_file_that_is_too_big_stays_is_counted_and_holds_nobody_up() {
    let site = filled();
    site.put("big.1.data", &[b'x'; 2000]);
    let server = Server::new(&[("plant-7", site.address)], "max_size = 1000");
    let output = server.output(&["pull", "--once"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let expected = "plant-7: 3 packages, 4 bytes, ok (1 that cannot be taken stay there)\n";
    assert_eq!(text(&output.stdout), expected);
    assert_all_arrived(&server);
    assert!(site.directory.path().join("big.1.data").exists());
    let status: serde_json::Value =
        serde_json::from_slice(&server.output(&["status", "--json"]).stdout).unwrap();
    assert_eq!(status["sites"][0]["held_back"], 1);
}

#[test]
fn an_empty_file_stays_is_counted_and_holds_nobody_up() {
    let site = filled();
    site.put("aaa.1.data", b"");
    let server = Server::new(&[("plant-7", site.address)], "");
    let output = server.output(&["pull", "--once"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let expected = "plant-7: 3 packages, 4 bytes, ok (1 that cannot be taken stay there)\n";
    assert_eq!(text(&output.stdout), expected);
    assert_all_arrived(&server);
    assert!(site.directory.path().join("aaa.1.data").exists());
}

#[test]
fn a_pull_that_is_stopped_says_so_and_exits_75() {
    let site = Site::start(Manner::Busy);
    let server = Server::new(&[("plant-7", site.address)], "");
    let pull = server.start(&["pull", "--once"]);
    let status = || text(&server.output(&["status"]).stdout);
    until("the listing", || status().contains("  stock  ") && status().contains("  ok  "));
    let (code, log) = pull.stop();
    assert_eq!(code, Some(75), "{log}");
    assert!(log.contains("1 of 1 sites were not pulled to the end"), "{log}");
}

#[test]
fn a_pull_into_a_full_pipeline_exits_75() {
    let site = filled();
    let server = Server::new(&[("plant-7", site.address)], "incoming_max_files = 1");
    std::fs::write(server.incoming().join("backlog"), "").unwrap();
    let output = server.output(&["pull", "--once"]);
    assert_eq!(output.status.code(), Some(75), "{}", text(&output.stdout));
    assert!(
        text(&output.stdout).contains("not taken: incomingdir holds 1 files"),
        "{}",
        text(&output.stdout)
    );
}

#[test]
fn a_site_that_refuses_mv_costs_one_line() {
    let site = Site::start(Manner::Keeping);
    FILES.iter().for_each(|(name, bytes)| site.put(name, bytes));
    let server = Server::new(&[("plant-7", site.address)], "");
    let output = server.output(&["pull", "--once"]);
    let log = text(&output.stderr);
    assert_eq!(log.matches("refused MV").count(), 1, "{log}");
    assert!(log.contains("packages=3"), "{log}");
}

#[test]
fn a_missing_incomingdir_may_be_mounted_later() {
    let server = Server::new(&[("plant-7", "127.0.0.1:1".parse().unwrap())], "");
    std::fs::remove_dir(server.incoming()).unwrap();
    let output = server.output(&["run"]);
    assert_eq!(output.status.code(), Some(75), "{}", text(&output.stderr));
}

#[test]
fn a_process_that_dies_at_any_step_loses_and_doubles_nothing() {
    let steps = [
        "after-recv:2",
        "after-recv-staged:1",
        "after-held:1",
        "after-mv:2",
        "after-committed:1",
        "after-rename:2",
        "after-dirsync:1",
        "after-delivered:1",
        "after-released:1",
    ];
    std::thread::scope(|threads| steps.iter().for_each(|step| drop(threads.spawn(|| die_and_go_on(step)))));
}

fn die_and_go_on(step: &str) {
    let site = filled();
    let server = Server::new(&[("plant-7", site.address)], "");
    server.crash(&["pull", "--once"], step);
    let output = server.output(&["pull", "--once"]);
    assert_eq!(output.status.code(), Some(0), "after {step}: {}", text(&output.stderr));
    assert_all_arrived(&server);
    assert!(site.is_empty(), "after {step}");
}

#[test]
fn one_process_has_the_ledger_and_another_exits_75_with_words() {
    let site = filled();
    let server = Server::new(&[("plant-7", site.address)], "sync_interval = \"200ms\"");
    let daemon = server.run();
    until("the daemon's pull", || site.is_empty());
    for arguments in [&["pull", "--once"][..], &["run"]] {
        let output = server.output(arguments);
        assert_eq!(output.status.code(), Some(75), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("another tidegate-server uses the ledger"));
    }
    let status = server.output(&["status"]);
    assert_eq!(status.status.code(), Some(0));
    assert!(text(&status.stdout).contains("plant-7"), "{}", text(&status.stdout));
    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0), "{log}");
    assert_all_arrived(&server);
}

#[test]
fn a_daemon_goes_on_when_incomingdir_has_room_again() {
    let site = filled();
    let settings = "sync_interval = \"100ms\"\nincoming_max_files = 1";
    let server = Server::new(&[("plant-7", site.address)], settings);
    let in_the_way = server.incoming().join("backlog");
    std::fs::write(&in_the_way, "").unwrap();
    let daemon = server.run();
    until("the stop of the pull", || text(&server.output(&["status"]).stdout).contains("pipeline-full"));
    assert!(!site.is_empty());
    std::fs::remove_file(&in_the_way).unwrap();
    until("the pull", || site.is_empty());
    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0), "{log}");
    assert_all_arrived(&server);
}

#[test]
fn a_configuration_is_checked_with_exit_codes() {
    let server = Server::new(&[("plant-7", "127.0.0.1:1".parse().unwrap())], "");
    for arguments in [&["validate"][..], &["-t"]] {
        let output = server.output(arguments);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("warning: site plant-7: tls = \"off\""));
    }
    std::fs::remove_dir(server.incoming()).unwrap();
    assert_eq!(server.output(&["validate"]).status.code(), Some(78));
    std::fs::write(server.config(), "nonsense = 1\n").unwrap();
    let output = server.output(&["validate"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(
        text(&output.stderr).contains("server.toml:1: unknown key `nonsense`"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(server.output(&["pull"]).status.code(), Some(64), "--once is needed");
}

#[test]
fn a_damaged_ledger_stops_the_server_and_a_new_one_adopts_what_was_staged() {
    let site = filled();
    let server = Server::new(&[("plant-7", site.address)], "");
    server.crash(&["pull", "--once"], "after-held:1");
    let log = server.state().join("ledger.sqlite-wal");
    flip(&log, b"CREATE TABLE package");
    for command in [&["run"][..], &["pull", "--once"]] {
        let output = server.output(command);
        assert_eq!(output.status.code(), Some(78), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("the ledger is damaged: frame "), "{}", text(&output.stderr));
    }
    assert_eq!(server.delivered(), []);
    assert!(!site.is_empty());

    let asked = server.output(&["ledger", "reset"]);
    assert_eq!(asked.status.code(), Some(64));
    assert!(text(&asked.stderr).contains("may reach the pipeline a second time"), "{}", text(&asked.stderr));
    assert!(log.exists(), "nothing was touched");
    let reset = server.output(&["ledger", "reset", "--yes"]);
    assert_eq!(reset.status.code(), Some(0), "{}", text(&reset.stderr));
    assert!(text(&reset.stdout).contains("3 staged files are in its quarantine"), "{}", text(&reset.stdout));
    let output = server.output(&["pull", "--once"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(site.is_empty());
    assert_all_arrived(&server);
    let status: serde_json::Value =
        serde_json::from_slice(&server.output(&["status", "--json"]).stdout).unwrap();
    let quarantined =
        status["sites"].as_array().unwrap().iter().map(|site| site["quarantined"].as_u64().unwrap());
    assert_eq!(quarantined.sum::<u64>(), 3);
}

#[test]
fn a_site_that_is_configured_no_more_is_told_of_while_packages_of_it_are_here() {
    let site = filled();
    let server = Server::new(&[("plant-7", site.address)], "");
    server.crash(&["pull", "--once"], "after-held:1");
    let config = std::fs::read_to_string(server.config()).unwrap();
    std::fs::write(server.config(), config.replace("plant-7", "renamed")).unwrap();
    let output = server.output(&["pull", "--once"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let log = text(&output.stderr);
    assert!(log.contains("is not configured: what is held waits for its listing"), "{log}");
    assert!(log.contains("plant-7"), "{log}");
}
