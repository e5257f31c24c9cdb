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
        "sync_shared",
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
        "overflow",
        "agent_max_bytes",
        "agent_max_files",
        "name",
        "names",
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
fn syncing_of_shared_files_is_off_until_it_is_asked_for() {
    assert!(load("directory = \"/d\"\n[shared]\nmax_size = 7\n").sync_shared.is_none());
    let on = load("directory = \"/d\"\nsync_shared = true\n").sync_shared.expect("is on");
    assert_eq!((on.max_size, on.pairs.kinds().len()), (100_000_000, 3));
    let found = problems(
        "directory = \"/d\"\nsync_shared = true\nfilters = 'x:conf'\n[shared]\nmax_bytes = 10\nmax_size = 11\n",
    );
    assert!(
        found.iter().any(|text| text.starts_with("node.toml:2: `sync_shared` needs filters")),
        "{found:#?}"
    );
    assert!(
        found.iter().any(|text| text.starts_with("node.toml:6: `shared.max_size` is above")),
        "{found:#?}"
    );
    assert_eq!(found.len(), 2, "{found:#?}");
}

#[test]
fn classes_are_read_in_their_order_and_inherit_the_limits_of_agents() {
    let config = load(
        "directory = \"/d\"\n\
         [spool]\nagent_max_bytes = \"off\"\nagent_max_files = 7\n\
         [[class]]\nname = \"a-1\"\nnames = '^inv'\noverflow = \"drop_oldest\"\nmax_bytes = \"1GB\"\n\
         [[class]]\nname = \"b\"\nnames = 'x$'\nagent_max_files = \"10%\"\nmax_files = 5\n",
    );
    let shown = format!("{:?}", config.spool.overflow);
    let parts: Vec<&str> = shown.split("Class {").skip(1).collect();
    for (part, expected) in parts.iter().zip([
        r#" name: "data", policy: Refuse, max_bytes: Unlimited, max_files: Unlimited, agent_max_bytes: Unlimited, agent_max_files: Exactly(7)"#,
        r#" name: "a-1", policy: DropOldest, max_bytes: Exactly(1000000000), max_files: Unlimited, agent_max_bytes: Unlimited, agent_max_files: Exactly(7)"#,
        r#" name: "b", policy: Refuse, max_bytes: Unlimited, max_files: Exactly(5), agent_max_bytes: Unlimited, agent_max_files: Share { percent: 10, at_least: 1 }"#,
    ]) {
        assert!(part.starts_with(expected), "{part}");
    }
    assert_eq!(parts.len(), 3);
    let by_default = format!("{:?}", load("directory = \"/d\"").spool.overflow);
    assert!(by_default.contains("agent_max_files: Share { percent: 25, at_least: 1000 }"), "{by_default}");
}

#[test]
fn what_is_wrong_with_classes_is_reported_with_the_rest() {
    let found = problems(
        "directory = \"/d\"\n\
         [spool]\noverflow = \"drop\"\nagent_max_bytes = 1\nagent_max_files = \"lots\"\n\
         [[class]]\nname = \"data\"\nnames = '('\n\
         [[class]]\nname = \"Inventory\"\nname2 = 1\n\
         [[class]]\nname = \"x\"\nnames = 'x'\n\
         [[class]]\nname = \"x\"\nnames = 'y'\n\
         [[class]]\nname = \"shared\"\nnames = 'y'\n\
         [[class]]\nname = \"y\"\nnames = 'y'\nmax_bytes = 1\nagent_max_bytes = \"1MB\"\n",
    );
    for (line, expected) in [
        ("3:", "write \"refuse\" or \"drop_oldest\""),
        ("4:", "is below `max_size`"),
        ("5:", "or \"off\""),
        ("7:", "its keys stand in `[spool]`"),
        ("8:", "not a regular expression"),
        ("9:", "lacks `names`"),
        ("10:", "small letters, digits and `-`"),
        ("11:", "unknown key `class.name2`; did you mean `class.name"),
        ("16:", "a second time"),
        ("19:", "choose another"),
        ("24:", "`class.max_bytes` is below `max_size`"),
        ("25:", "`class.agent_max_bytes` is below `max_size`"),
    ] {
        let hit = found
            .iter()
            .any(|text| text.starts_with(&format!("node.toml:{line}")) && text.contains(expected));
        assert!(hit, "no {line} {expected} in {found:#?}");
    }
    // A bad expression is shown on lines of its own.
    assert_eq!(found.iter().filter(|text| text.starts_with("node.toml:")).count(), 12, "{found:#?}");
    assert!(problems("directory = \"/d\"\n[class]\nname = \"x\"\n")[0].contains("write `[[class]]`"));
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
