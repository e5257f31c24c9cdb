//! `losses`: what was lost at this end or thrown away by an operator, and what sites that speak relay told of their own
//! losses. Reads beside a running server.

use serde_json::json;

use crate::cli::Failure;
use crate::config::Config;
use crate::ledger::{LossPlace, LossRow};
use crate::report::{self, utc};

/// Prints them, oldest first.
pub(crate) fn print(config: &Config, site: Option<&str>, json: bool) -> Result<(), Failure> {
    let mut losses = LossRow::read_all(&config.incoming.state).map_err(|error| Failure::ledger(&error))?;
    losses.retain(|loss| site.is_none_or(|site| site == loss.site));
    if json {
        report::say_json(&json!({ "losses": losses }));
        return Ok(());
    }
    let row = |loss: &LossRow| {
        [
            loss.id.to_string(),
            loss.site.clone(),
            match loss.place {
                LossPlace::Central => "here".into(),
                LossPlace::Site => "at the site".into(),
            },
            loss.class.clone(),
            loss.reason.clone(),
            loss.packages.to_string(),
            loss.bytes.to_string(),
            utc(loss.first),
            utc(loss.last),
        ]
    };
    let header = ["ID", "SITE", "LOST", "CLASS", "REASON", "PACKAGES", "BYTES", "FIRST", "LAST"];
    report::say(&report::table(header, losses.iter().map(row)));
    Ok(())
}
