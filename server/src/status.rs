//! `status`: what the ledger knows about every site, as a table or as JSON. Reads beside a running server.

mod shared;
mod there;

use std::fmt::Write as _;
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::cli::Failure;
use crate::config::Config;
use crate::ledger::{Ledger, SiteRow, seconds};
use crate::report::{self, ago, lasting};
use shared::SharedFiles;
use there::There;

/// Prints it: of all sites, or all about one.
pub(crate) fn print(config: &Config, site: Option<&str>, json: bool) -> Result<(), Failure> {
    let mut rows = Ledger::read_sites(&config.incoming.state).map_err(|error| Failure::ledger(&error))?;
    rows.retain(|row| {
        row.open + row.quarantined > 0 || config.sites.iter().any(|site| site.name == row.name)
    });
    for site in &config.sites {
        if !rows.iter().any(|row| row.name == site.name) {
            rows.push(SiteRow::untried(&site.name));
        }
    }
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(site) = site {
        let names: Vec<_> = rows.iter().map(|row| row.name.clone()).collect();
        rows.retain(|row| row.name == site);
        if rows.is_empty() {
            return Err(Failure::Usage(format!(
                "no site is called {site:?}; there are: {}",
                names.join(", ")
            )));
        }
    }
    let now = seconds(SystemTime::now());
    let shared = SharedFiles::read(config);
    if json {
        report::say_json(&document(&rows, &shared, now));
    } else {
        let cards = rows.iter().filter(|_| site.is_some()).map(|row| card(row, &shared, now));
        report::say(&(table(&rows, &shared, now) + &cards.collect::<String>()));
    }
    Ok(())
}

fn document(rows: &[SiteRow], shared: &SharedFiles, now: i64) -> Value {
    let mut document = json!({ "sites": rows, "now": now });
    if shared.is_on() {
        for (site, row) in rows.iter().enumerate() {
            document["sites"][site]["shared"] = shared.document(&row.name);
        }
        document["shared_error"] = shared.error().into();
    }
    document
}

/// The columns; shared files have one only where a site shares any.
const HEADER: [&str; 14] = [
    "SITE",
    "KIND",
    "MODE",
    "STATE",
    "CONTACT",
    "PACKAGES",
    "BYTES",
    "OPEN",
    "HELD BACK",
    "QUARANTINE",
    "LOST",
    "AT SITE",
    "OLDEST",
    "LAST PACKAGE",
];

fn table(rows: &[SiteRow], shared: &SharedFiles, now: i64) -> String {
    let lines = rows.iter().map(|row| line(row, now));
    let mut text = if shared.is_on() {
        let cells = rows.iter().map(|row| shared.cell(&row.name));
        let lines = lines.zip(cells).map(|(line, cell)| with_shared(line, cell));
        report::table(with_shared(HEADER, "SHARED"), lines)
    } else {
        report::table(HEADER, lines)
    };
    if let Some(error) = shared.error() {
        let _ = writeln!(text, "shared files: {error}");
    }
    for row in rows {
        let site = &row.name;
        if let (Some(error), Some(at)) = (&row.last_error, row.last_error_at) {
            let _ = writeln!(text, "{site}: last error, {}: {error}", ago(now - at));
        }
        if row.quarantined > 0 {
            let count = row.quarantined;
            let _ = writeln!(
                text,
                "{site}: {count} in quarantine: `tidegate-server quarantine list` says why; then requeue or purge them"
            );
        }
        if row.lost > 0 {
            let count = row.lost;
            let _ = writeln!(text, "{site}: {count} lost: `tidegate-server losses` says what, when and why");
        }
        if row.lost_there > 0 {
            let count = row.lost_there;
            let _ = writeln!(
                text,
                "{site}: {count} refused or lost at the site itself: `tidegate-server losses` says what, when and why"
            );
        }
        let there = There::of(row, now).map_or_else(Vec::new, |there| there.warnings());
        for warning in there.into_iter().chain(shared.warnings(site, now)) {
            let _ = writeln!(text, "{site}: {warning}");
        }
    }
    text
}

/// A line with one cell more, before the last.
fn with_shared<T>(line: [T; 14], cell: T) -> [T; 15] {
    let mut cells: Vec<T> = line.into();
    cells.insert(13, cell);
    cells.try_into().ok().expect("14 cells and one are 15")
}

fn line(row: &SiteRow, now: i64) -> [String; 14] {
    let package = match (&row.last_package, row.last_package_at) {
        (Some(name), Some(at)) => format!("{name} ({})", ago(now - at)),
        _ => "-".into(),
    };
    let dash = || "-".to_owned();
    let there = There::of(row, now);
    let there = there.as_ref();
    [
        row.name.clone(),
        row.kind.clone().unwrap_or_else(dash),
        row.mode.clone().unwrap_or_else(dash),
        row.state.clone(),
        row.last_contact.map_or_else(|| "never".into(), |at| ago(now - at)),
        row.packages.to_string(),
        row.bytes.to_string(),
        row.open.to_string(),
        row.held_back.to_string(),
        row.quarantined.to_string(),
        row.lost.to_string(),
        there.and_then(There::packages).map_or_else(dash, |packages| packages.to_string()),
        there.and_then(There::oldest).map_or_else(dash, lasting),
        package,
    ]
}

