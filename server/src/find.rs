//! `find`: where is file X. Answered from the ledger alone, so that no site need be reached.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::time::SystemTime;

use serde_json::{Value, json};
use tidegate_proto::Escaped;

use crate::cli::Failure;
use crate::config::Config;
use crate::ledger::{Found, Ledger, Package, Reader, State, seconds};
use crate::report::{self, ago, utc};

/// What is looked for.
#[derive(Debug)]
pub(crate) struct Question {
    /// A file's name, listed or delivered, or an agent's.
    pub(crate) name: OsString,
    pub(crate) site: Option<String>,
    pub(crate) limit: usize,
    pub(crate) json: bool,
}

/// Answers. It is a failure when there is nothing to show.
pub(crate) fn run(config: &Config, question: &Question) -> Result<(), Failure> {
    let failed = |error| Failure::ledger(&error);
    let name = report::unescape(&question.name);
    let reader = Reader::open(&config.incoming.state).map_err(failed)?;
    let found = match &reader {
        None => Found::default(),
        Some(reader) => reader.find(&name, question.site.as_deref(), question.limit).map_err(failed)?,
    };
    if question.json {
        report::say_json(&json!({
            "packages": found.rows.packages.iter().map(document).collect::<Vec<_>>(),
            "total": found.total,
            "damaged": found.rows.damaged,
        }));
    } else {
        report::say(&text(&found, seconds(SystemTime::now())));
    }
    if found.total > 0 {
        return Ok(());
    }
    let oldest = reader.map_or(Ok(None), |reader| reader.oldest()).map_err(failed)?;
    nothing(config, question, &name, oldest)
}

fn text(found: &Found, now: i64) -> String {
    let mut text = String::new();
    for package in &found.rows.packages {
        if !text.is_empty() {
            text.push('\n');
        }
        text += &card(package, now);
    }
    for what in &found.rows.damaged {
        let _ = writeln!(text, "{what}: the ledger is damaged; see tidegate-server verify");
    }
    let shown = found.rows.packages.len() + found.rows.damaged.len();
    if shown < found.total {
        let _ = writeln!(text, "\nThese are the newest {shown} of {}; --limit shows more.", found.total);
    }
    text
}

/// All that is known of a package, a line each.
pub(crate) fn card(package: &Package, now: i64) -> String {
    let mut text = format!("{}\n", package.name);
    let mut line = |key: &str, value: &str| {
        let _ = writeln!(text, "  {key:<13} {value}");
    };
    let when = |seconds: i64| format!("{} ({})", utc(seconds), ago(now - seconds));
    line("site", &package.site);
    line("sequence", &package.id.to_string());
    if let Some(number) = &package.number {
        line("number there", &number.to_string());
    }
    line("state", &state(package));
    if let Some(reason) = &package.reason {
        line("reason", reason);
    }
    line("arrived", &package.modified.map_or_else(|| "unknown".into(), |at| when(at.div_euclid(1_000))));
    line("pulled", &when(package.received));
    let decided = package.delivered.map_or_else(|| "not yet".into(), when);
    match package.state {
        State::Quarantined => line("in quarantine", &format!("since {decided}")),
        State::Held | State::Committed => line("delivered", "not yet"),
        State::Delivered => line("delivered", &decided),
    }
    let target = if package.state == State::Delivered { "delivered as" } else { "to become" };
    line(target, &Escaped(&package.target).to_string());
    line("size", &format!("{} bytes", package.size));
    line("digest", &package.digest.to_string());
    text
}

/// The state in words.
pub(crate) fn state(package: &Package) -> String {
    let here = match package.state {
        State::Held => "held: it goes to the pipeline when its site is known to have deleted it",
        State::Committed => "on its way to the pipeline",
        State::Delivered => "delivered",
        State::Quarantined => "in quarantine: an operator decides (tidegate-server quarantine)",
    };
    let there = if package.on_site { "still at the site, as far as is known" } else { "gone from the site" };
    format!("{here}; {there}")
}

/// The same for programs. Times are seconds since 1970.
pub(crate) fn document(package: &Package) -> Value {
    json!({
        "name": package.name.to_string(),
        "site": package.site,
        "sequence": package.id,
        "number": package.number.map(|number| number.to_string()),
        "state": match package.state {
            State::Held => "held",
            State::Committed => "committed",
            State::Delivered => "delivered",
            State::Quarantined => "quarantined",
        },
        "on_site": package.on_site,
        "reason": package.reason,
        "arrived_ms": package.modified,
        "pulled": package.received,
        "delivered": package.delivered.filter(|_| package.state == State::Delivered),
        "quarantined": package.delivered.filter(|_| package.state == State::Quarantined),
        "target": Escaped(&package.target).to_string(),
        "bytes": package.size,
        "sha256": package.digest.to_string(),
    })
}

/// Nothing was found: what that means, and where to look next.
fn nothing(config: &Config, question: &Question, name: &[u8], oldest: Option<i64>) -> Result<(), Failure> {
    let now = seconds(SystemTime::now());
    let mut text = format!("the ledger knows no file and no agent {}", Escaped(name));
    let of_site = |site: &str| question.site.as_deref().is_none_or(|only| only == site);
    if let Some(site) = &question.site {
        let _ = write!(text, " of the site {site:?}");
    }
    text += ".\nIt was never pulled, or it was delivered and is forgotten: ";
    let history = config.incoming.history;
    let _ = write!(
        text,
        "kept are the last {} packages, at most {} (history_max, history_keep)",
        history.max,
        report::lasting(history.keep.as_secs())
    );
    match oldest {
        Some(at) => {
            let _ = writeln!(text, "; the oldest was pulled {}, {}.", utc(at), ago(now - at));
        }
        None => text += "; nothing is known now.\n",
    }
    let known = Ledger::read_sites(&config.incoming.state).map_err(|error| Failure::ledger(&error))?;
    for site in config.sites.iter().filter(|site| of_site(&site.name)) {
        let row = known.iter().find(|row| row.name == site.name);
        let last = match row.and_then(|row| row.last_contact) {
            Some(at) => format!("last listed {}", ago(now - at)),
            None => "never reached".into(),
        };
        let _ = writeln!(text, "  {}: {last}, {}", site.name, row.map_or("new", |row| &row.state));
    }
    if let Some(only) = &question.site
        && !config.sites.iter().any(|site| site.name == *only)
    {
        let _ = writeln!(text, "  {only}: no site of the configuration is called that");
    }
    text += "Look next: `tidegate-server verify` asks the sites what they hold and do not give; `tidegate-server losses` \
             and, at the site, `tidegate-buffer-node losses` and `dead-letter list` show what never got this far.";
    Err(Failure::Other(text))
}
