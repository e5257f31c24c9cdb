//! `status`: what the ledger knows about every site, as a table or as JSON. Reads beside a running server.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::SystemTime;

use crate::cli::Failure;
use crate::config::Config;
use crate::ledger::{Ledger, SiteRow, seconds};

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
    let text = if json {
        let document = serde_json::json!({ "sites": rows });
        serde_json::to_string_pretty(&document).expect("numbers and texts are JSON") + "\n"
    } else {
        table(&rows, seconds(SystemTime::now()))
    };
    // A reader that went away (`| head`) is no failure.
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(())
}

fn table(rows: &[SiteRow], now: i64) -> String {
    let header =
        ["SITE", "KIND", "STATE", "CONTACT", "PACKAGES", "BYTES", "OPEN", "HELD BACK", "LAST PACKAGE"];
    let mut lines = vec![header.map(str::to_owned)];
    for row in rows {
        let package = match (&row.last_package, row.last_package_at) {
            (Some(name), Some(at)) => format!("{name} ({})", ago(now - at)),
            _ => "-".into(),
        };
        lines.push([
            row.name.clone(),
            row.kind.clone().unwrap_or_else(|| "-".into()),
            row.state.clone(),
            row.last_contact.map_or_else(|| "never".into(), |at| ago(now - at)),
            row.packages.to_string(),
            row.bytes.to_string(),
            row.open.to_string(),
            row.held_back.to_string(),
            package,
        ]);
    }
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells: Vec<_> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    for row in rows {
        if let (Some(error), Some(at)) = (&row.last_error, row.last_error_at) {
            let _ = writeln!(text, "{}: last error, {}: {error}", row.name, ago(now - at));
        }
    }
    text
}

fn ago(seconds: i64) -> String {
    match seconds {
        ..60 => format!("{} s ago", seconds.max(0)),
        60..7_200 => format!("{} min ago", seconds / 60),
        7_200..172_800 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} d ago", seconds / 86_400),
    }
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
                ..SiteRow::untried("plant-7")
            },
            SiteRow::untried("new-site"),
        ];
        assert_eq!(
            table(&rows, 10_000),
            "SITE      KIND   STATE        CONTACT      PACKAGES  BYTES  OPEN  HELD BACK  LAST PACKAGE\n\
             plant-7   stock  unreachable  100 min ago  12        3400   0     0          web01.1.data (116 min ago)\n\
             new-site  -      new          never        0         0      0     0          -\n\
             plant-7: last error, 10 s ago: cannot connect\n"
        );
    }
}
