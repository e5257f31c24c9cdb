//! Configuration files as operators write them.

use super::*;

const SAMPLE: &str = include_str!("../../../init/buffer-node.toml");

fn load(text: &str) -> Config {
    Config::parse(Path::new("node.toml"), text, |_, _| {}).unwrap_or_else(|problems| panic!("{problems}"))
}

fn problems(text: &str) -> Vec<String> {
    let problems = Config::parse(Path::new("node.toml"), text, |_, _| {}).expect_err("problems");
    problems.to_string().lines().map(str::to_owned).collect()
}

/// The sample with every commented-out key switched on. Such a line starts with `#` and no blank.
fn uncommented() -> String {
    let uncomment = |line: &'static str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|first: char| first.is_ascii_lowercase() || first == '[') => rest,
        _ => line,
    };
    SAMPLE.lines().map(uncomment).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_sample_loads_as_it_stands_and_with_every_key_switched_on() {
    load(SAMPLE);
    let full = load(&uncommented());
    assert!(full.tls.is_some() && full.plain && full.session.password.is_some());
}

#[test]
fn the_sample_shows_every_key_and_its_default() {
    let plain = "directory = \"/var/lib/tidegate\"";
    let (sample, default) = (load(SAMPLE), load(plain));
    assert_eq!(format!("{sample:?}"), format!("{default:?}"), "the sample changes a default");
    let full = uncommented();
    for key in [
        "addresses",
        "port",
        "accept",
        "max_connections",
        "max_connections_per_address",
        "directory",
        "filters",
        "max_size",
        "overwrite",
        "password",
        "ssl_cert",
        "ssl_key",
        "ssl_ca",
        "ssl_require_client_cert",
        "puller_fingerprints",
        "insecure",
        "handshake",
        "line",
        "idle",
        "body_rate",
        "body_window",
        "buffered_bytes",
        "max_bytes",
        "max_files",
        "reserve",
        "sync_threads",
        "timed",
        "other",
        "max_entries",
    ] {
        assert!(full.lines().any(|line| line.starts_with(&format!("{key} ="))), "the sample lacks {key}");
    }
}

#[test]
fn every_problem_is_reported_at_once_with_its_line_and_a_remedy() {
    let found = problems(
        "prot = 41121\n\
         max_size = \"2 parsecs\"\n\
         overwrite = 1\n\
         filters = '.*\\conf:conf;x:spool'\n\
         ssl_key = \"/k.pem\"\n\
         [limits]\n\
         idle = 30\n",
    );
    for (line, expected) in [
        ("", "`directory` is missing"),
        ("1:", "unknown key `prot`; did you mean `port`?"),
        ("2:", "write bytes as a number"),
        ("3:", "write true or false"),
        ("4:", "lacks a dot"),
        ("4:", "the node itself uses"),
        ("5:", "set `ssl_cert`"),
        ("7:", "`limits.idle` is the number 30; write a text with a unit"),
    ] {
        let hit = found
            .iter()
            .any(|text| text.starts_with(&format!("node.toml:{line}")) && text.contains(expected));
        assert!(hit, "no {line} {expected} in {found:#?}");
    }
    assert_eq!(found.len(), 8, "{found:#?}");
}

#[test]
fn what_a_file_names_on_the_disk_is_looked_at_with_the_rest() {
    let place = tempfile::tempdir().expect("a directory");
    let file = place.path().join("node.toml");
    let check = |text: &str| {
        std::fs::write(&file, text).expect("writes");
        Config::load(&file).expect_err("problems").to_string()
    };
    let found = check(
        "directory = \"/nonexistent/above/node\"\nssl_cert = \"/no.pem\"\nssl_key = \"/no.key\"\n\
         ssl_ca = \"/no.ca\"\nmax_size = 0\n",
    );
    for expected in [
        ":1: `directory`: /nonexistent/above: No such file",
        ":2: `ssl_cert`: /no.pem:",
        ":3: `ssl_key`: /no.key:",
        ":4: `ssl_ca`: /no.ca:",
        ":5: `max_size` is zero",
    ] {
        assert!(found.contains(expected), "no {expected} in {found}");
    }
    let found = check(&format!("directory = {file:?}\n"));
    assert!(found.contains(":1: `directory`:") && found.contains("is no directory"), "{found}");
}

#[test]
fn broken_toml_and_a_missing_file_are_problems_too() {
    assert!(problems("directory = \"/x\"\nport = = 3\n")[0].starts_with("node.toml:2: is not TOML"));
    let missing = Config::load(Path::new("/nonexistent/node.toml")).expect_err("no such file").to_string();
    assert!(missing.contains("cannot be read"), "{missing}");
}

#[test]
fn tls_needs_its_files_and_plain_can_be_refused() {
    let files = "ssl_cert = \"/c\"\nssl_key = \"/k\"\nssl_ca = \"/a\"\n";
    let both = load(&format!("directory = \"/d\"\n{files}"));
    assert!(both.plain && both.tls.is_some() && both.warnings().is_empty());
    let only_tls = load(&format!("directory = \"/d\"\naccept = [\"tls\"]\n{files}"));
    assert!(!only_tls.plain && only_tls.tls.is_some());
    let only_plain = load(&format!("directory = \"/d\"\naccept = \"plain\"\n{files}"));
    assert!(only_plain.plain && only_plain.tls.is_none());
    assert!(only_plain.warnings()[0].contains("nobody can pull"));
    assert!(problems("directory = \"/d\"\naccept = [\"tls\"]")[0].contains("set `ssl_cert`"));
    assert!(problems("directory = \"/d\"\naccept = [\"ssl\"]")[0].contains("\"plain\", \"tls\" or both"));
    assert!(
        problems("directory = \"/d\"\npuller_fingerprints = [\"xyz\"]")[0].contains("-fingerprint -sha256")
    );
}

#[test]
fn the_password_is_never_printed() {
    let config = load("directory = \"/d\"\npassword = \"geheim\"");
    assert!(!format!("{config:?}").contains("geheim"));
    assert!(!problems("directory = \"/d\"\npassword = [\"geheim\"]")[0].contains("geheim"));
}
