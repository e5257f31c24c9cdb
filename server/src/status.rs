//! `status`: what the ledger knows about every site, as a table or as JSON. Reads beside a running server.

use std::fmt::Write as _;
use std::time::SystemTime;

use crate::cli::Failure;
use crate::config::Config;
use crate::ledger::{Ledger, SiteRow, seconds};
use crate::report::{self, ago};

/// Prints it.
pub(crate) fn print(config: &Config, json: bool) -> Result<(), Failure> {
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
    if json {
        report::say_json(&serde_json::json!({ "sites": rows }));
    } else {
        report::say(&table(&rows, seconds(SystemTime::now())));
    }
    Ok(())
}

fn table(rows: &[SiteRow], now: i64) -> String {
    let header = [
        "SITE",
        "KIND",
        "STATE",
        "CONTACT",
        "PACKAGES",
        "BYTES",
        "OPEN",
        "HELD BACK",
        "QUARANTINE",
        "LOST",
        "LAST PACKAGE",
    ];
    let mut text = report::table(header, rows.iter().map(|row| line(row, now)));
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
    }
    text
}

fn line(row: &SiteRow, now: i64) -> [String; 11] {
    let package = match (&row.last_package, row.last_package_at) {
        (Some(name), Some(at)) => format!("{name} ({})", ago(now - at)),
        _ => "-".into(),
    };
    [
        row.name.clone(),
        row.kind.clone().unwrap_or_else(|| "-".into()),
        row.state.clone(),
        row.last_contact.map_or_else(|| "never".into(), |at| ago(now - at)),
        row.packages.to_string(),
        row.bytes.to_string(),
        row.open.to_string(),
        row.held_back.to_string(),
        row.quarantined.to_string(),
        row.lost.to_string(),
        package,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_what_an_operator_asks_first() {
        let rows = [
            SiteRow {
                kind: Some("stock".into()),
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
        ];
        assert_eq!(
            table(&rows, 10_000),
            "SITE      KIND   STATE        CONTACT      PACKAGES  BYTES  OPEN  HELD BACK  QUARANTINE  LOST  LAST PACKAGE\n\
             plant-7   stock  unreachable  100 min ago  12        3400   0     0          2           5     web01.1.data (116 min ago)\n\
             new-site  -      new          never        0         0      0     0          0           0     -\n\
             plant-7: last error, 10 s ago: cannot connect\n\
             plant-7: 2 in quarantine: `tidegate-server quarantine list` says why; then requeue or purge them\n\
             plant-7: 5 lost: `tidegate-server losses` says what, when and why\n"
        );
    }
}