/// All about one site that is in no column, a line each.
fn card(row: &SiteRow, shared: &SharedFiles, now: i64) -> String {
    let mut text = String::new();
    let mut say = |key: &str, value: &str| {
        let _ = writeln!(text, "  {key:<13} {value}");
    };
    say("repeats", &row.repeats.to_string());
    say("epoch", &row.epoch.to_string());
    if let Some(software) = &row.software {
        say("software", software);
    }
    match There::of(row, now) {
        Some(there) => there.details().iter().for_each(|(key, value)| say(key, value)),
        None => say("told", "nothing of itself: only a Tidegate node that is pulled by relay does"),
    }
    shared.details(&row.name, now).iter().for_each(|(key, value)| say(key, value));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::store::sites::{self, Counts};

    fn of_a_node() -> SiteRow {
        SiteRow {
            kind: Some("tidegate".into()),
            mode: Some("relay".into()),
            state: "ok".into(),
            last_contact: Some(9_995),
            software: Some("tidegate-buffer-node 0.1.0".into()),
            clock_offset_ms: Some(-90_000),
            status: Some(serde_json::json!({
                "packages": 12, "max_packages": 1000, "bytes": 3400, "oldest_arrival": 9_000_000_u64,
                "clock": 9_900_000_u64, "limits_hit": 0b1001, "cert_expiry": 100_000, "intake_rate": 60,
            })),
            status_at: Some(9_992),
            lost_there: 3,
            ..SiteRow::untried("node")
        }
    }

    #[test]
    fn the_table_shows_what_an_operator_asks_first() {
        let rows = [
            SiteRow {
                kind: Some("stock".into()),
                mode: Some("tentacle".into()),
                state: "unreachable".into(),
                last_contact: Some(4_000),
                last_package: Some("web01.1.data".into()),
                last_package_at: Some(3_000),
                packages: 12,
                bytes: 3_400,
                last_error: Some("cannot connect".into()),
                last_error_at: Some(9_990),
                quarantined: 2,
                lost: 5,
                ..SiteRow::untried("plant-7")
            },
            SiteRow::untried("new-site"),
            of_a_node(),
        ];
        assert_eq!(
            table(&rows, &SharedFiles::default(), 10_000),
            "SITE      KIND      MODE      STATE        CONTACT      PACKAGES  BYTES  OPEN  HELD BACK  QUARANTINE  LOST  AT SITE  OLDEST  LAST PACKAGE\n\
             plant-7   stock     tentacle  unreachable  100 min ago  12        3400   0     0          2           5     -        -       web01.1.data (116 min ago)\n\
             new-site  -         -         new          never        0         0      0     0          0           0     -        -       -\n\
             node      tidegate  relay     ok           5 s ago      0         0      0     0          0           0     12       15 min  -\n\
             plant-7: last error, 10 s ago: cannot connect\n\
             plant-7: 2 in quarantine: `tidegate-server quarantine list` says why; then requeue or purge them\n\
             plant-7: 5 lost: `tidegate-server losses` says what, when and why\n\
             node: 3 refused or lost at the site itself: `tidegate-server losses` says what, when and why\n\
             node: limits hit there lately: max_connections, quota of an agent\n\
             node: its certificate expires in 25 hours: `tidegate-certs renew`\n\
             node: its clock is 1 min behind this server's\n"
        );
    }

    #[test]
    fn all_about_a_site_is_said_with_its_age() {
        let text = card(&of_a_node(), &SharedFiles::default(), 10_000);
        for line in [
            "  epoch         1\n",
            "  software      tidegate-buffer-node 0.1.0\n",
            "  told          8 s ago\n",
            "  holds         12 of 1000 packages, the oldest for 15 min\n",
            "  takes in      60 a minute, - since its start\n",
            "  certificate   until 1970-01-02T03:46:40Z\n",
        ] {
            assert!(text.contains(line), "{line:?} in {text}");
        }
        assert!(card(&SiteRow::untried("new"), &SharedFiles::default(), 0).contains("nothing of itself"));
    }

    #[test]
    fn shared_files_have_a_column_where_a_site_shares_any() {
        let counts = Counts { in_sync: 3, withheld: 1, ..Counts::default() };
        let row =
            sites::SiteRow { name: "node".into(), synced: Some(9_000), counts, ..sites::SiteRow::default() };
        let shared = SharedFiles::of_one(row);
        let rows = [of_a_node(), SiteRow::untried("other")];
        let text = table(&rows, &shared, 10_000);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].contains("OLDEST  SHARED  LAST PACKAGE"), "{text}");
        assert!(lines[1].contains("15 min  3 of 4  -"), "{text}");
        assert!(lines[2].contains("-       -       -"), "{text}");
        assert!(text.contains("node: 1 shared files withheld: `tidegate-server shared list`"), "{text}");
        assert!(card(&rows[0], &shared, 10_000).contains("  shared files  3 in sync, 0 on their way"));
        let document = document(&rows, &shared, 10_000);
        assert_eq!(document["sites"][0]["shared"]["in_sync"], 3);
        assert_eq!(document["sites"][1]["shared"], Value::Null);
        let without = super::document(&rows, &SharedFiles::default(), 10_000);
        assert!(without["sites"][0].get("shared").is_none());
    }
}
