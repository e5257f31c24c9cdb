//! The life of the process: takes its ports, opens its storage, serves until it is stopped, and says why it ended.
//!
//! The ports come first: a taken one is noticed at once, and while the spool is opened, which may take long after a
//! crash, agents wait in the backlog instead of being refused.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tidegate_net::accept::Listener;
use tidegate_net::shutdown::Shutdown;
use tidegate_spool::OpenError;
use tokio::runtime::Runtime;
use tracing::{info, warn};

use crate::cli::Failure;
use crate::config::Config;
use crate::descriptors;
use crate::fatal::Fatal;
use crate::keeper::Keeper;
use crate::listen::{self, Door};
use crate::node::{Node, StartError};

/// After SIGTERM, what is in flight may take this long. Beyond it the connections are dropped, unanswered.
const GRACE: Duration = Duration::from_secs(10);

/// Threads for disk work. Beyond it requests wait for each other.
const DISK_THREADS: usize = 64;

/// Runs until the operator stops it, or until something declares that it cannot go on.
pub(crate) fn run(config: &Config, door: Door, fatal: &Fatal) -> Result<(), Failure> {
    for warning in config.warnings() {
        warn!("{warning}");
    }
    descriptors::raise(config.listen.limits.total);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(DISK_THREADS)
        .build()
        .map_err(|error| Failure::io("cannot start the runtime", &error))?;
    let listener = take_ports(&runtime, config)?;
    info!(directory = %config.directory.display(), "opening the spool");
    let (node, recovery, committer) = Node::open(config, fatal.clone()).map_err(start_failure)?;
    info!(
        packages = recovery.packages,
        bytes = recovery.bytes,
        unfinished = recovery.unfinished,
        deleted_again = recovery.deleted_again,
        directory = %config.directory.display(),
        "spool opened"
    );
    for path in &recovery.corrupt {
        warn!(
            path = %path.display(),
            "set aside: not a package, or a second one of its name; next: tidegate-buffer-node dead-letter list"
        );
    }
    let keeper = Keeper::start(node.spool.clone(), node.committer.teller(), fatal.clone())
        .map_err(|error| Failure::io("cannot start the thread that keeps loss records", &error))?;
    let served = runtime.block_on(serve(config, node, door, listener, fatal.clone()));
    // Nobody waits for an answer any more; what was handed to the committing thread is finished all the same.
    runtime.shutdown_timeout(GRACE);
    if committer.join().is_err() {
        fatal.declare("the committing thread crashed at the end");
    }
    drop(keeper);
    served?;
    match fatal.reason() {
        Some(reason) => Err(Failure::Other(reason.to_string())),
        None => Ok(()),
    }
}

fn take_ports(runtime: &Runtime, config: &Config) -> Result<Listener, Failure> {
    let _inside = runtime.enter();
    listen::bind(&config.listen).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => Failure::Temporary(format!("cannot listen: {error}")),
        _ => Failure::io("cannot listen", &error),
    })
}

async fn serve(
    config: &Config,
    node: Node,
    door: Door,
    listener: Listener,
    fatal: Fatal,
) -> Result<(), Failure> {
    let shutdown = Shutdown::new();
    shutdown.on_signals(GRACE).map_err(|error| Failure::io("cannot handle signals", &error))?;
    let stopping = shutdown.clone();
    tokio::spawn(async move {
        fatal.declared().await;
        stopping.begin();
    });
    for address in listener.addresses() {
        info!(%address, plain = config.plain, tls = config.tls.is_some(), "listening");
    }
    listen::run(Arc::new(node), door, listener, shutdown).await;
    info!("stopped");
    Ok(())
}

fn start_failure(error: StartError) -> Failure {
    let mut words = error.to_string();
    let denied = match &error {
        StartError::Spool(OpenError::Locked { .. }) => return Failure::Temporary(words),
        StartError::Spool(OpenError::Disk(error)) => error.source.kind() == io::ErrorKind::PermissionDenied,
        StartError::Shared(error) | StartError::Thread(error) => {
            error.kind() == io::ErrorKind::PermissionDenied
        }
    };
    if denied && let StartError::Spool(OpenError::Disk(error)) = &error {
        words.push_str(&format!(
            "; find out who put it there, and `chown` {} to the user that the node runs as",
            error.path.display()
        ));
    }
    if denied { Failure::Permission(words) } else { Failure::Other(words) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_cannot_go_on_ends_with_the_reason() {
        let root = tempfile::tempdir().expect("a directory");
        let file = root.path().join("node.toml");
        let text = format!("addresses = \"127.0.0.1\"\nport = 0\ndirectory = {:?}\n", root.path().join("d"));
        std::fs::write(&file, text).expect("writes");
        let config = Config::load(&file).unwrap_or_else(|problems| panic!("{problems}"));
        let door = Door::new(&config).expect("no certificates");
        let fatal = Fatal::default();
        fatal.declare("the disk is gone");
        let failure = run(&config, door, &fatal).expect_err("no success, or this test hangs");
        assert!(matches!(&failure, Failure::Other(words) if words == "the disk is gone"), "{failure}");
    }
}
