//! `verify`: compares the ledger with the staging directory and with what each site lists, and says what does not
//! add up.
//!
//! Constraints: nothing is changed anywhere (the ledger is read, a site is asked for its names and no more), but for one
//! thing: a node that speaks relay and was never pulled so takes the first server that asks, with its epoch, for its own. A
//! server may run at the same time. Since things move while we look, everything is looked at a second time when something was
//! found, and only what is found both times is told.

mod finding;
mod here;
mod there;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::cli::Failure;
use crate::config::{Config, Site};
use crate::report;
use crate::schedule::FLUSH_INTERVAL;
use crate::takeover;
use finding::{Finding, What};
use there::Summary;

/// Between the two looks: longer than the way of a batch from its arrival to the proof of its deletion, and than a
/// running server may leave that unwritten.
const SECOND_LOOK: Duration = FLUSH_INTERVAL.saturating_add(Duration::from_secs(3));

/// Sites asked at the same time: each may hold a long listing in memory.
const SITES_AT_ONCE: usize = 8;

/// Findings of one kind and site that are printed; of more, the number is. JSON has all.
const SHOWN_MAX: usize = 20;

/// What one look showed.
#[derive(Debug, Default)]
struct Look {
    findings: Vec<Finding>,
    sites: Vec<Summary>,
}

/// Which comparison is wanted.
#[derive(Debug)]
pub(crate) struct Scope {
    pub(crate) site: Option<String>,
    pub(crate) json: bool,
    pub(crate) offline: bool,
}

/// Looks, prints, and fails if something does not add up.
pub(crate) async fn run(config: Config, scope: &Scope) -> Result<(), Failure> {
    let config = Arc::new(config);
    if let Some(only) = &scope.site
        && !config.sites.iter().any(|site| site.name == *only)
    {
        let known: Vec<_> = config.sites.iter().map(|site| site.name.as_str()).collect();
        return Err(Failure::Usage(format!("no site is called {only:?}; there are: {}", known.join(", "))));
    }
    let mut look = look(&config, scope).await?;
    if !look.findings.is_empty() {
        tokio::time::sleep(SECOND_LOOK).await;
        let first: HashSet<_> = look.findings.iter().map(Finding::key).collect();
        let mut second = self::look(&config, scope).await?;
        second.findings.retain(|finding| first.contains(&finding.key()));
        look = second;
    }
    look.findings.sort_by_cached_key(Finding::key);
    look.sites.sort_by(|a, b| a.site.cmp(&b.site));
    if scope.json {
        report::say_json(&json!({
            "adds_up": look.findings.is_empty(),
            "findings": look.findings,
            "sites": look.sites,
        }));
    } else {
        report::say(&text(&look));
    }
    verdict(&look.findings)
}

/// Looks once.
async fn look(config: &Arc<Config>, scope: &Scope) -> Result<Look, Failure> {
    let here = {
        let (config, only) = (Arc::clone(config), scope.site.clone());
        blocking(move || here::look(&config, only.as_deref(), SystemTime::now())).await?
    };
    let mut look = Look { findings: here?, sites: Vec::new() };
    let permits = Arc::new(Semaphore::new(SITES_AT_ONCE));
    let mut asked = JoinSet::new();
    for site in &config.sites {
        if scope.site.as_ref().is_none_or(|only| *only == site.name) {
            asked.spawn(one(
                site.clone(),
                config.incoming.state.clone(),
                scope.offline,
                Arc::clone(&permits),
            ));
        }
    }
    while let Some(answer) = asked.join_next().await {
        let (summary, findings) = answer.map_err(|error| Failure::Other(error.to_string()))??;
        look.sites.push(summary);
        look.findings.extend(findings);
    }
    Ok(look)
}

/// Compares with one site.
async fn one(
    site: Site,
    state: impl AsRef<Path> + Send + 'static,
    offline: bool,
    permits: Arc<Semaphore>,
) -> Result<(Summary, Vec<Finding>), Failure> {
    let _permit = permits.acquire().await.expect("the semaphore is never closed");
    let known = {
        let (name, state) = (site.name.clone(), state.as_ref().to_owned());
        blocking(move || there::known(&state, &name)).await??
    };
    if offline {
        return Ok((Summary::unasked(&site.name, &known), Vec::new()));
    }
    let epoch = {
        let (name, state) = (site.name.clone(), state.as_ref().to_owned());
        blocking(move || takeover::epoch(&state, &name)).await?.unwrap_or(1)
    };
    match crate::pull::list(&site, epoch).await {
        Err(fault) => Ok(there::unreachable(&site.name, &known, &fault.to_string())),
        Ok((kind, listing)) => {
            blocking(move || there::compare(state.as_ref(), &site, kind, &listing, &known)).await?
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Failure::Other(error.to_string()))
}

fn text(look: &Look) -> String {
    let mut text = there::table(&look.sites);
    let mut rest = look.findings.as_slice();
    while let Some(first) = rest.first() {
        let alike = |finding: &Finding| finding.what == first.what && finding.site == first.site;
        let count = rest.iter().take_while(|finding| alike(finding)).count();
        let (same, others) = rest.split_at(count);
        same.iter().take(SHOWN_MAX).for_each(|finding| text += &format!("\n{finding}"));
        if let Some(more) = count.checked_sub(SHOWN_MAX).filter(|more| *more > 0) {
            let _ = writeln!(text, "\n{}: {more} more of this kind; --json shows all", first.what);
        }
        rest = others;
    }
    if look.findings.is_empty() {
        text += "\nAll adds up.\n";
    }
    text
}

/// What does not add up weighs more than a site that could not be asked.
fn verdict(findings: &[Finding]) -> Result<(), Failure> {
    let unasked = findings.iter().filter(|finding| finding.what == What::Unreachable).count();
    match (findings.len() - unasked, unasked) {
        (0, 0) => Ok(()),
        (0, sites) => Err(Failure::Unavailable(format!(
            "{sites} sites could not be asked; what could be compared adds up"
        ))),
        (1, _) => Err(Failure::Other("1 thing does not add up".into())),
        (things, _) => Err(Failure::Other(format!("{things} things do not add up"))),
    }
}
