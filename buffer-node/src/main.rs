//! Buffer node of Tidegate: takes agents' files inside an isolated network, and keeps them until a sync server that
//! dials in from outside has them.
//!
//! May: listen, write below its storage root, read its configuration and certificates. May not: open a connection to
//! anywhere, or give a data package to somebody who is no puller.

mod archive;
mod cli;
mod committer;
mod config;
mod draft_writer;
mod filters;
mod handover;
mod intake;
mod layout;
mod listen;
mod log;
mod memory;
mod node;
mod report;
mod rights;
mod session;
mod shared;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use tidegate_net::shutdown::Shutdown;
use tidegate_spool::OpenError;
use tracing::{info, warn};

use cli::{Cli, Command, Failure};
use config::Config;
use listen::Door;
use node::{Node, StartError};

/// After SIGTERM, what is in flight may take this long. Beyond it the connections are dropped, unanswered.
const GRACE: Duration = Duration::from_secs(10);

/// Threads for disk work. Beyond it requests wait for each other.
const DISK_THREADS: usize = 64;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(usage)) if !usage.use_stderr() => {
            // `--help` and `--version` are no failures; a closed pipe behind them is none either.
            let _ = usage.print();
            ExitCode::SUCCESS
        }
        Err(failure) => {
            let _ = writeln!(io::stderr(), "tidegate-buffer-node: {failure}");
            failure.exit_code()
        }
    }
}

fn run() -> Result<(), Failure> {
    match Cli::try_parse().map_err(Failure::Usage)?.command {
        Command::Validate { config } => validate(&config),
        Command::Run { config, log_format } => {
            let (config, door) = load(&config)?;
            log::start(log_format);
            serve(&config, door)
        }
    }
}

fn load(file: &Path) -> Result<(Config, Door), Failure> {
    let config = Config::load(file).map_err(|problems| Failure::Configuration(problems.to_string()))?;
    let door = Door::new(&config).map_err(|error| Failure::Configuration(error.to_string()))?;
    Ok((config, door))
}

fn validate(file: &Path) -> Result<(), Failure> {
    let (config, _) = load(file)?;
    let mut words = String::new();
    for warning in config.warnings() {
        words.push_str(&format!("{}: warning: {warning}\n", file.display()));
    }
    words.push_str(&format!("{}: valid\n", file.display()));
    io::stdout().write_all(words.as_bytes()).map_err(|error| Failure::io("cannot write", &error))
}

fn serve(config: &Config, door: Door) -> Result<(), Failure> {
    for warning in config.warnings() {
        warn!("{warning}");
    }
    let (node, recovery, committer) = Node::open(config).map_err(start_failure)?;
    info!(
        packages = recovery.packages,
        bytes = recovery.bytes,
        unfinished = recovery.unfinished,
        directory = %config.directory.display(),
        "spool opened"
    );
    for path in &recovery.corrupt {
        warn!(path = %path.display(), "not a package; set aside, look at it and remove it");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(DISK_THREADS)
        .build()
        .map_err(|error| Failure::io("cannot start the runtime", &error))?;
    let served = runtime.block_on(listen_until_stopped(config, node, door));
    // Nobody waits for an answer any more; what was handed to the committing thread is finished all the same.
    runtime.shutdown_timeout(GRACE);
    if committer.join().is_err() {
        return Err(Failure::Other("the thread that stores packages has crashed; see the log above".into()));
    }
    served
}

async fn listen_until_stopped(config: &Config, node: Node, door: Door) -> Result<(), Failure> {
    let shutdown = Shutdown::new();
    shutdown.on_signals(GRACE).map_err(|error| Failure::io("cannot handle signals", &error))?;
    let listener = listen::bind(&config.listen).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => Failure::Temporary(format!("cannot listen: {error}")),
        _ => Failure::io("cannot listen", &error),
    })?;
    for address in listener.addresses() {
        info!(%address, plain = config.plain, tls = config.tls.is_some(), "listening");
    }
    listen::run(Arc::new(node), door, listener, shutdown).await;
    info!("stopped");
    Ok(())
}

fn start_failure(error: StartError) -> Failure {
    let words = error.to_string();
    let denied = match &error {
        StartError::Spool(OpenError::Locked { .. }) => return Failure::Temporary(words),
        StartError::Spool(OpenError::Disk(error)) => error.source.kind() == io::ErrorKind::PermissionDenied,
        StartError::Shared(error) | StartError::Thread(error) => {
            error.kind() == io::ErrorKind::PermissionDenied
        }
    };
    if denied { Failure::Permission(words) } else { Failure::Other(words) }
}
