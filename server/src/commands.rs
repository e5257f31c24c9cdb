//! What each command does, from the configuration to its end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tidegate_net::shutdown::Shutdown;
use tidegate_net::tls;
use tokio::runtime::Runtime;

use crate::cli::{Failure, QuarantineCommand, SharedCommand};
use crate::config::{Config, Site};
use crate::crash::Crash;
use crate::desk::Desk;
use crate::pipeline::{Pipeline, Trouble};
use crate::shared::{Shared, task};
use crate::{
    descriptors, find, log, losses, once, quarantine, reset, schedule, shared, status, takeover, user, verify,
};

/// How long a stop waits for running batches. Beyond it they are dropped, and repeated after the next start.
const GRACE: Duration = Duration::from_secs(10);

/// `run`.
pub(crate) fn run(file: &Path, format: log::Format) -> Result<(), Failure> {
    log::start(format, "info");
    descriptors::raise();
    let config = load(file)?;
    check_tls(&config.sites)?;
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let runtime = runtime()?;
    let result = runtime.block_on(async {
        let (desk, stop) = open(&config, &site_names(&config))?;
        tracing::info!(
            sites = config.sites.len(),
            incomingdir = %config.incoming.directory.display(),
            "tidegate-server {} pulls",
            env!("CARGO_PKG_VERSION")
        );
        let sharing = desk.shared().map(|shared| {
            let (desk, stop) = (Arc::clone(&desk), stop.clone());
            tokio::spawn(task::run(Arc::clone(shared), config.sites.clone(), desk, stop))
        });
        let ended = schedule::run(config.sites, &desk, &stop).await;
        if let Some(sharing) = sharing
            && let Err(error) = sharing.await
        {
            tracing::error!(%error, "the task of shared files died; please report this");
        }
        tracing::info!("stopped");
        ended.map_err(|trouble| match trouble {
            Trouble::Ledger(error) if error.is_damage() => Failure::ledger(&error),
            trouble => Failure::Temporary(trouble.to_string()),
        })
    });
    // Blocking work that is still under way is safe to leave: that is what the ledger is for.
    runtime.shutdown_background();
    result
}

/// `pull --once`.
pub(crate) fn pull(file: &Path, only: Option<&str>, format: log::Format) -> Result<(), Failure> {
    log::start(format, "warn");
    descriptors::raise();
    let mut config = load(file)?;
    let known = site_names(&config);
    if let Some(name) = only {
        config.sites.retain(|site| site.name == name);
        if config.sites.is_empty() {
            let text = format!("no site is called {name:?}; there are: {}", known.join(", "));
            return Err(Failure::Usage(text));
        }
    }
    check_tls(&config.sites)?;
    let runtime = runtime()?;
    let result = runtime.block_on(async {
        let (desk, stop) = open(&config, &known)?;
        once::pull(config.sites, &desk, &stop).await
    });
    runtime.shutdown_background();
    result
}

/// `status`.
pub(crate) fn status(file: &Path, site: Option<&str>, json: bool) -> Result<(), Failure> {
    status::print(&load(file)?, site, json)
}

/// `ledger reset`.
pub(crate) fn reset(file: &Path, yes: bool) -> Result<(), Failure> {
    log::start(log::Format::default(), "warn");
    let config = load(file)?;
    user::check(&config.incoming.state, rustix::process::geteuid().as_raw())?;
    reset::run(&config.incoming, yes)
}

/// `find`.
pub(crate) fn find(file: &Path, question: &find::Question) -> Result<(), Failure> {
    find::run(&load(file)?, question)
}

/// `verify`.
pub(crate) fn verify(file: &Path, scope: &verify::Scope) -> Result<(), Failure> {
    let config = load(file)?;
    let runtime = runtime()?;
    let result = runtime.block_on(verify::run(config, scope));
    // A name that is still being looked up must not keep the process.
    runtime.shutdown_background();
    result
}

/// `takeover`.
pub(crate) fn takeover(file: &Path, site: String) -> Result<(), Failure> {
    let config = load(file)?;
    user::check(&config.incoming.state, rustix::process::geteuid().as_raw())?;
    let runtime = runtime()?;
    let result = runtime.block_on(takeover::run(config, site));
    runtime.shutdown_background();
    result
}

/// `quarantine …`.
pub(crate) fn quarantine(command: &QuarantineCommand) -> Result<(), Failure> {
    let config = load(command.config())?;
    user::check(&config.incoming.state, rustix::process::geteuid().as_raw())?;
    quarantine::command::run(&config, command)
}

/// `shared …`.
pub(crate) fn shared(command: &SharedCommand) -> Result<(), Failure> {
    let config = load(command.config())?;
    user::check(&config.incoming.state, rustix::process::geteuid().as_raw())?;
    shared::command::run(&config, command)
}

/// `losses`.
pub(crate) fn losses(file: &Path, site: Option<&str>, json: bool) -> Result<(), Failure> {
    losses::print(&load(file)?, site, json)
}

/// `validate`.
pub(crate) fn validate(file: &Path) -> Result<(), Failure> {
    let config = load(file)?;
    check_tls(&config.sites)?;
    if !config.incoming.directory.is_dir() {
        let directory = config.incoming.directory.display();
        return Err(Failure::Setting(format!(
            "incomingdir {directory} is no directory; make it, or correct the path"
        )));
    }
    if config.sites.iter().any(|site| site.sync.shared.on)
        && let Some(missing) = config.shared.folders().iter().find(|folder| !folder.is_dir())
    {
        return Err(Failure::Setting(format!(
            "`sync_shared` is on and {} is no directory; correct `directory` in [shared], or make it as the console does",
            missing.display()
        )));
    }
    for warning in config.warnings() {
        eprintln!("tidegate-server: warning: {warning}");
    }
    Ok(())
}

fn site_names(config: &Config) -> Vec<String> {
    config.sites.iter().map(|site| site.name.clone()).collect()
}

fn load(file: &Path) -> Result<Config, Failure> {
    Config::load(file).map_err(Failure::Configuration)
}

/// Whether every site's certificate files can be used. Says everything that is wrong, each thing once.
fn check_tls(sites: &[Site]) -> Result<(), Failure> {
    let mut wrong: Vec<String> = Vec::new();
    for files in sites.iter().filter_map(|site| site.tls.as_ref()) {
        if let Err(error) = tls::client_config(files) {
            let text = error.to_string();
            if !wrong.contains(&text) {
                wrong.push(text);
            }
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(Failure::Setting(wrong.join("\n"))) }
}

fn runtime() -> Result<Runtime, Failure> {
    Runtime::new().map_err(|error| Failure::Other(format!("cannot start: {error}")))
}

/// Opens the pipeline and listens to signals.
fn open(config: &Config, sites: &[String]) -> Result<(Arc<Desk>, Shutdown), Failure> {
    let state = &config.incoming.state;
    user::check(state, rustix::process::geteuid().as_raw())?;
    let pipeline =
        Pipeline::open(&config.incoming, Crash::from_environment()).map_err(|error| Failure::open(&error))?;
    pipeline.tell_unconfigured(sites).map_err(|trouble| Failure::Temporary(trouble.to_string()))?;
    let stop = Shutdown::new();
    stop.on_signals(GRACE).map_err(|error| Failure::Other(format!("cannot listen to signals: {error}")))?;
    // The packages do without it where it fails, but they wait for it: a directory that hangs holds up the start.
    let shared = Shared::open(config).unwrap_or_else(|error| {
        tracing::error!(%error, "no shared file travels until the next start");
        None
    });
    Ok((Arc::new(Desk::new(pipeline, config.concurrency).with_shared(shared)), stop))
}
